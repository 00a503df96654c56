import { useEffect, useState } from "preact/hooks";
import { aws, type Json } from "./api";
import { cureAction, servicePath, stopTask, taskPath } from "./actions";
import { clock, day, hide, image, mib, short, span } from "./fmt";
import { now, useTopic } from "./live";
import { LogView } from "./logs";
import { Metrics } from "./service";
import type { ServiceRow, TaskDoc } from "./rows";
import { Code, Copy, Empty, FindingLine, Head, Link, Problem, Section, Tabs, TaskStatus } from "./ui";

export function Task({ cluster, id, tab }: { cluster: string; id: string; tab: string }) {
  const { list, ready, error } = useTopic<TaskDoc>({ topic: "task", cluster, id });
  const { rows: services } = useTopic<ServiceRow>({ topic: "services", cluster });
  const t = list[0];
  if (error) return <Problem error={error} />;
  if (ready && !t) return <Empty cmd={`aws ecs list-tasks --cluster ${cluster} --desired-status STOPPED`}>There is no task {short(id)}. Ended tasks are kept for three days.</Empty>;
  if (!t) return null;
  const s = t.service ? services.get(`${cluster}/${t.service}`) : undefined;
  const groups = [...new Set(t.containers.map((c) => c.group).filter(Boolean))] as string[];
  return <>
    <Head title={<span class="mono">{short(t.k)}</span>} status={<TaskStatus status={t.status} level={t.level} health={t.health} />} sub={<>{t.service && <><Link to={servicePath(cluster, t.service)}>{t.service}</Link> </>}<Link to={`/taskdefs/${t.family}/${t.rev}`}>{t.family}:{t.rev}</Link> {t.host && <>on <Link to={`/nodes/${t.node}`}>{t.host}</Link></>} <span class="mono">{t.ip}</span></>}>
      <Copy label="Copy ARN" text={t.arn} />{t.status !== "STOPPED" && <button class="danger" onClick={() => stopTask(t)}>Stop task</button>}
    </Head>
    <FindingLine f={t.finding} onCure={(c) => cureAction(c, { service: s, def: `${t.family}:${t.rev}`, container: t.finding.container, task: t, cluster })} />
    <Ladder t={t} />
    <Tabs base={taskPath(cluster, id)} at={tab} tabs={[["", "Containers"], ["logs", "Logs"], ["metrics", "Metrics"], ["exec", "Exec"], ["config", "Config"], ["json", "JSON"]]} />
    {tab === "" && <><Section title="Containers"><div class="scroll" tabIndex={0} role="region" aria-label="Table of containers"><table><thead><tr><th>Name</th><th>State</th><th>Image</th><th>Exit</th><th>Ports</th><th>Memory</th><th>Ran</th></tr></thead><tbody>{t.containers.map((c) => <tr key={c.name}><td>{c.name}{!c.essential && <span class="dim"> not essential</span>}</td><td><TaskStatus status={c.status} health={c.health} level={c.exit ? "bad" : "fine"} />{c.reason && <div>{c.reason}</div>}</td><td class="mono">{image(c.image)}<div class="dim">{c.digest?.slice(0, 19)}</div></td><td>{c.exit ?? ""}</td><td>{c.ports?.join(", ")}</td><td>{c.mem ? mib(c.mem) : ""}</td><td>{c.started ? span((c.finished || now.value) - c.started) : ""}</td></tr>)}</tbody></table></div></Section>
      {t.targets && <Section title="Targets">{t.targets.map((x) => <p key={x.group + x.port}>{x.group}: {x.id}:{x.port} {x.state} {x.finding?.cause}</p>)}</Section>}
      {groups.length > 0 && <LogView groups={groups} stream={t.k} small />}</>}
    {tab === "logs" && (groups.length ? <LogView groups={groups} stream={t.k} /> : <Empty cmd={`berth logs ${short(t.k)}`}>Its containers write to no log group.</Empty>)}
    {tab === "metrics" && <Metrics want={{ cluster, id: t.k }} />}
    {tab === "exec" && <Section title="Exec"><p>{t.exec ? "A shell in a container of this task:" : "ECS Exec is off for this task: start it with enableExecuteCommand."}</p>{t.containers.map((c) => <Code key={c.name} text={`aws ecs execute-command --cluster ${cluster} --task ${t.k} --container ${c.name} --interactive --command /bin/sh`} />)}</Section>}
    {tab === "config" && <Section title="As it was asked for"><dl class="kv">{([["Task definition", `${t.family}:${t.rev}`], ["Launch type", t.launchType], ["Network mode", t.mode], ["CPU", `${t.cpu} units`], ["Memory", mib(t.mem)], ["Started by", t.startedBy], ["Deployment", t.deployment], ["Created", day(t.created)]] as [string, string | undefined][]).filter(([, v]) => v).map(([k, v]) => <><dt>{k}</dt><dd>{v}</dd></>)}</dl></Section>}
    {tab === "json" && <Described cluster={cluster} id={t.k} version={t.status + t.exit} />}
  </>;
}

function Described({ cluster, id, version }: { cluster: string; id: string; version: string }) {
  const [v, set] = useState<Json>(null);
  useEffect(() => { void aws("ecs", "DescribeTasks", { cluster, tasks: [id], include: ["TAGS"] }).then((o) => set(o.tasks[0])).catch(() => {}); }, [id, version]);
  return <Section title="As the API tells it"><Code text={`aws ecs describe-tasks --cluster ${cluster} --tasks ${id}`} />{v && <Code text={JSON.stringify(hide(v), null, 2)} label="Task as JSON" />}</Section>;
}

/** What took how long, from the asking to the end. */
function Ladder({ t }: { t: TaskDoc }) {
  const first = Math.min(...t.containers.map((c) => c.started || Infinity));
  const up: [string, number][] = [["asked", t.created], [`placed${t.host ? ` on ${t.host}` : ""}`, t.placed ?? 0], ["pulling", t.pullStarted ?? 0], ["pulled", t.pullStopped ?? 0], ["started", Number.isFinite(first) ? first : 0], ["running", t.started ?? 0]];
  const downs: [string, number][] = [["asked to stop", t.stopAsked ?? 0], ["stopping", t.stopping ?? 0], ["ended", t.execStopped ?? 0], ["stopped", t.stopped ?? 0]];
  const steps = [...up, ...downs].filter(([, at], i) => at > 0 || (t.status !== "STOPPED" && i < up.length));
  const known = steps.filter(([, at]) => at > 0).sort((a, b) => a[1] - b[1]);
  const waits = known.slice(1).map(([name, at], i) => ({ name, ms: at - known[i][1], life: known[i][0] === "running" }));
  const slow = Math.max(0, ...waits.filter((w) => !w.life).map((w) => w.ms));
  const pending = t.status === "STOPPED" ? [] : steps.filter(([, at]) => at === 0);
  return <ol class="ladder" aria-label="What took how long">{known.map(([name, at], i) => <li key={name}>{i > 0 && <span class={"wait" + (!waits[i - 1].life && waits[i - 1].ms === slow && slow > 50 ? " slow" : "")}>{span(waits[i - 1].ms)} →</span>}<span class="stop" title={day(at)}>{name}{i === 0 ? ` ${clock(at)}` : ""}</span></li>)}
    {pending.map(([name], i) => <li key={name}><span class="wait">{i === 0 ? `${span(now.value - known[known.length - 1][1])} …` : "→"}</span><span class="stop todo">{name}</span></li>)}
    {t.status === "RUNNING" && t.started ? <li><span class="wait">for {span(now.value - t.started)}</span></li> : null}</ol>;
}

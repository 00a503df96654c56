import { useEffect, useState } from "preact/hooks";
import { aws, type Json } from "./api";
import { cureAction, deployRevision, describe, force, remove, scale, servicePath, stopDeployment } from "./actions";
import { Diff } from "./diff";
import { ago, clock, hide, image, span } from "./fmt";
import { now, useSeries, useTopic } from "./live";
import { Events, Tasks } from "./lists";
import { LogView } from "./logs";
import { PathView } from "./balancers";
import { param, setParam } from "./router";
import type { DeploymentRow, FamilyRow, ServiceDoc } from "./rows";
import { Chart, Code, Copy, Empty, FindingLine, Head, Link, Problem, Section, Status, Tabs, type Level } from "./ui";

const tabs: [string, string][] = [["", "Overview"], ["deployments", "Deployments"], ["tasks", "Tasks"], ["logs", "Logs"], ["metrics", "Metrics"], ["path", "Path"], ["events", "Events"], ["config", "Config"]];

export function Service({ cluster, name, tab }: { cluster: string; name: string; tab: string }) {
  const { list, ready, error } = useTopic<ServiceDoc>({ topic: "service", cluster, service: name });
  const { rows: families } = useTopic<FamilyRow>({ topic: "taskdefs" });
  const s = list[0];
  if (error) return <Problem error={error} />;
  if (ready && !s) return <Empty cmd={`aws ecs list-services --cluster ${cluster}`}>There is no service {name} in {cluster}.</Empty>;
  if (!s) return null;
  const base = servicePath(cluster, name), primary = s.deployments.find((d) => d.status === "PRIMARY");
  const before = s.deployments.find((d) => d !== primary && d.taskdef !== primary?.taskdef && (d.rollout === "COMPLETED" || d.status === "INACTIVE"));
  const rolling = primary?.rollout === "IN_PROGRESS";
  const revisions = () => (families.get(s.family)?.active ?? [s.rev]).map((r) => `${s.family}:${r}`);
  return <>
    <Head title={name} status={<><Status level={s.level as Level}>{s.running}/{s.desired}</Status><Link to={`/taskdefs/${s.family}/${s.rev}`}>{s.family}:{s.rev}</Link></>}
      sub={<>{s.urls?.map((u) => <a key={u} href={u} target="_blank" rel="noreferrer">{u} </a>)}<span class="mono">{image(s.image)}</span></>}>
      <span class="inline" role="group" aria-label="Scale"><button aria-label="One task less" onClick={() => scale(s, s.desired - 1)}>−</button><button onClick={() => scale(s, s.desired)}>Scale {s.desired}</button><button aria-label="One task more" onClick={() => scale(s, s.desired + 1)}>+</button></span>
      <button class="primary" onClick={() => deployRevision(s, revisions())}>Deploy</button>
      {rolling && primary?.arn ? <button onClick={() => stopDeployment(primary.arn!, true)}>Roll back</button> : before && <button onClick={() => deployRevision(s, [before.taskdef], `Roll back to r${before.taskdef.split(":")[1]}`)}>Roll back to r{before.taskdef.split(":")[1]}</button>}
      <button onClick={() => force(s)}>Force</button>
    </Head>
    {s.findings?.map((f) => <FindingLine key={f.name + f.cause} f={f} since={f.since && ago(Date.parse(f.since))} onCure={(c) => cureAction(c, { service: s, def: `${s.family}:${s.rev}`, container: f.container, cluster })} />)}
    <Tabs base={base} at={tab} tabs={tabs} />
    {tab === "" && <><div class="two"><Section title="Deployments"><Timeline s={s} list={s.deployments.slice(0, 4)} /></Section><Section title="Latest events"><Events rows={s.events.slice(0, 8)} limit={8} /></Section></div>
      <Section title="Tasks"><Tasks want={{ topic: "tasks", cluster, service: name }} limit={8} /></Section></>}
    {tab === "deployments" && <Section title="Deployments"><Timeline s={s} list={s.deployments} /></Section>}
    {tab === "tasks" && <Section title="Tasks"><Tasks want={{ topic: "tasks", cluster, service: name }} /></Section>}
    {tab === "logs" && (s.logs?.length ? <LogView groups={s.logs} marks={s.deployments.map((d) => ({ t: d.created, text: `deployment of ${d.taskdef} started` }))} /> : <Empty>This service's containers write to no log group. Set logConfiguration to awslogs in the <Link to={`/taskdefs/new?from=${s.family}:${s.rev}&service=${cluster}/${name}`}>task definition</Link>.</Empty>)}
    {tab === "metrics" && <Metrics want={{ cluster, service: name }} s={s} />}
    {tab === "path" && <PathView groups={s.groups ?? []} />}
    {tab === "events" && <Section title="Events"><Events rows={s.events} /></Section>}
    {tab === "config" && <Config s={s} revisions={revisions()} />}
  </>;
}

function Timeline({ s, list }: { s: ServiceDoc; list: DeploymentRow[] }) {
  return <ol class="timeline">{list.map((d, i) => {
    const live = d.rollout === "IN_PROGRESS" && d.status === "PRIMARY", failed = d.status !== "INACTIVE" &&  d.state === "STOPPED" || d.rollout === "FAILED" || d.state.startsWith("ROLLBACK");
    const level: Level = live ? "going" : failed ? "bad" : d.status === "INACTIVE" ? "off" : "fine";
    const older = list.slice(i + 1).find((x) => x.taskdef && x.taskdef !== d.taskdef);
    const events = s.events.filter((e) => e.at >= d.created && !(list[i - 1] && e.at >= list[i - 1].created)).slice(0, 6);
    return <li key={d.id} class={live ? "now" : ""}><h3><Status level={level}>{d.taskdef}</Status><span class="dim">{ago(d.created)} ago{d.rollback ? ", brings an earlier revision back" : ""}</span>
      {live && <span>{d.running} of {s.desired} run{d.pending ? `, ${d.pending} start` : ""}</span>}{d.failed > 0 && <span class="status warn">{d.failed} failed</span>}
      {live && d.arn && !d.stopping && <button class="small" onClick={() => stopDeployment(d.arn!, false)}>Stop</button>}{d.stopping && <span class="dim">asked to stop</span>}
      {older && <Link to={`/taskdefs/${s.family}/diff?a=${older.taskdef.split(":")[1]}&b=${d.taskdef.split(":")[1]}`}>Diff</Link>}</h3>
      <div class="dim">{!live && d.finished > 0 && d.rollout === "COMPLETED" ? `Steady after ${span(d.finished - (d.started || d.created))}.` : d.findings?.[0]?.cause ?? d.reason}</div>
      {events.map((e) => <div key={e.k}><span class="dim">{clock(e.at)}</span> {e.text.replace(/^\(service [^)]+\) /, "").replace(/\(task ([0-9a-f]{12})[0-9a-f]*\)/g, "$1")}</div>)}</li>;
  })}</ol>;
}

const ranges: [string, number][] = [["30 min", 30], ["3 h", 180], ["24 h", 1440], ["7 d", 10080]];
export function Metrics({ want, s }: { want: { cluster?: string; service?: string; id?: string }; s?: ServiceDoc }) {
  const minutes = Number(param("range")) || 30;
  const [from] = useState(() => Date.now());
  const start = from - minutes * 60000;
  const { series, error } = useSeries({ topic: "metrics", ...want, from: start });
  if (error) return <Problem error={error} />;
  const get = (n: string) => (series ?? []).filter((p) => p.name === n);
  const at = now.value / 1000, since = at - minutes * 60;
  const marks = (s?.deployments ?? []).map((d) => ({ t: d.created / 1000, text: `deployment of ${d.taskdef}` }));
  const charts: [string, string, string[]][] = want.id ? [["CPU", "CPU units", ["cpu"]], ["Memory", "MiB", ["memory"]], ["Network", "B/s", ["rx", "tx"]]] : [["CPU", "% of reserved", ["cpu"]], ["Memory", "% of reserved", ["memory"]], ["Requests", "/s", ["requests"]], ["5xx", "/s", ["errors"]], ["Latency", "ms", ["p50", "p95", "p99"]]];
  return <Section title="Metrics" side={<span class="inline">{ranges.map(([l, m]) => <button key={m} class="small" aria-pressed={m === minutes} onClick={() => setParam("range", String(m))}>{l}</button>)}</span>}>
    {series && <div class="charts">{charts.map(([title, unit, names]) => <Chart key={title} title={title} unit={unit} from={since} to={at} marks={marks} curves={names.flatMap((n) => get(n).map((p) => ({ label: n, t: p.t, v: p.v, kind: n === "errors" ? "bad" : "" })))} />)}</div>}
    {series && !series.some((p) => p.v.length) && <Empty>Nothing was measured yet. The first figures come within a minute of a task's start.</Empty>}</Section>;
}

function Config({ s, revisions }: { s: ServiceDoc; revisions: string[] }) {
  const [svc, setSvc] = useState<Json>(null), [defs, setDefs] = useState<Json[]>([]);
  const a = param("a") || revisions[1] || revisions[0], b = param("b") || revisions[0];
  useEffect(() => { void aws("ecs", "DescribeServices", { cluster: s.cluster, services: [s.name], include: ["TAGS"] }).then((o) => setSvc(o.services[0])).catch(() => {}); }, [s.rev, s.desired]);
  useEffect(() => { let on = true; void Promise.all([describe(a), describe(b)]).then((d) => on && setDefs(d)).catch(() => {}); return () => { on = false; }; }, [a, b]);
  const pick = (name: string, v: string, label: string) => <label class="inline"><span class="dim">{label}</span><select value={v} onChange={(e) => setParam(name, e.currentTarget.value)}>{revisions.map((r) => <option key={r}>{r}</option>)}</select></label>;
  if (svc) for (const k of ["events", "deployments"]) delete svc[k];
  return <><Section title="Revisions compared" side={<span class="inline">{pick("a", a, "from")}{pick("b", b, "to")}<Link to={`/taskdefs/new?from=${s.family}:${s.rev}&service=${s.cluster}/${s.name}`}>Edit</Link></span>}>{defs.length === 2 && <Diff a={defs[0]} b={defs[1]} la={a} lb={b} />}</Section>
    <Section title="Service" side={<><Copy label="Copy ARN" text={s.arn} /><button class="danger" onClick={() => remove(s)}>Delete</button></>}>{svc && <Code text={JSON.stringify(hide(svc), null, 2)} label="Service as JSON" />}</Section>
    <Section title={`Task definition ${b}`}>{defs[1] && <Code text={JSON.stringify(hide(defs[1]), null, 2)} label="Task definition as JSON" />}</Section></>;
}

// The lists that several pages have.
import { ago, image, short } from "./fmt";
import { useTopic, type Want } from "./live";
import type { EventRow, Finding, ServiceRow, TaskRow } from "./rows";
import { servicePath, taskPath } from "./actions";
import { Empty, Link, Problem, Spark, Status, Table, TaskStatus, type Col, type Level } from "./ui";
import { param, setParam } from "./router";

export interface Traffic { req: number[]; errors: number; p95: number }
export const bad = (f?: Finding[]) => (f ?? []).filter((x) => x.level === "bad" || x.level === "warn");
const order: Record<string, number> = { bad: 0, warn: 1, going: 2, fine: 3 };

export function Services({ rows, traffic, limit, cluster }: { rows: ServiceRow[]; traffic?: Map<string, Traffic>; limit?: number; cluster?: boolean }) {
  const cols: Col<ServiceRow>[] = [
    { key: "level", head: "State", width: "90px", minor: true, sort: (r) => order[r.level] * 1e6 + r.created / 1e7, cell: (r) => <Status level={r.level as Level}>{r.status !== "ACTIVE" ? r.status.toLowerCase() : { fine: "steady", going: "moving", warn: "look", bad: "broken" }[r.level]}</Status> },
    { key: "name", head: "Service", width: "minmax(110px,1.4fr)", sort: (r) => r.name, cell: (r) => <Link to={servicePath(r.cluster, r.name)}>{r.name}</Link> },
    ...(cluster ? [{ key: "cluster", head: "Cluster", width: "minmax(60px,.6fr)", sort: (r: ServiceRow) => r.cluster, minor: true, cell: (r: ServiceRow) => <Link to={`/clusters/${r.cluster}`}>{r.cluster}</Link> }] : []),
    { key: "run", head: "Running", width: "70px", num: true, sort: (r) => r.running - r.desired, cell: (r) => `${r.running}/${r.desired}` },
    ...(limit ? [] : [{ key: "rev", head: "Revision", minor: true, sort: (r: ServiceRow) => r.family, cell: (r: ServiceRow) => <Link to={`/taskdefs/${r.family}/${r.rev}`}>{r.family}:{r.rev}</Link> }]),
    ...(traffic ? [
      { key: "req", head: "req/s", width: "60px", num: true, minor: true, sort: (r: ServiceRow) => -(traffic.get(r.k)?.req.at(-1) ?? 0), cell: (r: ServiceRow) => traffic.has(r.k) ? (traffic.get(r.k)!.req.at(-1) ?? 0).toFixed(1) : "–" },
      { key: "5xx", head: "5xx/s", width: "60px", num: true, minor: true, cell: (r: ServiceRow) => traffic.get(r.k)?.errors ? traffic.get(r.k)!.errors.toFixed(2) : "0" },
      { key: "p95", head: "p95", width: "60px", num: true, minor: true, cell: (r: ServiceRow) => traffic.get(r.k)?.p95 ? `${traffic.get(r.k)!.p95.toFixed(0)} ms` : "–" },
      { key: "spark", head: "30 min", width: "96px", minor: true, cell: (r: ServiceRow) => <Spark v={traffic.get(r.k)?.req ?? []} label={`Requests to ${r.name} in 30 minutes`} /> }] : []),
    ...(limit ? [] : [{ key: "why", head: "Why", width: traffic ? "minmax(0,1fr)" : "minmax(0,2fr)", minor: !!traffic, cell: (r: ServiceRow) => r.findings?.[0]?.cause ?? "" }]),
  ];
  return <Table label="Services" rows={rows} cols={cols} limit={limit} initial="level" to={(r) => servicePath(r.cluster, r.name)} text={limit ? undefined : (r) => `${r.cluster}/${r.name} ${r.image} ${r.family}:${r.rev}`}
    empty={<Empty cmd="aws ecs create-service --service-name web --task-definition web --desired-count 2">No service runs here yet. <Link to="/deploy">Deploy one</Link>, or by the command line:</Empty>} />;
}

export function Tasks({ want, limit, where }: { want: Want; limit?: number; where?: boolean }) {
  const { list, ready, error } = useTopic<TaskRow>(want);
  const show = param("show");
  if (error) return <Problem error={error} />;
  if (!ready) return null;
  const live = list.filter((t) => t.status !== "STOPPED"), ended = list.length - live.length;
  const rows = show === "ended" ? list.filter((t) => t.status === "STOPPED") : show === "all" ? list : live;
  const cols: Col<TaskRow>[] = [
    { key: "task", head: "Task", width: "118px", sort: (r) => r.k, cell: (r) => <Link to={taskPath(r.cluster, r.k)} class="mono">{short(r.k)}</Link> },
    { key: "status", head: "State", width: "140px", sort: (r) => order[r.level] + r.status, cell: (r) => <TaskStatus status={r.status} level={r.level} health={r.health} /> },
    ...(where ? [{ key: "service", head: "Service", sort: (r: TaskRow) => r.service ?? "", minor: true, cell: (r: TaskRow) => r.service ? <Link to={servicePath(r.cluster, r.service)}>{r.service}</Link> : <span class="dim">none</span> }] : []),
    { key: "rev", head: "Revision", minor: true, sort: (r) => r.family + r.rev, cell: (r) => `${r.family}:${r.rev}` },
    { key: "node", head: "Node", minor: true, sort: (r) => r.host ?? "", cell: (r) => r.node ? <Link to={`/nodes/${r.node}`}>{r.host || short(r.node)}</Link> : <span class="dim">none</span> },
    { key: "ip", head: "Address", width: "140px", minor: true, cell: (r) => <span class="mono">{r.ip ?? ""}</span> },
    { key: "age", head: "Age", width: "60px", num: true, sort: (r) => -r.created, cell: (r) => ago(r.created) },
    { key: "why", head: "Why", width: "minmax(0,2fr)", cell: (r) => <span title={r.why}>{r.why ?? ""}</span> },
  ];
  return <Table label="Tasks" rows={rows} cols={cols} limit={limit} initial={show === "ended" ? "age" : "status"} to={(r) => taskPath(r.cluster, r.k)} text={(r) => `${r.k} ${r.service ?? ""} ${r.family}:${r.rev} ${r.image ?? ""} ${r.ip ?? ""} ${r.host ?? ""} ${r.status} ${r.why ?? ""}`}
    tools={<span class="inline">{[["", `Running ${live.length}`], ["ended", `Ended ${ended}`], ["all", "All"]].map(([k, l]) => <button key={k} class="small" aria-pressed={show === k} onClick={() => setParam("show", k)}>{l}</button>)}</span>}
    empty={<Empty cmd={`aws ecs run-task --cluster ${want.cluster ?? "default"} --task-definition web`}>No task {show === "ended" ? "ended in the last days" : "runs"} here.{ended > 0 && !show && ` ${ended} ended.`}</Empty>} />;
}

export function Events({ rows, where, limit }: { rows: EventRow[]; where?: boolean; limit?: number }) {
  const cols: Col<EventRow>[] = [
    { key: "at", head: "When", width: "80px", sort: (r) => -r.at, cell: (r) => <span title={new Date(r.at).toISOString()}>{ago(r.at)}</span> },
    ...(where ? [{ key: "service", head: "Service", width: "minmax(90px,.5fr)", sort: (r: EventRow) => r.service, cell: (r: EventRow) => <Link to={servicePath(r.cluster, r.service)}>{r.service}</Link> }] : []),
    ...(limit ? [] : [{ key: "level", head: "Kind", width: "80px", minor: true, sort: (r: EventRow) => order[r.level], cell: (r: EventRow) => <Status level={r.level === "fine" ? "off" : r.level as Level}>{r.level === "fine" ? "told" : "trouble"}</Status> }]),
    { key: "text", head: "What", width: "minmax(0,3fr)", cell: (r) => <span title={r.text}>{r.text.replace(/^\(service [^)]+\) /, "")}</span> },
    ...(limit ? [] : [{ key: "why", head: "Why", width: "minmax(0,2fr)", minor: true, cell: (r: EventRow) => <span title={r.why}>{r.why ?? ""}</span> }]),
  ];
  return <Table label="Events" rows={rows} cols={cols} limit={limit} initial="at" text={limit ? undefined : (r) => r.service + " " + r.text} empty={<Empty>Nothing has happened yet. Events of services appear here as they come.</Empty>} />;
}
export { image };

import { useState } from "preact/hooks";
import { drain, taskPath } from "./actions";
import { day, mib, plural } from "./fmt";
import { useTopic } from "./live";
import { Tasks } from "./lists";
import { param, setParam } from "./router";
import type { NodeRow, ServiceRow } from "./rows";
import { href } from "./router";
import { Bar, Code, Empty, FindingLine, Head, Link, Problem, Section, Status, Table, type Level } from "./ui";

const level = (n: NodeRow): Level => n.status === "LOST" ? "bad" : n.status === "ACTIVE" ? "fine" : "warn";
const hue = (s: string) => { let h = 0; for (const c of s) h = (h * 31 + c.charCodeAt(0)) >>> 0; return h % 6; };

export function Nodes() {
  const { list, ready, error } = useTopic<NodeRow>({ topic: "nodes" });
  const { list: services } = useTopic<ServiceRow>({ topic: "services" });
  const by = param("by") || "mem", view = param("view");
  if (error) return <Problem error={error} />;
  const short = services.filter((s) => s.running + s.pending < s.desired && s.mem > 0);
  return <><Head title="Nodes" sub={`${plural(list.length, "machine")}, ${mib(list.reduce((n, x) => n + x.mem - x.usedMem, 0))} free`}>
    <span class="inline">{[["mem", "Memory"], ["cpu", "CPU"]].map(([k, l]) => <button key={k} class="small" aria-pressed={by === k} onClick={() => setParam("by", k)}>{l}</button>)}{[["", "Map"], ["table", "Table"]].map(([k, l]) => <button key={l} class="small" aria-pressed={view === k} onClick={() => setParam("view", k)}>{l}</button>)}</span></Head>
    {list.flatMap((n) => (n.findings ?? []).map((f) => <FindingLine key={n.k + f.name} f={f} />))}
    {short.length > 0 && <Section title="Waiting for room">{short.map((s) => <Waiting key={s.k} s={s} nodes={list} />)}</Section>}
    {view !== "table" && <div class="bins">{list.map((n) => <Bin key={n.k} n={n} by={by} />)}</div>}
    {ready && (view === "table" || list.length === 0) && <Section title="Nodes"><Table label="Nodes" rows={list} to={(r) => `/nodes/${r.k}`} text={(r) => `${r.host} ${r.address} ${r.status}`} empty={<Empty cmd="berth token node">No machine. Let one join:</Empty>} cols={[
      { key: "host", head: "Node", sort: (r) => r.host, cell: (r) => <Link to={`/nodes/${r.k}`}>{r.host}</Link> }, { key: "state", head: "State", sort: (r) => r.status, cell: (r) => <Status level={level(r)}>{r.status.toLowerCase()}</Status> }, { key: "addr", head: "Address", minor: true, cell: (r) => <span class="mono">{r.address}</span> },
      { key: "tasks", head: "Tasks", num: true, sort: (r) => -r.tasks, cell: (r) => r.tasks }, { key: "mem", head: "Memory", minor: true, sort: (r) => -r.usedMem / r.mem, cell: (r) => <Bar part={r.usedMem} whole={r.mem} label={`Memory of ${r.host}`} /> }, { key: "cpu", head: "CPU", minor: true, sort: (r) => -r.usedCpu / r.cpu, cell: (r) => <Bar part={r.usedCpu} whole={r.cpu} label={`CPU of ${r.host}`} /> }]} /></Section>}</>;
}

/** Why a task of the service fits nowhere, node by node. */
function Waiting({ s, nodes }: { s: ServiceRow; nodes: NodeRow[] }) {
  return <p><Link to={`/clusters/${s.cluster}/services/${s.name}`}>{s.name}</Link> needs {s.cpu} units and {mib(s.mem)}: {nodes.map((n) => { const mem = n.mem - n.usedMem, cpu = n.cpu - n.usedCpu; return <span class="chip" key={n.k}>{n.host}: {n.status !== "ACTIVE" ? n.status.toLowerCase() : mem < s.mem ? `${mib(mem)} free` : cpu < s.cpu ? `${cpu} units free` : "fits"}</span>; })}</p>;
}

function Bin({ n, by }: { n: NodeRow; by: string }) {
  const whole = by === "cpu" ? n.cpu : n.mem, used = by === "cpu" ? n.usedCpu : n.usedMem;
  const [shown] = useState(400);
  return <div class="bin"><div class="panel-head"><h2><Link to={`/nodes/${n.k}`}>{n.host}</Link></h2><Status level={level(n)}>{n.status.toLowerCase()}</Status></div>
    <div class="bin-box">{(n.tiles ?? []).slice(0, shown).map((t) => { const size = by === "cpu" ? t.cpu : t.mem; return <a key={t.id} href={href(taskPath(t.cluster, t.id))} class={"tile t" + hue(t.name)} title={`${t.name}, ${mib(t.mem)}, ${t.cpu} units, ${t.status.toLowerCase()}`} style={{ width: `${Math.max(3, Math.min(100, 100 * Math.sqrt((size || whole / 50) / whole)))}%`, height: `${Math.max(14, 110 * Math.sqrt((size || whole / 50) / whole))}px` }}>{t.name}</a>; })}</div>
    <Bar part={used} whole={whole} label={`${by === "cpu" ? "CPU" : "Memory"} reserved of ${n.host}`} /> <span class="dim">{plural(n.tasks, "task")}, {by === "cpu" ? `${n.cpu - n.usedCpu} units` : mib(n.mem - n.usedMem)} free</span></div>;
}

export function Node({ id }: { id: string }) {
  const { rows, ready, error } = useTopic<NodeRow>({ topic: "nodes" });
  const n = rows.get(id);
  if (error) return <Problem error={error} />;
  if (!n) return ready ? <Empty cmd="berth node ls">There is no such node.</Empty> : null;
  return <><Head title={n.host} status={<Status level={level(n)}>{n.status.toLowerCase()}</Status>} sub={`${n.address}, ${n.arch}, Berth ${n.version}`}>{n.status === "DRAINING" ? <button onClick={() => drain(n, false)}>Activate</button> : <button class="danger" onClick={() => drain(n, true)}>Drain</button>}</Head>
    {n.findings?.map((f) => <FindingLine key={f.name} f={f} />)}
    <div class="two"><Bin n={n} by="mem" /><Section title="Machine"><dl class="kv"><dt>CPU</dt><dd><Bar part={n.usedCpu} whole={n.cpu} label="CPU reserved" /> of {n.cpu} units</dd><dt>Memory</dt><dd><Bar part={n.usedMem} whole={n.mem} label="Memory reserved" /> of {mib(n.mem)}</dd><dt>Joined</dt><dd>{day(n.joined)}</dd><dt>Clusters</dt><dd>{n.members?.map((m) => <div key={m.cluster}><Link to={`/clusters/${m.cluster}`}>{m.cluster}</Link> {m.status.toLowerCase()}</div>)}</dd></dl>{n.members?.[0] && <Code text={`aws ecs describe-container-instances --cluster ${n.members[0].cluster} --container-instances ${n.members[0].arn}`} />}</Section></div>
    <Section title="Tasks"><Tasks want={{ topic: "tasks", node: id }} where /></Section></>;
}

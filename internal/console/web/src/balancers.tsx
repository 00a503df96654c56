import { useState } from "preact/hooks";
import { useTopic } from "./live";
import { taskPath } from "./actions";
import type { BalancerRow, ConditionRow, GroupRow, ListenerRow, RuleRow } from "./rows";
import { act, Code, Empty, FindingLine, Head, Link, Problem, Section, Status, Table, type Level } from "./ui";
import { go } from "./router";

export function Balancers() {
  const { list, ready, error } = useTopic<BalancerRow>({ topic: "balancers" });
  if (error) return <Problem error={error} />;
  return <><Head title="Load balancers"><button class="primary" onClick={() => go("/deploy")}>Deploy behind one</button></Head><Section title="Load balancers">{ready && <Table label="Load balancers" rows={list} to={(r) => `/balancers/${r.name}`} text={(r) => r.name + " " + r.dns} empty={<Empty cmd="aws elbv2 create-load-balancer --name web --subnets $(aws ec2 describe-subnets --query 'Subnets[].SubnetId' --output text)">No load balancer yet.</Empty>} cols={[
    { key: "name", head: "Name", sort: (r) => r.name, cell: (r) => <Link to={`/balancers/${r.name}`}>{r.name}</Link> }, { key: "state", head: "State", cell: (r) => <Status level={r.findings?.length ? "bad" : "fine"}>{r.findings?.length ? "not served" : "served"}</Status> }, { key: "listeners", head: "Listeners", cell: (r) => r.listeners.map((l) => l.port).join(", ") },
    { key: "targets", head: "Healthy targets", num: true, cell: (r) => { const all = r.groups.flatMap((g) => g.targets); return `${all.filter((t) => t.state === "healthy").length}/${all.length}`; } }, { key: "dns", head: "Name", width: "minmax(0,2fr)", minor: true, cell: (r) => <span class="mono">{r.dns}</span> }]} />}</Section></>;
}

export function Balancer({ name }: { name: string }) {
  const { list, ready, error } = useTopic<BalancerRow>({ topic: "balancers" });
  const b = list.find((x) => x.name === name);
  if (error) return <Problem error={error} />;
  if (!b) return ready ? <Empty cmd="aws elbv2 describe-load-balancers">There is no load balancer {name}.</Empty> : null;
  return <><Head title={b.name} status={<Status level={b.findings?.length ? "bad" : "fine"}>{b.findings?.length ? "not served" : "served"}</Status>} sub={<span class="mono">{b.dns}</span>}><button class="danger" onClick={() => act({ title: `Delete ${b.name}`, verb: "Delete load balancer", danger: true, typed: b.name, calls: () => [{ service: "elasticloadbalancing", op: "DeleteLoadBalancer", input: { LoadBalancerArn: b.k } }], done: () => go("/balancers") })}>Delete</button></Head>
    {b.findings?.map((f) => <FindingLine key={f.cause} f={f} />)}
    <Try b={b} /><Path b={b} /></>;
}

const wild = (pattern: string, s: string, fold = false) => new RegExp("^" + pattern.split("").map((c) => c === "*" ? ".*" : c === "?" ? "." : c.replace(/[.+^${}()|[\]\\]/g, "\\$&")).join("") + "$", fold ? "i" : "").test(s);
function fits(c: ConditionRow, method: string, host: string, path: string): boolean {
  const p = path.split("?")[0];
  switch (c.field) {
    case "path-pattern": return c.values.some((v) => wild(v, p));
    case "host-header": return c.values.some((v) => wild(v, host, true));
    case "http-request-method": return c.values.includes(method);
    case "query-string": return c.values.some((v) => { const [k, x] = v.split("="); return [...new URLSearchParams(path.split("?")[1] ?? "")].some(([a, y]) => (!k || wild(k, a, true)) && wild(x ?? k, y, true)); });
  }
  return false; // headers and addresses are not typed here
}
const winner = (l: ListenerRow, m: string, h: string, p: string) => l.rules.find((r) => r.priority === "default" || (r.conditions ?? []).every((c) => fits(c, m, h, p)));

function Try({ b }: { b: BalancerRow }) {
  const [method, setMethod] = useState("GET"), [host, setHost] = useState(b.dns), [path, setPath] = useState("/"), [at, setAt] = useState(0);
  const l = b.listeners[at], w = l && winner(l, method, host, path);
  const groups = w?.forward?.map((f) => b.groups.find((g) => g.arn === f.group)).filter(Boolean) as GroupRow[] | undefined;
  return <Section title="Try a request"><div class="fields"><label class="field"><span>Method</span><select value={method} onChange={(e) => setMethod(e.currentTarget.value)}>{["GET", "POST", "PUT", "DELETE", "HEAD"].map((m) => <option key={m}>{m}</option>)}</select></label><label class="field"><span>Host</span><input value={host} onInput={(e) => setHost(e.currentTarget.value)} /></label><label class="field"><span>Path and query</span><input value={path} onInput={(e) => setPath(e.currentTarget.value)} /></label><label class="field"><span>Listener</span><select value={String(at)} onChange={(e) => setAt(Number(e.currentTarget.value))}>{b.listeners.map((x, i) => <option key={x.arn} value={String(i)}>{x.protocol} :{x.port}</option>)}</select></label></div>
    <p role="status">{w ? <>Rule <b>{w.priority}</b> wins: {w.action}{groups?.length ? <> to {groups.map((g) => g.name).join(" or ")}, {groups.reduce((n, g) => n + g.targets.filter((t) => t.state === "healthy").length, 0)} healthy targets</> : ` ${w.text ?? ""}`}. Nothing was sent.</> : "No listener."}</p>
    {l && <Code text={`curl -i ${method === "GET" ? "" : `-X ${method} `}-H 'Host: ${host}' http://127.0.0.1:${l.port}${path}`} />}</Section>;
}

const words = (r: RuleRow) => r.priority === "default" ? "anything else" : (r.conditions ?? []).map((c) => `${c.field}${c.name ? " " + c.name : ""} ${c.values?.join(" or ")}`).join(" and ");
function Path({ b, only }: { b: BalancerRow; only?: string[] }) {
  const mine = (r: RuleRow) => !only || r.forward?.some((f) => only.includes(f.group));
  return <>{b.listeners.filter((l) => l.rules.some(mine)).map((l) => <Section key={l.arn} title={`${b.name} ${l.protocol} :${l.port}`}>{l.problem && <FindingLine f={{ name: "ListenerNotServed", level: "bad", cause: l.problem }} />}<div class="path">{l.rules.map((r) => <div key={r.priority} class={"rule-row" + (only && mine(r) ? " wins" : "")}><b>{r.priority}</b><div>{words(r)}</div><div>{r.forward?.length ? r.forward.map((f) => { const g = b.groups.find((x) => x.arn === f.group); return g && <Group key={f.group} g={g} weight={r.forward!.length > 1 ? f.weight : undefined} />; }) : `${r.action} ${r.text ?? ""}`}</div></div>)}</div></Section>)}</>;
}
function Group({ g, weight }: { g: GroupRow; weight?: number }) {
  return <div><b>{g.name}</b>{weight !== undefined && ` weight ${weight}`} <span class="dim">checks {g.check || "/"}</span>{g.targets.map((t) => <div key={t.id + t.port}><Status level={(t.state === "healthy" ? "fine" : t.state === "unhealthy" ? "bad" : "going") as Level}>{t.task ? <Link to={taskPath(t.service?.split("/")[0] ?? "default", t.task)}>{t.id}:{t.port}</Link> : `${t.id}:${t.port}`} {t.state}</Status>{t.finding && t.finding.level !== "going" && <div>{t.finding.cause}</div>}</div>)}{g.targets.length === 0 && <div class="dim">no target</div>}</div>;
}

export function PathView({ groups }: { groups: string[] }) {
  const { list, ready } = useTopic<BalancerRow>({ topic: "balancers" });
  const mine = list.filter((b) => b.groups.some((g) => groups.includes(g.arn)));
  if (!ready) return null;
  if (!mine.length) return <Empty>No load balancer leads to this service. <Link to="/deploy">Deploy one behind a path</Link>, or give CreateService loadBalancers.</Empty>;
  return <>{mine.map((b) => <Path key={b.k} b={b} only={groups} />)}</>;
}

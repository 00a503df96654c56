import { useMemo } from "preact/hooks";
import { cureAction, servicePath } from "./actions";
import { ago, mib, plural } from "./fmt";
import { useSeries, useTopic } from "./live";
import { bad, Services, type Traffic } from "./lists";
import type { NodeRow, ServiceRow, TroubleRow } from "./rows";
import { Bar, FindingLine, Head, Link, Problem, Section, Status } from "./ui";

const rank: Record<string, number> = { bad: 0, warn: 1 };

export function useTraffic(): Map<string, Traffic> {
  const { series } = useSeries({ topic: "metrics" });
  return useMemo(() => {
    const out = new Map<string, Traffic>();
    for (const p of series ?? []) {
      if (!p.of) continue;
      const t = out.get(p.of) ?? { req: [], errors: 0, p95: 0 };
      if (p.name === "requests") t.req = p.v.length ? p.v : t.req;
      if (p.name === "errors") t.errors = p.v.at(-1) ?? 0;
      if (p.name === "p95") t.p95 = p.v.at(-1) ?? 0;
      out.set(p.of, t);
    }
    return out;
  }, [series]);
}

export function Overview() {
  const { list: services, ready, error } = useTopic<ServiceRow>({ topic: "services" });
  const { list: trouble } = useTopic<TroubleRow>({ topic: "trouble" });
  const { list: nodes } = useTopic<NodeRow>({ topic: "nodes" });
  const traffic = useTraffic();
  if (error) return <Problem error={error} />;
  const found = [...trouble.map((t) => ({ key: t.k, where: t.where, to: t.href, f: t.finding, s: null as ServiceRow | null })),
    ...services.flatMap((s) => bad(s.findings).slice(0, 1).map((f) => ({ key: s.k + f.name + f.cause, where: s.name, to: servicePath(s.cluster, s.name), f, s })))].sort((a, b) => (rank[a.f.level] ?? 2) - (rank[b.f.level] ?? 2) || (a.key < b.key ? -1 : 1));
  const rolling = services.filter((s) => s.rollout === "IN_PROGRESS");
  return <>
    <Head title="Overview" status={ready && <Status level={found.some((f) => f.f.level === "bad") ? "bad" : found.length ? "warn" : "fine"}>{found.length ? `${plural(found.length, "thing")} ${found.length === 1 ? "needs" : "need"} you` : services.length ? `All ${plural(services.length, "service")} are steady.` : "Ready."}</Status>} />
    {found.length > 0 && <section aria-label="What needs you">{found.slice(0, 30).map((x) => <FindingLine key={x.key} f={x.f} where={x.where} to={x.to} since={x.f.since && ago(Date.parse(x.f.since))}
      onCure={(c) => x.s ? cureAction(c, { service: x.s, def: `${x.s.family}:${x.s.rev}`, container: x.f.container, cluster: x.s.cluster }) : c.do === "nodes" || c.do === "balancers" ? cureAction(c, { def: "", cluster: "" }) : undefined} />)}</section>}
    <div class="two wide">
      <Section title={`Services ${services.length}`}>{ready && <Services rows={services} traffic={traffic} cluster limit={14} />}</Section>
      <div>
        <Section title="Capacity" side={<Link to="/nodes">Map</Link>}>
          <table><caption class="hide">Capacity of the nodes</caption><thead><tr><th>Node</th><th>Memory</th><th>CPU</th></tr></thead><tbody>{nodes.slice(0, 12).map((n) => <tr key={n.k}><td><Link to={`/nodes/${n.k}`}>{n.host}</Link><br /><span class="dim">{plural(n.tasks, "task")}</span></td><td><Bar part={n.usedMem} whole={n.mem} label={`Memory reserved of ${n.host}`} /><br /><span class="dim">{mib(n.mem - n.usedMem)} free</span></td><td class="num">{n.cpu ? Math.round(100 * n.usedCpu / n.cpu) : 0} %</td></tr>)}</tbody></table>
        </Section>
        {rolling.length > 0 && <Section title="Deploying">{rolling.slice(0, 8).map((s) => <p key={s.k}><Link to={servicePath(s.cluster, s.name) + "/deployments"}>{s.name}</Link> to r{s.rev}, {s.running} of {s.desired} run</p>)}</Section>}
      </div>
    </div>
  </>;
}

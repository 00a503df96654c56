// Ctrl-K: everything by a few letters. And the keys.
import { signal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { fuzzy, short } from "./fmt";
import { useTopic } from "./live";
import { go, path } from "./router";
import { force, scale, servicePath, stopTask, taskPath } from "./actions";
import type { FamilyRow, NodeRow, RepoRow, ServiceRow, TaskRow, BalancerRow, ClusterRow } from "./rows";
import { keysOn } from "./settings";
import { Modal } from "./ui";

export const open = signal(false);
const help = signal(false);
interface Entry { text: string; kind: string; hay: string; run: () => void }
const recentName = "berth-recent";

const pages: [string, string][] = [["Overview", "/"], ["Services", "/clusters"], ["Tasks", "/tasks"], ["Task definitions", "/taskdefs"], ["Images", "/images"], ["Load balancers", "/balancers"], ["Nodes", "/nodes"], ["Logs", "/logs"], ["Events", "/events"], ["Deploy", "/deploy"], ["Settings", "/settings"], ["Sessions", "/settings/sessions"]];

export function fromARN(arn: string): string | undefined {
  const m = /^arn:aws:(\w+):[^:]*:[^:]*:(.+)$/.exec(arn);
  if (!m) return;
  const p = m[2].split("/");
  if (m[1] === "ecs") return p[0] === "service" ? servicePath(p[1], p[2]) : p[0] === "task" ? taskPath(p[1], p[2]) : p[0] === "cluster" ? `/clusters/${p[1]}` : p[0] === "task-definition" ? `/taskdefs/${p[1].replace(":", "/")}` : p[0] === "service-deployment" || p[0] === "service-revision" ? servicePath(p[1], p[2]) + "/deployments" : undefined;
  if (m[1] === "ecr") return `/images/${p.slice(1).join("/")}`;
  if (m[1] === "elasticloadbalancing" && p[0] === "loadbalancer") return `/balancers/${p[2]}`;
  if (m[1] === "logs") return `/logs?group=${encodeURIComponent(m[2].split(":")[1])}`;
}

function List() {
  const { list: services } = useTopic<ServiceRow>({ topic: "services" });
  const { list: tasks } = useTopic<TaskRow>({ topic: "tasks" });
  const { list: nodes } = useTopic<NodeRow>({ topic: "nodes" });
  const { list: families } = useTopic<FamilyRow>({ topic: "taskdefs" });
  const { list: repos } = useTopic<RepoRow>({ topic: "images" });
  const { list: balancers } = useTopic<BalancerRow>({ topic: "balancers" });
  const { list: clusters } = useTopic<ClusterRow>({ topic: "clusters" });
  const [q, setQ] = useState(""), [at, setAt] = useState(0);
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => { input.current?.focus(); }, []);
  const to = (p: string) => () => go(p);
  const arn = fromARN(q.trim());
  let entries: Entry[];
  if (arn) entries = [{ text: q, kind: "ARN", hay: q, run: to(arn) }];
  else if (q.startsWith(">")) {
    const n = /(\d+)\s*$/.exec(q);
    entries = [...services.flatMap((s) => [{ text: `scale ${s.name} ${n ? n[1] : s.desired}`, kind: s.cluster, hay: `scale ${s.name} ${n ? n[1] : ""}`, run: () => scale(s, n ? Number(n[1]) : s.desired) }, { text: `restart ${s.name}`, kind: s.cluster, hay: `restart ${s.name}`, run: () => force(s) }, { text: `logs ${s.name}`, kind: s.cluster, hay: `logs ${s.name}`, run: to(servicePath(s.cluster, s.name) + "/logs") }]),
      { text: "deploy", kind: "new service", hay: "deploy", run: to("/deploy") }, { text: "new task definition", kind: "", hay: "new task definition", run: to("/taskdefs/new") }];
  } else entries = [
    ...pages.map(([t, p]) => ({ text: t, kind: "page", hay: t, run: to(p) })), ...clusters.map((c) => ({ text: c.k, kind: "cluster", hay: c.k, run: to(`/clusters/${c.k}`) })),
    ...services.map((s) => ({ text: s.name, kind: `service in ${s.cluster}`, hay: `${s.name} ${s.image}`, run: to(servicePath(s.cluster, s.name)) })),
    ...nodes.map((n) => ({ text: n.host, kind: `node ${n.address}`, hay: `${n.host} ${n.address} ${n.k}`, run: to(`/nodes/${n.k}`) })), ...families.map((f) => ({ text: f.k, kind: "task definition", hay: f.k, run: to(`/taskdefs/${f.k}/${f.latest}`) })),
    ...repos.map((r) => ({ text: r.k, kind: "repository", hay: r.k, run: to(`/images/${r.k}`) })), ...balancers.map((b) => ({ text: b.name, kind: "load balancer", hay: b.name, run: to(`/balancers/${b.name}`) })),
    ...(q.length > 1 ? tasks.map((t) => ({ text: short(t.k), kind: `task of ${t.service ?? t.family}, ${t.status.toLowerCase()}`, hay: `${t.k} ${t.ip ?? ""} ${t.image ?? ""}`, run: to(taskPath(t.cluster, t.k)) })) : [])];
  const needle = q.replace(/^>\s*/, "");
  let recent: string[] = [];
  try { recent = JSON.parse(localStorage.getItem(recentName) ?? "[]"); } catch { /* none */ }
  const found = entries.map((e) => [fuzzy(needle, e.hay) + (recent.includes(e.text + e.kind) ? 2 - recent.indexOf(e.text + e.kind) / 10 : 0), e] as const).filter(([n]) => n > 0 && (needle === "" || n > 2)).sort((a, b) => b[0] - a[0]).slice(0, 40).map(([, e]) => e);
  const choose = (e: Entry | undefined) => { if (!e) return; localStorage.setItem(recentName, JSON.stringify([e.text + e.kind, ...recent.filter((x) => x !== e.text + e.kind)].slice(0, 20))); open.value = false; e.run(); };
  const key = (e: KeyboardEvent) => { if (e.key === "ArrowDown" || e.key === "ArrowUp") { e.preventDefault(); setAt(Math.max(0, Math.min(found.length - 1, at + (e.key === "ArrowDown" ? 1 : -1)))); } else if (e.key === "Enter") { e.preventDefault(); choose(found[at]); } };
  return <div class="palette-body"><input ref={input} role="combobox" aria-expanded="true" aria-controls="palette-list" aria-activedescendant={found[at] ? "palette-" + at : undefined} aria-label="Search or jump" placeholder="Search or jump; > for actions" value={q} onInput={(e) => { setQ(e.currentTarget.value); setAt(0); }} onKeyDown={key} />
    <ul id="palette-list" role="listbox" aria-label="Found">{found.map((e, i) => <li key={e.text + e.kind} id={"palette-" + i} role="option" aria-selected={i === at} onClick={() => choose(e)}><span>{e.text}</span><span class="dim">{e.kind}</span></li>)}{found.length === 0 && <li role="option" aria-selected="false" aria-disabled="true">Nothing is called that.</li>}</ul></div>;
}

export function Palette() {
  return <>{open.value && <Modal title="Search or jump" onClose={() => { open.value = false; }}><List /></Modal>}
    {help.value && <Modal title="Keys" onClose={() => { help.value = false; }}><dl class="kv">{[["Ctrl-K", "search or jump"], ["/", "filter"], ["g then o s t d i b n l e", "overview, services, tasks, definitions, images, balancers, nodes, logs, events"], ["j k Enter", "down, up, open a row"], ["[ ]", "tab before, tab after"], ["l", "logs of this"], ["x", "stop this task"], ["c", "copy this page's address"], ["Esc", "close"], ["?", "this"]].map(([k, v]) => <><dt><code>{k}</code></dt><dd>{v}</dd></>)}</dl></Modal>}</>;
}

let before = "";
const jumps: Record<string, string> = { o: "/", s: "/clusters", t: "/tasks", d: "/taskdefs", i: "/images", b: "/balancers", n: "/nodes", l: "/logs", e: "/events" };
document.addEventListener("keydown", (e) => {
  if ((e.ctrlKey || e.metaKey) && e.key.toLowerCase() === "k") { e.preventDefault(); open.value = !open.value; return; }
  const el = e.target as HTMLElement;
  if (e.ctrlKey || e.metaKey || e.altKey || !keysOn.value || el.closest("input,textarea,select,dialog")) return;
  if (before === "g" && jumps[e.key]) { before = ""; e.preventDefault(); go(jumps[e.key]); return; }
  before = e.key;
  switch (e.key) {
    case "/": { const f = document.querySelector<HTMLInputElement>("[data-filter]"); if (f) { e.preventDefault(); f.focus(); f.select(); } break; }
    case "?": help.value = true; break;
    case "[": case "]": { const tabs = [...document.querySelectorAll<HTMLAnchorElement>("nav.tabs a")], at = tabs.findIndex((t) => t.hasAttribute("aria-current")); tabs[at + (e.key === "]" ? 1 : -1)]?.click(); break; }
    case "j": { const g = document.querySelector<HTMLElement>("[role=grid]"); if (g && el !== g) { e.preventDefault(); g.focus(); g.dispatchEvent(new KeyboardEvent("keydown", { key: "j", bubbles: false })); } break; }
    case "l": { const m = /^(\/clusters\/[^/]+\/(services|tasks)\/[^/]+)/.exec(path.value); if (m) go(m[1] + "/logs"); break; }
    case "x": { const m = /^\/clusters\/([^/]+)\/tasks\/([^/]+)/.exec(path.value); if (m) stopTask({ cluster: m[1], k: m[2], service: undefined }); break; }
    case "c": void navigator.clipboard?.writeText(location.href); break;
  }
});

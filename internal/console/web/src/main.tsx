import "./style.css";
import { render, type ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { login, type Refused } from "./api";
import { Balancer, Balancers } from "./balancers";
import { Cluster, Clusters } from "./cluster";
import { Deploy } from "./deploy";
import { clock } from "./fmt";
import { Images, Repo } from "./images";
import { Tasks } from "./lists";
import { connect, down, hello, session, setSession } from "./live";
import { Logs } from "./logs";
import { Node, Nodes } from "./nodes";
import { Overview } from "./overview";
import { fromARN, open, Palette } from "./palette";
import { go, href, path } from "./router";
import { Service } from "./service";
import { EventsPage, Settings, setTheme, theme } from "./settings";
import { Task } from "./task";
import { TaskDef, TaskDefDiff, TaskDefEditor, TaskDefs } from "./taskdefs";
import { ActionDialog, Empty, Head, Link, Problem, Section, toast } from "./ui";

const icons: Record<string, string> = { Overview: "M2 8 8 2l6 6v6H2z", Services: "M2 2h5v5H2zM9 2h5v5H9zM2 9h5v5H2zM9 9h5v5H9z", Tasks: "M3 3h10v10H3zM5 8l2 2 4-4", "Task definitions": "M4 1h6l3 3v11H4zM6 7h5M6 10h5", Images: "M8 1l6 3v8l-6 3-6-3V4zM2 4l6 3 6-3M8 7v8", Balancers: "M1 8h4l5-5h5M5 8l5 5h5M5 8h10", Nodes: "M1 2h14v5H1zM1 9h14v5H1zM4 4.5h1M4 11.5h1", Logs: "M2 3h12M2 7h8M2 11h12M2 15h6", Events: "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2zM8 5v4l2 1", Deploy: "M8 1c3 2 4 5 3 9H5C4 6 5 3 8 1zM5 10l-2 4 3-2M11 10l2 4-3-2", Settings: "M8 5a3 3 0 1 0 0 6 3 3 0 0 0 0-6zM8 1v3M8 12v3M1 8h3M12 8h3" };
const rail: [string, string, RegExp][] = [["Overview", "/", /^\/$/], ["Services", "/clusters", /^\/clusters/], ["Tasks", "/tasks", /^\/tasks/], ["Task definitions", "/taskdefs", /^\/taskdefs/], ["Images", "/images", /^\/images/], ["Balancers", "/balancers", /^\/balancers/], ["Nodes", "/nodes", /^\/nodes/], ["Logs", "/logs", /^\/logs/], ["Events", "/events", /^\/events/], ["Deploy", "/deploy", /^\/deploy/], ["Settings", "/settings", /^\/settings/]];

function Page(): ComponentChildren {
  const p = path.value.split("/").filter(Boolean).map(decodeURIComponent);
  switch (p[0]) {
    case undefined: return <Overview />;
    case "clusters":
      if (!p[1]) return <Clusters />;
      if (p[2] === "services" && p[3]) return <Service key={p[1] + p[3]} cluster={p[1]} name={p[3]} tab={p[4] ?? ""} />;
      if (p[2] === "tasks" && p[3]) return <Task key={p[3]} cluster={p[1]} id={p[3]} tab={p[4] ?? ""} />;
      return <Cluster key={p[1]} name={p[1]} tab={p[2] === "services" ? "" : p[2] ?? ""} />;
    case "tasks": return <><Head title="Tasks" /><Section title="Tasks"><Tasks want={{ topic: "tasks" }} where /></Section></>;
    case "taskdefs":
      if (p[1] === "new") return <TaskDefEditor key={location.search} />;
      if (p[2] === "diff") return <TaskDefDiff family={p[1]} />;
      return p[1] ? <TaskDef key={p[1] + p[2]} family={p[1]} rev={p[2]} /> : <TaskDefs />;
    case "images": {
      const digest = p.findIndex((x) => x.startsWith("sha256:"));
      return p[1] ? <Repo name={p.slice(1, digest < 0 ? undefined : digest).join("/")} digest={p[digest]} /> : <Images />;
    }
    case "balancers": return p[1] ? <Balancer key={p[1]} name={p[1]} /> : <Balancers />;
    case "nodes": return p[1] ? <Node id={p[1]} /> : <Nodes />;
    case "logs": return <Logs />;
    case "events": return <EventsPage />;
    case "deploy": return <Deploy />;
    case "settings": return <Settings tab={p[1] ?? ""} />;
    case "arn": { const to = fromARN(decodeURIComponent(path.value.slice(5))); if (to) { queueMicrotask(() => go(to, true)); return null; } }
  }
  return <><Head title="No such page" /><Empty>There is no such page. <Link to="/">To the overview</Link></Empty></>;
}

function Crumbs() {
  const p = path.value.split("/").filter(Boolean).map(decodeURIComponent);
  const out: [string, string][] = [["berth", "/"]];
  if (p[0] === "clusters") { if (p[1]) out.push([p[1], `/clusters/${p[1]}`]); if (p[3]) out.push([p[2] === "tasks" ? p[3].slice(0, 12) : p[3], `/clusters/${p[1]}/${p[2]}/${p[3]}`]); if (!p[1]) out.push(["services", "/clusters"]); }
  else p.slice(0, 3).forEach((x, i) => out.push([x.length > 40 ? x.slice(0, 19) : x, "/" + p.slice(0, i + 1).map(encodeURIComponent).join("/")]));
  return <nav class="crumbs" aria-label="Breadcrumb">{out.map(([t, to], i) => <span key={to}>{i > 0 && "/ "}<Link to={to}>{t}</Link></span>)}</nav>;
}

function Shell() {
  useEffect(() => { document.title = (path.value === "/" ? "Overview" : path.value.slice(1).split("/").slice(0, 4).pop() ?? "") + " · Berth"; }, [path.value]);
  return <div class={"shell" + (down.value ? " stale" : "")}>
    <header class="bar-top"><a class="brand" href={href("/")} aria-label="Berth, overview"><svg viewBox="0 0 32 32" aria-hidden="true"><path d="M4 20h24l-3 7H8zM15 4v14M16 6l10 12H16" fill="none" stroke="currentColor" stroke-width="2.4" /></svg><span class="wide">Berth</span></a><Crumbs />
      <button onClick={() => { open.value = true; }} aria-label="Search or jump Ctrl-K"><span class="wide">Search or jump </span><code>Ctrl-K</code></button><span class={"status wide " + (down.value ? "bad" : "fine")}>{down.value ? "not live" : "live ●"}</span>
      <button aria-label="Light or dark" onClick={() => setTheme(theme.value === "dark" ? "light" : "dark")}>◐</button></header>
    {down.value > 0 && <div class="banner" role="alert">Not live since {clock(down.value)}; retrying. What you see may be old.</div>}
    <div class="rail"><nav aria-label="Main">{rail.map(([t, to, at]) => <a key={t} href={href(to)} aria-current={at.test(path.value) ? "page" : undefined} aria-label={t}><svg viewBox="0 0 16 16" aria-hidden="true"><path d={icons[t]} fill="none" stroke="currentColor" stroke-width="1.5" /></svg><span>{t}</span></a>)}</nav></div>
    <main id="main" tabIndex={-1}>{hello.value && <Page />}</main>
    <Palette /><ActionDialog /><div aria-live="polite" role="status">{toast.value && <div class="toast">{toast.value}</div>}</div>
  </div>;
}

function Login() {
  const [f, set] = useState({ AccessKeyID: "", SecretAccessKey: "" }), [err, setErr] = useState<Refused | null>(linkError), [busy, setBusy] = useState(false);
  const submit = async (e: Event) => { e.preventDefault(); setBusy(true); try { setSession((await login(f)).key); connect(); } catch (x) { setErr(x as Refused); } setBusy(false); };
  return <main class="login"><h1>Berth</h1>{err && <Problem error={err} />}
    <Section title="Log in by a link"><p>On the machine that runs Berth, or wherever your AWS variables point to it:</p><code>berth console</code></Section>
    <Section title="Or by an access key"><form onSubmit={submit}><label class="field"><span>Access key ID</span><input autocomplete="username" value={f.AccessKeyID} onInput={(e) => set({ ...f, AccessKeyID: e.currentTarget.value })} /></label><label class="field"><span>Secret access key</span><input type="password" autocomplete="current-password" value={f.SecretAccessKey} onInput={(e) => set({ ...f, SecretAccessKey: e.currentTarget.value })} /></label><button class="primary" disabled={busy}>Log in</button></form></Section></main>;
}

let linkError: Refused | null = null;
function App() { return session.value ? <Shell /> : <Login />; }

async function start() {
  const m = /^#login=([\w-]+)$/.exec(location.hash);
  if (m) {
    history.replaceState(null, "", location.pathname + location.search);
    try { setSession((await login({ Token: m[1] })).key); } catch (e) { linkError = e as Refused; setSession(null); }
  }
  connect();
  const app = document.getElementById("app")!;
  app.textContent = "";
  render(<App />, app);
}
void start();
session.subscribe((s) => { if (s) connect(); });

import { signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { call, Refused, type Call } from "./api";
import { cli, terraform } from "./cli";
import { down, type Refusal } from "./live";
import { fuzzy } from "./fmt";
import { go, href, param, setParam } from "./router";
import type { Cure, Finding } from "./rows";

export type Level = "fine" | "going" | "warn" | "bad" | "off";
const glyphs: Record<Level, string> = { fine: "●", going: "◔", warn: "▲", bad: "✕", off: "○" };

export function Status({ level, children }: { level: Level; children?: ComponentChildren }) {
  return <span class={"status " + level}><span aria-hidden="true">{glyphs[level]}</span> {children}</span>;
}
/** What a task's status is in a glyph and a word. */
export function TaskStatus({ status, level, health }: { status: string; level?: string; health?: string }) {
  const l: Level = status === "STOPPED" ? (level === "bad" ? "bad" : "off") : status === "RUNNING" ? (level === "bad" || level === "warn" ? level as Level : "fine") : level === "warn" || level === "bad" ? level as Level : "going";
  return <Status level={l}>{status.toLowerCase()}{health && status === "RUNNING" ? `, ${health.toLowerCase()}` : ""}</Status>;
}

export function Link({ to, children, class: c }: { to: string; children: ComponentChildren; class?: string }) { return <a href={href(to)} class={c}>{children}</a>; }

export function Copy({ text, label = "Copy" }: { text: string; label?: string }) {
  const [done, set] = useState(false);
  return <button class="small" onClick={() => { void navigator.clipboard?.writeText(text); set(true); setTimeout(() => set(false), 1200); }}>{done ? "Copied" : label}</button>;
}
export function Code({ text, label }: { text: string; label?: string }) {
  return <div class="code"><pre tabIndex={0} aria-label={label ?? "Code"}>{text}</pre><Copy text={text} /></div>;
}

export function Head({ title, status, children, sub }: { title: ComponentChildren; status?: ComponentChildren; children?: ComponentChildren; sub?: ComponentChildren }) {
  return <header class="head"><div><h1>{title}</h1>{status}{sub && <div class="sub">{sub}</div>}</div><div class="actions">{children}</div></header>;
}
export function Section({ title, children, side }: { title: string; children: ComponentChildren; side?: ComponentChildren }) {
  return <section class="panel" aria-label={title}><div class="panel-head"><h2>{title}</h2>{side}</div>{children}</section>;
}
export function Empty({ children, cmd }: { children: ComponentChildren; cmd?: string }) {
  return <div class="empty"><p>{children}</p>{cmd && <Code text={cmd} />}</div>;
}
export function Problem({ error }: { error: Refusal }) {
  return <div class="finding bad" role="alert"><Status level="bad">{error.message} {error.cure}</Status> <details><summary>Details</summary>{error.code}</details></div>;
}
export function Tabs({ tabs, at, base }: { tabs: [string, string][]; at: string; base: string }) {
  return <nav class="tabs" aria-label="Tabs">{tabs.map(([k, label]) => <a key={k} href={href(base + (k ? "/" + k : ""))} aria-current={at === k ? "page" : undefined}>{label}</a>)}</nav>;
}

/** A finding: what, why, since, and its cures as buttons where the console can do them. */
export function FindingLine({ f, where, to, onCure, since }: { f: Finding; where?: string; to?: string; onCure?: (c: Cure) => (() => void) | undefined; since?: string }) {
  const l = f.level as Level;
  return <div class={"finding " + f.level}>
    <div class="finding-main"><Status level={l}>{where && to ? <Link to={to}><b>{where}</b></Link> : where && <b>{where}</b>} {f.cause}</Status>{since && <span class="dim since">{since}</span>}</div>
    {f.cures?.map((c) => { const act = onCure?.(c); return <div class="cure" key={c.text}><span>→ {c.text}</span>{act && <button class="small" onClick={act}>{cureLabel(c)}</button>}{c.command && <code>{c.command}</code>}</div>; })}
  </div>;
}
const labels: Record<string, string> = { image: "Change image", revision: "New revision", stopTimeout: "Set stopTimeout", port: "See path", check: "See check", logs: "Logs", nodes: "Nodes", balancers: "Balancers", tasks: "Tasks", loggroup: "Create log group", grace: "Set grace period", run: "Run" };
const cureLabel = (c: Cure) => c.do === "memory" ? `${c.value} MiB` : labels[c.do ?? ""] ?? "Do it";

// ---- the table: a grid whose rows out of sight are not there ----
export interface Col<T> { key: string; head: string; cell: (r: T) => ComponentChildren; sort?: (r: T) => string | number; width?: string; minor?: boolean; num?: boolean }
const rowHeight = () => matchMedia("(max-width: 640px)").matches ? 56 : 32;

export function Table<T extends { k: string }>({ rows, cols, label, to, text, empty, limit, initial, tools }: {
  rows: T[]; cols: Col<T>[]; label: string; to?: (r: T) => string; text?: (r: T) => string; empty: ComponentChildren; limit?: number; initial?: string; tools?: ComponentChildren;
}) {
  const filter = text ? param("q") : "", order = param("sort") || initial || cols[0].key;
  const h = rowHeight();
  const box = useRef<HTMLDivElement>(null);
  const [top, setTop] = useState(0), [height, setHeight] = useState(640), [at, setAt] = useState(-1);
  const held = useRef<string[] | null>(null);
  const [hover, setHover] = useState(false);
  const sorted = useMemo(() => {
    let out = rows;
    if (filter && text) out = filter.split(/\s+/).reduce((list, word) => list.filter((r) => fuzzy(word, text(r)) > 0), out);
    const desc = order.startsWith("-"), col = cols.find((c) => c.key === order.replace(/^-/, "")) ?? cols[0];
    const by = col.sort;
    if (!by) return out;
    return [...out].map((r) => [by(r), r] as const).sort(([a, x], [b, y]) => (a < b ? -1 : a > b ? 1 : x.k < y.k ? -1 : 1) * (desc ? -1 : 1)).map(([, r]) => r);
  }, [rows, filter, order]);
  // rows do not move under the pointer
  let shown = sorted, waiting = 0;
  if (hover && held.current) {
    const by = new Map(sorted.map((r) => [r.k, r]));
    const kept = held.current.flatMap((k) => by.get(k) ?? []);
    const known = new Set(held.current);
    shown = [...kept, ...sorted.filter((r) => !known.has(r.k))];
    for (let i = 0; i < shown.length; i++) if (shown[i] !== sorted[i]) waiting++;
  }
  held.current = shown.map((r) => r.k);
  useLayoutEffect(() => {
    const el = box.current;
    if (!el) return;
    const see = () => setHeight(el.clientHeight);
    see();
    const o = new ResizeObserver(see);
    o.observe(el);
    return () => o.disconnect();
  }, [rows.length === 0]);
  const first = Math.max(0, Math.floor(top / h) - 8), count = Math.ceil(height / h) + 16;
  const open = (r: T) => to && go(to(r));
  const key = (e: KeyboardEvent) => {
    const step = e.key === "j" || e.key === "ArrowDown" ? 1 : e.key === "k" || e.key === "ArrowUp" ? -1 : e.key === "PageDown" ? 15 : e.key === "PageUp" ? -15 : 0;
    if (step) {
      const n = Math.min(shown.length - 1, Math.max(0, at + step));
      setAt(n); e.preventDefault();
      const el = box.current!, y = n * h;
      if (y < el.scrollTop) el.scrollTop = y; else if (y + h > el.scrollTop + el.clientHeight - h) el.scrollTop = y + 2 * h - el.clientHeight;
    } else if (e.key === "Enter" && at >= 0 && shown[at] && e.target === e.currentTarget) open(shown[at]);
  };
  const style = { "--cols": cols.map((c) => c.width ?? "minmax(0,1fr)").join(" ") };
  return <div class="table">
    {(text || tools) && <div class="tools">
      {text && <input type="search" data-filter aria-label={`Filter ${label}`} placeholder="Filter  /" value={filter} onInput={(e) => setParam("q", e.currentTarget.value)} />}
      <span class="dim" role="status">{filter ? `${shown.length} of ${rows.length}` : rows.length}{waiting > 0 ? `, ${waiting} changes wait` : ""}</span>{tools}
    </div>}
    {rows.length === 0 ? empty :
      <div class="grid" role="grid" aria-label={label} aria-rowcount={shown.length + 1} tabIndex={0} ref={box} onScroll={(e) => setTop(e.currentTarget.scrollTop)} onKeyDown={key}
        onMouseEnter={() => setHover(true)} onMouseLeave={() => setHover(false)} style={{ ...style, maxHeight: limit ? `${(limit + 1) * h + 2}px` : undefined }}>
        <div class="row th" role="row" aria-rowindex={1}>{cols.map((c) => <div role="columnheader" key={c.key} class={(c.minor ? "minor " : "") + (c.num ? "num" : "")} aria-sort={order === c.key ? "ascending" : order === "-" + c.key ? "descending" : undefined}>
          {c.sort ? <button onClick={() => setParam("sort", order === c.key ? "-" + c.key : c.key)}>{c.head}{order === c.key ? " ↑" : order === "-" + c.key ? " ↓" : ""}</button> : c.head}</div>)}</div>
        <div role="presentation" class="rows" style={{ height: `${shown.length * h}px` }}>
          {shown.slice(first, first + count).map((r, i) => <div role="row" aria-rowindex={first + i + 2} key={r.k} class={"row" + (first + i === at ? " at" : "")} style={{ transform: `translateY(${(first + i) * h}px)`, height: `${h}px` }} onClick={(e) => { if (!(e.target as Element).closest("a,button,input") && !getSelection()?.toString()) open(r); }}>
            {cols.map((c) => <div role="gridcell" key={c.key} class={(c.minor ? "minor " : "") + (c.num ? "num" : "")}>{c.cell(r)}</div>)}</div>)}
        </div>
      </div>}
  </div>;
}

// ---- dialogs ----
export interface FieldSpec { name: string; label: string; kind?: "number" | "text" | "select"; value: string; options?: string[]; hint?: string }
export interface Action {
  title: string; verb: string; text?: ComponentChildren; danger?: boolean; typed?: string; fields?: FieldSpec[]; managed?: string;
  calls: (v: Record<string, string>) => Call[]; done?: (out: any[]) => void; asked?: string;
}
const action = signal<Action | null>(null);
export const act = (a: Action) => { action.value = a; };
export const toast = signal("");
let toastTimer = 0;
export function say(s: string) { toast.value = s; clearTimeout(toastTimer); toastTimer = window.setTimeout(() => { toast.value = ""; }, 5000); }

export function Modal({ title, onClose, children }: { title: string; onClose: () => void; children: ComponentChildren }) {
  const ref = useRef<HTMLDialogElement>(null);
  useEffect(() => { ref.current?.showModal(); }, []);
  return <dialog ref={ref} aria-label={title} onClose={onClose} onClick={(e) => { if (e.target === e.currentTarget) onClose(); }}><div class="dialog"><div class="panel-head"><h2>{title}</h2><button class="small" aria-label="Close, Esc" onClick={onClose}>Esc</button></div>{children}</div></dialog>;
}

export function Recipe({ calls, managed }: { calls: Call[]; managed?: string }) {
  const [tab, set] = useState(managed === "terraform" ? "tf" : "cli");
  return <div class="recipe"><div class="tabs small-tabs" role="tablist" aria-label="As code">{[["cli", "AWS CLI"], ["tf", "Terraform"]].map(([k, l]) => <button role="tab" key={k} id={"recipe-" + k} aria-controls="recipe-panel" aria-selected={tab === k} onClick={() => set(k)}>{l}</button>)}</div>
    <div role="tabpanel" id="recipe-panel" aria-labelledby={"recipe-" + tab}><Code text={tab === "cli" ? calls.map(cli).join("\n") : terraform(calls)} label="As code" /></div></div>;
}

export function ActionDialog() {
  const a = action.value;
  return a ? <OneAction key={a.title} a={a} /> : null;
}
function OneAction({ a }: { a: Action }) {
  const [v, set] = useState<Record<string, string>>(() => Object.fromEntries((a.fields ?? []).map((f) => [f.name, f.value])));
  const [busy, setBusy] = useState(false), [err, setErr] = useState<Refused | null>(null), [typed, setTyped] = useState("");
  const close = () => { action.value = null; };
  let calls: Call[] = [];
  try { calls = a.calls(v); } catch { /* not whole yet */ }
  const submit = async (e: Event) => {
    e.preventDefault();
    setBusy(true); setErr(null);
    try {
      const out = [];
      for (const c of calls) {
        const r = await call(c);
        if (r.failures?.length) throw new Refused(r.failures[0].reason ?? "Failure", `${r.failures[0].reason}: ${r.failures[0].detail ?? "nothing was started"}`);
        out.push(r);
      }
      say(a.asked ?? "Asked. The row changes when it has happened.");
      close();
      a.done?.(out);
    } catch (x) { setErr(x as Refused); }
    setBusy(false);
  };
  return <Modal title={a.title} onClose={close}><form onSubmit={submit}>
    {a.text && <p>{a.text}</p>}
    {a.managed === "terraform" && <p class="finding warn">Terraform manages this; your change will show as drift.</p>}
    {a.fields?.map((f) => <label class="field" key={f.name}><span>{f.label}</span>{f.kind === "select" ? <select value={v[f.name]} onChange={(e) => set({ ...v, [f.name]: e.currentTarget.value })}>{f.options!.map((o) => <option key={o}>{o}</option>)}</select>
      : <input {...{ type: f.kind ?? "text" } as { type: "text" }} value={v[f.name]} onInput={(e) => set({ ...v, [f.name]: e.currentTarget.value })} />}{f.hint && <small>{f.hint}</small>}</label>)}
    {a.typed && <label class="field"><span>Type <b>{a.typed}</b> to go on</span><input value={typed} onInput={(e) => setTyped(e.currentTarget.value)} /></label>}
    {err && <Problem error={err} />}
    <Recipe calls={calls} managed={a.managed} />
    <div class="buttons"><button type="button" onClick={close}>Close</button><button class={a.danger ? "danger" : "primary"} disabled={busy || !!down.value || (!!a.typed && typed !== a.typed)}>{busy ? "Asked" : a.verb}</button></div>
  </form></Modal>;
}

// ---- charts ----
export function Spark({ v, label }: { v: number[]; label: string }) {
  if (v.length < 2) return <span class="dim">–</span>;
  const max = Math.max(...v, 1e-9);
  return <svg class="spark" viewBox={`0 0 ${v.length - 1} 20`} preserveAspectRatio="none" role="img" aria-label={label}><polyline points={v.map((y, x) => `${x},${19 - 18 * y / max}`).join(" ")} /></svg>;
}

export interface Curve { label: string; t: number[]; v: number[]; kind?: string }
export function Chart({ title, unit, curves, from, to, marks = [] }: { title: string; unit: string; curves: Curve[]; from: number; to: number; marks?: { t: number; text: string }[] }) {
  const [table, setTable] = useState(false);
  const max = Math.max(1e-9, ...curves.flatMap((c) => c.v)) * 1.1, W = 600, H = 120;
  const x = (t: number) => (t - from) / (to - from) * W, y = (v: number) => H - v / max * H;
  const last = curves.map((c) => `${c.label} ${c.v.length ? fig(c.v[c.v.length - 1]) : "–"}`).join(", ");
  const path = (c: Curve) => { let d = "", gap = true, before = 0; const step = c.t.length > 1 ? Math.max(30, 3 * (c.t[1] - c.t[0])) : 60; c.t.forEach((t, i) => { if (t < from) return; gap = gap || t - before > step; d += `${gap ? "M" : "L"}${x(t).toFixed(1)},${y(c.v[i]).toFixed(1)}`; gap = false; before = t; }); return d; };
  return <figure class="chart"><figcaption><b>{title}</b> <span class="dim">{last} {unit}</span><button class="small" aria-expanded={table} onClick={() => setTable(!table)}>Table</button></figcaption>
    <svg viewBox={`0 0 ${W} ${H}`} preserveAspectRatio="none" role="img" aria-label={`${title}: ${last} ${unit}, most ${fig(max / 1.1)}`}>
      <line x1="0" x2={W} y1={H / 2} y2={H / 2} class="rule" />{marks.filter((m) => m.t >= from && m.t <= to).map((m) => <line key={m.t} x1={x(m.t)} x2={x(m.t)} y1="0" y2={H} class="mark"><title>{m.text}</title></line>)}
      {curves.map((c, i) => <path key={c.label} d={path(c)} class={"curve c" + (i % 4) + " " + (c.kind ?? "")} />)}</svg>
    <div class="axis dim"><span>{new Date(from * 1000).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" })}</span><span>most {fig(max / 1.1)} {unit}</span><span>now</span></div>
    {table && <div class="scroll" tabIndex={0}><table><caption class="hide">{title}</caption><thead><tr><th>Time</th>{curves.map((c) => <th key={c.label}>{c.label}</th>)}</tr></thead><tbody>{[...(curves[0]?.t ?? [])].reverse().slice(0, 60).map((t) => <tr key={t}><td>{new Date(t * 1000).toLocaleTimeString("en-GB")}</td>{curves.map((c) => { const i = c.t.indexOf(t); return <td key={c.label} class="num">{i < 0 ? "–" : fig(c.v[i])}</td>; })}</tr>)}</tbody></table></div>}
  </figure>;
}
export const fig = (n: number) => n === 0 ? "0" : n >= 100 ? n.toFixed(0) : n >= 10 ? n.toFixed(1) : n.toPrecision(2);
export function Bar({ part, whole, label }: { part: number; whole: number; label: string }) {
  const p = whole ? Math.min(100, Math.round(100 * part / whole)) : 0;
  return <span class="bar"><progress max={100} value={p} aria-label={label} /><span>{p} %</span></span>;
}

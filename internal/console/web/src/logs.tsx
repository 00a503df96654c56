// A window of lines: the newest, following, with a search that the server does. What is older is fetched when it is scrolled to.
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { down, stream, useTopic, type Line, type Refusal } from "./live";
import { param, setParam } from "./router";
import { stamp, tail } from "./fmt";
import type { ServiceRow } from "./rows";
import { aws } from "./api";
import { Copy, Empty, Head, Problem, Section } from "./ui";

const most = 5000;
const ansi = /\x1b\[[0-9;?]*[A-Za-z]/g;
const severity = (m: string) => /\b(error|fatal|panic|exception|crit(ical)?)\b/i.test(m) || /"level":"(error|fatal)"/.test(m) ? "bad" : /\bwarn(ing)?\b/i.test(m) ? "warn" : "";

export function LogView({ groups, stream: only, marks = [], small }: { groups: string[]; stream?: string; marks?: { t: number; text: string }[]; small?: boolean }) {
  const filter = small ? "" : param("find"), minutes = Number(param("back")) || 0, sel = param("line");
  const [lines, setLines] = useState<Line[]>([]), [more, setMore] = useState(false), [error, setError] = useState<Refusal | null>(null), [fresh, setFresh] = useState(0), [follow, setFollow] = useState(true);
  const box = useRef<HTMLDivElement>(null), following = useRef(true), pending = useRef<Line[]>([]), frame = useRef(0);
  const [text, setText] = useState(filter);
  useEffect(() => { const t = setTimeout(() => { if (text !== filter) setParam("find", text); }, 250); return () => clearTimeout(t); }, [text]);
  const name = JSON.stringify([groups, only, filter, minutes]);
  useEffect(() => {
    setLines([]); setError(null); pending.current = [];
    const stop = stream({ topic: "logs", groups, stream: only, filter, from: minutes ? Date.now() - minutes * 60000 : undefined }, (m) => {
      if (m.error) { setError(m.error); return; }
      if (m.snap) { setLines(m.lines ?? []); setMore(!!m.more); return; }
      pending.current.push(...m.lines ?? []);
      frame.current ||= requestAnimationFrame(() => {
        frame.current = 0;
        const add = pending.current; pending.current = [];
        setLines((old) => { const all = [...old, ...add]; return following.current && all.length > most ? all.slice(-most) : all.length > 2 * most ? all.slice(0, 2 * most) : all; });
        if (!following.current) setFresh((n) => n + add.length);
      });
    });
    return stop;
  }, [name]);
  useLayoutEffect(() => { const el = box.current; if (el && following.current) el.scrollTop = el.scrollHeight; }, [lines]);
  const scroll = () => { const el = box.current!; const end = el.scrollHeight - el.scrollTop - el.clientHeight < 24; following.current = end; setFollow(end); if (end) setFresh(0); };
  const toEnd = () => { following.current = true; setFollow(true); setFresh(0); const el = box.current; if (el) el.scrollTop = el.scrollHeight; };
  const older = () => {
    if (!lines.length) return;
    const el = box.current!, height = el.scrollHeight;
    const stop = stream({ topic: "logs", groups, stream: only, filter, before: lines[0].id, from: minutes ? Date.now() - minutes * 60000 : undefined }, (m) => {
      stop();
      if (m.error) { setError(m.error); return; }
      setMore(!!m.more);
      const seen = new Set(lines.map((l) => l.id));
      setLines((old) => [...(m.lines ?? []).filter((l) => !seen.has(l.id)), ...old]);
      requestAnimationFrame(() => { el.scrollTop += el.scrollHeight - height; });
    });
  };
  const shown = small ? lines.slice(-20) : lines;
  const sorted = [...marks].sort((a, b) => a.t - b.t);
  let at = shown.length ? sorted.findIndex((m) => m.t >= shown[0].t) : -1;
  const download = () => {
    const a = document.createElement("a");
    a.href = URL.createObjectURL(new Blob([lines.map((l) => `${new Date(l.t).toISOString()} ${l.s} ${l.m}\n`).join("")], { type: "text/plain" }));
    a.download = "logs.txt"; a.click(); URL.revokeObjectURL(a.href);
  };
  const body = <>
    {error && <Problem error={error} />}
    <div class="log" ref={box} onScroll={scroll} tabIndex={0} role="log" aria-live="off" aria-label="Lines" style={small ? { height: "auto", maxHeight: "420px" } : undefined}>
      {more && !small && <div class="div"><button class="small" onClick={older}>Older lines</button></div>}
      {shown.length === 0 && !error && <div class="l dim">{filter ? "No line contains that." : "Nothing was written yet."}</div>}
      {shown.map((l) => { const before = []; while (at >= 0 && at < sorted.length && sorted[at].t <= l.t) before.push(<div class="div" key={"m" + at}>{sorted[at++].text}</div>); return <>{before}<OneLine key={l.id} l={l} filter={filter} on={sel === l.id} /></>; })}
      {fresh > 0 && <button class="newer small" onClick={toEnd}>{fresh} new ↓</button>}
    </div></>;
  if (small) return <Section title="Last lines">{body}</Section>;
  return <Section title="Logs" side={<span class="dim" role="status">{down.value ? "not live" : follow ? "● following" : "paused"}</span>}>
    <div class="tools"><input type="search" data-filter aria-label="Find in logs" placeholder="Find  /" value={text} onInput={(e) => setText(e.currentTarget.value)} />
      <label class="inline"><span class="dim">since</span><select value={String(minutes)} onChange={(e) => setParam("back", e.currentTarget.value === "0" ? "" : e.currentTarget.value)}>{[["0", "the newest"], ["15", "15 min"], ["60", "1 h"], ["1440", "24 h"], ["10080", "7 d"]].map(([v, n]) => <option key={v} value={v}>{n}</option>)}</select></label>
      <button class="small" onClick={download}>Download</button><Copy label="Copy as CLI" text={groups.map((g) => `aws logs tail ${g} --follow${filter ? ` --filter-pattern '"${filter}"'` : ""}`).join("\n")} /></div>{body}</Section>;
}

function OneLine({ l, filter, on }: { l: Line; filter: string; on: boolean }) {
  const ref = useRef<HTMLDivElement>(null);
  useEffect(() => { if (on) ref.current?.scrollIntoView({ block: "center" }); }, [on]);
  const m = l.m.replace(ansi, "");
  return <div class={"l " + severity(m) + (on ? " sel" : "")} ref={ref}><time title={new Date(l.t).toISOString()} onClick={() => setParam("line", on ? "" : l.id)}>{stamp(l.t)}</time><span class="s" title={l.s}>{l.s.split("/").slice(-2).map((p) => p.slice(0, 8)).join(" ")}</span><span class="m"><Text m={m} filter={filter} />{l.cut && <span class="dim"> … {l.cut} bytes in all</span>}</span></div>;
}

function Text({ m, filter }: { m: string; filter: string }) {
  if (m.length > 1000) return <details><summary>{m.slice(0, 300)} …</summary>{m}</details>;
  const open = m.indexOf("{");
  if (!filter && open >= 0 && m.endsWith("}") && m.length > 60) {
    try { const v = JSON.parse(m.slice(open)); return <details><summary>{m}</summary>{JSON.stringify(v, null, 2)}</details>; } catch { /* not JSON */ }
  }
  if (!filter) return <>{m}</>;
  const i = m.toLowerCase().indexOf(filter.toLowerCase());
  return i < 0 ? <>{m}</> : <>{m.slice(0, i)}<mark>{m.slice(i, i + filter.length)}</mark>{m.slice(i + filter.length)}</>;
}

export function Logs() {
  const { list } = useTopic<ServiceRow>({ topic: "services" });
  const [groups, set] = useState<string[]>([]);
  const chosen = param("group").split(",").filter(Boolean);
  useEffect(() => { void aws("logs", "DescribeLogGroups", { limit: 50 }).then((o) => set((o.logGroups ?? []).map((g: any) => g.logGroupName))).catch(() => {}); }, []);
  const all = [...new Set([...list.flatMap((s) => s.logs ?? []), ...groups])].sort();
  const toggle = (g: string) => setParam("group", (chosen.includes(g) ? chosen.filter((x) => x !== g) : [...chosen, g]).join(","));
  return <><Head title="Logs" />
    <Section title="Log groups">{all.length === 0 ? <Empty cmd="aws logs create-log-group --log-group-name /shop/web">There is no log group yet.</Empty> : <div class="inline wrap">{all.map((g) => <button key={g} class="small" aria-pressed={chosen.includes(g)} onClick={() => toggle(g)}>{chosen.includes(g) ? "✓ " : "+ "}{tail(g) === g ? g : g}</button>)}</div>}</Section>
    {chosen.length > 0 ? <LogView groups={chosen} /> : all.length > 0 && <Empty>Choose one or more groups; their lines are merged by time.</Empty>}</>;
}

// The one WebSocket: topics come as a snapshot and then as what changed.
import { signal, type Signal } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";

export interface Want {
  topic: string; cluster?: string; service?: string; node?: string; id?: string;
  groups?: string[]; stream?: string; filter?: string; from?: number; to?: number; before?: string;
}
export interface Refusal { code: string; message: string; cure?: string }
export interface Line { id: string; t: number; g: string; s: string; m: string; cut?: number }
export interface Points { name: string; of?: string; unit: string; t: number[]; v: number[] }
interface Message {
  sub?: number; snap?: boolean; set?: { k: string }[]; del?: string[]; error?: Refusal; lines?: Line[]; more?: boolean; done?: boolean;
  series?: Points[]; hello?: Hello; beat?: number;
}
export interface Hello { version: string; account: string; region: string; caller: string; registry: string; now: number }

const keyName = "berth-console-key";
export const session = signal<string | null>(localStorage.getItem(keyName));
export const hello = signal<Hello | null>(null);
// since when nothing comes; 0: it is live
export const down = signal(0);
export const skew = signal(0); // the server's clock less ours
export const now = signal(Date.now());
setInterval(() => { if (!document.hidden) now.value = Date.now() + skew.value; }, 1000);

export function setSession(key: string | null) {
  if (key) localStorage.setItem(keyName, key); else localStorage.removeItem(keyName);
  session.value = key;
}

export class Topic {
  rows = new Map<string, unknown>();
  version = signal(0);
  ready = false;
  error: Refusal | null = null;
  uses = 0;
  handler: ((m: Message) => void) | null = null;
  constructor(public id: number, public want: Want) {}
}

const topics = new Map<number, Topic>();
const byName = new Map<string, Topic>();
let next = 1, socket: WebSocket | null = null, heard = 0, wait = 300, hiddenTimer = 0, opening = false;

function send(v: unknown) { if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(v)); }

function take(m: Message) {
  if (m.hello) { hello.value = m.hello; skew.value = m.hello.now - Date.now(); return; }
  if (!m.sub) return;
  const t = topics.get(m.sub);
  if (!t) return;
  if (t.handler) { t.handler(m); return; }
  if (m.error) { t.error = m.error; t.ready = true; }
  else {
    if (m.snap) t.rows = new Map();
    for (const row of m.set ?? []) t.rows.set(row.k, row);
    for (const k of m.del ?? []) t.rows.delete(k);
    t.error = null; t.ready = true;
  }
  t.version.value++;
}

export function connect() {
  if (socket || opening || !session.value || document.hidden) return;
  opening = true;
  const ws = new WebSocket((location.protocol === "https:" ? "wss://" : "ws://") + location.host + "/console/api/live");
  socket = ws;
  heard = Date.now();
  ws.onopen = () => {
    opening = false;
    send({ key: session.value });
    for (const t of topics.values()) send({ sub: t.id, ...t.want });
  };
  ws.onmessage = (e) => {
    heard = Date.now(); wait = 300;
    if (down.value) down.value = 0;
    take(JSON.parse(e.data));
  };
  ws.onclose = (e) => {
    opening = false;
    if (socket === ws) socket = null;
    if (e.code === 4401) { setSession(null); return; }
    if (document.hidden && hiddenTimer < 0) return;
    if (!down.value) down.value = Date.now();
    setTimeout(connect, wait);
    wait = Math.min(wait * 2, 5000);
  };
}

setInterval(() => {
  if (!socket || document.hidden) return;
  if (Date.now() - heard > 9000) { if (!down.value) down.value = heard; socket.close(); socket = null; opening = false; connect(); }
}, 1000);
setInterval(() => send({ beat: true }), 30000);

document.addEventListener("visibilitychange", () => {
  clearTimeout(hiddenTimer);
  if (document.hidden) hiddenTimer = window.setTimeout(() => { hiddenTimer = -1; socket?.close(); socket = null; }, 60000);
  else { hiddenTimer = 0; heard = Date.now(); connect(); }
});

function add(want: Want, handler: ((m: Message) => void) | null): Topic {
  const t = new Topic(next++, want);
  t.handler = handler;
  topics.set(t.id, t);
  send({ sub: t.id, ...want });
  return t;
}
function remove(t: Topic) { topics.delete(t.id); send({ unsub: t.id }); }

/** Rows of a topic, kept up to date; several users share one subscription. */
export function useTopic<T>(want: Want | null): { rows: Map<string, T>; list: T[]; ready: boolean; error: Refusal | null; version: number } {
  const name = want ? JSON.stringify(want) : "";
  const topic = useMemo(() => {
    if (!want) return null;
    let t = byName.get(name);
    if (!t) { t = add(want, null); byName.set(name, t); }
    return t;
  }, [name]);
  useEffect(() => {
    if (!topic) return;
    topic.uses++;
    return () => {
      topic.uses--;
      setTimeout(() => { if (topic.uses === 0 && byName.get(name) === topic) { byName.delete(name); remove(topic); } }, 2000);
    };
  }, [topic]);
  const version = topic ? topic.version.value : 0;
  const list = useMemo(() => topic ? [...topic.rows.values()] as T[] : [], [topic, version]);
  return { rows: (topic?.rows ?? new Map()) as Map<string, T>, list, ready: topic?.ready ?? false, error: topic?.error ?? null, version };
}

/** A stream, such as lines of logs: each message goes to f. */
export function stream(want: Want, f: (m: Message) => void): () => void {
  const t = add(want, f);
  return () => remove(t);
}

export function useSeries(want: Want | null): { series: Points[] | null; error: Refusal | null } {
  const out = useMemo<Signal<{ series: Points[] | null; error: Refusal | null }>>(() => signal({ series: null, error: null }), [JSON.stringify(want)]);
  useEffect(() => want ? stream(want, (m) => { out.value = m.error ? { series: null, error: m.error } : { series: m.series ?? [], error: null }; }) : undefined, [JSON.stringify(want)]);
  return out.value;
}

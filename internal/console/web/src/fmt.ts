import { now } from "./live";

export const bytes = (n: number) => n < 1024 ? `${n} B` : n < 1 << 20 ? `${(n / 1024).toFixed(0)} KiB` : n < 1 << 30 ? `${(n / (1 << 20)).toFixed(1)} MiB` : `${(n / (1 << 30)).toFixed(2)} GiB`;
export const mib = (n: number) => n >= 10240 ? `${(n / 1024).toFixed(1)} GiB` : `${n} MiB`;
export function span(ms: number): string {
  if (ms < 0) ms = 0;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const s = ms / 1000;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 120) return `${Math.round(s)} s`;
  if (s < 7200) return `${Math.round(s / 60)} min`;
  if (s < 172800) return `${Math.round(s / 3600)} h`;
  return `${Math.round(s / 86400)} d`;
}
export const ago = (ms: number) => ms ? span(now.value - ms) : "–";
export const clock = (ms: number) => ms ? new Date(ms).toLocaleTimeString("en-GB") : "–";
export const stamp = (ms: number) => { const d = new Date(ms); return d.toLocaleTimeString("en-GB") + "." + String(d.getMilliseconds()).padStart(3, "0"); };
export const day = (ms: number) => ms ? new Date(ms).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "medium" }) : "–";
export const tail = (arn: string) => arn.slice(arn.lastIndexOf("/") + 1);
export const short = (id: string) => id.slice(0, 12);
export const plural = (n: number, one: string, many = one + "s") => `${n} ${n === 1 ? one : many}`;
export function image(ref: string): string { const i = ref.indexOf("@"); return i < 0 ? ref : ref.slice(0, i + 20); }

/** fuzzy tells how well needle's letters are found in hay, in order; 0: not at all. */
export function fuzzy(needle: string, hay: string): number {
  const n = needle.toLowerCase(), h = hay.toLowerCase();
  if (!n) return 1;
  const at = h.indexOf(n);
  if (at >= 0) return 1000 - at - h.length / 100;
  let i = 0, score = 0, last = -2;
  for (let j = 0; j < h.length && i < n.length; j++) if (h[j] === n[i]) { score += last === j - 1 ? 5 : 1; if (j === 0 || /[^a-z0-9]/.test(h[j - 1])) score += 3; last = j; i++; }
  return i === n.length ? score : 0;
}

const secretName = /pass|secret|token|key|credential/i, secretValue = /^(AKIA|ASIA)[A-Z0-9]{16}$|^-----BEGIN|^eyJ[\w-]+\./;
export const isSecret = (name: string, value: string) => secretName.test(name) || secretValue.test(value);
/** hide replaces secret values of a task definition by dots. */
export function hide(v: any): any {
  if (Array.isArray(v)) return v.map((x) => x && typeof x === "object" && "name" in x && typeof x.value === "string" && isSecret(x.name, x.value) ? { ...x, value: "••••••" } : hide(x));
  if (v && typeof v === "object") return Object.fromEntries(Object.entries(v).map(([k, x]) => [k, hide(x)]));
  return v;
}

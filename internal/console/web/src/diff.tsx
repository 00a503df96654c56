// The difference of two revisions of a task definition: what matters first, in words.
import type { Json } from "./api";
import { isSecret } from "./fmt";

export interface Change { what: string; a: string; b: string; weight: number }
const show = (v: Json) => v === undefined || v === null ? "–" : typeof v === "object" ? JSON.stringify(v) : String(v);

export function changes(a: Json, b: Json): Change[] {
  const out: Change[] = [];
  const add = (what: string, x: Json, y: Json, weight: number) => { if (show(x) !== show(y)) out.push({ what, a: show(x), b: show(y), weight }); };
  for (const k of ["cpu", "memory"]) add(k, a[k], b[k], 1);
  const skip = new Set(["revision", "taskDefinitionArn", "registeredAt", "registeredBy", "deregisteredAt", "containerDefinitions", "cpu", "memory", "status", "compatibilities", "requiresAttributes"]);
  for (const k of new Set([...Object.keys(a), ...Object.keys(b)])) if (!skip.has(k)) add(k, a[k], b[k], 5);
  const by = (d: Json) => new Map<string, Json>((d.containerDefinitions ?? []).map((c: Json) => [c.name, c]));
  const ca = by(a), cb = by(b);
  for (const name of new Set([...ca.keys(), ...cb.keys()])) {
    const x = ca.get(name), y = cb.get(name);
    if (!x || !y) { out.push({ what: `container ${name}`, a: x ? "there" : "–", b: y ? "there" : "–", weight: 0 }); continue; }
    add(`${name} image`, x.image, y.image, 0);
    const ports = (c: Json) => (c.portMappings ?? []).map((p: Json) => p.containerPort).join(", ") || undefined;
    add(`${name} ports`, ports(x), ports(y), 2);
    for (const k of ["cpu", "memory", "memoryReservation"]) add(`${name} ${k}`, x[k], y[k], 1);
    const env = (c: Json) => new Map<string, string>((c.environment ?? []).map((e: Json) => [e.name, e.value]));
    const ea = env(x), eb = env(y);
    for (const n of new Set([...ea.keys(), ...eb.keys()])) {
      const p = ea.get(n), q = eb.get(n);
      if (p === q) continue;
      const secret = isSecret(n, p ?? "") || isSecret(n, q ?? "");
      out.push({ what: `${name} env ${n}`, a: p === undefined ? "–" : secret ? "••••••" : p, b: q === undefined ? "–" : secret ? (p === undefined ? "••••••" : "changed") : q, weight: 3 });
    }
    const own = new Set(["name", "image", "portMappings", "cpu", "memory", "memoryReservation", "environment"]);
    for (const k of new Set([...Object.keys(x), ...Object.keys(y)])) if (!own.has(k)) add(`${name} ${k}`, x[k], y[k], 4);
  }
  return out.sort((p, q) => p.weight - q.weight);
}

export function Diff({ a, b, la, lb }: { a: Json; b: Json; la: string; lb: string }) {
  const list = changes(a, b);
  if (!list.length) return <p class="dim">{la} and {lb} are the same.</p>;
  return <div class="scroll" tabIndex={0} role="region" aria-label="Changes"><table class="diff"><caption class="hide">What changes from {la} to {lb}</caption><thead><tr><th>What</th><th>{la}</th><th>{lb}</th></tr></thead>
    <tbody>{list.map((c) => <tr key={c.what}><th scope="row">{c.what}</th><td class="del">{c.a}</td><td class="ins">{c.b}</td></tr>)}</tbody></table></div>;
}

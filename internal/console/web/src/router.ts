import { signal } from "@preact/signals";

const base = "/console";
export const path = signal(strip(location.pathname));
export const query = signal(location.search);
function strip(p: string) { return p.startsWith(base) ? p.slice(base.length) || "/" : "/"; }

export const href = (p: string) => base + p;
export function go(p: string, replace = false) {
  const [where, q] = p.split("?");
  if (replace) history.replaceState(null, "", base + p); else history.pushState(null, "", base + p);
  path.value = where; query.value = q ? "?" + q : "";
  if (!replace) { window.scrollTo(0, 0); document.getElementById("main")?.focus({ preventScroll: true }); }
}
window.addEventListener("popstate", () => { path.value = strip(location.pathname); query.value = location.search; });
document.addEventListener("click", (e) => {
  const a = (e.target as Element).closest?.("a");
  if (!a || e.defaultPrevented || e.button || e.metaKey || e.ctrlKey || e.shiftKey || a.target || a.hasAttribute("download") || a.origin !== location.origin || !a.pathname.startsWith(base)) return;
  e.preventDefault();
  go(strip(a.pathname) + a.search);
});
export const param = (name: string) => new URLSearchParams(query.value).get(name) ?? "";
export function setParam(name: string, value: string) {
  const q = new URLSearchParams(query.value);
  if (value) q.set(name, value); else q.delete(name);
  const s = q.toString();
  go(path.value + (s ? "?" + s : ""), true);
}

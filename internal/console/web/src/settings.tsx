import { useEffect, useState } from "preact/hooks";
import { signal } from "@preact/signals";
import { aws, logout, revoke, type Json } from "./api";
import { ago } from "./fmt";
import { hello, setSession, useTopic } from "./live";
import { AllEvents } from "./cluster";
import type { SessionRow } from "./rows";
import { Code, Empty, Head, Problem, Section, Tabs, say } from "./ui";
import { tail } from "./fmt";

export const theme = signal(localStorage.getItem("berth-theme") ?? "");
export const keysOn = signal(localStorage.getItem("berth-keys") !== "off");
export function setTheme(v: string) { theme.value = v; localStorage.setItem("berth-theme", v); if (v) document.documentElement.dataset.theme = v; else delete document.documentElement.dataset.theme; }
setTheme(theme.value);

export function Settings({ tab }: { tab: string }) {
  return <><Head title="Settings" sub={hello.value && `Berth ${hello.value.version}, account ${hello.value.account}, region ${hello.value.region}`} />
    <Tabs base="/settings" at={tab} tabs={[["", "Preferences"], ["keys", "Keys and users"], ["sessions", "Sessions"], ["doctor", "Doctor"]]} />
    {tab === "" && <Section title="Preferences"><label class="field"><span>Theme</span><select value={theme.value} onChange={(e) => setTheme(e.currentTarget.value)}><option value="">as the system</option><option value="light">light</option><option value="dark">dark</option></select></label>
      <label class="inline"><input type="checkbox" checked={keysOn.value} onChange={(e) => { keysOn.value = e.currentTarget.checked; localStorage.setItem("berth-keys", keysOn.value ? "on" : "off"); }} /> Single-letter keys</label></Section>}
    {tab === "sessions" && <Sessions />}
    {tab === "keys" && <Users />}
    {tab === "doctor" && <Section title="Doctor"><p>The doctor looks at the machine itself, so it runs there:</p><Code text="berth doctor" /></Section>}</>;
}

function Users() {
  const [v, set] = useState<Json[] | null>(null), [err, setErr] = useState("");
  useEffect(() => { aws("iam", "ListUsers").then((o) => set(o.Users ?? [])).catch((e) => setErr(e.message)); }, []);
  return <><Section title="You"><dl class="kv"><dt>Logged in as</dt><dd class="mono">{hello.value?.caller}</dd></dl><p>A shell for this Berth:</p><Code text={'eval "$(berth env)"'} /></Section>
    <Section title="Users">{err ? <Empty>Users cannot be listed: {err}</Empty> : v && (v.length === 0 ? <Empty cmd="aws iam create-user --user-name ann">No users yet; whoever has the root key may do everything.</Empty> : <table><thead><tr><th>Name</th><th>ARN</th></tr></thead><tbody>{v.map((u) => <tr key={u.Arn}><td>{u.UserName}</td><td class="mono">{u.Arn}</td></tr>)}</tbody></table>)}</Section></>;
}

function Sessions() {
  const { list, error } = useTopic<SessionRow>({ topic: "sessions" });
  if (error) return <Problem error={error} />;
  return <Section title="Sessions" side={<button onClick={() => { void logout().finally(() => setSession(null)); }}>Log out</button>}><div class="scroll" tabIndex={0} role="region" aria-label="Table of sessions"><table><thead><tr><th>Who</th><th>From</th><th>Browser</th><th>Made</th><th>Used</th><th>Do</th></tr></thead><tbody>{list.map((s) => <tr key={s.k}><td>{tail(s.arn)}{s.mine && <span class="dim"> this one</span>}</td><td>{s.address}</td><td>{s.agent.replace(/Mozilla\/5.0 /, "").slice(0, 60)}</td><td>{ago(s.created)} ago</td><td>{ago(s.used)} ago</td><td>{!s.mine && <button class="small" onClick={() => { revoke(s.k).then(() => say("The session has ended.")).catch((e) => say(e.message)); }}>End</button>}</td></tr>)}</tbody></table></div></Section>;
}
export function EventsPage() { return <><Head title="Events" /><AllEvents /></>; }

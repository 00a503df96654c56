import { useEffect, useRef, useState } from "preact/hooks";
import { check, type Json, type Refused } from "./api";
import { blank, deployRevision, describe, run } from "./actions";
import { Diff } from "./diff";
import { day, hide, image } from "./fmt";
import { useTopic } from "./live";
import { go, param, setParam } from "./router";
import type { ClusterRow, FamilyRow, ServiceRow } from "./rows";
import { act, Code, Copy, Empty, Head, Link, Problem, Recipe, Section, Status, Table } from "./ui";

export function TaskDefs() {
  const { list, ready, error } = useTopic<FamilyRow>({ topic: "taskdefs" });
  if (error) return <Problem error={error} />;
  return <><Head title="Task definitions"><button class="primary" onClick={() => go("/taskdefs/new")}>New</button></Head>
    <Section title="Families">{ready && <Table label="Task definitions" rows={list} to={(r) => `/taskdefs/${r.k}/${r.latest}`} text={(r) => r.k + " " + r.images.join(" ")} empty={<Empty cmd="aws ecs register-task-definition --cli-input-json file://web.json">No task definition yet. <Link to="/taskdefs/new">Write one</Link>, or register a file:</Empty>} cols={[
      { key: "family", head: "Family", sort: (r) => r.k, cell: (r) => <Link to={`/taskdefs/${r.k}/${r.latest}`}>{r.k}</Link> }, { key: "rev", head: "Latest", width: "70px", num: true, sort: (r) => -r.latest, cell: (r) => r.latest },
      { key: "size", head: "Size", minor: true, cell: (r) => [r.cpu && `${r.cpu} units`, r.mem && `${r.mem} MiB`].filter(Boolean).join(", ") }, { key: "image", head: "Images", width: "minmax(0,2fr)", minor: true, cell: (r) => <span class="mono">{r.images.map(image).join(", ")}</span> }, { key: "used", head: "Used by", cell: (r) => r.usedBy?.join(", ") ?? <span class="dim">nobody</span> }]} />}</Section></>;
}

function useDef(name: string): [Json | null, Refused | null] {
  const [v, set] = useState<[Json | null, Refused | null]>([null, null]);
  useEffect(() => { let on = true; set([null, null]); if (name) describe(name).then((d) => on && set([d, null])).catch((e) => on && set([null, e])); return () => { on = false; }; }, [name]);
  return v;
}

export function TaskDef({ family, rev }: { family: string; rev?: string }) {
  const { rows, list } = useTopic<FamilyRow>({ topic: "taskdefs" });
  const { list: clusters } = useTopic<ClusterRow>({ topic: "clusters" });
  const { list: services } = useTopic<ServiceRow>({ topic: "services" });
  const f = rows.get(family), at = Number(rev) || f?.latest || 0, name = `${family}:${at}`;
  const [def, error] = useDef(at ? name : "");
  if (!list.length) return null;
  if (error) return <Problem error={error} />;
  const used = services.filter((s) => s.family === family && s.rev === at);
  const before = f?.active.find((r) => r < at);
  return <><Head title={name} status={def && <Status level={def.status === "ACTIVE" ? "fine" : "off"}>{def.status.toLowerCase()}</Status>} sub={def && <>registered {day(def.registeredAt * 1000)}</>}>
    <button class="primary" onClick={() => go(`/taskdefs/new?from=${name}`)}>New revision</button><button onClick={() => run(name, clusters.map((c) => c.k))}>Run</button>
    {services.filter((s) => s.family === family).map((s) => <button key={s.k} onClick={() => deployRevision(s, [name])}>Deploy to {s.name}</button>)}
    {def?.status === "ACTIVE" && <button class="danger" onClick={() => act({ title: `Deregister ${name}`, verb: "Deregister", danger: true, text: used.length ? `${used.map((s) => s.name).join(", ")} runs it and goes on to; new deployments cannot use it.` : "New deployments cannot use it.", calls: () => [{ service: "ecs", op: "DeregisterTaskDefinition", input: { taskDefinition: name } }] })}>Deregister</button>}</Head>
    <Section title="Revisions" side={before ? <Link to={`/taskdefs/${family}/diff?a=${before}&b=${at}`}>Compare with r{before}</Link> : undefined}><p>{f?.active.slice(0, 20).map((r) => <span key={r}><Link to={`/taskdefs/${family}/${r}`}>{r === at ? <b>r{r}</b> : `r${r}`}</Link> </span>)}</p><p class="dim">{used.length ? `${used.map((s) => s.k).join(", ")} runs this revision.` : "No service runs this revision."}</p></Section>
    {def && <Section title="Containers"><div class="scroll" tabIndex={0} role="region" aria-label="Table of containers"><table><thead><tr><th>Name</th><th>Image</th><th>Ports</th><th>CPU</th><th>Memory</th><th>Logs</th></tr></thead><tbody>{def.containerDefinitions.map((c: Json) => <tr key={c.name}><td>{c.name}</td><td class="mono">{image(c.image)}</td><td>{(c.portMappings ?? []).map((p: Json) => p.containerPort).join(", ")}</td><td>{c.cpu || ""}</td><td>{c.memory ?? c.memoryReservation ?? ""}</td><td>{c.logConfiguration?.options?.["awslogs-group"] ?? c.logConfiguration?.logDriver ?? ""}</td></tr>)}</tbody></table></div></Section>}
    {def && <Section title="JSON" side={<Copy label="Copy ARN" text={def.taskDefinitionArn} />}><Code text={JSON.stringify(hide(def), null, 2)} label="Task definition as JSON" /></Section>}</>;
}

export function TaskDefDiff({ family }: { family: string }) {
  const { rows } = useTopic<FamilyRow>({ topic: "taskdefs" });
  const f = rows.get(family), a = param("a"), b = param("b");
  const [da] = useDef(a ? `${family}:${a}` : ""), [db] = useDef(b ? `${family}:${b}` : "");
  const pick = (n: string, v: string) => <select aria-label={n === "a" ? "From revision" : "To revision"} value={v} onChange={(e) => setParam(n, e.currentTarget.value)}>{[...new Set([...(f?.active ?? []).map(String), v])].map((r) => <option key={r}>{r}</option>)}</select>;
  return <><Head title={`${family}: r${a} and r${b}`}>{pick("a", a)}{pick("b", b)}</Head><Section title="What changes">{da && db && <Diff a={da} b={db} la={`r${a}`} lb={`r${b}`} />}</Section></>;
}

const fresh = (): Json => ({ family: "web", networkMode: "awsvpc", cpu: "256", memory: "512", containerDefinitions: [{ name: "web", image: "nginx:alpine", essential: true, portMappings: [{ containerPort: 80 }], environment: [] }] });

/** Form and JSON are two views of one document, which the real handler checks as it is typed. */
export function TaskDefEditor() {
  const from = param("from"), target = param("service");
  const { rows: services } = useTopic<ServiceRow>({ topic: "services" });
  const [doc, setDoc] = useState<Json>(null), [text, setText] = useState(""), [bad, setBad] = useState(""), [refused, setRefused] = useState<Refused | null>(null), [ok, setOk] = useState(false), [base, setBase] = useState<Json>(null);
  const put = (d: Json) => { setDoc(d); setText(JSON.stringify(d, null, 2)); setBad(""); };
  useEffect(() => { if (!from) { put(fresh()); return; } void describe(from).then((d) => { const b = blank(d); setBase(structuredClone(b)); put(b); }).catch(setRefused); }, [from]);
  const turn = useRef(0);
  useEffect(() => {
    if (!doc || bad) return;
    setOk(false);
    const mine = ++turn.current, stop = new AbortController();
    const t = setTimeout(() => { check({ service: "ecs", op: "RegisterTaskDefinition", input: doc }, stop.signal).then(() => { if (mine === turn.current) { setRefused(null); setOk(true); } }).catch((e) => { if (mine === turn.current && e.name !== "AbortError") setRefused(e); }); }, 300);
    return () => { clearTimeout(t); stop.abort(); };
  }, [doc, bad]);
  if (!doc) return refused ? <Problem error={refused} /> : null;
  const edit = (f: (d: Json) => void) => { const d = structuredClone(doc); f(d); put(d); };
  const field = (label: string, value: Json, set: (d: Json, v: string) => void, hint?: string) => <label class="field"><span>{label}</span><input value={value ?? ""} onInput={(e) => { const v = e.currentTarget.value; edit((d) => set(d, v)); }} />{hint && <small>{hint}</small>}</label>;
  const number = (v: string) => v.trim() === "" ? undefined : Number.isNaN(Number(v)) ? v : Number(v);
  const svc = services.get(target);
  const calls = [{ service: "ecs", op: "RegisterTaskDefinition", input: doc }];
  const save = () => act({ title: `Register ${doc.family}`, verb: svc ? "Register, then deploy" : "Register", calls: () => calls, asked: "Registered.", done: (o) => { const d = o[0].taskDefinition; go(`/taskdefs/${d.family}/${d.revision}`); if (svc) deployRevision(svc, [`${d.family}:${d.revision}`]); } });
  return <><Head title={from ? `New revision of ${from.split(":")[0]}` : "New task definition"} status={bad ? <Status level="bad">no JSON</Status> : refused ? <Status level="bad">refused</Status> : ok ? <Status level="fine">accepted</Status> : <Status level="going">checked</Status>} sub={svc && <>for service {svc.name}</>}><button class="primary" disabled={!ok || !!bad} onClick={save}>Register</button></Head>
    {(bad || refused) && <Problem error={bad ? { code: "SerializationException", message: bad } : refused!} />}
    <div class="two"><Section title="Form">
      <div class="fields">{field("Family", doc.family, (d, v) => { d.family = v; })}{field("CPU units", doc.cpu, (d, v) => { d.cpu = v || undefined; })}{field("Memory, MiB", doc.memory, (d, v) => { d.memory = v || undefined; })}
        <label class="field"><span>Network mode</span><select value={doc.networkMode ?? "bridge"} onChange={(e) => { const v = e.currentTarget.value; edit((d) => { d.networkMode = v; }); }}>{["awsvpc", "bridge", "host", "none"].map((o) => <option key={o}>{o}</option>)}</select></label></div>
      {(doc.containerDefinitions ?? []).map((c: Json, i: number) => <fieldset key={i}><legend>{c.name || "container"}</legend>
        <div class="fields">{field("Name", c.name, (d, v) => { d.containerDefinitions[i].name = v; })}{field("Image", c.image, (d, v) => { d.containerDefinitions[i].image = v; })}{field("Port", c.portMappings?.[0]?.containerPort, (d, v) => { d.containerDefinitions[i].portMappings = v ? [{ ...c.portMappings?.[0], containerPort: number(v) }, ...(c.portMappings ?? []).slice(1)] : undefined; })}
          {field("Memory, MiB", c.memory, (d, v) => { d.containerDefinitions[i].memory = number(v); })}{field("Command", (c.command ?? []).join(" "), (d, v) => { d.containerDefinitions[i].command = v ? v.split(" ") : undefined; })}
          {field("Log group", c.logConfiguration?.options?.["awslogs-group"], (d, v) => { d.containerDefinitions[i].logConfiguration = v ? { logDriver: "awslogs", options: { ...c.logConfiguration?.options, "awslogs-group": v, "awslogs-region": "us-east-1", "awslogs-stream-prefix": c.name, "awslogs-create-group": "true" } } : undefined; })}</div>
        <label class="field"><span>Environment, NAME=value a line</span><textarea class="env" value={(c.environment ?? []).map((e: Json) => `${e.name}=${e.value}`).join("\n")} onChange={(e) => { const v = e.currentTarget.value; edit((d) => { d.containerDefinitions[i].environment = v.split("\n").filter(Boolean).map((l) => { const at = l.indexOf("="); return { name: at < 0 ? l : l.slice(0, at), value: at < 0 ? "" : l.slice(at + 1) }; }); }); }} /></label>
        {doc.containerDefinitions.length > 1 && <button class="small" onClick={() => edit((d) => { d.containerDefinitions.splice(i, 1); })}>Remove container</button>}</fieldset>)}
      <button onClick={() => edit((d) => { d.containerDefinitions.push({ name: "sidecar", image: "", essential: false }); })}>Add a container</button></Section>
      <Section title="JSON"><textarea aria-label="Task definition as JSON" spellcheck={false} value={text} onInput={(e) => { const v = e.currentTarget.value; setText(v); try { setDoc(JSON.parse(v)); setBad(""); } catch (x) { setBad((x as Error).message); } }} /></Section></div>
    {base && <Section title="What changes"><Diff a={base} b={doc} la={from} lb="new" /></Section>}
    <Section title="As code"><Recipe calls={calls} /></Section></>;
}

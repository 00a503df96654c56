// From an image to a running service with a URL: a plan that is shown as code, then carried out step by step.
import { useState } from "preact/hooks";
import { aws, call, type Call, type Json, type Refused } from "./api";
import { servicePath } from "./actions";
import { hello, useTopic } from "./live";
import { go, param, setParam } from "./router";
import type { BalancerRow, ClusterRow } from "./rows";
import { Code, Head, Problem, Recipe, Section, Status } from "./ui";

interface Step { title: string; call: Call; undo?: (out: Json) => Call; keep?: (out: Json) => void; made?: (out: Json) => string }

export function Deploy() {
  const { list: clusters } = useTopic<ClusterRow>({ topic: "clusters" });
  const { list: balancers } = useTopic<BalancerRow>({ topic: "balancers" });
  const from = param("from") || "image", region = hello.value?.region ?? "us-east-1", host = hello.value?.registry ?? "localhost:4566";
  const [f, set] = useState<Record<string, string>>({ image: param("image") || "nginx:alpine", name: (param("image") || "web").split("/").pop()!.split(/[:@]/)[0] || "web", cluster: param("cluster") || "default", port: "80", cpu: "256", memory: "512", count: "1", path: "/*", lb: "", listen: "8080", git: "https://github.com/you/app.git" });
  const [at, setAt] = useState(-1), [outs, setOuts] = useState<string[]>([]), [undo, setUndo] = useState<Call[]>([]), [error, setError] = useState<Refused | null>(null);
  const put = (k: string) => (e: Event) => set({ ...f, [k]: (e.currentTarget as HTMLInputElement).value });
  const lb = balancers.find((b) => b.name === (f.lb || balancers[0]?.name)), wantsURL = f.path.trim() !== "";
  const known: Record<string, string> = {};
  const steps = (k: Record<string, string>): Step[] => {
    const group = `/${f.cluster}/${f.name}`, all: Step[] = [];
    all.push({ title: `Log group ${group}`, call: { service: "logs", op: "CreateLogGroup", input: { logGroupName: group } }, undo: () => ({ service: "logs", op: "DeleteLogGroup", input: { logGroupName: group } }) });
    all.push({ title: `Task definition ${f.name}`, call: { service: "ecs", op: "RegisterTaskDefinition", input: { family: f.name, networkMode: "awsvpc", cpu: f.cpu, memory: f.memory, containerDefinitions: [{ name: f.name, image: f.image, essential: true, portMappings: [{ containerPort: Number(f.port) }], logConfiguration: { logDriver: "awslogs", options: { "awslogs-group": group, "awslogs-region": region, "awslogs-stream-prefix": f.name } } }] } },
      keep: (o) => { known.def = `${o.taskDefinition.family}:${o.taskDefinition.revision}`; }, made: (o) => `${o.taskDefinition.family}:${o.taskDefinition.revision}`, undo: (o) => ({ service: "ecs", op: "DeregisterTaskDefinition", input: { taskDefinition: `${o.taskDefinition.family}:${o.taskDefinition.revision}` } }) });
    if (wantsURL) {
      if (!lb) all.push({ title: "Load balancer web", call: { service: "elasticloadbalancing", op: "CreateLoadBalancer", input: { Name: "web", Subnets: (k.subnets ?? "$SUBNETS").split(" ") } }, keep: (o) => { known.lb = o.LoadBalancers[0].LoadBalancerArn; }, made: (o) => o.LoadBalancers[0].DNSName, undo: (o) => ({ service: "elasticloadbalancing", op: "DeleteLoadBalancer", input: { LoadBalancerArn: o.LoadBalancers[0].LoadBalancerArn } }) });
      all.push({ title: `Target group ${f.name}`, call: { service: "elasticloadbalancing", op: "CreateTargetGroup", input: { Name: f.name, Protocol: "HTTP", Port: Number(f.port), VpcId: k.vpc ?? "$VPC_ID", TargetType: "ip" } }, keep: (o) => { known.group = o.TargetGroups[0].TargetGroupArn; }, undo: (o) => ({ service: "elasticloadbalancing", op: "DeleteTargetGroup", input: { TargetGroupArn: o.TargetGroups[0].TargetGroupArn } }) });
      const forward = [{ Type: "forward", TargetGroupArn: k.group ?? "$TARGET_GROUP_ARN" }], listener = lb?.listeners.find((l) => !l.problem);
      if (listener) { const used = new Set(listener.rules.map((r) => r.priority)); let n = 10; while (used.has(String(n))) n++; all.push({ title: `Rule ${f.path} on :${listener.port}`, call: { service: "elasticloadbalancing", op: "CreateRule", input: { ListenerArn: listener.arn, Priority: n, Conditions: [{ Field: "path-pattern", Values: [f.path] }], Actions: forward } }, undo: (o) => ({ service: "elasticloadbalancing", op: "DeleteRule", input: { RuleArn: o.Rules[0].RuleArn } }) }); }
      else all.push({ title: `Listener :${f.listen}`, call: { service: "elasticloadbalancing", op: "CreateListener", input: { LoadBalancerArn: lb?.k ?? k.lb ?? "$LOAD_BALANCER_ARN", Protocol: "HTTP", Port: Number(f.listen), DefaultActions: forward } }, undo: (o) => ({ service: "elasticloadbalancing", op: "DeleteListener", input: { ListenerArn: o.Listeners[0].ListenerArn } }) });
    }
    all.push({ title: `Service ${f.name}`, call: { service: "ecs", op: "CreateService", input: { cluster: f.cluster, serviceName: f.name, taskDefinition: k.def ?? f.name, desiredCount: Number(f.count), launchType: "EC2", networkConfiguration: { awsvpcConfiguration: { subnets: (k.subnets ?? "$SUBNETS").split(" ") } },
      deploymentConfiguration: { deploymentCircuitBreaker: { enable: true, rollback: true } }, ...(wantsURL ? { loadBalancers: [{ targetGroupArn: k.group ?? "$TARGET_GROUP_ARN", containerName: f.name, containerPort: Number(f.port) }] } : {}) } } });
    return all;
  };
  const plan = steps({});
  const start = async () => {
    setError(null); setOuts([]); const made: Call[] = [];
    try {
      const subnets = await aws("ec2", "DescribeSubnets");
      known.subnets = subnets.Subnets.map((s: Json) => s.SubnetId).join(" "); known.vpc = subnets.Subnets[0].VpcId;
      for (let i = 0; i < plan.length; i++) {
        setAt(i);
        const s = steps(known)[i];
        let out: Json;
        try { out = await call(s.call); } catch (e) { if ((e as Refused).code === "ResourceAlreadyExistsException") { setOuts((o) => [...o, "was there"]); continue; } throw e; }
        s.keep?.(out);
        if (s.undo) made.unshift(s.undo(out));
        setUndo([...made]); setOuts((o) => [...o, s.made?.(out) ?? "done"]);
      }
      go(servicePath(f.cluster, f.name));
    } catch (e) { setError(e as Refused); }
  };
  const takeBack = async () => { for (const c of undo) { try { await call(c); } catch (e) { setError(e as Refused); return; } } setUndo([]); setAt(-1); setOuts([]); setError(null); };
  const input = (k: string, label: string, kind = "text", hint = "") => <label class="field"><span>{label}</span><input {...{ type: kind } as { type: "text" }} value={f[k]} onInput={put(k)} />{hint && <small>{hint}</small>}</label>;
  return <><Head title="Deploy" sub="An image becomes a running service with a URL." />
    <div class="tabs" role="group" aria-label="From">{[["image", "An image"], ["folder", "A Dockerfile"], ["git", "A git repository"]].map(([k, l]) => <button key={k} aria-pressed={from === k} onClick={() => setParam("from", k === "image" ? "" : k)}>{l}</button>)}</div>
    {from === "folder" && <Section title="Build it first"><p>In the folder of the Dockerfile; the image goes to Berth's registry:</p><Code text={`berth build -t ${f.name}:v1 .`} /><p>Then deploy <code>{host}/{f.name}:v1</code>.</p><button onClick={() => { set({ ...f, image: `${host}/${f.name}:v1` }); setParam("from", ""); }}>Go on with that image</button></Section>}
    {from === "git" && <Section title="Build it first">{input("git", "Repository")}<Code text={`git clone --depth 1 ${f.git} ${f.name} && berth build -t ${f.name}:v1 ${f.name}`} /><button onClick={() => { set({ ...f, image: `${host}/${f.name}:v1` }); setParam("from", ""); }}>Go on with that image</button></Section>}
    <div class="two"><Section title="What"><form onSubmit={(e) => { e.preventDefault(); void start(); }}><div class="fields">{input("image", "Image")}{input("name", "Name")}{input("port", "Container port", "number", "as in the Dockerfile's EXPOSE")}{input("cpu", "CPU units", "number")}{input("memory", "Memory, MiB", "number")}{input("count", "Tasks", "number")}
      <label class="field"><span>Cluster</span><select value={f.cluster} onChange={put("cluster")}>{[...new Set([f.cluster, ...clusters.map((c) => c.k)])].map((c) => <option key={c}>{c}</option>)}</select></label>
      {input("path", "Path", "text", "empty: no load balancer")}{wantsURL && (balancers.length ? <label class="field"><span>Load balancer</span><select value={lb?.name} onChange={put("lb")}>{balancers.map((b) => <option key={b.k}>{b.name}</option>)}</select></label> : input("listen", "Listener port", "number"))}</div>
      <button class="primary" disabled={at >= 0 && !error}>Deploy</button></form></Section>
      <Section title="Plan"><ol class="timeline">{plan.map((s, i) => <li key={s.title} class={i === at ? "now" : ""}><Status level={i < outs.length ? "fine" : i === at ? (error ? "bad" : "going") : "off"}>{s.title}</Status> <span class="dim">{outs[i]}</span></li>)}</ol>
        {error && <><Problem error={error} />{undo.length > 0 && <p>{undo.length} of the steps are done and stay. <button class="small" onClick={() => void takeBack()}>Undo them</button></p>}</>}</Section></div>
    <Section title="As code"><Recipe calls={plan.map((s) => s.call)} /></Section></>;
}

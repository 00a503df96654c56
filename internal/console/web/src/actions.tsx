// What people do to services and tasks, and the cures that the console can carry out.
import { aws, call, type Json } from "./api";
import { go } from "./router";
import type { ContainerRow, Cure, NodeRow, ServiceRow, TaskRow } from "./rows";
import { act, say } from "./ui";
import { tail } from "./fmt";

const ecs = (op: string, input: Json) => ({ service: "ecs", op, input });
type Svc = Pick<ServiceRow, "cluster" | "name" | "manager" | "desired" | "family" | "rev">;

export const servicePath = (cluster: string, name: string) => `/clusters/${cluster}/services/${name}`;
export const taskPath = (cluster: string, id: string) => `/clusters/${cluster}/tasks/${id}`;

export const scale = (s: Svc, to: number) => act({ title: `Scale ${s.name}`, verb: "Scale", managed: s.manager, fields: [{ name: "n", label: "Tasks", kind: "number", value: String(Math.max(0, to)) }],
  text: `${s.name} is to have this many tasks; it has ${s.desired}.`, calls: (v) => [ecs("UpdateService", { cluster: s.cluster, service: s.name, desiredCount: Number(v.n) })] });
export const force = (s: Svc) => act({ title: `Restart ${s.name}`, verb: "Replace all tasks", managed: s.manager, text: "Every task is replaced by a new one of the same revision, without a pause.",
  calls: () => [ecs("UpdateService", { cluster: s.cluster, service: s.name, forceNewDeployment: true })] });
export const deployRevision = (s: Svc, revisions: string[], title = `Deploy ${s.name}`) => act({ title, verb: "Deploy", managed: s.manager, fields: [{ name: "def", label: "Task definition", kind: "select", value: revisions[0] ?? "", options: revisions }],
  text: "The service's tasks are replaced by those of this revision, as its deployment configuration allows.", calls: (v) => [ecs("UpdateService", { cluster: s.cluster, service: s.name, taskDefinition: v.def })] });
export const stopDeployment = (arn: string, rollback: boolean) => act({ title: rollback ? "Stop and roll back" : "Stop the deployment", verb: rollback ? "Roll back" : "Stop deployment", danger: true,
  text: rollback ? "The deployment under way is given up, and the service goes back to the revision before." : "The deployment stops where it is; nothing more is started.",
  calls: () => [ecs("StopServiceDeployment", { serviceDeploymentArn: arn, stopType: rollback ? "ROLLBACK" : "ABORT" })] });
export const remove = (s: Svc) => act({ title: `Delete ${s.name}`, verb: "Delete service", danger: true, typed: s.desired > 0 ? s.name : undefined, managed: s.manager, text: "Its tasks are stopped. Task definitions, images and logs stay.",
  calls: () => [ecs("DeleteService", { cluster: s.cluster, service: s.name, force: true })], done: () => go(`/clusters/${s.cluster}`) });
export const stopTask = (t: Pick<TaskRow, "cluster" | "k" | "service">) => act({ title: `Stop task ${t.k.slice(0, 12)}`, verb: "Stop task", danger: true, text: t.service ? `It is drained and ended; ${t.service} starts another.` : "It is ended; nothing starts it again.",
  fields: [{ name: "reason", label: "Reason, for the task's history", value: "" }], calls: (v) => [ecs("StopTask", { cluster: t.cluster, task: t.k, ...(v.reason ? { reason: v.reason } : {}) })] });
export const run = (def: string, clusters: string[], cluster?: string) => act({ title: `Run ${tail(def)}`, verb: "Run task", fields: [{ name: "cluster", label: "Cluster", kind: "select", value: cluster ?? clusters[0] ?? "default", options: clusters }, { name: "count", label: "How many", kind: "number", value: "1" }],
  calls: (v) => [ecs("RunTask", { cluster: v.cluster, taskDefinition: def, count: Number(v.count) })], done: (out) => { const t = out[0]?.tasks?.[0]; if (t) { const [, c, id] = t.taskArn.split(":").pop().split("/"); go(taskPath(c, id)); } } });
export const drain = (n: NodeRow, on: boolean) => act({ title: on ? `Drain ${n.host}` : `Activate ${n.host}`, verb: on ? "Drain node" : "Activate node", danger: on, text: on ? "Services move their tasks to other machines; nothing new is placed here. Tasks of their own run on." : "Tasks are placed here again.",
  calls: () => (n.members ?? []).map((m) => ecs("UpdateContainerInstancesState", { cluster: m.cluster, containerInstances: [m.arn], status: on ? "DRAINING" : "ACTIVE" })) });

// fields of a described task definition that registering it again does not take
const told = ["taskDefinitionArn", "revision", "status", "requiresAttributes", "compatibilities", "registeredAt", "registeredBy", "deregisteredAt", "deleteRequestedAt"];
export function blank(def: Json): Json { const d = { ...def }; for (const k of told) delete d[k]; for (const k of Object.keys(d)) if (Array.isArray(d[k]) && !d[k].length || d[k] === null) delete d[k]; return d; }
export const describe = async (def: string): Promise<Json> => (await aws("ecs", "DescribeTaskDefinition", { taskDefinition: def })).taskDefinition;

/** A new revision with one thing changed, and its deployment. */
async function revise(s: Svc | null, def: string, what: string, label: string, value: string, kind: "number" | "text", change: (d: Json, v: string) => void) {
  let base: Json;
  try { base = blank(await describe(def)); } catch (e) { say((e as Error).message); return; }
  const family = base.family;
  const made = (v: string) => { const d = structuredClone(base); change(d, v); return d; };
  let next = Number(def.split(":").pop()) + 1;
  try { next = (await describe(family)).revision + 1; } catch { /* the number is a guess */ }
  act({ title: what, verb: s ? "New revision and deploy" : "New revision", managed: s?.manager, fields: [{ name: "v", label, kind, value }], text: s ? `Registers ${family}:${next} and deploys it to ${s.name}.` : `Registers ${family}:${next}.`,
    calls: (v) => [ecs("RegisterTaskDefinition", made(v.v)), ...(s ? [ecs("UpdateService", { cluster: s.cluster, service: s.name, taskDefinition: `${family}:${next}` })] : [])] });
}
const each = (d: Json, name: string | undefined, f: (c: Json) => void) => { for (const c of d.containerDefinitions) if (!name || c.name === name) f(c); };

export interface CureAt { service?: Svc | null; def: string; task?: { cluster: string; k: string }; container?: string; cluster: string }
/** What the button of a cure does; undefined: there is nothing that the console can do. */
export function cureAction(c: Cure, at: CureAt): (() => void) | undefined {
  const s = at.service ?? null;
  switch (c.do) {
    case "memory": return () => void revise(s, at.def, "Give it more memory", "MiB", c.value ?? "512", "number", (d, v) => {
      each(d, at.container, (x) => { if (x.memory) x.memory = Number(v); });
      if (!d.containerDefinitions.some((x: Json) => x.memory) || d.memory && Number(d.memory) < Number(v)) d.memory = v;
    });
    case "stopTimeout": return () => void revise(s, at.def, "Give it longer to stop", "Seconds", c.value ?? "60", "number", (d, v) => each(d, at.container, (x) => { x.stopTimeout = Number(v); }));
    case "image": return () => void revise(s, at.def, "Change the image", "Image", c.value ?? "", "text", (d, v) => each(d, at.container, (x) => { if (v) x.image = v; }));
    case "revision": return () => go(`/taskdefs/new?from=${encodeURIComponent(at.def)}${s ? `&service=${s.cluster}/${s.name}` : ""}`);
    case "logs": return () => go(at.task ? taskPath(at.task.cluster, at.task.k) + "/logs" : s ? servicePath(s.cluster, s.name) + "/logs" : "/logs");
    case "tasks": return s ? () => go(servicePath(s.cluster, s.name) + "/tasks") : undefined;
    case "port": case "check": return s ? () => go(servicePath(s.cluster, s.name) + "/path") : () => go("/balancers");
    case "balancers": return () => go("/balancers");
    case "nodes": return () => go("/nodes");
    case "loggroup": return () => act({ title: "Create the log group", verb: "Create log group", fields: [{ name: "n", label: "Name", value: c.value ?? "" }], calls: (v) => [{ service: "logs", op: "CreateLogGroup", input: { logGroupName: v.n } }] });
    case "grace": return s ? () => act({ title: "Set the grace period", verb: "Set", fields: [{ name: "n", label: "Seconds", kind: "number", value: c.value ?? "60" }], calls: (v) => [ecs("UpdateService", { cluster: s.cluster, service: s.name, healthCheckGracePeriodSeconds: Number(v.n) })] }) : undefined;
  }
  return undefined;
}
export { call };
export const streamsOf = (cs: ContainerRow[]) => cs.filter((c) => c.group);

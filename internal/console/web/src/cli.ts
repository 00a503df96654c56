// Every action as a command line, and where there is a resource of it, as Terraform.
import type { Call, Json } from "./api";

const services: Record<string, string> = { elasticloadbalancing: "elbv2" };
const kebab = (s: string) => s.replace(/([a-z0-9])([A-Z])/g, "$1-$2").replace(/([A-Z]+)([A-Z][a-z])/g, "$1-$2").toLowerCase();
const snake = (s: string) => kebab(s).replace(/-/g, "_");
const quote = (s: string) => /^[\w@%+=:,./-]+$/.test(s) ? s : "'" + s.replace(/'/g, `'\\''`) + "'";

export function cli(c: Call): string {
  const parts = ["aws", services[c.service] ?? c.service, kebab(c.op)];
  for (const [k, v] of Object.entries(c.input as Record<string, Json>)) {
    if (v === undefined || v === null) continue;
    const flag = "--" + kebab(k);
    if (typeof v === "boolean") parts.push(v ? flag : "--no-" + kebab(k));
    else if (Array.isArray(v) && v.every((x) => typeof x !== "object")) parts.push(flag + " " + v.map((x) => quote(String(x))).join(" "));
    else parts.push(flag + " " + quote(typeof v === "object" ? JSON.stringify(v) : String(v)));
  }
  return parts.join(parts.join(" ").length > 100 ? " \\\n  " : " ").replace(/^aws \\\n {2}(\S+) \\\n {2}(\S+)/, "aws $1 $2");
}

// resources are the Terraform resources that operations make or change, and the name each goes by.
const resources: Record<string, { type: string; name: string[]; json?: string[]; blocks?: string[]; drop?: string[]; rename?: Record<string, string> }> = {
  RegisterTaskDefinition: { type: "aws_ecs_task_definition", name: ["family"], json: ["containerDefinitions"], blocks: ["volumes"] },
  CreateService: { type: "aws_ecs_service", name: ["serviceName"], blocks: ["loadBalancers", "networkConfiguration"], rename: { serviceName: "name", loadBalancers: "load_balancer" } },
  UpdateService: { type: "aws_ecs_service", name: ["service"], drop: ["cluster"], blocks: ["networkConfiguration"], rename: { service: "name", forceNewDeployment: "force_new_deployment" } },
  CreateCluster: { type: "aws_ecs_cluster", name: ["clusterName"], rename: { clusterName: "name" } },
  CreateLoadBalancer: { type: "aws_lb", name: ["Name"] },
  CreateTargetGroup: { type: "aws_lb_target_group", name: ["Name"] },
  CreateListener: { type: "aws_lb_listener", name: ["Port"], blocks: ["DefaultActions"], rename: { DefaultActions: "default_action" } },
  CreateRule: { type: "aws_lb_listener_rule", name: ["Priority"], blocks: ["Conditions", "Actions"], rename: { Conditions: "condition", Actions: "action" } },
  CreateLogGroup: { type: "aws_cloudwatch_log_group", name: ["logGroupName"], rename: { logGroupName: "name" } },
  CreateRepository: { type: "aws_ecr_repository", name: ["repositoryName"], rename: { repositoryName: "name" } },
};

function hcl(v: Json, pad: string): string {
  if (Array.isArray(v)) return v.every((x) => typeof x !== "object") ? "[" + v.map((x) => hcl(x, pad)).join(", ") + "]" : "[\n" + v.map((x) => pad + "  " + hcl(x, pad + "  ") + ",\n").join("") + pad + "]";
  if (v && typeof v === "object") return "{\n" + Object.entries(v).map(([k, x]) => `${pad}  ${/^\w+$/.test(k) ? k : JSON.stringify(k)} = ${hcl(x, pad + "  ")}\n`).join("") + pad + "}";
  return JSON.stringify(v).replace(/\$\{/g, "$$${");
}
const snaked = (v: Json): Json => Array.isArray(v) ? v.map(snaked) : v && typeof v === "object" ? Object.fromEntries(Object.entries(v).map(([k, x]) => [snake(k), snaked(x)])) : v;

export function terraform(calls: Call[]): string {
  return calls.map((c) => {
    const r = resources[c.op];
    if (!r) return `# Terraform has no resource for ${c.op}`;
    const name = String(c.input[r.name[0]] ?? "this").replace(/[^\w]/g, "_").replace(/^(\d)/, "_$1");
    const body = Object.entries(c.input as Record<string, Json>).filter(([k, v]) => v !== undefined && !r.drop?.includes(k)).map(([k, v]) => {
      const key = r.rename?.[k] ?? snake(k);
      if (r.json?.includes(k)) return `  ${key} = jsonencode(${hcl(v, "  ")})`;
      if (r.blocks?.includes(k)) return (Array.isArray(v) ? v : [v]).map((b) => `  ${key} ${hcl(snaked(b), "  ")}`).join("\n");
      return `  ${key} = ${hcl(v, "  ")}`;
    }).join("\n");
    return `resource "${r.type}" "${name}" {\n${body}\n}`;
  }).join("\n\n");
}

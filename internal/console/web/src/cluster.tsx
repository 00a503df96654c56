import { useTopic } from "./live";
import type { ClusterRow, EventRow, NodeRow, ServiceRow } from "./rows";
import { act, Bar, Code, Empty, Head, Link, Problem, Section, Table, Tabs } from "./ui";
import { Events, Services, Tasks } from "./lists";
import { useTraffic } from "./overview";
import { go } from "./router";

export const makeCluster = () => act({ title: "New cluster", verb: "Create cluster", fields: [{ name: "n", label: "Name", value: "" }], calls: (v) => [{ service: "ecs", op: "CreateCluster", input: { clusterName: v.n } }], done: (o) => go(`/clusters/${o[0].cluster.clusterName}`) });

export function Clusters() {
  const { list, ready } = useTopic<ClusterRow>({ topic: "clusters" });
  const { list: services } = useTopic<ServiceRow>({ topic: "services" });
  const traffic = useTraffic();
  return <><Head title="Services"><button onClick={makeCluster}>New cluster</button><button class="primary" onClick={() => go("/deploy")}>Deploy</button></Head>
    <Section title="Clusters">{ready && <Table label="Clusters" rows={list} to={(r) => `/clusters/${r.k}`} empty={<Empty cmd="aws ecs create-cluster --cluster-name shop">No cluster.</Empty>} cols={[
      { key: "name", head: "Cluster", sort: (r) => r.k, cell: (r) => <Link to={`/clusters/${r.k}`}>{r.k}</Link> }, { key: "services", head: "Services", num: true, sort: (r) => -r.services, cell: (r) => r.services },
      { key: "running", head: "Running", num: true, sort: (r) => -r.running, cell: (r) => r.running }, { key: "pending", head: "Starting", num: true, minor: true, sort: (r) => -r.pending, cell: (r) => r.pending }, { key: "nodes", head: "Nodes", num: true, minor: true, sort: (r) => r.nodes, cell: (r) => r.nodes }]} limit={8} />}</Section>
    <Section title="Services"><Services rows={services} traffic={traffic} cluster /></Section></>;
}

export function Cluster({ name, tab }: { name: string; tab: string }) {
  const { rows, ready, error } = useTopic<ClusterRow>({ topic: "clusters" });
  const { list: services } = useTopic<ServiceRow>({ topic: "services", cluster: name });
  const c = rows.get(name);
  if (error) return <Problem error={error} />;
  if (ready && !c) return <Empty cmd={`aws ecs create-cluster --cluster-name ${name}`}>There is no cluster {name}.</Empty>;
  if (!c) return null;
  return <><Head title={name} sub={`${c.services} services, ${c.running} tasks run, ${c.nodes} nodes`}><button onClick={() => go("/taskdefs")}>Run a task</button><button class="primary" onClick={() => go(`/deploy?cluster=${name}`)}>Deploy</button></Head>
    <Tabs base={`/clusters/${name}`} at={tab} tabs={[["", "Services"], ["tasks", "Tasks"], ["nodes", "Nodes"], ["events", "Events"], ["settings", "Settings"]]} />
    {tab === "" && <Section title="Services"><Services rows={services} /></Section>}
    {tab === "tasks" && <Section title="Tasks"><Tasks want={{ topic: "tasks", cluster: name }} where /></Section>}
    {tab === "nodes" && <ClusterNodes name={name} />}
    {tab === "events" && <AllEvents cluster={name} />}
    {tab === "settings" && <Section title="Settings"><dl class="kv"><dt>ARN</dt><dd class="mono">{c.arn}</dd></dl><p><button class="danger" onClick={() => act({ title: `Delete ${name}`, verb: "Delete cluster", danger: true, typed: c.services ? name : undefined, text: "Only a cluster without services and tasks can be deleted.", calls: () => [{ service: "ecs", op: "DeleteCluster", input: { cluster: name } }], done: () => go("/") })}>Delete cluster</button></p>
      <Code text={`aws ecs describe-clusters --clusters ${name} --include SETTINGS TAGS`} /></Section>}</>;
}

function ClusterNodes({ name }: { name: string }) {
  const { list } = useTopic<NodeRow>({ topic: "nodes" });
  const mine = list.filter((n) => n.members?.some((m) => m.cluster === name));
  return <Section title="Nodes"><Table label="Nodes" rows={mine} to={(r) => `/nodes/${r.k}`} empty={<Empty cmd="berth token node">No machine is in this cluster. Let one join:</Empty>} cols={[{ key: "host", head: "Node", sort: (r) => r.host, cell: (r) => <Link to={`/nodes/${r.k}`}>{r.host}</Link> },
    { key: "status", head: "State", cell: (r) => r.members?.find((m) => m.cluster === name)?.status.toLowerCase() }, { key: "tasks", head: "Tasks", num: true, cell: (r) => r.tasks }, { key: "mem", head: "Memory", minor: true, cell: (r) => <Bar part={r.usedMem} whole={r.mem} label={`Memory of ${r.host}`} /> }]} /></Section>;
}

export function AllEvents({ cluster, service }: { cluster?: string; service?: string }) {
  const { list, ready, error } = useTopic<EventRow>({ topic: "events", cluster, service });
  if (error) return <Problem error={error} />;
  return <Section title="Events">{ready && <Events rows={list} where />}</Section>;
}

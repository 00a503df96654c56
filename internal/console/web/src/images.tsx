import { bytes, day } from "./fmt";
import { hello, useTopic } from "./live";
import { go } from "./router";
import type { RepoRow } from "./rows";
import { act, Code, Copy, Empty, Head, Link, Problem, Section, Table } from "./ui";

const make = () => act({ title: "New repository", verb: "Create repository", fields: [{ name: "n", label: "Name", value: "" }], calls: (v) => [{ service: "ecr", op: "CreateRepository", input: { repositoryName: v.n } }], done: (o) => go(`/images/${o[0].repository.repositoryName}`) });
const push = (uri: string, host: string) => `aws ecr get-login-password | docker login -u AWS --password-stdin ${host}\ndocker tag web ${uri}:latest && docker push ${uri}:latest\n# or build it here:\nberth build -t ${uri.slice(uri.indexOf("/") + 1)}:latest .`;

export function Images() {
  const { list, ready, error } = useTopic<RepoRow>({ topic: "images" });
  const host = hello.value?.registry ?? "localhost:4566";
  if (error) return <Problem error={error} />;
  return <><Head title="Images"><button class="primary" onClick={make}>New repository</button></Head><Section title="Repositories">{ready && <Table label="Repositories" rows={list} to={(r) => `/images/${r.k}`} text={(r) => r.k} empty={<Empty cmd={push(`${host}/web`, host)}>No repository yet. A push makes one:</Empty>} cols={[
    { key: "name", head: "Repository", sort: (r) => r.k, cell: (r) => <Link to={`/images/${r.k}`}>{r.k}</Link> }, { key: "n", head: "Images", width: "70px", num: true, sort: (r) => -r.count, cell: (r) => r.count }, { key: "size", head: "Size", width: "90px", num: true, sort: (r) => -r.size, cell: (r) => bytes(r.size) }, { key: "tag", head: "Newest", minor: true, cell: (r) => r.images[0]?.tags?.join(", ") ?? "" }, { key: "used", head: "Who runs it", minor: true, cell: (r) => r.usedBy?.join(", ") ?? <span class="dim">nobody</span> }]} />}</Section></>;
}

export function Repo({ name, digest }: { name: string; digest?: string }) {
  const { rows, ready, error } = useTopic<RepoRow>({ topic: "images" });
  const r = rows.get(name), host = hello.value?.registry ?? "localhost:4566";
  if (error) return <Problem error={error} />;
  if (!r) return ready ? <Empty cmd={`aws ecr create-repository --repository-name ${name}`}>There is no repository {name}.</Empty> : null;
  const list = r.images.map((i) => ({ ...i, k: i.digest }));
  const one = list.find((i) => i.digest === digest);
  return <><Head title={r.k} sub={<span class="mono">{r.uri}</span>}><Copy label="Copy URI" text={r.uri} /><button class="danger" onClick={() => act({ title: `Delete ${r.k}`, verb: "Delete repository", danger: true, typed: r.count ? r.k : undefined, calls: () => [{ service: "ecr", op: "DeleteRepository", input: { repositoryName: r.k, force: true } }], done: () => go("/images") })}>Delete</button></Head>
    {one && <Section title={one.tags?.join(", ") || one.digest.slice(0, 19)}><dl class="kv"><dt>Digest</dt><dd class="mono">{one.digest}</dd><dt>Size</dt><dd>{bytes(one.size)} in {one.layers} layers</dd><dt>Pushed</dt><dd>{day(one.pushed)}</dd><dt>Pulled</dt><dd>{one.pulled ? day(one.pulled) : "never"}</dd></dl></Section>}
    <Section title="Images"><Table label="Images" rows={list} to={(i) => `/images/${name}/${i.digest}`} text={(i) => `${i.digest} ${i.tags?.join(" ")}`} initial="pushed" empty={<Empty>Nothing was pushed yet.</Empty>} cols={[
      { key: "tags", head: "Tags", sort: (i) => i.tags?.[0] ?? "", cell: (i) => i.tags?.join(", ") || <span class="dim">untagged</span> }, { key: "digest", head: "Digest", minor: true, cell: (i) => <span class="mono">{i.digest.slice(7, 19)}</span> }, { key: "size", head: "Size", num: true, sort: (i) => -i.size, cell: (i) => i.index ? "index" : bytes(i.size) }, { key: "layers", head: "Layers", num: true, minor: true, cell: (i) => i.layers }, { key: "pushed", head: "Pushed", minor: true, sort: (i) => -i.pushed, cell: (i) => day(i.pushed) },
      { key: "do", head: "", width: "80px", cell: (i) => <button class="small" onClick={() => go(`/deploy?image=${encodeURIComponent(r.uri + (i.tags?.[0] ? ":" + i.tags[0] : "@" + i.digest))}`)}>Deploy</button> }]} /></Section>
    <Section title="Who runs it"><p>{r.usedBy?.map((s) => <span key={s}><Link to={`/clusters/${s.split("/")[0]}/services/${s.split("/")[1]}`}>{s}</Link> </span>) ?? "No service."}</p></Section>
    <Section title="Push to it"><Code text={push(r.uri, host)} /></Section></>;
}

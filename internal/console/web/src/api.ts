// Calls of the AWS API, through the console's session.
import { session, setSession, type Refusal } from "./live";

export type Json = any;
export interface Call { service: string; op: string; input: Json }

export class Refused extends Error {
  constructor(public code: string, message: string, public cure?: string) { super(message); }
}

async function post(path: string, body: Json, signal?: AbortSignal): Promise<Json> {
  let res: Response;
  try {
    res = await fetch("/console/api/" + path, { method: "POST", body: JSON.stringify(body), signal, credentials: "same-origin",
      headers: { "Content-Type": "application/json", "X-Console-Key": session.value ?? "" } });
  } catch (e) {
    if ((e as Error).name === "AbortError") throw e;
    throw new Refused("Unreachable", "Berth does not answer. Nothing is known of what was asked.");
  }
  const out = await res.json().catch(() => ({}));
  if (res.status === 401) setSession(null);
  if (!res.ok) { const r = out as Refusal; throw new Refused(r.code ?? "Error", r.message ?? res.statusText, r.cure); }
  return out;
}

export const call = (c: Call) => post(`aws/${c.service}/${c.op}`, c.input);
export const aws = (service: string, op: string, input: Json = {}) => post(`aws/${service}/${op}`, input);
export const check = (c: Call, signal?: AbortSignal) => post(`check/${c.service}/${c.op}`, c.input, signal);
export const login = (body: Json) => post("login", body);
export const logout = () => post("logout", {});
export const revoke = (id: string) => post("revoke", { ID: id });

// What an agent in JavaScript needs to speak to Penstock: docs/any-language.md, as code.

import { createHash } from "node:crypto";

const NAMESPACE = "0d6c5bd4-6c59-5c0e-9a2b-7f7a1c4b8d10";
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** One token of a subject: bytes outside [A-Za-z0-9_-] become =XX. */
export function escape(text) {
  return [...Buffer.from(text, "utf8")]
    .map((byte) => {
      const letter = String.fromCharCode(byte);
      return /[A-Za-z0-9_-]/.test(letter) ? letter : "=" + byte.toString(16).toUpperCase().padStart(2, "0");
    })
    .join("");
}

/** Where an event is sent: domain.key.verb. */
export function busSubject(type, subject) {
  const dot = type.indexOf(".");
  return `${type.slice(0, dot)}.${escape(subject)}${type.slice(dot)}`;
}

/** A UUID of version 5: RFC 9562, section 5.5. */
function uuid5(namespace, name) {
  const hash = createHash("sha1").update(Buffer.from(namespace.replaceAll("-", ""), "hex")).update(name, "utf8");
  const bytes = hash.digest().subarray(0, 16);
  bytes[6] = (bytes[6] & 0x0f) | 0x50;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  return bytes.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

/** The key of a thing in PostgreSQL: its id if that is a UUID, else a UUID made of it. */
export function entityKey(kind, id) {
  const lowered = id.toLowerCase();
  return UUID.test(lowered) ? lowered : uuid5(uuid5(NAMESPACE, kind), id);
}

/** The key of an event, which is also a good Nats-Msg-Id. */
export function eventKey(source, id) {
  const lowered = id.toLowerCase();
  return UUID.test(lowered) ? lowered : uuid5(uuid5(NAMESPACE, "event"), `${source}\n${id}`);
}

/** Where the bucket keeps a state of an agent; without a state key, its status. */
export function stateKey(agent, key) {
  const token = key === undefined ? "_status" : escape(key).replace(/^_/, "=5F") || "=";
  return `${entityKey("agent", agent)}.${token}`;
}

/** What an agent stored under a key; undefined if there is nothing, or no longer. */
export async function readState(manager, agent, key, bucket = "AGENT_STATE") {
  const subject = `$KV.${bucket}.${stateKey(agent, key)}`;
  const found = await manager.direct.getMessage(`KV_${bucket}`, { last_by_subj: subject });
  if (found === null || found.header?.get("KV-Operation")) return undefined;
  const document = found.json();
  if (document.omitted) throw new Error(`${document.omitted} bytes do not fit into the bucket`);
  if (document.exp !== null && Date.parse(document.exp) <= Date.now()) return undefined;
  return { version: document.v, value: document.val };
}

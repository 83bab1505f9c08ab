// Sends each event of a JSON array on standard input over NATS or RabbitMQ, by the CloudEvents SDK, in
// structured or binary mode, and prints what it awaited:
//
//   node agent.mjs send nats://127.0.0.1:4222 structured < events.json
//   node agent.mjs send amqp://guest:guest@127.0.0.1:5672/ binary < events.json
//   node agent.mjs read nats://127.0.0.1:4222 AGENT STATE_KEY
//   node agent.mjs keys < docs/any-language.json

import { text } from "node:stream/consumers";
import { jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connect, headers } from "@nats-io/transport-node";
import amqp from "amqplib";
import { CloudEvent, HTTP } from "cloudevents";
import { busSubject, entityKey, escape, eventKey, readState, stateKey } from "./penstock.mjs";

/** Header names in lower case, and the body. HTTP's ce- headers are those of NATS and RabbitMQ too. */
function encoded(event, mode) {
  const message = mode === "binary" ? HTTP.binary(event) : HTTP.structured(event);
  return { named: Object.entries(message.headers).map(([name, value]) => [name, String(value)]), body: message.body };
}

async function sendToNats(url, mode, events) {
  const connection = await connect({ servers: url });
  const stream = jetstream(connection);
  for (const event of events) {
    const { named, body } = encoded(event, mode);
    const sent = headers();
    // The NATS binding percent-encodes what is no printable ASCII; HTTP's headers say the same.
    for (const [name, value] of named) sent.set(name, name.startsWith("ce-") ? encodeURI(value) : value);
    sent.set("Nats-Msg-Id", eventKey(event.source, event.id));
    await stream.publish(busSubject(event.type, event.subject), body, { headers: sent });
  }
  // A receipt: see docs/any-language.md.
  await connection.drain();
}

async function sendToRabbit(url, mode, events) {
  const connection = await amqp.connect(url);
  const channel = await connection.createConfirmChannel();
  const returned = [];
  channel.on("return", (message) => returned.push(message.fields.routingKey));
  for (const event of events) {
    const { named, body } = encoded(event, mode);
    const { "content-type": contentType, ...rest } = Object.fromEntries(named);
    const options = { contentType, headers: rest, persistent: true, mandatory: true };
    channel.publish("events", busSubject(event.type, event.subject), Buffer.from(body), options);
  }
  await channel.waitForConfirms();
  if (returned.length) throw new Error(`no queue takes ${returned.join(", ")}`);
  await connection.close();
}

async function send(url, mode) {
  const events = JSON.parse(await text(process.stdin)).map((sent) => new CloudEvent(sent));
  await (url.startsWith("amqp") ? sendToRabbit : sendToNats)(url, mode, events);
  return { sent: events.length };
}

async function read(url, agent, key) {
  const connection = await connect({ servers: url });
  const found = await readState(await jetstreamManager(connection), agent, key);
  await connection.drain();
  return found ?? null;
}

/** The test vectors, computed anew. */
async function keys() {
  const given = JSON.parse(await text(process.stdin));
  return {
    tokens: given.tokens.map(({ text }) => ({ text, token: escape(text) })),
    subjects: given.subjects.map(({ type, subject }) => ({ type, subject, bus: busSubject(type, subject) })),
    entities: given.entities.map(({ kind, id }) => ({ kind, id, key: entityKey(kind, id) })),
    events: given.events.map(({ source, id }) => ({ source, id, key: eventKey(source, id) })),
    states: given.states.map(({ agent, state_key }) => ({
      agent, state_key, key: stateKey(agent, state_key ?? undefined),
    })),
  };
}

const [command, ...words] = process.argv.slice(2);
console.log(JSON.stringify(await { send, read, keys }[command](...words)));

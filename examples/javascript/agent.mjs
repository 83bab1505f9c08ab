// Sends each event of a JSON array on standard input over NATS or RabbitMQ, by the CloudEvents SDK, in
// structured or binary mode, and prints what it awaited:
//
//   node agent.mjs send nats://127.0.0.1:4222 structured < events.json
//   node agent.mjs send amqp://guest:guest@127.0.0.1:5672/ binary < events.json
//   node agent.mjs ask nats://127.0.0.1:4222 structured < events.json    # prints what became of each
//   node agent.mjs read nats://127.0.0.1:4222 AGENT STATE_KEY
//   node agent.mjs keys < docs/any-language.json

import { text } from "node:stream/consumers";
import { jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connect, createInbox, headers } from "@nats-io/transport-node";
import amqp from "amqplib";
import { CloudEvent, HTTP } from "cloudevents";
import { busSubject, entityKey, escape, eventKey, readState, stateKey } from "./penstock.mjs";

const REPLY_TO = "amq.rabbitmq.reply-to";

/** Header names in lower case, and the body. HTTP's ce- headers are those of NATS and RabbitMQ too. */
function encoded(event, mode) {
  const message = mode === "binary" ? HTTP.binary(event) : HTTP.structured(event);
  return { named: Object.entries(message.headers).map(([name, value]) => [name, String(value)]), body: message.body };
}

/** What the worker says of each event, if `asked`: see docs/receipts.md. */
async function sendToNats(url, mode, events, asked) {
  const connection = await connect({ servers: url });
  const stream = jetstream(connection);
  const receipts = [];
  for (const event of events) {
    const { named, body } = encoded(event, mode);
    const sent = headers();
    // The NATS binding percent-encodes what is no printable ASCII; HTTP's headers say the same.
    for (const [name, value] of named) sent.set(name, name.startsWith("ce-") ? encodeURI(value) : value);
    if (asked) receipts.push(receipt(connection, sent));
    // With a receipt there is no Nats-Msg-Id: a stream would drop a duplicate, and nobody would answer.
    else sent.set("Nats-Msg-Id", eventKey(event.source, event.id));
    await stream.publish(busSubject(event.type, event.subject), body, { headers: sent });
  }
  const told = await Promise.all(receipts);
  await connection.drain();
  return told;
}

/** Asks for the receipt of a message by its headers, and awaits it. */
async function receipt(connection, sent) {
  const inbox = createInbox();
  const answers = connection.subscribe(inbox, { max: 1, timeout: 30_000 });
  sent.set("Penstock-Receipt", inbox);
  for await (const answer of answers) return answer.json();
}

async function sendToRabbit(url, mode, events, asked) {
  const connection = await amqp.connect(url);
  const channel = await connection.createConfirmChannel();
  const answers = new Answers();
  if (asked) await channel.consume(REPLY_TO, (message) => answers.take(message), { noAck: true });
  const returned = [];
  channel.on("return", (message) => returned.push(message.fields.routingKey));
  for (const event of events) {
    const { named, body } = encoded(event, mode);
    const { "content-type": contentType, ...rest } = Object.fromEntries(named);
    const options = { contentType, headers: rest, persistent: true, mandatory: true };
    if (asked) Object.assign(options, { replyTo: REPLY_TO, correlationId: answers.expect() });
    channel.publish("events", busSubject(event.type, event.subject), Buffer.from(body), options);
  }
  await channel.waitForConfirms();
  if (returned.length) throw new Error(`no queue takes ${returned.join(", ")}`);
  const told = await answers.all();
  await connection.close();
  return told;
}

/** The receipts of one channel, each under a number that the answer repeats. */
class Answers {
  #waiting = [];

  expect() {
    const waiting = {};
    waiting.told = new Promise((resolve) => (waiting.tell = resolve));
    return String(this.#waiting.push(waiting) - 1);
  }

  take(message) {
    this.#waiting[message.properties.correlationId]?.tell(JSON.parse(message.content));
  }

  all() {
    return Promise.all(this.#waiting.map(({ told }) => told));
  }
}

async function publish(url, mode, asked) {
  const events = JSON.parse(await text(process.stdin)).map((sent) => new CloudEvent(sent));
  const told = await (url.startsWith("amqp") ? sendToRabbit : sendToNats)(url, mode, events, asked);
  return asked ? told : { sent: events.length };
}

const send = (url, mode) => publish(url, mode, false);
const ask = (url, mode) => publish(url, mode, true);

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
console.log(JSON.stringify(await { send, ask, read, keys }[command](...words)));

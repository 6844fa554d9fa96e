// node driver.mjs 2|3|4: socket.io-client of that generation, told what to do and telling what it hears in lines
// of JSON (../README.md).

import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const io = createRequire(import.meta.url)(`socket.io-client-${process.argv[2]}`);
const sockets = new Map();

const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

const actions = {
  open({ name, url, transports, events }) {
    const socket = io(url, {
      transports,
      forceNew: true,
      reconnectionDelay: 50,
      reconnectionDelayMax: 250,
      randomizationFactor: 0,
    });
    sockets.set(name, socket);
    socket.on("connect", () => say({ name, on: "connect" }));
    socket.on("disconnect", (reason) => say({ name, on: "disconnect", reason }));
    for (const event of events) {
      socket.on(event, (...args) => say({ name, on: "event", event, args: toLine(args) }));
    }
  },
  emit({ name, event, args, ack }) {
    const last = ack === undefined ? [] : [(...answer) => say({ name, on: "ack", ack, args: toLine(answer) })];
    sockets.get(name).emit(event, ...fromLine(args), ...last);
  },
  transport({ name }) {
    say({ name, on: "transport", transport: sockets.get(name).io.engine.transport.name });
  },
};

/** Bytes stand in a line as {"$bytes": base64}. */
function toLine(value) {
  if (value instanceof ArrayBuffer || ArrayBuffer.isView(value)) {
    return { $bytes: Buffer.from(value.buffer ?? value, value.byteOffset, value.byteLength).toString("base64") };
  }
  if (Array.isArray(value)) return value.map(toLine);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, toLine(inner)]));
}

function fromLine(value) {
  if (Array.isArray(value)) return value.map(fromLine);
  if (value === null || typeof value !== "object") return value;
  if ("$bytes" in value) return Buffer.from(value.$bytes, "base64");
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, fromLine(inner)]));
}

for await (const line of createInterface({ input: process.stdin })) {
  const { action, ...what } = JSON.parse(line);
  actions[action](what);
}
process.exit(0);

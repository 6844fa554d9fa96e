// Two people watch a load through the official client: one within earshot, one far away.
//
// node onlooker.mjs URL TOKEN_INSIDE TOKEN_OUTSIDE TOKEN_WRITER LNG LAT EXPECTED
//
// Prints {"ready":true}, then after its standard input closed and EXPECTED messages were heard one line of
// sums. That the far one heard nothing is proved by a sentinel written at its place afterwards.

import { io } from "socket.io-client";

const [url, inside, outside, writer, lng, lat, expected] = process.argv.slice(2);
const place = [Number(lng), Number(lat)];
const far = [Number(lng) + 0.5, Number(lat)];
const GIVE_UP_MS = 20_000;

async function stand(token, position, radius) {
  const socket = io(url, { transports: ["websocket"], forceNew: true, reconnection: false });
  const sums = { new_msg: 0, contents: {}, places: {}, alerts: 0, told: 0, alerts_span_ms: 0 };
  let first;
  socket.on("new_msg", ({ result }) => {
    sums.new_msg += 1;
    const text = result.contents.split(" ")[0];
    sums.contents[text] = (sums.contents[text] ?? 0) + 1;
    const at = result.position.coordinates.join(",");
    sums.places[at] = (sums.places[at] ?? 0) + 1;
  });
  socket.on("speaker", ({ folded }) => {
    first ??= performance.now();
    sums.alerts_span_ms = performance.now() - first;
    sums.alerts += 1;
    sums.told += 1 + folded;
  });
  await new Promise((resolve, reject) => {
    socket.once("connect", resolve);
    socket.once("connect_error", reject);
  });
  const ack = await socket.emitWithAck("store", { token, position, radius });
  if (ack.status !== 200) throw new Error(JSON.stringify(ack));
  return { socket, sums };
}

async function until(holds) {
  const end = performance.now() + GIVE_UP_MS;
  while (!holds() && performance.now() < end) await new Promise((resolve) => setTimeout(resolve, 20));
}

const near = await stand(inside, place, 500);
const away = await stand(outside, far, 500);
console.log(JSON.stringify({ ready: true }));

process.stdin.resume();
await new Promise((resolve) => process.stdin.once("end", resolve));
await until(() => near.sums.new_msg >= Number(expected) && near.sums.told >= Number(expected));
const before = structuredClone({ inside: near.sums, outside: away.sums });

const voice = io(url, { transports: ["websocket"], forceNew: true });
const sentinel = await voice.emitWithAck("save_msg", {
  token: writer,
  messageData: { lng: far[0], lat: far[1], contents: "sentinel", type: "LoudSpeaker" },
  radius: 500,
});
await until(() => away.sums.new_msg > 0 && away.sums.alerts > 0);
console.log(JSON.stringify({ before, after: { inside: near.sums, outside: away.sums }, sentinel: sentinel.status }));
process.exit(0);

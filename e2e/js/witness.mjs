// An official client that joins a room (room.mjs, ../clients/python/room.py) and counts what it hears. node witness.mjs 2|4|ws URL
//
// Prints {"ready":true}. After its standard input closed it says something itself: when that is heard, so is all that was
// said before, and it prints how often it heard each text.

import { createRequire } from "node:module";
import { io as io4 } from "socket.io-client";
import { WebSocket } from "ws";

const [kind, url] = process.argv.slice(2);
const LAST = "the last word";
const heard = {};
let hearLast;
const last = new Promise((resolve) => (hearLast = resolve));
function hear({ text }) {
  if (text === LAST) hearLast();
  else heard[text] = (heard[text] ?? 0) + 1;
}

/** Joins, and returns how to say something. */
async function join() {
  if (kind === "ws") {
    const socket = new WebSocket(url.replace("http", "ws"));
    await new Promise((resolve, reject) => socket.once("open", resolve).once("error", reject));
    const joined = new Promise((resolve) => {
      socket.on("message", (data) => {
        const message = JSON.parse(data);
        if (message.event === "joined") resolve();
        else hear(message);
      });
    });
    socket.send(JSON.stringify({ event: "join", name: "witness" }));
    await joined;
    return (text) => socket.send(JSON.stringify({ event: "say", text }));
  }
  const options = { transports: ["websocket"], reconnection: false };
  const socket = kind === "2" ? createRequire(import.meta.url)("socket.io-client-2")(url, options) : io4(url, options);
  socket.on("said", hear);
  await new Promise((resolve, reject) => {
    socket.once("connect", resolve);
    socket.once("connect_error", reject);
  });
  await new Promise((resolve) => socket.emit("join", "witness", resolve));
  return (text) => socket.emit("say", { text }, () => {});
}

const say = await join();
console.log(JSON.stringify({ ready: true }));
process.stdin.resume();
await new Promise((resolve) => process.stdin.once("end", resolve));
say(LAST);
await last;
console.log(JSON.stringify({ heard }));
process.exit(0);

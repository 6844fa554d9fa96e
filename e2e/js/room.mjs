// A room of an official server, in which everybody hears what anybody says. node room.mjs 2|4|ws [lose]
//
// `join` takes a name, `say` a text; those who joined hear `said` with it. Over `ws` these are objects,
// {"event":"join","name":...} and {"event":"say","text":...}. With `lose` every hundredth delivery is dropped, save those
// to "witness". Prints {"port":n}; after its standard input closed how much was said, and the name and text of each
// delivery it dropped.

import { createServer } from "node:http";
import { createRequire } from "node:module";
import { Server } from "socket.io";
import { WebSocketServer } from "ws";

const [kind, lose] = process.argv.slice(2);
const http = createServer((request, response) => response.end("hello"));
const members = new Map();
const lost = [];
let said = 0;
let deliveries = 0;

/** To everybody but whom the delivery is dropped for. */
function oneByOne(text, send) {
  for (const [name, member] of members) {
    if (name !== "witness" && ++deliveries % 100 === 0) lost.push([name, text]);
    else send(member);
  }
}

if (kind === "ws") {
  new WebSocketServer({ server: http }).on("connection", (socket) => {
    socket.on("message", (data) => {
      const { event, name, text } = JSON.parse(data);
      if (event === "join") {
        members.set(name, socket);
        socket.send(JSON.stringify({ event: "joined" }));
        return;
      }
      said += 1;
      const heard = JSON.stringify({ event: "said", text });
      if (lose) oneByOne(text, (member) => member.send(heard));
      else for (const member of members.values()) member.send(heard);
    });
  });
} else {
  const io = kind === "2" ? createRequire(import.meta.url)("socket.io-2")(http) : new Server(http);
  io.on("connection", (socket) => {
    socket.on("join", (name, ack) => {
      members.set(name, socket);
      socket.join("room");
      ack({ status: 200 });
    });
    socket.on("say", (what, ack) => {
      said += 1;
      ack({ status: 201 });
      if (lose) oneByOne(what.text, (member) => member.emit("said", what));
      else io.to("room").emit("said", what);
    });
  });
}

http.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ port: http.address().port })));
process.stdin.resume();
process.stdin.once("end", () => {
  console.log(JSON.stringify({ said, lost }));
  process.exit(0);
});

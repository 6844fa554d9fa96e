// A Socket.IO server of either generation that counts. node server.mjs 2|4
// Prints {"port":n}; after its standard input closed, what it counted.

import { createServer } from "node:http";
import { createRequire } from "node:module";
import { Server } from "socket.io";

const io2 = createRequire(import.meta.url)("socket.io-2");
const http = createServer((request, response) => response.end("hello"));
const io = process.argv[2] === "2" ? io2(http) : new Server(http);
const counted = { connections: 0, save_msg: 0, upgrades: 0 };
const tokens = new Set();
io.on("connection", (socket) => {
  counted.connections += 1;
  socket.on("save_msg", (data, ack) => {
    counted.save_msg += 1;
    tokens.add(data.token);
    ack?.({ status: 201 });
  });
  // As the example protocol-echo has it.
  socket.on("message", (...args) => socket.emit("message-back", ...args));
  socket.on("message-with-ack", (...args) => args.pop()(...args));
});
io.engine.on("connection", (connection) => {
  connection.on("upgrade", () => {
    counted.upgrades += 1;
  });
});
http.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ port: http.address().port })));
process.stdin.resume();
process.stdin.once("end", () => {
  console.log(JSON.stringify({ ...counted, tokens: tokens.size }));
  process.exit(0);
});

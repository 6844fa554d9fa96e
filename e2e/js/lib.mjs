// What the contract tests share: dna as a user starts it, the official clients, and waiting for events.

import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createRequire } from "node:module";
import { io as io4 } from "socket.io-client";

const io2 = createRequire(import.meta.url)("socket.io-client-2");
const DNA = process.env.DNA_BIN;
if (!DNA) throw new Error("DNA_BIN must name the dna binary; run these tests with cargo test -p e2e");

export const GANGNAM = [127.0276, 37.4979];

/** A place so many metres east and north of another (good to a centimetre at this size). */
export function offset([lng, lat], east, north) {
  const rad = Math.PI / 180;
  const sin2 = Math.sin(lat * rad) ** 2;
  const e2 = 0.00669437999014;
  const n = 6378137 / Math.sqrt(1 - e2 * sin2);
  const m = (6378137 * (1 - e2)) / (1 - e2 * sin2) ** 1.5;
  return [lng + east / (n * Math.cos(lat * rad)) / rad, lat + north / m / rad];
}

export function freePort() {
  return new Promise((resolve) => {
    const probe = createServer().listen(0, "127.0.0.1", () => {
      const { port } = probe.address();
      probe.close(() => resolve(port));
    });
  });
}

export class Dna {
  static async start({ flags = [], env = {}, data, port } = {}) {
    const dna = new Dna();
    dna.ownsData = !data;
    dna.data = data ?? mkdtempSync(join(tmpdir(), "dna-contract-"));
    dna.port = port ?? (await freePort());
    dna.url = `http://127.0.0.1:${dna.port}`;
    dna.sockets = [];
    dna.child = spawn(DNA, ["serve", "--listen", `127.0.0.1:${dna.port}`, "--data", dna.data, ...flags], {
      env: { ...process.env, ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    dna.log = "";
    dna.child.stderr.on("data", (text) => (dna.log += text));
    dna.ended = new Promise((resolve) => dna.child.on("exit", (code, signal) => resolve({ code, signal })));
    await new Promise((resolve, reject) => {
      dna.child.stdout.on("data", (text) => String(text).includes("listening") && resolve());
      dna.ended.then(() => reject(new Error(`dna ended: ${dna.log}`)));
    });
    return dna;
  }

  /** A signed token; claims by flags of `dna token`. */
  token(idx, ...flags) {
    return execFileSync(DNA, ["token", "--idx", idx, "--data", this.data, ...flags], { encoding: "utf8" }).trim();
  }

  tokens(first, count, ...flags) {
    return this.token(first, "--count", count, ...flags).split("\n");
  }

  /** An official client, connected. `version`: 4 or 2. */
  async client({ version = 4, ...options } = {}) {
    const socket = this.unconnected({ version, ...options });
    await once(socket, "connect");
    return socket;
  }

  unconnected({ version = 4, ...options } = {}) {
    const settings = { transports: ["websocket"], forceNew: true, reconnection: false, ...options };
    const socket = version === 2 ? io2(this.url, settings) : io4(this.url, settings);
    socket.heard = [];
    for (const event of ["new_msg", "speaker", "geo", "exception"]) {
      socket.on(event, (body) => socket.heard.push({ event, body, at: performance.now() }));
    }
    this.sockets.push(socket);
    return socket;
  }

  /** A client on the map. */
  async person(idx, position, radius, { flags = [], ...options } = {}) {
    const socket = await this.client(options);
    socket.token = this.token(idx, ...flags);
    socket.stored = await ask(socket, "store", { token: socket.token, position, radius });
    if (socket.stored.status !== 200) throw new Error(JSON.stringify(socket.stored));
    return socket;
  }

  async metrics() {
    const text = await (await fetch(`${this.url}/metrics`)).text();
    return Object.fromEntries(
      text.split("\n").filter((line) => line && !line.startsWith("#")).map((line) => {
        const at = line.lastIndexOf(" ");
        return [line.slice(0, at), Number(line.slice(at + 1))];
      }),
    );
  }

  async stop(signal = "SIGTERM") {
    for (const socket of this.sockets) socket.close();
    this.child.kill(signal);
    const ended = await this.ended;
    if (this.ownsData) rmSync(this.data, { recursive: true, force: true });
    return ended;
  }
}

/** Emits and waits for the ack. */
export function ask(socket, event, ...args) {
  return within(`ack of ${event}`, new Promise((resolve) => socket.emit(event, ...args, resolve)));
}

export function once(emitter, event) {
  return within(event, new Promise((resolve, reject) => {
    emitter.once(event, resolve);
    if (event === "connect") emitter.once("connect_error", reject);
  }));
}

/** Fails instead of hanging. */
export function within(what, promise, ms = 15_000) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${ms} ms for ${what}`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Waits until a listener has heard something that fits. */
export async function hears(socket, fits, what = "a message") {
  const known = socket.heard.find(fits);
  if (known) return known;
  return within(what, new Promise((resolve) => {
    socket.onHeard = () => {
      const found = socket.heard.find(fits);
      if (found) resolve(found);
    };
    for (const event of ["new_msg", "speaker", "geo", "exception"]) socket.on(event, () => socket.onHeard());
  }));
}

export const says = (contents) => ({ event, body }) => event === "new_msg" && body.result.contents === contents;

export function message([lng, lat], contents, more = {}) {
  const { type, test, ...outer } = more;
  return { messageData: { lng, lat, contents, ...(type && { type }), ...(test !== undefined && { test }) }, ...outer };
}

/** Writes at a place and waits for the ack. */
export async function say(socket, place, contents, more = {}) {
  return ask(socket, "save_msg", { token: socket.token, ...message(place, contents, more) });
}

/** The texts of the new_msg a listener has heard, in order. */
export const texts = (socket) =>
  socket.heard.filter(({ event }) => event === "new_msg").map(({ body }) => body.result.contents);

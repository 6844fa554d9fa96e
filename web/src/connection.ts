// The socket: joins the map, moves on it, writes, and comes back by itself after a break.

import { io, type Socket } from "socket.io-client";
import { describe, isMessage, type Answer, type Joined, type Message, type Person, type Place, type Speaker } from "./events";
import { world } from "./settings";

export type State = "connecting" | "online" | "offline" | "refused";

export type Handlers = {
  state(state: State, detail: string): void;
  message(message: Message): void;
  speaker(alert: Speaker): void;
  people(people: Person[]): void;
  error(text: string): void;
  /** The server does not take this token. */
  tokenRefused(text: string): void;
};

const ACK_TIMEOUT_MS = 10_000;
/** `geo` is answered at most once a second; asking faster brings nothing. */
const MOVE_INTERVAL_MS = 1_000;
const GEO_INTERVAL_MS = 4_000;

// Close codes this server uses on purpose; the client comes back after each of them.
const CLOSE_REASONS: Record<number, string> = {
  1001: "server is going away",
  1012: "server restarts",
  4008: "this page read too slowly and its queue was dropped",
};

/** Missing, expired, invalid. */
const TOKEN_CODES = new Set([10400, 11400, 12400]);

const testFlag = world === "test" ? { test: true } : {};

export class Connection {
  private readonly socket: Socket;
  private cursor: string | undefined;
  private joined = false;
  private moveTimer: number | undefined;
  private movedAt = 0;
  private closed = false;
  private readonly geoTimer: number;

  constructor(
    private readonly token: string,
    private place: Place,
    private radius: number,
    private readonly on: Handlers,
  ) {
    this.socket = io({ transports: ["websocket", "polling"], tryAllTransports: true, auth: { token }, reconnectionDelayMax: 5_000 });
    on.state("connecting", "connecting");
    this.socket.on("connect", () => this.join());
    this.socket.on("connect_error", (error) => this.failed(error));
    this.socket.on("disconnect", (reason, details) => {
      this.joined = false;
      if (this.closed) return;
      const frame = (details as { context?: { code?: number; reason?: string } } | undefined)?.context;
      const named = frame?.code === undefined ? undefined : CLOSE_REASONS[frame.code];
      const why = named ? `${named} (${frame?.code})` : frame?.reason || reason;
      // After a disconnect by the server's own packet the official client stays away.
      on.state(this.socket.active ? "connecting" : "offline", this.socket.active ? `coming back: ${why}` : why);
    });
    this.socket.on("new_msg", (answer: Answer<Message>) => {
      if (isMessage(answer?.result)) this.heard(answer.result);
    });
    this.socket.on("speaker", (alert: Speaker) => {
      if (isMessage(alert)) on.speaker(alert);
    });
    this.socket.on("geo", (people: Person[]) => {
      if (Array.isArray(people)) on.people(people);
    });
    this.socket.on("exception", (answer: Answer) => this.refused(answer));
    this.geoTimer = window.setInterval(() => {
      if (this.joined && !document.hidden) this.socket.emit("update", "geo", this.whereabouts());
    }, GEO_INTERVAL_MS);
  }

  reconnect(): void {
    if (!this.socket.connected) this.socket.connect();
  }

  /** For good; nothing is reported any more. */
  close(): void {
    this.closed = true;
    window.clearInterval(this.geoTimer);
    window.clearTimeout(this.moveTimer);
    this.socket.disconnect();
  }

  /** May be called on every pixel of a drag; the last place always arrives. */
  move(place: Place, radius: number): void {
    this.place = place;
    this.radius = radius;
    if (this.moveTimer !== undefined) return;
    const wait = Math.max(0, this.movedAt + MOVE_INTERVAL_MS - performance.now());
    this.moveTimer = window.setTimeout(() => {
      this.moveTimer = undefined;
      this.movedAt = performance.now();
      if (this.joined) void this.ask("update", "geo", this.whereabouts());
    }, wait);
  }

  /** True when the server has stored it. `reach`: how far a LoudSpeaker alerts, in metres. */
  async say(contents: string, loud: boolean, reach: number): Promise<boolean> {
    const answer = await this.ask("save_msg", {
      token: this.token,
      messageData: { ...this.place, contents, type: loud ? "LoudSpeaker" : "Message", ...testFlag },
      ...(loud ? { radius: reach } : {}),
    });
    return answer !== undefined;
  }

  private whereabouts() {
    return { token: this.token, position: [this.place.lng, this.place.lat], radius: this.radius, ...testFlag };
  }

  private async join(): Promise<void> {
    this.on.state("connecting", "joining the map");
    const since = this.cursor === undefined ? {} : { since: this.cursor };
    const answer = await this.ask<Joined>("store", { ...this.whereabouts(), ...since });
    if (!answer) {
      if (this.socket.connected) this.on.state("refused", "not on the map");
      return;
    }
    this.joined = true;
    this.on.state("online", "online");
    const joined = answer.result;
    for (const missed of joined?.missed ?? []) {
      const message = "result" in missed ? missed.result : missed;
      if (isMessage(message)) this.heard(message);
    }
    if (since.since !== undefined && joined?.recovered === false) {
      this.on.error("Too much was said during the break; part of it is not shown.");
    }
    this.cursor ??= joined?.cursor;
    this.socket.emit("update", "geo", this.whereabouts());
  }

  private heard(message: Message): void {
    if (message.cursor !== undefined) this.cursor = message.cursor;
    this.on.message(message);
  }

  /** Emits with an ack; undefined when refused or unanswered, after telling the user. */
  private async ask<T>(event: string, ...args: unknown[]): Promise<Answer<T> | undefined> {
    try {
      const answer: Answer<T> = await this.socket.timeout(ACK_TIMEOUT_MS).emitWithAck(event, ...args);
      if (answer.status < 400) return answer;
      this.refused(answer, event);
    } catch {
      this.on.error(this.socket.connected ? `${event}: no answer within ${ACK_TIMEOUT_MS / 1000} s` : `${event}: not connected`);
    }
    return undefined;
  }

  private refused(answer: Answer, event?: string): void {
    const text = event ? `${event}: ${describe(answer)}` : describe(answer);
    if (answer.status === 401 || TOKEN_CODES.has(Number(answer.code))) this.on.tokenRefused(text);
    else this.on.error(text);
  }

  private failed(error: Error & { data?: Answer }): void {
    // `active`: the transport failed and is tried again. Otherwise the server refused the namespace.
    if (this.socket.active) {
      this.on.state("connecting", `cannot reach the server (${error.message}); trying again`);
      return;
    }
    this.on.state("refused", error.message);
    const answer = error.data?.status === undefined ? { status: 401, message: error.message } : error.data;
    this.refused(answer, "connect");
  }
}

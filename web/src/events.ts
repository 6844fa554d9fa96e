// What travels between this page and `dna`; docs/events.md is the full table.

export type Place = { lng: number; lat: number };

export type Author = { idx: number | string; nickname?: string; avatar?: string; anonymity?: boolean };

/** `new_msg.result`; `speaker` is the same with `folded`. */
export type Message = {
  idx: number;
  cursor?: string;
  user: Author;
  position: { type: "Point"; coordinates: [number, number] };
  type: string;
  like_count: number;
  contents: string;
  created_at: string;
};

export type Speaker = Message & { folded?: number };

/** One entry of the `geo` answer. `inside`: I stand in their circle, so they hear what I write. */
export type Person = Author & { inside: boolean };

/** An ack, or the body of `exception`. */
export type Answer<T = unknown> = {
  status: number;
  code?: number | string;
  message?: string;
  errors?: Record<string, { message?: string }>;
  result?: T;
};

export type Joined = {
  idx: number;
  radius: number;
  cursor?: string;
  /** false: more was said than the server hands over; what is missing stays missing. */
  recovered?: boolean;
  missed?: Array<Message | { result: Message }>;
};

export function placeOf(message: Message): Place {
  const [lng, lat] = message.position.coordinates;
  return { lng, lat };
}

export function isMessage(value: unknown): value is Message {
  const m = value as Message | undefined;
  return typeof m?.contents === "string" && Array.isArray(m.position?.coordinates);
}

/** A sentence for people: what was refused, why, and where in the input. */
export function describe(answer: Answer): string {
  const fields = Object.entries(answer.errors ?? {}).map(([name, e]) => `${name}: ${e.message ?? "invalid"}`);
  const text = [answer.message ?? "refused", ...fields].join(" · ");
  return answer.code === undefined ? `${answer.status}: ${text}` : `${answer.status}/${answer.code}: ${text}`;
}

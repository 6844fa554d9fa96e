// dna's contract, rule by rule, through the official clients. "Hears nothing" is always proved by a later
// sentinel that does arrive, never by a pause.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { after, before, describe, it } from "node:test";
import { join } from "node:path";
import { Dna, GANGNAM, ask, hears, message, offset, once, say, says, texts, within } from "./lib.mjs";

/** So many events took at least so long; a busy machine may have shown us the first one late. */
function assertPaced(times, interval) {
  const span = times.at(-1) - times[0];
  assert.ok(span + interval / 2 >= (times.length - 1) * interval, `${times}`);
}

const stored = (dna, world) =>
  execFileSync("sqlite3", ["-readonly", join(dna.data, world), "SELECT contents FROM message ORDER BY idx"], {
    encoding: "utf8",
  }).split("\n").filter(Boolean);

for (const version of [4, 2]) {
  describe(`hearing, socket.io-client ${version}`, () => {
    let dna;
    before(async () => (dna = await Dna.start({ flags: ["--no-limits"] })));
    after(() => dna.stop());

    it("a message reaches whose own circle holds its place, and nobody else", async () => {
      const near = await dna.person(1, offset(GANGNAM, 300, 0), 301, { version });
      const far = await dna.person(2, offset(GANGNAM, 300, 0), 299, { version });
      const writer = await dna.client({ version });
      writer.token = dna.token(3);
      const ack = await say(writer, GANGNAM, "here");
      assert.equal(ack.status, 201);
      const { body } = await hears(near, says("here"));
      assert.deepEqual(body.result, ack.result);
      assert.deepEqual(body.result.position, { type: "Point", coordinates: GANGNAM });
      assert.equal(body.result.user.idx, 3);
      assert.match(body.result.created_at, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
      await say(writer, offset(GANGNAM, 300, 0), "sentinel");
      await hears(far, says("sentinel"));
      await hears(near, says("sentinel"));
      assert.deepEqual(texts(far), ["sentinel"]);
      assert.deepEqual(texts(near), ["here", "sentinel"]);
    });

    it("the ack goes before the sender's own copy, which comes even from outside its circle", async () => {
      const writer = await dna.person(10, offset(GANGNAM, 5000, 0), 100, { version });
      const order = [];
      writer.on("new_msg", () => order.push("copy"));
      await new Promise((resolve) =>
        writer.emit("save_msg", message(offset(GANGNAM, 0, 5000), "mine"), () => {
          order.push("ack");
          resolve();
        }),
      );
      await hears(writer, says("mine"));
      assert.deepEqual(order, ["ack", "copy"]);
      assert.deepEqual(texts(writer), ["mine"]);
    });

    it("moving away is moving away", async () => {
      const place = offset(GANGNAM, 0, 20_000);
      const walker = await dna.person(20, place, 100, { version });
      const writer = await dna.client({ version });
      writer.token = dna.token(21);
      await say(writer, place, "first");
      await hears(walker, says("first"));
      const away = offset(place, 1000, 0);
      assert.equal((await ask(walker, "update", { position: away, radius: 100 })).status, 200);
      await say(writer, place, "unheard");
      await say(writer, away, "second");
      await hears(walker, says("second"));
      assert.deepEqual(texts(walker), ["first", "second"]);
    });

    it("objects may come as JSON strings", async () => {
      const socket = await dna.client({ version });
      const token = dna.token(30);
      const ack = await ask(socket, "store", JSON.stringify({ token, position: [0, 0], radius: 0 }));
      assert.equal(ack.status, 200);
      assert.equal((await ask(socket, "save_msg", JSON.stringify(message([0, 0], "null island")))).status, 201);
      await hears(socket, says("null island"));
    });

    it("a disconnect never cancels an accepted save", async () => {
      const listener = await dna.person(40, offset(GANGNAM, 0, -9000), 50, { version });
      const writer = await dna.client({ version });
      writer.emit("save_msg", { token: dna.token(41), ...message(offset(GANGNAM, 0, -9000), "last words") });
      // The engine sends before it closes: the message is on the wire, the ack is not waited for.
      writer.close();
      await hears(listener, says("last words"));
      assert.ok(stored(dna, "dna.db").includes("last words"));
    });
  });
}

describe("identity", () => {
  let dna;
  before(async () => (dna = await Dna.start()));
  after(() => dna.stop());
  const place = { position: GANGNAM, radius: 100 };

  it("is a token and nothing else", async () => {
    const socket = await dna.client();
    const none = await ask(socket, "store", place);
    assert.deepEqual([none.status, none.code], [401, 10400]);
    const forged = await ask(socket, "store", { ...place, token: dna.token(1).slice(0, -3) + "abc" });
    assert.deepEqual([forged.status, forged.code], [401, 12400]);
    const b64 = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
    const unsigned = `${b64({ alg: "none", typ: "JWT" })}.${b64({ idx: 1, exp: 9e9 })}.`;
    assert.equal((await ask(socket, "store", { ...place, token: unsigned })).code, 12400);
    const expired = await ask(socket, "store", { ...place, token: dna.token(1, "--ttl", "0s") });
    assert.deepEqual([expired.status, expired.code], [401, 11400]);
  });

  it("binds the connection: another user's token gets 403, the connection stays", async () => {
    const socket = await dna.person(1, GANGNAM, 100);
    const other = await ask(socket, "store", { ...place, token: dna.token(2) });
    assert.deepEqual([other.status, other.code], [403, 10403]);
    assert.equal((await ask(socket, "store", { ...place, token: dna.token(1) })).status, 200);
    assert.equal((await ask(socket, "store", place)).result.idx, 1);
  });

  it("comes in the handshake too; a bad one is a connect_error with the code", async () => {
    const socket = await dna.client({ auth: { token: dna.token(5) } });
    assert.equal((await ask(socket, "store", place)).result.idx, 5);
    const bad = dna.unconnected({ auth: { token: "nonsense" } });
    const error = await once(bad, "connect_error");
    assert.equal(error.data.code, 12400);
  });

  it("expiry is looked at on each event", async () => {
    const socket = await dna.client();
    const token = dna.token(6, "--ttl", "2s");
    assert.equal((await ask(socket, "store", { ...place, token })).status, 200);
    await within("the token's end", (async () => {
      for (;;) {
        const answer = await ask(socket, "store", { ...place, token });
        if (answer.status !== 200) return assert.equal(answer.code, 11400);
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
    })());
  });

  it("several devices of a user each have their own place", async () => {
    const here = await dna.person(7, GANGNAM, 100);
    const there = await dna.person(7, offset(GANGNAM, 3000, 0), 100);
    await say(here, offset(GANGNAM, 3000, 0), "to my other self");
    await hears(there, says("to my other self"));
    here.close();
    const writer = await dna.client();
    writer.token = dna.token(8);
    await say(writer, offset(GANGNAM, 3000, 0), "still there");
    await hears(there, says("still there"));
  });
});

describe("refusals", () => {
  let dna;
  before(async () => (dna = await Dna.start()));
  after(() => dna.stop());

  it("name every wrong field, in the ack or as exception, and the connection stays", async () => {
    const socket = await dna.client();
    const bad = { messageData: { lng: "127.???????", lat: 99, contents: "" } };
    const ack = await ask(socket, "save_msg", bad);
    assert.equal(ack.status, 400);
    assert.deepEqual(Object.keys(ack.errors).sort(), [
      "messageData.contents",
      "messageData.lat",
      "messageData.lng",
    ]);
    socket.emit("save_msg", bad);
    const { body } = await hears(socket, ({ event }) => event === "exception");
    assert.deepEqual(body, ack);
    assert.ok(socket.connected);
  });

  it("unknown events and those not built say so", async () => {
    const socket = await dna.client();
    assert.deepEqual(await ask(socket, "shout", 1).then(({ status, code }) => [status, code]), [404, 10404]);
    assert.equal((await ask(socket, "like", "token", 1)).code, 10501);
    assert.equal((await ask(socket, "save_dm", "token", {})).code, 10501);
  });

  it("other namespaces are refused", async () => {
    const socket = dna.unconnected();
    socket.io.uri += "/other";
    const other = socket.io.socket("/other");
    other.connect();
    assert.equal((await once(other, "connect_error")).message, "Invalid namespace");
  });

  it("limits per connection and per user answer 429 with their codes, and pass", async () => {
    const socket = await dna.person(50, GANGNAM, 100);
    const answers = await Promise.all(
      Array.from({ length: 40 }, (_, n) => say(socket, GANGNAM, `burst ${n}`)),
    );
    const codes = new Set(answers.filter(({ status }) => status === 429).map(({ code }) => code));
    assert.deepEqual([...codes], [11429]);
    const kept = answers.filter(({ status }) => status === 201).length;
    assert.ok(kept >= 20 && kept < 40, `${kept} kept`);
    const flood = await Promise.all(Array.from({ length: 200 }, () => ask(socket, "shout")));
    assert.ok(flood.some(({ code }) => code === 10429));
    await within("the bucket to fill", (async () => {
      while ((await say(socket, GANGNAM, "later")).status !== 201) await new Promise((r) => setTimeout(r, 200));
    })());
  });
});

describe("radii and reach", () => {
  let dna;
  before(async () => (dna = await Dna.start({ flags: ["--no-limits"] })));
  after(() => dna.stop());

  it("a hearing radius is clamped to 20 km, and the ack says so", async () => {
    const socket = await dna.person(1, GANGNAM, 50_000);
    assert.equal(socket.stored.result.radius, 20_000);
    const writer = await dna.client();
    writer.token = dna.token(2);
    await say(writer, offset(GANGNAM, 0, 20_100), "beyond");
    await say(writer, offset(GANGNAM, 0, 19_900), "within");
    await hears(socket, says("within"));
    assert.deepEqual(texts(socket), ["within"]);
  });

  it("save_msg.radius says how far a LoudSpeaker reaches and nothing else", async () => {
    const place = offset(GANGNAM, 0, 100_000);
    const near = await dna.person(11, offset(place, 300, 0), 1);
    const listener = await dna.person(12, offset(place, 100, 0), 200);
    const writer = await dna.person(13, place, 200);
    const alerted = (text) => ({ event, body }) => event === "speaker" && body.contents === text;
    // An ordinary message: its radius moves nothing.
    await say(writer, place, "quiet", { radius: 5000 });
    // Without one the sender's own radius is the reach: 200 m.
    await say(writer, place, "own radius", { type: "LoudSpeaker" });
    await hears(listener, alerted("own radius"));
    await say(writer, place, "told radius", { type: "LoudSpeaker", radius: 400 });
    await hears(near, alerted("told radius"));
    await hears(listener, says("told radius"));
    assert.deepEqual(near.heard.map(({ body }) => body.contents), ["told radius"]);
    assert.deepEqual(texts(listener), ["quiet", "own radius", "told radius"]);
    // Somebody who never said where he is reaches 500 m.
    const nowhere = await dna.client();
    nowhere.token = dna.token(14);
    const edge = await dna.person(15, offset(place, 0, 480), 1);
    const past = await dna.person(16, offset(place, 0, 520), 1);
    await say(nowhere, place, "default", { type: "LoudSpeaker" });
    await hears(edge, alerted("default"));
    await say(nowhere, offset(place, 0, 520), "sentinel", { type: "LoudSpeaker", radius: 10 });
    await hears(past, alerted("sentinel"));
    assert.equal(past.heard.filter(({ event }) => event === "speaker").length, 1);
  });

  it("a place takes only so much, whoever writes; elsewhere goes on", async () => {
    const strict = await Dna.start({ flags: ["--config", "places.toml"] });
    try {
      const answers = [];
      for (let idx = 1; idx <= 5; idx++) {
        const writer = await strict.client();
        writer.token = strict.token(idx);
        answers.push(await say(writer, GANGNAM, `from ${idx}`));
      }
      assert.deepEqual(answers.map(({ status }) => status), [201, 201, 201, 429, 429]);
      assert.equal(answers[3].code, 12429);
      const elsewhere = await strict.client();
      elsewhere.token = strict.token(9);
      assert.equal((await say(elsewhere, offset(GANGNAM, 10_000, 0), "here I may")).status, 201);
      assert.equal(stored(strict, "dna.db").length, 4);
    } finally {
      await strict.stop();
    }
  });
});

describe("two worlds", () => {
  let dna;
  before(async () => (dna = await Dna.start({ flags: ["--test-world", "closed"] })));
  after(() => dna.stop());

  it("never see each other, and a test token means test whatever the flags say", async () => {
    const live = await dna.person(1, GANGNAM, 500);
    const test = await dna.person(1, GANGNAM, 500, { flags: ["--test"] });
    assert.equal((await say(test, GANGNAM, "in test", { test: false, testing: false })).status, 201);
    assert.equal((await say(live, GANGNAM, "in live")).status, 201);
    await hears(live, says("in live"));
    await hears(test, says("in test"));
    await say(live, GANGNAM, "live sentinel");
    await say(test, GANGNAM, "test sentinel");
    await hears(live, says("live sentinel"));
    await hears(test, says("test sentinel"));
    assert.deepEqual(texts(live), ["in live", "live sentinel"]);
    assert.deepEqual(texts(test), ["in test", "test sentinel"]);
    assert.deepEqual(stored(dna, "dna.db"), ["in live", "live sentinel"]);
    assert.deepEqual(stored(dna, "dna-test.db"), ["in test", "test sentinel"]);
  });

  it("an ordinary token stays out of a closed test world, and nothing is stored", async () => {
    const socket = await dna.client();
    socket.token = dna.token(2);
    const before = stored(dna, "dna-test.db").length + stored(dna, "dna.db").length;
    for (const more of [{ testing: true }, { test: true }]) {
      const answer = await say(socket, GANGNAM, "let me in", more);
      assert.deepEqual([answer.status, answer.code], [403, 11403]);
    }
    assert.equal(stored(dna, "dna-test.db").length + stored(dna, "dna.db").length, before);
  });

  it("an open one takes it in; an event for the other world gets 409", async () => {
    const open = await Dna.start({ flags: ["--test-world", "open"] });
    try {
      const socket = await open.client();
      socket.token = open.token(3);
      assert.equal((await say(socket, GANGNAM, "testing", { testing: true })).status, 201);
      assert.equal((await say(socket, GANGNAM, "still testing")).status, 201);
      const wrong = await say(socket, GANGNAM, "now live", { testing: false });
      assert.deepEqual([wrong.status, wrong.code], [409, 10409]);
      assert.deepEqual(stored(open, "dna-test.db"), ["testing", "still testing"]);
      assert.deepEqual(stored(open, "dna.db"), []);
      const live = await open.person(4, GANGNAM, 10);
      assert.equal((await say(live, GANGNAM, "x", { testing: true })).code, 10409);
    } finally {
      await open.stop();
    }
  });
});

describe("LoudSpeaker", () => {
  let dna;
  before(async () => (dna = await Dna.start({ flags: ["--no-limits"] })));
  after(() => dna.stop());

  it("alerts those located within its reach, not the writer, folded to one in two seconds", async () => {
    const deaf = await dna.person(1, offset(GANGNAM, 400, 0), 1, { flags: ["--test"] });
    const outside = await dna.person(2, offset(GANGNAM, 600, 0), 1, { flags: ["--test"] });
    const writer = await dna.person(3, GANGNAM, 500, { flags: ["--test"] });
    for (let n = 0; n < 50; n++) {
      await say(writer, GANGNAM, `loud ${n}`, { type: "LoudSpeaker", radius: 500 });
    }
    const alerts = () => deaf.heard.filter(({ event }) => event === "speaker");
    const told = () => alerts().reduce((sum, { body }) => sum + 1 + body.folded, 0);
    await within("all fifty to be told", (async () => {
      while (told() < 50) await new Promise((resolve) => setTimeout(resolve, 50));
    })());
    assert.equal(told(), 50);
    const times = alerts().map(({ at }) => at);
    assertPaced(times, 2000);
    assert.equal(alerts()[0].body.contents, "loud 0");
    assert.equal(alerts().at(-1).body.contents, "loud 49");
    // Sentinels for those who must have heard nothing.
    await say(writer, offset(GANGNAM, 600, 0), "reached", { type: "LoudSpeaker", radius: 10 });
    await hears(outside, ({ event, body }) => event === "speaker" && body.contents === "reached");
    assert.equal(outside.heard.filter(({ event }) => event === "speaker").length, 1);
    assert.equal(writer.heard.filter(({ event }) => event === "speaker").length, 0);
    assert.deepEqual(texts(deaf), []);
    const metrics = await dna.metrics();
    await within("the pushes to be received", (async () => {
      let now = metrics;
      while (now.dna_pushes_received_total + now.dna_pushes_folded_total < now.dna_alerts_total) {
        await new Promise((resolve) => setTimeout(resolve, 50));
        now = await dna.metrics();
      }
      assert.equal(now.dna_pushes_dropped_total, 0);
    })());
  });
});

describe("geo", () => {
  let dna;
  before(async () => (dna = await Dna.start({ flags: ["--no-limits"] })));
  after(() => dna.stop());

  it("lists who is near, each once, with whether they would hear me", async () => {
    const place = offset(GANGNAM, 0, 40_000);
    const me = await dna.person(1, place, 1000);
    const wide = await dna.person(2, offset(place, 600, 0), 1500);
    await dna.person(3, offset(place, 600, 0), 200);
    await dna.person(4, offset(place, 3000, 0), 5000);
    const second = await dna.person(2, offset(place, 700, 0), 100);
    me.emit("update", "geo", { position: place, radius: 1000 });
    const { body } = await hears(me, ({ event }) => event === "geo");
    const rows = Object.fromEntries(body.map((row) => [row.idx, row.inside]));
    assert.deepEqual(rows, { 1: true, 2: true, 3: false });
    assert.equal(body.length, 3);
    for (const row of body) assert.deepEqual(Object.keys(row).sort(), ["anonymity", "avatar", "idx", "inside", "nickname"]);
    wide.close();
    second.close();
  });

  it("is computed from a 200 m grid: a small step tells nothing", async () => {
    const place = offset(GANGNAM, 40_000, 0);
    const me = await dna.person(11, place, 200);
    const other = await dna.person(12, place, 200);
    // Wherever the grid's lines run, 60 steps of 5 m change what I see at most at two of them.
    const seen = [];
    for (let step = 0; step < 12; step++) {
      await ask(other, "update", { position: offset(place, step * 5, 0), radius: 200 });
      me.heard.length = 0;
      me.emit("update", "geo", { position: place, radius: 200 });
      const { body } = await hears(me, ({ event }) => event === "geo");
      seen.push(body.some(({ idx }) => idx === 12));
    }
    const changes = seen.filter((now, n) => n && now !== seen[n - 1]).length;
    assert.ok(changes <= 1, `${seen}`);
  });

  it("answers at most once a second, the latest place, at most 200 people", async () => {
    const place = offset(GANGNAM, 80_000, 0);
    const tokens = dna.tokens(1000, 230);
    await Promise.all(tokens.map(async (token) => {
      const socket = await dna.client();
      assert.equal((await ask(socket, "store", { token, position: place, radius: 100 })).status, 200);
    }));
    const me = await dna.person(2000, offset(place, 9000, 0), 300);
    for (let n = 0; n < 20; n++) me.emit("update", "geo", { position: offset(place, 9000 - n, 0), radius: 300 });
    me.emit("update", "geo", { position: place, radius: 300 });
    const full = await hears(me, ({ event, body }) => event === "geo" && body.length > 1);
    assert.equal(full.body.length, 200);
    const times = me.heard.filter(({ event }) => event === "geo").map(({ at }) => at);
    assertPaced(times, 1000);
  });

  it("anonymous people have a handle, no name and no number", async () => {
    const place = offset(GANGNAM, 0, 120_000);
    const me = await dna.person(21, place, 500);
    const hidden = await dna.client();
    await ask(hidden, "store", { token: dna.token(22), position: place, radius: 500, anonymity: true, nickname: "Real Name" });
    me.emit("update", "geo", { position: place, radius: 500 });
    const { body } = await hears(me, ({ event }) => event === "geo");
    const row = body.find(({ anonymity }) => anonymity);
    assert.match(row.idx, /^a[0-9a-f]{20}$/);
    await ask(hidden, "save_msg", message(place, "psst"));
    const said = await hears(me, says("psst"));
    assert.equal(said.body.result.user.idx, row.idx);
    assert.equal(said.body.result.user.nickname, row.nickname);
    assert.equal(said.body.result.user.avatar, null);
    assert.ok(!JSON.stringify(said.body).includes("Real Name"));
    assert.ok(!JSON.stringify(said.body.result.user).includes("22,"));
  });
});

describe("catch-up", () => {
  let dna;
  before(async () => (dna = await Dna.start({ flags: ["--no-limits"] })));
  after(() => dna.stop());
  const store = (socket, token, since, place = GANGNAM) =>
    ask(socket, "store", { token, position: place, radius: 500, since });

  it("tells what was missed in the own circle, once, while others keep writing", async () => {
    const writer = await dna.client();
    writer.token = dna.token(1);
    const token = dna.token(2);
    const first = await dna.client();
    const { result } = await store(first, token);
    let cursor = result.cursor;
    let running = true;
    let sent = 0;
    const stream = (async () => {
      while (running) {
        await say(writer, sent % 3 ? GANGNAM : offset(GANGNAM, 2000, 0), `n${sent}`);
        sent += 1;
      }
    })();
    const got = [];
    first.on("new_msg", ({ result }) => got.push(result));
    for (let round = 0; round < 15; round++) {
      await within("some messages", (async () => {
        const before = sent;
        while (sent < before + 20) await new Promise((resolve) => setTimeout(resolve, 5));
      })());
      const old = round ? got.connection : first;
      old.close();
      if (got.length) cursor = got.at(-1).cursor;
      await within("some to be missed", (async () => {
        const before = sent;
        while (sent < before + 20) await new Promise((resolve) => setTimeout(resolve, 5));
      })());
      const again = await dna.client();
      got.connection = again;
      const live = [];
      again.on("new_msg", ({ result }) => live.push(result));
      const answer = await store(again, token, cursor);
      assert.equal(answer.result.recovered, true);
      got.push(...answer.result.missed);
      cursor = answer.result.cursor;
      got.push(...live);
      again.off("new_msg");
      again.on("new_msg", ({ result }) => got.push(result));
    }
    running = false;
    await stream;
    await say(writer, GANGNAM, "end");
    await within("the end", (async () => {
      while (got.at(-1)?.contents !== "end") await new Promise((resolve) => setTimeout(resolve, 10));
    })());
    const expected = Array.from({ length: sent }, (_, n) => n).filter((n) => n % 3).map((n) => `n${n}`);
    assert.deepEqual(got.map(({ contents }) => contents), [...expected, "end"]);
  });

  it("is honest: foreign cursors, other epochs and too much are not recovered", async () => {
    const token = dna.token(3);
    for (const since of ["nonsense", "0000000000000000.1", "ffff."]) {
      const { result } = await store(await dna.client(), token, since);
      assert.equal(result.recovered, false);
      assert.deepEqual(result.missed, []);
    }
    const socket = await dna.client();
    const { result } = await store(socket, token, undefined, offset(GANGNAM, 0, 60_000));
    const writer = await dna.client();
    writer.token = dna.token(4);
    await Promise.all(Array.from({ length: 501 }, (_, n) => say(writer, offset(GANGNAM, 0, 60_000), `many ${n}`)));
    const late = await store(await dna.client(), token, result.cursor, offset(GANGNAM, 0, 60_000));
    assert.equal(late.result.recovered, false);
    assert.deepEqual(late.result.missed, []);
    const fresh = await store(await dna.client(), token, late.result.cursor, offset(GANGNAM, 0, 60_000));
    assert.deepEqual([fresh.result.recovered, fresh.result.missed], [true, []]);
  });

  it("recovers across a restart, and numbers go on", async () => {
    const token = dna.token(5);
    const place = offset(GANGNAM, 0, -60_000);
    const { result } = await store(await dna.client(), token, undefined, place);
    const writer = await dna.client();
    writer.token = dna.token(6);
    const one = await say(writer, place, "before the restart");
    const { data, port } = dna;
    dna.ownsData = false;
    assert.deepEqual(await dna.stop(), { code: 0, signal: null });
    dna = await Dna.start({ flags: ["--no-limits"], data, port });
    dna.ownsData = true;
    const back = await store(await dna.client(), token, result.cursor, place);
    assert.deepEqual(back.result.missed.map(({ contents }) => contents), ["before the restart"]);
    const again = await dna.client();
    again.token = dna.token(6);
    const two = await say(again, place, "after");
    assert.ok(two.result.idx > one.result.idx);
  });
});

describe("endings an official client comes back from", () => {
  for (const version of [4, 2]) {
    it(`a restart (1012), socket.io-client ${version}`, async () => {
      let dna = await Dna.start();
      const { data, port } = dna;
      const socket = await dna.client({ version, reconnection: true, reconnectionDelay: 50 });
      const gone = once(socket, "disconnect");
      dna.sockets.length = 0;
      dna.ownsData = false;
      const back = new Promise((resolve) => socket.once("disconnect", () => socket.once("connect", resolve)));
      await dna.stop();
      assert.equal(await gone, "transport close");
      dna = await Dna.start({ data, port });
      dna.sockets.push(socket);
      dna.ownsData = true;
      await within("the client to come back", back);
      await dna.stop();
    });

    it(`a slow reader (4008), socket.io-client ${version}`, async () => {
      // A bound of 1 s on the outbox's age, and a client whose socket is paused.
      const dna = await Dna.start({ flags: ["--no-limits", "--config", "slow.toml"] });
      try {
        const slow = await dna.person(1, GANGNAM, 500, { version, reconnection: true, reconnectionDelay: 50 });
        const bystander = await dna.person(2, GANGNAM, 500, { version });
        const writer = await dna.client();
        writer.token = dna.token(3);
        const back = new Promise((resolve) => slow.once("disconnect", () => slow.once("connect", resolve)));
        const raw = slow.io.engine.transport.ws._socket;
        raw.pause();
        let sent = 0;
        const text = "x".repeat(4000);
        await within("the slow one to be closed", (async () => {
          while ((await dna.metrics())['dna_closed_total{reason="outbox_age"}'] === 0 &&
                 (await dna.metrics())['dna_closed_total{reason="outbox_bytes"}'] === 0) {
            // Well below the bound, so that the writer itself never looks slow.
            await Promise.all(Array.from({ length: 15 }, () => say(writer, GANGNAM, text)));
            sent += 15;
          }
        })(), 60_000);
        raw.resume();
        await within("the client to come back", back, 30_000);
        assert.ok(slow.connected);
        await within("the bystander to hear all", (async () => {
          while (texts(bystander).length < sent) await new Promise((resolve) => setTimeout(resolve, 20));
        })());
        assert.ok(bystander.connected);
      } finally {
        await dna.stop();
      }
    });
  }
});

describe("order", () => {
  it("one sender's messages arrive in order at each of many listeners, under a sliced flush", async () => {
    const dna = await Dna.start({ flags: ["--no-limits", "--workers", "2"] });
    try {
      const tokens = dna.tokens(1, 300);
      const listeners = await Promise.all(tokens.map(async (token) => {
        const socket = await dna.client();
        await ask(socket, "store", { token, position: GANGNAM, radius: 500 });
        return socket;
      }));
      const writer = await dna.client();
      writer.token = dna.token(9000);
      const count = 400;
      for (let n = 0; n < count; n++) writer.emit("save_msg", { token: writer.token, ...message(GANGNAM, `m${n}`) });
      await within("everybody to hear all", (async () => {
        while (listeners.some((socket) => socket.heard.length < count)) {
          await new Promise((resolve) => setTimeout(resolve, 20));
        }
      })(), 60_000);
      const expected = Array.from({ length: count }, (_, n) => `m${n}`);
      for (const socket of listeners) assert.deepEqual(texts(socket), expected);
    } finally {
      await dna.stop();
    }
  });
});

describe("the programs", () => {
  it("a second dna on the same directory or port is told what to do", async () => {
    const dna = await Dna.start();
    try {
      await assert.rejects(Dna.start({ data: dna.data }), /another dna is using.*--data/s);
      await assert.rejects(Dna.start({ port: dna.port }), /listening on.*--listen/s);
    } finally {
      await dna.stop();
    }
  });

  it("forget-test-world takes the test world only, and not from under a running server", async () => {
    let dna = await Dna.start();
    const { data } = dna;
    const run = () => execFileSync(process.env.DNA_BIN, ["forget-test-world", "--data", data], { encoding: "utf8", stdio: "pipe" });
    const test = await dna.person(1, GANGNAM, 10, { flags: ["--test"] });
    await say(test, GANGNAM, "forget me");
    const live = await dna.person(1, GANGNAM, 10);
    await say(live, GANGNAM, "keep me");
    assert.throws(run, /stopped/);
    dna.ownsData = false;
    await dna.stop();
    assert.match(run(), /forgotten/);
    dna = await Dna.start({ data });
    dna.ownsData = true;
    assert.deepEqual(stored(dna, "dna.db"), ["keep me"]);
    assert.deepEqual(stored(dna, "dna-test.db"), []);
    await dna.stop();
  });
});

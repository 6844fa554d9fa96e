// The page: joins the parts, and draws once per frame whatever arrived since the last one.

import "./style.css";
import { Alerts } from "./alerts";
import { Connection, type State } from "./connection";
import type { Message, Person, Speaker } from "./events";
import { Feed } from "./feed";
import { metres, radiusToSlider, sliderToRadius } from "./geo";
import { createMap } from "./map";
import { Marks } from "./marks";
import { drawPeople } from "./people";
import { claims, findToken, keepPlace, keepRadius, keepToken, startPlace, startRadius, world } from "./settings";

function element<T extends HTMLElement = HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page lacks #${id}`);
  return found as T;
}

const ERROR_SHOWN_MS = 7_000;
const MOST_ERRORS = 3;
/** The list and counters need not follow every frame; the map does. */
const LIST_INTERVAL_MS = 100;
/** `new_msg` repeats after a catch-up are rare; remembering this many is plenty. */
const REMEMBERED = 4_000;
const TOKEN_RETRY_MS = 30_000;

// ---- What the page knows ----

const start = startPlace();
let place = start.place;
let radius = startRadius();
let me: number | undefined;
let connection: Connection | undefined;
let heardTotal = 0;
let heardLately = 0;
let people: Person[] | undefined;
let dirty = true;
let refusedAt = -Infinity;
const seen = new Set<number>();

// ---- Parts ----

const view = createMap(element("map"), place, radius, (to) => moveTo(to));
const marks = new Marks(view.map);
const feed = new Feed(
  element("messages"),
  element("empty"),
  element<HTMLButtonElement>("resume"),
  () => ({ place, idx: me }),
);
const alerts = new Alerts(
  { card: element("alert"), title: element("alert-title"), body: element("alert-body"), folded: element("alert-folded"), close: element("alert-close") },
  () => place,
);

// ---- Place and circle ----

const slider = element<HTMLInputElement>("radius");

function showPlace(): void {
  const ns = place.lat < 0 ? "S" : "N";
  const ew = place.lng < 0 ? "W" : "E";
  element("place-text").textContent = `${Math.abs(place.lat).toFixed(4)}° ${ns}  ${Math.abs(place.lng).toFixed(4)}° ${ew}`;
  element("radius-text").textContent = metres(radius);
  view.show(place, radius);
}

function moveTo(to: typeof place): void {
  place = to;
  keepPlace(place);
  showPlace();
  connection?.move(place, radius);
}

slider.value = String(radiusToSlider(radius));
slider.addEventListener("input", () => {
  radius = sliderToRadius(Number(slider.value));
  keepRadius(radius);
  showPlace();
  connection?.move(place, radius);
});
slider.addEventListener("change", () => view.fit());

function locate(asked: boolean): void {
  if (!("geolocation" in navigator)) {
    if (asked) showError("This browser does not tell its location; click the map instead.");
    return;
  }
  navigator.geolocation.getCurrentPosition(
    ({ coords }) => {
      moveTo({ lng: Number(coords.longitude.toFixed(6)), lat: Number(coords.latitude.toFixed(6)) });
      view.fit();
    },
    (error) => {
      if (asked) showError(`No location: ${error.message || "denied"}. Click the map instead.`);
    },
    { timeout: 8_000, maximumAge: 60_000 },
  );
}
element("locate").addEventListener("click", () => locate(true));

// ---- What is heard ----

function hear(message: Message): void {
  if (seen.has(message.idx)) return;
  seen.add(message.idx);
  if (seen.size > REMEMBERED) seen.delete(seen.values().next().value as number);
  heardTotal++;
  heardLately++;
  dirty = true;
  marks.add(message, performance.now());
  feed.add(message);
}

function alerted(alert: Speaker): void {
  alerts.add(alert);
  dirty = true;
  // One can be alerted without hearing: the alert goes by the sender's reach, not by one's own circle.
  if (!seen.has(alert.idx)) marks.add(alert, performance.now());
}

// ---- Drawing ----

let listedAt = 0;
let rate = 0;
let ratedAt = performance.now();

function frame(now: number): void {
  requestAnimationFrame(frame);
  if (now - ratedAt >= 1_000) {
    const measured = (heardLately * 1_000) / (now - ratedAt);
    dirty ||= measured !== rate;
    rate = measured;
    heardLately = 0;
    ratedAt = now;
  }
  if (marks.alive) marks.draw();
  if (!dirty || now - listedAt < LIST_INTERVAL_MS) return;
  dirty = false;
  listedAt = now;
  feed.draw();
  alerts.draw();
  element("count-heard").textContent = heardTotal.toLocaleString("en");
  element("count-rate").textContent = rate < 10 ? String(Number(rate.toFixed(1))) : Math.round(rate).toLocaleString("en");
  element("count-alerts").textContent = alerts.total.toLocaleString("en");
  if (people) {
    const here = people.length >= 200 ? "200+" : String(people.length);
    element("count-here").textContent = here;
    element("people-count").textContent = here;
    drawPeople(element("people-list"), people, me);
    people = undefined;
  }
}
requestAnimationFrame(frame);

// ---- Connection ----

function showState(state: State, detail: string): void {
  const button = element("state");
  button.dataset["state"] = state;
  button.textContent = state === "online" ? "online" : state === "connecting" ? "connecting" : state;
  button.title = detail;
  element<HTMLButtonElement>("send").disabled = state !== "online";
  if (state === "offline" || (state === "connecting" && detail.startsWith("coming back"))) showError(detail);
}

function showError(text: string): void {
  const host = element("errors");
  const same = [...host.children].find((row) => (row as HTMLElement).dataset["text"] === text) as HTMLElement | undefined;
  const row = same ?? document.createElement("p");
  const times = Number(row.dataset["times"] ?? 0) + 1;
  row.dataset["text"] = text;
  row.dataset["times"] = String(times);
  row.textContent = times > 1 ? `${text} (×${times})` : text;
  window.clearTimeout(Number(row.dataset["timer"]));
  row.dataset["timer"] = String(window.setTimeout(() => row.remove(), ERROR_SHOWN_MS));
  if (!same) host.append(row);
  while (host.childElementCount > MOST_ERRORS) host.firstElementChild?.remove();
}

function connect(token: string): void {
  connection?.close();
  const claimed = claims(token);
  me = claimed.idx;
  // A test token means the test world, whatever the address says.
  element("world").hidden = world !== "test" && claimed.test !== true;
  connection = new Connection(token, place, radius, {
    state: showState,
    message: hear,
    speaker: alerted,
    people: (list) => {
      people = list;
      dirty = true;
    },
    error: showError,
    tokenRefused,
  });
}

/** An old token of this tab (expired, or the server's secret is new) is replaced silently where the server hands out tokens. */
function tokenRefused(text: string): void {
  keepToken(null);
  connection?.close();
  connection = undefined;
  const now = performance.now();
  const again = now - refusedAt > TOKEN_RETRY_MS;
  refusedAt = now;
  if (again) void findTokenAndConnect(text);
  else void askForToken(text);
}

async function askForToken(why: string): Promise<void> {
  showState("refused", why);
  const dialog = element<HTMLDialogElement>("token-dialog");
  if (dialog.open) return;
  element("token-why").textContent = why;
  element("token-command").textContent = `dna token --idx 1${world === "test" ? " --test" : ""}`;
  dialog.returnValue = "";
  dialog.showModal();
  dialog.addEventListener(
    "close",
    () => {
      const token = element<HTMLTextAreaElement>("token-text").value.trim();
      if (dialog.returnValue !== "ok" || token === "") return;
      keepToken(token);
      connect(token);
    },
    { once: true },
  );
}

async function findTokenAndConnect(why?: string): Promise<void> {
  showState("connecting", "asking for a token");
  const found = await findToken();
  if ("token" in found) connect(found.token);
  else await askForToken(why ?? found.missing);
}

element("state").addEventListener("click", () => {
  if (connection && element("state").dataset["state"] !== "refused") connection.reconnect();
  else void findTokenAndConnect();
});

// ---- Composer ----

const loud = element("loud");
loud.addEventListener("click", () => {
  const on = loud.getAttribute("aria-pressed") !== "true";
  loud.setAttribute("aria-pressed", String(on));
  element("reach").hidden = !on;
});

element("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const input = element<HTMLInputElement>("text");
  const text = input.value.trim();
  if (text === "" || !connection) return;
  const isLoud = loud.getAttribute("aria-pressed") === "true";
  if (isLoud) Alerts.askForNotifications();
  input.value = "";
  void connection.say(text, isLoud, Number(element<HTMLSelectElement>("reach-select").value)).then((stored) => {
    // What was not stored is given back, unless something new was begun.
    if (!stored && input.value === "") input.value = text;
  });
});

// ---- Start ----

element("world").hidden = world !== "test";
showPlace();
if (!start.chosen) locate(false);
void findTokenAndConnect();

// The list of messages, newest first. Rows are reused and written at most once a frame; what nobody could read is only counted.

import { placeOf, type Message, type Place } from "./events";
import { distanceM, metres } from "./geo";

const MOST_ROWS = 120;
/** Above this many new rows in one frame the older ones are skipped: they would never be seen. */
const MOST_ROWS_PER_DRAW = 30;
const TIME = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });

export class Feed {
  private waiting: Message[] = [];
  private waitingCount = 0;
  private held = false;

  constructor(
    private readonly list: HTMLElement,
    private readonly empty: HTMLElement,
    private readonly resume: HTMLButtonElement,
    private readonly me: () => { place: Place; idx: number | undefined },
  ) {
    const scroller = list.parentElement ?? list;
    // Whoever scrolls back to read is not carried away by what comes in.
    scroller.addEventListener("scroll", () => {
      this.held = scroller.scrollTop > 40;
      if (!this.held) this.draw();
    });
    resume.addEventListener("click", () => scroller.scrollTo({ top: 0 }));
  }

  add(message: Message): void {
    this.waiting.push(message);
    this.waitingCount++;
    if (this.waiting.length > MOST_ROWS * 2) this.waiting = this.waiting.slice(-MOST_ROWS);
  }

  draw(): void {
    this.resume.hidden = !(this.held && this.waitingCount > 0);
    if (this.held) {
      this.resume.textContent = `${this.waitingCount.toLocaleString("en")} new ↑`;
      return;
    }
    if (this.waitingCount === 0) return;
    const shown = this.waiting.slice(-MOST_ROWS_PER_DRAW);
    const skipped = this.waitingCount - shown.length;
    this.waiting = [];
    this.waitingCount = 0;
    this.empty.hidden = true;
    if (skipped > 0) this.list.prepend(gap(skipped));
    for (const message of shown) this.list.prepend(this.row(message));
    while (this.list.childElementCount > MOST_ROWS) this.list.lastElementChild?.remove();
  }

  private row(message: Message): HTMLElement {
    const { place, idx } = this.me();
    const row = document.createElement("li");
    if (message.type === "LoudSpeaker") row.classList.add("loud");
    if (idx !== undefined && message.user.idx === idx) row.classList.add("mine");
    const name = document.createElement("b");
    name.textContent = message.user.anonymity ? "someone" : message.user.nickname || `user ${message.user.idx}`;
    const meta = document.createElement("small");
    const at = new Date(message.created_at);
    const time = Number.isNaN(at.getTime()) ? "" : TIME.format(at);
    meta.textContent = `${time} · ${metres(distanceM(place, placeOf(message)))}`;
    const text = document.createElement("p");
    text.textContent = message.contents;
    row.append(name, meta, text);
    return row;
  }
}

function gap(skipped: number): HTMLElement {
  const row = document.createElement("li");
  row.className = "gap";
  row.textContent = `${skipped.toLocaleString("en")} more, too fast to list`;
  return row;
}

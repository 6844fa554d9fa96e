// One alert at a time, whatever comes: later ones fold into it as +N, here and in the system notification.

import { placeOf, type Place, type Speaker } from "./events";
import { distanceM, metres } from "./geo";

const SHOWN_MS = 8_000;

type Parts = { card: HTMLElement; title: HTMLElement; body: HTMLElement; folded: HTMLElement; close: HTMLElement };

export class Alerts {
  /** Messages that asked for an alert: each alert stands for itself and what was folded into it. */
  total = 0;
  private foldedHere = 0;
  private latest: Speaker | undefined;
  private hideTimer: number | undefined;
  private changed = false;

  constructor(
    private readonly parts: Parts,
    private readonly here: () => Place,
  ) {
    parts.close.addEventListener("click", () => this.hide());
  }

  add(alert: Speaker): void {
    const stands = 1 + (alert.folded ?? 0);
    this.total += stands;
    this.foldedHere += this.latest ? stands : stands - 1;
    this.latest = alert;
    this.changed = true;
    window.clearTimeout(this.hideTimer);
    this.hideTimer = window.setTimeout(() => this.hide(), SHOWN_MS);
    if (document.hidden) this.notify(alert);
  }

  draw(): void {
    if (!this.changed || !this.latest) return;
    this.changed = false;
    const { card, title, body, folded } = this.parts;
    const who = this.latest.user.anonymity ? "Someone" : this.latest.user.nickname || `User ${this.latest.user.idx}`;
    title.textContent = `${who} · ${metres(distanceM(this.here(), placeOf(this.latest)))} away`;
    body.textContent = this.latest.contents;
    folded.textContent = `+${this.foldedHere.toLocaleString("en")}`;
    folded.hidden = this.foldedHere === 0;
    card.hidden = false;
  }

  /** Asked for on the first LoudSpeaker the user sends, never on load. */
  static askForNotifications(): void {
    if ("Notification" in window && Notification.permission === "default") void Notification.requestPermission();
  }

  private notify(alert: Speaker): void {
    if (!("Notification" in window) || Notification.permission !== "granted") return;
    const more = this.foldedHere > 0 ? ` (+${this.foldedHere})` : "";
    // The same tag replaces the notification instead of stacking another.
    new Notification(`LoudSpeaker${more}`, { body: alert.contents.slice(0, 200), tag: "dna-speaker", silent: true });
  }

  private hide(): void {
    this.parts.card.hidden = true;
    this.latest = undefined;
    this.foldedHere = 0;
    this.changed = false;
  }
}

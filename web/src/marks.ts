// Messages where they fall. One spot per place, so a thousand messages a second cost as much as one.

import type L from "leaflet";
import { placeOf, type Message, type Speaker } from "./events";
import { Canvas, colour } from "./map";

type Spot = {
  lng: number;
  lat: number;
  text: string;
  loud: boolean;
  heardAt: number;
  /** Messages per second, decaying. */
  rate: number;
  rateAt: number;
  ripples: number[];
  /** Pixels at one zoom, kept because projecting is the dear part. */
  projected?: { zoom: number; x: number; y: number };
};

const FADE_MS = 30_000;
const BUBBLE_MS = 7_000;
const RIPPLE_MS = 1_400;
const RIPPLE_GAP_MS = 160;
const RATE_WINDOW_MS = 2_000;
const MOST_SPOTS = 2_000;
const MOST_RIPPLES = 60;
const SHADES = 8;
const MARGIN_PX = 200;
const MOST_BUBBLES = 14;
/** A phone's map has room for fewer. */
const AREA_PER_BUBBLE_PX = 26_000;
const BUBBLE_CHARACTERS = 36;

export class Marks {
  /** In order of the last message; the oldest go first when there are too many. */
  private readonly spots = new Map<string, Spot>();
  private readonly canvas: Canvas;
  private readonly still = matchMedia("(prefers-reduced-motion: reduce)");

  constructor(private readonly map: L.Map) {
    this.canvas = new Canvas(map, "marks", (context, size) => this.paint(context, size));
    map.on("move zoom resize viewreset", () => this.canvas.draw());
  }

  get alive(): boolean {
    return this.spots.size > 0;
  }

  /** `count`: how many messages this one stands for. */
  add(message: Message | Speaker, now: number, count = 1): void {
    const { lng, lat } = placeOf(message);
    const key = `${lng.toFixed(5)} ${lat.toFixed(5)}`;
    const spot = this.spots.get(key) ?? { lng, lat, text: "", loud: false, heardAt: now, rate: 0, rateAt: now, ripples: [] };
    this.spots.delete(key);
    this.spots.set(key, spot);
    spot.text = message.contents;
    spot.loud = message.type === "LoudSpeaker";
    spot.heardAt = now;
    spot.rate = decayed(spot, now) + (count * 1000) / RATE_WINDOW_MS;
    spot.rateAt = now;
    if (now - (spot.ripples.at(-1) ?? -Infinity) > RIPPLE_GAP_MS) spot.ripples.push(now);
    if (this.spots.size > MOST_SPOTS) {
      const oldest = this.spots.keys().next().value;
      if (oldest !== undefined) this.spots.delete(oldest);
    }
  }

  draw(): void {
    this.canvas.draw();
  }

  private paint(context: CanvasRenderingContext2D, size: L.Point): void {
    const now = performance.now();
    const zoom = this.map.getZoom();
    // From projected pixels to the view: one offset for all, since zooming is not animated.
    const origin = this.map.getPixelOrigin().add(this.map.containerPointToLayerPoint([0, 0]));
    const dots = new Map<string, Path2D>();
    const ripples: Array<{ spot: Spot; x: number; y: number; at: number }> = [];
    const bubbles: Bubble[] = [];
    for (const [key, spot] of this.spots) {
      const age = now - spot.heardAt;
      if (age > FADE_MS) {
        this.spots.delete(key);
        continue;
      }
      if (spot.projected?.zoom !== zoom) {
        const at = this.map.project([spot.lat, spot.lng], zoom);
        spot.projected = { zoom, x: at.x, y: at.y };
      }
      const x = spot.projected.x - origin.x;
      const y = spot.projected.y - origin.y;
      if (x < -MARGIN_PX || y < -MARGIN_PX || x > size.x + MARGIN_PX || y > size.y + MARGIN_PX) continue;
      // Dots of one colour and about one age are one path: thousands cost a few fills.
      const shade = `${spot.loud ? "loud" : "plain"} ${Math.ceil((1 - age / FADE_MS) * SHADES)}`;
      let path = dots.get(shade);
      if (!path) dots.set(shade, (path = new Path2D()));
      const radius = 4.5 + 1.2 * Math.log2(1 + decayed(spot, now));
      path.moveTo(x + radius, y);
      path.arc(x, y, radius, 0, 2 * Math.PI);
      spot.ripples = spot.ripples.filter((at) => now - at < RIPPLE_MS);
      for (const at of spot.ripples) ripples.push({ spot, x, y, at });
      if (age < BUBBLE_MS) bubbles.push({ spot, x, y, age });
    }
    const ink = { plain: colour("--message"), loud: colour("--loud") };
    for (const [shade, path] of dots) {
      const [kind, level] = shade.split(" ");
      context.fillStyle = kind === "loud" ? ink.loud : ink.plain;
      context.globalAlpha = Number(level) / SHADES;
      context.fill(path);
    }
    if (!this.still.matches) {
      context.lineWidth = 2;
      for (const { spot, x, y, at } of ripples.slice(-MOST_RIPPLES)) {
        const part = (now - at) / RIPPLE_MS;
        context.strokeStyle = spot.loud ? ink.loud : ink.plain;
        context.globalAlpha = 0.55 * (1 - part) ** 2;
        context.beginPath();
        context.arc(x, y, 6 + part * (34 + 8 * Math.log2(1 + decayed(spot, now))), 0, 2 * Math.PI);
        context.stroke();
      }
    }
    context.globalAlpha = 1;
    // The map keeps the order of the last message, so the newest bubbles end on top.
    const most = Math.max(3, Math.min(MOST_BUBBLES, Math.floor((size.x * size.y) / AREA_PER_BUBBLE_PX)));
    for (const bubble of bubbles.slice(-most)) drawBubble(context, bubble, size, now);
    context.globalAlpha = 1;
  }
}

type Bubble = { spot: Spot; x: number; y: number; age: number };

function drawBubble(context: CanvasRenderingContext2D, at: Bubble, size: L.Point, now: number): void {
  const { spot, age } = at;
  const rate = decayed(spot, now);
  const text = clip(spot.text);
  const tail = rate >= 3 ? `${Math.round(rate)}/s` : "";
  context.font = `${spot.loud ? "600 " : ""}13px ui-sans-serif, system-ui, sans-serif`;
  context.textBaseline = "middle";
  const textWidth = context.measureText(text).width;
  const tailWidth = tail ? context.measureText(tail).width + 10 : 0;
  const width = textWidth + tailWidth + 20;
  const [top, height] = [at.y - 46, 28];
  // At the right edge the bubble slides left; its tail stays on the place.
  const left = Math.max(at.x - width + 14, Math.min(at.x - 14, size.x - width - 8));
  context.globalAlpha = Math.min(1, (BUBBLE_MS - age) / 1200);
  context.fillStyle = spot.loud ? colour("--loud") : colour("--bubble");
  context.shadowColor = "rgb(0 0 0 / 0.28)";
  context.shadowBlur = 10;
  context.shadowOffsetY = 2;
  context.beginPath();
  context.roundRect(left, top, width, height, 9);
  context.moveTo(at.x - 5, top + height - 0.5);
  context.lineTo(at.x, at.y - 10);
  context.lineTo(at.x + 6, top + height - 0.5);
  context.fill();
  context.shadowColor = "transparent";
  context.fillStyle = spot.loud ? colour("--on-loud") : colour("--ink");
  context.fillText(text, left + 10, top + height / 2 + 0.5);
  if (tail) {
    context.globalAlpha *= 0.65;
    context.fillText(tail, left + 10 + textWidth + 10, top + height / 2 + 0.5);
  }
}

function decayed(spot: Spot, now: number): number {
  return spot.rate * Math.exp(-(now - spot.rateAt) / RATE_WINDOW_MS);
}

function clip(text: string): string {
  const letters = [...text.replace(/\s+/g, " ")];
  return letters.length > BUBBLE_CHARACTERS ? `${letters.slice(0, BUBBLE_CHARACTERS - 1).join("")}…` : letters.join("");
}

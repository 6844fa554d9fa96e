// The map: own place and circle on a grid of distances. It needs no tile server; `?tiles=` adds one.

import L from "leaflet";
import "leaflet/dist/leaflet.css";
import type { Place } from "./events";
import { distanceM, destination, metres, roundStep } from "./geo";
import { tiles, tilesCredit } from "./settings";

export type MapView = {
  map: L.Map;
  /** Sets place and radius without telling anyone. */
  show(place: Place, radius: number): void;
  /** Zooms so that the circle fills the view. */
  fit(): void;
};

const FIT_PADDING_PX = 24;
/** Where the map is narrower than this, the card with place and radius would cover the circle's top. */
const NARROW_PX = 700;
const CARD_HEIGHT_PX = 84;
const GRID_SPACING_PX = 84;
/** Above this the ground is too curved for a metric grid; degrees take over. */
const METRIC_STEP_LIMIT_M = 100_000;

export function createMap(host: HTMLElement, place: Place, radius: number, moved: (place: Place) => void): MapView {
  const map = L.map(host, {
    zoomControl: false,
    attributionControl: Boolean(tiles),
    // Grid and marks are drawn by hand, so every zoom is one clean step.
    zoomAnimation: false,
    zoomSnap: 0.25,
    zoomDelta: 0.5,
    minZoom: 3,
    maxZoom: 20,
    worldCopyJump: true,
    maxBounds: [[-85, -100_000], [85, 100_000]],
    maxBoundsViscosity: 1,
  }).setView([place.lat, place.lng], 14);
  L.control.zoom({ position: "topright" }).addTo(map);
  L.control.scale({ imperial: false, position: "bottomleft", maxWidth: 140 }).addTo(map);
  if (tiles) L.tileLayer(tiles, { attribution: tilesCredit, maxZoom: 20, className: "tiles" }).addTo(map);

  const grid = new Canvas(map, "grid", (context, size) => drawGrid(context, size, map, here));
  let here = place;

  const circle = L.circle([place.lat, place.lng], { radius, className: "circle", interactive: false }).addTo(map);
  const marker = L.marker([place.lat, place.lng], {
    draggable: true,
    autoPan: true,
    keyboard: true,
    title: "You. Drag to move, or click the map.",
    alt: "You",
    icon: L.divIcon({ className: "me", iconSize: [30, 30], html: "<i></i>" }),
    zIndexOffset: 1000,
  }).addTo(map);

  const set = (to: Place) => {
    here = to;
    marker.setLatLng([to.lat, to.lng]);
    circle.setLatLng([to.lat, to.lng]);
    grid.draw();
  };
  const go = (at: L.LatLng) => {
    const wrapped = at.wrap();
    const to = { lng: Number(wrapped.lng.toFixed(6)), lat: Number(wrapped.lat.toFixed(6)) };
    set(to);
    moved(to);
  };
  marker.on("drag", () => go(marker.getLatLng()));
  map.on("click", (event) => go(event.latlng));
  map.on("move zoom resize viewreset", () => grid.draw());
  new ResizeObserver(() => map.invalidateSize({ animate: false })).observe(host);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => grid.draw());

  const view: MapView = {
    map,
    show(to, newRadius) {
      set(to);
      circle.setRadius(newRadius);
    },
    fit() {
      const shown = Math.max(circle.getRadius(), 60);
      const corner = (bearing: number) => {
        const p = destination(here, shown, bearing);
        return L.latLng(p.lat, p.lng);
      };
      const bounds = L.latLngBounds([corner(0), corner(90), corner(180), corner(270)]);
      const top = map.getSize().x < NARROW_PX ? CARD_HEIGHT_PX : FIT_PADDING_PX;
      map.fitBounds(bounds, { animate: false, paddingTopLeft: [FIT_PADDING_PX, top], paddingBottomRight: [FIT_PADDING_PX, FIT_PADDING_PX] });
    },
  };
  view.fit();
  return view;
}

/** A canvas over the whole map, in device pixels, redrawn as a whole. */
export class Canvas {
  readonly element = document.createElement("canvas");
  private readonly context: CanvasRenderingContext2D;

  constructor(
    private readonly map: L.Map,
    className: string,
    private readonly paint: (context: CanvasRenderingContext2D, size: L.Point) => void,
  ) {
    this.element.className = `layer ${className}`;
    map.getContainer().append(this.element);
    const context = this.element.getContext("2d");
    if (!context) throw new Error("this browser draws no canvas");
    this.context = context;
    queueMicrotask(() => this.draw());
  }

  draw(): void {
    const size = this.map.getSize();
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    const [width, height] = [Math.round(size.x * ratio), Math.round(size.y * ratio)];
    if (this.element.width !== width || this.element.height !== height) {
      this.element.width = width;
      this.element.height = height;
      this.element.style.width = `${size.x}px`;
      this.element.style.height = `${size.y}px`;
    }
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.context.clearRect(0, 0, size.x, size.y);
    this.paint(this.context, size);
  }
}

export function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** Squares of a round number of metres and rings around one's own place, with their distances. */
function drawGrid(context: CanvasRenderingContext2D, size: L.Point, map: L.Map, here: Place): void {
  const east = destination(here, 100, 90);
  const origin = map.latLngToContainerPoint([here.lat, here.lng]);
  // Zoomed far out 100 m is below a pixel; projected coordinates keep the fraction.
  const zoom = map.getZoom();
  const pixelsPerMetre = Math.abs(map.project([here.lat, east.lng], zoom).x - map.project([here.lat, here.lng], zoom).x) / 100;
  const step = roundStep(GRID_SPACING_PX / pixelsPerMetre);
  context.font = "11px ui-sans-serif, system-ui, sans-serif";
  context.lineWidth = 1;
  if (step > METRIC_STEP_LIMIT_M || !Number.isFinite(step)) {
    drawGraticule(context, size, map);
    return;
  }
  const pitch = step * pixelsPerMetre;
  const line = colour("--grid");
  const strong = colour("--grid-strong");

  context.beginPath();
  context.strokeStyle = line;
  for (let x = origin.x % pitch; x < size.x; x += pitch) context.rect(Math.round(x) + 0.5, -1, 0, size.y + 2);
  for (let y = origin.y % pitch; y < size.y; y += pitch) context.rect(-1, Math.round(y) + 0.5, size.x + 2, 0);
  context.stroke();

  const corners = [[0, 0], [size.x, 0], [0, size.y], [size.x, size.y]] as const;
  const farthest = Math.max(...corners.map(([x, y]) => Math.hypot(x - origin.x, y - origin.y)));
  context.strokeStyle = strong;
  context.setLineDash([2, 5]);
  for (let ring = 2; ring * pitch < farthest; ring += 2) {
    context.beginPath();
    context.arc(origin.x, origin.y, ring * pitch, 0, 2 * Math.PI);
    context.stroke();
  }
  context.setLineDash([]);

  context.fillStyle = colour("--grid-text");
  context.textBaseline = "middle";
  for (let ring = 2; ring * pitch < farthest; ring += 2) {
    const text = metres(ring * step);
    label(context, text, origin.x + ring * pitch, origin.y, size);
    label(context, text, origin.x, origin.y - ring * pitch, size);
  }
  // Where one's own place is out of view: how far it is.
  if (origin.x < 0 || origin.y < 0 || origin.x > size.x || origin.y > size.y) {
    const centre = map.getCenter().wrap();
    label(context, `you: ${metres(distanceM(here, centre))} away`, size.x / 2, size.y - 22, size);
  }
}

function label(context: CanvasRenderingContext2D, text: string, x: number, y: number, size: L.Point): void {
  const width = context.measureText(text).width;
  if (x < -width || y < -10 || x > size.x + width || y > size.y + 10) return;
  const ink = context.fillStyle;
  context.fillStyle = colour("--paper");
  context.fillRect(x - width / 2 - 4, y - 8, width + 8, 16);
  context.fillStyle = ink;
  context.fillText(text, x - width / 2, y);
}

function drawGraticule(context: CanvasRenderingContext2D, size: L.Point, map: L.Map): void {
  const bounds = map.getBounds();
  const step = Math.max(1, [1, 2, 5, 10, 15, 30].find((d) => (bounds.getEast() - bounds.getWest()) / d <= size.x / GRID_SPACING_PX) ?? 30);
  const from = (edge: number) => Math.floor(edge / step) * step;
  context.strokeStyle = colour("--grid");
  context.fillStyle = colour("--grid-text");
  context.textBaseline = "middle";
  for (let lng = from(bounds.getWest()); lng <= bounds.getEast(); lng += step) {
    const x = Math.round(map.latLngToContainerPoint([0, lng]).x) + 0.5;
    context.strokeRect(x, -1, 0, size.y + 2);
    const wrapped = ((((lng + 180) % 360) + 360) % 360) - 180;
    label(context, `${Math.abs(wrapped)}°${wrapped < 0 ? "W" : wrapped > 0 ? "E" : ""}`, x, size.y - 14, size);
  }
  for (let lat = Math.max(-85, from(bounds.getSouth())); lat <= Math.min(85, bounds.getNorth()); lat += step) {
    const y = Math.round(map.latLngToContainerPoint([lat, 0]).y) + 0.5;
    context.strokeRect(-1, y, size.x + 2, 0);
    label(context, `${Math.abs(lat)}°${lat < 0 ? "S" : lat > 0 ? "N" : ""}`, 22, y, size);
  }
}

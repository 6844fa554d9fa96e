// Distances for reading. The server alone decides who hears (WGS84, inclusive); these are good to 0.5 %.

import type { Place } from "./events";

const EARTH_RADIUS_M = 6_371_008.8;
const RADIANS = Math.PI / 180;

export function distanceM(a: Place, b: Place): number {
  const dLat = (b.lat - a.lat) * RADIANS;
  const dLng = (b.lng - a.lng) * RADIANS;
  const h =
    Math.sin(dLat / 2) ** 2 + Math.cos(a.lat * RADIANS) * Math.cos(b.lat * RADIANS) * Math.sin(dLng / 2) ** 2;
  return 2 * EARTH_RADIUS_M * Math.asin(Math.min(1, Math.sqrt(h)));
}

/** The point `metres` away from `from`; bearing in degrees clockwise from north. */
export function destination(from: Place, metres: number, bearing: number): Place {
  const d = metres / EARTH_RADIUS_M;
  const [lat, lng, b] = [from.lat * RADIANS, from.lng * RADIANS, bearing * RADIANS];
  const lat2 = Math.asin(Math.sin(lat) * Math.cos(d) + Math.cos(lat) * Math.sin(d) * Math.cos(b));
  const lng2 =
    lng + Math.atan2(Math.sin(b) * Math.sin(d) * Math.cos(lat), Math.cos(d) - Math.sin(lat) * Math.sin(lat2));
  return { lng: lng2 / RADIANS, lat: lat2 / RADIANS };
}

export function metres(value: number): string {
  if (value < 1000) return `${Math.round(value)} m`;
  const km = value / 1000;
  return `${km < 10 ? Number(km.toFixed(1)) : Math.round(km).toLocaleString("en")} km`;
}

/** 1, 2 or 5 times a power of ten, the smallest not below `value`. */
export function roundStep(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value));
  for (const factor of [1, 2, 5]) if (factor * power >= value) return factor * power;
  return 10 * power;
}

// The slider: 0 is a radius of 0, then 50 m to 20 km, each step the same ratio.
const SMALLEST_M = 50;
const LARGEST_M = 20_000;

export function sliderToRadius(position: number): number {
  if (position <= 0) return 0;
  const exact = SMALLEST_M * (LARGEST_M / SMALLEST_M) ** ((position - 1) / 99);
  const grain = exact < 500 ? 10 : exact < 2000 ? 50 : 500;
  return Math.min(LARGEST_M, Math.round(exact / grain) * grain);
}

export function radiusToSlider(radius: number): number {
  if (radius <= 0) return 0;
  const ratio = Math.log(Math.max(radius, SMALLEST_M) / SMALLEST_M) / Math.log(LARGEST_M / SMALLEST_M);
  return Math.round(1 + 99 * Math.min(1, ratio));
}

// What the address and this browser say: place, radius, world, token, tiles.

import type { Place } from "./events";

export type World = "live" | "test";

/** Gangnam station, where the journal's messages fall. */
const FALLBACK: Place = { lng: 127.0276, lat: 37.4979 };

const query = new URLSearchParams(location.search);

export const world: World = query.get("world") === "test" ? "test" : "live";
/** `?tiles=https://…/{z}/{x}/{y}.png`: a background map. Without it the page asks nothing but its own server. */
export const tiles = query.get("tiles");
export const tilesCredit = query.get("tiles_credit") ?? "";
export const nickname = query.get("nickname") ?? undefined;

function coordinate(name: string, limit: number): number | undefined {
  const text = query.get(name);
  const value = text === null || text.trim() === "" ? NaN : Number(text);
  return Math.abs(value) <= limit ? value : undefined;
}

function stored(key: string): unknown {
  try {
    return JSON.parse(localStorage.getItem(key) ?? "null");
  } catch {
    return null;
  }
}

function keep(key: string, value: unknown): void {
  try {
    localStorage.setItem(key, JSON.stringify(value));
  } catch {
    // A browser that keeps nothing still works for this visit.
  }
}

/** `chosen`: the address or an earlier visit named the place, so the device need not be asked. */
export function startPlace(): { place: Place; chosen: boolean } {
  const lng = coordinate("lng", 180);
  const lat = coordinate("lat", 90);
  if (lng !== undefined && lat !== undefined) return { place: { lng, lat }, chosen: true };
  const last = stored("dna.place") as Place | null;
  if (last && Math.abs(last.lng) <= 180 && Math.abs(last.lat) <= 90) return { place: last, chosen: true };
  return { place: FALLBACK, chosen: false };
}

export function startRadius(): number {
  const asked = coordinate("radius", 100_000) ?? stored("dna.radius");
  return typeof asked === "number" && asked >= 0 ? asked : 500;
}

export const keepPlace = (place: Place) => keep("dna.place", place);
export const keepRadius = (radius: number) => keep("dna.radius", radius);

// Tokens live as long as the tab: several tabs may be several people.
const tokenKey = `dna.token.${world}`;

function fromAddress(): string | null {
  const token = query.get("token");
  if (!token) return null;
  // It would otherwise stay in the history and in whatever the address is pasted into.
  query.delete("token");
  history.replaceState(null, "", `${location.pathname}${query.size ? `?${query}` : ""}${location.hash}`);
  return token;
}

export function keepToken(token: string | null): void {
  try {
    if (token) sessionStorage.setItem(tokenKey, token);
    else sessionStorage.removeItem(tokenKey);
  } catch {
    // As above.
  }
}

export type TokenSource = { token: string } | { missing: string };

/** From the address, this tab, or a `dna` on loopback that hands out development tokens. */
export async function findToken(): Promise<TokenSource> {
  const given = fromAddress();
  if (given) {
    keepToken(given);
    return { token: given };
  }
  const kept = sessionStorage.getItem(tokenKey);
  if (kept) return { token: kept };
  try {
    const response = await fetch("api/dev-token", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ test: world === "test", nickname: nickname ?? `guest ${100 + Math.floor(Math.random() * 900)}` }),
    });
    if (response.ok) {
      const { token } = (await response.json()) as { token: string };
      keepToken(token);
      return { token };
    }
    if (response.status >= 500) return { missing: `The server answered ${response.status}.` };
    return { missing: "This server hands out no development tokens." };
  } catch {
    return { missing: "The server cannot be reached." };
  }
}

/** The token's claims, unverified: only for showing who one is. */
export function claims(token: string): { idx?: number; nickname?: string; test?: boolean } {
  try {
    const part = token.split(".")[1] ?? "";
    const bytes = Uint8Array.from(atob(part.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return {};
  }
}

// Who is here. The server answers at most 200 people and never where they are.

import type { Person } from "./events";

const MOST_SHOWN = 60;

export function drawPeople(list: HTMLElement, people: Person[], me: number | undefined): void {
  const sorted = [...people].sort((a, b) => Number(b.inside) - Number(a.inside) || nameOf(a).localeCompare(nameOf(b)));
  const rows = sorted.slice(0, MOST_SHOWN).map((person) => {
    const row = document.createElement("li");
    const lamp = document.createElement("i");
    lamp.className = person.inside ? "lamp on" : "lamp";
    lamp.title = person.inside ? "hears what you write" : "does not hear what you write";
    const name = document.createElement("span");
    name.textContent = Number(person.idx) === me ? `${nameOf(person)} (you)` : nameOf(person);
    row.append(lamp, name);
    return row;
  });
  if (sorted.length > MOST_SHOWN) {
    const rest = document.createElement("li");
    rest.className = "rest";
    rest.textContent = `and ${sorted.length - MOST_SHOWN} more`;
    rows.push(rest);
  }
  list.replaceChildren(...rows);
}

function nameOf(person: Person): string {
  return person.anonymity ? "someone" : person.nickname || `user ${person.idx}`;
}

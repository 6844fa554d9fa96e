// People on a grid of cells: everybody is listed in each cell that their circle touches, so a place asks one cell. The same
// grid as in bench/peers/src/grid.rs.
'use strict';

// About 1.1 km from south to north.
const CELL = 0.01;
// WGS84.
const A = 6378137;
const E2 = 6.694379990141316e-3;
const RADIANS = Math.PI / 180;

exports.Grid = class Grid {
  constructor() {
    this.people = new Map();
    // Who may hear in a cell, and who stands there.
    this.hearing = new Map();
    this.standing = new Map();
  }

  put(id, lng, lat, radius) {
    this.remove(id);
    const person = { id, lng, lat, radius };
    this.people.set(id, person);
    for (const cell of touched(lng, lat, radius)) list(this.hearing, cell).push(person);
    list(this.standing, key(index(lng), index(lat))).push(person);
  }

  remove(id) {
    const person = this.people.get(id);
    if (!person) return;
    this.people.delete(id);
    for (const cell of touched(person.lng, person.lat, person.radius)) take(this.hearing, cell, person);
    take(this.standing, key(index(person.lng), index(person.lat)), person);
  }

  /// Whose circle holds the place.
  hearers(lng, lat) {
    const found = [];
    for (const person of this.hearing.get(key(index(lng), index(lat))) || []) {
      if (distance(person, lng, lat) <= person.radius) found.push(person.id);
    }
    return found;
  }

  /// Who stands within so many metres of the place.
  within(lng, lat, metres) {
    const found = [];
    for (const cell of touched(lng, lat, metres)) {
      for (const person of this.standing.get(cell) || []) {
        if (distance(person, lng, lat) <= metres) found.push(person.id);
      }
    }
    return found;
  }
};

function list(cells, cell) {
  let people = cells.get(cell);
  if (!people) cells.set(cell, people = []);
  return people;
}

function take(cells, cell, person) {
  const people = cells.get(cell);
  people.splice(people.indexOf(person), 1);
}

const index = (degrees) => Math.floor(degrees / CELL);

const key = (x, y) => x * 65536 + y;

/// Cells that a circle may touch.
function touched(lng, lat, radius) {
  const [east, north] = metresPerDegree(lat);
  // A hundredth more than needed, for what the plane leaves out.
  const [wide, high] = [radius / east * 1.01, radius / north * 1.01];
  const cells = [];
  for (let x = index(lng - wide); x <= index(lng + wide); x += 1) {
    for (let y = index(lat - high); y <= index(lat + high); y += 1) cells.push(key(x, y));
  }
  return cells;
}

/// Metres on the plane that touches the ellipsoid between both.
function distance(person, lng, lat) {
  const [east, north] = metresPerDegree((person.lat + lat) / 2);
  const [x, y] = [(person.lng - lng) * east, (person.lat - lat) * north];
  return Math.sqrt(x * x + y * y);
}

function metresPerDegree(lat) {
  const sine = Math.sin(lat * RADIANS);
  const w = 1 - E2 * sine * sine;
  const across = A / Math.sqrt(w);
  return [across * Math.cos(lat * RADIANS) * RADIANS, across * (1 - E2) / w * RADIANS];
}

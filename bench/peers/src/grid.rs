//! People on a grid of cells: everybody is listed in each cell that their circle touches, so a place asks one cell. The
//! same grid as in bench/node/grid.js.

use std::collections::HashMap;
use std::hash::Hash;

/// About 1.1 km from south to north.
const CELL: f64 = 0.01;
/// WGS84.
const A: f64 = 6_378_137.0;
const E2: f64 = 6.694_379_990_141_316e-3;

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Person {
    pub lng: f64,
    pub lat: f64,
    /// Metres.
    pub radius: f64,
}

#[derive(Debug)]
pub struct Grid<Id> {
    people: HashMap<Id, Person>,
    /// Who may hear in a cell.
    hearing: HashMap<(i32, i32), Vec<(Id, Person)>>,
    /// Who stands in a cell.
    standing: HashMap<(i32, i32), Vec<(Id, Person)>>,
}

impl<Id> Default for Grid<Id> {
    fn default() -> Self {
        Self { people: HashMap::new(), hearing: HashMap::new(), standing: HashMap::new() }
    }
}

impl<Id: Copy + Eq + Hash> Grid<Id> {
    pub fn put(&mut self, id: Id, person: Person) {
        self.remove(id);
        self.people.insert(id, person);
        for cell in touched(person.lng, person.lat, person.radius) {
            self.hearing.entry(cell).or_default().push((id, person));
        }
        self.standing.entry(cell(person.lng, person.lat)).or_default().push((id, person));
    }

    pub fn remove(&mut self, id: Id) {
        let Some(person) = self.people.remove(&id) else { return };
        for cell in touched(person.lng, person.lat, person.radius) {
            take(&mut self.hearing, cell, id);
        }
        take(&mut self.standing, cell(person.lng, person.lat), id);
    }

    /// Whose circle holds the place.
    pub fn hearers(&self, lng: f64, lat: f64) -> impl Iterator<Item = Id> {
        let here = self.hearing.get(&cell(lng, lat)).into_iter().flatten();
        here.filter(move |(_, person)| distance(person.lng, person.lat, lng, lat) <= person.radius)
            .map(|(id, _)| *id)
    }

    /// Who stands within so many metres of the place.
    pub fn within(&self, lng: f64, lat: f64, metres: f64) -> impl Iterator<Item = Id> {
        let near = touched(lng, lat, metres).filter_map(|cell| self.standing.get(&cell)).flatten();
        near.filter(move |(_, person)| distance(person.lng, person.lat, lng, lat) <= metres)
            .map(|(id, _)| *id)
    }
}

fn take<Id: Eq>(cells: &mut HashMap<(i32, i32), Vec<(Id, Person)>>, cell: (i32, i32), id: Id) {
    if let Some(people) = cells.get_mut(&cell) {
        people.retain(|(other, _)| *other != id);
    }
}

fn cell(lng: f64, lat: f64) -> (i32, i32) {
    ((lng / CELL).floor() as i32, (lat / CELL).floor() as i32)
}

/// Cells that a circle may touch.
fn touched(lng: f64, lat: f64, radius: f64) -> impl Iterator<Item = (i32, i32)> {
    let (east, north) = metres_per_degree(lat);
    // A hundredth more than needed, for what the plane leaves out.
    let (wide, high) = (radius / east * 1.01, radius / north * 1.01);
    let (west_south, east_north) = (cell(lng - wide, lat - high), cell(lng + wide, lat + high));
    (west_south.0..=east_north.0).flat_map(move |x| (west_south.1..=east_north.1).map(move |y| (x, y)))
}

/// Metres on the plane that touches the ellipsoid between both; within a kilometre exact to less than a millimetre.
pub fn distance(lng1: f64, lat1: f64, lng2: f64, lat2: f64) -> f64 {
    let (east, north) = metres_per_degree(f64::midpoint(lat1, lat2));
    ((lng2 - lng1) * east).hypot((lat2 - lat1) * north)
}

fn metres_per_degree(lat: f64) -> (f64, f64) {
    let (sine, cosine) = lat.to_radians().sin_cos();
    let w = 1.0 - E2 * sine * sine;
    let across = A / w.sqrt();
    ((across * cosine).to_radians(), (across * (1.0 - E2) / w).to_radians())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_the_ellipsoid() {
        // The geodesic between both, by Vincenty's formula.
        let away = distance(127.0276, 37.4979, 127.0376, 37.5049);
        assert!((away - 1_177.057_772).abs() < 1e-4, "{away}");
    }

    #[test]
    fn the_grid_answers_as_a_scan_does() {
        let mut grid = Grid::default();
        let mut people = Vec::new();
        let mut seed = 1_u64;
        let mut next = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as f64 / f64::from(1_u32 << 31)
        };
        for id in 0..2_000 {
            let person = Person {
                lng: 127.0 + next() * 0.06,
                lat: 37.47 + next() * 0.06,
                radius: 100.0 + next() * 900.0,
            };
            people.push(person);
            grid.put(id, person);
        }
        for gone in (0..2_000).step_by(7) {
            grid.remove(gone);
        }
        for _ in 0..200 {
            let (lng, lat) = (127.0 + next() * 0.06, 37.47 + next() * 0.06);
            let here = |id: &usize| !id.is_multiple_of(7);
            let away = |id: &usize| distance(people[*id].lng, people[*id].lat, lng, lat);
            let hear: Vec<_> = (0..2_000).filter(|id| here(id) && away(id) <= people[*id].radius).collect();
            let near: Vec<_> = (0..2_000).filter(|id| here(id) && away(id) <= 500.0).collect();
            let sorted = |found: &mut dyn Iterator<Item = usize>| {
                let mut found: Vec<_> = found.collect();
                found.sort_unstable();
                found
            };
            assert_eq!(sorted(&mut grid.hearers(lng, lat)), hear);
            assert_eq!(sorted(&mut grid.within(lng, lat, 500.0)), near);
            assert!(!hear.is_empty(), "nobody hears {lng} {lat}");
        }
    }
}

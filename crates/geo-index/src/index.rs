//! One thread's people, by where they hear and by where they are.

use std::cell::Cell;
use std::fmt;

use crate::cells::{BATCH, Cells, Entry, LANES, Scratch, Verdicts, cell_key};
use crate::geodesy::{Fixed, FixedLimit, MAX_RADIUS_M, Placed, clamp_radius};
use crate::grid::{Grid, Reach, class_of};
use crate::{Position, circle_contains};

/// Greatest radius of each class, metres. People pick round radii, which so sit at the top of their class, where the
/// search is tightest. Few classes: each is a layer to look cells up in, and that costs more than candidates do, four of
/// which are tested at once (with mixed radii 1.17 us at 10,000 people; with a class of 200 m and one of 1 km in place of
/// that of 500 m 1.30 us, with ten classes more).
const CLASS_MAX_M: [f64; CLASSES] = [500.0, 3_000.0, 10_000.0, 20_000.0, MAX_RADIUS_M];
const CLASSES: usize = 5;
/// A layer's cell, in greatest radii of its class. Measured at 1, 1.25, 1.5 and 2 with mixed radii: smaller cells cost
/// lookups, larger ones candidates; in between it hardly matters.
const CELL_PER_RADIUS: f64 = 1.5;
/// Cells of the layer that knows only positions, metres.
const POSITION_CELL_M: f64 = 1_000.0;

/// The people of one worker: answers who hears a place and who is in a circle. One thread owns it.
///
/// A person's id is the caller's, best a small number such as a slot: memory grows with the greatest id in use, in
/// pages of 1,024. Nothing allocates per question or move once the greatest size has been seen.
#[derive(Debug)]
pub struct Index {
    layers: [Layer; CLASSES],
    /// People by the class of their radius and the cell of their position.
    hearing: Cells<Hearing>,
    position_grid: Grid,
    /// The same people by position alone: a circle of any size then visits cells of its own scale, not of theirs.
    standing: Cells<Standing>,
    people: People,
    /// Working space of the last question, for the next: to clear six kilobytes for each costs a tenth of it.
    spare: Spare,
}

#[derive(Debug)]
struct Layer {
    grid: Grid,
    reach: Reach,
    people: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Hearing {
    /// [`Fixed`] and the bits of [`FixedLimit`]: what a test needs, in one load.
    circle: [i32; 4],
    id: u32,
}

/// [`Fixed`] and the id.
#[derive(Clone, Copy, Debug, Default)]
struct Standing([i32; 4]);

impl Hearing {
    fn new(Fixed([x, y, z]): Fixed, limit: FixedLimit, id: u32) -> Self {
        Self { circle: [x, y, z, limit.to_bits()], id }
    }

    /// Whose circle holds the place.
    #[inline(always)]
    fn test(four: &[Self; LANES], place: Fixed) -> Verdicts {
        let (chords2, limits) = place.chords2(four.map(|one| one.circle));
        FixedLimit::four_of_bits(limits).judge(chords2)
    }
}

impl Entry for Hearing {
    fn id(&self) -> u32 {
        self.id
    }
    fn set_id(&mut self, id: u32) {
        self.id = id;
    }
}

impl Standing {
    fn new(Fixed([x, y, z]): Fixed, id: u32) -> Self {
        Self([x, y, z, id.cast_signed()])
    }
}

impl Entry for Standing {
    fn id(&self) -> u32 {
        self.0[3].cast_unsigned()
    }
    fn set_id(&mut self, id: u32) {
        self.0[3] = id.cast_signed();
    }
}

impl Default for Index {
    fn default() -> Self {
        Self::new()
    }
}

impl Index {
    pub fn new() -> Self {
        Self {
            layers: CLASS_MAX_M.map(|max_m| Layer {
                grid: Grid::new(max_m * CELL_PER_RADIUS),
                reach: Reach::new(max_m),
                people: 0,
            }),
            hearing: Cells::new(),
            position_grid: Grid::new(POSITION_CELL_M),
            standing: Cells::new(),
            people: People::default(),
            spare: Spare::default(),
        }
    }

    /// How many people there are.
    pub fn len(&self) -> usize {
        self.people.len
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A person's place and radius in metres.
    pub fn get(&self, id: u32) -> Option<(Position, f64)> {
        self.people.get(id).map(|person| (person.position, person.radius_m))
    }

    /// Puts a person on the map, or moves them if they are there. The radius, in metres, is clamped to
    /// 0..=[`MAX_RADIUS_M`]; NaN counts as 0. Returns the circle they had before.
    pub fn insert(&mut self, id: u32, position: Position, radius_m: f64) -> Option<(Position, f64)> {
        let radius_m = clamp_radius(radius_m);
        let before = self.people.get(id).copied();
        if let Some(before) = before
            && before.position == position
            && before.radius_m == radius_m
        {
            return Some((before.position, before.radius_m));
        }
        let fixed = Placed::new(position).fixed();
        let hearing = Hearing::new(fixed, FixedLimit::new(radius_m), id);
        let standing = Standing::new(fixed, id);
        let class = class_of(&CLASS_MAX_M, radius_m);
        let (row, column) = self.layers[class].grid.cell(position);
        let hearing_key = cell_key(class, row, column);
        let (row, column) = self.position_grid.cell(position);
        let standing_key = cell_key(0, row, column);

        let hearing_at = match before {
            Some(before) if before.hearing_key == hearing_key => {
                self.hearing.replace(before.hearing_at, hearing);
                before.hearing_at
            }
            _ => {
                if let Some(before) = before {
                    self.stop_hearing(&before);
                }
                self.layers[class].people += 1;
                self.hearing.push(hearing_key, hearing, |id, to| self.people.get_mut(id).hearing_at = to)
            }
        };
        let standing_at = match before {
            Some(before) if before.standing_key == standing_key => {
                self.standing.replace(before.standing_at, standing);
                before.standing_at
            }
            _ => {
                if let Some(before) = before {
                    self.stop_standing(&before);
                }
                self.standing.push(standing_key, standing, |id, to| self.people.get_mut(id).standing_at = to)
            }
        };
        self.people
            .put(id, Person { position, radius_m, hearing_key, standing_key, hearing_at, standing_at });
        before.map(|before| (before.position, before.radius_m))
    }

    /// The same as [`Index::insert`], for the reader's sake.
    pub fn update(&mut self, id: u32, position: Position, radius_m: f64) -> Option<(Position, f64)> {
        self.insert(id, position, radius_m)
    }

    /// Takes a person off the map; returns the circle they had, or nothing if they were not there.
    pub fn remove(&mut self, id: u32) -> Option<(Position, f64)> {
        let person = *self.people.get(id)?;
        self.stop_hearing(&person);
        self.stop_standing(&person);
        self.people.take(id);
        Some((person.position, person.radius_m))
    }

    fn stop_hearing(&mut self, person: &Person) {
        self.layers[(person.hearing_key >> 48) as usize].people -= 1;
        self.hearing.remove(person.hearing_key, person.hearing_at, |id, to| {
            self.people.get_mut(id).hearing_at = to;
        });
    }

    fn stop_standing(&mut self, person: &Person) {
        self.standing.remove(person.standing_key, person.standing_at, |id, to| {
            self.people.get_mut(id).standing_at = to;
        });
    }

    /// Whether a person's circle holds a place; false for an unknown id.
    pub fn hears(&self, id: u32, place: Position) -> bool {
        self.people.get(id).is_some_and(|person| circle_contains(person.position, person.radius_m, place))
    }

    /// Calls `hearer` once for each person whose circle holds `place`, in no order.
    pub fn who_hears(&self, place: Position, mut hearer: impl FnMut(u32)) {
        let at = Placed::new(place);
        let fixed = at.fixed();
        let test = |four: &[Hearing; LANES]| Hearing::test(four, fixed);
        let mut hit = |entry: &Hearing, surely: bool| {
            if surely || self.hears(entry.id, place) {
                hearer(entry.id);
            }
        };
        let mut batch = self.spare.take();
        for (class, layer) in self.layers.iter().enumerate() {
            if layer.people == 0 {
                continue;
            }
            layer.grid.cover(&at, &layer.reach, |row, columns| {
                for column in columns {
                    batch.add(&self.hearing, cell_key(class, row, column), test, &mut hit);
                }
            });
        }
        batch.read(&self.hearing, test, &mut hit);
        self.spare.put(batch);
    }

    /// Calls `person` once for each person who stands at most `radius_m` metres (clamped as in [`Index::insert`])
    /// from `center`, in no order.
    pub fn who_is_in(&self, center: Position, radius_m: f64, mut person: impl FnMut(u32)) {
        let radius_m = clamp_radius(radius_m);
        let at = Placed::new(center);
        let (fixed, limit) = (at.fixed(), FixedLimit::new(radius_m).four_times());
        let test = |four: &[Standing; LANES]| limit.judge(fixed.chords2(four.map(|one| one.0)).0);
        let mut hit = |entry: &Standing, surely: bool| {
            let stands_in = |p: &Person| circle_contains(center, radius_m, p.position);
            if surely || self.people.get(entry.id()).is_some_and(stands_in) {
                person(entry.id());
            }
        };
        let reach = Reach::new(radius_m);
        if self.position_grid.cover_size(&reach) * 4.0 > self.standing.table_len() as f64 {
            // More cells than people: reading everything in order is cheaper than looking cells up.
            self.standing.read_all(&mut Scratch::new(), test, hit);
            return;
        }
        let mut batch = self.spare.take();
        self.position_grid.cover(&at, &reach, |row, columns| {
            for column in columns {
                batch.add(&self.standing, cell_key(0, row, column), test, &mut hit);
            }
        });
        batch.read(&self.standing, test, &mut hit);
        self.spare.put(batch);
    }

    /// Bytes of heap this index holds.
    pub fn memory(&self) -> usize {
        self.hearing.memory() + self.standing.memory() + self.people.memory()
    }
}

/// A question may be asked while another one is answered: then it gets its own.
#[derive(Default)]
struct Spare(Cell<Option<Box<Batch>>>);

impl Spare {
    fn take(&self) -> Box<Batch> {
        self.0.take().unwrap_or_else(|| Box::new(Batch::new()))
    }

    fn put(&self, batch: Box<Batch>) {
        self.0.set(Some(batch));
    }
}

impl fmt::Debug for Spare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Spare")
    }
}

/// Cells to be read together.
struct Batch {
    keys: [u64; BATCH],
    len: usize,
    scratch: Scratch,
}

impl Batch {
    fn new() -> Self {
        Self { keys: [0; BATCH], len: 0, scratch: Scratch::new() }
    }

    #[inline(always)]
    fn add<E: Entry>(
        &mut self,
        cells: &Cells<E>,
        key: u64,
        test: impl Fn(&[E; LANES]) -> Verdicts,
        hit: impl FnMut(&E, bool),
    ) {
        if self.len == BATCH {
            self.read(cells, test, hit);
        }
        self.keys[self.len] = key;
        self.len += 1;
    }

    #[inline(never)]
    fn read<E: Entry>(
        &mut self,
        cells: &Cells<E>,
        test: impl Fn(&[E; LANES]) -> Verdicts,
        hit: impl FnMut(&E, bool),
    ) {
        cells.read(&self.keys[..self.len], &mut self.scratch, test, hit);
        self.len = 0;
    }
}

/// What is known of one person: the exact circle, and where their two entries are.
#[derive(Clone, Copy, Debug)]
struct Person {
    position: Position,
    radius_m: f64,
    hearing_key: u64,
    standing_key: u64,
    /// Where the entries are, so that a move within a cell need not look the cell up.
    hearing_at: u32,
    standing_at: u32,
}

const ABSENT: u64 = u64::MAX;
const PAGE: usize = 1024;

/// People by id, in pages: growing copies nothing, and a large id costs a page and not all below it.
#[derive(Debug, Default)]
struct People {
    pages: Vec<Option<Box<[Person]>>>,
    len: usize,
}

impl People {
    #[inline]
    fn get(&self, id: u32) -> Option<&Person> {
        let person = &self.pages.get(id as usize / PAGE)?.as_ref()?[id as usize % PAGE];
        (person.hearing_key != ABSENT).then_some(person)
    }

    fn get_mut(&mut self, id: u32) -> &mut Person {
        &mut self.pages[id as usize / PAGE].as_mut().expect("a person's page exists")[id as usize % PAGE]
    }

    fn put(&mut self, id: u32, person: Person) {
        let page = id as usize / PAGE;
        if page >= self.pages.len() {
            self.pages.resize_with(page + 1, || None);
        }
        let page = self.pages[page].get_or_insert_with(|| {
            let nobody = Person {
                position: Position::in_range(0.0, 0.0),
                radius_m: 0.0,
                hearing_key: ABSENT,
                standing_key: ABSENT,
                hearing_at: 0,
                standing_at: 0,
            };
            vec![nobody; PAGE].into_boxed_slice()
        });
        let there = &mut page[id as usize % PAGE];
        self.len += usize::from(there.hearing_key == ABSENT);
        *there = person;
    }

    fn take(&mut self, id: u32) {
        self.get_mut(id).hearing_key = ABSENT;
        self.len -= 1;
    }

    fn memory(&self) -> usize {
        self.pages.capacity() * size_of::<Option<Box<[Person]>>>()
            + self.pages.iter().flatten().count() * PAGE * size_of::<Person>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// People and places exactly on the lines between cells, and one rounding step to either side, where people have
    /// the greatest radius of their class or just beyond it: all against `circle_contains` alone.
    #[test]
    fn cell_edges() {
        let mut rng = fastrand::Rng::with_seed(10);
        let mut met = 0;
        for round in 0..400 {
            let class = round % CLASSES;
            let layer_cell_m = CLASS_MAX_M[class] * CELL_PER_RADIUS;
            let grid = Grid::new(if round % 3 == 0 { POSITION_CELL_M } else { layer_cell_m });
            let hub =
                [(127.0, 37.5), (-180.0, 60.0), (0.0, 0.0), (10.0, 90.0), (10.0, -89.9), (180.0, -45.0)]
                    [rng.usize(0..6)];
            let (row, column) = grid.cell(Position::in_range(hub.0, hub.1));
            let on_a_line = |rng: &mut fastrand::Rng| {
                let row = (f64::from(row) + f64::from(rng.i32(-3..=3))).max(0.0);
                let (corner_lng, corner_lat) =
                    grid.corner(row as u32, f64::from(column) + f64::from(rng.i32(-3..=3)));
                let nudge = |value: f64, by: u8| match by {
                    0 => value.next_down(),
                    1 => value.next_up(),
                    _ => value,
                };
                let lng = (nudge(corner_lng, rng.u8(0..4)) + 180.0).rem_euclid(360.0) - 180.0;
                Position::in_range(lng, nudge(corner_lat, rng.u8(0..4)).clamp(-90.0, 90.0))
            };
            let mut index = Index::new();
            for id in 0..120 {
                let max_m = CLASS_MAX_M[class];
                let radius_m = [max_m, max_m.next_up(), max_m * 0.999, max_m / 2.0][rng.usize(0..4)];
                index.insert(id, on_a_line(&mut rng), radius_m);
            }
            for _ in 0..20 {
                let place = on_a_line(&mut rng);
                let mut hearers = Vec::new();
                index.who_hears(place, |id| hearers.push(id));
                hearers.sort_unstable();
                let expected: Vec<u32> = (0..120).filter(|&id| index.hears(id, place)).collect();
                assert_eq!(hearers, expected, "{place:?} {grid:?}");

                let radius_m = CLASS_MAX_M[class];
                let mut inside = Vec::new();
                index.who_is_in(place, radius_m, |id| inside.push(id));
                inside.sort_unstable();
                let stands = |id: &u32| circle_contains(place, radius_m, index.get(*id).unwrap().0);
                assert_eq!(inside, (0..120).filter(stands).collect::<Vec<_>>(), "{place:?} {grid:?}");
                met += hearers.len();
            }
        }
        assert!(met > 50_000, "{met}");
    }

    /// Few people in a large circle are found by reading all; both ways must agree.
    #[test]
    fn large_circles_by_cells_and_by_reading_all() {
        let mut rng = fastrand::Rng::with_seed(11);
        let mut index = Index::new();
        let center = Position::in_range(179.9, 65.0);
        let mut asked_by_cells = 0;
        for id in 0..40_000 {
            let lng = 179.9 + 6.0 * (rng.f64() - 0.5);
            let lng = if lng > 180.0 { lng - 360.0 } else { lng };
            index.insert(id, Position::in_range(lng, 65.0 + 3.0 * (rng.f64() - 0.5)), 500.0);
            if id.is_power_of_two() || id == 39_999 {
                for radius_m in [5_000.0, 30_000.0, 100_000.0] {
                    let size = index.position_grid.cover_size(&Reach::new(radius_m));
                    asked_by_cells += usize::from(size * 4.0 <= index.standing.table_len() as f64);
                    let mut inside = 0;
                    index.who_is_in(center, radius_m, |_| inside += 1);
                    let stands = |&id: &u32| circle_contains(center, radius_m, index.get(id).unwrap().0);
                    assert_eq!(inside, (0..=id).filter(stands).count());
                }
            }
        }
        assert!((5..40).contains(&asked_by_cells), "{asked_by_cells}");
    }
}

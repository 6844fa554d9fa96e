//! Entries by cell: a hash table of cells, each cell's entries in one contiguous run.
//!
//! The table is open addressing with linear probing; a deleted cell closes its gap, so there are no tombstones and
//! nothing ever has to be cleaned up. Four neighbouring columns of a row share a cache line when nothing is in their
//! way. Runs have power-of-two capacities and come from one pool with a free list per capacity, so once the table and
//! the pool have seen their greatest size, nothing allocates.

use std::hint::black_box;

use wide::u32x4;

/// One person in a cell.
pub(crate) trait Entry: Copy + Default {
    fn id(&self) -> u32;
    /// The same field carries the free list through unused runs.
    fn set_id(&mut self, id: u32);
}

const EMPTY: u64 = u64::MAX;
const NONE: u32 = u32::MAX;
const LEN_BITS: u32 = 27;

#[derive(Clone, Copy, Debug)]
struct Cell {
    key: u64,
    /// Where in the pool its run begins.
    start: u32,
    /// Entries in the low 27 bits, log2 of the run's capacity above.
    len_and_class: u32,
}

impl Cell {
    const EMPTY: Self = Self { key: EMPTY, start: 0, len_and_class: 0 };

    fn len(self) -> u32 {
        self.len_and_class & ((1 << LEN_BITS) - 1)
    }

    fn class(self) -> u32 {
        self.len_and_class >> LEN_BITS
    }
}

/// How many cells are read together.
pub(crate) const BATCH: usize = 128;
/// How many entries are tested together.
pub(crate) const LANES: usize = 4;

/// What a test says of four entries, a bit for each: first entry, lowest bit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Verdicts {
    pub(crate) surely: u32,
    /// Those that surely are, included.
    pub(crate) perhaps: u32,
}

/// By a mask of four bits: where its bits are, lowest first.
const BITS: [[u32; LANES]; 1 << LANES] = {
    let mut table = [[0; LANES]; 1 << LANES];
    let mut mask = 0;
    while mask < table.len() {
        let (mut found, mut bit) = (0, 0);
        while bit < LANES {
            if mask >> bit & 1 == 1 {
                table[mask][found] = bit as u32;
                found += 1;
            }
            bit += 1;
        }
        mask += 1;
    }
    table
};

/// A table of at most so many slots is in the cache with all it points at.
const NEAR_SLOTS: usize = 1 << 14;

/// Entries tested before it is asked whether there is room for more hits.
const PART: usize = 64 * LANES;

/// Working space of [`Cells::read`].
pub(crate) struct Scratch {
    runs: [(u32, u32); BATCH],
    sure: Hits,
    unsure: Hits,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        Self { runs: [(0, 0); BATCH], sure: Hits::new(), unsure: Hits::new() }
    }
}

/// Where in the pool hits are.
struct Hits {
    at: [u32; 2 * PART],
    len: usize,
}

impl Hits {
    fn new() -> Self {
        Self { at: [0; 2 * PART], len: 0 }
    }

    /// Adds those of four whose bits are set behind `len` hits, without a branch; gives how many there are then. The
    /// caller keeps that number at hand: each addition waits for the one before to have it.
    #[inline(always)]
    fn add(&mut self, len: usize, four_at: u32x4, mask: u32) -> usize {
        let mask = mask as usize % BITS.len();
        let found_at = four_at + u32x4::new(BITS[mask]);
        *self.at[len..].first_chunk_mut().expect("a part has room") = found_at.to_array();
        // As a number of four bits each: without SSE 4.2 counting takes a dozen instructions.
        len + (0x4332_3221_3221_2110_u64 >> (4 * mask) & 7) as usize
    }
}

#[derive(Debug)]
pub(crate) struct Cells<E> {
    table: Vec<Cell>,
    /// Right shift that leaves the number of a group of four slots of the multiplied key.
    shift: u32,
    used: usize,
    /// Runs, and behind the last one `LANES - 1` entries of nobody: four may be read from any entry on.
    pool: Vec<E>,
    /// First free run of each capacity, linked through the runs.
    free: [u32; 32],
}

/// A cell's name. Neighbouring columns differ in the low bits, which [`Cells`] relies on for speed only.
#[inline]
pub(crate) fn cell_key(layer: usize, row: u32, column: u32) -> u64 {
    debug_assert!(row < 1 << 24 && column < 1 << 24);
    (layer as u64) << 48 | u64::from(row) << 24 | u64::from(column)
}

impl<E: Entry> Cells<E> {
    /// Steps of so many entries leave no cache line out.
    const A_LINE: usize = 64 / size_of::<E>();

    pub(crate) fn new() -> Self {
        let slots = 16;
        Self {
            table: vec![Cell::EMPTY; slots],
            shift: Self::shift(slots),
            used: 0,
            pool: vec![E::default(); LANES - 1],
            free: [NONE; 32],
        }
    }

    fn shift(slots: usize) -> u32 {
        64 - (slots.trailing_zeros() - 2)
    }

    /// Bytes of heap.
    pub(crate) fn memory(&self) -> usize {
        self.table.capacity() * size_of::<Cell>() + self.pool.capacity() * size_of::<E>()
    }

    pub(crate) fn table_len(&self) -> usize {
        self.table.len()
    }

    #[inline]
    fn home(&self, key: u64) -> usize {
        // Fibonacci hashing (Knuth, TAOCP 3, 6.4) of the group of four columns.
        let group = (key >> 2).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> self.shift;
        (group << 2 | key & 3) as usize
    }

    #[inline]
    fn find(&self, key: u64) -> Option<usize> {
        let mask = self.table.len() - 1;
        let mut at = self.home(key);
        loop {
            let found = self.table[at & mask].key;
            if found == key {
                return Some(at & mask);
            }
            if found == EMPTY {
                return None;
            }
            at += 1;
        }
    }

    /// Reads the cells of `keys`, which may exist or not: calls `hit` for each of their entries that `test` lets
    /// pass, with whether that is sure. `scratch` is only working space.
    ///
    /// At a million people nearly every cell is a cache miss, and a branch on a value that is still under way stops
    /// the processor from fetching the next. So each pass first touches all that the next one needs, without a branch
    /// on it; and as no branch predictor knows who hears, hits are collected without one. Four entries at a time,
    /// since most of those tested stand in large cells and are no hits.
    #[inline]
    pub(crate) fn read(
        &self,
        keys: &[u64],
        scratch: &mut Scratch,
        test: impl Fn(&[E; LANES]) -> Verdicts,
        hit: impl FnMut(&E, bool),
    ) {
        let runs = &mut scratch.runs;
        let mask = self.table.len() - 1;
        let mut touched = 0;
        let is_near = self.table.len() <= NEAR_SLOTS;
        if !is_near {
            for &key in keys {
                touched ^= self.table[self.home(key) & mask].start;
            }
            black_box(touched);
        }

        let mut found = 0;
        for at in keys.iter().filter_map(|&key| self.find(key)) {
            let cell = self.table[at];
            runs[found] = (cell.start, cell.len());
            found += 1;
        }
        if !is_near {
            for &(start, len) in &runs[..found] {
                for entry in self.pool[start as usize..][..len as usize].iter().step_by(Self::A_LINE) {
                    touched ^= entry.id();
                }
            }
            black_box(touched);
        }

        self.test_runs(scratch, found, test, hit);
    }

    /// The same for every entry there is.
    pub(crate) fn read_all(
        &self,
        scratch: &mut Scratch,
        test: impl Fn(&[E; LANES]) -> Verdicts,
        mut hit: impl FnMut(&E, bool),
    ) {
        let mut cells = self.table.iter().filter(|cell| cell.key != EMPTY);
        loop {
            let mut found = 0;
            for (run, cell) in scratch.runs.iter_mut().zip(&mut cells) {
                *run = (cell.start, cell.len());
                found += 1;
            }
            if found == 0 {
                return;
            }
            self.test_runs(scratch, found, &test, &mut hit);
        }
    }

    #[inline]
    fn test_runs(
        &self,
        Scratch { runs, sure, unsure }: &mut Scratch,
        found: usize,
        test: impl Fn(&[E; LANES]) -> Verdicts,
        mut hit: impl FnMut(&E, bool),
    ) {
        let mut flush = |sure: &mut Hits, unsure: &mut Hits| {
            for (hits, is_sure) in [(sure, true), (unsure, false)] {
                hits.at[..hits.len].iter().for_each(|&at| hit(&self.pool[at as usize], is_sure));
                hits.len = 0;
            }
        };
        for &(start, len) in &runs[..found] {
            let mut at = start;
            // Four may be read from any entry on; what lies behind the run is no part of it.
            let (mut left, run) = (len as usize, &self.pool[start as usize..]);
            for part in run[..left.next_multiple_of(LANES)].chunks(PART) {
                if sure.len.max(unsure.len) > PART {
                    flush(sure, unsure);
                }
                let mut fours_at = u32x4::splat(at);
                let mut sure_len = sure.len;
                for four in part.as_chunks().0 {
                    let in_run = if left < LANES { (1 << left) - 1 } else { u32::MAX };
                    let Verdicts { surely, perhaps } = test(four);
                    sure_len = sure.add(sure_len, fours_at, surely & in_run);
                    // Hardly ever: the rim of a circle is thin.
                    let perhaps = perhaps & !surely & in_run;
                    if perhaps != 0 {
                        unsure.len = unsure.add(unsure.len, fours_at, perhaps);
                    }
                    fours_at += u32x4::splat(LANES as u32);
                    left = left.saturating_sub(LANES);
                }
                sure.len = sure_len;
                at += PART as u32;
            }
        }
        flush(sure, unsure);
    }

    /// Replaces an entry that stays in its cell.
    #[inline]
    pub(crate) fn replace(&mut self, at: u32, entry: E) {
        debug_assert_eq!(self.pool[at as usize].id(), entry.id());
        self.pool[at as usize] = entry;
    }

    /// Adds an entry and says where in the pool it is. `moved(id, to)` is told where others have gone.
    pub(crate) fn push(&mut self, key: u64, entry: E, moved: impl FnMut(u32, u32)) -> u32 {
        let at = match self.find(key) {
            Some(at) => at,
            None => self.add_cell(key),
        };
        let cell = self.table[at];
        let len = cell.len();
        if len == 1 << cell.class() {
            self.resize_run(at, cell.class() + 1, moved);
        }
        let cell = &mut self.table[at];
        let to = cell.start + len;
        self.pool[to as usize] = entry;
        cell.len_and_class += 1;
        to
    }

    /// Takes out the entry at `from`; the cell's last entry takes its place. `moved(id, to)` is told where others
    /// have gone.
    pub(crate) fn remove(&mut self, key: u64, from: u32, mut moved: impl FnMut(u32, u32)) {
        let at = self.find(key).expect("an entry's cell exists");
        let cell = &mut self.table[at];
        cell.len_and_class -= 1;
        let (start, len, class) = (cell.start, cell.len(), cell.class());
        debug_assert!((start..=start + len).contains(&from));
        if len == 0 {
            self.give_back(start, class);
            self.remove_cell(at);
            return;
        }
        let last = start + len;
        if from != last {
            let entry = self.pool[last as usize];
            self.pool[from as usize] = entry;
            moved(entry.id(), from);
        }
        if class > 1 && len <= 1 << (class - 2) {
            // At a quarter, so that a cell around a power of two is not copied to and fro.
            self.resize_run(at, class - 1, moved);
        }
    }

    fn add_cell(&mut self, key: u64) -> usize {
        if (self.used + 1) * 8 > self.table.len() * 5 {
            self.grow();
        }
        self.used += 1;
        let start = self.take(0);
        self.place(Cell { key, start, len_and_class: 0 })
    }

    fn place(&mut self, cell: Cell) -> usize {
        let mask = self.table.len() - 1;
        let mut at = self.home(cell.key);
        while self.table[at & mask].key != EMPTY {
            at += 1;
        }
        self.table[at & mask] = cell;
        at & mask
    }

    fn grow(&mut self) {
        let slots = self.table.len() * 2;
        self.shift = Self::shift(slots);
        for cell in std::mem::replace(&mut self.table, vec![Cell::EMPTY; slots]) {
            if cell.key != EMPTY {
                self.place(cell);
            }
        }
    }

    /// Deletion without tombstones (Knuth, TAOCP 3, 6.4, algorithm R).
    fn remove_cell(&mut self, at: usize) {
        let mask = self.table.len() - 1;
        let (mut hole, mut next) = (at, (at + 1) & mask);
        while self.table[next].key != EMPTY {
            let from_home = next.wrapping_sub(self.home(self.table[next].key)) & mask;
            if from_home >= next.wrapping_sub(hole) & mask {
                self.table[hole] = self.table[next];
                hole = next;
            }
            next = (next + 1) & mask;
        }
        self.table[hole] = Cell::EMPTY;
        self.used -= 1;
    }

    fn resize_run(&mut self, at: usize, class: u32, mut moved: impl FnMut(u32, u32)) {
        let cell = self.table[at];
        let len = cell.len();
        let start = self.take(class);
        for i in 0..len {
            let entry = self.pool[(cell.start + i) as usize];
            self.pool[(start + i) as usize] = entry;
            moved(entry.id(), start + i);
        }
        self.give_back(cell.start, cell.class());
        self.table[at].start = start;
        self.table[at].len_and_class = class << LEN_BITS | len;
    }

    fn take(&mut self, class: u32) -> u32 {
        let free = self.free[class as usize];
        if free != NONE {
            self.free[class as usize] = self.pool[free as usize].id();
            return free;
        }
        let start = self.pool.len() - (LANES - 1);
        let end = start + (1 << class);
        assert!(
            class < LEN_BITS && end < NONE as usize - LANES,
            "a worker's index holds at most 2^26 people in one cell"
        );
        self.pool.resize(end + LANES - 1, E::default());
        start as u32
    }

    fn give_back(&mut self, start: u32, class: u32) {
        self.pool[start as usize].set_id(self.free[class as usize]);
        self.free[class as usize] = start;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[derive(Clone, Copy, Default, Debug, PartialEq)]
    struct Plain(u32);

    const ALL: Verdicts = Verdicts { surely: 0b1111, perhaps: 0b1111 };

    impl Entry for Plain {
        fn id(&self) -> u32 {
            self.0
        }
        fn set_id(&mut self, id: u32) {
            self.0 = id;
        }
    }

    /// Random pushes and removes over few and over many cells, against a map of vectors. Where each entry is, is
    /// known only from what the table says.
    #[test]
    fn behaves_as_a_map_of_vectors() {
        for (seed, keys) in [(1, 3), (2, 40), (3, 5_000)] {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut cells = Cells::<Plain>::new();
            let mut model: HashMap<u64, Vec<u32>> = HashMap::new();
            let mut places: HashMap<u32, u32> = HashMap::new();
            for step in 0..60_000u32 {
                // Long phases of growth and decay, so that runs and the table go both ways.
                let key = cell_key(1, rng.u32(0..keys), rng.u32(0..3));
                let ids = model.entry(key).or_default();
                if rng.u32(0..10) < if step / 10_000 % 2 == 0 { 7 } else { 3 } {
                    let to = cells.push(key, Plain(step), |id, to| _ = places.insert(id, to));
                    places.insert(step, to);
                    ids.push(step);
                } else if !ids.is_empty() {
                    let id = ids.swap_remove(rng.usize(0..ids.len()));
                    let from = places.remove(&id).unwrap();
                    cells.remove(key, from, |id, to| _ = places.insert(id, to));
                }
                let found: Vec<u32> = entries(&cells, key);
                assert_eq!(found, *ids);
                assert!(ids.iter().all(|id| cells.pool[places[id] as usize].0 == *id));
            }
            let mut seen = 0;
            cells.read_all(&mut Scratch::new(), |_| ALL, |_, _| seen += 1);
            assert_eq!(seen, model.values().map(Vec::len).sum::<usize>());
            for (key, ids) in model {
                assert_eq!(entries(&cells, key), ids);
                for id in ids {
                    cells.remove(key, places[&id], |id, to| _ = places.insert(id, to));
                }
            }
            assert_eq!(cells.used, 0);
            assert!(cells.table.iter().all(|cell| cell.key == EMPTY));
        }
    }

    fn entries(cells: &Cells<Plain>, key: u64) -> Vec<u32> {
        let mut ids = Vec::new();
        cells.read(&[key], &mut Scratch::new(), |_| ALL, |entry, _| ids.push(entry.0));
        ids
    }

    /// Emptying and refilling takes no memory beyond the first time.
    #[test]
    fn memory_is_reused() {
        let mut cells = Cells::<Plain>::new();
        let mut sizes = Vec::new();
        for _ in 0..5 {
            for id in 0..10_000 {
                cells.push(cell_key(0, id % 700, id % 3), Plain(id), |_, _| ());
            }
            sizes.push(cells.memory());
            for id in 0..10_000 {
                let key = cell_key(0, id % 700, id % 3);
                let start = cells.table[cells.find(key).unwrap()].start;
                cells.remove(key, start, |_, _| ());
            }
        }
        assert!(sizes.windows(2).all(|pair| pair[0] == pair[1]), "{sizes:?}");
    }
}

//! Which workers may have a hearer at a place: shared by all threads, without a lock.
//!
//! The earth is cut into coarse cells, once for each class of radii and so large that a circle of the class touches
//! at most four. A worker marks the cells its people's circles touch; a message then asks one cell per class.
//!
//! Cells are hashed into a fixed table, and a worker counts its circles per *slot*: two cells that share a slot cost a
//! needless visit at most. The answer may name too many workers, never too few: whoever was added before the question
//! (in the happens-before sense) and not yet removed is in it, also while they are being moved.
//!
//! tests/loom.rs goes through the orders in which threads can meet here.
//!
//! Who merely *stands* somewhere is not kept here. A LoudSpeaker asks for people by position, is rare, and goes to
//! all workers.

use std::sync::Arc;
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU64, Ordering};

#[cfg(loom)]
use loom::sync::atomic::{AtomicU64, Ordering};

use crate::Position;
use crate::cells::cell_key;
use crate::geodesy::{MAX_RADIUS_M, Placed, clamp_radius};
use crate::grid::{Grid, Reach, class_of};

/// A mask has one bit for each worker.
pub const MAX_WORKERS: u32 = 64;

/// Greatest radius of each class, metres. Fewer classes than an index has: below a kilometre a finer cell would
/// spare little and fill the table.
const CLASS_MAX_M: [f64; CLASSES] = [1_000.0, 2_000.0, 5_000.0, 10_000.0, 20_000.0, 50_000.0, MAX_RADIUS_M];
const CLASSES: usize = 7;
const DEFAULT_SLOTS: usize = 1 << 17;
/// How often a question starts again because circles changed class meanwhile, before it answers "everybody".
const TRIES: usize = 4;

/// Coarse cell -> workers with a circle in it. One per world, shared by all of a node's workers.
#[derive(Debug)]
pub struct Interest {
    grids: [Grid; CLASSES],
    slots: Box<[AtomicU64]>,
    shift: u32,
    /// Workers that have a handle.
    workers: AtomicU64,
    /// Moves of a circle from one class to another, counted between marking the new cells and unmarking the old.
    /// A question that sees it change may have looked at the new cells too early and at the old ones too late.
    class_changes: AtomicU64,
}

/// Why a worker got no handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InterestError {
    #[error("worker {0} is beyond the greatest number, {max}", max = MAX_WORKERS - 1)]
    TooManyWorkers(u32),
    #[error("worker {0} already has a handle")]
    Taken(u32),
}

impl Default for Interest {
    fn default() -> Self {
        Self::new()
    }
}

impl Interest {
    /// 131,072 slots, 1 MiB, and half as much for each handle.
    pub fn new() -> Self {
        Self::with_slots(DEFAULT_SLOTS)
    }

    /// At least `slots` slots, rounded up to a power of two. Fewer only make the answers coarser.
    pub fn with_slots(slots: usize) -> Self {
        let slots = slots.clamp(2, 1 << 30).next_power_of_two();
        Self {
            grids: CLASS_MAX_M.map(Grid::at_most_four),
            slots: (0..slots).map(|_| AtomicU64::new(0)).collect(),
            shift: 64 - slots.trailing_zeros(),
            workers: AtomicU64::new(0),
            class_changes: AtomicU64::new(0),
        }
    }

    /// The workers that may have someone whose circle holds `place`: bit i for worker i.
    pub fn listeners(&self, place: Position) -> u64 {
        // Release and acquire are enough. Should the question miss a circle on its way from class x to y, it read y
        // before the mark and x after the removal of the mark; the latter makes the count it was preceded by visible
        // to the second reading below, and had the first reading seen that count, y's mark would have been visible.
        for _ in 0..TRIES {
            let before = self.class_changes.load(Ordering::Acquire);
            let mask = (0..CLASSES).fold(0, |mask, class| {
                let (row, column) = self.grids[class].cell(place);
                mask | self.slots[self.slot(class, row, column)].load(Ordering::Acquire)
            });
            if self.class_changes.load(Ordering::Acquire) == before {
                return mask;
            }
        }
        self.workers.load(Ordering::Acquire)
    }

    /// The one handle of a worker, numbered from 0. Dropping it withdraws everything it marked.
    pub fn handle(self: &Arc<Self>, worker: u32) -> Result<InterestHandle, InterestError> {
        if worker >= MAX_WORKERS {
            return Err(InterestError::TooManyWorkers(worker));
        }
        let bit = 1 << worker;
        if self.workers.fetch_or(bit, Ordering::AcqRel) & bit != 0 {
            return Err(InterestError::Taken(worker));
        }
        Ok(InterestHandle {
            shared: Arc::clone(self),
            bit,
            circles: vec![0; self.slots.len()].into_boxed_slice(),
        })
    }

    fn slot(&self, class: usize, row: u32, column: u32) -> usize {
        (cell_key(class, row, column).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> self.shift) as usize
    }

    fn touched(&self, position: Position, radius_m: f64) -> Touched {
        let radius_m = clamp_radius(radius_m);
        let class = class_of(&CLASS_MAX_M, radius_m);
        let mut touched = Touched { class, slots: [0; 4], len: 0 };
        self.grids[class].cover(&Placed::new(position), &Reach::new(radius_m), |row, columns| {
            for column in columns {
                touched.slots[touched.len] = self.slot(class, row, column) as u32;
                touched.len += 1;
            }
        });
        touched
    }
}

/// The slots of a circle, in a fixed order; two of them may be the same slot and are then counted twice.
#[derive(Clone, Copy, PartialEq)]
struct Touched {
    class: usize,
    slots: [u32; 4],
    len: usize,
}

/// One worker's side of an [`Interest`]: counts its own circles per slot and sets its own bit only.
///
/// `remove` and the old circle of `update` must be circles added before; [`Index::insert`](crate::Index::insert) and
/// [`Index::remove`](crate::Index::remove) return them.
#[derive(Debug)]
pub struct InterestHandle {
    shared: Arc<Interest>,
    bit: u64,
    /// Circles of this worker per slot.
    circles: Box<[u32]>,
}

impl InterestHandle {
    /// Someone came. The radius, in metres, is clamped as in an index.
    pub fn add(&mut self, position: Position, radius_m: f64) {
        let touched = self.shared.touched(position, radius_m);
        self.mark(touched);
    }

    /// Someone left.
    pub fn remove(&mut self, position: Position, radius_m: f64) {
        let touched = self.shared.touched(position, radius_m);
        self.unmark(touched);
    }

    /// Someone moved or changed their radius: both circles as (position, radius in metres).
    pub fn update(&mut self, old: (Position, f64), new: (Position, f64)) {
        let (old, new) = (self.shared.touched(old.0, old.1), self.shared.touched(new.0, new.1));
        if old == new {
            return;
        }
        // The new first, so that a place in both circles is never without its mark.
        self.mark(new);
        if old.class != new.class {
            self.shared.class_changes.fetch_add(1, Ordering::AcqRel);
        }
        self.unmark(old);
    }

    fn mark(&mut self, touched: Touched) {
        for &slot in &touched.slots[..touched.len] {
            let circles = &mut self.circles[slot as usize];
            *circles += 1;
            if *circles == 1 {
                self.shared.slots[slot as usize].fetch_or(self.bit, Ordering::AcqRel);
            }
        }
    }

    fn unmark(&mut self, touched: Touched) {
        for &slot in &touched.slots[..touched.len] {
            let circles = &mut self.circles[slot as usize];
            debug_assert!(*circles > 0, "removed a circle that was not added");
            if *circles == 1 {
                self.shared.slots[slot as usize].fetch_and(!self.bit, Ordering::AcqRel);
            }
            *circles = circles.saturating_sub(1);
        }
    }
}

impl Drop for InterestHandle {
    fn drop(&mut self) {
        for (slot, circles) in self.circles.iter().enumerate() {
            if *circles > 0 {
                self.shared.slots[slot].fetch_and(!self.bit, Ordering::AcqRel);
            }
        }
        self.shared.workers.fetch_and(!self.bit, Ordering::AcqRel);
    }
}

//! Questions and moves ask the allocator for nothing once the index has seen its greatest size.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use geo_index::{Index, Interest, Position};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// The only way to see allocations is to be the allocator; both calls are handed on unchanged.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn steady_state() {
    const PEOPLE: u32 = 20_000;
    let interest = Arc::new(Interest::new());
    let mut handle = interest.handle(0).unwrap();
    let mut index = Index::new();
    // The same tour again and again: people walk, jump, leave, come back, change their radius, and end where they
    // began.
    let mut tour = || {
        let mut rng = fastrand::Rng::with_seed(8);
        let mut heard = 0;
        for step in 0..100_000u32 {
            let id = rng.u32(0..PEOPLE);
            let position = Position::new(127.0 + rng.f64(), 37.0 + rng.f64()).unwrap();
            let radius_m = 100.0 * 200f64.powf(rng.f64());
            if step % 10 == 0 {
                if let Some((position, radius_m)) = index.remove(id) {
                    handle.remove(position, radius_m);
                }
            } else {
                match index.insert(id, position, radius_m) {
                    None => handle.add(position, radius_m),
                    Some(before) => handle.update(before, (position, radius_m)),
                }
            }
            if step % 50 == 0 {
                index.who_hears(position, |_| heard += 1);
                index.who_is_in(position, radius_m, |_| heard += 1);
                heard += interest.listeners(position).count_ones();
            }
        }
        for id in 0..PEOPLE {
            if let Some((position, radius_m)) = index.remove(id) {
                handle.remove(position, radius_m);
            }
        }
        heard
    };
    let heard = tour();
    let before = ALLOCATIONS.get();
    assert!(before > 0, "the counter counts");
    assert_eq!(tour(), heard);
    assert_eq!(ALLOCATIONS.get(), before);
}

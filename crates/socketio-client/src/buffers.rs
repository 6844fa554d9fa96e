//! Buffers that all connections of a thread share, so that an idle one owns none.
//!
//! A buffer is taken out of its place while it is used. Whoever asks meanwhile (a visitor that reads
//! from another connection) gets a fresh one, so that nothing here can be borrowed twice.

use std::cell::Cell;

/// Bytes one read may bring.
pub(crate) const READ_BUFFER: usize = 64 * 1024;
/// A write buffer that grew beyond this is not kept.
const KEEP: usize = 256 * 1024;

thread_local! {
    static READ: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
    static TEXT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static FRAMES: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Runs `work` with the thread's read buffer, [`READ_BUFFER`] bytes of leftovers.
pub(crate) fn with_read_buffer<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    let mut buffer =
        READ.try_with(Cell::take).ok().flatten().unwrap_or_else(|| vec![0; READ_BUFFER].into_boxed_slice());
    let result = work(&mut buffer);
    // The place is gone only while the thread ends.
    let _ = READ.try_with(|place| place.set(Some(buffer)));
    result
}

/// Runs `work` with an empty buffer for the text of a packet.
pub(crate) fn with_text_buffer<T>(work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    with(&TEXT, work)
}

/// Runs `work` with an empty buffer for encoded frames.
pub(crate) fn with_frame_buffer<T>(work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    with(&FRAMES, work)
}

fn with<T>(place: &'static std::thread::LocalKey<Cell<Vec<u8>>>, work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let mut buffer = place.try_with(Cell::take).unwrap_or_default();
    buffer.clear();
    let result = work(&mut buffer);
    if buffer.capacity() <= KEEP {
        let _ = place.try_with(|place| place.set(buffer));
    }
    result
}

//! The frames one session has yet to send: bounded, in order, the first of them perhaps half sent.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::time::Duration;

use smallvec::SmallVec;

use crate::frame::Frame;

/// Most frames handed to one write call.
const BATCH: usize = 64;

/// What a frame in the queue is taken to cost at least, in bytes.
const LEAST_COST: usize = 64;

/// Microseconds on the worker's clock, wrapping after 71 minutes; only differences of entries much younger
/// than that are taken.
pub(crate) type Micros = u32;

#[derive(Debug)]
struct Entry {
    frame: Frame,
    pushed: Micros,
}

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    queue: VecDeque<Entry>,
    /// Bytes of the first frame that are written already.
    sent: usize,
    /// Bytes of all frames, without what is written.
    bytes: usize,
}

/// What one write call came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// Nothing is left.
    Drained,
    /// The call took all it was given, or was cut short, and there is more.
    More,
    /// The socket is full.
    Blocked,
    Failed(io::ErrorKind),
}

/// Gathered over one write call.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) bytes: usize,
    /// When each wholly written frame had been pushed.
    pub(crate) pushed: SmallVec<[Micros; BATCH]>,
}

impl Outbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether a frame of `len` bytes keeps the queue within `limit` bytes. Short frames count as [`LEAST_COST`],
    /// or a queue of them would hold far more memory than bytes.
    pub(crate) fn has_room(&self, len: usize, limit: usize) -> bool {
        self.queue.is_empty() || (self.bytes + len <= limit && self.queue.len() < limit.div_ceil(LEAST_COST))
    }

    pub(crate) fn push_back(&mut self, frame: Frame, now: Micros) {
        self.bytes += frame.len();
        self.queue.push_back(Entry { frame, pushed: now });
    }

    /// Before everything not yet begun, but never into a half-sent frame.
    pub(crate) fn push_control(&mut self, frame: Frame, now: Micros) {
        self.bytes += frame.len();
        let at = usize::from(self.sent > 0);
        self.queue.insert(at, Entry { frame, pushed: now });
    }

    /// How long the oldest frame has waited. Control frames stand in front of older ones, so all of the first
    /// few are looked at.
    pub(crate) fn age(&self, now: Micros) -> Duration {
        let oldest = self.queue.iter().take(4).map(|entry| now.wrapping_sub(entry.pushed)).max();
        Duration::from_micros(oldest.unwrap_or(0).into())
    }

    /// Drops all but a half-sent frame, without which the peer could not read on. Gives the number dropped.
    pub(crate) fn clear_unsent(&mut self) -> usize {
        let kept = usize::from(self.sent > 0);
        let dropped = self.queue.len().saturating_sub(kept);
        self.queue.truncate(kept);
        self.bytes = self.queue.front().map_or(0, |entry| entry.frame.len() - self.sent);
        dropped
    }

    /// Drops everything and frees the queue. Gives the number dropped.
    pub(crate) fn take(&mut self) -> usize {
        std::mem::take(self).queue.len()
    }

    pub(crate) fn shrink_if_empty(&mut self) {
        if self.queue.is_empty() {
            self.queue = VecDeque::new();
        }
    }

    /// What one write call is offered: the frames at the front, at most [`BATCH`].
    pub(crate) fn front(&self) -> impl Iterator<Item = IoSlice<'_>> {
        let mut sent = self.sent;
        self.queue
            .iter()
            .take(BATCH)
            .map(move |entry| IoSlice::new(&entry.frame.as_bytes()[std::mem::take(&mut sent)..]))
    }

    /// One call of `write` with what [`Outbox::front`] gives; what it took is removed.
    pub(crate) fn write(
        &mut self,
        write: impl FnOnce(&[IoSlice<'_>]) -> io::Result<usize>,
        tally: &mut Tally,
    ) -> Written {
        let frames: SmallVec<[IoSlice<'_>; BATCH]> = self.front().collect();
        if frames.is_empty() {
            return Written::Drained;
        }
        let offered = frames.iter().map(|frame| frame.len()).sum();
        let result = write(&frames);
        drop(frames);
        self.settle(result, offered, tally)
    }

    /// As [`Outbox::write`], with all frames in one call: for a transport that makes one answer of them.
    pub(crate) fn write_whole(
        &mut self,
        write: impl FnOnce(&[IoSlice<'_>]) -> io::Result<usize>,
        tally: &mut Tally,
    ) -> Written {
        debug_assert_eq!(self.sent, 0, "an answer holds whole frames");
        let frames: Vec<_> = self.queue.iter().map(|entry| IoSlice::new(entry.frame.as_bytes())).collect();
        let offered = frames.iter().map(|frame| frame.len()).sum();
        let result = write(&frames);
        self.settle(result, offered, tally)
    }

    /// What came of a write that was offered this many bytes of [`Outbox::front`].
    pub(crate) fn settle(&mut self, result: io::Result<usize>, offered: usize, tally: &mut Tally) -> Written {
        match result {
            Ok(written) => {
                self.remove(written, tally);
                match (written < offered, self.queue.is_empty()) {
                    (true, _) => Written::Blocked,
                    (false, true) => Written::Drained,
                    (false, false) => Written::More,
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Written::Blocked,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Written::More,
            Err(error) => Written::Failed(error.kind()),
        }
    }

    fn remove(&mut self, written: usize, tally: &mut Tally) {
        tally.bytes += written;
        self.bytes -= written;
        let mut left = self.sent + written;
        while let Some(first) = self.queue.front() {
            if left < first.frame.len() {
                break;
            }
            left -= first.frame.len();
            tally.pushed.push(first.pushed);
            self.queue.pop_front();
        }
        self.sent = left;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox(texts: &[&str]) -> Outbox {
        let mut outbox = Outbox::default();
        for text in texts {
            outbox.push_back(Frame::text(text), 0);
        }
        outbox
    }

    /// Writes until drained, `step` bytes a call, and gives everything written.
    fn drain(outbox: &mut Outbox, step: usize) -> Vec<u8> {
        let mut out = Vec::new();
        loop {
            let mut tally = Tally::default();
            let written = outbox.write(
                |slices| {
                    let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
                    let taken = step.min(all.len());
                    out.extend_from_slice(&all[..taken]);
                    Ok(taken)
                },
                &mut tally,
            );
            if written == Written::Drained {
                return out;
            }
        }
    }

    #[test]
    fn any_cut_of_the_writes_gives_the_same_bytes() {
        let texts: Vec<String> = (0..80).map(|n| "x".repeat(n)).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let whole: Vec<u8> = texts.iter().flat_map(|text| Frame::text(text).as_bytes().to_vec()).collect();
        for step in [1, 2, 7, 100, 1_000, 1_000_000] {
            let mut outbox = outbox(&texts);
            assert_eq!(outbox.bytes(), whole.len());
            assert_eq!(drain(&mut outbox, step), whole, "step {step}");
            assert_eq!((outbox.bytes(), outbox.len(), outbox.sent), (0, 0, 0));
        }
    }

    #[test]
    fn a_control_frame_goes_first_but_not_into_a_half_sent_one() {
        let ping = Frame::from_parts(socketio_wire::websocket::frame::Opcode::Text, &[b"2"]);
        let (a, b) = (Frame::text("aaaa"), Frame::text("bbbb"));
        let mut whole = outbox(&["aaaa", "bbbb"]);
        whole.push_control(ping.clone(), 0);
        assert_eq!(drain(&mut whole, 1_000), [ping.as_bytes(), a.as_bytes(), b.as_bytes()].concat());

        let mut half = outbox(&["aaaa", "bbbb"]);
        assert_eq!(half.write(|_| Ok(3), &mut Tally::default()), Written::Blocked);
        half.push_control(ping.clone(), 0);
        assert_eq!(drain(&mut half, 1_000), [&a.as_bytes()[3..], ping.as_bytes(), b.as_bytes()].concat());
    }

    #[test]
    fn giving_up_keeps_only_the_half_sent_frame() {
        let mut fresh = outbox(&["aaaa", "bbbb"]);
        assert_eq!(fresh.clear_unsent(), 2);
        assert_eq!((fresh.bytes(), fresh.len()), (0, 0));

        let mut half = outbox(&["aaaa", "bbbb", "cccc"]);
        half.write(|_| Ok(3), &mut Tally::default());
        assert_eq!(half.clear_unsent(), 2);
        assert_eq!(half.bytes(), Frame::text("aaaa").len() - 3);
        assert_eq!(drain(&mut half, 1_000), Frame::text("aaaa").as_bytes()[3..]);
    }

    #[test]
    fn room_is_counted_in_bytes_and_one_frame_always_fits() {
        let mut outbox = Outbox::default();
        assert!(outbox.has_room(5_000, 1_000));
        outbox.push_back(Frame::text(&"x".repeat(497)), 0);
        assert!(outbox.has_room(498, 1_000));
        assert!(!outbox.has_room(499, 1_000));

        let mut many = Outbox::default();
        (0..16).for_each(|_| many.push_back(Frame::text("x"), 0));
        assert!(many.has_room(3, 64 * 17) && !many.has_room(3, 64 * 16), "frames cost more than their bytes");
    }

    #[test]
    fn age_is_the_oldest_frames_across_the_clocks_end() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.age(5), Duration::ZERO);
        outbox.push_back(Frame::text("old"), u32::MAX - 9);
        outbox.push_control(Frame::text("new"), 10);
        assert_eq!(outbox.age(20), Duration::from_micros(30));
    }
}

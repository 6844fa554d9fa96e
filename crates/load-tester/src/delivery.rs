//! What was said and what was heard, while it happens.
//!
//! Each stamped message gets a number; its due and sent instants and its place stay here, only a mark travels:
//! ` ~df:RUN:NUMBER` at the end of the stamped text. A listener looks for the mark in the raw bytes of what it hears.
//! Only what is still under way is kept: once the [`Ledger`](crate::ledger::Ledger) has judged a message, its room is
//! another's, so that a run may last for days.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::flow::at_path;
use crate::metrics::{Heard, Recorder};
use crate::outcome::{Delivery, Nanos};

const CHUNK: u32 = 4096;
/// 12 MB when all are made, which a long run does: 20,000 messages a second with the usual deadline.
const CHUNKS: u32 = 64;
/// Messages under way at once, said and not yet judged; further ones are sent without a mark.
const MOST_UNDER_WAY: u32 = CHUNK * CHUNKS;

/// Everything said in a run and not yet judged. Senders append, hearers on any thread read, nobody waits.
#[derive(Debug)]
pub(crate) struct Messages {
    next: AtomicU32,
    /// Messages before this one are judged.
    judged: AtomicU32,
    /// Sent without a mark.
    unmarked: AtomicU64,
    /// A ring: message `n` stands at `n % MOST_UNDER_WAY`. Made as it is first needed.
    chunks: Box<[OnceLock<Box<[Entry]>>]>,
}

/// One message. Written by its sender's thread before the bytes leave, so a hearer sees it whole.
#[derive(Debug, Default)]
struct Entry {
    /// Number plus one, and [`Status`] in the lowest byte; 0 while the rest changes hands.
    tag: AtomicU64,
    due: AtomicU64,
    sent: AtomicU64,
    /// Bits of the coordinates; NaN when the message has no place.
    lng: AtomicU64,
    lat: AtomicU64,
    /// The next message of the same sender, plus one.
    later: AtomicU32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Status {
    Written = 1,
    /// The bytes did not leave: nobody is expected to hear it.
    NotSent = 2,
    /// The server said no in its ack.
    Refused = 3,
    /// The sender got an `exception` after it and no ack: refused, unless somebody hears it all the same.
    Complained = 4,
    /// The post it stood in was not answered: not sent, unless somebody hears it all the same.
    Unanswered = 5,
}

fn tag(message: u32, status: Status) -> u64 {
    (u64::from(message) + 1) << 8 | status as u64
}

impl Messages {
    pub(crate) fn new() -> Self {
        Self {
            next: AtomicU32::new(0),
            judged: AtomicU32::new(0),
            unmarked: AtomicU64::new(0),
            chunks: (0..CHUNKS).map(|_| OnceLock::new()).collect(),
        }
    }

    /// The entry in which the message stands, or stood.
    fn entry(&self, message: u32) -> Option<&Entry> {
        let at = message % MOST_UNDER_WAY;
        self.chunks[(at / CHUNK) as usize].get()?.get((at % CHUNK) as usize)
    }

    /// A message about to be sent; `before` is the sender's last one. `None`: too many are under way.
    pub(crate) fn add(
        &self,
        due: Nanos,
        sent: Nanos,
        place: Option<(f64, f64)>,
        before: Option<u32>,
    ) -> Option<u32> {
        // Acquire: whoever judged the one that stood here before is done with it.
        let judged = self.judged.load(Ordering::Acquire);
        let free = |next: u32| (next - judged < MOST_UNDER_WAY && next < u32::MAX).then_some(next + 1);
        let Ok(message) = self.next.fetch_update(Ordering::AcqRel, Ordering::Relaxed, free) else {
            self.unmarked.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        let at = message % MOST_UNDER_WAY;
        let chunk =
            self.chunks[(at / CHUNK) as usize].get_or_init(|| (0..CHUNK).map(|_| Entry::default()).collect());
        let entry = &chunk[(at % CHUNK) as usize];
        let (lng, lat) = place.unwrap_or((f64::NAN, f64::NAN));
        entry.tag.store(0, Ordering::Relaxed);
        // Whoever reads one of the new values sees that the old tag is gone.
        fence(Ordering::Release);
        entry.due.store(due, Ordering::Relaxed);
        entry.sent.store(sent, Ordering::Relaxed);
        entry.lng.store(lng.to_bits(), Ordering::Relaxed);
        entry.lat.store(lat.to_bits(), Ordering::Relaxed);
        entry.later.store(0, Ordering::Relaxed);
        entry.tag.store(tag(message, Status::Written), Ordering::Release);
        if let Some(before) = before
            && let Some(entry) = self.entry(before)
            && self.said(before).is_some()
        {
            entry.later.store(message + 1, Ordering::Release);
        }
        Some(message)
    }

    pub(crate) fn set_status(&self, message: u32, status: Status) {
        if let Some(entry) = self.entry(message) {
            let same = |now: u64| (now >> 8 == u64::from(message) + 1).then_some(tag(message, status));
            // An error means that it was judged long ago.
            let _ = entry.tag.fetch_update(Ordering::AcqRel, Ordering::Relaxed, same);
        }
    }

    /// How many were ever said.
    pub(crate) fn len(&self) -> u32 {
        self.next.load(Ordering::Acquire)
    }

    /// How many had to go without a mark.
    pub(crate) fn unmarked(&self) -> u64 {
        self.unmarked.load(Ordering::Relaxed)
    }

    /// Messages before this one are judged.
    pub(crate) fn judged(&self) -> u32 {
        self.judged.load(Ordering::Acquire)
    }

    /// The room of the messages before this one may be used again.
    pub(crate) fn judged_before(&self, message: u32) {
        self.judged.store(message, Ordering::Release);
    }

    fn later(&self, message: u32) -> Option<u32> {
        let later = self.entry(message)?.later.load(Ordering::Acquire).checked_sub(1)?;
        self.said(message).map(|_| later)
    }

    /// `None` when no such message was ever sent, or another has taken its room.
    pub(crate) fn said(&self, message: u32) -> Option<Said> {
        let entry = self.entry(message)?;
        let before = entry.tag.load(Ordering::Acquire);
        if before >> 8 != u64::from(message) + 1 {
            return None;
        }
        let said = Said {
            due: entry.due.load(Ordering::Relaxed),
            sent: entry.sent.load(Ordering::Relaxed),
            lng: f64::from_bits(entry.lng.load(Ordering::Relaxed)),
            lat: f64::from_bits(entry.lat.load(Ordering::Relaxed)),
            status: match before as u8 {
                2 => Status::NotSent,
                3 => Status::Refused,
                4 => Status::Complained,
                5 => Status::Unanswered,
                _ => Status::Written,
            },
        };
        // Read while it changed hands: what was read may be half the next message's.
        fence(Ordering::Acquire);
        (entry.tag.load(Ordering::Relaxed) >> 8 == before >> 8).then_some(said)
    }
}

/// A message whose bytes are leaving; whoever is cut off meanwhile cannot know whether they did.
pub(crate) struct Sending<'a> {
    messages: &'a Messages,
    message: Option<u32>,
}

impl<'a> Sending<'a> {
    pub(crate) fn new(messages: &'a Messages, message: Option<u32>) -> Self {
        Self { messages, message }
    }

    pub(crate) fn over(mut self) {
        self.message = None;
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        if let Some(message) = self.message {
            self.messages.set_status(message, Status::Unanswered);
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Said {
    pub(crate) due: Nanos,
    pub(crate) sent: Nanos,
    pub(crate) lng: f64,
    pub(crate) lat: f64,
    pub(crate) status: Status,
}

/// The mark of one run: how it is written, and how it is found again.
#[derive(Debug)]
pub(crate) struct Marks {
    event: String,
    prefix: String,
    finder: memchr::memmem::Finder<'static>,
}

impl Marks {
    pub(crate) fn new(event: &str, run_id: &str) -> Self {
        let prefix = format!(" ~df:{run_id}:");
        let finder = memchr::memmem::Finder::new(&prefix.as_bytes()[1..]).into_owned();
        Self { event: event.to_owned(), prefix, finder }
    }

    /// The event that carries marks back.
    pub(crate) fn event(&self) -> &str {
        &self.event
    }

    /// Appends the mark; nothing in it needs escaping in JSON.
    pub(crate) fn write(&self, message: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(self.prefix.as_bytes());
        write!(out, "{message}").expect("a Vec takes everything");
    }

    /// The number in the first mark of this run, wherever it stands in the raw text of the event.
    fn find(&self, raw: &str) -> Option<u32> {
        self.number_at(raw.as_bytes(), self.finder.find(raw.as_bytes())?)
    }

    /// The numbers in all marks of this run.
    pub(crate) fn find_all(&self, raw: &str) -> impl Iterator<Item = u32> {
        let bytes = raw.as_bytes();
        self.finder.find_iter(bytes).filter_map(move |at| self.number_at(bytes, at))
    }

    fn number_at(&self, bytes: &[u8], at: usize) -> Option<u32> {
        let mut number: u32 = 0;
        let mut digits = 0;
        for byte in &bytes[at + self.finder.needle().len()..] {
            if !byte.is_ascii_digit() {
                break;
            }
            number = number.checked_mul(10)?.checked_add(u32::from(byte - b'0'))?;
            digits += 1;
        }
        (digits > 0).then_some(number)
    }
}

/// Where a listener stood, and since when. Between `asked` and `settled` the server may have known either place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Stand {
    pub(crate) lng: f64,
    pub(crate) lat: f64,
    pub(crate) radius_m: f64,
    /// When the move to here was sent; 0 for the first.
    pub(crate) asked: Nanos,
    /// When the server had confirmed it; `Nanos::MAX` if it never did.
    pub(crate) settled: Nanos,
}

/// A listener whom the script takes out of the run for a while: not the server's fault, so what it does not hear
/// meanwhile is not missing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Presence {
    /// With `recovers` it asks on its return for what it missed.
    Gone {
        at: Nanos,
        recovers: bool,
    },
    Back {
        at: Nanos,
    },
}

/// What every hearer of a run looks at.
#[derive(Clone, Copy)]
pub(crate) struct Listening<'a> {
    pub(crate) marks: &'a Marks,
    pub(crate) messages: &'a Messages,
    /// The first phase's start.
    pub(crate) zero: Instant,
    /// Of so many judged messages every hearer still knows whether it heard them.
    pub(crate) remembered: u32,
}

/// How many judged messages hearers remember: as many as fit in 16 MB for all of them.
pub(crate) fn remembered(listeners: usize) -> u32 {
    const BITS: usize = 16 << 23;
    (BITS / listeners.max(1)).clamp(1 << 10, 1 << 16) as u32
}

/// Later messages of a sender that are looked at for each that comes: enough to see any swap, and a bound where a
/// sender is far ahead of what was heard.
const MOST_LATER: usize = 256;

/// What one listener heard of the messages that are not yet judged, and of the last ones that are.
#[derive(Debug, Default)]
pub(crate) struct Ears {
    /// Number over all groups, from 0.
    pub(crate) number: u32,
    /// Reads slowly on purpose: an account of its own, and nobody waits for it.
    pub(crate) apart: bool,
    heard: Recent,
    cursor: Option<Box<Cursor>>,
}

/// Where a listener that comes back goes on.
#[derive(Debug)]
struct Cursor {
    path: Vec<String>,
    /// The last name of the path in quotes, by which what has no cursor is passed over without being parsed.
    name: Option<String>,
    /// The JSON array of the last event or ack that may have one.
    last: String,
    /// The last one found.
    found: Option<Value>,
}

impl Ears {
    pub(crate) fn new(number: usize) -> Self {
        Self { number: u32::try_from(number).unwrap_or(u32::MAX), ..Self::default() }
    }

    /// From here on what stands at `path` in the first object of what comes, events and acks, is remembered.
    pub(crate) fn remember_cursor(&mut self, path: &[String]) {
        let name = path.last().filter(|name| name.parse::<usize>().is_err());
        let name = name.map(|name| Value::from(name.as_str()).to_string());
        let cursor = Cursor { path: path.to_vec(), name, last: String::new(), found: None };
        self.cursor = Some(Box::new(cursor));
    }

    pub(crate) fn remembers(&self) -> bool {
        self.cursor.is_some()
    }

    /// Something came: an event listened for, or an ack. What has no cursor in it takes none away.
    pub(crate) fn came(&mut self, raw: &str) {
        let Some(cursor) = &mut self.cursor else { return };
        if cursor.name.as_ref().is_none_or(|name| raw.contains(&**name)) {
            cursor.last.clear();
            cursor.last.push_str(raw);
        }
    }

    /// The cursor that came last.
    pub(crate) fn cursor(&mut self) -> Option<Value> {
        let cursor = self.cursor.as_mut()?;
        let all: Vec<Value> = serde_json::from_str(&cursor.last).unwrap_or_default();
        let object = all.iter().find(|one| one.is_object());
        if let Some(found) = object.and_then(|object| at_path(object, &cursor.path)) {
            cursor.found = Some(found.clone());
        }
        cursor.found.clone()
    }

    /// One delivery of the listened-for event; `raw` is its JSON array, `received` when its bytes were read.
    /// True when it carried a mark of this run that was not heard here before, is not too late, and is waited for.
    pub(crate) fn hear(
        &mut self,
        listening: Listening<'_>,
        raw: &str,
        received: Instant,
        recorder: &mut Recorder,
    ) -> bool {
        let Some(message) = listening.marks.find(raw) else { return false };
        let after_us = |said: &Said| {
            let at = received.saturating_duration_since(listening.zero);
            let after = at.saturating_sub(Duration::from_nanos(said.sent));
            u32::try_from(after.as_micros()).unwrap_or(u32::MAX).min(Heard::FORGOTTEN - 1)
        };
        self.note(listening, message, after_us, recorder)
    }

    /// What was missed while away, all of it in one answer; how many were not heard here before. It was not delivered
    /// when it was said, so it is no sample of the delivery times.
    pub(crate) fn catch_up(&mut self, listening: Listening<'_>, raw: &str, recorder: &mut Recorder) -> u64 {
        let caught_up = listening.marks.find_all(raw);
        caught_up
            .map(|message| u64::from(self.note(listening, message, |_| Heard::CAUGHT_UP, recorder)))
            .sum()
    }

    /// False: heard before, too late to be counted, never said, or not waited for.
    fn note(
        &mut self,
        listening: Listening<'_>,
        message: u32,
        after_us: impl FnOnce(&Said) -> u32,
        recorder: &mut Recorder,
    ) -> bool {
        let Listening { messages, remembered, .. } = listening;
        let listener = self.number;
        let judged = messages.judged();
        let known_from = judged.saturating_sub(remembered);
        let said = messages.said(message);
        let Some(said) = said.filter(|_| message >= known_from) else {
            if message < judged {
                recorder.late.push(Heard { message, listener, after_us: Heard::FORGOTTEN });
            }
            return false;
        };
        if !self.heard.set(message, known_from) {
            recorder.again.push((message, listener));
            return false;
        }
        let mut later = messages.later(message);
        for _ in 0..MOST_LATER {
            let Some(next) = later else { break };
            if self.heard.get(next) {
                recorder.out_of_order.push(listener);
                break;
            }
            later = messages.later(next);
        }
        let heard = Heard { message, listener, after_us: after_us(&said) };
        if message < judged {
            recorder.late.push(heard);
            return false;
        }
        recorder.heard.push(heard);
        !self.apart
    }
}

/// A set of the last messages: bits from some message on.
#[derive(Debug, Default)]
struct Recent {
    words: VecDeque<u64>,
    /// Number of the first word.
    first: usize,
}

impl Recent {
    /// False when it was set before. Messages before `from`, which is at most `message`, are forgotten.
    fn set(&mut self, message: u32, from: u32) -> bool {
        let forget = (from as usize / 64).saturating_sub(self.first).min(self.words.len());
        self.words.drain(..forget);
        self.first = if self.words.is_empty() { from as usize / 64 } else { self.first + forget };
        let (word, bit) = (message as usize / 64 - self.first, 1u64 << (message % 64));
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        let fresh = self.words[word] & bit == 0;
        self.words[word] |= bit;
        fresh
    }

    fn get(&self, message: u32) -> bool {
        let word = (message as usize / 64).checked_sub(self.first).and_then(|at| self.words.get(at));
        word.is_some_and(|word| word & (1 << (message % 64)) != 0)
    }
}

/// Counts by name, for `ensure`: `drumfire.delivery.missing` and so on.
pub(crate) fn figures(delivery: &Delivery) -> BTreeMap<&'static str, u64> {
    let mut figures = BTreeMap::from([
        ("drumfire.delivery.messages", delivery.messages),
        ("drumfire.delivery.heard", delivery.heard),
        ("drumfire.delivery.missing", delivery.missing),
        ("drumfire.delivery.duplicates", delivery.duplicates),
        ("drumfire.delivery.late", delivery.late),
        ("drumfire.delivery.unexpected", delivery.unexpected),
        ("drumfire.delivery.out_of_order", delivery.out_of_order),
        ("drumfire.delivery.undecided", delivery.undecided),
        ("drumfire.delivery.not_sent", delivery.not_sent),
    ]);
    if let Some(expected) = delivery.expected {
        figures.insert("drumfire.delivery.expected", expected);
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_found_in_raw_text_and_only_this_runs() {
        let marks = Marks::new("new_msg", "t3f9a");
        let mut text = b"testing".to_vec();
        marks.write(8_999, &mut text);
        assert_eq!(std::str::from_utf8(&text).unwrap(), "testing ~df:t3f9a:8999");
        let rows = [
            (r#"["new_msg",{"result":{"contents":"testing ~df:t3f9a:8999","idx":1}}]"#, Some(8_999)),
            (r#"["new_msg",{"result":{"contents":"~df:t3f9a:0"}}]"#, Some(0)),
            (r#"["new_msg",{"result":{"contents":"testing ~df:other:8999"}}]"#, None),
            (r#"["new_msg",{"result":{"contents":"~df:t3f9a:"}}]"#, None),
            (r#"["new_msg",{"result":{"contents":"~df:t3f9a:99999999999"}}]"#, None),
            (r#"["new_msg",{"result":{"contents":"hello"}}]"#, None),
        ];
        for (raw, expected) in rows {
            assert_eq!(marks.find(raw), expected, "{raw}");
        }
        let several = "a ~df:t3f9a:7, b ~df:other:8, c ~df:t3f9a:, d ~df:t3f9a:9";
        assert_eq!(marks.find_all(several).collect::<Vec<_>>(), [7, 9]);
    }

    #[test]
    fn a_judged_messages_room_is_used_again_and_it_is_told_from_the_one_that_took_it() {
        let messages = Messages::new();
        for at in 0..u64::from(MOST_UNDER_WAY) {
            assert!(messages.add(at, at, None, None).is_some());
        }
        assert_eq!(messages.add(1, 1, None, None), None, "all are under way");
        assert_eq!(messages.unmarked(), 1);
        messages.judged_before(10);
        let later = messages.add(77, 78, Some((1.0, 2.0)), Some(0)).unwrap();
        assert_eq!(later, MOST_UNDER_WAY);
        assert!(messages.said(0).is_none(), "its room is taken");
        assert_eq!(messages.said(later).map(|said| (said.due, said.sent)), Some((77, 78)));
        messages.set_status(0, Status::Refused);
        assert_eq!(messages.said(later).unwrap().status, Status::Written, "not its status");
        messages.set_status(later, Status::Refused);
        assert_eq!(messages.said(later).unwrap().status, Status::Refused);
    }

    #[test]
    fn ears_keep_only_what_is_not_judged() {
        let mut heard = Recent::default();
        for message in 0..1_000_000 {
            assert!(heard.set(message, message.saturating_sub(300)));
            assert!(!heard.set(message, message.saturating_sub(300)));
            assert!(heard.words.len() < 8);
        }
        assert!(heard.get(999_999) && heard.get(999_900) && !heard.get(5) && !heard.get(2_000_000));
        // Nothing was heard for long.
        assert!(heard.set(5_000_000, 4_999_999));
        assert!(heard.words.len() < 3);
    }

    #[test]
    fn a_copy_is_known_for_one_beyond_the_judgement_and_what_is_late_keeps_its_time() {
        let (messages, marks) = (Messages::new(), Marks::new("new_msg", "r"));
        let mut recorder = Recorder::default();
        let zero = Instant::now();
        let listening = Listening { marks: &marks, messages: &messages, zero, remembered: 64 };
        let [first, second] = [1_000, 2_000].map(|at| messages.add(at, at, None, None).unwrap());
        let mut ears = Ears::new(3);
        let raw = |message| {
            let mut raw = Vec::new();
            marks.write(message, &mut raw);
            String::from_utf8(raw).unwrap()
        };
        let at = zero + Duration::from_micros(52);
        assert!(ears.hear(listening, &raw(first), at, &mut recorder));
        assert_eq!(ears.catch_up(listening, &raw(first), &mut recorder), 0);
        assert_eq!((recorder.again.len(), recorder.late.len()), (1, 0));
        messages.judged_before(2);
        assert!(!ears.hear(listening, &raw(first), at, &mut recorder), "a copy still");
        assert!(!ears.hear(listening, &raw(second), at, &mut recorder));
        assert_eq!(recorder.again, [(first, 3), (first, 3)]);
        assert_eq!((recorder.late[0].message, recorder.late[0].took()), (second, Some(50)));
        // So long ago that it is no longer known.
        let last = (2..200).map(|at| messages.add(at, at, None, None).unwrap()).last().unwrap();
        messages.judged_before(last);
        assert!(ears.hear(listening, &raw(last), at, &mut recorder));
        assert!(!ears.hear(listening, &raw(second), at, &mut recorder));
        assert_eq!((recorder.late[1].message, recorder.late[1].took()), (second, None));
        assert_eq!(recorder.again.len(), 2);
        // Nobody ever said this.
        assert!(!ears.hear(listening, &raw(9_000), at, &mut recorder));
        assert_eq!((recorder.late.len(), recorder.heard.len()), (2, 2));
    }

    #[test]
    fn what_has_no_cursor_takes_none_away() {
        let mut ears = Ears::new(0);
        assert_eq!(ears.cursor(), None);
        ears.came(r#"[{"result":{"cursor":"a"}}]"#);
        assert_eq!(ears.cursor(), None, "nobody asked for it");
        ears.remember_cursor(&["result".to_owned(), "cursor".to_owned()]);
        let rows = [
            (r#"[{"status":200}]"#, None),
            (r#"["new_msg",{"result":{"cursor":"c.1"}}]"#, Some("c.1")),
            (r#"[{"status":403,"message":"no"}]"#, Some("c.1")),
            ("[]", Some("c.1")),
            (r#"[{"cursor":"elsewhere"}]"#, Some("c.1")),
            (r#"[{"status":200,"result":{"cursor":"c.2"}}]"#, Some("c.2")),
        ];
        for (raw, cursor) in rows {
            ears.came(raw);
            assert_eq!(ears.cursor(), cursor.map(Value::from), "{raw}");
        }
        ears.remember_cursor(&["list".to_owned(), "0".to_owned()]);
        ears.came(r#"["news",{"list":[7]}]"#);
        assert_eq!(ears.cursor(), Some(Value::from(7)));
    }

    #[test]
    fn hearers_remember_as_much_as_memory_allows() {
        let rows = [(0, 1 << 16), (1, 1 << 16), (20_000, 6_710), (1_000_000, 1 << 10)];
        for (listeners, messages) in rows {
            assert_eq!(remembered(listeners), messages, "{listeners}");
        }
    }
}

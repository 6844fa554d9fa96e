//! Who should have heard, who did, and when.
//!
//! Each stamped message gets a number; its due and sent instants and its place stay here, only a mark travels:
//! ` ~df:RUN:NUMBER` at the end of the stamped text. A listener looks for the mark in the raw bytes of what it hears.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use geographiclib_rs::{Geodesic, InverseGeodesic};
use rustc_hash::FxHashMap;

use crate::metrics::{Collector, Heard, Recorder, Time};
use crate::outcome::{Delivery, Nanos};
use crate::script::model::DeliveryExpectation;

const CHUNK: usize = 4096;
const CHUNKS: usize = 16_384;
/// Further messages of a run are sent without a mark.
const MAX_MESSAGES: u32 = (CHUNK * CHUNKS) as u32;

/// Everything said in a run. Senders append, hearers on any thread read, nobody waits.
#[derive(Debug)]
pub(crate) struct Messages {
    next: AtomicU32,
    chunks: Box<[OnceLock<Box<[Entry]>>]>,
}

/// One message. Written by its sender's thread before the bytes leave, so a hearer sees it whole.
#[derive(Debug, Default)]
struct Entry {
    due: AtomicU64,
    sent: AtomicU64,
    /// Bits of the coordinates; NaN when the message has no place.
    lng: AtomicU64,
    lat: AtomicU64,
    status: AtomicU8,
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
}

impl Messages {
    pub(crate) fn new() -> Self {
        Self { next: AtomicU32::new(0), chunks: (0..CHUNKS).map(|_| OnceLock::new()).collect() }
    }

    fn entry(&self, message: u32) -> Option<&Entry> {
        self.chunks.get(message as usize / CHUNK)?.get()?.get(message as usize % CHUNK)
    }

    /// A message about to be sent; `before` is the sender's last one. `None`: the table is full.
    pub(crate) fn add(
        &self,
        due: Nanos,
        sent: Nanos,
        place: Option<(f64, f64)>,
        before: Option<u32>,
    ) -> Option<u32> {
        let message = self.next.fetch_add(1, Ordering::Relaxed);
        if message >= MAX_MESSAGES {
            self.next.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let chunk = self.chunks[message as usize / CHUNK]
            .get_or_init(|| (0..CHUNK).map(|_| Entry::default()).collect());
        let entry = &chunk[message as usize % CHUNK];
        let (lng, lat) = place.unwrap_or((f64::NAN, f64::NAN));
        entry.due.store(due, Ordering::Relaxed);
        entry.sent.store(sent, Ordering::Relaxed);
        entry.lng.store(lng.to_bits(), Ordering::Relaxed);
        entry.lat.store(lat.to_bits(), Ordering::Relaxed);
        entry.status.store(Status::Written as u8, Ordering::Release);
        if let Some(before) = before.and_then(|before| self.entry(before)) {
            before.later.store(message + 1, Ordering::Release);
        }
        Some(message)
    }

    pub(crate) fn set_status(&self, message: u32, status: Status) {
        if let Some(entry) = self.entry(message) {
            entry.status.store(status as u8, Ordering::Release);
        }
    }

    pub(crate) fn len(&self) -> u32 {
        self.next.load(Ordering::Acquire)
    }

    /// Due and sent; `None` when no such message was ever sent.
    fn instants(&self, message: u32) -> Option<(Nanos, Nanos)> {
        let entry = self.entry(message)?;
        (entry.status.load(Ordering::Acquire) != 0)
            .then(|| (entry.due.load(Ordering::Relaxed), entry.sent.load(Ordering::Relaxed)))
    }

    fn later(&self, message: u32) -> Option<u32> {
        self.entry(message)?.later.load(Ordering::Acquire).checked_sub(1)
    }

    fn said(&self, message: u32) -> Option<Said> {
        let entry = self.entry(message)?;
        let status = match entry.status.load(Ordering::Acquire) {
            0 => return None,
            2 => Status::NotSent,
            3 => Status::Refused,
            4 => Status::Complained,
            _ => Status::Written,
        };
        Some(Said {
            sent: entry.sent.load(Ordering::Relaxed),
            lng: f64::from_bits(entry.lng.load(Ordering::Relaxed)),
            lat: f64::from_bits(entry.lat.load(Ordering::Relaxed)),
            status,
        })
    }
}

#[derive(Debug, Clone, Copy)]
struct Said {
    sent: Nanos,
    lng: f64,
    lat: f64,
    status: Status,
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
    pub(crate) fn find(&self, raw: &str) -> Option<u32> {
        let bytes = raw.as_bytes();
        let at = self.finder.find(bytes)? + self.finder.needle().len();
        let mut number: u32 = 0;
        let mut digits = 0;
        for byte in &bytes[at..] {
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

/// What one listener heard.
#[derive(Debug, Default)]
pub(crate) struct Ears {
    /// Number over all groups, from 0.
    pub(crate) number: usize,
    heard: Bits,
    duplicates: u64,
    out_of_order: u64,
    /// Its places in order; empty when the listener has none.
    pub(crate) stands: Vec<Stand>,
}

impl Ears {
    pub(crate) fn new(number: usize) -> Self {
        Self { number, ..Self::default() }
    }

    /// One delivery of the listened-for event; `raw` is its JSON array, `received` when its bytes were read.
    /// True when it carried a mark of this run that was not heard here before.
    pub(crate) fn hear(
        &mut self,
        marks: &Marks,
        messages: &Messages,
        zero: Instant,
        raw: &str,
        received: Instant,
        recorder: &mut Recorder,
    ) -> bool {
        let Some(message) = marks.find(raw) else { return false };
        let Some((due, sent)) = messages.instants(message) else { return false };
        if !self.heard.set(message) {
            self.duplicates += 1;
            return false;
        }
        let mut later = messages.later(message);
        while let Some(next) = later {
            if self.heard.get(next) {
                self.out_of_order += 1;
                break;
            }
            later = messages.later(next);
        }
        let at = received.saturating_duration_since(zero);
        let after = at.saturating_sub(Duration::from_nanos(sent));
        recorder.time(Time::Delivery, after);
        recorder.time(Time::DeliveryFromDue, at.saturating_sub(Duration::from_nanos(due)));
        recorder
            .heard
            .push(Heard { message, after_us: u32::try_from(after.as_micros()).unwrap_or(u32::MAX) });
        true
    }
}

#[derive(Debug, Default, Clone)]
struct Bits(Vec<u64>);

impl Bits {
    /// False when it was set before.
    fn set(&mut self, index: u32) -> bool {
        let (word, bit) = (index as usize / 64, 1u64 << (index % 64));
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let fresh = self.0[word] & bit == 0;
        self.0[word] |= bit;
        fresh
    }

    fn get(&self, index: u32) -> bool {
        self.0.get(index as usize / 64).is_some_and(|word| word & (1 << (index % 64)) != 0)
    }

    fn count(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }
}

/// First, median and last hearer of each message, worked out once a message is old enough.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    messages: Vec<Hearers>,
    /// Messages before this one are worked out.
    done: usize,
    pub(crate) heard: u64,
}

#[derive(Debug, Default)]
struct Hearers {
    after_us: Vec<u32>,
    /// The latest hearer, kept after the list is gone.
    last_us: u32,
}

impl Tally {
    pub(crate) fn add(&mut self, heard: &[Heard]) {
        self.heard += heard.len() as u64;
        for one in heard {
            let index = one.message as usize;
            if self.messages.len() <= index {
                self.messages.resize_with(index + 1, Hearers::default);
            }
            let hearers = &mut self.messages[index];
            hearers.last_us = hearers.last_us.max(one.after_us);
            if index >= self.done {
                hearers.after_us.push(one.after_us);
            }
        }
    }

    /// Works out the messages sent before `before`; they are filed under the second they were sent in.
    pub(crate) fn settle(&mut self, before: Nanos, messages: &Messages, collector: &mut Collector) {
        while let Some(hearers) = self.messages.get_mut(self.done) {
            let Some((_, sent)) = messages.instants(self.done as u32) else { break };
            if sent >= before {
                break;
            }
            let mut after = std::mem::take(&mut hearers.after_us);
            after.sort_unstable();
            if let (Some(&first), Some(&last)) = (after.first(), after.last()) {
                let second = usize::try_from(sent / 1_000_000_000).unwrap_or(0);
                collector.add_late(second, Time::DeliveryFirst, u64::from(first));
                collector.add_late(second, Time::DeliveryMedian, u64::from(after[after.len() / 2]));
                collector.add_late(second, Time::DeliveryLast, u64::from(last));
            }
            self.done += 1;
        }
    }

    fn last_heard_us(&self, message: u32) -> u32 {
        self.messages.get(message as usize).map_or(0, |hearers| hearers.last_us)
    }
}

/// A server is given at least this long to have matched a message after it was sent; later only when somebody
/// was seen to hear it later.
const MATCHED_WITHIN: Nanos = 250_000_000;
const MATCHED_AFTER_LAST: Nanos = 50_000_000;
const MOST_SAMPLES: usize = 20;
const MOST_SAMPLES_EACH: usize = 2;

/// The judgement over a finished run.
#[derive(Debug)]
pub(crate) struct Judge<'a> {
    pub(crate) event: &'a str,
    pub(crate) expectation: Option<DeliveryExpectation>,
    pub(crate) messages: &'a Messages,
    pub(crate) listeners: &'a [Ears],
    pub(crate) tally: &'a Tally,
}

/// What the circles say of one pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Should {
    Hear,
    NotHear,
    /// It depends on which of two places the server knew at the time.
    Undecided,
}

impl Judge<'_> {
    pub(crate) fn judge(&self) -> Delivery {
        let mut delivery = Delivery {
            event: self.event.to_owned(),
            expectation: self.expectation.map(|expectation| match expectation {
                DeliveryExpectation::Circle => "circle".to_owned(),
                DeliveryExpectation::All => "all".to_owned(),
                DeliveryExpectation::Nobody => "none".to_owned(),
                DeliveryExpectation::Number(number) => number.to_string(),
            }),
            messages: 0,
            expected: self.expectation.map(|_| 0),
            heard: self.listeners.iter().map(|ears| ears.heard.count()).sum(),
            missing: 0,
            duplicates: self.listeners.iter().map(|ears| ears.duplicates).sum(),
            unexpected: 0,
            out_of_order: self.listeners.iter().map(|ears| ears.out_of_order).sum(),
            undecided: 0,
            not_sent: 0,
            samples: Vec::new(),
        };
        let mut circles = Circles::new(self.listeners);
        for message in 0..self.messages.len() {
            let Some(said) = self.messages.said(message) else { continue };
            delivery.messages += 1;
            let nobody = match said.status {
                Status::Written => false,
                Status::NotSent | Status::Refused => true,
                Status::Complained => self.tally.last_heard_us(message) == 0,
            };
            if nobody {
                delivery.not_sent += 1;
            }
            match self.expectation {
                None => {}
                Some(DeliveryExpectation::Number(number)) => {
                    self.judge_number(message, if nobody { 0 } else { number }, &mut delivery);
                }
                Some(DeliveryExpectation::All) => {
                    self.judge_pairs(message, said, &mut delivery, |_| {
                        if nobody { Should::NotHear } else { Should::Hear }
                    });
                }
                Some(DeliveryExpectation::Nobody) => {
                    self.judge_pairs(message, said, &mut delivery, |_| Should::NotHear);
                }
                Some(DeliveryExpectation::Circle) => {
                    if nobody {
                        self.judge_pairs(message, said, &mut delivery, |_| Should::NotHear);
                    } else {
                        let until = self.matched_by(message, said.sent);
                        let standing = circles.hearers(said.lng, said.lat);
                        self.judge_pairs(message, said, &mut delivery, |ears| match &ears.stands[..] {
                            [_] if standing.get(ears.number as u32) => Should::Hear,
                            [_] | [] => Should::NotHear,
                            moving => should_hear(moving, said, until),
                        });
                    }
                }
            }
        }
        delivery
    }

    /// By when a message has certainly been matched with the places of the listeners.
    fn matched_by(&self, message: u32, sent: Nanos) -> Nanos {
        let last = Nanos::from(self.tally.last_heard_us(message)) * 1000;
        sent + MATCHED_WITHIN.max(last + MATCHED_AFTER_LAST)
    }

    fn judge_number(&self, message: u32, number: u64, delivery: &mut Delivery) {
        let heard = self.listeners.iter().filter(|ears| ears.heard.get(message)).count() as u64;
        *delivery.expected.get_or_insert(0) += number;
        delivery.missing += number.saturating_sub(heard);
        delivery.unexpected += heard.saturating_sub(number);
        if heard != number && delivery.samples.len() < MOST_SAMPLES {
            delivery.samples.push(format!("message {message} was heard by {heard}, not by {number}"));
        }
    }

    fn judge_pairs(
        &self,
        message: u32,
        said: Said,
        delivery: &mut Delivery,
        should: impl Fn(&Ears) -> Should,
    ) {
        for ears in self.listeners {
            let heard = ears.heard.get(message);
            let what = match should(ears) {
                Should::Hear => {
                    *delivery.expected.get_or_insert(0) += 1;
                    if heard {
                        continue;
                    }
                    delivery.missing += 1;
                    "missed"
                }
                Should::NotHear => {
                    if !heard {
                        continue;
                    }
                    delivery.unexpected += 1;
                    "heard, though not meant to,"
                }
                Should::Undecided => {
                    delivery.undecided += 1;
                    continue;
                }
            };
            // A listener that is wrong about everything need not fill the list.
            let listener = format!("listener {} ", ears.number);
            let told = delivery.samples.iter().filter(|row| row.starts_with(&listener)).count();
            if delivery.samples.len() < MOST_SAMPLES && told < MOST_SAMPLES_EACH {
                let place = match ears.stands.last() {
                    Some(stand) if said.lng.is_finite() => format!(
                        " at [{}, {}] from {:.3} m away (at [{}, {}], radius {} m)",
                        said.lng,
                        said.lat,
                        distance_m((stand.lng, stand.lat), (said.lng, said.lat)),
                        stand.lng,
                        stand.lat,
                        stand.radius_m
                    ),
                    _ => String::new(),
                };
                delivery.samples.push(format!("{listener}{what} message {message}{place}"));
            }
        }
    }

    /// Who heard what, who stood where and what was said, for an oracle of somebody else's.
    pub(crate) fn write_pairs(&self, path: &Path) -> io::Result<()> {
        let beside = |extension: &str| -> PathBuf {
            let mut name = path.as_os_str().to_owned();
            name.push(extension);
            name.into()
        };
        let mut out = BufWriter::new(File::create(path)?);
        writeln!(out, "listener,message,lng,lat")?;
        for ears in self.listeners {
            for message in (0..self.messages.len()).filter(|&message| ears.heard.get(message)) {
                if let Some(said) = self.messages.said(message) {
                    writeln!(out, "{},{message},{},{}", ears.number, said.lng, said.lat)?;
                }
            }
        }
        out.flush()?;
        let mut out = BufWriter::new(File::create(beside(".listeners.csv"))?);
        writeln!(out, "listener,lng,lat,radius_m,asked_ns,settled_ns")?;
        for ears in self.listeners {
            for stand in &ears.stands {
                let Stand { lng, lat, radius_m, asked, settled } = stand;
                writeln!(out, "{},{lng},{lat},{radius_m},{asked},{settled}", ears.number)?;
            }
        }
        out.flush()?;
        let mut out = BufWriter::new(File::create(beside(".messages.csv"))?);
        writeln!(out, "message,lng,lat,sent_ns,matched_by_ns,status")?;
        for message in 0..self.messages.len() {
            if let Some(said) = self.messages.said(message) {
                let status = match said.status {
                    Status::Written => "sent",
                    Status::NotSent => "not sent",
                    Status::Refused | Status::Complained => "refused",
                };
                let until = self.matched_by(message, said.sent);
                writeln!(out, "{message},{},{},{},{until},{status}", said.lng, said.lat, said.sent)?;
            }
        }
        out.flush()
    }
}

/// For a listener that moves: every place it may have had while the message was on its way must agree.
fn should_hear(stands: &[Stand], said: Said, until: Nanos) -> Should {
    let mut verdict = None;
    // A place ends when a later one is known to have taken hold.
    let mut ended = Nanos::MAX;
    for stand in stands.iter().rev() {
        if stand.asked <= until && said.sent <= ended {
            let hears = within((stand.lng, stand.lat), stand.radius_m, (said.lng, said.lat));
            match verdict {
                None => verdict = Some(hears),
                Some(before) if before != hears => return Should::Undecided,
                Some(_) => {}
            }
        }
        ended = ended.min(stand.settled);
    }
    match verdict {
        Some(true) => Should::Hear,
        Some(false) => Should::NotHear,
        None => Should::Undecided,
    }
}

/// Hearers of a place among the listeners that stand still, worked out once for each place.
struct Circles<'a> {
    listeners: &'a [Ears],
    known: FxHashMap<(u64, u64), Bits>,
}

impl<'a> Circles<'a> {
    fn new(listeners: &'a [Ears]) -> Self {
        Self { listeners, known: FxHashMap::default() }
    }

    fn hearers(&mut self, lng: f64, lat: f64) -> &Bits {
        // Messages at places of their own would only fill the memory.
        if self.known.len() > 4096 {
            self.known.clear();
        }
        self.known.entry((lng.to_bits(), lat.to_bits())).or_insert_with(|| {
            let mut hearers = Bits::default();
            for ears in self.listeners {
                if let [stand] = &ears.stands[..]
                    && within((stand.lng, stand.lat), stand.radius_m, (lng, lat))
                {
                    hearers.set(ears.number as u32);
                }
            }
            hearers
        })
    }
}

/// Geodesic on the WGS84 ellipsoid (Karney 2013), (lng, lat) in degrees.
fn distance_m(a: (f64, f64), b: (f64, f64)) -> f64 {
    Geodesic::wgs84().inverse(a.1, a.0, b.1, b.0)
}

/// Radius of the sphere the prefilter measures on, metres.
const SPHERE_M: f64 = 6_371_008.8;
/// A degree on the ellipsoid over the same degree on that sphere is nowhere below or above these: the radii of
/// curvature of WGS84 lie between b²/a = 6,335,439 m and a²/b = 6,399,594 m.
const SHORTEST: f64 = 0.994;
const LONGEST: f64 = 1.005;

/// Is `place` inside the circle, rim included? The sphere answers where it can, the geodesic near the rim.
fn within(centre: (f64, f64), radius_m: f64, place: (f64, f64)) -> bool {
    if !place.0.is_finite() || !place.1.is_finite() {
        return false;
    }
    let north = (place.1 - centre.1).to_radians().abs() * SPHERE_M;
    if north * SHORTEST > radius_m + 1.0 {
        return false;
    }
    let half = |degrees: f64| (degrees.to_radians() / 2.0).sin().powi(2);
    let h = half(place.1 - centre.1)
        + centre.1.to_radians().cos() * place.1.to_radians().cos() * half(place.0 - centre.0);
    let sphere = 2.0 * SPHERE_M * h.clamp(0.0, 1.0).sqrt().asin();
    if sphere * SHORTEST > radius_m + 1.0 {
        return false;
    }
    if sphere * LONGEST + 1.0 < radius_m {
        return true;
    }
    distance_m(centre, place) <= radius_m
}

/// How many messages left for the server and were not refused.
pub(crate) fn written(messages: &Messages) -> u64 {
    (0..messages.len())
        .filter(|&one| messages.said(one).is_some_and(|said| said.status == Status::Written))
        .count() as u64
}

/// How many pairs the messages so far make with listeners that stand still.
pub(crate) fn pairs_of_circles(messages: &Messages, listeners: &[Ears]) -> u64 {
    let mut circles = Circles::new(listeners);
    let said = (0..messages.len())
        .filter_map(|one| messages.said(one))
        .filter(|said| said.status == Status::Written);
    said.map(|said| circles.hearers(said.lng, said.lat).count()).sum()
}

/// Counts by name, for `ensure`: `drumfire.delivery.missing` and so on.
pub(crate) fn figures(delivery: &Delivery) -> BTreeMap<&'static str, u64> {
    let mut figures = BTreeMap::from([
        ("drumfire.delivery.messages", delivery.messages),
        ("drumfire.delivery.heard", delivery.heard),
        ("drumfire.delivery.missing", delivery.missing),
        ("drumfire.delivery.duplicates", delivery.duplicates),
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
    }

    /// The prefilter may only answer what the geodesic would answer.
    #[test]
    fn the_sphere_never_overrules_the_geodesic() {
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..200_000 {
            let lat = if rng.bool() { rng.f64() * 180.0 - 90.0 } else { 89.0 + rng.f64() };
            let centre = (rng.f64() * 360.0 - 180.0, lat);
            let spread = [0.001, 0.1, 1.0, 180.0][rng.usize(..4)];
            let place = (
                (centre.0 + (rng.f64() - 0.5) * spread + 540.0).rem_euclid(360.0) - 180.0,
                (centre.1 + (rng.f64() - 0.5) * spread).clamp(-90.0, 90.0),
            );
            let distance = distance_m(centre, place);
            for factor in [0.0, 0.99, 0.9999, 1.0, 1.0001, 1.01, 2.0] {
                let radius = distance * factor;
                assert_eq!(
                    within(centre, radius, place),
                    distance <= radius,
                    "{centre:?} {place:?} {radius}"
                );
            }
        }
    }

    fn ears(number: usize, stands: &[Stand]) -> Ears {
        Ears { stands: stands.to_vec(), ..Ears::new(number) }
    }

    fn stand(lng: f64, radius_m: f64, asked: Nanos, settled: Nanos) -> Stand {
        Stand { lng, lat: 37.4979, radius_m, asked, settled }
    }

    fn hear(ears: &mut Ears, messages: &Messages, marks: &Marks, message: u32, recorder: &mut Recorder) {
        let zero = Instant::now();
        let mut raw = b"[\"new_msg\",\"".to_vec();
        marks.write(message, &mut raw);
        raw.extend_from_slice(b"\"]");
        let (_, sent) = messages.instants(message).unwrap();
        let received = zero + Duration::from_nanos(sent) + Duration::from_millis(3);
        ears.hear(marks, messages, zero, std::str::from_utf8(&raw).unwrap(), received, recorder);
    }

    #[test]
    fn missing_duplicate_unexpected_and_order_are_told_apart() {
        let messages = Messages::new();
        let marks = Marks::new("new_msg", "r");
        let mut recorder = Recorder::default();
        let place = Some((127.0276, 37.4979));
        let first = messages.add(1_000, 2_000, place, None).unwrap();
        let second = messages.add(3_000, 4_000, place, Some(first)).unwrap();
        let lost = messages.add(5_000, 6_000, place, None).unwrap();
        messages.set_status(lost, Status::NotSent);
        let mut near = ears(0, &[stand(127.0276, 500.0, 0, 0)]);
        let mut far = ears(1, &[stand(127.5, 500.0, 0, 0)]);
        let deaf = ears(2, &[stand(127.0277, 500.0, 0, 0)]);
        hear(&mut near, &messages, &marks, second, &mut recorder);
        hear(&mut near, &messages, &marks, first, &mut recorder);
        hear(&mut near, &messages, &marks, first, &mut recorder);
        hear(&mut far, &messages, &marks, first, &mut recorder);
        let mut tally = Tally::default();
        tally.add(&recorder.heard);
        let listeners = [near, far, deaf];
        let judge = Judge {
            event: "new_msg",
            expectation: Some(DeliveryExpectation::Circle),
            messages: &messages,
            listeners: &listeners,
            tally: &tally,
        };
        let delivery = judge.judge();
        assert_eq!(delivery.messages, 3);
        assert_eq!(delivery.not_sent, 1);
        assert_eq!(delivery.expected, Some(4));
        assert_eq!(delivery.heard, 3);
        assert_eq!(delivery.missing, 2);
        assert_eq!(delivery.unexpected, 1);
        assert_eq!(delivery.duplicates, 1);
        assert_eq!(delivery.out_of_order, 1);
        assert_eq!(delivery.samples.len(), 3, "{:?}", delivery.samples);
        assert!(
            delivery.samples.iter().any(|row| row.starts_with("listener 1 heard")),
            "{:?}",
            delivery.samples
        );

        let all = Judge { expectation: Some(DeliveryExpectation::All), ..judge };
        assert_eq!(all.judge().expected, Some(6));
        let number = Judge { expectation: Some(DeliveryExpectation::Number(1)), ..all };
        let delivery = number.judge();
        assert_eq!((delivery.expected, delivery.missing, delivery.unexpected), (Some(2), 0, 1));
        let none = Judge { expectation: Some(DeliveryExpectation::Nobody), ..number };
        let delivery = none.judge();
        assert_eq!((delivery.expected, delivery.missing, delivery.unexpected), (Some(0), 0, 3));
        let nothing = Judge { expectation: None, ..none };
        assert_eq!((nothing.judge().expected, nothing.judge().missing), (None, 0));
    }

    #[test]
    fn a_complaint_refuses_a_message_only_when_nobody_heard_it() {
        let messages = Messages::new();
        let marks = Marks::new("new_msg", "r");
        let mut recorder = Recorder::default();
        let [heard, unheard, refused] = [1, 2, 3].map(|at| messages.add(at, at, None, None).unwrap());
        messages.set_status(heard, Status::Complained);
        messages.set_status(unheard, Status::Complained);
        messages.set_status(refused, Status::Refused);
        let mut listener = ears(0, &[]);
        hear(&mut listener, &messages, &marks, heard, &mut recorder);
        hear(&mut listener, &messages, &marks, refused, &mut recorder);
        let mut tally = Tally::default();
        tally.add(&recorder.heard);
        let listeners = [listener];
        let delivery = Judge {
            event: "new_msg",
            expectation: Some(DeliveryExpectation::All),
            messages: &messages,
            listeners: &listeners,
            tally: &tally,
        }
        .judge();
        assert_eq!((delivery.expected, delivery.missing), (Some(1), 0));
        assert_eq!((delivery.not_sent, delivery.unexpected), (2, 1), "{:?}", delivery.samples);
    }

    #[test]
    fn a_message_sent_while_a_listener_moves_is_undecided_only_where_its_places_disagree() {
        const MS: Nanos = 1_000_000;
        let said = |sent| Said { sent, lng: 127.0276, lat: 37.4979, status: Status::Written };
        let moved = [stand(127.0276, 500.0, 0, 0), stand(127.5, 500.0, 2_000 * MS, 2_010 * MS)];
        let near = [stand(127.0276, 500.0, 0, 0), stand(127.0277, 500.0, 2_000 * MS, 2_010 * MS)];
        let rows = [
            (&moved, 1_000, Should::Hear),
            (&moved, 1_900, Should::Undecided), // may have been matched after the move
            (&moved, 2_005, Should::Undecided),
            (&moved, 2_011, Should::NotHear),
            (&near, 1_900, Should::Hear),
            (&near, 2_005, Should::Hear),
        ];
        for (stands, sent_ms, expected) in rows {
            let sent = sent_ms * MS;
            assert_eq!(
                should_hear(stands, said(sent), sent + MATCHED_WITHIN),
                expected,
                "sent at {sent_ms} ms"
            );
        }
        // A move that was never confirmed leaves both places possible until a later one is.
        let unconfirmed = [
            moved[0],
            Stand { settled: Nanos::MAX, ..moved[1] },
            stand(127.6, 500.0, 4_000 * MS, 4_001 * MS),
        ];
        let sent = 3_000 * MS;
        assert_eq!(should_hear(&unconfirmed, said(sent), sent + MATCHED_WITHIN), Should::Undecided);
        let sent = 4_002 * MS;
        assert_eq!(should_hear(&unconfirmed, said(sent), sent + MATCHED_WITHIN), Should::NotHear);
    }

    #[test]
    fn first_median_and_last_hearer_are_filed_under_the_second_of_sending() {
        let messages = Messages::new();
        let message = messages.add(0, 1_500_000_000, None, None).unwrap();
        let mut tally = Tally::default();
        tally.add(&[30, 10, 20].map(|after_us| Heard { message, after_us }));
        let mut collector = Collector::new(crate::metrics::Names::default(), 1);
        tally.settle(1_500_000_000, &messages, &mut collector);
        assert!(collector.total(1.0).histograms.is_empty(), "not old enough");
        tally.settle(Nanos::MAX, &messages, &mut collector);
        let (seconds, _) = collector.finish(2.0);
        let value = |name: &str| seconds[1].histograms[name].max();
        use crate::outcome::names;
        assert_eq!(
            [names::DELIVERY_FIRST, names::DELIVERY_MEDIAN, names::DELIVERY_LAST].map(value),
            [10, 20, 30]
        );
    }
}

//! Who should have heard, and whether they did: each message is judged when its deadline is over, and then forgotten.
//!
//! The conductor keeps it, from what the threads hand over each second. The circles are judged by a geodesic that shares
//! no code with any server.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use geographiclib_rs::{Geodesic, InverseGeodesic};
use rustc_hash::FxHashMap;

use crate::delivery::{Messages, Said, Stand, Status};
use crate::metrics::{Collector, Heard, Recorder, Time};
use crate::outcome::{Delivery, Nanos};
use crate::script::model::DeliveryExpectation;

/// A server is given at least this long to have matched a message after it was sent; later only when somebody
/// was seen to hear it later.
const MATCHED_WITHIN: Nanos = 250_000_000;
const MATCHED_AFTER_LAST: Nanos = 50_000_000;
const MOST_SAMPLES: usize = 20;
const MOST_SAMPLES_EACH: usize = 2;

/// The account of all deliveries.
#[derive(Debug)]
pub(crate) struct Ledger {
    expectation: Option<DeliveryExpectation>,
    listeners: Vec<Listener>,
    /// Numbers of the listeners that walk.
    walking: Vec<u32>,
    circles: Circles,
    /// Hearers of the messages from `judged` on.
    under_way: VecDeque<Hearers>,
    judged: u32,
    delivery: Delivery,
    pairs: Option<Pairs>,
    /// What ended [`Self::pairs`] early; the account goes on without them.
    pairs_ended: Option<io::Error>,
}

/// Where a listener stands, as far as it matters to messages not yet judged.
#[derive(Debug, Clone, Default)]
pub(crate) struct Listener {
    /// In order; empty when the listener has no place.
    pub(crate) stands: Vec<Stand>,
    pub(crate) walks: bool,
}

#[derive(Debug, Default)]
struct Hearers {
    /// (listener, microseconds after it was sent).
    heard: Vec<(u32, u32)>,
}

impl Hearers {
    /// The latest hearer of those to whom it was delivered at once.
    fn last_us(&self) -> u32 {
        self.live().max().unwrap_or(0)
    }

    fn live(&self) -> impl Iterator<Item = u32> {
        self.heard.iter().map(|&(_, after_us)| after_us).filter(|&after_us| after_us != Heard::CAUGHT_UP)
    }
}

/// What the circles say of one pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Should {
    Hear,
    NotHear,
    /// It depends on which of two places the server knew at the time.
    Undecided,
}

impl Ledger {
    /// `listeners` by their numbers.
    pub(crate) fn new(
        event: &str,
        expectation: Option<DeliveryExpectation>,
        listeners: Vec<Listener>,
    ) -> Self {
        let walking =
            (0..).zip(&listeners).filter(|(_, listener)| listener.walks).map(|(number, _)| number).collect();
        let delivery = Delivery {
            event: event.to_owned(),
            expectation: expectation.map(|expectation| match expectation {
                DeliveryExpectation::Circle => "circle".to_owned(),
                DeliveryExpectation::All => "all".to_owned(),
                DeliveryExpectation::Nobody => "none".to_owned(),
                DeliveryExpectation::Number(number) => number.to_string(),
            }),
            messages: 0,
            expected: expectation.map(|_| 0),
            heard: 0,
            missing: 0,
            duplicates: 0,
            late: 0,
            unexpected: 0,
            out_of_order: 0,
            undecided: 0,
            not_sent: 0,
            samples: Vec::new(),
            classes: Vec::new(),
            listeners_short: 0,
            worst: Vec::new(),
        };
        Self {
            expectation,
            circles: Circles::new(&listeners),
            listeners,
            walking,
            under_way: VecDeque::new(),
            judged: 0,
            delivery,
            pairs: None,
            pairs_ended: None,
        }
    }

    /// Who heard what, who stood where and what was said is written beside each other, for an oracle of somebody else's.
    pub(crate) fn write_pairs(&mut self, path: &Path) -> io::Result<()> {
        self.pairs = Some(Pairs::new(path)?);
        Ok(())
    }

    /// The account so far: of the messages whose deadline is over.
    pub(crate) fn delivery(&self) -> &Delivery {
        &self.delivery
    }

    /// What one thread handed over.
    pub(crate) fn add(&mut self, recorder: &Recorder) {
        self.delivery.duplicates += recorder.duplicates;
        self.delivery.out_of_order += recorder.out_of_order;
        self.delivery.late += recorder.heard_late;
        for &(number, stand) in &recorder.stands {
            let Some(listener) = self.listeners.get_mut(number as usize) else { continue };
            match listener.stands.last_mut() {
                Some(last) if last.asked == stand.asked => *last = stand,
                _ => listener.stands.push(stand),
            }
        }
        for one in &recorder.heard {
            // Judged while the news was on its way here.
            let Some(index) = one.message.checked_sub(self.judged) else {
                self.delivery.late += 1;
                continue;
            };
            let index = index as usize;
            if self.under_way.len() <= index {
                self.under_way.resize_with(index + 1, Hearers::default);
            }
            self.under_way[index].heard.push((one.listener, one.after_us));
            self.delivery.heard += 1;
        }
    }

    /// Judges the messages sent before `before`, gives their room away, and files their first, median and last hearer
    /// under the second they were sent in.
    pub(crate) fn judge_before(&mut self, before: Nanos, messages: &Messages, collector: &mut Collector) {
        let said_so_far = messages.len();
        let mut sent = 0;
        while self.judged < said_so_far {
            // None: its sender's thread is about to write it down.
            let Some(said) = messages.said(self.judged).filter(|said| said.sent < before) else { break };
            let hearers = self.under_way.pop_front().unwrap_or_default();
            file_times(&hearers, said.sent, collector);
            let until = matched_by(&hearers, said.sent);
            self.judge(self.judged, said, &hearers, until);
            if let Some(pairs) = &mut self.pairs
                && let Err(error) = pairs.message(self.judged, said, &hearers, until)
            {
                self.pairs = None;
                self.pairs_ended = Some(error);
            }
            sent = said.sent;
            self.judged += 1;
        }
        messages.judged_before(self.judged);
        if self.pairs.is_none() {
            // Threads number their messages a little out of the order of sending.
            self.forget_stands_before(sent.saturating_sub(1_000_000_000));
        }
    }

    /// The run is over and all is judged; the account, and what kept the pairs from being whole.
    pub(crate) fn close(mut self) -> (Delivery, Option<io::Error>) {
        let closed = self.pairs.take().map(|pairs| pairs.close(&self.listeners));
        (self.delivery, self.pairs_ended.or(closed.and_then(Result::err)))
    }

    /// How many distinct pairs there will be when everything is heard that should be; `None` when nobody can say before
    /// it is judged.
    pub(crate) fn wanted(&mut self, messages: &Messages) -> Option<u64> {
        let expectation = self.expectation?;
        if expectation == DeliveryExpectation::Nobody
            || expectation == DeliveryExpectation::Circle && !self.walking.is_empty()
        {
            return None;
        }
        let heard_of_judged =
            self.delivery.heard - self.under_way.iter().map(|one| one.heard.len() as u64).sum::<u64>();
        let listeners = self.listeners.len() as u64;
        let still = (self.judged..messages.len())
            .filter_map(|message| messages.said(message))
            .filter(|said| said.status == Status::Written)
            .map(|said| match expectation {
                DeliveryExpectation::Circle => self.circles.hearers(said.lng, said.lat).count,
                DeliveryExpectation::Number(number) => number,
                DeliveryExpectation::All | DeliveryExpectation::Nobody => listeners,
            })
            .sum::<u64>();
        Some(heard_of_judged + still)
    }

    fn judge(&mut self, message: u32, said: Said, hearers: &Hearers, until: Nanos) {
        self.delivery.messages += 1;
        let nobody = match said.status {
            Status::Written => false,
            Status::NotSent | Status::Refused => true,
            Status::Complained => hearers.heard.is_empty(),
        };
        if nobody {
            self.delivery.not_sent += 1;
        }
        match self.expectation {
            None => {}
            Some(DeliveryExpectation::Number(number)) => {
                let number = if nobody { 0 } else { number };
                let heard = hearers.heard.len() as u64;
                *self.delivery.expected.get_or_insert(0) += number;
                self.delivery.missing += number.saturating_sub(heard);
                self.delivery.unexpected += heard.saturating_sub(number);
                if heard != number && self.delivery.samples.len() < MOST_SAMPLES {
                    let row = format!("message {message} was heard by {heard}, not by {number}");
                    self.delivery.samples.push(row);
                }
            }
            Some(_) if nobody => self.judge_pairs(message, said, hearers, &Bits::default(), &[], until),
            Some(DeliveryExpectation::Nobody) => {
                self.judge_pairs(message, said, hearers, &Bits::default(), &[], until);
            }
            Some(DeliveryExpectation::All) => {
                let all = Bits::all(self.listeners.len());
                self.judge_pairs(message, said, hearers, &all, &[], until);
            }
            Some(DeliveryExpectation::Circle) => {
                let circle = self.circles.hearers(said.lng, said.lat).hearers.clone();
                let walking = std::mem::take(&mut self.walking);
                self.judge_pairs(message, said, hearers, &circle, &walking, until);
                self.walking = walking;
            }
        }
    }

    /// `standing`: those who should hear it; of those who walk it is asked where they were at the time.
    fn judge_pairs(
        &mut self,
        message: u32,
        said: Said,
        hearers: &Hearers,
        standing: &Bits,
        walking: &[u32],
        until: Nanos,
    ) {
        let mut heard = Bits::default();
        hearers.heard.iter().for_each(|&(listener, _)| heard.set(listener));
        let mut expected = standing.count();
        for listener in standing.ones().filter(|&listener| !heard.get(listener)) {
            self.delivery.missing += 1;
            self.sample(listener, "missed", message, said);
        }
        let walks = |listener| !walking.is_empty() && walking.binary_search(&listener).is_ok();
        for listener in heard.ones().filter(|&listener| !standing.get(listener) && !walks(listener)) {
            self.delivery.unexpected += 1;
            self.sample(listener, "heard, though not meant to,", message, said);
        }
        for &listener in walking {
            match (should_hear(&self.listeners[listener as usize].stands, said, until), heard.get(listener)) {
                (Should::Hear, true) => expected += 1,
                (Should::Hear, false) => {
                    expected += 1;
                    self.delivery.missing += 1;
                    self.sample(listener, "missed", message, said);
                }
                (Should::NotHear, true) => {
                    self.delivery.unexpected += 1;
                    self.sample(listener, "heard, though not meant to,", message, said);
                }
                (Should::NotHear, false) => {}
                (Should::Undecided, _) => self.delivery.undecided += 1,
            }
        }
        *self.delivery.expected.get_or_insert(0) += expected;
    }

    fn sample(&mut self, number: u32, what: &str, message: u32, said: Said) {
        let samples = &mut self.delivery.samples;
        // A listener that is wrong about everything need not fill the list.
        let listener = format!("listener {number} ");
        let told = samples.iter().filter(|row| row.starts_with(&listener)).count();
        if samples.len() >= MOST_SAMPLES || told >= MOST_SAMPLES_EACH {
            return;
        }
        let stand = self.listeners.get(number as usize).and_then(|listener| listener.stands.last());
        let place = match stand {
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
        let at_s = said.sent as f64 / 1e9;
        samples.push(format!("{listener}{what} message {message}, sent at {at_s:.3} s{place}"));
    }

    /// A place that was left before the oldest message under way was sent matters to nobody any more.
    fn forget_stands_before(&mut self, sent: Nanos) {
        for &number in &self.walking {
            let stands = &mut self.listeners[number as usize].stands;
            if let Some(last) = stands.iter().rposition(|stand| stand.settled < sent) {
                stands.drain(..last);
            }
        }
    }
}

fn file_times(hearers: &Hearers, sent: Nanos, collector: &mut Collector) {
    let mut after: Vec<u32> = hearers.live().collect();
    after.sort_unstable();
    if let (Some(&first), Some(&last)) = (after.first(), after.last()) {
        let second = usize::try_from(sent / 1_000_000_000).unwrap_or(0);
        collector.add_late(second, Time::DeliveryFirst, u64::from(first));
        collector.add_late(second, Time::DeliveryMedian, u64::from(after[after.len() / 2]));
        collector.add_late(second, Time::DeliveryLast, u64::from(last));
    }
}

/// By when a message has certainly been matched with the places of the listeners.
fn matched_by(hearers: &Hearers, sent: Nanos) -> Nanos {
    let last = Nanos::from(hearers.last_us()) * 1000;
    sent + MATCHED_WITHIN.max(last + MATCHED_AFTER_LAST)
}

/// The files of `--pairs`.
#[derive(Debug)]
struct Pairs {
    path: PathBuf,
    pairs: BufWriter<File>,
    messages: BufWriter<File>,
}

impl Pairs {
    fn new(path: &Path) -> io::Result<Self> {
        let mut pairs = BufWriter::new(File::create(path)?);
        writeln!(pairs, "listener,message,lng,lat")?;
        let mut messages = BufWriter::new(File::create(beside(path, ".messages.csv"))?);
        writeln!(messages, "message,lng,lat,sent_ns,matched_by_ns,status")?;
        Ok(Self { path: path.to_owned(), pairs, messages })
    }

    fn message(&mut self, message: u32, said: Said, hearers: &Hearers, until: Nanos) -> io::Result<()> {
        for (listener, _) in &hearers.heard {
            writeln!(self.pairs, "{listener},{message},{},{}", said.lng, said.lat)?;
        }
        let status = match said.status {
            Status::Written => "sent",
            Status::NotSent => "not sent",
            Status::Refused | Status::Complained => "refused",
        };
        writeln!(self.messages, "{message},{},{},{},{until},{status}", said.lng, said.lat, said.sent)
    }

    fn close(mut self, listeners: &[Listener]) -> io::Result<()> {
        self.pairs.flush()?;
        self.messages.flush()?;
        let mut out = BufWriter::new(File::create(beside(&self.path, ".listeners.csv"))?);
        writeln!(out, "listener,lng,lat,radius_m,asked_ns,settled_ns")?;
        for (number, listener) in listeners.iter().enumerate() {
            for Stand { lng, lat, radius_m, asked, settled } in &listener.stands {
                writeln!(out, "{number},{lng},{lat},{radius_m},{asked},{settled}")?;
            }
        }
        out.flush()
    }
}

fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(extension);
    name.into()
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

/// A set of listeners.
#[derive(Debug, Default, Clone)]
struct Bits(Vec<u64>);

impl Bits {
    fn all(count: usize) -> Self {
        let mut bits = Self(vec![u64::MAX; count / 64]);
        if !count.is_multiple_of(64) {
            bits.0.push((1 << (count % 64)) - 1);
        }
        bits
    }

    fn set(&mut self, index: u32) {
        let word = index as usize / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (index % 64);
    }

    fn get(&self, index: u32) -> bool {
        self.0.get(index as usize / 64).is_some_and(|word| word & (1 << (index % 64)) != 0)
    }

    fn count(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    fn ones(&self) -> impl Iterator<Item = u32> {
        (0..).zip(&self.0).flat_map(|(at, &word): (u32, _)| {
            let mut rest = word;
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros())?;
                rest &= rest - 1;
                Some(at * 64 + bit)
            })
        })
    }
}

/// Hearers of a place among the listeners that stand still, worked out once for each place.
#[derive(Debug)]
struct Circles {
    /// (number, place) of those who stand still.
    standing: Vec<(u32, Stand)>,
    known: FxHashMap<(u64, u64), Circle>,
}

#[derive(Debug)]
struct Circle {
    hearers: Bits,
    count: u64,
}

impl Circles {
    fn new(listeners: &[Listener]) -> Self {
        let standing = (0..)
            .zip(listeners)
            .filter(|(_, listener)| !listener.walks)
            .filter_map(|(number, listener)| Some((number, *listener.stands.first()?)));
        Self { standing: standing.collect(), known: FxHashMap::default() }
    }

    fn hearers(&mut self, lng: f64, lat: f64) -> &Circle {
        // Messages at places of their own would only fill the memory.
        if self.known.len() > 4096 {
            self.known.clear();
        }
        self.known.entry((lng.to_bits(), lat.to_bits())).or_insert_with(|| {
            let mut hearers = Bits::default();
            for (number, stand) in &self.standing {
                if within((stand.lng, stand.lat), stand.radius_m, (lng, lat)) {
                    hearers.set(*number);
                }
            }
            Circle { count: hearers.count(), hearers }
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::delivery::{Ears, Listening, Marks};

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

    fn stand(lng: f64, radius_m: f64, asked: Nanos, settled: Nanos) -> Stand {
        Stand { lng, lat: 37.4979, radius_m, asked, settled }
    }

    /// Messages, who heard which in what order, and the judgement.
    struct Scene {
        messages: Messages,
        marks: Marks,
        zero: Instant,
        ears: Vec<Ears>,
        recorder: Recorder,
    }

    impl Scene {
        fn new(listeners: usize) -> Self {
            Self {
                messages: Messages::new(),
                marks: Marks::new("new_msg", "r"),
                zero: Instant::now(),
                ears: (0..listeners).map(Ears::new).collect(),
                recorder: Recorder::default(),
            }
        }

        fn hear(&mut self, listener: usize, message: u32, after: Duration) {
            let mut raw = b"[\"new_msg\",\"".to_vec();
            self.marks.write(message, &mut raw);
            raw.extend_from_slice(b"\"]");
            let sent = self.messages.said(message).unwrap().sent;
            let received = self.zero + Duration::from_nanos(sent) + after;
            let listening = Listening { marks: &self.marks, messages: &self.messages, zero: self.zero };
            let raw = std::str::from_utf8(&raw).unwrap();
            self.ears[listener].hear(listening, raw, received, &mut self.recorder);
        }

        fn judge(&self, expectation: Option<DeliveryExpectation>, listeners: Vec<Listener>) -> Delivery {
            let mut ledger = Ledger::new("new_msg", expectation, listeners);
            ledger.add(&self.recorder);
            let mut collector = Collector::new(crate::metrics::Names::default(), 1);
            ledger.judge_before(Nanos::MAX, &self.messages, &mut collector);
            ledger.close().0
        }
    }

    const SOON: Duration = Duration::from_millis(3);

    fn at(stands: &[Stand]) -> Listener {
        Listener { stands: stands.to_vec(), walks: false }
    }

    #[test]
    fn missing_duplicate_unexpected_and_order_are_told_apart() {
        let mut scene = Scene::new(3);
        let place = Some((127.0276, 37.4979));
        let first = scene.messages.add(1_000, 2_000, place, None).unwrap();
        let second = scene.messages.add(3_000, 4_000, place, Some(first)).unwrap();
        let lost = scene.messages.add(5_000, 6_000, place, None).unwrap();
        scene.messages.set_status(lost, Status::NotSent);
        for (listener, message) in [(0, second), (0, first), (0, first), (1, first)] {
            scene.hear(listener, message, SOON);
        }
        let near = at(&[stand(127.0276, 500.0, 0, 0)]);
        let far = at(&[stand(127.5, 500.0, 0, 0)]);
        let deaf = at(&[stand(127.0277, 500.0, 0, 0)]);
        let listeners = vec![near, far, deaf];
        let delivery = scene.judge(Some(DeliveryExpectation::Circle), listeners.clone());
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

        let all = scene.judge(Some(DeliveryExpectation::All), listeners.clone());
        assert_eq!((all.expected, all.missing, all.unexpected), (Some(6), 3, 0));
        let number = scene.judge(Some(DeliveryExpectation::Number(1)), listeners.clone());
        assert_eq!((number.expected, number.missing, number.unexpected), (Some(2), 0, 1));
        let none = scene.judge(Some(DeliveryExpectation::Nobody), listeners.clone());
        assert_eq!((none.expected, none.missing, none.unexpected), (Some(0), 0, 3));
        let nothing = scene.judge(None, listeners);
        assert_eq!((nothing.expected, nothing.missing), (None, 0));
    }

    #[test]
    fn a_complaint_refuses_a_message_only_when_nobody_heard_it() {
        let mut scene = Scene::new(1);
        let [heard, unheard, refused] = [1, 2, 3].map(|at| scene.messages.add(at, at, None, None).unwrap());
        scene.messages.set_status(heard, Status::Complained);
        scene.messages.set_status(unheard, Status::Complained);
        scene.messages.set_status(refused, Status::Refused);
        scene.hear(0, heard, SOON);
        scene.hear(0, refused, SOON);
        let delivery = scene.judge(Some(DeliveryExpectation::All), vec![Listener::default()]);
        assert_eq!((delivery.expected, delivery.missing), (Some(1), 0));
        assert_eq!((delivery.not_sent, delivery.unexpected), (2, 1), "{:?}", delivery.samples);
    }

    #[test]
    fn a_message_sent_while_a_listener_moves_is_undecided_only_where_its_places_disagree() {
        const MS: Nanos = 1_000_000;
        let said = |sent| Said { due: sent, sent, lng: 127.0276, lat: 37.4979, status: Status::Written };
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

    /// Judged piece by piece, while listeners walk, a long run keeps nothing of what is over.
    #[test]
    fn a_long_run_is_judged_as_it_goes_and_keeps_only_what_is_under_way() {
        let mut scene = Scene::new(2);
        let still = at(&[stand(127.0276, 500.0, 0, 0)]);
        let walker = Listener { walks: true, ..still.clone() };
        let mut ledger = Ledger::new("new_msg", Some(DeliveryExpectation::Circle), vec![still, walker]);
        let mut collector = Collector::new(crate::metrics::Names::default(), 1);
        collector.fold_by(10);
        let rounds: u64 = 5_000;
        for round in 0..rounds {
            // One message a second, a step of the walker between two of them.
            let sent = round * 1_000_000_000;
            let message = scene.messages.add(sent, sent, Some((127.0276, 37.4979)), None).unwrap();
            scene.hear(0, message, SOON);
            if round != 77 {
                scene.hear(1, message, SOON);
            }
            let step = stand(127.0276, 500.0, sent + 500_000_000, sent + 501_000_000);
            scene.recorder.stands.push((1, step));
            ledger.add(&scene.recorder);
            scene.recorder.clear();
            ledger.judge_before(sent.saturating_sub(10_000_000_000), &scene.messages, &mut collector);
            collector.fold(round.saturating_sub(15) as usize);
            assert!(ledger.under_way.len() < 16 && ledger.listeners[1].stands.len() < 32);
            if round > 20 {
                assert_eq!(ledger.delivery().messages, round - 10);
            }
        }
        ledger.judge_before(Nanos::MAX, &scene.messages, &mut collector);
        let delivery = ledger.close().0;
        assert_eq!((delivery.messages, delivery.expected), (rounds, Some(2 * rounds)));
        assert_eq!((delivery.heard, delivery.missing, delivery.late), (2 * rounds - 1, 1, 0));
        assert!(delivery.samples[0].starts_with("listener 1 missed message 77, sent at 77.000 s"));
    }

    #[test]
    fn first_median_and_last_hearer_are_filed_under_the_second_of_sending() {
        let mut scene = Scene::new(4);
        let message = scene.messages.add(0, 1_500_000_000, None, None).unwrap();
        for (listener, after_us) in [(0, 30), (1, 10), (2, 20)] {
            scene.hear(listener, message, Duration::from_micros(after_us));
        }
        // Heard by one who had been away: no delivery time.
        scene.recorder.heard.push(Heard { message, listener: 3, after_us: Heard::CAUGHT_UP });
        let mut ledger = Ledger::new("new_msg", None, vec![Listener::default(); 4]);
        ledger.add(&scene.recorder);
        let mut collector = Collector::new(crate::metrics::Names::default(), 1);
        ledger.judge_before(1_500_000_000, &scene.messages, &mut collector);
        assert!(collector.total(1.0).histograms.is_empty(), "not old enough");
        ledger.judge_before(Nanos::MAX, &scene.messages, &mut collector);
        let (seconds, _) = collector.finish(2.0);
        let value = |name: &str| seconds[1].histograms[name].max();
        use crate::outcome::names;
        assert_eq!(
            [names::DELIVERY_FIRST, names::DELIVERY_MEDIAN, names::DELIVERY_LAST].map(value),
            [10, 20, 30]
        );
    }
}

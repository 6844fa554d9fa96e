//! Who should have heard, and whether they did: each message is judged when its deadline is over, and then forgotten.
//!
//! The conductor keeps it, from what the threads hand over each second. For each class of listeners, and for all but
//! those that are slow on purpose:
//!
//! ```text
//! heard    = (expected - missing) + unexpected + those of the undecided that were heard
//! expected = pairs (listener, message) that should have been: the listener was there, and meant to hear
//! ```

use std::collections::VecDeque;
use std::io;
use std::path::Path;

use crate::delivery::{Messages, Presence, Said, Stand, Status};
use crate::metrics::{Collector, Heard, LateTimes, Recorder, Time, TimeId};
use crate::outcome::{ClassDelivery, Delivery, ListenerDelivery, Nanos, counters};
use crate::script::model::DeliveryExpectation;
use circles::{Bits, Circles, Should, distance_m, should_hear};
use pairs::Pairs;

mod circles;
mod pairs;
#[cfg(test)]
mod tests;

/// A server is given at least this long to have matched a message after it was sent; later only when somebody
/// was seen to hear it later.
const MATCHED_WITHIN: Nanos = 250_000_000;
const MATCHED_AFTER_LAST: Nanos = 50_000_000;
const MOST_SAMPLES: usize = 20;
const MOST_SAMPLES_EACH: usize = 2;
/// Listeners named for what they missed.
const MOST_WORST: usize = 20;

/// The account of all deliveries.
#[derive(Debug)]
pub(crate) struct Ledger {
    expectation: Option<DeliveryExpectation>,
    listeners: Vec<Listener>,
    /// Numbers of the listeners that walk.
    walking: Vec<u32>,
    /// All but those apart.
    counted: Bits,
    circles: Circles,
    times: Times,
    /// Hearers of the messages from `judged` on.
    under_way: VecDeque<Hearers>,
    judged: u32,
    delivery: Delivery,
    /// Of messages sent after this nobody knows whether they would have been heard in time.
    open_after: Nanos,
    /// Somebody was taken away by the script.
    anybody_gone: bool,
    pairs: Option<Pairs>,
    fault: Option<io::Error>,
}

/// A group of listeners, whose deliveries are counted and timed by themselves too.
#[derive(Debug, Clone)]
pub(crate) struct Class {
    pub(crate) name: String,
    pub(crate) time: TimeId,
    /// Slow on purpose: nothing is expected of them, and they are in no figure but their class's.
    pub(crate) apart: bool,
}

/// Histograms made for the run.
#[derive(Debug)]
struct Times {
    ack: TimeId,
    /// In the order of the classes.
    classes: Vec<TimeId>,
}

/// Where a listener stands, as far as it matters to messages not yet judged, and what it missed so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Listener {
    /// In order; empty when the listener has no place.
    pub(crate) stands: Vec<Stand>,
    pub(crate) walks: bool,
    pub(crate) class: u32,
    pub(crate) apart: bool,
    absences: Vec<Absence>,
    expected: u32,
    missing: u32,
}

/// A listener was taken away by the script.
#[derive(Debug, Clone, Copy)]
struct Absence {
    from: Nanos,
    /// `Nanos::MAX` while it lasts.
    until: Nanos,
    /// It asks for what it missed when it comes back.
    recovers: bool,
}

impl Listener {
    pub(crate) fn new(stands: Vec<Stand>, walks: bool, class: u32, apart: bool) -> Self {
        Self { stands, walks, class, apart, ..Self::default() }
    }

    /// Whether it was away by the script's will while the message was on its way, and has not caught up since.
    fn was_away(&self, said: Said, until: Nanos) -> bool {
        (self.absences.iter()).any(|absence| {
            let overlaps = absence.from <= until && said.sent <= absence.until;
            overlaps && !(absence.recovers && absence.until < Nanos::MAX)
        })
    }
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

/// What one message adds to the account.
#[derive(Debug, Default)]
struct Tally {
    expected: u64,
    missing: u64,
    unexpected: u64,
}

impl Ledger {
    /// `listeners` by their numbers; `ack`: where the acks of stamped messages are timed.
    pub(crate) fn new(
        event: &str,
        expectation: Option<DeliveryExpectation>,
        classes: Vec<Class>,
        ack: TimeId,
        listeners: Vec<Listener>,
    ) -> Self {
        let numbers = |wanted: fn(&Listener) -> bool| {
            (0..).zip(&listeners).filter(move |(_, one)| wanted(one)).map(|(number, _)| number)
        };
        let walking = numbers(|one| one.walks && !one.apart).collect();
        let mut counted = Bits::default();
        numbers(|one| !one.apart).for_each(|number| counted.set(number));
        let of_pairs = expectation.is_some_and(|one| !matches!(one, DeliveryExpectation::Number(_)));
        let class_deliveries = (0..).zip(&classes).map(|(number, class)| ClassDelivery {
            name: class.name.clone(),
            listeners: listeners.iter().filter(|one| one.class == number).count() as u64,
            expected: (of_pairs && !class.apart).then_some(0),
            heard: 0,
            missing: 0,
            duplicates: 0,
            late: 0,
            unexpected: 0,
            out_of_order: 0,
        });
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
            classes: class_deliveries.collect(),
            listeners_short: 0,
            worst: Vec::new(),
        };
        Self {
            expectation,
            circles: Circles::new(&listeners),
            walking,
            counted,
            times: Times { ack, classes: classes.into_iter().map(|class| class.time).collect() },
            listeners,
            under_way: VecDeque::new(),
            judged: 0,
            delivery,
            open_after: Nanos::MAX,
            anybody_gone: false,
            pairs: None,
            fault: None,
        }
    }

    /// Who heard what, who stood where and what was said is written beside each other, for an oracle of somebody else's.
    pub(crate) fn write_pairs(&mut self, path: &Path) -> io::Result<()> {
        self.pairs = Some(Pairs::new(path)?);
        Ok(())
    }

    /// What went wrong with the files of [`Ledger::write_pairs`], told once; nothing more is written there.
    pub(crate) fn fault(&mut self) -> Option<io::Error> {
        self.fault.take()
    }

    /// The account so far: of the messages whose deadline is over.
    pub(crate) fn delivery(&mut self) -> &Delivery {
        self.rank();
        &self.delivery
    }

    /// The run was ended before its time: of the messages sent after this it is not known whether those who have not
    /// heard them would have.
    pub(crate) fn cut_off(&mut self, sent_after: Nanos) {
        self.open_after = sent_after;
    }

    /// What one thread handed over. Delivery times and acks are filed under the second in which their message was sent.
    pub(crate) fn add(&mut self, recorder: &Recorder, messages: &Messages, collector: &mut Collector) {
        for &(number, stand) in &recorder.stands {
            let Some(listener) = self.listeners.get_mut(number as usize) else { continue };
            match listener.stands.last_mut() {
                Some(last) if last.asked == stand.asked => *last = stand,
                _ => listener.stands.push(stand),
            }
        }
        for &(number, presence) in &recorder.presences {
            let Some(listener) = self.listeners.get_mut(number as usize) else { continue };
            match (presence, listener.absences.last_mut()) {
                (Presence::Gone { at, recovers }, _) => {
                    self.anybody_gone |= !listener.apart;
                    listener.absences.push(Absence { from: at, until: Nanos::MAX, recovers });
                }
                (Presence::Back { at }, Some(last)) => last.until = at,
                (Presence::Back { .. }, None) => {}
            }
        }
        let mut times = LateTimes::default();
        let sent = |message| messages.said(message).map(|said| (said, second_of(said.sent)));
        for one in &recorder.heard {
            let Some((said, second)) = sent(one.message) else { continue };
            let Some(index) = one.message.checked_sub(self.judged) else {
                // Judged while the news was on its way here.
                self.late(one, Some((said, second)), &mut times, collector);
                continue;
            };
            self.time(one, said, second, &mut times);
            let Some(listener) = self.listeners.get(one.listener as usize) else { continue };
            if listener.apart {
                self.delivery.classes[listener.class as usize].heard += 1;
                continue;
            }
            let index = index as usize;
            if self.under_way.len() <= index {
                self.under_way.resize_with(index + 1, Hearers::default);
            }
            self.under_way[index].heard.push((one.listener, one.after_us));
        }
        for one in &recorder.late {
            let said = sent(one.message).filter(|_| one.after_us != Heard::FORGOTTEN);
            self.late(one, said, &mut times, collector);
        }
        for &(message, number) in &recorder.again {
            let Some(listener) = self.listeners.get(number as usize) else { continue };
            self.delivery.classes[listener.class as usize].duplicates += 1;
            if !listener.apart {
                self.delivery.duplicates += 1;
                collector.count_late(sent(message).map(|(_, second)| second), counters::DUPLICATES, 1);
            }
        }
        for &number in &recorder.out_of_order {
            let Some(listener) = self.listeners.get(number as usize) else { continue };
            self.delivery.classes[listener.class as usize].out_of_order += 1;
            self.delivery.out_of_order += u64::from(!listener.apart);
        }
        for &(message, after_us) in &recorder.acked {
            if let Some((_, second)) = sent(message) {
                times.time_of(second, self.times.ack, after_us);
            }
        }
        collector.add_late(times);
    }

    fn time(&self, one: &Heard, said: Said, second: usize, times: &mut LateTimes) {
        let (Some(after_us), Some(listener)) = (one.took(), self.listeners.get(one.listener as usize)) else {
            return;
        };
        times.time_of(second, self.times.classes[listener.class as usize], after_us);
        if !listener.apart {
            times.time(second, Time::Delivery, after_us);
            let behind = u32::try_from(said.sent.saturating_sub(said.due) / 1000).unwrap_or(u32::MAX);
            times.time(second, Time::DeliveryFromDue, after_us.saturating_add(behind));
        }
    }

    /// Heard after it was judged. Its time counts, so that the slowest deliveries are not those left out.
    fn late(
        &mut self,
        one: &Heard,
        said: Option<(Said, usize)>,
        times: &mut LateTimes,
        collector: &mut Collector,
    ) {
        if let Some((said, second)) = said {
            self.time(one, said, second, times);
        }
        let Some(listener) = self.listeners.get(one.listener as usize) else { return };
        self.delivery.classes[listener.class as usize].late += 1;
        if !listener.apart {
            self.delivery.late += 1;
            collector.count_late(said.map(|(_, second)| second), counters::LATE, 1);
        }
    }

    /// Judges the messages sent before `before`, gives their room away, and files what became of them under the second
    /// they were sent in.
    pub(crate) fn judge_before(&mut self, before: Nanos, messages: &Messages, collector: &mut Collector) {
        let said_so_far = messages.len();
        let mut sent = 0;
        let mut times = LateTimes::default();
        while self.judged < said_so_far {
            // None: its sender's thread is about to write it down.
            let Some(said) = messages.said(self.judged).filter(|said| said.sent < before) else { break };
            let hearers = self.under_way.pop_front().unwrap_or_default();
            let second = second_of(said.sent);
            file_times(&hearers, second, &mut times);
            let until = matched_by(&hearers, said.sent);
            let tally = self.judge(self.judged, said, &hearers, until);
            let second = Some(second);
            if self.expectation.is_some() {
                collector.count_late(second, counters::EXPECTED, tally.expected);
                collector.count_late(second, counters::MISSING, tally.missing);
                collector.count_late(second, counters::UNEXPECTED, tally.unexpected);
            }
            collector.count_late(second, counters::HEARD, hearers.heard.len() as u64);
            if let Some(pairs) = &mut self.pairs
                && let Err(error) = pairs.message(self.judged, said, &hearers, until)
            {
                self.fault = Some(error);
                self.pairs = None;
            }
            sent = said.sent;
            self.judged += 1;
        }
        messages.judged_before(self.judged);
        collector.add_late(times);
        // Threads number their messages a little out of the order of sending.
        self.forget_before(sent.saturating_sub(1_000_000_000));
    }

    /// The run is over and all is judged.
    pub(crate) fn close(&mut self) -> Delivery {
        if let Some(pairs) = self.pairs.take()
            && let Err(error) = pairs.close(&self.listeners)
        {
            self.fault = Some(error);
        }
        self.delivery().clone()
    }

    /// How many distinct pairs there will be when everything is heard that should be; `None` when nobody can say before
    /// it is judged.
    pub(crate) fn wanted(&mut self, messages: &Messages) -> Option<u64> {
        let expectation = self.expectation?;
        if expectation == DeliveryExpectation::Nobody
            || self.anybody_gone
            || expectation == DeliveryExpectation::Circle && !self.walking.is_empty()
        {
            return None;
        }
        let listeners = self.counted.count();
        let under_way = || (self.judged..messages.len()).filter_map(|message| messages.said(message));
        // What the server was slow to take it may well deliver.
        if under_way().any(|said| said.status == Status::Unanswered) {
            return None;
        }
        let circles = &mut self.circles;
        let still = under_way()
            .filter(|said| said.status == Status::Written)
            .map(|said| match expectation {
                DeliveryExpectation::Circle => circles.hearers(said.lng, said.lat).count,
                DeliveryExpectation::Number(number) => number,
                DeliveryExpectation::All | DeliveryExpectation::Nobody => listeners,
            })
            .sum::<u64>();
        Some(self.delivery.heard + still)
    }

    fn judge(&mut self, message: u32, said: Said, hearers: &Hearers, until: Nanos) -> Tally {
        self.delivery.messages += 1;
        self.delivery.heard += hearers.heard.len() as u64;
        for &(listener, _) in &hearers.heard {
            let class = self.listeners[listener as usize].class as usize;
            self.delivery.classes[class].heard += 1;
        }
        let nobody = match said.status {
            Status::Written => false,
            Status::NotSent | Status::Refused => true,
            Status::Complained | Status::Unanswered => hearers.heard.is_empty(),
        };
        if nobody {
            self.delivery.not_sent += 1;
        }
        let tally = match self.expectation {
            None => return Tally::default(),
            Some(DeliveryExpectation::Number(number)) => {
                self.judge_number(message, said, hearers, number, nobody, until)
            }
            Some(_) if nobody => self.judge_pairs(message, said, hearers, &Bits::default(), &[], until),
            Some(DeliveryExpectation::Nobody) => {
                self.judge_pairs(message, said, hearers, &Bits::default(), &[], until)
            }
            Some(DeliveryExpectation::All) => {
                let all = std::mem::take(&mut self.counted);
                let tally = self.judge_pairs(message, said, hearers, &all, &[], until);
                self.counted = all;
                tally
            }
            Some(DeliveryExpectation::Circle) => {
                let circle = self.circles.hearers(said.lng, said.lat).hearers.clone();
                let walking = std::mem::take(&mut self.walking);
                let tally = self.judge_pairs(message, said, hearers, &circle, &walking, until);
                self.walking = walking;
                tally
            }
        };
        *self.delivery.expected.get_or_insert(0) += tally.expected;
        self.delivery.missing += tally.missing;
        self.delivery.unexpected += tally.unexpected;
        tally
    }

    fn judge_number(
        &mut self,
        message: u32,
        said: Said,
        hearers: &Hearers,
        number: u64,
        nobody: bool,
        until: Nanos,
    ) -> Tally {
        let mut number = if nobody { 0 } else { number };
        let heard = hearers.heard.len() as u64;
        if heard < number {
            let short = number - heard;
            let undecided = if said.sent > self.open_after {
                short
            } else if self.anybody_gone {
                // Those whom the script took away may be the ones that would have made up the number.
                let away = |one: &&Listener| !one.apart && one.was_away(said, until);
                short.min(self.listeners.iter().filter(away).count() as u64)
            } else {
                0
            };
            self.delivery.undecided += undecided;
            number -= undecided;
        }
        if heard != number && self.delivery.samples.len() < MOST_SAMPLES {
            let row = format!("message {message} was heard by {heard}, not by {number}");
            self.delivery.samples.push(row);
        }
        Tally {
            expected: number,
            missing: number.saturating_sub(heard),
            unexpected: heard.saturating_sub(number),
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
    ) -> Tally {
        let mut heard = Bits::default();
        hearers.heard.iter().for_each(|&(listener, _)| heard.set(listener));
        let mut tally = Tally::default();
        let mut pair = |this: &mut Self, number: u32, should: Should| {
            let listener = &mut this.listeners[number as usize];
            let heard = heard.get(number);
            let should = match should {
                Should::Hear if this.anybody_gone && listener.was_away(said, until) => Should::Undecided,
                Should::Hear if !heard && said.sent > this.open_after => Should::Undecided,
                should => should,
            };
            let class = &mut this.delivery.classes[listener.class as usize];
            match (should, heard) {
                (Should::Hear, _) => {
                    tally.expected += 1;
                    listener.expected = listener.expected.saturating_add(1);
                    *class.expected.get_or_insert(0) += 1;
                    if !heard {
                        tally.missing += 1;
                        class.missing += 1;
                        this.delivery.listeners_short += u64::from(listener.missing == 0);
                        listener.missing = listener.missing.saturating_add(1);
                        this.sample(number, "missed", message, said);
                    }
                }
                (Should::NotHear, true) => {
                    tally.unexpected += 1;
                    class.unexpected += 1;
                    this.sample(number, "heard, though not meant to,", message, said);
                }
                (Should::NotHear, false) => {}
                (Should::Undecided, _) => this.delivery.undecided += 1,
            }
        };
        for listener in standing.ones() {
            pair(self, listener, Should::Hear);
        }
        let walks = |listener| !walking.is_empty() && walking.binary_search(&listener).is_ok();
        for listener in heard.ones().filter(|&listener| !standing.get(listener) && !walks(listener)) {
            pair(self, listener, Should::NotHear);
        }
        for &listener in walking {
            let should = should_hear(&self.listeners[listener as usize].stands, said, until);
            pair(self, listener, should);
        }
        tally
    }

    fn sample(&mut self, number: u32, what: &str, message: u32, said: Said) {
        let samples = &mut self.delivery.samples;
        if samples.len() >= MOST_SAMPLES {
            return;
        }
        // A listener that is wrong about everything need not fill the list.
        let listener = format!("listener {number} ");
        let told = samples.iter().filter(|row| row.starts_with(&listener)).count();
        if told >= MOST_SAMPLES_EACH {
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

    /// Names the listeners that missed most.
    fn rank(&mut self) {
        if self.delivery.listeners_short == 0 {
            return;
        }
        let mut short: Vec<u32> =
            (0..).zip(&self.listeners).filter(|(_, one)| one.missing > 0).map(|(number, _)| number).collect();
        short.sort_by_key(|&number| (std::cmp::Reverse(self.listeners[number as usize].missing), number));
        let worst = short.into_iter().take(MOST_WORST).map(|number| {
            let listener = &self.listeners[number as usize];
            ListenerDelivery {
                listener: number,
                class: self.delivery.classes[listener.class as usize].name.clone(),
                expected: u64::from(listener.expected),
                missing: u64::from(listener.missing),
            }
        });
        self.delivery.worst = worst.collect();
    }

    /// A place that was left, or an absence that ended, before the oldest message under way was sent matters to nobody
    /// any more.
    fn forget_before(&mut self, sent: Nanos) {
        // The files show every place.
        let walking = if self.pairs.is_some() { &[] } else { &self.walking[..] };
        for &number in walking {
            let stands = &mut self.listeners[number as usize].stands;
            if let Some(last) = stands.iter().rposition(|stand| stand.settled < sent) {
                stands.drain(..last);
            }
        }
        if self.anybody_gone {
            for listener in self.listeners.iter_mut().filter(|listener| !listener.absences.is_empty()) {
                listener.absences.retain(|absence| absence.until >= sent);
            }
        }
    }
}

fn second_of(sent: Nanos) -> usize {
    usize::try_from(sent / 1_000_000_000).unwrap_or(usize::MAX)
}

fn file_times(hearers: &Hearers, second: usize, times: &mut LateTimes) {
    let mut after: Vec<u32> = hearers.live().collect();
    after.sort_unstable();
    if let (Some(&first), Some(&last)) = (after.first(), after.last()) {
        times.time(second, Time::DeliveryFirst, first);
        times.time(second, Time::DeliveryMedian, after[after.len() / 2]);
        times.time(second, Time::DeliveryLast, last);
    }
}

/// By when a message has certainly been matched with the places of the listeners.
fn matched_by(hearers: &Hearers, sent: Nanos) -> Nanos {
    let last = Nanos::from(hearers.last_us()) * 1000;
    sent + MATCHED_WITHIN.max(last + MATCHED_AFTER_LAST)
}

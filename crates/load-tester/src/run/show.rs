//! What the conductor does while the run goes on: reads what the workers hand over, watches both sides, tells.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::bail;
use tokio::sync::mpsc;

use super::crew::{Crew, Order, Report};
use super::so_far::{Known, SoFar};
use super::{Progress, first_error};
use crate::ledger::Ledger;
use crate::listeners::{self, Audience};
use crate::metrics::{Collector, Recorder, merge_windows};
use crate::monitor::Watch;
use crate::outcome::{Meta, PhaseInfo, Window, counters};
use crate::progress::{ERRORS, Now};
use crate::samples::Samples;
use crate::signals::Signals;
use crate::target::Observer;
use crate::validity::{self, Busy, CONDUCTOR_THREAD};
use crate::virtual_user::Shared;

/// Waits until all listeners stand; the signal that came first, if one did.
pub(super) async fn await_listeners(
    crew: &mut Crew,
    standing: usize,
    signals: &mut Signals,
    collector: &mut Collector,
    progress: &mut dyn FnMut(&Progress<'_>),
) -> anyhow::Result<Option<&'static str>> {
    let (mut ready, mut failed, mut told) = (0, 0, 0);
    while ready + failed < standing {
        tokio::select! {
            report = crew.reports.recv() => match report {
                Some(Report::ListenerReady) => ready += 1,
                Some(Report::ListenerFailed) => failed += 1,
                _ => bail!("a worker thread ended early"),
            },
            name = signals.next() => {
                progress(&Progress::Interrupted(name));
                crew.last_errors(collector).await;
                return Ok(Some(name));
            }
        }
        if ready * 10 / standing > told {
            told = ready * 10 / standing;
            progress(&Progress::ListenersConnecting { ready, of: standing });
        }
    }
    if failed > 0 {
        crew.last_errors(collector).await;
        bail!("{failed} of {standing} listeners could not stand: {}", first_error(collector));
    }
    progress(&Progress::ListenersReady(standing));
    Ok(None)
}

const SAMPLE: Duration = Duration::from_secs(1);
/// What users get to end after Ctrl-C: answers that are on their way arrive, and nobody at the keyboard waits long.
const AT_A_SIGNAL: Duration = Duration::from_secs(1);

/// How long a run may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) max_duration: Option<Duration>,
    pub(super) grace: Duration,
}

/// What ended the arrivals before the plan was over.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ended {
    pub(super) interrupted: Option<&'static str>,
    /// From the run's start; by a signal or by the longest duration.
    pub(super) stopped_at: Option<Duration>,
}

/// Never, when there is no such instant.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Everything the conductor keeps while the plan runs.
pub(super) struct Show<'a> {
    shared: &'a Arc<Shared>,
    pub(super) collector: Collector,
    /// With `config.delivery`.
    pub(super) ledger: Option<Ledger>,
    zero: Instant,
    workers: usize,
    /// Its phases are known; what is counted until the end is not in it.
    pub(super) meta: Meta,
    pub(super) observer: Observer,
    pub(super) tester: Samples,
    tester_watch: Option<Watch>,
    pub(super) busy: Busy,
    next_sample: Instant,
    /// Seconds told as `Second`, and as part of a `Window`.
    told_seconds: usize,
    told_windows: usize,
}

impl<'a> Show<'a> {
    pub(super) fn new(
        shared: &'a Arc<Shared>,
        collector: Collector,
        observer: Observer,
        zero: Instant,
        workers: usize,
        meta: Meta,
    ) -> Self {
        let planned = shared.plan.phases().iter();
        let phases = planned.map(|planned| PhaseInfo::of(&planned.phase, planned.start, planned.arrivals));
        Self {
            shared,
            collector,
            ledger: shared.delivery.as_ref().map(|config| {
                let Audience { classes, ack, .. } = &shared.audience;
                let stands = listeners::first_stands(shared);
                Ledger::new(&config.event, config.expect, classes.clone(), *ack, stands)
            }),
            zero,
            workers,
            meta: Meta { phases: phases.collect(), ..meta },
            observer,
            tester: Samples::default(),
            tester_watch: Watch::of_self(CONDUCTOR_THREAD),
            busy: Busy::default(),
            next_sample: zero + SAMPLE,
            told_seconds: 0,
            told_windows: 0,
        }
    }

    /// From the first phase to the last user's end; answers what ended it early.
    pub(super) async fn watch(
        &mut self,
        crew: &mut Crew,
        signals: &mut Signals,
        logged: &mut mpsc::UnboundedReceiver<String>,
        limits: Limits,
        progress: &mut dyn FnMut(&Progress<'_>),
    ) -> anyhow::Result<Ended> {
        let mut ended = Ended::default();
        let mut done = 0;
        // Phase boundaries: (when, phase, begins).
        let mut edges: Vec<(Instant, usize, bool)> = Vec::new();
        for (index, planned) in self.shared.plan.phases().iter().enumerate() {
            edges.push((self.zero + planned.start, index, true));
            edges.push((self.zero + planned.start + planned.duration, index, false));
        }
        edges.reverse();
        // When nobody arrives any more, and when those still there are cut off.
        let last_arrival = limits.max_duration.map(|length| self.zero + length);
        let mut cut_off = None;
        while done < self.workers {
            let edge = edges.last().copied();
            let arriving = ended.stopped_at.is_none();
            tokio::select! {
                report = crew.reports.recv() => match report {
                    Some(Report::Second { worker, second, recorder }) => {
                        self.take(crew, worker, second, recorder, progress);
                        self.tell_fault(progress);
                    }
                    Some(Report::UsersDone) => done += 1,
                    Some(_) => {}
                    None => bail!("a worker thread ended early"),
                },
                () = tokio::time::sleep_until(self.next_sample.into()) => {
                    self.sample();
                    for notice in self.observer.notices() {
                        progress(&Progress::Notice(&notice));
                    }
                }
                Some(text) = logged.recv() => progress(&Progress::Log(&text)),
                () = until(edge.map(|(at, ..)| at)), if arriving => {
                    edges.pop();
                    if let Some((_, index, begins)) = edge {
                        let phase = &self.meta.phases[index];
                        progress(&if begins { Progress::PhaseStarted { index, phase } } else { Progress::PhaseCompleted { index, phase } });
                        if !begins && edges.is_empty() {
                            progress(&Progress::Draining { users: self.shared.alive.load(Ordering::Relaxed) });
                        }
                    }
                }
                () = until(last_arrival), if arriving => {
                    ended.stopped_at = Some(self.zero.elapsed());
                    cut_off = Some(Instant::now() + limits.grace);
                    let users = self.shared.alive.load(Ordering::Relaxed);
                    progress(&Progress::DurationOver { users, grace: limits.grace });
                    crew.orders.send_replace(Order::StopArrivals);
                }
                () = until(cut_off) => {
                    cut_off = None;
                    crew.orders.send_replace(Order::CutOff);
                }
                name = signals.next(), if ended.interrupted.is_none() => {
                    ended.interrupted = Some(name);
                    ended.stopped_at.get_or_insert_with(|| self.zero.elapsed());
                    progress(&Progress::Interrupted(name));
                    // Not over an order that goes further.
                    crew.orders.send_if_modified(|order| {
                        let earlier = *order < Order::StopArrivals;
                        if earlier {
                            *order = Order::StopArrivals;
                        }
                        earlier
                    });
                    let soon = Instant::now() + limits.grace.min(AT_A_SIGNAL);
                    cut_off = Some(cut_off.map_or(soon, |known: Instant| known.min(soon)));
                }
            }
        }
        Ok(ended)
    }

    fn take(
        &mut self,
        crew: &Crew,
        worker: usize,
        second: usize,
        mut recorder: Box<Recorder>,
        progress: &mut dyn FnMut(&Progress<'_>),
    ) {
        let whole = self.collector.add(second, &recorder);
        if let Some(ledger) = &mut self.ledger {
            ledger.add(&recorder, &self.shared.messages, &mut self.collector);
        }
        recorder.clear();
        // A thread that has ended needs no spare.
        let _ = crew.spares[worker].send(recorder);
        let deadline = self.shared.delivery.as_ref().map_or(Duration::ZERO, |config| config.deadline);
        if let Some(ledger) = &mut self.ledger {
            // Of the seconds that all threads have handed over everything is known.
            let over = Duration::from_secs(whole as u64).saturating_sub(deadline);
            ledger.judge_before(over.as_nanos() as u64, &self.shared.messages, &mut self.collector);
        }
        self.tell(whole, progress);
        let told = self.told_seconds.min(self.told_windows);
        self.collector.fold(told.saturating_sub(self.settles_after_s()));
    }

    /// A disk that is full is no reason to throw the run away.
    pub(super) fn tell_fault(&mut self, progress: &mut dyn FnMut(&Progress<'_>)) {
        if let Some(error) = self.ledger.as_mut().and_then(Ledger::fault) {
            progress(&Progress::Notice(&format!(
                "writing who heard what (`--pairs`) failed, so those files are not whole: {error}; the run goes on"
            )));
        }
    }

    fn count_late_heartbeats(&mut self, second: usize) {
        let late = self.shared.audience.late_heartbeats.swap(0, Ordering::Relaxed);
        self.collector.count_late(Some(second), counters::HEARTBEATS_LATE, late);
    }

    /// So many seconds after one was whole the deliveries of what was said in it have been judged.
    fn settles_after_s(&self) -> usize {
        self.shared.delivery.as_ref().map_or(0, |config| config.deadline.as_secs() as usize) + 2
    }

    fn tell(&mut self, whole: usize, progress: &mut dyn FnMut(&Progress<'_>)) {
        while self.told_seconds < whole {
            self.tell_second(1.0, progress);
        }
        let length = self.window_length();
        while self.told_windows + length <= whole {
            self.tell_window(length, None, progress);
        }
    }

    /// What is left when all is handed over: the seconds and windows not told yet, the last ones shorter than the others.
    fn tell_rest(&mut self, progress: &mut dyn FnMut(&Progress<'_>)) {
        let whole = self.collector.close();
        // The last second ended when the last thread handed over, in the middle of it.
        let last_s = (self.zero.elapsed().as_secs_f64() - whole.saturating_sub(1) as f64).clamp(0.001, 1.0);
        self.tell(whole.saturating_sub(1), progress);
        if self.told_seconds < whole {
            self.tell_second(last_s, progress);
        }
        let length = self.window_length();
        while self.told_windows < whole {
            let last = self.told_windows + length >= whole;
            self.tell_window(length, last.then_some(last_s), progress);
        }
    }

    fn tell_second(&mut self, length_s: f64, progress: &mut dyn FnMut(&Progress<'_>)) {
        let settled = self.told_seconds.checked_sub(self.settles_after_s());
        if let Some(second) = self.collector.whole_from(self.told_seconds).next() {
            // Only the last one of a run is shorter than it was kept.
            let second = if length_s < second.length_s {
                Cow::Owned(Window { length_s, ..second.clone() })
            } else {
                Cow::Borrowed(second)
            };
            let over_s = second.start_s + length_s;
            let total = self.collector.total(over_s);
            let due = self.shared.plan.due_by(Duration::try_from_secs_f64(over_s).unwrap_or_default());
            let target = self.observer.target();
            let delivery = self.ledger.as_mut().map(Ledger::delivery);
            let validity = validity::judge(&total, due, &self.busy);
            let known = Known {
                meta: &self.meta,
                collector: &self.collector,
                delivery,
                observer: &self.observer,
                tester: &self.tester,
                validity: &validity,
            };
            let now = Now {
                phases: &self.meta.phases,
                due,
                delivery,
                errors: self.collector.top_errors(ERRORS),
                server_events: &self.collector.server_events,
                tester: self.tester.last(),
                target: target.as_ref(),
                validity: validity.clone(),
            };
            progress(&Progress::Second { second: &second, total: &total, now: &now });
            progress(&Progress::SoFar(&SoFar {
                newest: &second,
                settled: settled.and_then(|settled| self.collector.whole_from(settled).next()),
                seconds_per_window: self.collector.seconds_per_window(),
                make: &|| known.outcome(&total),
            }));
        }
        self.told_seconds += 1;
    }

    /// `last_s`: of a window that ends the run, the length of its last second.
    fn tell_window(&mut self, length: usize, last_s: Option<f64>, progress: &mut dyn FnMut(&Progress<'_>)) {
        if let Some(mut window) = merge_windows(self.collector.whole_from(self.told_windows).take(length)) {
            if let Some(last_s) = last_s {
                window.length_s += last_s - 1.0;
            }
            let delivery = self.ledger.as_mut().map(Ledger::delivery);
            progress(&Progress::Window { window: &window, delivery });
        }
        self.told_windows += length;
    }

    fn window_length(&self) -> usize {
        usize::try_from(self.shared.script.config.stats_interval.as_secs()).unwrap_or(10).max(1)
    }

    fn sample(&mut self) {
        while self.next_sample <= Instant::now() {
            self.next_sample += SAMPLE;
        }
        let at_s = self.zero.elapsed().as_secs_f64();
        self.count_late_heartbeats(at_s as usize);
        if let Some(sample) = self.tester_watch.as_mut().and_then(|watch| watch.sample(at_s)) {
            self.busy.see(&sample);
            self.tester.push(sample);
        }
    }

    /// Waits until everything expected was heard, or until the deadline; for a moment only once a signal has come.
    pub(super) async fn await_deliveries(
        &mut self,
        crew: &mut Crew,
        signals: &mut Signals,
        interrupted: &mut Option<&'static str>,
        progress: &mut dyn FnMut(&Progress<'_>),
    ) {
        let shared = Arc::clone(self.shared);
        let Some(config) = &shared.delivery else { return };
        let soon = || Instant::now() + config.deadline.min(Duration::from_secs(1));
        let mut deadline = if interrupted.is_some() { soon() } else { Instant::now() + config.deadline };
        let wanted = self.ledger.as_mut().and_then(|ledger| ledger.wanted(&self.shared.messages));
        // Without a number to reach, silence has to do; what comes uncalled gets a moment to show itself either way.
        let silence = if wanted.is_some() { Duration::from_millis(200) } else { Duration::from_secs(2) };
        let mut heard = self.heard();
        let mut since = Instant::now();
        loop {
            let now = Instant::now();
            let quiet = now.duration_since(since) >= silence;
            if now >= deadline || (quiet && wanted.is_none_or(|wanted| heard >= wanted)) {
                break;
            }
            tokio::select! {
                report = crew.reports.recv() => match report {
                    Some(Report::Second { worker, second, recorder }) => {
                        self.take(crew, worker, second, recorder, progress);
                    }
                    Some(_) => {}
                    None => break,
                },
                name = signals.next(), if interrupted.is_none() => {
                    *interrupted = Some(name);
                    progress(&Progress::Interrupted(name));
                    deadline = soon();
                }
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
            if self.next_sample <= Instant::now() {
                self.sample();
            }
            let now_heard = self.heard();
            if now_heard != heard {
                heard = now_heard;
                since = Instant::now();
            }
        }
        if let Some(ledger) = self.ledger.as_mut().filter(|_| interrupted.is_some()) {
            let whole = self.zero.elapsed().saturating_sub(config.deadline);
            ledger.cut_off(whole.as_nanos() as u64);
        }
    }

    fn heard(&self) -> u64 {
        self.shared.heard.iter().map(|heard| heard.0.load(Ordering::Relaxed)).sum()
    }

    /// Takes the last that every thread has.
    pub(super) async fn finish(&mut self, crew: &mut Crew, progress: &mut dyn FnMut(&Progress<'_>)) {
        let (mut finals, mut last) = (0, 0);
        while finals < self.workers {
            match crew.reports.recv().await {
                Some(Report::Second { worker, second, recorder }) => {
                    self.take(crew, worker, second, recorder, progress);
                }
                Some(Report::Final { second, recorder }) => {
                    (finals, last) = (finals + 1, last.max(second));
                    self.collector.add(second, &recorder);
                    if let Some(ledger) = &mut self.ledger {
                        ledger.add(&recorder, &self.shared.messages, &mut self.collector);
                    }
                }
                Some(_) => {}
                None => break,
            }
        }
        if let Some(ledger) = &mut self.ledger {
            ledger.judge_before(u64::MAX, &self.shared.messages, &mut self.collector);
        }
        self.count_late_heartbeats(last);
        self.tell_rest(progress);
        self.sample_if_never();
    }

    /// A run of less than a second has a sample all the same.
    fn sample_if_never(&mut self) {
        if self.tester.is_empty() {
            self.sample();
        }
    }
}

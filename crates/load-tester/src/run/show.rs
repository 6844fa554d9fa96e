//! What the conductor does while the run goes on: reads what the workers hand over, watches both sides, tells.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::bail;
use tokio::sync::mpsc;

use super::crew::{Crew, Order, Report};
use super::{Progress, first_error};
use crate::ledger::Ledger;
use crate::listeners::{self, Audience};
use crate::metrics::{Collector, Recorder, merge_windows};
use crate::monitor::Watch;
use crate::outcome::{PhaseInfo, ProcessSample, counters};
use crate::progress::{ERRORS, Now};
use crate::signals::Signals;
use crate::target::Observer;
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
                signals.next_one_kills();
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

/// Everything the conductor keeps while the plan runs.
pub(super) struct Show<'a> {
    shared: &'a Arc<Shared>,
    pub(super) collector: Collector,
    /// With `config.delivery`.
    pub(super) ledger: Option<Ledger>,
    zero: Instant,
    workers: usize,
    pub(super) phases: Vec<PhaseInfo>,
    pub(super) observer: Observer,
    pub(super) tester: Vec<ProcessSample>,
    tester_watch: Option<Watch>,
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
    ) -> Self {
        let phases = shared.plan.phases().iter().map(|planned| PhaseInfo {
            name: planned.phase.name.clone().unwrap_or_default(),
            start_s: planned.start.as_secs_f64(),
            duration_s: planned.duration.as_secs_f64(),
            load: planned.load(),
            planned: planned.arrivals,
        });
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
            phases: phases.collect(),
            observer,
            tester: Vec::new(),
            tester_watch: Watch::new(std::process::id()),
            told_seconds: 0,
            told_windows: 0,
        }
    }

    /// From the first phase to the last user's end; answers the signal that ended it early.
    pub(super) async fn watch(
        &mut self,
        crew: &mut Crew,
        signals: &mut Signals,
        logged: &mut mpsc::UnboundedReceiver<String>,
        progress: &mut dyn FnMut(&Progress<'_>),
    ) -> anyhow::Result<Option<&'static str>> {
        let mut interrupted = None;
        let mut done = 0;
        // Phase boundaries: (when, phase, begins).
        let mut edges: Vec<(Instant, usize, bool)> = Vec::new();
        for (index, planned) in self.shared.plan.phases().iter().enumerate() {
            edges.push((self.zero + planned.start, index, true));
            edges.push((self.zero + planned.start + planned.duration, index, false));
        }
        edges.reverse();
        let mut tick =
            tokio::time::interval_at((self.zero + Duration::from_secs(1)).into(), Duration::from_secs(1));
        while done < self.workers {
            let edge = edges.last().copied();
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
                _ = tick.tick() => {
                    self.sample();
                    for notice in self.observer.notices() {
                        progress(&Progress::Notice(&notice));
                    }
                }
                Some(text) = logged.recv() => progress(&Progress::Log(&text)),
                () = tokio::time::sleep_until(edge.map_or(self.zero, |(at, ..)| at).into()), if edge.is_some() && interrupted.is_none() => {
                    edges.pop();
                    if let Some((_, index, begins)) = edge {
                        let phase = &self.phases[index];
                        progress(&if begins { Progress::PhaseStarted { index, phase } } else { Progress::PhaseCompleted { index, phase } });
                        if !begins && edges.is_empty() {
                            progress(&Progress::Draining { users: self.shared.alive.load(Ordering::Relaxed) });
                        }
                    }
                }
                name = signals.next(), if interrupted.is_none() => {
                    interrupted = Some(name);
                    signals.next_one_kills();
                    progress(&Progress::Interrupted(name));
                    crew.orders.send_replace(Order::StopArrivals);
                }
            }
        }
        Ok(interrupted)
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
        self.collector.fold(told.saturating_sub(deadline.as_secs() as usize + 2));
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

    fn tell(&mut self, whole: usize, progress: &mut dyn FnMut(&Progress<'_>)) {
        while self.told_seconds < whole {
            let total = self.collector.total((self.told_seconds + 1) as f64);
            let target = self.observer.seen().target;
            if let Some(second) = self.collector.whole_from(self.told_seconds).next() {
                let second_over = Duration::from_secs(self.told_seconds as u64 + 1);
                let now = Now {
                    phases: &self.phases,
                    due: self.shared.plan.due_before(second_over),
                    delivery: self.ledger.as_mut().map(Ledger::delivery),
                    errors: self.collector.top_errors(ERRORS),
                    server_events: &self.collector.server_events,
                    tester: self.tester.last(),
                    target: target.as_ref(),
                };
                progress(&Progress::Second { second, total: &total, now: &now });
            }
            self.told_seconds += 1;
        }
        let length = usize::try_from(self.shared.script.config.stats_interval.as_secs()).unwrap_or(10).max(1);
        while self.told_windows + length <= whole {
            let window = merge_windows(self.collector.whole_from(self.told_windows).take(length));
            if let Some(window) = &window {
                let delivery = self.ledger.as_mut().map(Ledger::delivery);
                progress(&Progress::Window { window, delivery });
            }
            self.told_windows += length;
        }
    }

    fn sample(&mut self) {
        let at_s = self.zero.elapsed().as_secs_f64();
        self.count_late_heartbeats(at_s as usize);
        self.tester.extend(self.tester_watch.as_mut().and_then(|watch| watch.sample(at_s)));
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
                    signals.next_one_kills();
                    progress(&Progress::Interrupted(name));
                    deadline = soon();
                }
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
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
    pub(super) async fn finish(&mut self, crew: &mut Crew) {
        let (mut finals, mut last) = (0, 0);
        while finals < self.workers {
            match crew.reports.recv().await {
                Some(Report::Second { worker, second, recorder }) => {
                    self.take(crew, worker, second, recorder, &mut |_| {});
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
        self.sample_if_never();
    }

    /// A run of less than a second has a sample all the same.
    fn sample_if_never(&mut self) {
        if self.tester.is_empty() {
            self.sample();
        }
    }
}

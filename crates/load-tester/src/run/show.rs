//! What the conductor does while the run goes on: reads what the workers hand over, watches both sides, tells.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio::sync::mpsc;

use super::crew::{Crew, Order, Report};
use super::{Progress, first_error};
use crate::ledger::Ledger;
use crate::listeners;
use crate::metrics::{Collector, Recorder, merge_windows};
use crate::monitor::{self, Watch};
use crate::outcome::{PhaseInfo, ProcessSample, TargetUse};
use crate::signals::Signals;
use crate::virtual_user::Shared;

/// Waits until all listeners stand. False when a signal came first.
pub(super) async fn await_listeners(
    crew: &mut Crew,
    standing: usize,
    signals: &mut Signals,
    collector: &mut Collector,
    progress: &mut dyn FnMut(&Progress<'_>),
) -> anyhow::Result<bool> {
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
                return Ok(false);
            }
        }
        if ready * 10 / standing > told {
            told = ready * 10 / standing;
            progress(&Progress::ListenersConnecting { ready, of: standing });
        }
    }
    if failed > 0 {
        // The threads hand their errors over when they finish without having started.
        crew.orders.send_replace(Order::Finish);
        while let Some(report) = crew.reports.recv().await {
            if let Report::Final { recorder, .. } = report {
                collector.add_errors(&recorder);
            }
        }
        crew.dismiss().await;
        bail!("{failed} of {standing} listeners could not stand: {}", first_error(collector));
    }
    progress(&Progress::ListenersReady(standing));
    Ok(true)
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
    pub(super) target: Option<TargetUse>,
    target_watch: Option<Watch>,
    pub(super) tester: Vec<ProcessSample>,
    tester_watch: Option<Watch>,
    /// Seconds told as `Second`, and as part of a `Window`.
    told_seconds: usize,
    told_windows: usize,
}

impl<'a> Show<'a> {
    pub(super) fn new(shared: &'a Arc<Shared>, collector: Collector, zero: Instant, workers: usize) -> Self {
        let phases = shared.plan.phases().iter().map(|planned| PhaseInfo {
            name: planned.phase.name.clone().unwrap_or_default(),
            start_s: planned.start.as_secs_f64(),
            duration_s: planned.duration.as_secs_f64(),
            load: planned.load(),
            planned: planned.arrivals,
        });
        let target_watch = monitor::listener_on(&shared.addresses).and_then(Watch::new);
        let target = target_watch.as_ref().map(|watch| TargetUse {
            pid: watch.pid,
            command: watch.command(),
            samples: Vec::new(),
        });
        Self {
            shared,
            collector,
            ledger: shared
                .delivery
                .as_ref()
                .map(|config| Ledger::new(&config.event, config.expect, listeners::first_stands(shared))),
            zero,
            workers,
            phases: phases.collect(),
            target,
            target_watch,
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
                        self.take(crew, worker, second, recorder, progress).context("writing who heard what")?;
                    }
                    Some(Report::UsersDone) => done += 1,
                    Some(_) => {}
                    None => bail!("a worker thread ended early"),
                },
                _ = tick.tick() => self.sample(),
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
    ) -> std::io::Result<()> {
        let whole = self.collector.add(second, &recorder);
        if let Some(ledger) = &mut self.ledger {
            ledger.add(&recorder);
        }
        recorder.clear();
        // A thread that has ended needs no spare.
        let _ = crew.spares[worker].send(recorder);
        let deadline = self.shared.delivery.as_ref().map_or(Duration::ZERO, |config| config.deadline);
        if let Some(ledger) = &mut self.ledger {
            // Of the seconds that all threads have handed over everything is known.
            let over = Duration::from_secs(whole as u64).saturating_sub(deadline);
            ledger.judge_before(over.as_nanos() as u64, &self.shared.messages, &mut self.collector)?;
        }
        self.tell(whole, progress);
        let told = self.told_seconds.min(self.told_windows);
        self.collector.fold(told.saturating_sub(deadline.as_secs() as usize + 2));
        Ok(())
    }

    fn tell(&mut self, whole: usize, progress: &mut dyn FnMut(&Progress<'_>)) {
        while self.told_seconds < whole {
            let total = self.collector.total((self.told_seconds + 1) as f64);
            if let Some(second) = self.collector.whole_from(self.told_seconds).next() {
                progress(&Progress::Second { second, total: &total });
            }
            self.told_seconds += 1;
        }
        let length = usize::try_from(self.shared.script.config.stats_interval.as_secs()).unwrap_or(10).max(1);
        while self.told_windows + length <= whole {
            let window = merge_windows(self.collector.whole_from(self.told_windows).take(length));
            if let Some(window) = &window {
                let delivery = self.ledger.as_ref().map(Ledger::delivery);
                progress(&Progress::Window { window, delivery });
            }
            self.told_windows += length;
        }
    }

    fn sample(&mut self) {
        let at_s = self.zero.elapsed().as_secs_f64();
        if let (Some(watch), Some(target)) = (&mut self.target_watch, &mut self.target) {
            match watch.sample(at_s) {
                Some(sample) => target.samples.push(sample),
                // It is gone; what was seen of it stays.
                None => self.target_watch = None,
            }
        }
        self.tester.extend(self.tester_watch.as_mut().and_then(|watch| watch.sample(at_s)));
    }

    /// Waits until everything expected was heard, or until the deadline.
    pub(super) async fn await_deliveries(
        &mut self,
        crew: &mut Crew,
        interrupted: bool,
    ) -> std::io::Result<()> {
        let Some(config) = &self.shared.delivery else { return Ok(()) };
        let limit = if interrupted { config.deadline.min(Duration::from_secs(1)) } else { config.deadline };
        let deadline = Instant::now() + limit;
        let wanted = self.ledger.as_mut().and_then(|ledger| ledger.wanted(&self.shared.messages));
        // Without a number to reach, silence has to do; what comes uncalled gets a moment to show itself either way.
        let silence = if wanted.is_some() { Duration::from_millis(200) } else { Duration::from_secs(2) };
        let mut heard = self.heard();
        let mut since = Instant::now();
        loop {
            let now = Instant::now();
            let quiet = now.duration_since(since) >= silence;
            if now >= deadline || (quiet && wanted.is_none_or(|wanted| heard >= wanted)) {
                return Ok(());
            }
            tokio::select! {
                report = crew.reports.recv() => match report {
                    Some(Report::Second { worker, second, recorder }) => {
                        self.take(crew, worker, second, recorder, &mut |_| {})?;
                    }
                    Some(_) => {}
                    None => return Ok(()),
                },
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
            let now_heard = self.heard();
            if now_heard != heard {
                heard = now_heard;
                since = Instant::now();
            }
        }
    }

    fn heard(&self) -> u64 {
        self.shared.heard.iter().map(|heard| heard.0.load(Ordering::Relaxed)).sum()
    }

    /// Takes the last that every thread has.
    pub(super) async fn finish(&mut self, crew: &mut Crew) -> std::io::Result<()> {
        let mut finals = 0;
        while finals < self.workers {
            match crew.reports.recv().await {
                Some(Report::Second { worker, second, recorder }) => {
                    self.take(crew, worker, second, recorder, &mut |_| {})?;
                }
                Some(Report::Final { second, recorder }) => {
                    finals += 1;
                    self.collector.add(second, &recorder);
                    if let Some(ledger) = &mut self.ledger {
                        ledger.add(&recorder);
                    }
                }
                Some(_) => {}
                None => break,
            }
        }
        if let Some(ledger) = &mut self.ledger {
            ledger.judge_before(u64::MAX, &self.shared.messages, &mut self.collector)?;
        }
        self.sample_if_never();
        Ok(())
    }

    /// A run of less than a second has a sample all the same.
    fn sample_if_never(&mut self) {
        if self.tester.is_empty() {
            self.sample();
        }
    }
}

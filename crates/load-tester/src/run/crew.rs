//! The worker threads: the orders they take, the users they start, what they hand over each second.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;

use super::pacer::{Crowd, check, note_lag};
use crate::metrics::{Collector, Recorder};
use crate::virtual_user::{Shared, Worker};
use crate::{listeners, validity};

/// What the worker threads are told, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Order {
    /// Listeners stand up.
    Stand,
    /// `Shared::zero` is set: the plan begins.
    Start,
    /// No more arrivals; users go on to their end.
    StopArrivals,
    /// Users end where they are.
    CutOff,
    /// Hand over everything and close.
    Finish,
}

/// What the worker threads tell.
#[derive(Debug)]
pub(crate) enum Report {
    ListenerReady,
    ListenerFailed,
    Second { worker: usize, second: usize, recorder: Box<Recorder> },
    UsersDone,
    Final { second: usize, recorder: Box<Recorder> },
}

/// The worker threads, and the lines to them.
pub(super) struct Crew {
    threads: Vec<std::thread::JoinHandle<()>>,
    pub(super) orders: watch::Sender<Order>,
    pub(super) reports: mpsc::UnboundedReceiver<Report>,
    /// Emptied recorders on their way back.
    pub(super) spares: Vec<mpsc::UnboundedSender<Box<Recorder>>>,
}

impl Crew {
    pub(super) fn start(shared: &Arc<Shared>) -> anyhow::Result<Self> {
        let (orders, order) = watch::channel(Order::Stand);
        let (report, reports) = mpsc::unbounded_channel();
        let mut crew = Self { threads: Vec::new(), orders, reports, spares: Vec::new() };
        for index in 0..shared.workers {
            let (spare, spares) = mpsc::unbounded_channel();
            crew.spares.push(spare);
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .context("starting a worker")?;
            let (shared, order, report) = (Arc::clone(shared), order.clone(), report.clone());
            let thread = std::thread::Builder::new()
                .name(format!("{}{index}", validity::WORKER_THREAD))
                .spawn(move || {
                    // A set polls its outermost future at every wake of any task, so that one had better be small.
                    let all = async move {
                        check(tokio::task::spawn_local(work(shared, index, report, order, spares)).await);
                    };
                    LocalSet::new().block_on(&runtime, all);
                    // A name server that does not answer would hold up the end.
                    runtime.shutdown_background();
                });
            crew.threads.push(thread.context("starting a worker thread")?);
        }
        Ok(crew)
    }

    /// Ends threads that have not started; they hand their errors over.
    pub(super) async fn last_errors(&mut self, collector: &mut Collector) {
        self.orders.send_replace(Order::Finish);
        while let Some(report) = self.reports.recv().await {
            if let Report::Final { recorder, .. } = report {
                collector.add_errors(&recorder);
            }
        }
        self.dismiss().await;
    }

    /// Waits for the threads to end; they close their sockets within a bounded time.
    pub(super) async fn dismiss(&mut self) {
        self.orders.send_replace(Order::Finish);
        let threads = std::mem::take(&mut self.threads);
        let joined = tokio::task::spawn_blocking(move || {
            for thread in threads {
                if let Err(panic) = thread.join() {
                    std::panic::resume_unwind(panic);
                }
            }
        });
        if let Err(error) = joined.await
            && let Ok(panic) = error.try_into_panic()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

/// One worker thread's whole life.
async fn work(
    shared: Arc<Shared>,
    index: usize,
    reports: mpsc::UnboundedSender<Report>,
    mut orders: watch::Receiver<Order>,
    spares: mpsc::UnboundedReceiver<Box<Recorder>>,
) {
    let worker = Worker::new(Arc::clone(&shared), index);
    let mut crowd = listeners::stand_up(&worker, index, &reports, &orders);
    // An error means that the conductor is gone. A signal may have ended the arrivals before this thread looked up, so
    // that the order alone does not tell whether the plan began.
    if orders.wait_for(|order| *order >= Order::Start).await.is_ok() && shared.zero.get().is_some() {
        let before = std::mem::take(&mut *worker.recorder.borrow_mut());
        worker.recorder.borrow_mut().begin_with(before);
        let hand_over =
            HandOver { worker: Rc::clone(&worker), index, reports: reports.clone(), spares, second: 0 };
        let hand_over = std::cell::RefCell::new(hand_over);
        let crowd = Crowd::new(&worker);
        let mut stop = orders.clone();
        let run = async {
            tokio::select! {
                () = crowd.pace() => {}
                _ = stop.wait_for(|order| *order >= Order::StopArrivals) => {}
            }
            crowd.stop();
            tokio::select! {
                () = crowd.all_ended() => {}
                _ = stop.wait_for(|order| *order >= Order::CutOff) => {}
            }
            crowd.cut_off().await;
            let _ = reports.send(Report::UsersDone);
            let _ = orders.wait_for(|order| *order >= Order::Finish).await;
        };
        tokio::select! {
            () = run => {}
            () = HandOver::each_second(&hand_over) => {}
            () = note_lag(&worker) => {}
        }
        let (second, recorder) = hand_over.borrow_mut().take();
        let _ = reports.send(Report::Final { second, recorder });
    } else {
        let recorder = Box::new(worker.recorder.take());
        let _ = reports.send(Report::Final { second: 0, recorder });
    }
    drop(reports);
    // Listeners leave as clients do; whoever takes longer is cut off.
    let _ =
        tokio::time::timeout(Duration::from_secs(3), async { while crowd.join_next().await.is_some() {} })
            .await;
}

/// Gives the recorder away once a second.
struct HandOver {
    worker: Rc<Worker>,
    index: usize,
    reports: mpsc::UnboundedSender<Report>,
    spares: mpsc::UnboundedReceiver<Box<Recorder>>,
    second: usize,
}

impl HandOver {
    async fn each_second(this: &std::cell::RefCell<Self>) {
        let zero = *this.borrow().worker.shared.zero.get().expect("set before the start");
        loop {
            let next = zero + Duration::from_secs(this.borrow().second as u64 + 1);
            tokio::time::sleep_until(next.into()).await;
            let mut this = this.borrow_mut();
            let (second, recorder) = this.take();
            let _ = this.reports.send(Report::Second { worker: this.index, second, recorder });
            this.second += 1;
        }
    }

    fn take(&mut self) -> (usize, Box<Recorder>) {
        let mut fresh = self.spares.try_recv().unwrap_or_default();
        std::mem::swap(&mut *fresh, &mut *self.worker.recorder.borrow_mut());
        fresh.users = self.worker.users.get();
        fresh.connections = self.worker.connections.get();
        (self.second, fresh)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::run::RunOptions;
    use crate::run::prepare::prepare;
    use crate::script::vars::SharedVars;
    use crate::script::{self, LoadOptions};

    /// A signal may come between the start and a thread's first look at its orders: the run waits for it to say that its
    /// users are done.
    #[test]
    fn a_thread_that_finds_the_arrivals_over_has_begun_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yml");
        std::fs::write(
            &path,
            "config: {target: 'http://127.0.0.1:9', phases: [{duration: 60, arrivalRate: 5}]}\nscenarios: [{flow: [{get: {url: /}}]}]\n",
        )
        .unwrap();
        let script = script::load(&LoadOptions { files: vec![path], ..LoadOptions::default() }).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let told = LocalSet::new().block_on(&runtime, async move {
            let (log, _logged) = mpsc::unbounded_channel();
            let shared = prepare(&script, &RunOptions::default(), "r", 1, log, &mut |_| {}).await.unwrap();
            shared.vars.set(SharedVars::new(&shared.script, &[])).unwrap();
            shared.zero.set(Instant::now()).unwrap();
            let (orders, order) = watch::channel(Order::CutOff);
            let (report, mut reports) = mpsc::unbounded_channel();
            let (_spare, spares) = mpsc::unbounded_channel();
            tokio::task::spawn_local(work(Arc::new(shared), 0, report, order, spares));
            let first = tokio::time::timeout(Duration::from_secs(20), reports.recv()).await;
            orders.send_replace(Order::Finish);
            let last = tokio::time::timeout(Duration::from_secs(20), reports.recv()).await;
            (first.unwrap(), last.unwrap())
        });
        assert!(matches!(told, (Some(Report::UsersDone), Some(Report::Final { .. }))), "{told:?}");
    }
}

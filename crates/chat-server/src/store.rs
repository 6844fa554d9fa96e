//! One world's store thread. Every save of the world passes through it: limits per user and place,
//! group commit, then publishing in order.
//!
//! While a commit runs, what arrives becomes the next group; when idle, a message is committed at once.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesOrdered, FuturesUnordered, StreamExt as _};
use geo_index::Position;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use crate::bus::Bus;
use crate::clock::{Jump, Look, Trust, jump, now_ms};
use crate::delivery::{Envelope, Origin, Publication};
use crate::limits::{Buckets, Rate};
use crate::metrics::{Metrics, Stage};
use crate::privacy::Handles;
use crate::refusal::RefusalKind;
use crate::storage::{NewMessage, Outcome, Storage, StorageError, StoredMessage};
use crate::worker::WorkerMessage;
use crate::world::World;

/// Largest group committed at once.
const MAX_GROUP: usize = 1024;
/// Groups handed to the storage and not yet answered. SQLite answers before it returns, so there this is
/// never reached; a remote store works on several.
const MAX_IN_FLIGHT: usize = 4;
/// Publications a worker may be behind before new messages are refused.
const MAX_BACKLOG: usize = 100_000;
/// Table of the last sequence published per hashed cell.
const CELL_SLOTS: usize = 4096;
/// How often the clock is looked at and old messages are looked for, and the rest between two slices of a
/// deletion.
const FORGET_EVERY: Duration = Duration::from_secs(60);
/// How often it is noted by when what is stored was stored: how exact retention is.
const NOTE_EVERY: Duration = Duration::from_secs(600);
const FORGET_PAUSE: Duration = Duration::from_millis(20);
/// How often a store that failed is asked whether it works again.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// A checked message and whom to answer.
#[derive(Debug)]
pub struct SaveRequest {
    pub message: NewMessage,
    pub reach_m: Option<f64>,
    pub origin: Origin,
    pub received_at: Instant,
}

/// What a store thread is asked.
#[derive(Debug)]
pub enum StoreRequest {
    Save(Box<SaveRequest>),
    /// Answered with the last published `idx`, in order with the publications: what is published later
    /// comes after the answer.
    Fence {
        worker: usize,
        socket: socketio_server::SocketId,
    },
    /// Ends the thread when all before it is done.
    Stop,
}

/// What the store thread tells others without being asked.
#[derive(Debug)]
pub struct StoreState {
    /// The highest `idx` published.
    pub published: AtomicU64,
    /// False after a refused or unknown outcome, until the next success: a message's, or a probe's, for
    /// a server that is not ready may be sent no messages.
    pub healthy: AtomicBool,
    /// What the storage said when it failed last; for people.
    pub failure: Mutex<String>,
    pub epoch: Arc<str>,
}

/// The sender's side, cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    pub world: World,
    requests: UnboundedSender<StoreRequest>,
    pub state: Arc<StoreState>,
}

impl StoreState {
    fn failed(&self, cause: &str) {
        cause.clone_into(&mut self.failure.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// What is wrong; `None` while it works.
    pub fn problem(&self) -> Option<String> {
        let is_healthy = self.healthy.load(Ordering::SeqCst);
        (!is_healthy).then(|| self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl Store {
    /// Accepts a message: from here on it is stored or refused, whatever becomes of its connection.
    pub fn save(&self, request: SaveRequest) -> Result<(), RefusalKind> {
        self.requests.send(StoreRequest::Save(Box::new(request))).map_err(|_| RefusalKind::ShuttingDown)
    }

    pub fn fence(&self, worker: usize, socket: socketio_server::SocketId) -> Result<(), RefusalKind> {
        self.requests.send(StoreRequest::Fence { worker, socket }).map_err(|_| RefusalKind::ShuttingDown)
    }

    pub fn stop(&self) {
        let _ = self.requests.send(StoreRequest::Stop);
    }
}

/// Settings of one store thread.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    pub world: World,
    pub per_user: Option<Rate>,
    pub per_place: Option<Rate>,
    /// Messages older than this are deleted; `None`: kept.
    pub retention: Option<Duration>,
    pub node: u64,
}

/// Starts the thread.
///
/// # Errors
/// When the thread cannot be started.
pub fn spawn(
    config: StoreConfig,
    storage: Arc<dyn Storage>,
    bus: Arc<dyn Bus>,
    workers: Vec<UnboundedSender<WorkerMessage>>,
    handles: Handles,
    metrics: Arc<Metrics>,
) -> anyhow::Result<(Store, JoinHandle<()>)> {
    let (requests, queue) = tokio::sync::mpsc::unbounded_channel();
    let state = Arc::new(StoreState {
        published: AtomicU64::new(storage.last_idx()),
        healthy: AtomicBool::new(true),
        failure: Mutex::default(),
        epoch: storage.epoch(),
    });
    let store = Store { world: config.world, requests, state: state.clone() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let name = format!("store-{}", config.world.name());
    let mut thread = StoreThread {
        users: Buckets::new(config.per_user),
        places: Buckets::new(config.per_place),
        trust: Trust::new(now_ms(), Instant::now(), storage.noted_ms()),
        noted: None,
        config,
        storage,
        bus,
        workers,
        handles,
        metrics,
        state,
        sequence: 0,
        last_in_cell: vec![0; CELL_SLOTS],
    };
    let handle = std::thread::Builder::new().name(name).spawn(move || runtime.block_on(thread.run(queue)))?;
    Ok((store, handle))
}

struct StoreThread {
    config: StoreConfig,
    storage: Arc<dyn Storage>,
    bus: Arc<dyn Bus>,
    workers: Vec<UnboundedSender<WorkerMessage>>,
    handles: Handles,
    metrics: Arc<Metrics>,
    state: Arc<StoreState>,
    users: Buckets<u64>,
    places: Buckets<u64>,
    /// Nothing is deleted by a clock that has just jumped.
    trust: Trust,
    /// When the last note was made, by this process.
    noted: Option<Look>,
    sequence: u64,
    last_in_cell: Vec<u64>,
}

/// What came of looking after what is old.
struct House {
    noted: Option<Look>,
    /// How many.
    deleted: Result<u64, StorageError>,
}

/// A message in flight, without what only the storage needs.
struct Pending {
    message: Arc<NewMessage>,
    reach_m: Option<f64>,
    origin: Origin,
    received_at: Instant,
}

impl StoreThread {
    async fn run(&mut self, mut queue: UnboundedReceiver<StoreRequest>) {
        let mut in_flight = FuturesOrdered::new();
        let mut forgetting = FuturesUnordered::new();
        let mut probing = FuturesUnordered::new();
        let mut group = Vec::with_capacity(MAX_GROUP);
        let mut probe_at = tokio::time::Instant::now();
        // Kept from turn to turn: a turn may be one message, and each new timer has its price.
        let mut forget = std::pin::pin!(tokio::time::sleep_until(probe_at));
        loop {
            let healthy = self.state.healthy.load(Ordering::Relaxed);
            // The queue stands last: it may be full all the time, the others are not.
            tokio::select! {
                biased;
                Some(done) = in_flight.next(), if !in_flight.is_empty() => self.publish(done),
                Some(house) = forgetting.next(), if !forgetting.is_empty() => {
                    let rest = if self.kept_house(house) { FORGET_PAUSE } else { FORGET_EVERY };
                    forget.as_mut().reset(tokio::time::Instant::now() + rest);
                }
                Some(probed) = probing.next(), if !probing.is_empty() => {
                    self.probed(probed);
                    probe_at = tokio::time::Instant::now() + PROBE_EVERY;
                }
                () = &mut forget, if forgetting.is_empty() => {
                    forgetting.push(self.keep_house());
                }
                () = tokio::time::sleep_until(probe_at), if !healthy && probing.is_empty() => {
                    probing.push(self.storage.probe());
                }
                received = queue.recv_many(&mut group, MAX_GROUP), if in_flight.len() < MAX_IN_FLIGHT => {
                    if received == 0 {
                        while let Some(done) = in_flight.next().await {
                            self.publish(done);
                        }
                        return;
                    }
                    let mut batch = Vec::with_capacity(received);
                    let mut fences = Vec::new();
                    for request in group.drain(..) {
                        match request {
                            StoreRequest::Save(request) => batch.extend(self.admit(*request)),
                            // A fence behind a save waits for it: answering late only holds more back.
                            StoreRequest::Fence { worker, socket } => fences.push((worker, socket)),
                            // Nothing gets in any more; what did get in is still to be received.
                            StoreRequest::Stop => queue.close(),
                        }
                    }
                    if !batch.is_empty() || !fences.is_empty() {
                        let (pending, saved) = self.submit(batch);
                        let mut saving = async move { (pending, saved.await, fences) }.boxed();
                        // SQLite has answered by now.
                        match in_flight.is_empty().then(|| (&mut saving).now_or_never()).flatten() {
                            Some(done) => self.publish(done),
                            None => in_flight.push_back(saving),
                        }
                    }
                }
            }
            if healthy && !self.state.healthy.load(Ordering::Relaxed) {
                probe_at = tokio::time::Instant::now() + PROBE_EVERY;
            }
        }
    }

    /// Limits through which every save passes.
    fn admit(&mut self, request: SaveRequest) -> Option<Pending> {
        let now = Instant::now();
        let SaveRequest { mut message, reach_m, origin, received_at } = request;
        if self.bus.backlog() > MAX_BACKLOG {
            self.refuse(origin, RefusalKind::Behind);
            return None;
        }
        if !self.users.take(message.author.idx, now) {
            self.refuse(origin, RefusalKind::TooManyMessages);
            return None;
        }
        if !self.places.take(geo_index::area_of(message.position), now) {
            self.refuse(origin, RefusalKind::TooManyHere);
            return None;
        }
        message.created_at_ms = now_ms();
        Some(Pending { message: Arc::new(message), reach_m, origin, received_at })
    }

    fn submit(&self, batch: Vec<Pending>) -> (Vec<Pending>, impl Future<Output = Vec<Outcome>> + use<>) {
        let messages: Vec<_> = batch.iter().map(|pending| pending.message.clone()).collect();
        let count = messages.len();
        let patience = self.storage.patience();
        let saved = (count > 0).then(|| self.storage.save(messages));
        (batch, async move {
            let Some(saved) = saved else { return Vec::new() };
            let answered = tokio::time::timeout(patience, saved).await;
            answered.unwrap_or_else(|_| {
                vec![Outcome::Unknown(format!("the storage did not answer within {patience:?}")); count]
            })
        })
    }

    fn publish(&mut self, (pending, outcomes, fences): Done) {
        let now = Instant::now();
        let mut envelopes = Vec::with_capacity(pending.len());
        // A storage that answers too few has lost count: what it did not name is unknown.
        let outcomes = outcomes
            .into_iter()
            .chain(std::iter::repeat_with(|| Outcome::Unknown("the storage gave no outcome".into())));
        let mut failures = Failures::default();
        for (pending, outcome) in pending.into_iter().zip(outcomes) {
            let (kind, cause) = match outcome {
                Outcome::Stored(idx) => {
                    self.metrics.observe(Stage::Commit, now.saturating_duration_since(pending.received_at));
                    envelopes.push(self.envelope(idx, pending));
                    continue;
                }
                Outcome::Refused(cause) => (RefusalKind::StoreRefused, cause),
                Outcome::Unknown(cause) => (RefusalKind::StoreUnknown, cause),
            };
            failures.add(pending.origin, kind, cause);
        }
        let failed_any = !failures.told.is_empty();
        if !envelopes.is_empty() {
            self.metrics.committed(self.config.world, envelopes.len() as u64);
        }
        if failed_any {
            self.metrics.rolled_back(self.config.world);
        }
        if let Some(cause) = &failures.first_cause {
            self.state.failed(cause);
        }
        if failed_any || !envelopes.is_empty() {
            // Before anybody is told: who has his answer finds `/readyz` agreeing with it.
            self.state.healthy.store(!failed_any, Ordering::SeqCst);
        }
        failures.log(self.config.world);
        for &(origin, kind) in &failures.told {
            self.refuse(origin, kind);
        }
        if let Some(last) = envelopes.iter().map(|envelope| envelope.publication.stored.idx).max() {
            self.bus.publish(envelopes);
            self.state.published.fetch_max(last, Ordering::SeqCst);
        }
        for (worker, socket) in fences {
            let noted = self.state.published.load(Ordering::SeqCst);
            if let Some(queue) = self.workers.get(worker) {
                let _ = queue.send(WorkerMessage::Fence { world: self.config.world, socket, noted });
            }
        }
    }

    fn envelope(&mut self, idx: u64, pending: Pending) -> Envelope {
        self.sequence += 1;
        let slot = cell_slot(pending.message.position);
        let previous_in_cell = std::mem::replace(&mut self.last_in_cell[slot], self.sequence);
        let stored = StoredMessage { idx, message: pending.message };
        let publication =
            Publication::new(stored, &self.state.epoch, pending.reach_m, &self.handles, self.config.world);
        Envelope {
            node: self.config.node,
            epoch: self.state.epoch.clone(),
            world: self.config.world,
            sequence: self.sequence,
            previous_in_cell,
            publication: Arc::new(publication),
            origin: Some(pending.origin),
            published_at: Instant::now(),
        }
    }

    fn refuse(&self, origin: Origin, kind: RefusalKind) {
        if let Some(queue) = self.workers.get(origin.worker) {
            let _ = queue.send(WorkerMessage::Refused { origin, kind });
        }
    }

    /// Notes the time, and deletes a slice of what is too old; both only by a clock that may be believed.
    fn keep_house(&mut self) -> BoxFuture<'static, House> {
        let (now_ms, now) = (now_ms(), Instant::now());
        if let Some(Jump(jump_ms)) = self.trust.look(now_ms, now) {
            self.metrics.clock_jumped(self.config.world);
            tracing::warn!(
                world = self.config.world.name(),
                jump_s = jump_ms / 1000,
                "the clock jumped, or the machine slept: nothing is deleted until it has kept its pace for an hour"
            );
        }
        if !self.trust.is_believed() {
            return futures_util::future::ready(House { noted: self.noted, deleted: Ok(0) }).boxed();
        }
        let noted = self.noted;
        let is_due = noted.is_none_or(|(_, at)| now.saturating_duration_since(at) >= NOTE_EVERY);
        // Ages are kept, not instants. Of the time between two processes nobody knows: it may have been a rest.
        let set_ms = noted.and_then(|noted| jump(noted, (now_ms, now))).map_or(0, |Jump(ms)| ms);
        let note = is_due.then(|| self.storage.note(now_ms, set_ms));
        let kept_ms = self.config.retention.map(|kept| i64::try_from(kept.as_millis()).unwrap_or(i64::MAX));
        let storage = self.storage.clone();
        async move {
            let mut house = House { noted, deleted: Ok(0) };
            if let Some(note) = note {
                // Without it, what was noted by a clock that was wrong since would be deleted by one that is right.
                if let Err(error) = note.await {
                    return House { deleted: Err(error), ..house };
                }
                house.noted = Some((now_ms, now));
            }
            if let Some(kept_ms) = kept_ms {
                house.deleted = storage.forget_before(now_ms.saturating_sub(kept_ms)).await;
            }
            house
        }
        .boxed()
    }

    /// True when there may be more to delete.
    fn kept_house(&mut self, House { noted, deleted }: House) -> bool {
        let world = self.config.world.name();
        self.noted = noted;
        match deleted {
            Ok(0) => false,
            Ok(count) => {
                tracing::debug!(world, count, "old messages deleted");
                true
            }
            Err(error) => {
                // Noting or deleting: the error says which.
                tracing::warn!(world, %error, "retention failed; will be tried again");
                false
            }
        }
    }

    fn probed(&self, probed: Result<(), StorageError>) {
        let world = self.config.world.name();
        match probed {
            Ok(()) => {
                if !self.state.healthy.swap(true, Ordering::Relaxed) {
                    tracing::info!(world, "the store works again");
                }
            }
            Err(error) => {
                self.state.failed(&error.cause);
                tracing::debug!(world, %error, "the store does not work yet");
            }
        }
    }
}

/// What went wrong in one group: one line in the log, however many messages it were.
#[derive(Default)]
struct Failures {
    told: Vec<(Origin, RefusalKind)>,
    first_cause: Option<String>,
}

impl Failures {
    fn add(&mut self, origin: Origin, kind: RefusalKind, cause: String) {
        self.told.push((origin, kind));
        self.first_cause.get_or_insert(cause);
    }

    fn log(&self, world: World) {
        if let Some(cause) = &self.first_cause {
            let unknown = self.told.iter().filter(|(_, kind)| *kind == RefusalKind::StoreUnknown).count();
            let refused = self.told.len() - unknown;
            tracing::error!(world = world.name(), refused, unknown, cause, "messages could not be stored");
        }
    }
}

/// A group the storage has answered, and the fences that waited for it.
type Done = (Vec<Pending>, Vec<Outcome>, Vec<(usize, socketio_server::SocketId)>);

fn cell_slot(position: Position) -> usize {
    let area = geo_index::area_of(position);
    // Areas are neighbours in the low bits; a multiplicative hash spreads them.
    (area.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 52) as usize % CELL_SLOTS
}

//! One world's store thread. Every save of the world passes through it: limits per user and place,
//! group commit, then publishing in order.
//!
//! While a commit runs, what arrives becomes the next group; when idle, a message is committed at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesOrdered, StreamExt as _};
use geo_index::Position;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use crate::bus::Bus;
use crate::delivery::{Envelope, Origin, Publication};
use crate::limits::{Buckets, Rate};
use crate::metrics::{Metrics, Stage};
use crate::privacy::Handles;
use crate::refusal::RefusalKind;
use crate::storage::{NewMessage, Outcome, Storage, StoredMessage};
use crate::worker::WorkerMessage;
use crate::world::World;

/// Largest group committed at once.
const MAX_GROUP: usize = 1024;
/// Groups handed to the storage and not yet answered. SQLite answers before it returns, so there this is
/// never reached; a remote store works on several.
const MAX_IN_FLIGHT: usize = 4;
/// Table of the last sequence published per hashed cell.
const CELL_SLOTS: usize = 4096;

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
    /// False after a refused or unknown outcome, until the next success.
    pub healthy: AtomicBool,
    pub epoch: Arc<str>,
}

/// The sender's side, cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    pub world: World,
    requests: UnboundedSender<StoreRequest>,
    pub state: Arc<StoreState>,
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
        epoch: storage.epoch(),
    });
    let store = Store { world: config.world, requests, state: state.clone() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let name = format!("store-{}", config.world.name());
    let mut thread = StoreThread {
        users: Buckets::new(config.per_user),
        places: Buckets::new(config.per_place),
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
    sequence: u64,
    last_in_cell: Vec<u64>,
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
        let mut group = Vec::with_capacity(MAX_GROUP);
        let mut retention = tokio::time::interval(Duration::from_secs(60));
        retention.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                Some(done) = in_flight.next(), if !in_flight.is_empty() => self.publish(done),
                received = queue.recv_many(&mut group, MAX_GROUP), if in_flight.len() < MAX_IN_FLIGHT => {
                    let mut stop = received == 0;
                    let mut batch = Vec::with_capacity(received);
                    let mut fences = Vec::new();
                    for request in group.drain(..) {
                        match request {
                            StoreRequest::Save(request) => batch.extend(self.admit(*request)),
                            // A fence behind a save waits for it: answering late only holds more back.
                            StoreRequest::Fence { worker, socket } => fences.push((worker, socket)),
                            StoreRequest::Stop => stop = true,
                        }
                    }
                    if !batch.is_empty() || !fences.is_empty() {
                        let (pending, saved) = self.submit(batch);
                        in_flight.push_back(async move {
                            (pending, saved.await, fences)
                        });
                    }
                    if stop {
                        while let Some(done) = in_flight.next().await {
                            self.publish(done);
                        }
                        return;
                    }
                }
                _ = retention.tick(), if self.config.retention.is_some() => self.forget_old().await,
            }
        }
    }

    /// Limits through which every save passes.
    fn admit(&mut self, request: SaveRequest) -> Option<Pending> {
        let now = Instant::now();
        let SaveRequest { mut message, reach_m, origin, received_at } = request;
        if !self.users.take(message.author.idx, now) {
            self.refuse(origin, RefusalKind::TooManyMessages);
            return None;
        }
        if !self.places.take(geo_index::area_of(message.position), now) {
            self.refuse(origin, RefusalKind::TooManyHere);
            return None;
        }
        message.created_at_ms = jiff::Timestamp::now().as_millisecond();
        Some(Pending { message: Arc::new(message), reach_m, origin, received_at })
    }

    fn submit(&self, batch: Vec<Pending>) -> (Vec<Pending>, impl Future<Output = Vec<Outcome>> + use<>) {
        let messages: Vec<_> = batch.iter().map(|pending| pending.message.clone()).collect();
        let saved = (!messages.is_empty()).then(|| self.storage.save(messages));
        (batch, async move {
            match saved {
                Some(saved) => saved.await,
                None => Vec::new(),
            }
        })
    }

    fn publish(&mut self, (pending, outcomes, fences): Done) {
        let now = Instant::now();
        let mut envelopes = Vec::with_capacity(pending.len());
        // A storage that answers too few has lost count: what it did not name is unknown.
        let outcomes = outcomes
            .into_iter()
            .chain(std::iter::repeat_with(|| Outcome::Unknown("the storage gave no outcome".into())));
        let mut failed_any = false;
        for (pending, outcome) in pending.into_iter().zip(outcomes) {
            let failed = match outcome {
                Outcome::Stored(idx) => {
                    self.metrics.observe(Stage::Commit, now.saturating_duration_since(pending.received_at));
                    envelopes.push(self.envelope(idx, pending));
                    continue;
                }
                Outcome::Refused(cause) => (RefusalKind::StoreRefused, cause),
                Outcome::Unknown(cause) => (RefusalKind::StoreUnknown, cause),
            };
            failed_any = true;
            tracing::error!(world = self.config.world.name(), cause = failed.1, "{}", failed.0.message());
            self.refuse(pending.origin, failed.0);
        }
        if !envelopes.is_empty() {
            self.metrics.committed(self.config.world, envelopes.len() as u64);
        }
        if failed_any {
            self.metrics.rolled_back(self.config.world);
        }
        if failed_any || !envelopes.is_empty() {
            self.state.healthy.store(!failed_any, Ordering::Relaxed);
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

    async fn forget_old(&self) {
        let Some(retention) = self.config.retention else { return };
        let before = jiff::Timestamp::now().as_millisecond()
            - i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
        match self.storage.forget_before(before).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(world = self.config.world.name(), count, "old messages deleted"),
            Err(error) => tracing::warn!(world = self.config.world.name(), %error, "retention failed"),
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

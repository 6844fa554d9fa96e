//! Starts everything, ends everything: accept thread, workers, one store thread per world, push.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use geo_index::Interest;
use socketio_server::{Lease, Seat, Stats};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;

use crate::addresses::Addresses;
use crate::bus::{Bus, InProcessBus};
use crate::config::{Batch, Config};
use crate::data_dir::DataDir;
use crate::http::{Routes, fallback};
use crate::metrics::Metrics;
use crate::presence::Shard;
use crate::privacy::Handles;
use crate::push::PushThread;
use crate::rotation::Secrets;
use crate::storage::{SqliteStorage, Storage};
use crate::store::{self, Store, StoreConfig};
use crate::tls::Tls;
use crate::token::TokenKey;
use crate::worker::{self, Chat, Shared, WorkerMessage};
use crate::world::{PerWorld, World};

/// Connections the kernel keeps until they are accepted.
const BACKLOG: i32 = 4096;
/// How long accepting rests when there are no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What an address with too many connections is told.
const TOO_MANY: &[u8] = b"HTTP/1.1 429 Too Many Requests\r\nconnection: close\r\nretry-after: 1\r\n\
    content-type: text/plain\r\ncontent-length: 36\r\n\r\ntoo many connections, try again soon";

/// A server that runs until [`Running::stop`].
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    metrics: Arc<Metrics>,
    stopping: Arc<AtomicBool>,
    stop_accepting: oneshot::Sender<()>,
    acceptor: JoinHandle<()>,
    workers: Vec<UnboundedSender<WorkerMessage>>,
    worker_threads: Vec<JoinHandle<()>>,
    stores: PerWorld<Store>,
    store_threads: Vec<JoinHandle<()>>,
    push_thread: PushThread,
    drain: Duration,
    tls: Option<Arc<Tls>>,
}

/// Binds the configured address.
///
/// # Errors
/// When the address is taken or not ours; the message says which.
pub fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let bind = || -> std::io::Result<TcpListener> {
        let socket = socket2::Socket::new(
            socket2::Domain::for_address(address),
            socket2::Type::STREAM,
            Some(socket2::Protocol::TCP),
        )?;
        // Lets a restart take the port while old connections linger; a second listener still fails.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    bind().with_context(|| format!("listening on {address}: is it taken? choose another with --listen"))
}

/// Opens both worlds' databases in the data directory.
///
/// # Errors
/// When one cannot be opened.
pub fn open_storages(data: &DataDir, config: &Config) -> anyhow::Result<PerWorld<Arc<dyn Storage>>> {
    PerWorld::try_new(|world| {
        let path = data.database(world);
        let storage =
            SqliteStorage::open(&path, config.durability).with_context(|| format!("{}", path.display()))?;
        Ok(Arc::new(storage) as Arc<dyn Storage>)
    })
}

/// Starts serving on `listener`. `secrets` sign and verify tokens.
///
/// # Errors
/// When a thread or a port cannot be had, or the TLS files do not hold.
pub fn start(
    listener: TcpListener,
    config: &Config,
    secrets: impl Into<Secrets>,
    storages: PerWorld<Arc<dyn Storage>>,
) -> anyhow::Result<Running> {
    let address = listener.local_addr()?;
    let count = config.worker_count();
    let stats: Vec<Arc<Stats>> = (0..count).map(|_| Arc::default()).collect();
    let metrics = Arc::new(Metrics::new(stats.clone()));
    let tls = config.tls_files().map(|files| Tls::start(files, metrics.clone())).transpose()?.map(Arc::new);
    let interest: PerWorld<Arc<Interest>> = PerWorld::new(|_| Arc::new(Interest::new()));
    let (workers, queues): (Vec<_>, Vec<_>) =
        (0..count).map(|_| tokio::sync::mpsc::unbounded_channel()).unzip();
    let secrets = secrets.into();
    let handles = Handles::new(&secrets.current);
    let key = TokenKey::new(secrets);
    let waiting: Vec<Arc<AtomicUsize>> = (0..count).map(|_| Arc::default()).collect();
    let bus: Arc<dyn Bus> = Arc::new(InProcessBus::new(workers.clone(), waiting.clone(), interest.clone()));

    let (push, push_thread) = crate::push::spawn(metrics.clone())?;

    let mut store_threads = Vec::new();
    let node = fastrand::u64(..);
    let stores = PerWorld::try_new(|world| {
        let hours = match world {
            World::Live => config.retention.live_hours,
            World::Test => config.retention.test_hours,
        };
        let store_config = StoreConfig {
            world,
            per_user: config.limit(config.limits.per_user),
            per_place: config.limit(config.limits.per_place),
            retention: (hours > 0).then(|| Duration::from_secs(hours.saturating_mul(3600))),
            node,
        };
        let storage = storages.get(world).clone();
        let (store, thread) = store::spawn(
            store_config,
            storage,
            bus.clone(),
            workers.clone(),
            handles.clone(),
            metrics.clone(),
        )?;
        store_threads.push(thread);
        anyhow::Ok(store)
    })?;

    let stopping = Arc::new(AtomicBool::new(false));
    let routes = Routes {
        metrics: metrics.clone(),
        stores: stores.clone(),
        storages: storages.clone(),
        bus,
        stopping: stopping.clone(),
        dev_key: address.ip().is_loopback().then(|| key.clone()),
    };
    let shared = Arc::new(Shared {
        rules: config.rules(),
        key,
        handles,
        stores: stores.clone(),
        storages,
        push,
        metrics: metrics.clone(),
        workers: workers.clone(),
    });
    let sockets = config.socket_config(is_batch_cheaper(config.batch));
    let mut worker_threads = Vec::new();
    let seats = socketio_server::seats(count);
    for (number, (((queue, stats), waiting), seat)) in
        queues.into_iter().zip(&stats).zip(waiting).zip(seats).enumerate()
    {
        let parts = WorkerParts {
            number,
            shared: shared.clone(),
            interest: interest.clone(),
            routes: routes.clone(),
            sockets: sockets.clone(),
            stats: stats.clone(),
            queue,
            waiting,
            seat,
        };
        worker_threads.push(parts.spawn()?);
    }

    let (stop_accepting, stopped) = oneshot::channel();
    let dealer = Dealer {
        workers: workers.clone(),
        dealt: vec![0; count],
        stats,
        next: 0,
        addresses: Addresses::new(config),
        tls: tls.clone(),
        metrics: metrics.clone(),
    };
    let acceptor = dealer.spawn(listener, stopped)?;
    Ok(Running {
        address,
        metrics,
        stopping,
        stop_accepting,
        acceptor,
        workers,
        worker_threads,
        stores,
        store_threads,
        push_thread,
        tls,
        drain: Duration::from_millis(config.sockets.drain_ms),
    })
}

/// What [`Batch`] comes to on this machine.
fn is_batch_cheaper(batch: Batch) -> bool {
    match batch {
        Batch::On => true,
        Batch::Off => false,
        Batch::Auto => match socketio_server::batch::measure() {
            Ok(cost) => {
                // What is about the same is done the plain way; a few percent are chance.
                let is_cheaper = cost.batched * 10 <= cost.single * 9;
                let us = |time: Duration| time.as_nanos() as f64 / 1e3;
                tracing::info!(
                    batch = is_cheaper,
                    single_us = us(cost.single),
                    batched_us = us(cost.batched),
                    "measured what a send costs, alone and in a batch"
                );
                is_cheaper
            }
            Err(error) => {
                tracing::info!(%error, "no io_uring here: each send is a call of its own");
                false
            }
        },
    }
}

impl Running {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where a browser finds the page.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}/", self.address)
    }

    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Reads the TLS files again: new connections get what they hold now, when it holds; the others live on.
    pub fn reload_tls(&self) {
        match &self.tls {
            Some(tls) => tls.reload(),
            None => tracing::info!("nothing to reload: no TLS files are set"),
        }
    }

    /// Ends in order: no new connections; what was accepted is stored and answered; queues go out; every
    /// client is asked to come back (1012).
    pub fn stop(self) {
        self.stopping.store(true, Ordering::Relaxed);
        let _ = self.stop_accepting.send(());
        join(self.acceptor, "accept");
        self.stores.live.stop();
        self.stores.test.stop();
        for thread in self.store_threads {
            join(thread, "store");
        }
        for worker in &self.workers {
            let _ = worker.send(WorkerMessage::Drain { deadline: self.drain });
        }
        for thread in self.worker_threads {
            join(thread, "worker");
        }
        if self.push_thread.stop().is_err() {
            tracing::error!(name = "push", "a thread had panicked");
        }
    }
}

fn join(thread: JoinHandle<()>, name: &str) {
    if thread.join().is_err() {
        tracing::error!(name, "a thread had panicked");
    }
}

/// What a worker thread is made of; everything in here may cross threads.
struct WorkerParts {
    number: usize,
    shared: Arc<Shared>,
    interest: PerWorld<Arc<Interest>>,
    routes: Routes,
    sockets: socketio_server::Config,
    stats: Arc<Stats>,
    queue: UnboundedReceiver<WorkerMessage>,
    waiting: Arc<AtomicUsize>,
    seat: Seat,
}

impl WorkerParts {
    fn spawn(self) -> anyhow::Result<JoinHandle<()>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let bit = u32::try_from(self.number)?;
        let interest = PerWorld::try_new(|world| self.interest.get(world).handle(bit))?;
        let thread =
            std::thread::Builder::new().name(format!("worker-{}", self.number)).spawn(move || {
                let local = tokio::task::LocalSet::new();
                local.block_on(&runtime, async move {
                    let PerWorld { live, test } = interest;
                    let shards = PerWorld { live: Shard::new(live), test: Shard::new(test) };
                    let chat = Chat::new(self.number, self.shared, shards);
                    let worker =
                        socketio_server::Worker::with_seat(chat.clone(), self.sockets, self.stats, self.seat);
                    worker.set_fallback(fallback(self.routes));
                    worker::run(chat, worker, self.queue, &self.waiting).await;
                });
            })?;
        Ok(thread)
    }
}

/// Accepts and deals each connection to the worker with the fewest.
struct Dealer {
    workers: Vec<UnboundedSender<WorkerMessage>>,
    /// Connections given to each worker so far.
    dealt: Vec<u64>,
    stats: Vec<Arc<Stats>>,
    next: usize,
    addresses: Addresses,
    tls: Option<Arc<Tls>>,
    metrics: Arc<Metrics>,
}

impl Dealer {
    fn spawn(
        mut self,
        listener: TcpListener,
        stopped: oneshot::Receiver<()>,
    ) -> anyhow::Result<JoinHandle<()>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        listener.set_nonblocking(true)?;
        let listener = runtime.block_on(async { tokio::net::TcpListener::from_std(listener) })?;
        let thread = std::thread::Builder::new().name("accept".into()).spawn(move || {
            runtime.block_on(async move {
                tokio::select! {
                    () = self.run(listener) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(thread)
    }

    async fn run(&mut self, listener: tokio::net::TcpListener) {
        let mut paused_since = None;
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    if let Some(since) = paused_since.take().map(|since: Instant| since.elapsed()) {
                        tracing::info!(paused_ms = since.as_millis() as u64, "accepting goes on");
                    }
                    match self.addresses.admit(peer.ip(), Instant::now()) {
                        Ok(lease) => match stream.into_std() {
                            Ok(stream) => self.deal(stream, peer, lease),
                            Err(error) => tracing::warn!(%error, "a connection was lost between threads"),
                        },
                        Err(limit) => {
                            self.metrics.address_refused(limit);
                            // Whoever listens first is told; a flood is not waited for.
                            let _ = stream.try_write(TOO_MANY);
                        }
                    }
                }
                // One connection's trouble, its peer was gone already for example; the next may be fine.
                Err(error) if !is_shortage(&error) => {
                    tracing::debug!(%error, "a connection was not accepted");
                }
                Err(error) => {
                    self.metrics.accept_pauses.inc();
                    // Once for the whole of it: this comes ten times a second.
                    if paused_since.is_none() {
                        paused_since = Some(Instant::now());
                        tracing::warn!(%error, "accepting pauses: raise the limit of open files if this goes on");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn deal(&mut self, stream: std::net::TcpStream, peer: SocketAddr, lease: Option<Lease>) {
        let count = self.workers.len();
        let load = |worker: usize| {
            let stats = &self.stats[worker];
            // What is on its way there counts too, or a burst would go to one worker whole.
            let on_the_way = self.dealt[worker].saturating_sub(get(&stats.accepted));
            get(&stats.sessions) + on_the_way
        };
        // Of equals the one after the last, so that plain HTTP is spread as well.
        let chosen =
            (0..count).map(|step| (self.next + step) % count).min_by_key(|&worker| load(worker)).unwrap_or(0);
        self.next = (chosen + 1) % count;
        self.dealt[chosen] += 1;
        let tls = self.tls.as_deref().map(Tls::config);
        let _ = self.workers[chosen].send(WorkerMessage::Accepted { stream, peer, tls, lease });
    }
}

/// Whether the machine has nothing left to accept with: trying again at once would find the same.
fn is_shortage(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepting_pauses_only_where_the_machine_is_short() {
        for (errno, expected) in [
            (libc::EMFILE, true),
            (libc::ENFILE, true),
            (libc::ENOBUFS, true),
            (libc::ENOMEM, true),
            (libc::ECONNABORTED, false),
            (libc::EPERM, false),
            (libc::EHOSTUNREACH, false),
            (libc::EPROTO, false),
        ] {
            assert_eq!(is_shortage(&std::io::Error::from_raw_os_error(errno)), expected, "{errno}");
        }
    }
}

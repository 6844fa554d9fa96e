//! One thread's connections: accepts, routes HTTP, keeps time, drains; [`flush`] writes what is dirty.

mod flush;

use std::any::Any;
use std::cell::{Cell, RefCell, RefMut};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::task::Waker;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::TokioTimer;
use slab::Slab;
use socketio_wire::websocket::close::CloseCode;
use socketio_wire::websocket::frame::Opcode;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::spawn_local;
use tokio::time::Instant;

use crate::application::Application;
use crate::batch::Ring;
use crate::config::Config;
use crate::frame::Frame;
use crate::heartbeat::{Tick, Wheel};
use crate::lobby::Lobby;
use crate::outbox::Micros;
use crate::peers::{Errand, Peers, Seat, seats};
use crate::per_address::PerAddress;
use crate::session::{Session, Sid};
use crate::socket::{Socket, SocketId};
use crate::stats::{Stats, add, sub};
use crate::transport::http::{self, Fallback, Opened};
use crate::transport::stream::Stream;
use crate::transport::{polling, websocket};
use crate::worker::flush::{Gathered, Lists};

/// Size of the read buffer all connections of a worker share, in bytes.
const READ_BUFFER: usize = 64 << 10;

/// Whatever is to be given back when a connection has ended, a count of an address's connections for example.
pub type Lease = Arc<dyn Any + Send + Sync>;

/// How long, at the end of a drain, answers may take to leave.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// Tells the workers of one process apart in their [`SocketId`]s.
static NEXT_WORKER: AtomicU16 = AtomicU16::new(0);

/// One thread's share of a server. Everything it touches stays on its thread; use it inside a `LocalSet` or
/// a `LocalRuntime` of a current-thread tokio runtime with time and I/O enabled.
pub struct Worker<A: Application> {
    application: Rc<A>,
    config: Config,
    stats: Arc<Stats>,
    index: u16,
    seat: u8,
    peers: Peers,
    /// What other workers hand over; taken by its task.
    inbox: RefCell<Option<UnboundedReceiver<Errand>>>,
    sessions: RefCell<Slab<Rc<Session<A>>>>,
    /// Sessions that poll, or have begun so.
    polling: RefCell<HashMap<Sid, Rc<Session<A>>>>,
    sockets: RefCell<Slab<Rc<Socket<A>>>>,
    generation: Cell<u32>,
    lists: RefCell<Lists<A>>,
    /// Sessions of which the application is to be told an end.
    chores: RefCell<Vec<Rc<Session<A>>>>,
    flusher: RefCell<Option<Waker>>,
    /// What one flush has counted and not yet added to `stats`.
    gathered: RefCell<Gathered>,
    /// Sends for many sockets at once.
    ring: RefCell<Option<Ring>>,
    wheel: RefCell<Wheel>,
    tick_length: Duration,
    /// The wheel's task waits for the first session.
    first_session: Notify,
    /// Woken when a session leaves, or, at the end of a drain, an HTTP connection.
    session_left: Notify,
    /// HTTP connections alive.
    visits: Cell<usize>,
    /// They end with the answer they are giving.
    http_ends: Cell<bool>,
    http_ending: Notify,
    /// Woken when nothing is left to flush.
    all_flushed: Notify,
    /// Set when new sessions are refused: what they would be closed with.
    draining: Cell<Option<CloseCode>>,
    /// Frames pushed to a socket while the application is being asked about it.
    held: RefCell<Vec<Frame>>,
    /// Nothing is listed any more.
    drained: Cell<bool>,
    /// Bytes that unfinished messages hold, all sessions together.
    input_held: Cell<usize>,
    /// Bytes that the bodies of requests under way hold.
    bodies_held: Cell<usize>,
    lobby: Lobby,
    newcomers: RefCell<Newcomers>,
    /// Addresses with polling sessions; each session holds a clone.
    polling_addresses: RefCell<PerAddress>,
    read_buffer: RefCell<Box<[u8]>>,
    http: http1::Builder,
    fallback: RefCell<Option<Fallback>>,
    ping: Frame,
    epoch: Instant,
    clock: Cell<Micros>,
    started: Cell<bool>,
}

/// Sessions that have joined no namespace yet, oldest first.
#[derive(Default)]
struct Newcomers {
    waiting: usize,
    /// Wraps; no two in the queue are that far apart.
    next: u32,
    /// Slots and numbers; some have joined since, or are gone.
    queue: VecDeque<(usize, u32)>,
}

/// What the body of one request holds, until it is dropped.
pub(crate) struct HeldBody<'w> {
    all: &'w Cell<usize>,
    most: usize,
    own: usize,
}

impl HeldBody<'_> {
    /// Tells whether all bodies together are within the limit.
    pub(crate) fn grow_to(&mut self, bytes: usize) -> bool {
        self.all.set(self.all.get() - self.own + bytes);
        self.own = bytes;
        self.all.get() <= self.most
    }
}

impl Drop for HeldBody<'_> {
    fn drop(&mut self) {
        self.all.set(self.all.get() - self.own);
    }
}

impl<A: Application> Worker<A> {
    /// A server's only worker, with no connection yet. `stats` may be shared, but each worker's own is cheaper.
    pub fn new(application: Rc<A>, config: Config, stats: Arc<Stats>) -> Rc<Self> {
        let seat = seats(1).remove(0);
        Self::with_seat(application, config, stats, seat)
    }

    /// One of a server's workers; see [`seats`]. Its runtime has to run already.
    pub fn with_seat(application: Rc<A>, config: Config, stats: Arc<Stats>, seat: Seat) -> Rc<Self> {
        let wheel = Wheel::new(config.ping_interval);
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(config.header_timeout)
            .max_buf_size(config.max_head_bytes.max(8192))
            .max_headers(config.max_headers)
            // Not `pipeline_flush`: it keeps the last answer back for ever when bytes stand behind its request.
            .half_close(false);
        Rc::new(Self {
            application,
            stats,
            index: NEXT_WORKER.fetch_add(1, Relaxed),
            seat: seat.number,
            peers: seat.peers,
            inbox: RefCell::new(Some(seat.inbox)),
            sessions: RefCell::default(),
            polling: RefCell::default(),
            sockets: RefCell::default(),
            generation: Cell::new(0),
            lists: RefCell::default(),
            chores: RefCell::default(),
            flusher: RefCell::default(),
            gathered: RefCell::default(),
            ring: RefCell::new(config.batch.then(open_ring).flatten()),
            tick_length: wheel.tick(),
            wheel: RefCell::new(wheel),
            first_session: Notify::new(),
            session_left: Notify::new(),
            visits: Cell::new(0),
            http_ends: Cell::new(false),
            http_ending: Notify::new(),
            all_flushed: Notify::new(),
            draining: Cell::new(None),
            held: RefCell::default(),
            drained: Cell::new(false),
            input_held: Cell::new(0),
            bodies_held: Cell::new(0),
            lobby: Lobby::new(config.max_waiting),
            newcomers: RefCell::default(),
            polling_addresses: RefCell::default(),
            read_buffer: RefCell::new(vec![0; READ_BUFFER].into()),
            http,
            fallback: RefCell::default(),
            ping: Frame::from_parts(Opcode::Text, &[b"2"]),
            epoch: Instant::now(),
            clock: Cell::new(0),
            started: Cell::new(false),
            config,
        })
    }

    /// Answers requests that are not on our path; without one they get 404.
    pub fn set_fallback(&self, fallback: Fallback) {
        *self.fallback.borrow_mut() = Some(fallback);
    }

    /// Serves an accepted connection in a task of its own.
    pub fn accept(self: &Rc<Self>, stream: TcpStream, peer: SocketAddr) {
        self.serve(stream, peer, None, None);
    }

    /// As [`Worker::accept`], with TLS. `config` should offer `http/1.1` alone (ALPN).
    pub fn accept_tls(
        self: &Rc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        config: Arc<rustls::ServerConfig>,
    ) {
        self.serve(stream, peer, Some(config), None);
    }

    /// As [`Worker::accept`], or [`Worker::accept_tls`] with `tls`, for a connection accepted on another thread.
    /// `lease` is dropped when the connection has ended.
    ///
    /// # Errors
    /// The operating system's, when the connection cannot be registered here.
    pub fn accept_std(
        self: &Rc<Self>,
        stream: std::net::TcpStream,
        peer: SocketAddr,
        tls: Option<Arc<rustls::ServerConfig>>,
        lease: Option<Lease>,
    ) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        self.serve(TcpStream::from_std(stream)?, peer, tls, lease);
        Ok(())
    }

    fn serve(
        self: &Rc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        tls: Option<Arc<rustls::ServerConfig>>,
        lease: Option<Lease>,
    ) {
        self.start();
        add(&self.stats.accepted, 1);
        if let Err(error) = self.set_options(&stream) {
            tracing::debug!(%peer, %error, "socket options");
        }
        let worker = Rc::clone(self);
        self.spawn(async move {
            // Boxed, so that nothing of the handshakes is kept while the WebSocket lives.
            let stream = match tls {
                None => Stream::Tcp(stream),
                Some(config) => {
                    let secured = http::secure(Rc::clone(&worker), stream, peer, config);
                    let Some(stream) = Box::pin(secured).await else { return };
                    stream
                }
            };
            let served = http::serve(Rc::clone(&worker), stream, peer, lease.is_some());
            let Some(upgraded) = Box::pin(served).await else {
                return;
            };
            match upgraded.opened {
                Opened::Session { revision, handshake } => {
                    websocket::run(worker, upgraded.stream, upgraded.leftover, revision, handshake).await;
                }
                Opened::Upgrade { sid } => {
                    return worker.hand_over(&sid, upgraded.stream, upgraded.leftover, lease).await;
                }
                Opened::Refused => websocket::refuse(&upgraded.stream),
            }
            drop(lease);
        });
    }

    /// Brings an opened WebSocket to the session that changes to it.
    async fn hand_over(self: Rc<Self>, sid: &Sid, stream: Stream, leftover: Vec<u8>, lease: Option<Lease>) {
        if sid.seat() == self.seat {
            if let Some(session) = self.polling_session(sid) {
                drop(self);
                websocket::take_over(session, stream, leftover).await;
            }
            drop(lease);
        } else if let Ok(stream) = stream.detach() {
            self.run_errand(sid, Errand::Upgraded { sid: *sid, stream, leftover, lease });
        }
    }

    /// Sessions alive, closing ones included.
    pub fn connections(&self) -> usize {
        self.sessions.borrow().len()
    }

    /// The socket of this id, while it is connected.
    pub fn get(&self, id: SocketId) -> Option<Rc<Socket<A>>> {
        self.sockets.borrow().get(id.slot()).filter(|socket| socket.id() == id).cloned()
    }

    /// All sockets of this worker.
    pub fn sockets(&self) -> Vec<Rc<Socket<A>>> {
        self.sockets.borrow().iter().map(|(_, socket)| Rc::clone(socket)).collect()
    }

    pub fn application(&self) -> &Rc<A> {
        &self.application
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    pub fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// Waits until everything pushed so far has been given to the kernel, or stands behind a socket that takes
    /// no more. Whoever pushes in bulk waits here between portions, so that an outbox fills up only because its
    /// reader is slow and never because the writer was fast.
    pub async fn flushed(&self) {
        let flushed = self.all_flushed.notified();
        if !self.is_flushed() {
            flushed.await;
        }
    }

    /// Refuses new sessions, closes all with `code` after what they have queued, and waits until they are gone;
    /// what is left at the deadline is reset.
    pub async fn drain(self: &Rc<Self>, code: CloseCode, deadline: Duration) {
        self.draining.set(Some(code));
        let sessions: Vec<_> = self.sessions.borrow().iter().map(|(_, session)| Rc::clone(session)).collect();
        for session in sessions {
            session.drain(code);
        }
        let until = Instant::now() + deadline;
        let gone = async {
            while self.connections() > 0 {
                self.session_left.notified().await;
            }
        };
        if tokio::time::timeout_at(until, gone).await.is_err() {
            let left: Vec<_> = self.sessions.borrow().iter().map(|(_, session)| Rc::clone(session)).collect();
            tracing::warn!(sessions = left.len(), "reset at the drain's deadline");
            for session in left {
                session.kill();
            }
            while self.connections() > 0 {
                self.session_left.notified().await;
            }
        }
        // Answers may still be on their way out, some of them for sessions of other workers.
        self.http_ends.set(true);
        self.http_ending.notify_waiters();
        let answered = async {
            while self.visits.get() > 0 {
                self.session_left.notified().await;
            }
        };
        let until = until.min(Instant::now() + LAST_ANSWERS);
        if tokio::time::timeout_at(until, answered).await.is_err() {
            tracing::debug!(connections = self.visits.get(), "HTTP connections cut at the end of the drain");
        }
        self.give_up_lists();
    }

    /// The end of a drain: every end is told, and nothing is flushed any more. A listed session keeps its worker, and
    /// the runtime may go before the flush task's next turn.
    fn give_up_lists(&self) {
        while !self.chores.borrow().is_empty() {
            self.do_chores();
        }
        self.drained.set(true);
        let lists = std::mem::take(&mut *self.lists.borrow_mut());
        drop(lists);
        self.all_flushed.notify_waiters();
    }

    /// Waits until HTTP connections are to end with the answer they are giving.
    pub(crate) async fn http_ending(&self) {
        let ending = self.http_ending.notified();
        if !self.http_ends.get() {
            ending.await;
        }
    }

    /// An HTTP connection begins (1) or has ended (-1).
    pub(crate) fn count_visit(&self, change: isize) {
        self.visits.set(self.visits.get().saturating_add_signed(change));
        if change < 0 && self.http_ends.get() {
            self.session_left.notify_one();
        }
    }

    pub(crate) fn draining(&self) -> Option<CloseCode> {
        self.draining.get()
    }

    /// Counts the body of one request while it is gathered.
    pub(crate) fn hold_body(&self) -> HeldBody<'_> {
        HeldBody { all: &self.bodies_held, most: self.config.input_bytes, own: 0 }
    }

    /// A session has been opened and has yet to join a namespace. Has the oldest of them closed when they are too
    /// many.
    fn add_newcomer(&self, session: &Session<A>) {
        let mut newcomers = self.newcomers.borrow_mut();
        newcomers.waiting += 1;
        newcomers.next = newcomers.next.checked_add(1).unwrap_or(1);
        session.newcomer.set(NonZeroU32::new(newcomers.next));
        let entry = (session.slot.get(), newcomers.next);
        newcomers.queue.push_back(entry);
        // Whoever has joined, or is gone, stands here no longer than those before it.
        while let Some(&(slot, number)) = newcomers.queue.front() {
            let first = self.sessions.borrow().get(slot).cloned();
            let first = first.filter(|first| first.newcomer.get() == NonZeroU32::new(number));
            if first.is_some() && newcomers.waiting <= self.config.max_waiting {
                break;
            }
            newcomers.queue.pop_front();
            if let Some(first) = first {
                drop(newcomers);
                first.give_up_newcomer();
                newcomers = self.newcomers.borrow_mut();
            }
        }
    }

    /// It has joined, or is gone.
    pub(crate) fn newcomer_left(&self) {
        self.newcomers.borrow_mut().waiting -= 1;
    }

    pub(crate) fn lobby(&self) -> &Lobby {
        &self.lobby
    }

    /// A session's unfinished messages hold `now` bytes instead of `before`. Has the session that holds most
    /// closed when all together are too many: whoever holds little, as every good client, is never it.
    pub(crate) fn input_changed(&self, before: usize, now: usize) {
        self.input_held.set(self.input_held.get() - before + now);
        if now <= before {
            return;
        }
        while self.input_held.get() > self.config.input_bytes {
            let sessions = self.sessions.borrow();
            let most = sessions.iter().map(|(_, session)| session).max_by_key(|session| session.input_held());
            let Some(most) = most.filter(|session| session.input_held() > 0).cloned() else { break };
            drop(sessions);
            most.give_up_input();
        }
    }

    pub(crate) fn http(&self) -> &http1::Builder {
        &self.http
    }

    pub(crate) fn fallback(&self) -> Option<Fallback> {
        self.fallback.borrow().clone()
    }

    pub(crate) fn ping_frame(&self) -> Frame {
        self.ping.clone()
    }

    pub(crate) fn read_buffer(&self) -> RefMut<'_, Box<[u8]>> {
        self.read_buffer.borrow_mut()
    }

    fn set_options(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Some(bytes) = self.config.notsent_lowat {
            socket2::SockRef::from(stream).set_tcp_notsent_lowat(bytes)?;
        }
        Ok(())
    }

    fn start(self: &Rc<Self>) {
        if !self.started.replace(true) {
            self.spawn(Rc::clone(self).flush_loop());
            self.spawn(Rc::clone(self).keep_time());
            if let Some(inbox) = self.inbox.take() {
                self.peers.open(self.seat);
                self.spawn(Rc::clone(self).run_errands(inbox));
            }
        }
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        spawn_local(or_abort(task));
    }

    // ---- among the workers of a server ----

    pub(crate) fn seat(&self) -> u8 {
        self.seat
    }

    /// Has the owner of a session do something about it: this worker at once, another one soon.
    pub(crate) fn run_errand(self: &Rc<Self>, sid: &Sid, errand: Errand) {
        if sid.seat() == self.seat {
            polling::run_errand(self, errand);
        } else {
            add(&self.stats.handed_over, 1);
            if let Err(unsent) = self.peers.send(sid.seat(), errand) {
                unsent.refuse(http::Refusal::UnknownSid);
            }
        }
    }

    async fn run_errands(self: Rc<Self>, mut inbox: UnboundedReceiver<Errand>) {
        while let Some(errand) = inbox.recv().await {
            polling::run_errand(&self, errand);
            // What others hand over takes turns with this worker's own.
            tokio::task::yield_now().await;
        }
    }

    pub(crate) fn polling_session(&self, sid: &Sid) -> Option<Rc<Session<A>>> {
        self.polling.borrow().get(sid).cloned()
    }

    pub(crate) fn add_polling(&self, session: &Rc<Session<A>>) {
        self.polling.borrow_mut().insert(*session.sid(), Rc::clone(session));
    }

    /// What counts one more polling session of an address; `None` when it has too many.
    pub(crate) fn polling_place(&self, address: IpAddr) -> Option<Lease> {
        self.polling_addresses.borrow_mut().take(address, self.config.polling_per_address)
    }

    pub(crate) fn remove_polling(&self, sid: &Sid) {
        // Dropped after the borrow, as in `remove_session`.
        let removed = self.polling.borrow_mut().remove(sid);
        drop(removed);
    }

    // ---- who is here ----

    pub(crate) fn add_session(&self, session: &Rc<Session<A>>) {
        let mut sessions = self.sessions.borrow_mut();
        session.slot.set(sessions.insert(Rc::clone(session)));
        if sessions.len() == 1 {
            // The wheel stood still while nobody was here.
            self.wheel.borrow_mut().skip_to(self.tick());
            self.first_session.notify_one();
        }
        drop(sessions);
        self.add_newcomer(session);
        add(&self.stats.opened, 1);
        add(&self.stats.sessions, 1);
    }

    pub(crate) fn remove_session(&self, slot: usize) {
        // Dropped after the borrow: a session's end reaches back here.
        let removed = self.sessions.borrow_mut().try_remove(slot);
        if removed.is_some() {
            sub(&self.stats.sessions, 1);
            self.session_left.notify_one();
        }
    }

    /// # Panics
    /// With more than 16 million sockets on one worker.
    pub(crate) fn add_socket(&self, make: impl FnOnce(SocketId) -> Socket<A>) -> Rc<Socket<A>> {
        let generation = self.generation.get().wrapping_add(1);
        self.generation.set(generation);
        let mut sockets = self.sockets.borrow_mut();
        let entry = sockets.vacant_entry();
        assert!(entry.key() <= SocketId::MAX_SLOT, "more sockets than one worker can name");
        let socket = Rc::new(make(SocketId::new(self.index, generation, entry.key())));
        Rc::clone(entry.insert(socket))
    }

    pub(crate) fn remove_socket(&self, id: SocketId) {
        let mut sockets = self.sockets.borrow_mut();
        let removed =
            sockets.get(id.slot()).is_some_and(|socket| socket.id() == id).then(|| sockets.remove(id.slot()));
        drop(sockets);
        drop(removed);
    }

    pub(crate) fn hold(&self, frame: Frame) {
        self.held.borrow_mut().push(frame);
    }

    pub(crate) fn take_held(&self) -> Vec<Frame> {
        std::mem::take(&mut *self.held.borrow_mut())
    }

    // ---- time ----

    /// The clock as it was last read; at most one flush slice or one turn of tasks old.
    pub(crate) fn clock(&self) -> Micros {
        self.clock.get()
    }

    pub(crate) fn refresh_clock(&self) -> Micros {
        let elapsed = self.epoch.elapsed();
        // Cut to 32 bits on purpose: only differences are taken.
        let now = (elapsed.as_secs() as u32).wrapping_mul(1_000_000).wrapping_add(elapsed.subsec_micros());
        self.clock.set(now);
        now
    }

    /// The tick it is now, wherever the wheel has got to.
    pub(crate) fn tick(&self) -> Tick {
        (self.epoch.elapsed().as_nanos() / self.tick_length.as_nanos()) as Tick
    }

    pub(crate) fn tick_after(&self, start: Tick, wait: Duration) -> Tick {
        self.wheel.borrow().after(start, wait)
    }

    pub(crate) fn tick_within(&self, start: Tick, wait: Duration) -> Tick {
        self.wheel.borrow().within(start, wait)
    }

    /// Puts a session into the wheel where something of it is due first.
    pub(crate) fn schedule(&self, session: &Rc<Session<A>>) {
        let at = session.next_due();
        self.wheel.borrow_mut().schedule(session.slot.get(), &session.due, at);
    }

    async fn keep_time(self: Rc<Self>) {
        loop {
            while self.connections() == 0 {
                self.first_session.notified().await;
            }
            let until = self.tick();
            loop {
                let Some((at, slots)) = self.wheel.borrow_mut().advance(until) else { break };
                for slot in &slots {
                    let session = self.sessions.borrow().get(*slot as usize).cloned();
                    if let Some(session) = session
                        && Wheel::is_due(&session.due, at)
                    {
                        // Late or not, what is due is due by the clock: a wait that begins now is not cut.
                        let next = session.on_tick(until);
                        self.wheel.borrow_mut().schedule(session.slot.get(), &session.due, next);
                    }
                }
                self.wheel.borrow_mut().recycle(at, slots);
            }
            let next = self.tick_length.as_nanos() as u64 * (until + 1);
            tokio::time::sleep_until(self.epoch + Duration::from_nanos(next)).await;
        }
    }
}

impl<A: Application> fmt::Debug for Worker<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("index", &self.index)
            .field("connections", &self.connections())
            .finish_non_exhaustive()
    }
}

fn open_ring() -> Option<Ring> {
    Ring::new()
        .inspect_err(|error| tracing::warn!(%error, "no io_uring: each send is a call of its own"))
        .ok()
}

/// Runs a task whose panic ends the process: tokio would keep it in a handle nobody looks at, and the worker
/// would go on with half its state.
async fn or_abort<F: Future>(task: F) -> F::Output {
    struct Guard;
    impl Drop for Guard {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("a task of a socketio-server worker panicked; aborting");
                std::process::abort();
            }
        }
    }
    let mut task = std::pin::pin!(task);
    std::future::poll_fn(move |cx| {
        let guard = Guard;
        let outcome = task.as_mut().poll(cx);
        std::mem::forget(guard);
        outcome
    })
    .await
}

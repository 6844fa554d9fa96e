//! One worker: a thread with its own connections and its own shard of the index.
//!
//! Everything that can wake it from outside is a [`WorkerMessage`]. A message's path through it takes no
//! lock and touches nobody else's memory but the shared frame.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use socketio_server::{
    AckId, Application, ConnectError, ConnectRequest, Event, Lease, Reason, Socket, SocketId,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;

use crate::alerts::{AlertQueue, AlertState, Offered};
use crate::config::Rules;
use crate::delivery::{Envelope, Origin, Publication, speaker_frame};
use crate::event::ClientEvent;
use crate::handlers;
use crate::limits::Bucket;
use crate::metrics::{Metrics, Stage};
use crate::presence::{PeopleQuery, PersonRow, Pushed, Shard};
use crate::privacy::Handles;
use crate::push::PushQueue;
use crate::refusal::{Refusal, RefusalKind};
use crate::storage::{Author, Storage};
use crate::store::Store;
use crate::token::{Claims, TokenKey, now_s};
use crate::world::{PerWorld, World};

/// Everything that can wake a worker from outside.
#[derive(Debug)]
pub enum WorkerMessage {
    Accepted {
        stream: std::net::TcpStream,
        peer: SocketAddr,
        tls: Option<Arc<rustls::ServerConfig>>,
        /// Ends with the connection.
        lease: Option<Lease>,
    },
    /// Stored messages, in order.
    Published(Vec<Envelope>),
    /// A message that was not stored.
    Refused {
        origin: Origin,
        kind: RefusalKind,
    },
    /// From this worker to itself: a `store` to be acknowledged behind what is queued.
    Stored(handlers::store::Stored),
    /// All of this world's publications up to `noted` have been seen before this.
    Fence {
        world: World,
        socket: SocketId,
        noted: u64,
    },
    People(PeopleQuestion),
    /// No new connections or messages; everything queued goes out, then everybody is asked to come back.
    Drain {
        deadline: Duration,
    },
}

/// Another worker wants to know who is near a place.
#[derive(Debug)]
pub struct PeopleQuestion {
    pub(crate) query: PeopleQuery,
    pub(crate) answer: oneshot::Sender<Vec<PersonRow>>,
}

/// What all workers share.
pub(crate) struct Shared {
    pub(crate) rules: Rules,
    pub(crate) key: TokenKey,
    pub(crate) handles: Handles,
    pub(crate) stores: PerWorld<Store>,
    pub(crate) storages: PerWorld<Arc<dyn Storage>>,
    pub(crate) push: PushQueue,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) workers: Vec<UnboundedSender<WorkerMessage>>,
}

/// The chat on one worker.
pub(crate) struct Chat {
    pub(crate) number: usize,
    pub(crate) shared: Arc<Shared>,
    shards: PerWorld<RefCell<Shard>>,
    pub(crate) sockets: RefCell<Weak<socketio_server::Worker<Chat>>>,
    alerts: AlertQueue,
    /// The highest `idx` of each world taken up here.
    last_taken: PerWorld<Cell<u64>>,
    people: PerWorld<prometheus_client::metrics::gauge::Gauge>,
    /// Reused between messages.
    slots: RefCell<Vec<u32>>,
}

impl std::fmt::Debug for Chat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chat").field("number", &self.number).finish_non_exhaustive()
    }
}

/// What the chat keeps per connection.
#[derive(Default)]
pub(crate) struct Connection {
    pub(crate) binding: RefCell<Option<Binding>>,
    /// The last token that was accepted, so the same bytes are not verified twice.
    pub(crate) verified: RefCell<Option<(Box<str>, Claims)>>,
    pub(crate) geo: Cell<GeoAnswers>,
    pub(crate) catching_up: RefCell<Option<handlers::store::CatchUp>>,
    bucket: Cell<Option<Bucket>>,
    alert: RefCell<AlertState>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

/// The user and world a connection belongs to, from its first valid token on.
#[derive(Debug, Clone)]
pub(crate) struct Binding {
    pub(crate) world: World,
    pub(crate) author: Author,
    /// In the shard's people, once it has stored.
    pub(crate) slot: Option<u32>,
}

/// At most one `geo` answer a second.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct GeoAnswers {
    pub(crate) last: Option<Instant>,
    pub(crate) waiting: bool,
}

/// How an event is answered.
pub(crate) struct Reply<'a> {
    pub(crate) socket: &'a Rc<Socket<Chat>>,
    pub(crate) ack: Option<AckId>,
}

impl Reply<'_> {
    /// The ack, when one was asked for.
    pub(crate) fn ok(&self, body: &serde_json::Value) {
        if let Some(ack) = self.ack {
            self.socket.ack(ack, &body.to_string());
        }
    }
}

/// Tells a client no: in the ack, or as `exception` where none was asked.
pub(crate) fn refuse(socket: &Rc<Socket<Chat>>, ack: Option<AckId>, refusal: &Refusal, metrics: &Metrics) {
    metrics.refused(refusal.kind);
    let body = refusal.body().to_string();
    match ack {
        Some(ack) => socket.ack(ack, &body),
        None => socket.emit("exception", &body),
    }
}

impl Application for Chat {
    type Data = Connection;

    fn connect(&self, socket: &Rc<Socket<Self>>, request: &ConnectRequest<'_>) -> Result<(), ConnectError> {
        if request.namespace != "/" {
            return Err(ConnectError::unknown_namespace());
        }
        let Some(token) = handshake_token(request.auth) else { return Ok(()) };
        let refused = |refusal: &Refusal| {
            self.shared.metrics.refused(refusal.kind);
            ConnectError::new(refusal.message.clone()).with_data(refusal.body().to_string())
        };
        let claims = self.verify(socket.data(), &token).map_err(|refusal| refused(&refusal))?;
        // An ordinary token may still become the test world's with its first event.
        if claims.test {
            self.bind(socket, &claims, World::Test);
        }
        Ok(())
    }

    fn event(&self, socket: &Rc<Socket<Self>>, event: Event<'_>) {
        let reply = Reply { socket, ack: event.ack };
        if let Err(refusal) = self.handle(&reply, &event) {
            refuse(socket, event.ack, &refusal, &self.shared.metrics);
        }
    }

    fn disconnect(&self, socket: &Rc<Socket<Self>>, _reason: &Reason) {
        let binding = socket.data().binding.borrow_mut().take();
        if let Some(Binding { world, slot: Some(slot), .. }) = binding {
            self.shard(world).borrow_mut().leave(slot);
            self.people.get(world).dec();
        }
    }
}

impl Chat {
    pub(crate) fn new(number: usize, shared: Arc<Shared>, shards: PerWorld<Shard>) -> Rc<Self> {
        let people = PerWorld::new(|world| shared.metrics.people(world));
        Rc::new(Self {
            number,
            shared,
            shards: PerWorld { live: RefCell::new(shards.live), test: RefCell::new(shards.test) },
            sockets: RefCell::default(),
            alerts: AlertQueue::default(),
            last_taken: PerWorld::default(),
            people,
            slots: RefCell::default(),
        })
    }

    pub(crate) fn shard(&self, world: World) -> &RefCell<Shard> {
        self.shards.get(world)
    }

    pub(crate) fn socket(&self, id: SocketId) -> Option<Rc<Socket<Self>>> {
        self.sockets.borrow().upgrade()?.get(id)
    }

    pub(crate) fn last_taken(&self, world: World) -> u64 {
        self.last_taken.get(world).get()
    }

    pub(crate) fn joined(&self, world: World) {
        self.people.get(world).inc();
    }

    fn handle(&self, reply: &Reply<'_>, event: &Event<'_>) -> Result<(), Refusal> {
        let start = Instant::now();
        self.take_event(reply.socket.data(), start)?;
        let parsed = ClientEvent::parse(event.name, event.payload.args);
        self.shared.metrics.observe(Stage::Parse, start.elapsed());
        match parsed? {
            ClientEvent::Store(store) => handlers::store::handle(self, reply, &store),
            ClientEvent::Update { answer, store } => handlers::update::handle(self, reply, answer, &store),
            ClientEvent::SaveMsg(save) => handlers::save_msg::handle(self, reply, save, start),
            ClientEvent::NotBuilt(name) => Err(handlers::unknown::not_built(name)),
            ClientEvent::Unknown(name) => Err(handlers::unknown::unknown(&name)),
        }
    }

    /// The connection's own limit.
    fn take_event(&self, connection: &Connection, now: Instant) -> Result<(), Refusal> {
        let Some(rate) = self.shared.rules.per_connection else { return Ok(()) };
        let mut bucket = connection.bucket.get().unwrap_or_else(|| Bucket::full(rate, now));
        let taken = bucket.take(rate, now);
        connection.bucket.set(Some(bucket));
        if taken { Ok(()) } else { Err(RefusalKind::TooManyEvents.into()) }
    }

    /// Checks signature and expiry; the same bytes are not verified twice.
    fn verify(&self, connection: &Connection, token: &str) -> Result<Claims, Refusal> {
        let known = connection.verified.borrow().as_ref().filter(|(text, _)| **text == *token).cloned();
        let claims = match known {
            Some((_, claims)) => claims,
            None => self.shared.key.verify(token)?,
        };
        if claims.expired(now_s()) {
            return Err(RefusalKind::TokenExpired.into());
        }
        let mut verified = connection.verified.borrow_mut();
        // Also the handshake's, though nothing may have been asked with it yet.
        if verified.as_ref().is_some_and(|(_, first)| first.idx != claims.idx) {
            return Err(RefusalKind::OtherUser.into());
        }
        if verified.as_ref().is_none_or(|(text, _)| **text != *token) {
            *verified = Some((token.into(), claims.clone()));
        }
        Ok(claims)
    }

    /// Who asks and in which world: from the payload's token, else the connection's. Binds an unbound one.
    ///
    /// `test`: the event's own flag.
    pub(crate) fn authorize(
        &self,
        socket: &Rc<Socket<Self>>,
        token: Option<&str>,
        test: Option<bool>,
    ) -> Result<Binding, Refusal> {
        let connection = socket.data();
        let claims = match token {
            Some(token) => self.verify(connection, token)?,
            None => {
                let known = connection.verified.borrow().as_ref().map(|(_, claims)| claims.clone());
                let claims = known.ok_or(RefusalKind::TokenMissing)?;
                if claims.expired(now_s()) {
                    return Err(RefusalKind::TokenExpired.into());
                }
                claims
            }
        };
        let bound = connection.binding.borrow().clone();
        let world = self.world(&claims, test, bound.as_ref().map(|binding| binding.world))?;
        match bound {
            Some(binding) if binding.world == world => Ok(binding),
            Some(_) => Err(RefusalKind::OtherWorld.into()),
            None => Ok(self.bind(socket, &claims, world)),
        }
    }

    fn world(&self, claims: &Claims, test: Option<bool>, bound: Option<World>) -> Result<World, Refusal> {
        if claims.test {
            return Ok(World::Test);
        }
        match test {
            Some(true) if self.shared.rules.test_world_open => Ok(World::Test),
            Some(true) => Err(RefusalKind::TestWorldClosed.into()),
            Some(false) => Ok(World::Live),
            None => Ok(bound.unwrap_or(World::Live)),
        }
    }

    fn bind(&self, socket: &Rc<Socket<Self>>, claims: &Claims, world: World) -> Binding {
        let author = Author {
            idx: claims.idx,
            nickname: claims
                .nickname
                .clone()
                .map_or_else(|| format!("user-{}", claims.idx).into(), Into::into),
            avatar: claims.avatar.clone().map(Into::into),
            anonymity: claims.anonymity.unwrap_or(false),
        };
        let binding = Binding { world, author, slot: None };
        *socket.data().binding.borrow_mut() = Some(binding.clone());
        binding
    }

    /// Takes up what the store has published; answers how many hear it here.
    fn deliver(&self, envelope: &Envelope) -> u64 {
        let start = Instant::now();
        self.shared.metrics.observe(Stage::Queue, start.saturating_duration_since(envelope.published_at));
        let publication = &envelope.publication;
        let new_msg = publication.new_msg.copied();
        let place = publication.stored.message.position;
        let last_taken = self.last_taken.get(envelope.world);
        last_taken.set(last_taken.get().max(publication.stored.idx));
        let mut shard = self.shard(envelope.world).borrow_mut();
        let mut slots = self.slots.borrow_mut();
        let mut delivered = 0;

        let own = envelope.origin.filter(|origin| origin.worker == self.number);
        let author = own.and_then(|origin| Some((self.socket(origin.socket)?, origin.ack)));
        let own_slot = author.as_ref().and_then(|(socket, ack)| {
            // The ack goes before the sender's own copy.
            if let Some(ack) = ack {
                socket.ack(
                    *ack,
                    &format!(
                        r#"{{"status":201,"message":"Save Message Successfully","result":{}}}"#,
                        publication.result.get()
                    ),
                );
            }
            let slot = socket.data().binding.borrow().as_ref().and_then(|binding| binding.slot);
            delivered += 1;
            match slot.and_then(|slot| shard.get_mut(slot)) {
                Some(person) => count_push(person.receive(publication, &new_msg), socket),
                None => socket.push(&new_msg),
            }
            slot
        });

        slots.clear();
        shard.who_hears(place, &mut slots);
        for &slot in slots.iter().filter(|slot| Some(**slot) != own_slot) {
            let Some(person) = shard.get_mut(slot) else { continue };
            let pushed = person.receive(publication, &new_msg);
            if matches!(pushed, Pushed::HeldTooMany) {
                count_push(pushed, &person.socket);
            } else {
                delivered += 1;
            }
        }
        if let Some(reach_m) = publication.reach_m {
            slots.clear();
            shard.who_is_in(place, reach_m, &mut slots);
            for &slot in slots.iter().filter(|slot| Some(**slot) != own_slot) {
                if let Some(person) = shard.get(slot) {
                    self.alert(envelope.world, &person.socket, publication, start);
                }
            }
        }
        self.shared.metrics.delivered(envelope.world, delivered);
        self.shared.metrics.observe(Stage::Match, start.elapsed());
        delivered
    }

    fn alert(&self, world: World, socket: &Rc<Socket<Self>>, publication: &Arc<Publication>, now: Instant) {
        let interval = self.shared.rules.alert_interval;
        let offered = socket.data().alert.borrow_mut().offer(publication, now, interval);
        match offered {
            Offered::SendNow => self.send_alert(world, socket, publication, 0),
            Offered::WaitUntil(at) => self.alerts.push(at, socket.id()),
            Offered::Folded => {}
        }
    }

    fn send_alert(
        &self,
        world: World,
        socket: &Rc<Socket<Self>>,
        publication: &Arc<Publication>,
        folded: u64,
    ) {
        socket.push(&speaker_frame(publication, folded));
        self.shared.metrics.alerts.inc();
        self.shared.metrics.alerts_folded.inc_by(folded);
        if let Some(user) = socket.data().binding.borrow().as_ref().map(|binding| binding.author.idx) {
            self.shared.push.offer(world, user, publication, folded);
        }
    }

    /// Sends held alerts as they fall due; never ends.
    async fn run_alerts(&self) {
        loop {
            let due = self.alerts.next_due().await;
            let now = Instant::now();
            for id in due {
                let Some(socket) = self.socket(id) else { continue };
                let waited = socket.data().alert.borrow_mut().take_due(now);
                let world = socket.data().binding.borrow().as_ref().map(|binding| binding.world);
                if let (Some((publication, folded)), Some(world)) = (waited, world) {
                    self.send_alert(world, &socket, &publication, folded);
                }
            }
        }
    }

    fn take(self: &Rc<Self>, message: WorkerMessage) {
        match message {
            WorkerMessage::Accepted { stream, peer, tls, lease } => {
                if let Some(worker) = self.sockets.borrow().upgrade()
                    && let Err(error) = worker.accept_std(stream, peer, tls, lease)
                {
                    tracing::warn!(%error, "an accepted connection could not be served");
                }
            }
            WorkerMessage::Refused { origin, kind } => {
                if let Some(socket) = self.socket(origin.socket) {
                    refuse(&socket, origin.ack, &kind.into(), &self.shared.metrics);
                }
            }
            WorkerMessage::Stored(stored) => handlers::store::acknowledge(self, &stored),
            WorkerMessage::Fence { world, socket, noted } => {
                handlers::store::fence(self, world, socket, noted);
            }
            WorkerMessage::People(PeopleQuestion { query, answer }) => {
                let rows = self.shard(query.world).borrow().people_near(&query, &self.shared.handles);
                let _ = answer.send(rows);
            }
            // Taken by `run` itself.
            WorkerMessage::Published(_) | WorkerMessage::Drain { .. } => {}
        }
    }
}

fn count_push(pushed: Pushed, socket: &Rc<Socket<Chat>>) {
    if matches!(pushed, Pushed::HeldTooMany) {
        socket.close(crate::config::SLOW_CLOSE, "too much held back while catching up");
    }
}

/// `auth.token`, when there is one.
fn handshake_token(auth: &str) -> Option<String> {
    let auth: serde_json::Value = serde_json::from_str(auth).ok()?;
    auth.get("token")?.as_str().map(str::to_owned)
}

/// Most messages taken from the queue at once.
const MESSAGES_A_TURN: usize = 64;
/// After a message with this many hearers the sockets get their turn.
const CROWD: u64 = 1024;
/// After this many bytes for one outbox everything is flushed first: an outbox fills up because its reader
/// is slow, never because messages came in one go.
const BYTES_UNFLUSHED: usize = 64 << 10;

/// Runs a worker until it has drained. `waiting` counts the publications it has not taken up.
pub(crate) async fn run(
    chat: Rc<Chat>,
    worker: Rc<socketio_server::Worker<Chat>>,
    mut queue: UnboundedReceiver<WorkerMessage>,
    waiting: &AtomicUsize,
) {
    *chat.sockets.borrow_mut() = Rc::downgrade(&worker);
    let alerts = tokio::task::spawn_local({
        let chat = chat.clone();
        async move { chat.run_alerts().await }
    });
    let mut messages = Vec::with_capacity(MESSAGES_A_TURN);
    let mut unflushed = 0;
    let deadline = 'running: loop {
        if queue.recv_many(&mut messages, MESSAGES_A_TURN).await == 0 {
            break Duration::ZERO;
        }
        if worker.is_flushed() {
            unflushed = 0;
        }
        for message in messages.drain(..) {
            match message {
                WorkerMessage::Published(envelopes) => {
                    for envelope in &envelopes {
                        waiting.fetch_sub(1, Ordering::Relaxed);
                        let delivered = chat.deliver(envelope);
                        // The author's outbox takes the result twice, in the ack and in its copy.
                        unflushed += 2 * envelope.publication.new_msg.len();
                        if unflushed >= BYTES_UNFLUSHED {
                            worker.flushed().await;
                            unflushed = 0;
                        } else if delivered >= CROWD {
                            tokio::task::yield_now().await;
                        }
                    }
                }
                WorkerMessage::Drain { deadline } => break 'running deadline,
                other => chat.take(other),
            }
        }
        // Lets this turn's frames be flushed before the next ones are appended.
        tokio::task::yield_now().await;
    };
    alerts.abort();
    worker.drain(socketio_server::CloseCode::SERVICE_RESTART, deadline).await;
}

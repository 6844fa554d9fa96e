//! One Socket.IO connection.

use std::future::poll_fn;
use std::num::NonZeroU32;
use std::ops::ControlFlow;
use std::pin::pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use socketio_wire::engineio::{Revision, handshake, packet as engine};
use socketio_wire::socketio::packet::{self, Packet, PacketType};
use socketio_wire::websocket::frame::Opcode;

use crate::buffers;
use crate::error::{Cause, Closed, ConnectError, Stage, Stages};
use crate::heartbeat::{Beat, Heartbeat};
use crate::http::Head;
use crate::net::{Progress, Route};
use crate::options::{Options, Timeouts, Transport};
use crate::polling::Polling;
use crate::session::{Session, sample};
use crate::upgrade::Upgrade;
use crate::websocket::{self, Connection, Stop, encode_masked};

/// A connect that succeeded.
#[derive(Debug)]
pub struct Connected {
    /// The connection, its first namespace connected.
    pub client: Client,
    /// How long each stage took.
    pub stages: Stages,
    /// The session id of the Engine.IO handshake.
    pub sid: String,
    /// Raw JSON that came with the reply to CONNECT (Engine.IO 4: `{"sid":...}`), else empty.
    pub namespace_data: String,
    /// What came before that reply; hardly ever anything.
    pub early: Vec<Message>,
}

/// Connects to the server and to the namespace of `options`.
///
/// # Errors
/// Names the stage and the cause; nothing is left open.
pub async fn connect(options: &Options) -> Result<Connected, ConnectError> {
    // Boxed: this future is kilobytes, and a task that awaits it would keep that room while it lives.
    Box::pin(connect_in_stages(options)).await
}

async fn connect_in_stages(options: &Options) -> Result<Connected, ConnectError> {
    let mut progress = Progress::new(&options.endpoint, &options.timeouts);
    if let Err(cause) = check(options) {
        return Err(progress.failure(Stage::Namespace, cause));
    }
    let (link, open) = match options.transport {
        Transport::WebSocket => open_websocket(&mut progress, options).await?,
        Transport::Polling | Transport::PollingThenWebSocket => open_polling(&mut progress, options).await?,
    };
    let mut heartbeat =
        Heartbeat::new(options.revision, open.ping_interval_ms, open.ping_timeout_ms, Instant::now());
    heartbeat.count_late(options.late_heartbeats.clone());
    let session = Session::new(options.revision, heartbeat, options.max_payload);
    let mut client = Client { link, session, timeouts: options.timeouts, upgrade: None };

    let mut early = Vec::new();
    let query = options.encoded_query();
    let namespace_data = {
        let auth = match options.revision {
            Revision::V4 => options.auth.as_deref(),
            Revision::V3 => Some(query.as_str()).filter(|query| !query.is_empty()),
        };
        let join = client.join(&options.namespace, auth, |incoming| early.push(incoming.to_message()));
        progress.run(Stage::Namespace, join).await?
    };
    Ok(Connected { client, stages: progress.stages(), sid: open.sid, namespace_data, early })
}

async fn open_websocket(
    progress: &mut Progress<'_>,
    options: &Options,
) -> Result<(Link, handshake::Handshake), ConnectError> {
    let target = options.target("websocket", options.revision);
    let head = Head { authority: &options.endpoint.authority, target: &target, headers: &options.headers };
    let route = Route::of(options);
    let (mut connection, _) = Connection::establish(progress, route, &head, &[], options.max_payload).await?;
    let open = progress.run(Stage::Handshake, open_packet(&mut connection)).await?;
    Ok((Link::WebSocket(connection), open))
}

async fn open_polling(
    progress: &mut Progress<'_>,
    options: &Options,
) -> Result<(Link, handshake::Handshake), ConnectError> {
    let stream = progress.open(Route::of(options)).await?;
    let mut polling = Box::new(Polling::new(options, stream, progress.address()));
    let open = progress.run(Stage::Polling, polling.open()).await?;
    Ok((Link::Polling(polling), open))
}

fn check(options: &Options) -> Result<(), Cause> {
    check_namespace(&options.namespace)?;
    match &options.auth {
        Some(auth) => check_auth(options.revision, auth),
        None => Ok(()),
    }
}

fn check_namespace(namespace: &str) -> Result<(), Cause> {
    if namespace.starts_with('/') && !namespace.contains([',', '?']) {
        return Ok(());
    }
    Err(Cause::Options(format!("namespace {namespace:?} has to begin with / and be without , and ?")))
}

fn check_auth(revision: Revision, auth: &str) -> Result<(), Cause> {
    let fits = match revision {
        Revision::V4 => serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(auth).is_ok(),
        Revision::V3 => true,
    };
    if fits { Ok(()) } else { Err(Cause::Options("`auth` is not a JSON object".into())) }
}

/// Waits for the first packet, which has to be `open`.
async fn open_packet(connection: &mut Connection) -> Result<handshake::Handshake, Cause> {
    let mut first = None;
    while first.is_none() {
        poll_fn(|cx| {
            connection.poll_messages(cx, |message, _, _| {
                first = Some(match message {
                    websocket::Message::Text(text) => decode_open(text),
                    websocket::Message::Binary(_) => Err("a binary message".to_owned()),
                    websocket::Message::Pong(_) => return ControlFlow::Continue(()),
                });
                ControlFlow::Break(Stop::Visitor)
            })
        })
        .await?;
    }
    first
        .expect("the loop ends with it")
        .map_err(|found| Cause::Protocol(format!("expected the Engine.IO open packet, got {found}")))
}

fn decode_open(text: &str) -> Result<handshake::Handshake, String> {
    match engine::decode_text(text) {
        Ok((engine::PacketType::Open, data)) => {
            handshake::decode(data).map_err(|error| format!("{:?} ({error})", sample(text)))
        }
        _ => Err(format!("{:?}", sample(text))),
    }
}

/// One packet for the application, lent from the read buffer for the length of a visit.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a> {
    /// What it is.
    pub kind: Kind,
    /// Its namespace; `/` when it names none.
    pub namespace: &'a str,
    /// Of an event: the id the server wants acknowledged. Of an ack: the id of our emit.
    pub ack: Option<u64>,
    /// Raw JSON, of which only the first byte has been looked at: of an event `["name",...]`, of an ack
    /// `[...]`; may be empty for the others.
    pub data: &'a str,
    /// Binary attachments, by the number of their placeholder in `data`.
    pub attachments: &'a [Bytes],
    /// When the bytes were read from the socket, before anything was looked at.
    pub received: Instant,
}

impl<'a> Incoming<'a> {
    /// The event's name, straight from the bytes; `None` for another kind of packet, and for a name that is
    /// no string or has an escape in it (`socketio_wire::socketio::packet::event_args` reads those).
    pub fn event_name(&self) -> Option<&'a str> {
        if self.kind != Kind::Event {
            return None;
        }
        let name = self.data.strip_prefix('[')?.trim_ascii_start().strip_prefix('"')?;
        // No JSON string holds a quote without a backslash before it.
        let end = name.bytes().position(|byte| matches!(byte, b'"' | b'\\'))?;
        (name.as_bytes()[end] == b'"').then_some(&name[..end])
    }

    /// A copy to keep.
    pub fn to_message(&self) -> Message {
        Message {
            kind: self.kind,
            namespace: self.namespace.to_owned(),
            ack: self.ack,
            data: self.data.to_owned(),
            attachments: self.attachments.to_vec(),
            received: self.received,
        }
    }
}

/// What an [`Incoming`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A server's event.
    Event,
    /// The answer to an emit of ours.
    Ack,
    /// A namespace is connected.
    Connect,
    /// A namespace was refused.
    ConnectError,
    /// The server disconnected a namespace. The connection itself may live on.
    Disconnect,
}

/// A packet for the application that owns its bytes.
#[derive(Clone, Debug)]
pub struct Message {
    /// See [`Incoming::kind`].
    pub kind: Kind,
    /// See [`Incoming::namespace`].
    pub namespace: String,
    /// See [`Incoming::ack`].
    pub ack: Option<u64>,
    /// See [`Incoming::data`].
    pub data: String,
    /// See [`Incoming::attachments`].
    pub attachments: Vec<Bytes>,
    /// See [`Incoming::received`].
    pub received: Instant,
}

impl Message {
    /// As a visitor sees it.
    pub fn as_incoming(&self) -> Incoming<'_> {
        Incoming {
            kind: self.kind,
            namespace: &self.namespace,
            ack: self.ack,
            data: &self.data,
            attachments: &self.attachments,
            received: self.received,
        }
    }
}

/// One Socket.IO connection. Dropping it drops the TCP connection without a word, as a client does that
/// loses its network; see [`Client::close`].
///
/// Heartbeats are kept while any waiting method is polled, so a client that only sends has to visit too.
/// Waiting methods are safe to cancel: put them in `select!` or under a timeout at will.
#[derive(Debug)]
pub struct Client {
    link: Link,
    session: Session,
    timeouts: Timeouts,
    /// Not yet asked for.
    upgrade: Option<Box<Upgrade>>,
}

/// How bytes travel at present.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // the large one is the common one, and is not to cost an allocation
enum Link {
    WebSocket(Connection),
    /// Boxed: large, and never in the way of a WebSocket.
    Polling(Box<Polling>),
}

impl Link {
    fn last_read(&self) -> Instant {
        match self {
            Link::WebSocket(connection) => connection.last_read(),
            Link::Polling(polling) => polling.last_read(),
        }
    }

    /// A slow reader hears nothing while it does not read, which is no silence of the server's.
    fn silent_since(&self) -> Instant {
        let pace = match self {
            Link::WebSocket(connection) => connection.pace(),
            Link::Polling(polling) => polling.pace(),
        };
        pace.map_or(self.last_read(), |pace| self.last_read().max(pace.next()))
    }

    fn fail(&mut self, closed: Closed) -> Closed {
        match self {
            Link::WebSocket(connection) => connection.fail(closed),
            Link::Polling(polling) => polling.fail(closed),
        }
    }

    async fn finish_send(&mut self) -> Result<(), Closed> {
        match self {
            Link::WebSocket(connection) => connection.finish_send().await,
            // Boxed: this future is large, and a WebSocket's user should not keep room for it.
            Link::Polling(polling) => Box::pin(polling.finish_send()).await,
        }
    }

    /// Engine.IO 3's heartbeat.
    fn send_ping(&mut self) -> Result<(), Closed> {
        match self {
            Link::WebSocket(connection) => {
                let mut frame = Vec::with_capacity(8);
                encode_masked(Opcode::Text, b"2", &mut frame);
                connection.submit(&frame)
            }
            Link::Polling(polling) => polling.submit_ping(),
        }
    }
}

/// Appends the text of an EVENT packet, Engine.IO type included: fit for [`Client::send_raw`].
/// `args` is the JSON of the arguments, comma-separated without brackets; may be empty.
pub fn encode_event(namespace: &str, ack: Option<u64>, event: &str, args: &str, out: &mut Vec<u8>) {
    engine::encode_text(engine::PacketType::Message, "", out);
    packet::encode_event(namespace, ack, event, args, out);
}

impl Client {
    /// Waits once for the connection to be readable, then hands every whole packet already there to `visit`,
    /// until it breaks (the rest stays for the next call). Answers how many were visited, at least 1.
    ///
    /// # Errors
    /// How the connection ended. Packets before the end have been visited.
    pub async fn for_each_ready(
        &mut self,
        mut visit: impl FnMut(Incoming<'_>) -> ControlFlow<()>,
    ) -> Result<usize, Closed> {
        poll_fn(|cx| self.poll_for_each_ready(cx, &mut visit)).await
    }

    /// The polled form of [`Client::for_each_ready`].
    pub fn poll_for_each_ready(
        &mut self,
        cx: &mut Context<'_>,
        mut visit: impl FnMut(Incoming<'_>) -> ControlFlow<()>,
    ) -> Poll<Result<usize, Closed>> {
        let mut visited = 0;
        loop {
            let Self { link, session, .. } = self;
            let mut count = |incoming: Incoming<'_>| {
                visited += 1;
                visit(incoming)
            };
            let polled = match link {
                Link::WebSocket(connection) => connection.poll_messages(cx, |message, at, replies| {
                    session.receive(message, at, replies, &mut count)
                }),
                Link::Polling(polling) => polling.poll_packets(cx, session, &mut count),
            };
            match polled {
                Poll::Ready(Ok(())) => {
                    if session.heartbeat.ping_is_due(link.last_read()) {
                        // What has been visited counts first; a failure answers the next call.
                        let _ = link.send_ping();
                    }
                    if let Link::Polling(polling) = link
                        && let Some((mut connection, upgrade)) = polling.changed()
                    {
                        connection.set_read_rate(polling.read_rate());
                        *link = Link::WebSocket(connection);
                        self.upgrade = Some(upgrade);
                    }
                    if visited > 0 {
                        return Poll::Ready(Ok(visited));
                    }
                }
                Poll::Ready(Err(closed)) => return Poll::Ready(Err(closed)),
                Poll::Pending => match ready!(session.heartbeat.poll(cx, link.silent_since())) {
                    Beat::Dead => return Poll::Ready(Err(link.fail(Closed::PingTimeout))),
                    Beat::Ping => link.send_ping()?,
                },
            }
        }
    }

    /// Visits packets as they come until `visit` breaks with a value (what follows stays for the next call)
    /// or the connection ends.
    ///
    /// # Errors
    /// How the connection ended.
    pub async fn visit<B>(
        &mut self,
        mut visit: impl FnMut(Incoming<'_>) -> ControlFlow<B>,
    ) -> Result<B, Closed> {
        let mut value = None;
        loop {
            self.for_each_ready(|incoming| visit(incoming).map_break(|found| value = Some(found))).await?;
            if let Some(value) = value.take() {
                return Ok(value);
            }
        }
    }

    /// Visits packets, and keeps the heartbeat, until `until` is done: what a pause is made of.
    ///
    /// # Errors
    /// How the connection ended, if that came first.
    pub async fn visit_while<T>(
        &mut self,
        until: impl Future<Output = T>,
        mut visit: impl FnMut(Incoming<'_>),
    ) -> Result<T, Closed> {
        let mut until = pin!(until);
        poll_fn(|cx| {
            loop {
                if let Poll::Ready(done) = until.as_mut().poll(cx) {
                    return Poll::Ready(Ok(done));
                }
                ready!(self.poll_for_each_ready(cx, |incoming| {
                    visit(incoming);
                    ControlFlow::Continue(())
                }))?;
            }
        })
        .await
    }

    /// The next packet, copied. For where comfort matters more than speed.
    ///
    /// # Errors
    /// How the connection ended.
    pub async fn next(&mut self) -> Result<Message, Closed> {
        self.visit(|incoming| ControlFlow::Break(incoming.to_message())).await
    }

    /// Sends an event. `args` as for [`encode_event`].
    ///
    /// # Errors
    /// How the connection ended. A send that the server's slowness holds up longer than `timeouts.send` ends it.
    pub async fn emit(&mut self, namespace: &str, event: &str, args: &str) -> Result<(), Closed> {
        self.send_packet(|out| packet::encode_event(namespace, None, event, args, out)).await
    }

    /// Sends an event that asks for an ack; answers the id that the ack will carry.
    ///
    /// # Errors
    /// As [`Client::emit`].
    pub async fn emit_with_ack(&mut self, namespace: &str, event: &str, args: &str) -> Result<u64, Closed> {
        let id = self.next_ack_id();
        self.send_packet(|out| packet::encode_event(namespace, Some(id), event, args, out)).await?;
        Ok(id)
    }

    /// Sends an event whose `data` (the whole JSON array, name first) is ready. `ack` as
    /// [`Client::next_ack_id`] gave it.
    ///
    /// # Errors
    /// As [`Client::emit`].
    pub async fn emit_json(&mut self, namespace: &str, ack: Option<u64>, data: &str) -> Result<(), Closed> {
        let packet = Packet { ack, ..Packet::new(PacketType::Event, namespace, data) };
        self.send_packet(|out| packet::encode(&packet, out)).await
    }

    /// As [`Client::emit_json`], with binary attachments whose placeholders `{"_placeholder":true,"num":n}`
    /// stand in `data`. Text and attachments leave in one write.
    ///
    /// # Errors
    /// As [`Client::emit`].
    pub async fn emit_binary(
        &mut self,
        namespace: &str,
        ack: Option<u64>,
        data: &str,
        attachments: &[Bytes],
    ) -> Result<(), Closed> {
        let count = attachments.len() as u32;
        let packet =
            Packet { ack, attachments: count, ..Packet::new(PacketType::BinaryEvent, namespace, data) };
        let revision = self.session.revision;
        let connection = match &mut self.link {
            Link::WebSocket(connection) => connection,
            Link::Polling(polling) => {
                let mut text = Vec::with_capacity(64 + data.len());
                engine::encode_text(engine::PacketType::Message, "", &mut text);
                packet::encode(&packet, &mut text);
                polling.submit_binary(&text, attachments)?;
                return self.link.finish_send().await;
            }
        };
        buffers::with_frame_buffer(|frames| {
            buffers::with_text_buffer(|text| {
                engine::encode_text(engine::PacketType::Message, "", text);
                packet::encode(&packet, text);
                encode_masked(Opcode::Text, text, frames);
                for attachment in attachments {
                    text.clear();
                    engine::encode_binary(revision, engine::PacketType::Message, attachment, text);
                    encode_masked(Opcode::Binary, text, frames);
                }
            });
            connection.submit(frames)
        })?;
        self.link.finish_send().await
    }

    /// Answers an event that asked for an ack. `args` as for [`encode_event`].
    ///
    /// # Errors
    /// As [`Client::emit`].
    pub async fn send_ack(&mut self, namespace: &str, id: u64, args: &str) -> Result<(), Closed> {
        self.send_packet(|out| packet::encode_ack(namespace, id, args, out)).await
    }

    /// An ack id nobody used on this connection.
    pub fn next_ack_id(&mut self) -> u64 {
        self.session.next_ack_id()
    }

    /// Sends one ready Engine.IO text packet (such as `42["hi"]`, UTF-8) as one frame in one write.
    ///
    /// # Errors
    /// As [`Client::emit`].
    pub async fn send_raw(&mut self, packet: &[u8]) -> Result<(), Closed> {
        self.submit_raw(packet)?;
        self.link.finish_send().await
    }

    /// [`Client::send_raw`] that never waits: what the system does not take is kept and leaves while the
    /// client is visited. See [`Client::buffered_bytes`].
    ///
    /// # Errors
    /// How the connection ended.
    pub fn submit_raw(&mut self, packet: &[u8]) -> Result<(), Closed> {
        match &mut self.link {
            Link::WebSocket(connection) => buffers::with_frame_buffer(|frames| {
                encode_masked(Opcode::Text, packet, frames);
                connection.submit(frames)
            }),
            Link::Polling(polling) => polling.submit(packet),
        }
    }

    async fn send_packet(&mut self, encode: impl FnOnce(&mut Vec<u8>)) -> Result<(), Closed> {
        self.submit_packet(encode)?;
        self.link.finish_send().await
    }

    fn submit_packet(&mut self, encode: impl FnOnce(&mut Vec<u8>)) -> Result<(), Closed> {
        buffers::with_text_buffer(|text| {
            engine::encode_text(engine::PacketType::Message, "", text);
            encode(text);
            self.submit_raw(text)
        })
    }

    /// Connects a further namespace and answers the raw JSON of the reply. `auth` is the raw JSON of an object
    /// (Engine.IO 4) or an encoded query without `?` (Engine.IO 3). Packets that come before the reply go to `others`.
    ///
    /// # Errors
    /// Always of [`Stage::Namespace`]; a refusal leaves the connection as it was.
    pub async fn connect_namespace(
        &mut self,
        namespace: &str,
        auth: Option<&str>,
        others: impl FnMut(Incoming<'_>),
    ) -> Result<String, ConnectError> {
        let began = Instant::now();
        let limit = self.timeouts.stage;
        let outcome = tokio::time::timeout(limit, self.join(namespace, auth, others)).await;
        outcome.unwrap_or(Err(Cause::Timeout(limit))).map_err(|cause| {
            let stages = Stages { namespace: began.elapsed(), ..Stages::default() };
            let endpoint = match self.addresses() {
                Ok((_, peer)) => peer.to_string(),
                Err(_) => String::new(),
            };
            ConnectError::new(Stage::Namespace, cause, stages, endpoint)
        })
    }

    async fn join(
        &mut self,
        namespace: &str,
        auth: Option<&str>,
        mut others: impl FnMut(Incoming<'_>),
    ) -> Result<String, Cause> {
        check_namespace(namespace)?;
        if let Some(auth) = auth {
            check_auth(self.session.revision, auth)?;
        }
        // An Engine.IO 3 server connects the default namespace unasked.
        if self.session.revision == Revision::V4 {
            let packet = Packet::new(PacketType::Connect, namespace, auth.unwrap_or_default());
            self.send_packet(|out| packet::encode(&packet, out)).await?;
        } else if namespace != packet::DEFAULT_NAMESPACE {
            let query = auth.unwrap_or_default();
            let packet = Packet { query, ..Packet::new(PacketType::Connect, namespace, "") };
            self.send_packet(|out| packet::encode(&packet, out)).await?;
        }
        self.visit(|incoming| match incoming.kind {
            Kind::Connect if incoming.namespace == namespace => {
                ControlFlow::Break(Ok(incoming.data.to_owned()))
            }
            Kind::ConnectError if incoming.namespace == namespace => {
                ControlFlow::Break(Err(refusal(incoming.data)))
            }
            _ => {
                others(incoming);
                ControlFlow::Continue(())
            }
        })
        .await?
    }

    /// Leaves one namespace with a DISCONNECT packet; the connection stays.
    ///
    /// # Errors
    /// As [`Client::emit`].
    pub async fn disconnect_namespace(&mut self, namespace: &str) -> Result<(), Closed> {
        self.session.forget_namespace(namespace);
        let packet = Packet::new(PacketType::Disconnect, namespace, "");
        self.send_packet(|out| packet::encode(&packet, out)).await
    }

    /// Closes as the official clients do: DISCONNECT for each namespace and an empty WebSocket close frame (one
    /// write), while polling an Engine.IO `close` (one post); then waits for the server's close frame, or for the
    /// answers to the post and the poll, at most `timeouts.close`. What still arrives goes to `visit`. Answers [`Closed::Local`],
    /// [`Closed::Unsent`] where posts stayed without an answer, or how the connection had ended already.
    pub async fn close_visiting(self, mut visit: impl FnMut(Incoming<'_>)) -> Closed {
        let Self { link, mut session, .. } = self;
        let farewell: Vec<String> = (session.namespaces())
            .map(|namespace| {
                let mut text = Vec::with_capacity(16);
                engine::encode_text(engine::PacketType::Message, "", &mut text);
                packet::encode(&Packet::new(PacketType::Disconnect, namespace, ""), &mut text);
                String::from_utf8(text).expect("namespaces are UTF-8")
            })
            .collect();
        let mut visit = |incoming: Incoming<'_>| {
            visit(incoming);
            ControlFlow::Continue(())
        };
        match link {
            Link::WebSocket(mut connection) => {
                let mut frames = Vec::with_capacity(32);
                for packet in &farewell {
                    encode_masked(Opcode::Text, packet.as_bytes(), &mut frames);
                }
                encode_masked(Opcode::Close, &[], &mut frames);
                let visit = |message: websocket::Message<'_>, at, replies: &mut Vec<u8>| {
                    session.receive(message, at, replies, &mut visit)
                };
                connection.close_with(&frames, visit).await
            }
            // Boxed: so that a WebSocket's user keeps no room for it.
            Link::Polling(polling) => Box::pin(polling.close_with(&mut session, &farewell, visit)).await,
        }
    }

    /// [`Client::close_visiting`] that drops what still arrives.
    pub async fn close(self) -> Closed {
        self.close_visiting(|_| ()).await
    }

    /// Ends the connection with a TCP reset, as a client does that loses power or is killed.
    pub fn abort(self) {
        match self.link {
            Link::WebSocket(connection) => connection.abort(),
            Link::Polling(polling) => polling.reset_on_drop(),
        }
    }

    /// From now on reads at most so many bytes a second; `None`: as fast as they come. Over a WebSocket in small pieces,
    /// while polling by asking for more only when what came last has been paid for. What is not read stays in the
    /// kernel's buffers, and when they are full with the server. Not visiting at all reads nothing.
    pub fn set_read_rate(&mut self, bytes_per_second: Option<NonZeroU32>) {
        match &mut self.link {
            Link::WebSocket(connection) => connection.set_read_rate(bytes_per_second),
            Link::Polling(polling) => polling.set_read_rate(bytes_per_second),
        }
    }

    /// For a reader that will be slow on purpose: when it finds a heartbeat says nothing about the server, so from now on
    /// none of this connection is counted as late. See [`Options::late_heartbeats`].
    pub fn ignore_late_heartbeats(&mut self) {
        self.session.heartbeat.count_late(None);
    }

    /// Whether the namespace is connected: the server has said so, and has not taken it away since.
    pub fn is_connected(&self, namespace: &str) -> bool {
        self.session.namespaces().any(|known| known == namespace)
    }

    /// The revision spoken.
    pub fn revision(&self) -> Revision {
        self.session.revision
    }

    /// The addresses of this end and of the server.
    ///
    /// # Errors
    /// As the system's `getsockname` and `getpeername`.
    pub fn addresses(&self) -> std::io::Result<(std::net::SocketAddr, std::net::SocketAddr)> {
        match &self.link {
            Link::WebSocket(connection) => connection.addresses(),
            Link::Polling(polling) => polling.addresses(),
        }
    }

    /// Bytes held for this client beside the kernel's: read but incomplete, and sent but not taken.
    pub fn buffered_bytes(&self) -> usize {
        match &self.link {
            Link::WebSocket(connection) => connection.buffered_bytes(),
            Link::Polling(polling) => polling.buffered_bytes(),
        }
    }

    /// While polling: how many packets were given to be posted, and how many of those (the first ones) stood in posts
    /// that the server has answered. `None` over a WebSocket.
    pub fn posted(&self) -> Option<(u64, u64)> {
        match &self.link {
            Link::WebSocket(_) => None,
            Link::Polling(polling) => Some(polling.posted()),
        }
    }

    /// How many bytes the kernel takes for this connection before the server has to wait, about. It keeps what it has
    /// taken already; while polling it is the poll's connection of the moment.
    ///
    /// # Errors
    /// As the system's `setsockopt`.
    pub fn limit_receive_buffer(&self, bytes: usize) -> std::io::Result<()> {
        match &self.link {
            Link::WebSocket(connection) => connection.limit_receive_buffer(bytes),
            Link::Polling(polling) => polling.limit_receive_buffer(bytes),
        }
    }

    /// How bytes travel at present: [`Transport::WebSocket`] or [`Transport::Polling`].
    pub fn transport(&self) -> Transport {
        match &self.link {
            Link::WebSocket(_) => Transport::WebSocket,
            Link::Polling(_) => Transport::Polling,
        }
    }

    /// What became of the change from polling to WebSocket; told once. `None` where none was tried, and while
    /// it is under way, which it is only while the client is visited.
    pub fn take_upgrade(&mut self) -> Option<Upgrade> {
        let upgrade = match &mut self.link {
            Link::WebSocket(_) => self.upgrade.take(),
            Link::Polling(polling) => polling.take_upgrade(),
        };
        upgrade.map(|upgrade| *upgrade)
    }
}

/// What a CONNECT_ERROR says: `{"message":...}`, in Engine.IO 3 any JSON, most often a string.
fn refusal(payload: &str) -> Cause {
    let message = match serde_json::from_str(payload) {
        Ok(serde_json::Value::String(text)) => Some(text),
        Ok(serde_json::Value::Object(mut object)) => match object.remove("message") {
            Some(serde_json::Value::String(text)) => Some(text),
            _ => None,
        },
        _ => None,
    };
    let message = message.unwrap_or_else(|| sample(payload).to_owned());
    Cause::Refused { message, payload: payload.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_name_is_found_without_parsing() {
        let rows = [
            (Kind::Event, r#"["new_msg",{"a":"b"}]"#, Some("new_msg")),
            (Kind::Event, r#"[ "spaced" ]"#, Some("spaced")),
            (Kind::Event, r#"["길"]"#, Some("길")),
            (Kind::Event, r#"["",1]"#, Some("")),
            (Kind::Event, r#"["es\"caped"]"#, None),
            (Kind::Event, r#"[7,"number"]"#, None),
            (Kind::Event, r#"["open"#, None),
            (Kind::Event, "[", None),
            (Kind::Ack, r#"["not an event"]"#, None),
        ];
        for (kind, data, expected) in rows {
            let incoming = Incoming {
                kind,
                namespace: "/",
                ack: None,
                data,
                attachments: &[],
                received: Instant::now(),
            };
            assert_eq!(incoming.event_name(), expected, "{data}");
        }
    }

    #[test]
    fn a_refusal_is_put_into_words() {
        let rows = [
            (r#"{"message":"no","data":{"x":1}}"#, "refused: no"),
            (r#""Authentication error""#, "refused: Authentication error"),
            (r#"{"code":7}"#, r#"refused: {"code":7}"#),
            ("", "refused: "),
        ];
        for (payload, expected) in rows {
            assert_eq!(refusal(payload).to_string(), expected);
        }
    }
}

//! HTTP on an accepted socket: requests on our path become sessions, others go to the fallback service.
//!
//! ```text
//! GET <path>?EIO=3|4&transport=websocket     upgrade -> a session
//!                                   &sid=..  upgrade -> a polling session changes to it
//! GET, POST <path>?...&transport=polling             -> see `polling`
//! OPTIONS <path>                                     -> what other origins' pages may do
//! anything else on <path>                            -> HTTP 4xx {"code":n,"message":text}
//! ```

use std::cell::RefCell;
use std::convert::Infallible;
use std::error::Error;
use std::future::{Future as _, poll_fn};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HOST, HeaderMap, HeaderName,
    HeaderValue, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE, VARY,
};
use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1::Parts;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use socketio_wire::engineio::Revision;
use socketio_wire::websocket::upgrade::{accept_key, is_client_key};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::application::Application;
use crate::config::{Cors, Revisions};
use crate::handshake::{Handshake, query_value};
use crate::lobby::Guest;
use crate::reason::HttpFault;
use crate::session::Sid;
use crate::stats::add;
use crate::transport::polling::{self, Answer};
use crate::transport::stream::{Read, Stream};
use crate::worker::Worker;

/// Body of a response.
pub type Body = UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>;

/// Answers every request that is not on our path. The request carries its [`Peer`] as an extension.
pub type Fallback = Rc<dyn Fn(Request<Incoming>) -> LocalBoxFuture<'static, Response<Body>>>;

/// The TCP peer of a request, found among its extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// A WebSocket ready to run, HTTP left behind.
pub(crate) struct Upgraded {
    pub(crate) stream: Stream,
    pub(crate) leftover: Vec<u8>,
    pub(crate) opened: Opened,
}

/// What a WebSocket was opened for.
pub(crate) enum Opened {
    Session {
        revision: Revision,
        handshake: Handshake,
    },
    /// A session that polls changes to it.
    Upgrade {
        sid: Sid,
    },
    /// A session has one already; this one is only closed, as a client may expect that looks at nothing else.
    Refused,
}

/// What the request of an upgrade leaves for the time after the answer.
struct Pending {
    opened: Opened,
}

/// Whom a connection comes from.
#[derive(Clone, Copy)]
struct Caller {
    address: SocketAddr,
    /// Its address may not have as many as it likes.
    is_counted: bool,
}

/// Serves HTTP on `stream` until it ends (`None`) or has become a WebSocket. `is_counted`: the polling sessions of
/// this address are limited.
pub(crate) async fn serve<A: Application>(
    worker: Rc<Worker<A>>,
    stream: Stream,
    peer: SocketAddr,
    is_counted: bool,
) -> Option<Upgraded> {
    let peer = Caller { address: peer, is_counted };
    let pending = Rc::new(RefCell::new(None));
    let visit = Rc::new(Visit::begin(&worker));
    let service = {
        let (worker, pending, visit) = (Rc::clone(&worker), Rc::clone(&pending), Rc::clone(&visit));
        service_fn(move |request| {
            let (worker, pending, visit) = (Rc::clone(&worker), Rc::clone(&pending), Rc::clone(&visit));
            async move {
                visit.leave_lobby();
                let response = route(&worker, &pending, peer, request).await;
                visit.enter_lobby();
                Ok::<_, Infallible>(response)
            }
        })
    };
    let mut connection = worker.http().serve_connection(TokioIo::new(stream), service);
    let mut ending = pin!(worker.http_ending());
    let mut is_ending = false;
    let over = poll_fn(|cx| {
        if !is_ending && ending.as_mut().poll(cx).is_ready() {
            is_ending = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        Pin::new(&mut connection).poll(cx)
    });
    let ended = tokio::select! {
        // A request that has just begun goes before the lobby's wish for its place.
        biased;
        ended = over => ended.map_err(|error| {
            tracing::debug!(peer = %peer.address, %error, "HTTP connection ended");
            fault_of(&error)
        }),
        fault = visit.fault() => Err(Some(fault)),
    };
    let Parts { io, read_buf, .. } = connection.into_parts();
    let stream = io.into_inner();
    let fault = match (ended, pending.take()) {
        (Ok(()), Some(Pending { opened })) => {
            return Some(Upgraded { stream, leftover: read_buf.to_vec(), opened });
        }
        (Ok(()), None) => None,
        (Err(fault), _) => fault,
    };
    if let Some(fault) = fault {
        worker.stats().count_http_fault(fault);
    }
    if matches!(fault, Some(HttpFault::Idle | HttpFault::TooManyWaiting)) {
        return None;
    }
    // The lobby may need the place while the peer is listened to for its last words.
    tokio::select! {
        () = farewell(&worker, &stream, fault, !read_buf.is_empty()) => {}
        () = visit.guest.turned_out() => {}
    }
    None
}

/// The TLS handshake before any HTTP. `None` when it fails or takes too long, or the lobby needs the place.
pub(crate) async fn secure<A: Application>(
    worker: Rc<Worker<A>>,
    stream: TcpStream,
    peer: SocketAddr,
    config: Arc<ServerConfig>,
) -> Option<Stream> {
    let visit = Visit::begin(&worker);
    let limit = worker.config().header_timeout;
    let secured = tokio::select! {
        secured = timeout(limit, Stream::accept_tls(stream, config)) => secured,
        () = visit.guest.turned_out() => {
            worker.stats().count_http_fault(HttpFault::TooManyWaiting);
            return None;
        }
    };
    match secured.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(stream) => Some(stream),
        Err(error) => {
            add(&worker.stats().tls_failed, 1);
            tracing::debug!(%peer, %error, "TLS handshake failed");
            None
        }
    }
}

/// A connection's stay in the worker's lobby: there while no request of it is being answered.
struct Visit<A: Application> {
    worker: Rc<Worker<A>>,
    guest: Rc<Guest>,
}

impl<A: Application> Visit<A> {
    fn begin(worker: &Rc<Worker<A>>) -> Self {
        let visit = Self { worker: Rc::clone(worker), guest: Rc::default() };
        worker.count_visit(1);
        visit.enter_lobby();
        visit
    }

    fn enter_lobby(&self) {
        self.worker.lobby().enter(&self.guest);
    }

    fn leave_lobby(&self) {
        self.worker.lobby().leave(&self.guest);
    }

    /// Waits until the connection has to go for what the HTTP library does not see.
    async fn fault(&self) -> HttpFault {
        let config = self.worker.config();
        let turned_out = async {
            // One that was turned out and has begun a request since may answer it.
            loop {
                self.guest.turned_out().await;
                if !self.guest.is_answering() {
                    break;
                }
            }
        };
        tokio::select! {
            () = turned_out => HttpFault::TooManyWaiting,
            () = self.guest.overstayed(config.header_timeout + config.body_timeout) => HttpFault::Idle,
        }
    }
}

impl<A: Application> Drop for Visit<A> {
    fn drop(&mut self) {
        self.leave_lobby();
        self.worker.count_visit(-1);
    }
}

/// What the HTTP library's error says of the peer; `None` when it only went away.
fn fault_of(error: &hyper::Error) -> Option<HttpFault> {
    if error.is_timeout() {
        Some(HttpFault::HeadTimeout)
    } else if error.is_parse_version_h2() {
        Some(HttpFault::Http2)
    } else if error.is_parse_too_large() {
        Some(HttpFault::HeadTooLarge)
    } else if error.is_parse() {
        Some(HttpFault::Malformed)
    } else {
        None
    }
}

/// Most bytes, and the longest time, a connection that has ended is still read from.
const FAREWELL_BYTES: usize = 256 << 10;
const FAREWELL_TIME: Duration = Duration::from_secs(1);

/// Ends a connection so that its answer arrives: one closed with unread bytes is reset, and a reset takes
/// away what the peer has not read. `begun`: a part of a request has come.
async fn farewell<A: Application>(
    worker: &Worker<A>,
    stream: &Stream,
    fault: Option<HttpFault>,
    begun: bool,
) {
    // The library has answered the others itself.
    let answer: &[u8] = match fault {
        Some(HttpFault::HeadTimeout) if begun => {
            b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        }
        Some(HttpFault::Http2) => {
            b"HTTP/1.1 505 HTTP Version Not Supported\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        }
        _ => b"",
    };
    if !answer.is_empty() {
        // Where the socket takes nothing nobody reads.
        let _ = stream.write(&[IoSlice::new(answer)]);
    }
    stream.finish();
    let listening = async {
        let mut left = FAREWELL_BYTES;
        while left > 0 && poll_fn(|cx| stream.poll_read_ready(cx)).await.is_ok() {
            match stream.receive(&mut worker.read_buffer()) {
                Ok((Read::Over, _)) | Err(_) => return,
                Ok((Read::Again | Read::Wait, length)) => left = left.saturating_sub(length),
            }
        }
    };
    let _ = tokio::time::timeout(FAREWELL_TIME, listening).await;
}

async fn route<A: Application>(
    worker: &Rc<Worker<A>>,
    pending: &RefCell<Option<Pending>>,
    peer: Caller,
    mut request: Request<Incoming>,
) -> Response<Body> {
    let path = &worker.config().path;
    let ours = request.uri().path() == path || Some(request.uri().path()) == path.strip_suffix('/');
    if !ours {
        request.extensions_mut().insert(Peer(peer.address));
        let Some(fallback) = worker.fallback() else { return text(StatusCode::NOT_FOUND, "not found\n") };
        return match tokio::time::timeout(worker.config().body_timeout, fallback(request)).await {
            Ok(response) => response,
            Err(_) => {
                worker.stats().count_http_fault(HttpFault::BodyTimeout);
                Refusal::Slow.response()
            }
        };
    }
    let origin = request.headers().get(ORIGIN).cloned();
    let mut response = if request.method() == Method::OPTIONS {
        preflight()
    } else {
        serve_ours(worker, pending, peer, request).await.unwrap_or_else(|refusal| {
            add(&worker.stats().refused, 1);
            if let Some(fault) = refusal.fault() {
                worker.stats().count_http_fault(fault);
            }
            refusal.response()
        })
    };
    allow_origin(&worker.config().cors, origin.as_ref(), response.headers_mut());
    response
}

/// Answers a request on our path, in the order in which the official server looks at one.
async fn serve_ours<A: Application>(
    worker: &Rc<Worker<A>>,
    pending: &RefCell<Option<Pending>>,
    peer: Caller,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let query = request.uri().query().unwrap_or("");
    let sid = query_value(query, "sid").filter(|sid| !sid.is_empty());
    match query_value(query, "transport").as_deref() {
        Some("websocket") => {
            let sid = sid.map(|sid| Sid::from_query(&sid).ok_or(Refusal::UnknownSid)).transpose()?;
            open_websocket(worker, pending, peer, request, sid).await
        }
        Some("polling") if worker.config().polling => {
            if query_value(query, "j").is_some() {
                return Err(Refusal::Jsonp);
            }
            match sid {
                None => {
                    let revision = new_session(worker, &request)?;
                    let (parts, _) = request.into_parts();
                    let opened = polling::open(
                        worker,
                        revision,
                        Handshake::new(peer.address, &parts),
                        peer.is_counted,
                    );
                    opened.await.map(answered)
                }
                Some(sid) => {
                    let sid = Sid::from_query(&sid).ok_or(Refusal::UnknownSid)?;
                    match *request.method() {
                        Method::GET => polling::wait(worker, sid).await.map(answered),
                        Method::POST => {
                            polling::take(worker, sid, request).await.map(|()| text(StatusCode::OK, "ok"))
                        }
                        _ => Err(Refusal::BadRequest),
                    }
                }
            }
        }
        _ => Err(Refusal::UnknownTransport),
    }
}

/// Whether a request may open a session, and in which revision.
fn new_session<A: Application>(worker: &Worker<A>, request: &Request<Incoming>) -> Result<Revision, Refusal> {
    if worker.draining().is_some() {
        return Err(Refusal::Draining);
    }
    if request.method() != Method::GET {
        return Err(Refusal::BadMethod);
    }
    revision(worker, request)
}

fn revision<A: Application>(worker: &Worker<A>, request: &Request<Incoming>) -> Result<Revision, Refusal> {
    let query = request.uri().query().unwrap_or("");
    let asked = query_value(query, "EIO").and_then(|value| Revision::from_query(&value));
    match (asked, worker.config().revisions) {
        (Some(Revision::V3), Revisions::Both | Revisions::Only3) => Ok(Revision::V3),
        (Some(Revision::V4), Revisions::Both | Revisions::Only4) => Ok(Revision::V4),
        _ => Err(Refusal::UnsupportedRevision),
    }
}

async fn open_websocket<A: Application>(
    worker: &Rc<Worker<A>>,
    pending: &RefCell<Option<Pending>>,
    peer: Caller,
    request: Request<Incoming>,
    sid: Option<Sid>,
) -> Result<Response<Body>, Refusal> {
    let revision = if sid.is_none() { new_session(worker, &request)? } else { revision(worker, &request)? };
    let headers = request.headers();
    let wants_upgrade =
        has_token(headers, &CONNECTION, "upgrade") && has_token(headers, &UPGRADE, "websocket");
    // RFC 6455 section 4.2.1 asks for all of these.
    let is_complete = wants_upgrade && request.version() >= Version::HTTP_11 && headers.contains_key(HOST);
    if !is_complete || request.method() != Method::GET {
        return Err(Refusal::BadRequest);
    }
    if only(headers, &SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(Refusal::WebsocketVersion);
    }
    let key = only(headers, &SEC_WEBSOCKET_KEY).and_then(|key| key.to_str().ok());
    let accept = accept_key(key.filter(|key| is_client_key(key)).ok_or(Refusal::BadRequest)?);
    let opened = match sid {
        None => {
            let (parts, _) = request.into_parts();
            Opened::Session { revision, handshake: Handshake::new(peer.address, &parts) }
        }
        Some(sid) if polling::begin_upgrade(worker, sid, revision).await? => Opened::Upgrade { sid },
        Some(_) => Opened::Refused,
    };
    *pending.borrow_mut() = Some(Pending { opened });
    Ok(switching(&accept))
}

fn answered(answer: Answer) -> Response<Body> {
    let mut response = text(StatusCode::OK, answer.body);
    if answer.is_bytes {
        let kind = HeaderValue::from_static("application/octet-stream");
        response.headers_mut().insert(CONTENT_TYPE, kind);
    }
    response
}

/// The value of a header field that may come only once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// Whether a comma-separated header field holds `token`, in any case.
fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|part| part.trim().eq_ignore_ascii_case(token))
}

/// Why a request on our path was refused. Codes and texts are the official server's as far as it has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    UnknownTransport,
    UnknownSid,
    BadMethod,
    BadRequest,
    /// Scripts in place of responses: what browsers without CORS needed.
    Jsonp,
    UnsupportedRevision,
    /// The body of a POST is larger than the limit.
    TooLarge,
    /// The body of a POST did not arrive in time.
    Slow,
    /// The bodies of all requests under way hold too much memory.
    Full,
    /// The address has too many polling sessions.
    TooMany,
    /// RFC 6455 section 4.4: name the version that is spoken.
    WebsocketVersion,
    Draining,
}

impl Refusal {
    fn fault(self) -> Option<HttpFault> {
        match self {
            Refusal::TooLarge => Some(HttpFault::BodyTooLarge),
            Refusal::Slow => Some(HttpFault::BodyTimeout),
            Refusal::Full => Some(HttpFault::BodiesFull),
            Refusal::TooMany => Some(HttpFault::TooManySessions),
            _ => None,
        }
    }

    fn response(self) -> Response<Body> {
        let (code, message) = match self {
            Refusal::UnknownTransport => (0, "Transport unknown"),
            Refusal::UnknownSid => (1, "Session ID unknown"),
            Refusal::BadMethod => (2, "Bad handshake method"),
            Refusal::BadRequest | Refusal::WebsocketVersion => (3, "Bad request"),
            Refusal::Jsonp => (3, "JSONP is not served: use polling without the parameter j, or a WebSocket"),
            Refusal::UnsupportedRevision => (5, "Unsupported protocol version"),
            Refusal::TooLarge => return text(StatusCode::PAYLOAD_TOO_LARGE, "body too large\n"),
            Refusal::Slow => return text(StatusCode::REQUEST_TIMEOUT, "body too slow\n"),
            Refusal::TooMany => return text(StatusCode::TOO_MANY_REQUESTS, "too many sessions\n"),
            Refusal::Full => return text(StatusCode::SERVICE_UNAVAILABLE, "busy\n"),
            Refusal::Draining => return text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        };
        let mut response =
            text(StatusCode::BAD_REQUEST, format!(r#"{{"code":{code},"message":"{message}"}}"#));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self == Refusal::WebsocketVersion {
            headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
        }
        response
    }
}

fn switching(accept: &str) -> Response<Body> {
    let mut response = text(StatusCode::SWITCHING_PROTOCOLS, "");
    let headers = response.headers_mut();
    headers.clear();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(accept) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    response
}

fn preflight() -> Response<Body> {
    let mut response = text(StatusCode::NO_CONTENT, "");
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("Content-Type, Authorization"));
    response
}

fn allow_origin(cors: &Cors, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
    match (cors, origin) {
        (Cors::Off, _) => {}
        (Cors::Any, _) => {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        }
        (Cors::Origins(allowed), origin) => {
            headers.insert(VARY, HeaderValue::from_static("Origin"));
            if let Some(origin) = origin
                && allowed.iter().any(|known| known.as_bytes() == origin.as_bytes())
            {
                headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
                headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
            }
        }
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    let body = Full::new(body.into()).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=UTF-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

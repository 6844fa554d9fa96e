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
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
    ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE, VARY,
};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use socketio_wire::engineio::Revision;
use socketio_wire::websocket::upgrade::{accept_key, is_client_key};
use tokio::net::TcpStream;

use crate::application::Application;
use crate::config::{Cors, Revisions};
use crate::handshake::{Handshake, query_value};
use crate::session::Sid;
use crate::stats::add;
use crate::transport::polling::{self, Answer};
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
    pub(crate) stream: TcpStream,
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
    upgrade: OnUpgrade,
    opened: Opened,
}

/// Serves HTTP on `stream` until it ends (`None`) or has become a WebSocket.
pub(crate) async fn serve<A: Application>(
    worker: Rc<Worker<A>>,
    stream: TcpStream,
    peer: SocketAddr,
) -> Option<Upgraded> {
    let pending = Rc::new(RefCell::new(None));
    let service = {
        let (worker, pending) = (Rc::clone(&worker), Rc::clone(&pending));
        service_fn(move |request| {
            let (worker, pending) = (Rc::clone(&worker), Rc::clone(&pending));
            async move { Ok::<_, Infallible>(route(&worker, &pending, peer, request).await) }
        })
    };
    let connection = worker.http().serve_connection(TokioIo::new(stream), service).with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!(%peer, %error, "HTTP connection ended");
    }
    let Pending { upgrade, opened } = pending.take()?;
    let parts = match upgrade.await.map(hyper::upgrade::Upgraded::downcast::<TokioIo<TcpStream>>) {
        Ok(Ok(parts)) => parts,
        // The peer went before the answer was written; or not our own type, which cannot be.
        Ok(Err(_)) | Err(_) => return None,
    };
    Some(Upgraded { stream: parts.io.into_inner(), leftover: parts.read_buf.to_vec(), opened })
}

async fn route<A: Application>(
    worker: &Rc<Worker<A>>,
    pending: &RefCell<Option<Pending>>,
    peer: SocketAddr,
    mut request: Request<Incoming>,
) -> Response<Body> {
    let path = &worker.config().path;
    let ours = request.uri().path() == path || Some(request.uri().path()) == path.strip_suffix('/');
    if !ours {
        request.extensions_mut().insert(Peer(peer));
        return match worker.fallback() {
            Some(fallback) => fallback(request).await,
            None => text(StatusCode::NOT_FOUND, "not found\n"),
        };
    }
    let origin = request.headers().get(ORIGIN).cloned();
    let mut response = if request.method() == Method::OPTIONS {
        preflight()
    } else {
        serve_ours(worker, pending, peer, request).await.unwrap_or_else(|refusal| {
            add(&worker.stats().refused, 1);
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
    peer: SocketAddr,
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
                    let opened = polling::open(worker, revision, Handshake::new(peer, &parts));
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
    peer: SocketAddr,
    mut request: Request<Incoming>,
    sid: Option<Sid>,
) -> Result<Response<Body>, Refusal> {
    let revision = if sid.is_none() { new_session(worker, &request)? } else { revision(worker, &request)? };
    let headers = request.headers();
    let wants_upgrade =
        has_token(headers, &CONNECTION, "upgrade") && has_token(headers, &UPGRADE, "websocket");
    if !wants_upgrade || request.method() != Method::GET {
        return Err(Refusal::BadRequest);
    }
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(Refusal::WebsocketVersion);
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).and_then(|key| key.to_str().ok());
    let accept = accept_key(key.filter(|key| is_client_key(key)).ok_or(Refusal::BadRequest)?);
    let upgrade = hyper::upgrade::on(&mut request);
    let opened = match sid {
        None => {
            let (parts, _) = request.into_parts();
            Opened::Session { revision, handshake: Handshake::new(peer, &parts) }
        }
        Some(sid) if polling::begin_upgrade(worker, sid, revision).await? => Opened::Upgrade { sid },
        Some(_) => Opened::Refused,
    };
    *pending.borrow_mut() = Some(Pending { upgrade, opened });
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
    /// RFC 6455 section 4.4: name the version that is spoken.
    WebsocketVersion,
    Draining,
}

impl Refusal {
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

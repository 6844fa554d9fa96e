//! The HTTP side of a user: hyper's client connections, one kept alive for each user unless `http.pool` says otherwise.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use cookie_store::CookieStore;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use url::Url;

use crate::capture::Answer;
use crate::flow::{ExpectationKind, HttpAction, full_url, path_of};
use crate::metrics::{Count, StepId, Time};
use crate::script::model::{Expectation, HttpBody};
use crate::script::template::{Template, text_of};
use crate::virtual_user::{Failed, Person, Shared, Worker};

type Sender = SendRequest<Full<Bytes>>;

/// Artillery's client gives up after as many.
const MOST_REDIRECTS: usize = 10;
/// A body that is kept for captures may be this long; more is counted and dropped.
const MOST_KEPT_BODY: usize = 16 << 20;

/// The servers one thread talks to.
#[derive(Debug)]
pub(crate) struct Origins {
    known: RefCell<Vec<Rc<Origin>>>,
    /// Sockets to each server for all users of this thread, with `http.pool`.
    pool: Option<usize>,
    user_agent: HeaderValue,
}

/// A server: scheme, host and port.
#[derive(Debug)]
struct Origin {
    secure: bool,
    host: String,
    port: u16,
    authority: HeaderValue,
    /// Asked once; a load test is about the server, not about DNS.
    addresses: RefCell<Vec<SocketAddr>>,
    pool: Option<Pool>,
}

#[derive(Debug)]
struct Pool {
    permits: Semaphore,
    idle: RefCell<Vec<Link>>,
}

/// One connection. Dropping the sender ends its task, which leaves the open socket in `parked`, without hyper's
/// buffers (30 kB): a user that will ask for nothing more keeps its connection as a client with keep-alive does.
struct Link {
    sender: Sender,
    parked: Rc<RefCell<Option<Stream>>>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

impl Origins {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        let pool =
            shared.script.config.http.pool.map(|sockets| sockets.div_ceil(shared.workers.max(1)).max(1));
        let origins = Self {
            known: RefCell::default(),
            pool,
            user_agent: HeaderValue::from_static(concat!("drumfire/", env!("CARGO_PKG_VERSION"))),
        };
        if let Ok(url) = Url::parse(&shared.script.config.target)
            && let Some(origin) = origins.get(&url)
        {
            *origin.addresses.borrow_mut() = shared.addresses.clone();
        }
        origins
    }

    fn get(&self, url: &Url) -> Option<Rc<Origin>> {
        let secure = url.scheme() == "https";
        let (host, port) = (url.host_str()?, url.port_or_known_default()?);
        let mut known = self.known.borrow_mut();
        if let Some(origin) =
            known.iter().find(|one| one.port == port && one.secure == secure && one.host == host)
        {
            return Some(Rc::clone(origin));
        }
        let authority = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let origin = Rc::new(Origin {
            secure,
            host: host.to_owned(),
            port,
            authority: HeaderValue::from_str(&authority).ok()?,
            addresses: RefCell::default(),
            pool: self
                .pool
                .map(|sockets| Pool { permits: Semaphore::new(sockets), idle: RefCell::default() }),
        });
        known.push(Rc::clone(&origin));
        Some(origin)
    }
}

/// What one user keeps between its requests.
#[derive(Default)]
pub(crate) struct Session {
    open: Vec<(Rc<Origin>, Link)>,
    /// Connections kept open for their own sake.
    parked: Vec<Rc<RefCell<Option<Stream>>>>,
    /// Made by the first cookie.
    jar: Option<Box<CookieStore>>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("open", &self.open.len()).finish_non_exhaustive()
    }
}

impl Session {
    pub(crate) fn has_cookies(&self, url: &Url) -> bool {
        self.jar.as_ref().is_some_and(|jar| jar.get_request_values(url).next().is_some())
    }

    /// The jar's cookies for a handshake go behind the script's own.
    pub(crate) fn add_cookies(&self, url: &Url, headers: &mut Vec<(String, String)>) {
        let Some(jar) = &self.jar else { return };
        let cookies: Vec<String> =
            jar.get_request_values(url).map(|(name, value)| format!("{name}={value}")).collect();
        if cookies.is_empty() {
            return;
        }
        let cookies = cookies.join("; ");
        match headers.iter_mut().find(|(name, _)| name.eq_ignore_ascii_case("cookie")) {
            Some((_, own)) => *own = format!("{own}; {cookies}"),
            None => headers.push(("Cookie".to_owned(), cookies)),
        }
    }
}

/// A request that got no answer: what operators call it, and what happened in words.
#[derive(Debug)]
struct NoAnswer {
    code: String,
    cause: String,
    /// The peer closed an idle connection before it saw the request, so another may be tried.
    again: bool,
}

impl NoAnswer {
    fn new(code: impl Into<String>, cause: impl Into<String>) -> Self {
        Self { code: code.into(), cause: cause.into(), again: false }
    }

    fn io(stage: &str, error: &std::io::Error) -> Self {
        let name = socketio_client::io_text(error);
        Self::new(name.clone(), format!("{stage}: {name}"))
    }

    fn hyper(error: &hyper::Error) -> Self {
        let io = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
        let mut failure = match io {
            Some(io) => Self::io("exchange", io),
            None if error.is_incomplete_message() => {
                Self::new("ECONNRESET", "connection closed before the answer")
            }
            None if error.is_parse() => Self::new("HPE_INVALID", format!("not an HTTP answer: {error}")),
            None => Self::new("ECONNRESET", format!("connection closed: {error}")),
        };
        failure.again = error.is_canceled();
        failure
    }
}

/// One request as it goes out.
struct Outgoing {
    method: http::Method,
    url: Url,
    path: http::uri::PathAndQuery,
    headers: HeaderMap,
    body: Bytes,
}

struct Incoming {
    status: http::StatusCode,
    headers: HeaderMap,
    /// Empty unless something looks at it.
    body: Bytes,
    length: u64,
    first_byte: Instant,
}

impl Person {
    /// One HTTP step with its redirects, captures, matches and expectations.
    pub(crate) async fn request(&mut self, action: &HttpAction, step: StepId) -> Result<(), Failed> {
        let worker = Rc::clone(&self.worker);
        let mut outgoing = match self.outgoing(action) {
            Ok(outgoing) => outgoing,
            Err(why) => {
                worker.error(step, &why, &why, String::new);
                return Err(Failed);
            }
        };
        let timeout = worker.shared.script.config.timeout;
        let mut hops = 0;
        let incoming = loop {
            self.record(|recorder| recorder.count(Count::HttpRequests));
            let started = Instant::now();
            worker.trace(|tracer| tracer.request(&outgoing.method, &outgoing.url, &outgoing.body));
            let exchange = self.exchange(&outgoing, action.need_body || worker.tracer.is_some());
            let answer = match tokio::time::timeout(timeout, exchange).await {
                Ok(answer) => answer,
                Err(_) => {
                    Err(NoAnswer::new("ETIMEDOUT", format!("no answer within {} s", timeout.as_secs_f64())))
                }
            };
            let (sent, incoming) = match answer {
                Ok(answer) => answer,
                Err(failure) => {
                    let sample = || format!("{} {}: {}", outgoing.method, outgoing.url, failure.cause);
                    worker.error(step, &failure.cause, &failure.code, sample);
                    return Err(Failed);
                }
            };
            let took = incoming.first_byte.saturating_duration_since(sent);
            let code = incoming.status.as_u16();
            worker.trace(|tracer| tracer.answer(incoming.status, took, incoming.length, &incoming.body));
            self.record(|recorder| {
                recorder.count(Count::HttpResponses);
                recorder.http_code(code);
                recorder.count_by(Count::DownloadedBytes, incoming.length);
                recorder.time(Time::HttpResponse, took);
                recorder.time(Time::HttpTotal, started.elapsed());
                match code / 100 {
                    2 => recorder.time(Time::Http2xx, took),
                    3 => recorder.time(Time::Http3xx, took),
                    4 => recorder.time(Time::Http4xx, took),
                    5 => recorder.time(Time::Http5xx, took),
                    _ => {}
                }
                recorder.time_of(action.endpoint, took);
            });
            self.got_answer(incoming.first_byte);
            self.take_cookies(&incoming.headers, &outgoing.url);
            let Some(next) = redirect(action, &outgoing, &incoming) else { break incoming };
            hops += 1;
            if hops > MOST_REDIRECTS {
                let cause = format!("more than {MOST_REDIRECTS} redirects");
                worker.error(step, &cause, "ERR_TOO_MANY_REDIRECTS", || {
                    format!("{} {}", outgoing.method, outgoing.url)
                });
                return Err(Failed);
            }
            match next.and_then(|url| self.redirected(&outgoing, &incoming, url)) {
                Ok(next) => outgoing = next,
                Err(why) => {
                    worker.error(step, &why, &why, || format!("{} {}", outgoing.method, outgoing.url));
                    return Err(Failed);
                }
            }
        };
        self.look_at(action, step, &outgoing, &incoming)
    }

    fn outgoing(&mut self, action: &HttpAction) -> Result<Outgoing, String> {
        let worker = Rc::clone(&self.worker);
        let shared = &worker.shared;
        let Person { vars, rng, .. } = self;
        let (url, path) = match &action.fixed {
            Some(fixed) => (fixed.url.clone(), fixed.path.clone()),
            None => {
                let text = action.spec.url.render_text(vars, rng);
                let mut url =
                    full_url(&shared.script.config.target, &text).map_err(|error| error.to_string())?;
                if !action.spec.query.is_empty() {
                    let mut pairs = url.query_pairs_mut();
                    for (name, value) in &action.spec.query {
                        pairs.append_pair(name, &value.render_text(vars, rng));
                    }
                }
                let path = path_of(&url).map_err(|error| error.to_string())?;
                (url, path)
            }
        };
        let mut headers = HeaderMap::new();
        for (name, value) in shared.script.config.http.headers.iter().chain(&action.spec.headers) {
            let name = HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes())
                .map_err(|_| format!("header name {name:?}"))?;
            let value = value.render_text(vars, rng);
            headers.insert(
                &name,
                HeaderValue::from_str(&value)
                    .map_err(|_| format!("the value of header {name} is not one line of text"))?,
            );
        }
        if let Some((user, password)) = &action.spec.auth {
            use base64::Engine as _;
            let pair = format!("{}:{}", user.render_text(vars, rng), password.render_text(vars, rng));
            let value = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
            headers
                .insert(header::AUTHORIZATION, HeaderValue::from_str(&value).map_err(|_| "auth".to_owned())?);
        }
        let (kind, body) = match &action.spec.body {
            HttpBody::Empty => (None, Bytes::new()),
            HttpBody::Json(template) => {
                let mut out = Vec::new();
                template.write_json(vars, rng, &mut out);
                (Some("application/json"), out.into())
            }
            HttpBody::Text(template) => (None, template.render_text(vars, rng).into_owned().into()),
            HttpBody::Form(fields) => {
                let mut form = url::form_urlencoded::Serializer::new(String::new());
                for (name, value) in fields {
                    form.append_pair(name, &value.render_text(vars, rng));
                }
                (Some("application/x-www-form-urlencoded"), form.finish().into())
            }
        };
        if let Some(kind) = kind {
            headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static(kind));
        }
        let own = shared.script.config.http.cookies.iter().chain(&action.spec.cookies);
        let own: Vec<String> =
            own.map(|(name, value)| format!("{name}={}", value.render_text(vars, rng))).collect();
        let outgoing = Outgoing { method: action.method.clone(), url, path, headers, body };
        self.with_cookies(outgoing, own)
    }

    /// Adds the jar's cookies behind the script's own.
    fn with_cookies(&self, mut outgoing: Outgoing, mut cookies: Vec<String>) -> Result<Outgoing, String> {
        if let Some(jar) = &self.web.jar {
            cookies
                .extend(jar.get_request_values(&outgoing.url).map(|(name, value)| format!("{name}={value}")));
        }
        if !cookies.is_empty() {
            let value = HeaderValue::from_str(&cookies.join("; "))
                .map_err(|_| "a cookie is not one line of text".to_owned())?;
            outgoing.headers.insert(header::COOKIE, value);
        }
        Ok(outgoing)
    }

    fn take_cookies(&mut self, headers: &HeaderMap, url: &Url) {
        for value in headers.get_all(header::SET_COOKIE) {
            // A cookie nobody can read is ignored, as browsers do.
            if let Ok(text) = value.to_str() {
                let _ = self.web.jar.get_or_insert_default().parse(text, url);
            }
        }
    }

    /// The next request after a redirect. 303, and 301 or 302 to anything but GET and HEAD, become GET, as in browsers.
    fn redirected(&self, before: &Outgoing, answer: &Incoming, url: Url) -> Result<Outgoing, String> {
        let mut headers = before.headers.clone();
        headers.remove(header::COOKIE);
        let safe = matches!(before.method, http::Method::GET | http::Method::HEAD);
        let to_get = !safe && matches!(answer.status.as_u16(), 301..=303);
        if to_get {
            headers.remove(header::CONTENT_TYPE);
        }
        if url.host_str() != before.url.host_str() {
            headers.remove(header::AUTHORIZATION);
        }
        let outgoing = Outgoing {
            method: if to_get { http::Method::GET } else { before.method.clone() },
            path: path_of(&url).map_err(|error| error.to_string())?,
            url,
            headers,
            body: if to_get { Bytes::new() } else { before.body.clone() },
        };
        self.with_cookies(outgoing, Vec::new())
    }

    /// Sends and receives; answers when the request began to leave.
    async fn exchange(
        &mut self,
        outgoing: &Outgoing,
        keep_body: bool,
    ) -> Result<(Instant, Incoming), NoAnswer> {
        let worker = Rc::clone(&self.worker);
        let origin =
            worker.origins.get(&outgoing.url).ok_or_else(|| NoAnswer::new("Invalid URL", "Invalid URL"))?;
        loop {
            let (mut lease, reused) = self.web.lease(&worker, &origin).await?;
            match lease.exchange(&worker, &origin, outgoing, keep_body).await {
                Ok(answer) => {
                    self.web.give_back(&origin, lease);
                    return Ok(answer);
                }
                Err(failure) if failure.again && reused => {}
                Err(failure) => return Err(failure),
            }
        }
    }

    fn look_at(
        &mut self,
        action: &HttpAction,
        step: StepId,
        outgoing: &Outgoing,
        incoming: &Incoming,
    ) -> Result<(), Failed> {
        if action.rules.is_empty() && action.expectations.is_empty() {
            return Ok(());
        }
        if action.need_body && incoming.length > MOST_KEPT_BODY as u64 {
            // Half of it might hold half of what is looked for.
            let cause = "the body is larger than 16 MiB, too large to look into";
            let sample = || format!("{} {}: {} bytes", outgoing.method, outgoing.url, incoming.length);
            self.worker.error(step, cause, "Failed capture or match", sample);
            return Err(Failed);
        }
        let text = String::from_utf8_lossy(&incoming.body);
        let json: Option<Value> = action.need_body.then(|| serde_json::from_str(&text).ok()).flatten();
        for rule in &action.expectations {
            let Person { vars, rng, .. } = self;
            let mut render = |template: &Template| template.render(vars, rng);
            let verdict = expectation(&rule.what, incoming, json.as_ref(), &text, &mut render);
            self.record(|recorder| {
                recorder.count(if verdict.is_ok() { Count::ExpectOk } else { Count::ExpectFailed });
                recorder.expectation(rule.id, verdict);
            });
        }
        let answer = Answer { json: json.as_ref(), text: &text, headers: Some(&incoming.headers) };
        let Person { vars, rng, worker, .. } = self;
        action.rules.apply(&answer, vars, rng).map_err(|why| {
            let cause = "Failed capture or match";
            let sample = || {
                format!(
                    "{} {} answered {}: {why}; body: {}",
                    outgoing.method,
                    outgoing.url,
                    incoming.status,
                    text.chars().take(500).collect::<String>()
                )
            };
            worker.error(step, cause, cause, sample);
            Failed
        })
    }
}

/// Where a redirect leads; `None` when the answer is none, or names no place (304, 302 without `Location`).
fn redirect(action: &HttpAction, outgoing: &Outgoing, incoming: &Incoming) -> Option<Result<Url, String>> {
    if !action.spec.follow_redirects || !matches!(incoming.status.as_u16(), 301..=303 | 307 | 308) {
        return None;
    }
    let location = incoming.headers.get(header::LOCATION)?;
    let text = String::from_utf8_lossy(location.as_bytes());
    let url = outgoing
        .url
        .join(&text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.host().is_some());
    Some(url.ok_or_else(|| format!("redirected to what is no URL: {text}")))
}

fn expectation(
    what: &ExpectationKind,
    incoming: &Incoming,
    json: Option<&Value>,
    text: &str,
    render: &mut dyn FnMut(&Template) -> Value,
) -> Result<(), String> {
    let header = |name: &str| incoming.headers.get(name).and_then(|value| value.to_str().ok());
    let status = incoming.status.as_u16();
    let check = |held: bool, seen: String| if held { Ok(()) } else { Err(seen) };
    match what {
        ExpectationKind::HasProperty(path) => match json.map(|json| path.find(json)).transpose() {
            Ok(found) => check(found.is_some_and(|found| !found.is_empty()), "no such property".into()),
            Err(too_much) => Err(too_much.to_string()),
        },
        ExpectationKind::Matches(regexp) => check(regexp.is_match(text), text.chars().take(100).collect()),
        ExpectationKind::Plain(plain) => match plain {
            Expectation::StatusCode(codes) => check(codes.contains(&status), status.to_string()),
            Expectation::NotStatusCode(codes) => check(!codes.contains(&status), status.to_string()),
            Expectation::ContentType(kind) => {
                let seen = header("content-type").unwrap_or("none");
                let essence = seen.split(';').next().unwrap_or_default().trim();
                let held = essence == kind || seen == kind || (kind == "json" && essence.ends_with("json"));
                check(held, seen.to_owned())
            }
            Expectation::HasHeader(name) => check(header(name).is_some(), "no such header".into()),
            Expectation::HeaderEquals(name, value) => {
                let seen = header(name).unwrap_or("none");
                check(text_of(&render(value)) == seen, seen.to_owned())
            }
            Expectation::Equals(values) => {
                let values: Vec<Value> = values.iter().map(render).collect();
                check(values.windows(2).all(|pair| pair[0] == pair[1]), Value::Array(values).to_string())
            }
            Expectation::HasProperty(_) | Expectation::MatchesRegexp(_) => Ok(()),
        },
    }
}

/// A connection in use, with its place in the pool if there is one.
struct Lease<'p> {
    link: Link,
    _permit: Option<SemaphorePermit<'p>>,
}

impl Session {
    /// A connection to the server, and whether it was used before.
    async fn lease<'p>(
        &mut self,
        worker: &Rc<Worker>,
        origin: &'p Rc<Origin>,
    ) -> Result<(Lease<'p>, bool), NoAnswer> {
        if let Some(pool) = &origin.pool {
            let permit =
                pool.permits.acquire().await.map_err(|_| NoAnswer::new("pool", "the pool is closed"))?;
            let idle =
                std::iter::from_fn(|| pool.idle.borrow_mut().pop()).find(|link| !link.sender.is_closed());
            let reused = idle.is_some();
            let link = match idle {
                Some(link) => link,
                None => open(worker, origin).await?,
            };
            return Ok((Lease { link, _permit: Some(permit) }, reused));
        }
        if let Some(at) = self.open.iter().position(|(known, _)| Rc::ptr_eq(known, origin)) {
            let (_, link) = self.open.swap_remove(at);
            if !link.sender.is_closed() {
                return Ok((Lease { link, _permit: None }, true));
            }
        }
        Ok((Lease { link: open(worker, origin).await?, _permit: None }, false))
    }

    /// The user will ask for nothing more.
    pub(crate) fn park(&mut self) {
        self.parked.extend(self.open.drain(..).map(|(_, link)| link.parked));
    }

    fn give_back(&mut self, origin: &Rc<Origin>, lease: Lease<'_>) {
        if lease.link.sender.is_closed() {
            return;
        }
        match &origin.pool {
            Some(pool) => pool.idle.borrow_mut().push(lease.link),
            None => self.open.push((Rc::clone(origin), lease.link)),
        }
    }
}

impl Lease<'_> {
    async fn exchange(
        &mut self,
        worker: &Worker,
        origin: &Origin,
        outgoing: &Outgoing,
        keep_body: bool,
    ) -> Result<(Instant, Incoming), NoAnswer> {
        self.link
            .sender
            .ready()
            .await
            .map_err(|error| NoAnswer { again: true, ..NoAnswer::hyper(&error) })?;
        let mut request = http::Request::new(Full::new(outgoing.body.clone()));
        *request.method_mut() = outgoing.method.clone();
        *request.uri_mut() = outgoing.path.clone().into();
        let headers = request.headers_mut();
        *headers = outgoing.headers.clone();
        headers.entry(header::HOST).or_insert_with(|| origin.authority.clone());
        headers.entry(header::USER_AGENT).or_insert_with(|| worker.origins.user_agent.clone());
        headers.entry(header::ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        let sent = Instant::now();
        let response =
            self.link.sender.send_request(request).await.map_err(|error| NoAnswer::hyper(&error))?;
        let first_byte = Instant::now();
        let (parts, mut body) = response.into_parts();
        let mut kept = Bytes::new();
        let mut several = BytesMut::new();
        let mut length: u64 = 0;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| NoAnswer::hyper(&error))?;
            let Ok(data) = frame.into_data() else { continue };
            length += data.len() as u64;
            if keep_body && length <= MOST_KEPT_BODY as u64 {
                if kept.is_empty() && several.is_empty() {
                    kept = data;
                } else {
                    if several.is_empty() {
                        several.extend_from_slice(&std::mem::take(&mut kept));
                    }
                    several.extend_from_slice(&data);
                }
            }
        }
        if !several.is_empty() {
            kept = several.freeze();
        }
        Ok((sent, Incoming { status: parts.status, headers: parts.headers, body: kept, length, first_byte }))
    }
}

/// Opens a connection and leaves it to a task of its own, which ends with it.
async fn open(worker: &Rc<Worker>, origin: &Rc<Origin>) -> Result<Link, NoAnswer> {
    if origin.addresses.borrow().is_empty() {
        let scheme = if origin.secure { "https" } else { "http" };
        let endpoint = crate::flow::endpoint(&format!("{scheme}://{}:{}", origin.host, origin.port));
        let endpoint = endpoint.map_err(|error| NoAnswer::new("Invalid URL", error.to_string()))?;
        let found = socketio_client::resolve(&endpoint)
            .await
            .map_err(|error| NoAnswer::new("ENOTFOUND", format!("dns: {error}")))?;
        *origin.addresses.borrow_mut() = found;
    }
    let addresses = origin.addresses.borrow().clone();
    let mut failure = NoAnswer::new("ENOTFOUND", "dns: no address");
    let mut stream = None;
    for (number, address) in addresses.iter().enumerate() {
        let local = worker.source(address.is_ipv6());
        if local.is_none() && !worker.shared.sources.is_empty() {
            failure = NoAnswer::new("EADDRNOTAVAIL", "connect: no source address of the server's family");
            continue;
        }
        match socketio_client::connect_tcp(*address, local).await {
            Ok(open) => {
                if number > 0 {
                    // The next user need not knock at the wrong door first.
                    let mut known = origin.addresses.borrow_mut();
                    if known.len() == addresses.len() {
                        known.swap(0, number);
                    }
                }
                stream = Some(open);
                break;
            }
            Err(error) => failure = NoAnswer::io("connect", &error),
        }
    }
    let Some(stream) = stream else { return Err(failure) };
    let stream = match (origin.secure.then(|| worker.shared.tls()).flatten(), origin.secure) {
        (Some(tls), true) => {
            let host = origin.host.trim_matches(['[', ']']).to_owned();
            let name = rustls::pki_types::ServerName::try_from(host)
                .map_err(|error| NoAnswer::new("TLS", format!("tls: {error}")))?;
            let connector = TlsConnector::from(Arc::clone(tls));
            let stream = connector.connect(name, stream).await;
            Stream::Tls(Box::new(stream.map_err(|error| NoAnswer::new("TLS", format!("tls: {error}")))?))
        }
        (None, true) => {
            return Err(NoAnswer::new("TLS", "tls: no trusted certificates were found on this machine"));
        }
        (_, false) => Stream::Plain(stream),
    };
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| NoAnswer::hyper(&error))?;
    let parked = Rc::new(RefCell::new(None));
    let slot = Rc::downgrade(&parked);
    // Its errors reach the request that was under way; an idle connection that ends is no event.
    tokio::task::spawn_local(async move {
        if let Ok(parts) = connection.without_shutdown().await
            && let Some(slot) = slot.upgrade()
        {
            *slot.borrow_mut() = Some(parts.io.into_inner());
        }
    });
    Ok(Link { sender, parked })
}

/// TCP, with TLS or without.
#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }
}

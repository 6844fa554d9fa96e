//! The report while the run goes on: one page, its result file so far and a Prometheus scrape, on a port of its own.
//!
//! The conductor's thread hands over each second; a thread of our own answers requests and draws. Nothing of this runs on
//! the worker threads, and nothing is put together unless somebody asks.

mod pages;
mod scrape;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::outcome::Outcome;
use crate::run::SoFar;
use pages::History;

/// Where `--live` listens when no address is given; another free port when this one is taken.
pub const DEFAULT_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9014);

/// Connections at a time; others wait.
const MOST_CONNECTIONS: usize = 64;
const MOST_HEADER_BYTES: usize = 16 * 1024;
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection that does nothing for so long is closed.
const LONGEST_CONNECTION: Duration = Duration::from_secs(300);
/// The run is put together each second for so long after somebody asked: longer than Prometheus' usual interval.
const WATCHED_FOR: Duration = Duration::from_secs(20);
/// Figures older than this are waited for anew; a second is handed over once a second.
const FRESH: Duration = Duration::from_millis(1500);
/// What is half sent at the end may be finished for so long.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// The end is held open for so long for those who look.
const LAST_LOOK: Duration = Duration::from_secs(4);

/// The listener and what it shows. Ends with [`Live::end`], or when dropped.
#[derive(Debug)]
pub struct Live {
    shared: Arc<Shared>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    history: Mutex<History>,
    /// Raised with each change of `history.latest`.
    version: watch::Sender<u64>,
    /// When somebody last asked for anything.
    asked: Mutex<Option<Instant>>,
    /// Told that the last page has gone out.
    final_seen: watch::Sender<bool>,
    stop: watch::Sender<bool>,
    /// Bound to this machine alone.
    loopback: bool,
}

impl Live {
    /// Listens; `address` `None`: [`DEFAULT_ADDRESS`], else a free port beside it.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub fn start(address: Option<SocketAddr>) -> anyhow::Result<Self> {
        let bind = std::net::TcpListener::bind;
        let listener = match address {
            Some(address) => bind(address).with_context(|| {
                format!("--live: cannot listen on {address}; name another, e.g. --live=127.0.0.1:0 for any free port")
            })?,
            None => bind(DEFAULT_ADDRESS)
                .or_else(|_| bind(SocketAddr::new(DEFAULT_ADDRESS.ip(), 0)))
                .context("--live: cannot listen on 127.0.0.1")?,
        };
        listener.set_nonblocking(true).context("--live")?;
        let address = listener.local_addr().context("--live")?;
        let shared = Arc::new(Shared {
            history: Mutex::default(),
            version: watch::Sender::new(0),
            asked: Mutex::default(),
            final_seen: watch::Sender::new(false),
            stop: watch::Sender::new(false),
            loopback: address.ip().is_loopback(),
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("--live: starting the runtime")?;
        let serving = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("live".into())
            .spawn(move || runtime.block_on(serve(listener, serving)))
            .context("--live: starting the thread")?;
        Ok(Self { shared, address, thread: Some(thread) })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes over a second; on the conductor's thread.
    pub fn take(&self, so_far: &SoFar<'_>) {
        let mut history = lock(&self.shared.history);
        history.add(so_far.newest, so_far.settled, so_far.seconds_per_window);
        if self.shared.is_watched() {
            history.latest = Some(Arc::new(so_far.outcome()));
            history.taken = Some(Instant::now());
            drop(history);
            self.shared.version.send_modify(|version| *version += 1);
        }
    }

    /// Shows the final report, and waits a moment for those who have been looking to get it.
    pub fn end(mut self, outcome: &Outcome) {
        {
            let mut history = lock(&self.shared.history);
            history.latest = Some(Arc::new(outcome.clone()));
            history.over = true;
        }
        self.shared.version.send_modify(|version| *version += 1);
        if self.shared.is_watched() {
            let until = Instant::now() + LAST_LOOK;
            while Instant::now() < until && !*self.shared.final_seen.borrow() {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        self.close();
    }

    fn close(&mut self) {
        self.shared.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // It only answers requests; what went wrong there is no fault of the run.
            let _ = thread.join();
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.close();
    }
}

/// A panic of the other side leaves figures, not a broken invariant.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Shared {
    fn is_watched(&self) -> bool {
        lock(&self.asked).is_some_and(|at| at.elapsed() < WATCHED_FOR)
    }

    /// Notes that somebody looks, and waits until there are figures of about now.
    async fn freshened(&self) {
        *lock(&self.asked) = Some(Instant::now());
        let mut version = self.version.subscribe();
        let fresh = || {
            let history = lock(&self.history);
            history.over || history.taken.is_some_and(|at| at.elapsed() < FRESH)
        };
        if !fresh() {
            let _ = tokio::time::timeout(FRESH, version.changed()).await;
        }
    }
}

async fn serve(listener: std::net::TcpListener, shared: Arc<Shared>) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let stop = shared.stop.subscribe();
    let mut connections = tokio::task::JoinSet::new();
    let accept = async {
        loop {
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
            while connections.try_join_next().is_some() {}
            match listener.accept().await {
                Ok((stream, _)) => {
                    let shared = Arc::clone(&shared);
                    connections.spawn(async move {
                        let _ = tokio::time::timeout(LONGEST_CONNECTION, converse(stream, shared)).await;
                        drop(permit);
                    });
                }
                // Out of descriptors, most likely: the run has them all.
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    };
    tokio::select! {
        () = accept => {}
        () = told(stop) => {}
    }
    // What is half written gets a moment; connections that are only kept open end with the thread.
    let _ =
        tokio::time::timeout(LAST_WORDS, async { while connections.join_next().await.is_some() {} }).await;
}

/// Until the run is over and everybody has had a last look.
async fn told(mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn converse(stream: tokio::net::TcpStream, shared: Arc<Shared>) {
    let stop = shared.stop.subscribe();
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, std::convert::Infallible>(answer(request, &shared).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MOST_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => {}
        () = told(stop) => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

type Answer = Response<Full<Bytes>>;

async fn answer(request: Request<Incoming>, shared: &Shared) -> Answer {
    if !names_us(request.headers(), shared.loopback) {
        return refusal(
            StatusCode::MISDIRECTED_REQUEST,
            "this page answers to `localhost` or an IP address; to reach it by another name, forward a port to it\n",
        );
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut answer =
            refusal(StatusCode::METHOD_NOT_ALLOWED, "only GET: nothing can be changed from here\n");
        answer.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("GET, HEAD"));
        return answer;
    }
    let path = request.uri().path();
    let (kind, make): (&str, fn(&Shared) -> Option<Bytes>) = match path {
        "/" => ("text/html; charset=utf-8", pages::page),
        "/result.json" => ("application/json", pages::result),
        "/metrics" => ("application/openmetrics-text; version=1.0.0; charset=utf-8", scrape::metrics),
        _ => return refusal(StatusCode::NOT_FOUND, "there are /, /result.json and /metrics\n"),
    };
    shared.freshened().await;
    let tag = format!("\"{}\"", *shared.version.borrow());
    let is_over = lock(&shared.history).over;
    let known =
        request.headers().get(header::IF_NONE_MATCH).is_some_and(|seen| seen.as_bytes() == tag.as_bytes());
    let builder = Response::builder()
        .header(header::ETAG, tag)
        .header(header::CACHE_CONTROL, "no-cache")
        .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    if known {
        return builder.status(StatusCode::NOT_MODIFIED).body(Full::default()).expect("fixed headers");
    }
    let Some(body) = make(shared) else {
        return refusal(
            StatusCode::SERVICE_UNAVAILABLE,
            "nothing has been measured yet; ask again in a second\n",
        );
    };
    if is_over && path == "/" {
        shared.final_seen.send_replace(true);
    }
    let body = if request.method() == Method::HEAD { Bytes::new() } else { body };
    builder.header(header::CONTENT_TYPE, kind).body(Full::new(body)).expect("fixed headers")
}

fn refusal(status: StatusCode, text: &'static str) -> Answer {
    let builder = Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "text/plain; charset=utf-8")
        // A browser that came too early asks again.
        .header(header::REFRESH, "1");
    builder.body(Full::new(Bytes::from_static(text.as_bytes()))).expect("fixed headers")
}

/// A page elsewhere must not read this one by pointing a name of its own at this machine.
fn names_us(headers: &HeaderMap, loopback: bool) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) else { return false };
    let Ok(authority) = host.parse::<http::uri::Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    if name.eq_ignore_ascii_case("localhost") {
        return true;
    }
    match name.parse::<IpAddr>() {
        Ok(ip) => !loopback || ip.is_loopback(),
        // This machine's own name is none of a stranger's choosing.
        Err(_) => {
            !loopback
                && rustix::system::uname().nodename().to_str().is_ok_and(|own| own.eq_ignore_ascii_case(name))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_answered() {
        let asked = |host: &str, loopback| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().expect("a header"));
            names_us(&headers, loopback)
        };
        for host in ["localhost:9014", "LOCALHOST", "127.0.0.1:9014", "[::1]:9014", "127.9.9.9"] {
            assert!(asked(host, true), "{host}");
        }
        for host in [
            "evil.example",
            "127.0.0.1.evil.example:9014",
            "192.168.1.7:9014",
            "localhost.evil.example",
            "",
            "a b",
        ] {
            assert!(!asked(host, true), "{host}");
        }
        assert!(asked("192.168.1.7:9014", false) && !asked("evil.example", false));
        assert!(!names_us(&HeaderMap::new(), true));
    }
}

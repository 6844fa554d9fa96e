//! The push queue: alerts for people whose page may be closed.
//!
//! The selection (who stands within reach, one in an interval per connection) is the alerts'; here each
//! user gets one push at a time, later ones folded into it. The last step is a receiver: in the test world
//! a loopback HTTP server of our own that counts. A real push service is not connected yet, so alerts of
//! the live world end at the open pages.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::sync::oneshot;

use crate::delivery::Publication;
use crate::metrics::Metrics;
use crate::world::World;

/// Alerts waiting for the push thread; more are dropped and counted.
const QUEUE: usize = 16 << 10;
/// Taken from the queue at once; pushes of one user among them are folded into one.
const GROUP: usize = 1024;

/// The workers' side.
#[derive(Debug, Clone)]
pub struct PushQueue {
    queue: Sender<Push>,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Push {
    user: u64,
    publication: Arc<Publication>,
    folded: u64,
}

impl PushQueue {
    /// Never waits.
    pub(crate) fn offer(&self, world: World, user: u64, publication: &Arc<Publication>, folded: u64) {
        if world != World::Test {
            return;
        }
        match self.queue.try_send(Push { user, publication: publication.clone(), folded }) {
            Ok(()) => {
                self.metrics.pushes_queued.inc();
            }
            Err(TrySendError::Full(_) | TrySendError::Closed(_)) => {
                self.metrics.pushes_dropped.inc();
            }
        }
    }
}

/// The push thread, for whoever ends it.
#[derive(Debug)]
pub struct PushThread {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl PushThread {
    /// Waits until what was offered before this has been sent; what is offered later is dropped and counted.
    /// An error means that the thread had panicked.
    pub(crate) fn stop(self) -> std::thread::Result<()> {
        let _ = self.stop.send(());
        self.thread.join()
    }
}

/// Starts the push thread with its loopback receiver. It ends when it is told to, whoever still has a queue.
///
/// # Errors
/// When the receiver's port or the thread cannot be had.
pub fn spawn(metrics: Arc<Metrics>) -> anyhow::Result<(PushQueue, PushThread)> {
    let (queue, pushes) = tokio::sync::mpsc::channel(QUEUE);
    let (stop, stopped) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0)))?;
    let receiver = listener.local_addr()?;
    let thread_metrics = metrics.clone();
    let thread = std::thread::Builder::new().name("push".into()).spawn(move || {
        runtime.block_on(async move {
            let serving = tokio::spawn(receive(listener, thread_metrics.clone()));
            send_all(pushes, stopped, receiver, thread_metrics).await;
            serving.abort();
        });
    })?;
    Ok((PushQueue { queue, metrics }, PushThread { stop, thread }))
}

type Connection = hyper::client::conn::http1::SendRequest<Full<Bytes>>;

async fn send_all(
    mut pushes: Receiver<Push>,
    mut stopped: oneshot::Receiver<()>,
    receiver: SocketAddr,
    metrics: Arc<Metrics>,
) {
    let mut connection = None;
    let mut group = Vec::with_capacity(GROUP);
    loop {
        let taken = tokio::select! {
            taken = pushes.recv_many(&mut group, GROUP) => taken,
            _ = &mut stopped, if !pushes.is_closed() => {
                pushes.close();
                continue;
            }
        };
        if taken == 0 {
            return;
        }
        let mut users: HashMap<u64, Push> = HashMap::with_capacity(group.len());
        for push in group.drain(..) {
            users
                .entry(push.user)
                .and_modify(|earlier| {
                    metrics.pushes_folded.inc();
                    earlier.folded += push.folded + 1;
                    earlier.publication = push.publication.clone();
                })
                .or_insert(push);
        }
        for push in users.into_values() {
            if let Err(error) = send(&mut connection, receiver, &push).await {
                connection = None;
                metrics.pushes_dropped.inc();
                tracing::warn!(%error, "a push was dropped");
            }
        }
    }
}

async fn send(connection: &mut Option<Connection>, receiver: SocketAddr, push: &Push) -> anyhow::Result<()> {
    let mut ready = match connection.take() {
        Some(open) => open,
        None => connect(receiver).await?,
    };
    ready.ready().await?;
    let body = json!({ "user": push.user, "folded": push.folded, "result": push.publication.result });
    let request = Request::post("/push")
        .header("host", receiver.to_string())
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body.to_string())))?;
    let response = ready.send_request(request).await?;
    anyhow::ensure!(response.status() == StatusCode::CREATED, "the receiver answered {}", response.status());
    response.into_body().collect().await?;
    *connection = Some(ready);
    Ok(())
}

async fn connect(receiver: SocketAddr) -> anyhow::Result<Connection> {
    let stream = TcpStream::connect(receiver).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// The test world's stand-in for a push service: takes `POST /push`, counts, answers 201.
async fn receive(listener: TcpListener, metrics: Arc<Metrics>) {
    while let Ok((stream, _)) = listener.accept().await {
        let metrics = metrics.clone();
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let metrics = metrics.clone();
            async move {
                let status = match request.into_body().collect().await {
                    Ok(_) => {
                        metrics.pushes_received.inc();
                        StatusCode::CREATED
                    }
                    Err(_) => StatusCode::BAD_REQUEST,
                };
                let mut response = Response::new(Full::new(Bytes::new()));
                *response.status_mut() = status;
                Ok::<_, Infallible>(response)
            }
        });
        tokio::spawn(async move {
            // A sender that breaks off is the sender's business.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thread_ends_when_it_is_told_to_whoever_still_has_a_queue() {
        let (queue, thread) = spawn(Arc::new(Metrics::new(Vec::new()))).unwrap();
        let second = queue.clone();
        thread.stop().unwrap();
        assert!(queue.queue.is_closed() && second.queue.is_closed());
    }
}

//! The change from polling to WebSocket: a connection opened beside the polls, asked whether it carries.

use std::future::poll_fn;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::time::{Duration, Instant};

use socketio_wire::websocket::frame::Opcode;

use crate::error::{Cause, Closed, ConnectError, Stage, Stages};
use crate::http::Head;
use crate::net::{Progress, Route};
use crate::options::Options;
use crate::session::sample;
use crate::websocket::{Connection, Message, Stop, encode_masked};

/// What became of the change from polling to WebSocket.
#[derive(Debug)]
pub struct Upgrade {
    /// From the `open` packet to the change, or to its failure.
    pub took: Duration,
    /// The WebSocket's stages, `dns` to `probe`; or why the session stays with polling.
    pub outcome: Result<Stages, ConnectError>,
}

/// A WebSocket that has answered the probe.
#[derive(Debug)]
pub(crate) struct Probed {
    pub(crate) connection: Connection,
    pub(crate) stages: Stages,
    pub(crate) began: Instant,
}

pub(crate) type Probe = Pin<Box<dyn Future<Output = Result<Box<Probed>, Box<Upgrade>>> + Send + Sync>>;

/// Opens a WebSocket at `target`, which names the session, and asks `2probe`.
pub(crate) fn probe(options: Options, target: String) -> Probe {
    Box::pin(async move {
        let began = Instant::now();
        let mut progress = Progress::new(&options.endpoint, &options.timeouts);
        match ask(&mut progress, &options, &target).await {
            Ok(connection) => Ok(Box::new(Probed { connection, stages: progress.stages(), began })),
            Err(error) => Err(Box::new(Upgrade { took: began.elapsed(), outcome: Err(error) })),
        }
    })
}

/// A WebSocket that ended after its probe and before the change.
pub(crate) fn lost(probed: &Probed, options: &Options, closed: Closed) -> Box<Upgrade> {
    let endpoint = options.addresses.first().map_or_else(|| options.endpoint.to_string(), |a| a.to_string());
    let error = ConnectError::new(Stage::Probe, closed.into(), probed.stages, endpoint);
    Box::new(Upgrade { took: probed.began.elapsed(), outcome: Err(error) })
}

async fn ask(
    progress: &mut Progress<'_>,
    options: &Options,
    target: &str,
) -> Result<Connection, ConnectError> {
    let head = Head { authority: &options.endpoint.authority, target, headers: &options.headers };
    let (mut connection, _) =
        Connection::establish(progress, Route::of(options), &head, &[], options.max_payload).await?;
    progress.run(Stage::Probe, probed(&mut connection)).await?;
    Ok(connection)
}

async fn probed(connection: &mut Connection) -> Result<(), Cause> {
    let mut frame = Vec::with_capacity(16);
    encode_masked(Opcode::Text, b"2probe", &mut frame);
    connection.submit(&frame)?;
    connection.finish_send().await?;
    let mut answer = None;
    while answer.is_none() {
        poll_fn(|cx| {
            connection.poll_messages(cx, |message, _, _| {
                answer = Some(match message {
                    Message::Text("3probe") => Ok(()),
                    Message::Text(text) => Err(format!("{:?}", sample(text))),
                    Message::Binary(_) => Err("a binary message".to_owned()),
                    Message::Pong(_) => return ControlFlow::Continue(()),
                });
                ControlFlow::Break(Stop::Visitor)
            })
        })
        .await?;
    }
    answer
        .expect("the loop ends with it")
        .map_err(|found| Cause::Protocol(format!("expected \"3probe\", got {found}")))
}

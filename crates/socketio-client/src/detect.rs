//! Which Engine.IO revision a server speaks.

use std::future::poll_fn;
use std::ops::ControlFlow;
use std::time::Duration;

use socketio_wire::engineio::Revision;
use tokio::time::{Instant, timeout_at};

use crate::error::{Cause, ConnectError, Stage};
use crate::http::{self, Head};
use crate::net::{Progress, Route};
use crate::options::Options;
use crate::response::Response;
use crate::session::sample;
use crate::websocket::{Connection, Message, Stop};

/// Longest body of a polling handshake that is read.
const MAX_BODY: usize = 16 * 1024;
/// How long a WebSocket is watched for a CONNECT nobody asked for.
const UNASKED: Duration = Duration::from_millis(200);

/// Asks the server once, with `EIO=4`: by a polling handshake, else, where polling is refused, by what it
/// sends unasked on a WebSocket. The session is closed again. Socket.IO 2.x takes any `EIO` and answers in
/// revision 3, so a connect that succeeds proves nothing; the shape of the answer does.
///
/// `revision`, `namespace`, `auth` and `transport` of `options` are not used.
///
/// # Errors
/// When the server cannot be reached or answers in neither revision.
pub async fn detect_revision(options: &Options) -> Result<Revision, ConnectError> {
    let mut progress = Progress::new(&options.endpoint, &options.timeouts);
    let target = options.target("polling", Revision::V4);
    let answer = request(&mut progress, options, "GET", &target, b"").await?;
    match by_polling(&answer) {
        Verdict::Is(revision, sid) => {
            close_session(options, revision, &target, &sid).await;
            Ok(revision)
        }
        Verdict::TheOther => Ok(Revision::V3),
        Verdict::PollingRefused => by_websocket(&mut progress, options).await,
        Verdict::Neither => {
            let body = String::from_utf8_lossy(&answer.body);
            let cause = if answer.head.code == 200 {
                Cause::Protocol(format!("neither an Engine.IO 3 nor 4 handshake: {:?}", sample(&body)))
            } else {
                Cause::Status {
                    code: answer.head.code,
                    reason: answer.head.reason,
                    body: sample(&body).to_owned(),
                }
            };
            Err(progress.failure(Stage::Handshake, cause))
        }
    }
}

enum Verdict {
    /// A handshake, and its `sid`.
    Is(Revision, String),
    /// The server refuses the revision that was asked for.
    TheOther,
    /// The server refuses polling.
    PollingRefused,
    Neither,
}

/// Revision 4 answers `0{...}`; revision 3 puts a length before it, `97:0{...}`, or, as raw bytes, a 0 or 1,
/// the digits as numbers, and 255.
fn by_polling(answer: &Response) -> Verdict {
    let body = &answer.body[..];
    if answer.head.code == 200 {
        if body.starts_with(b"0{") {
            return Verdict::Is(Revision::V4, sid(&body[1..]));
        }
        let Some(at) = body.windows(2).take(12).position(|pair| pair == b"0{") else {
            return Verdict::Neither;
        };
        return match &body[..at] {
            [digits @ .., b':'] if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => {
                Verdict::Is(Revision::V3, sid(&body[at + 1..]))
            }
            [0 | 1, digits @ .., 255] if digits.iter().all(|digit| *digit <= 9) => {
                Verdict::Is(Revision::V3, sid(&body[at + 1..]))
            }
            _ => Verdict::Neither,
        };
    }
    // {"code":0,"message":"Transport unknown"} or {"code":5,"message":"Unsupported protocol version"}
    let code =
        serde_json::from_slice::<serde_json::Value>(body).ok().and_then(|value| value["code"].as_u64());
    match (answer.head.code, code) {
        (400, Some(5)) => Verdict::TheOther,
        (400 | 403 | 405 | 501, _) => Verdict::PollingRefused,
        _ => Verdict::Neither,
    }
}

/// The `sid` of the handshake at the front of `json`; more packets may follow it.
fn sid(json: &[u8]) -> String {
    let mut values = serde_json::Deserializer::from_slice(json).into_iter::<serde_json::Value>();
    match values.next() {
        Some(Ok(value)) => value["sid"].as_str().unwrap_or_default().to_owned(),
        _ => String::new(),
    }
}

/// Tells the server that the session is over, so that it need not wait for a heartbeat. Best effort.
async fn close_session(options: &Options, revision: Revision, target: &str, sid: &str) {
    if sid.is_empty() {
        return;
    }
    let mut target = target.replacen("EIO=4", &format!("EIO={}", revision.as_query()), 1);
    target.push_str("&sid=");
    target.extend(url::form_urlencoded::byte_serialize(sid.as_bytes()));
    let body: &[u8] = if revision == Revision::V4 { b"1" } else { b"1:1" };
    let mut progress = Progress::new(&options.endpoint, &options.timeouts);
    let _ = request(&mut progress, options, "POST", &target, body).await;
}

async fn request(
    progress: &mut Progress<'_>,
    options: &Options,
    method: &str,
    target: &str,
    body: &[u8],
) -> Result<Response, ConnectError> {
    let mut stream = progress.open(Route::of(options)).await?;
    let head = Head { authority: &options.endpoint.authority, target, headers: &options.headers };
    let exchange = http::exchange(&mut stream, method, &head, body, MAX_BODY);
    progress.run(Stage::Handshake, exchange).await
}

async fn by_websocket(progress: &mut Progress<'_>, options: &Options) -> Result<Revision, ConnectError> {
    let target = options.target("websocket", Revision::V4);
    let head = Head { authority: &options.endpoint.authority, target: &target, headers: &options.headers };
    let established =
        Connection::establish(progress, Route::of(options), &head, &[], options.max_payload).await;
    let mut connection = match established {
        Ok((connection, _)) => connection,
        // "Unsupported protocol version": the other one.
        Err(error)
            if error.status() == Some(400) && error.sample().is_some_and(|s| s.contains("version")) =>
        {
            return Ok(Revision::V3);
        }
        Err(error) => return Err(error),
    };
    let revision = progress.run(Stage::Handshake, watch(&mut connection)).await?;
    connection.close(None, "").await;
    Ok(revision)
}

/// Waits for `open`, then [`UNASKED`] for a CONNECT.
async fn watch(connection: &mut Connection) -> Result<Revision, Cause> {
    let mut opened = None;
    let mut stray = None;
    loop {
        let until = opened.map(|at: Instant| at + UNASKED);
        let wait = poll_fn(|cx| {
            connection.poll_messages(cx, |message, _, _| {
                match message {
                    Message::Text(text) if opened.is_none() && text.starts_with("0{") => {
                        opened = Some(Instant::now());
                        return ControlFlow::Continue(());
                    }
                    Message::Text(text) if opened.is_some() && text.starts_with("40") => {
                        stray = Some(Ok(Revision::V3));
                    }
                    Message::Text(text) if opened.is_none() => stray = Some(Err(sample(text).to_owned())),
                    _ => return ControlFlow::Continue(()),
                }
                ControlFlow::Break(Stop::Visitor)
            })
        });
        let outcome = match until {
            None => Ok(wait.await),
            Some(until) => timeout_at(until, wait).await,
        };
        match (stray.take(), outcome) {
            (Some(Ok(revision)), _) => return Ok(revision),
            (Some(Err(text)), _) => {
                return Err(Cause::Protocol(format!("expected the Engine.IO open packet, got {text:?}")));
            }
            (None, Err(_)) => return Ok(Revision::V4),
            (None, Ok(polled)) => polled?,
        }
    }
}

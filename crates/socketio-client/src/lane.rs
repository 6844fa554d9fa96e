//! One HTTP connection that is kept between requests, of which one is under way at a time. Everything here can
//! be polled and left alone at any point.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use crate::buffers;
use crate::error::{Cause, ConnectError};
use crate::http;
use crate::net::Stream;
use crate::response::{Reader, Response};

/// How long an idle connection is used again when the server does not say, and how much sooner than the
/// server says it is given up: a request that crosses the server's farewell is lost.
const KEEP: Duration = Duration::from_secs(4);
const MARGIN: Duration = Duration::from_secs(1);

/// Opens a new connection.
pub(crate) type Opening = Pin<Box<dyn Future<Output = Result<Stream, ConnectError>> + Send + Sync>>;
type Failing = Pin<Box<dyn Future<Output = Cause> + Send + Sync>>;

#[derive(Debug)]
pub(crate) struct Lane(State);

enum State {
    /// Nothing under way, no connection.
    Empty,
    /// Nothing under way; the connection may be used until then.
    Kept(Stream, Instant),
    Opening(Opening, Vec<u8>, usize),
    /// Boxed: the others are small, and so is a lane between requests.
    Under(Box<Exchange>),
    /// An error status whose body is read a little further, for the sample.
    Failing(Failing),
}

struct Exchange {
    stream: Stream,
    /// Not all sent yet; else empty.
    request: Vec<u8>,
    written: usize,
    reader: Reader,
    /// The server may have left while nobody looked.
    reused: bool,
    write_error: Option<io::Error>,
}

/// Why a request got no answer that could be used.
#[derive(Debug)]
pub(crate) enum LaneError {
    /// A kept connection turned out to be gone before a byte of an answer came.
    Stale(io::Error),
    Cause(Cause),
}

impl LaneError {
    pub(crate) fn into_cause(self) -> Cause {
        match self {
            LaneError::Stale(error) => Cause::Io(error),
            LaneError::Cause(cause) => cause,
        }
    }
}

impl From<Cause> for LaneError {
    fn from(cause: Cause) -> Self {
        LaneError::Cause(cause)
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Empty => "Empty",
            State::Kept(..) => "Kept",
            State::Opening(..) => "Opening",
            State::Under(_) => "Under",
            State::Failing(_) => "Failing",
        })
    }
}

impl Lane {
    pub(crate) fn empty() -> Self {
        Self(State::Empty)
    }

    /// With a connection that has just been opened.
    pub(crate) fn fresh(stream: Stream) -> Self {
        Self(State::Kept(stream, Instant::now() + KEEP))
    }

    /// Whether no request is under way.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.0, State::Empty | State::Kept(..))
    }

    /// Whether the system has taken the whole request.
    pub(crate) fn is_sent(&self) -> bool {
        match &self.0 {
            State::Opening(..) => false,
            State::Under(exchange) => exchange.request.is_empty(),
            _ => true,
        }
    }

    /// Starts a request; what the system takes of it at once is on its way. `open` makes a connection where
    /// none is kept. The lane has to be idle.
    pub(crate) fn start(&mut self, request: Vec<u8>, max_body: usize, open: impl FnOnce() -> Opening) {
        debug_assert!(self.is_idle());
        let kept = match std::mem::replace(&mut self.0, State::Empty) {
            State::Kept(mut stream, until) => {
                let mut unwatched = Context::from_waker(Waker::noop());
                let open =
                    Instant::now() < until && stream.poll_read(&mut unwatched, &mut [0; 1]).is_pending();
                open.then_some(stream)
            }
            _ => None,
        };
        self.0 = match kept {
            Some(stream) => State::Under(Box::new(Exchange::new(stream, request, max_body, true))),
            None => State::Opening(open(), request, max_body),
        };
    }

    /// Drives the request under way to its answer. With none under way: watches the kept connection, so that
    /// one the server has ended is not kept in vain.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response, LaneError>> {
        loop {
            match &mut self.0 {
                State::Empty => return Poll::Pending,
                State::Kept(stream, _) => {
                    // Bytes nobody asked for are no better than an end.
                    let _ = ready!(stream.poll_read(cx, &mut [0; 1]));
                    self.0 = State::Empty;
                }
                State::Opening(opening, request, max_body) => match ready!(opening.as_mut().poll(cx)) {
                    Ok(stream) => {
                        let request = std::mem::take(request);
                        self.0 = State::Under(Box::new(Exchange::new(stream, request, *max_body, false)));
                    }
                    Err(error) => {
                        self.0 = State::Empty;
                        return Poll::Ready(Err(error.into_cause().into()));
                    }
                },
                State::Under(exchange) => {
                    let outcome = ready!(exchange.poll(cx));
                    let State::Under(exchange) = std::mem::replace(&mut self.0, State::Empty) else {
                        unreachable!("matched above")
                    };
                    match outcome {
                        Ok(Some(answer)) if answer.head.code != 200 => {
                            return Poll::Ready(Err(http::status(&answer.head, &answer.body).into()));
                        }
                        Ok(Some(answer)) => {
                            if answer.keep_alive && exchange.request.is_empty() {
                                self.0 = State::Kept(exchange.stream, Instant::now() + kept_for(&answer));
                            }
                            return Poll::Ready(Ok(answer));
                        }
                        Ok(None) => {
                            let Exchange { mut stream, reader, .. } = *exchange;
                            self.0 =
                                State::Failing(Box::pin(
                                    async move { http::unwanted(&mut stream, reader).await },
                                ));
                        }
                        Err(error) => return Poll::Ready(Err(error)),
                    }
                }
                State::Failing(failing) => {
                    let cause = ready!(failing.as_mut().poll(cx));
                    self.0 = State::Empty;
                    return Poll::Ready(Err(cause.into()));
                }
            }
        }
    }

    /// Bytes held beside the kernel's.
    pub(crate) fn buffered_bytes(&self) -> usize {
        match &self.0 {
            State::Opening(_, request, _) => request.len(),
            State::Under(exchange) => exchange.request.len() - exchange.written + exchange.reader.buffered(),
            _ => 0,
        }
    }

    pub(crate) fn stream(&self) -> Option<&Stream> {
        match &self.0 {
            State::Kept(stream, _) => Some(stream),
            State::Under(exchange) => Some(&exchange.stream),
            _ => None,
        }
    }
}

impl Exchange {
    fn new(stream: Stream, request: Vec<u8>, max_body: usize, reused: bool) -> Self {
        let reader = Reader::new(max_body);
        let mut exchange = Self { stream, request, written: 0, reader, reused, write_error: None };
        exchange.wrote(|stream, bytes| Poll::Ready(stream.try_write(bytes)));
        exchange
    }

    /// Writes on as far as `write` goes.
    fn wrote(&mut self, mut write: impl FnMut(&mut Stream, &[u8]) -> Poll<io::Result<usize>>) {
        while self.write_error.is_none() && self.written < self.request.len() {
            match write(&mut self.stream, &self.request[self.written..]) {
                Poll::Ready(Ok(0)) | Poll::Pending => return,
                Poll::Ready(Ok(written)) => self.written += written,
                // The server may have answered all the same: 413, and it is gone.
                Poll::Ready(Err(error)) => self.write_error = Some(error),
            }
        }
        if self.written == self.request.len() && !self.stream.is_tls() {
            self.sent();
        }
    }

    /// The whole request has left.
    fn sent(&mut self) {
        self.request = Vec::new();
        self.written = 0;
    }

    /// The answer; `None` for a begun one with an error status.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Response>, LaneError>> {
        if !self.request.is_empty() && self.write_error.is_none() {
            self.wrote(|stream, bytes| stream.poll_write(cx, bytes));
            if self.written == self.request.len() {
                match self.stream.poll_flush(cx) {
                    Poll::Ready(Ok(())) => self.sent(),
                    Poll::Ready(Err(error)) => self.write_error = Some(error),
                    Poll::Pending => {}
                }
            }
        }
        loop {
            let Self { stream, reader, .. } = self;
            let read = buffers::with_read_buffer(|buffer| match stream.poll_read(cx, buffer) {
                Poll::Ready(Ok(0)) => Poll::Ready(Ok(None)),
                Poll::Ready(Ok(count)) => Poll::Ready(Ok(Some(reader.feed(&buffer[..count])))),
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Pending => Poll::Pending,
            });
            match read {
                Poll::Ready(Ok(Some(Ok(Some(answer))))) => return Poll::Ready(Ok(Some(answer))),
                Poll::Ready(Ok(Some(Ok(None)))) => {
                    if self.reader.head().is_some_and(|head| head.code != 200) {
                        return Poll::Ready(Ok(None));
                    }
                }
                Poll::Ready(Ok(Some(Err(text)))) => {
                    // Of an error, the status is what matters, however long or broken its page is.
                    let failed = self.reader.head().filter(|head| head.code != 200);
                    let status = failed.map(|head| http::status(head, self.reader.body()));
                    return Poll::Ready(Err(status.unwrap_or(Cause::Protocol(text)).into()));
                }
                Poll::Ready(Ok(None)) => match self.reader.end() {
                    Some(answer) => return Poll::Ready(Ok(Some(answer))),
                    None => return Poll::Ready(Err(self.gone(http::no_answer()))),
                },
                Poll::Ready(Err(error)) => return Poll::Ready(Err(self.gone(error))),
                Poll::Pending => {
                    return match self.write_error.take() {
                        Some(error) => Poll::Ready(Err(self.gone(error))),
                        None => Poll::Pending,
                    };
                }
            }
        }
    }

    fn gone(&self, error: io::Error) -> LaneError {
        if self.reused && self.reader.is_fresh() {
            LaneError::Stale(error)
        } else {
            LaneError::Cause(Cause::Io(error))
        }
    }
}

/// How long the server lets an idle connection live: `Keep-Alive: timeout=5`.
fn kept_for(answer: &Response) -> Duration {
    let told = answer.head.fields("keep-alive").flat_map(|value| value.split(',')).find_map(|part| {
        let (name, seconds) = part.split_once('=')?;
        let seconds = seconds.trim().parse().ok()?;
        name.trim().eq_ignore_ascii_case("timeout").then(|| Duration::from_secs(seconds))
    });
    told.map_or(KEEP, |told| told.saturating_sub(MARGIN).min(Duration::from_secs(24 * 3600)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::response;

    #[test]
    fn an_idle_connection_is_given_up_before_the_server_does() {
        let rows = [
            ("", 4),
            ("Keep-Alive: timeout=5", 4),
            ("Keep-Alive: max=9, Timeout=60", 59),
            ("keep-alive: timeout=0", 0),
            ("Keep-Alive: timeout=x", 4),
        ];
        for (header, seconds) in rows {
            let bytes = format!(
                "HTTP/1.1 200 OK\r\n{header}{}Content-Length: 0\r\n\r\n",
                if header.is_empty() { "" } else { "\r\n" }
            );
            let answer = response::parse(bytes.as_bytes(), 0).unwrap().unwrap();
            assert_eq!(kept_for(&answer), Duration::from_secs(seconds), "{header}");
        }
    }
}

//! What carries a user's messages: Socket.IO or a plain WebSocket, behind one way of visiting what comes.

use std::future::poll_fn;
use std::num::NonZeroU32;
use std::ops::ControlFlow;
use std::pin::pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use socketio_client::websocket::{Connection, Message};
use socketio_client::{Client, Closed, Incoming};

/// An open connection.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // the large one is the common one, and is not to cost an allocation
pub(crate) enum Link {
    SocketIo(Client),
    WebSocket(Connection),
}

/// What the server said, lent from the read buffer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Came<'a> {
    Packet(Incoming<'a>),
    /// A frame, and when its bytes were read.
    Frame(Message<'a>, Instant),
}

impl Link {
    /// `None` for a plain WebSocket.
    pub(crate) fn socketio(&mut self) -> Option<&mut Client> {
        match self {
            Self::SocketIo(client) => Some(client),
            Self::WebSocket(_) => None,
        }
    }

    /// `None` for Socket.IO.
    pub(crate) fn websocket(&mut self) -> Option<&mut Connection> {
        match self {
            Self::SocketIo(_) => None,
            Self::WebSocket(connection) => Some(connection),
        }
    }

    fn poll_for_each_ready(
        &mut self,
        cx: &mut Context<'_>,
        mut visit: impl FnMut(Came<'_>) -> ControlFlow<()>,
    ) -> Poll<Result<usize, Closed>> {
        match self {
            Self::SocketIo(client) => {
                client.poll_for_each_ready(cx, |incoming| visit(Came::Packet(incoming)))
            }
            Self::WebSocket(connection) => {
                connection.poll_for_each_ready(cx, |message, at| visit(Came::Frame(message, at)))
            }
        }
    }

    /// Visits what comes until `visit` breaks with a value; what follows stays for the next call.
    pub(crate) async fn visit<B>(
        &mut self,
        mut visit: impl FnMut(Came<'_>) -> ControlFlow<B>,
    ) -> Result<B, Closed> {
        let mut value = None;
        poll_fn(|cx| {
            while value.is_none() {
                ready!(
                    self.poll_for_each_ready(cx, |came| visit(came).map_break(|found| value = Some(found)))
                )?;
            }
            Poll::Ready(Ok(value.take().expect("the loop ends with it")))
        })
        .await
    }

    /// Visits what comes, and keeps the heartbeat, until `until` is done.
    pub(crate) async fn visit_while<T>(
        &mut self,
        until: impl Future<Output = T>,
        mut visit: impl FnMut(Came<'_>),
    ) -> Result<T, Closed> {
        let mut until = pin!(until);
        poll_fn(|cx| {
            loop {
                if let Poll::Ready(done) = until.as_mut().poll(cx) {
                    return Poll::Ready(Ok(done));
                }
                ready!(self.poll_for_each_ready(cx, |came| {
                    visit(came);
                    ControlFlow::Continue(())
                }))?;
            }
        })
        .await
    }

    /// Visits what has come by now, and waits for nothing.
    pub(crate) async fn visit_ready(&mut self, mut visit: impl FnMut(Came<'_>)) -> Result<(), Closed> {
        // What the kernel holds for a reader who did not read is a few MB; a server that goes on talking is not listened to
        // for ever.
        const MOST_READS: usize = 1_024;
        let visits = poll_fn(|cx| {
            for _ in 0..MOST_READS {
                let visited = self.poll_for_each_ready(cx, |came| {
                    visit(came);
                    ControlFlow::Continue(())
                });
                match visited {
                    Poll::Ready(visited) => _ = visited?,
                    Poll::Pending => break,
                }
            }
            Poll::Ready(Ok(()))
        });
        // Otherwise the runtime's own patience would look like a socket with nothing in it.
        tokio::task::unconstrained(visits).await
    }

    /// Leaves as a well-behaved client does; what still arrives goes to `visit`.
    pub(crate) async fn close_visiting(self, mut visit: impl FnMut(Came<'_>)) -> Closed {
        match self {
            Self::SocketIo(client) => client.close_visiting(|incoming| visit(Came::Packet(incoming))).await,
            Self::WebSocket(connection) => {
                connection.close_visiting(None, "", |message, at| visit(Came::Frame(message, at))).await
            }
        }
    }

    /// How many bytes the kernel takes before the server has to wait, about.
    pub(crate) fn limit_receive_buffer(&self, bytes: usize) -> std::io::Result<()> {
        match self {
            Self::SocketIo(client) => client.limit_receive_buffer(bytes),
            Self::WebSocket(connection) => connection.limit_receive_buffer(bytes),
        }
    }

    /// It will be read slowly on purpose, so late heartbeats are no fault of the server's.
    pub(crate) fn ignore_late_heartbeats(&mut self) {
        if let Self::SocketIo(client) = self {
            client.ignore_late_heartbeats();
        }
    }

    /// At most so many bytes a second from now on; `None`: as they come.
    pub(crate) fn set_read_rate(&mut self, bytes_per_second: Option<NonZeroU32>) {
        match self {
            Self::SocketIo(client) => client.set_read_rate(bytes_per_second),
            Self::WebSocket(connection) => connection.set_read_rate(bytes_per_second),
        }
    }
}

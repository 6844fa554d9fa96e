//! The workers of one server, and what one hands to another.
//!
//! A polling client's requests come over any of its connections, so one may reach a worker whose session it is
//! not. The session's id names the seat of its worker; the request is handed over and its answer comes back, while
//! the connection stays where it is. Only a WebSocket that a session changes to moves to the session's thread.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use bytes::Bytes;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use crate::session::Sid;
use crate::transport::http::Refusal;
use crate::transport::polling::{Answer, Broken};
use crate::transport::stream::Detached;
use crate::worker::Lease;
use socketio_wire::engineio::Revision;

/// Most workers of one server: a session id has a byte for the seat.
const MOST: usize = 256;

/// One worker's place among those of its server; made by [`seats`], given to
/// [`Worker::with_seat`](crate::Worker::with_seat) on the worker's own thread.
pub struct Seat {
    pub(crate) number: u8,
    pub(crate) inbox: UnboundedReceiver<Errand>,
    pub(crate) peers: Peers,
}

/// Places for `count` workers that hand requests to each other.
///
/// # Panics
/// With more than 256.
pub fn seats(count: usize) -> Vec<Seat> {
    assert!(count <= MOST, "at most {MOST} workers share a server");
    let (doors, inboxes): (Vec<_>, Vec<_>) = (0..count)
        .map(|_| {
            let (sender, inbox) = unbounded_channel();
            (Door { sender, open: AtomicBool::new(false) }, inbox)
        })
        .unzip();
    let peers = Peers(doors.into());
    let seat = |(number, inbox)| Seat { number: number as u8, inbox, peers: peers.clone() };
    inboxes.into_iter().enumerate().map(seat).collect()
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat").field("number", &self.number).finish_non_exhaustive()
    }
}

/// The doors of all workers of a server.
#[derive(Clone)]
pub(crate) struct Peers(Arc<[Door]>);

struct Door {
    /// Unbounded, and yet no longer than there are connections: each has one request under way.
    sender: UnboundedSender<Errand>,
    /// Its worker runs. Before that it has no session anybody could ask for.
    open: AtomicBool,
}

impl Peers {
    pub(crate) fn open(&self, seat: u8) {
        self.0[usize::from(seat)].open.store(true, Relaxed);
    }

    /// Gives the errand back when there is no such worker, or it has ended.
    pub(crate) fn send(&self, seat: u8, errand: Errand) -> Result<(), Errand> {
        match self.0.get(usize::from(seat)) {
            Some(door) if door.open.load(Relaxed) => door.sender.send(errand).map_err(|unsent| unsent.0),
            _ => Err(errand),
        }
    }
}

pub(crate) type Reply<T> = oneshot::Sender<Result<T, Refusal>>;

/// Something of a session for the worker that owns it.
pub(crate) enum Errand {
    /// A GET, answered when there is something to say.
    Poll { sid: Sid, reply: Reply<Answer> },
    /// The head of a POST; its body is still to come.
    PostBegins { sid: Sid, reply: Reply<()> },
    /// The body of a POST. `is_bytes`: in the byte form of revision 3.
    Post { sid: Sid, body: Bytes, is_bytes: bool, reply: Reply<()> },
    /// A request did not come to its end.
    Broken { sid: Sid, how: Broken },
    /// The head of a WebSocket's opening. Answers whether the session changes to it; otherwise it is opened only
    /// to be closed.
    UpgradeBegins { sid: Sid, revision: Revision, reply: Reply<bool> },
    /// The opened WebSocket, and what was read beyond its opening.
    Upgraded { sid: Sid, stream: Detached, leftover: Vec<u8>, lease: Option<Lease> },
}

impl Errand {
    /// Says no to whoever waits for the answer.
    pub(crate) fn refuse(self, refusal: Refusal) {
        // Nobody may be waiting any more.
        match self {
            Errand::Poll { reply, .. } => drop(reply.send(Err(refusal))),
            Errand::PostBegins { reply, .. } | Errand::Post { reply, .. } => drop(reply.send(Err(refusal))),
            Errand::UpgradeBegins { reply, .. } => drop(reply.send(Err(refusal))),
            Errand::Broken { .. } | Errand::Upgraded { .. } => {}
        }
    }
}

//! How a session's bytes travel.
//!
//! A transport is two things: a task that reads and hands what arrives to its session, and, here, the little
//! the worker's flush needs to write without that task: a call that takes frames, and a goodbye.

pub(crate) mod http;
pub(crate) mod polling;
pub(crate) mod stream;
pub(crate) mod websocket;

use std::io;
use std::os::fd::BorrowedFd;

use socketio_wire::websocket::close::CloseCode;

use crate::frame::Frame;
use crate::outbox::{Outbox, Tally, Written};
use crate::reason::Reason;

/// The write side of a session.
#[derive(Debug)]
pub(crate) enum Transport {
    Websocket(websocket::Writer),
    Polling(Box<polling::Writer>),
    /// The connection is dropped.
    Gone,
}

impl Transport {
    /// One write call with what stands at the front of the outbox: as much as a call takes, or, for a poll's answer,
    /// all of it.
    pub(crate) fn flush(&self, outbox: &mut Outbox, tally: &mut Tally) -> Written {
        match self {
            Transport::Websocket(writer) => outbox.write(|frames| writer.write(frames), tally),
            Transport::Polling(writer) => outbox.write_whole(|frames| writer.write(frames), tally),
            Transport::Gone => Written::Failed(io::ErrorKind::NotConnected),
        }
    }

    /// Where the outbox may be sent to as it is, by whoever sends for many: [`Transport::flush`] does nothing else.
    pub(crate) fn socket(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Transport::Websocket(writer) => writer.socket(),
            Transport::Polling(_) | Transport::Gone => None,
        }
    }

    /// Such a send found the socket full.
    pub(crate) fn found_full(&self) {
        if let Transport::Websocket(writer) = self {
            writer.found_full();
        }
    }

    pub(crate) fn is_polling(&self) -> bool {
        matches!(self, Transport::Polling(_))
    }

    /// Whether bytes that [`Transport::flush`] took have yet to leave; if so it waits as if it took no more.
    pub(crate) fn holds_back(&self) -> bool {
        match self {
            Transport::Websocket(writer) => writer.holds_back(),
            Transport::Polling(_) | Transport::Gone => false,
        }
    }

    /// The goodbye in this transport's words.
    pub(crate) fn close_frame(&self, reason: &Reason, close: Option<(CloseCode, &str)>) -> Frame {
        match self {
            Transport::Polling(_) => polling::close_frame(reason, close.map(|(code, _)| code)),
            Transport::Websocket(_) | Transport::Gone => websocket::close_frame(close),
        }
    }

    /// Whether a goodbye can reach the peer. One that has to be fetched by a poll still to come is kept for
    /// peers that did nothing wrong.
    pub(crate) fn takes_goodbye(&self, reason: &Reason) -> bool {
        match self {
            Transport::Polling(writer) => {
                let at_fault =
                    matches!(reason, Reason::Violation(_) | Reason::PingTimeout | Reason::ClientClose(_));
                writer.is_waiting() || !at_fault
            }
            Transport::Websocket(_) | Transport::Gone => true,
        }
    }

    /// Nothing more will be written.
    pub(crate) fn finish(&self) {
        if let Transport::Websocket(writer) = self {
            writer.finish();
        }
    }
}

//! How a session's bytes travel.
//!
//! A transport is two things: a task that reads and hands what arrives to its session, and, here, the little
//! the worker's flush needs to write without that task: a call that takes frames, and a goodbye.

pub(crate) mod http;
pub(crate) mod websocket;

use std::io::{self, IoSlice};

use socketio_wire::websocket::close::CloseCode;

use crate::frame::Frame;

/// The write side of a session.
#[derive(Debug)]
pub(crate) enum Transport {
    Websocket(websocket::Writer),
    /// The connection is dropped.
    Gone,
}

impl Transport {
    /// One write call of whole frames, the first perhaps without its beginning. Gives the bytes taken; an error
    /// of kind `WouldBlock` when the transport takes none now.
    pub(crate) fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Transport::Websocket(writer) => writer.write(slices),
            Transport::Gone => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// The goodbye in this transport's words.
    pub(crate) fn close_frame(&self, close: Option<(CloseCode, &str)>) -> Frame {
        match self {
            Transport::Websocket(_) | Transport::Gone => websocket::close_frame(close),
        }
    }

    /// Nothing more will be written.
    pub(crate) fn finish(&self) {
        if let Transport::Websocket(writer) = self {
            writer.finish();
        }
    }
}

//! Engine.IO 3/4, Socket.IO 4/5 packets and WebSocket frames, to bytes and back.
//!
//! Pure functions over borrowed bytes: no I/O, no clock, no async. From the outside in:
//!
//! 1. [`websocket`]: frames (RFC 6455) to messages, and the two keys of its opening handshake;
//! 2. [`engineio`]: a message, or an HTTP polling body, to typed packets; the session handshake;
//! 3. [`socketio`]: an Engine.IO message to namespace, ack id, event name and arguments; binary attachments.
//!
//! Decoding borrows from its input. What a peer can send is bounded by a constant or by a limit the caller
//! sets, and bad input is an error that names the byte where it went wrong.
#![forbid(unsafe_code)]

pub mod engineio;
pub mod socketio;
pub mod websocket;

mod decimal;
mod error;

pub use engineio::Revision;
pub use error::{Error, ErrorKind};

/// The examples of the README are run as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

//! A Socket.IO client for Engine.IO 3 and 4, made for thousands of connections in one process.
//!
//! Start at [`Options`] and [`connect`]; what arrives is looked at in place through
//! [`Client::for_each_ready`] or [`Client::visit`]. Plain WebSocket is in [`websocket`].
//!
//! Everything runs on the caller's tokio runtime (a current-thread one is the intended home) and
//! starts no task of its own: heartbeats are answered while one of the waiting methods is polled.

mod backoff;
mod buffers;
mod client;
#[doc(hidden)]
pub mod conversation;
mod cookies;
mod detect;
mod error;
mod heartbeat;
mod http;
mod lane;
mod net;
mod options;
mod pace;
mod polling;
mod reconnect;
#[doc(hidden)]
pub mod response;
mod session;
pub mod tls;
mod upgrade;
pub mod websocket;

pub use backoff::Backoff;
pub use client::{Client, Connected, Incoming, Kind, Message, connect, encode_event};
pub use detect::detect_revision;
pub use error::{Cause, Closed, ConnectError, Method, Stage, Stages, io_text};
pub use net::resolve;
pub use options::{Endpoint, InvalidUrl, Options, Timeouts, Transport};
pub use reconnect::{Attempt, Ended, Lost, Reconnecting};
pub use socketio_wire::engineio::Revision;
pub use upgrade::Upgrade;

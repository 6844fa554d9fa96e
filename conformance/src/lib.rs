//! Every rule of Engine.IO 3 and 4, Socket.IO 4 and 5 and WebSocket, as far as a server or our client is concerned:
//! one list, a case in raw bytes for each, and docs/protocol.md written from it.
//!
//! No WebSocket, HTTP or Socket.IO library speaks here, so that a fault of our own codec cannot hide itself.

pub mod document;
pub mod rule;
pub mod rules;
pub mod run;
pub mod subject;

mod client_side;
mod http;
mod payload;
mod server;
mod transcript;
mod websocket;

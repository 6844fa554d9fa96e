//! Socket.IO for a server: transports and sessions, no chat.
//!
//! One [`Worker`] per thread owns its connections; nothing in it is shared with another thread. An
//! [`Application`] decides which namespaces exist and what events mean. A broadcast is one [`Frame`],
//! encoded once and pushed to many [`Socket`]s; the worker's flush writes it straight to each TCP socket.
//!
//! Both Engine.IO revisions (3 and 4) and both Socket.IO protocol versions (4 and 5) are served on one
//! path, chosen by the `EIO` query parameter.
//!
//! Reading order:
//! - [`application`]: what an application implements and is told.
//! - [`config`]: limits and times.
//! - [`frame`]: one encoded message shared by many outboxes.
//! - [`worker`]: accepts, routes HTTP, keeps time, drains; its `flush` writes what is dirty.
//! - `session`: one Engine.IO client and its namespaces.
//! - [`socket`]: one client in one namespace, as the application sees it.
//! - [`handshake`]: the request it came with.
//! - [`peers`]: the workers of one server, and what one hands to another.
//! - [`per_address`]: how many of something each address has.
//! - [`reason`]: why it ended, and which rule was broken.
//! - `outbox`: the bounded queue of one session.
//! - [`batch`]: many sends in one system call, and what that is worth here.
//! - `heartbeat`: one timer wheel per worker.
//! - `lobby`: connections between requests, bounded in number.
//! - `transport`: bytes in, bytes out: `http` routes a request, `polling` answers polls and posts, `websocket` runs
//!   the upgraded socket.
//! - [`stats`]: counters and histograms.

pub mod application;
pub mod batch;
pub mod config;
pub mod frame;
pub mod handshake;
mod heartbeat;
mod lobby;
mod outbox;
pub mod peers;
pub mod per_address;
pub mod reason;
mod session;
pub mod socket;
pub mod stats;
mod transport;
pub mod worker;

pub use application::{AckId, Application, ConnectError, ConnectRequest, Event, Message, Payload};
pub use config::{Config, Cors, Mode, Revisions};
pub use frame::Frame;
pub use handshake::Handshake;
pub use peers::{Seat, seats};
pub use per_address::PerAddress;
pub use reason::{HttpFault, Reason, Violation};
pub use socket::{Socket, SocketId};
pub use socketio_wire::engineio::Revision;
pub use socketio_wire::websocket::close::CloseCode;
pub use stats::Stats;
pub use transport::http::{Body, Fallback, Peer};
pub use worker::{Lease, Worker};

//! Socket.IO: namespaces, events and acknowledgements on top of Engine.IO messages.
//!
//! Sources: `docs/socket.io-protocol/v4.md` and `v5-current.md` in the socket.io repository. Both revisions
//! share one grammar; they differ in who may send what (see `packet`).

pub mod packet;
pub mod reassembly;

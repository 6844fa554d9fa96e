//! Which Engine.IO revision a server speaks.

use socketio_wire::engineio::Revision;

use crate::{ConnectError, Options};

/// Asks the server once, by a polling handshake, else by what it sends first on a WebSocket.
/// `endpoint`, `path`, `query`, `headers`, `tls`, `addresses`, `local_addr` and `timeouts` of `options` are used.
pub async fn detect_revision(_options: &Options) -> Result<Revision, ConnectError> {
    unreachable!("under way")
}

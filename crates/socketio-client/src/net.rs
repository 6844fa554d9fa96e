//! Names, TCP and TLS: a byte stream to the server.

use std::io;
use std::net::SocketAddr;

use crate::Endpoint;

/// The addresses of an endpoint, in the order in which to try them. A literal address and `localhost` ask nobody.
pub async fn resolve(_endpoint: &Endpoint) -> io::Result<Vec<SocketAddr>> {
    unreachable!("under way")
}

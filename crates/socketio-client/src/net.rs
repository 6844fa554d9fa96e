//! Names, TCP and TLS: a byte stream to the server.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use rustls::pki_types::ServerName;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use url::Host;

use crate::error::{Cause, ConnectError, Stage, Stages};
use crate::options::{Endpoint, Options, Timeouts};

/// The addresses of an endpoint, in the order in which to try them. A literal address and `localhost`
/// (RFC 6761: always this machine) ask nobody.
pub async fn resolve(endpoint: &Endpoint) -> io::Result<Vec<SocketAddr>> {
    let port = endpoint.port;
    match &endpoint.host {
        Host::Ipv4(ip) => Ok(vec![(*ip, port).into()]),
        Host::Ipv6(ip) => Ok(vec![(*ip, port).into()]),
        Host::Domain(name) if name.eq_ignore_ascii_case("localhost") => {
            Ok(vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()])
        }
        Host::Domain(name) => {
            let addresses: Vec<_> = tokio::net::lookup_host((name.as_str(), port)).await?.collect();
            if addresses.is_empty() {
                return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
            }
            Ok(addresses)
        }
    }
}

/// How to reach a server; what `Options` and `websocket::Request` have in common.
#[derive(Clone, Copy)]
pub(crate) struct Route<'a> {
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) addresses: &'a [SocketAddr],
    pub(crate) local_addr: Option<IpAddr>,
    pub(crate) tls: Option<&'a Arc<rustls::ClientConfig>>,
    pub(crate) timeouts: &'a Timeouts,
}

impl<'a> Route<'a> {
    pub(crate) fn of(options: &'a Options) -> Self {
        Self {
            endpoint: &options.endpoint,
            addresses: &options.addresses,
            local_addr: options.local_addr,
            tls: options.tls.as_ref(),
            timeouts: &options.timeouts,
        }
    }
}

/// A connect under way: times its stages, holds its deadlines and names its failures.
pub(crate) struct Progress<'a> {
    endpoint: &'a Endpoint,
    address: Option<SocketAddr>,
    stages: Stages,
    stage_limit: Duration,
    deadline: Instant,
}

impl<'a> Progress<'a> {
    pub(crate) fn new(endpoint: &'a Endpoint, timeouts: &Timeouts) -> Self {
        Self {
            endpoint,
            address: None,
            stages: Stages::default(),
            stage_limit: timeouts.stage,
            deadline: Instant::now() + timeouts.connect,
        }
    }

    pub(crate) fn stages(&self) -> Stages {
        self.stages
    }

    /// The address that took the connection.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Runs one stage to its end, its failure or its deadline.
    pub(crate) async fn run<T>(
        &mut self,
        stage: Stage,
        work: impl Future<Output = Result<T, Cause>>,
    ) -> Result<T, ConnectError> {
        let began = Instant::now();
        let limit = self.stage_limit.min(self.deadline.saturating_duration_since(began));
        let outcome = timeout_at(began + limit, work).await.unwrap_or_else(|_| Err(Cause::Timeout(limit)));
        self.stages.set(stage, began.elapsed());
        outcome.map_err(|cause| self.failure(stage, cause))
    }

    pub(crate) fn failure(&self, stage: Stage, cause: Cause) -> ConnectError {
        let endpoint = match self.address {
            Some(address) => address.to_string(),
            None => self.endpoint.to_string(),
        };
        ConnectError::new(stage, cause, self.stages, endpoint)
    }

    /// Name, TCP and, where the endpoint asks for it, TLS.
    pub(crate) async fn open(&mut self, route: Route<'_>) -> Result<Stream, ConnectError> {
        let resolved;
        let addresses = if !route.addresses.is_empty() {
            route.addresses
        } else if let Host::Domain(_) = route.endpoint.host {
            resolved = self.run(Stage::Dns, async { Ok(resolve(route.endpoint).await?) }).await?;
            &resolved[..]
        } else {
            // A literal address: nothing to wait for and nothing to time.
            resolved =
                resolve(route.endpoint).await.map_err(|error| self.failure(Stage::Dns, error.into()))?;
            &resolved[..]
        };
        if let [only] = addresses {
            self.address = Some(*only);
        }
        let until = self.deadline.min(Instant::now() + self.stage_limit);
        let (tcp, address) =
            self.run(Stage::Tcp, connect_any(addresses, route.local_addr, route.endpoint, until)).await?;
        self.address = Some(address);
        if !route.endpoint.secure {
            return Ok(Stream::Tcp(tcp));
        }
        self.run(Stage::Tls, start_tls(tcp, route)).await
    }
}

impl From<io::Error> for Cause {
    fn from(error: io::Error) -> Self {
        Cause::Io(error)
    }
}

/// Tries one address after the other; each may use its share of the time that is left.
async fn connect_any(
    addresses: &[SocketAddr],
    local: Option<IpAddr>,
    endpoint: &Endpoint,
    until: Instant,
) -> Result<(TcpStream, SocketAddr), Cause> {
    let fits = |address: &&SocketAddr| local.is_none_or(|local| local.is_ipv4() == address.is_ipv4());
    let mut left = addresses.iter().filter(fits).count() as u32;
    if left == 0 {
        let text = match local {
            Some(local) => format!("no address of {endpoint} can be reached from {local}"),
            None => format!("{endpoint} has no address"),
        };
        return Err(Cause::Options(text));
    }
    let mut first_error = None;
    for &address in addresses.iter().filter(fits) {
        let now = Instant::now();
        let share = until.saturating_duration_since(now) / left;
        left -= 1;
        // The last one ends with the stage itself, which knows the limit's full length.
        let attempt = connect_one(address, local);
        let outcome = if left == 0 {
            attempt.await
        } else {
            timeout_at(now + share, attempt).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        };
        match outcome {
            Ok(stream) => return Ok((stream, address)),
            // The first address is the preferred one; its error tells most.
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    Err(Cause::Io(first_error.expect("at least one address was tried")))
}

async fn connect_one(address: SocketAddr, local: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(local) = local {
        leave_port_to_connect(&socket)?;
        socket.bind(SocketAddr::new(local, 0))?;
    }
    socket.set_nodelay(true)?;
    socket.connect(address).await
}

/// Without this, `bind` takes a port that no other connection may use, and 28,000 connections from one
/// address are the end, to however many servers they go.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)] // no safe wrapper of this option in socket2 or rustix
fn leave_port_to_connect(socket: &TcpSocket) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open, and the option's value is an int of the length given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(not(target_os = "linux"))]
fn leave_port_to_connect(_: &TcpSocket) -> io::Result<()> {
    Ok(())
}

async fn start_tls(tcp: TcpStream, route: Route<'_>) -> Result<Stream, Cause> {
    let Some(config) = route.tls else {
        return Err(Cause::Options("https and wss need `tls` to be set".into()));
    };
    let name = match &route.endpoint.host {
        Host::Domain(name) => ServerName::try_from(name.clone())
            .map_err(|_| Cause::Options(format!("{name:?} is not a name that TLS can check")))?,
        Host::Ipv4(ip) => ServerName::IpAddress(IpAddr::from(*ip).into()),
        Host::Ipv6(ip) => ServerName::IpAddress(IpAddr::from(*ip).into()),
    };
    let stream = TlsConnector::from(config.clone()).connect(name, tcp).await.map_err(|error| {
        // rustls' own errors travel inside an InvalidData error; what the system said stays as it is.
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(inner) => Cause::Tls(inner.to_string()),
            None => Cause::Io(error),
        }
    })?;
    Ok(Stream::Tls(Box::new(stream)))
}

/// Bytes to and from the server.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    /// Boxed: a TLS session is hundreds of bytes, and most connections have none.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        ready!(match self {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, &mut buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, &mut buffer),
        })?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    /// Appends what one read brings to `buffer`, within its capacity.
    pub(crate) fn poll_read_more(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        match self {
            Stream::Tcp(stream) => std::pin::pin!(stream.read_buf(buffer)).poll(cx),
            Stream::Tls(stream) => std::pin::pin!(stream.read_buf(buffer)).poll(cx),
        }
    }

    /// Writes what the system takes at once, without asking to be woken; 0 when it takes nothing.
    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => match stream.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
                other => other,
            },
            Stream::Tls(stream) => {
                let mut cx = Context::from_waker(Waker::noop());
                match Pin::new(stream).poll_write(&mut cx, bytes) {
                    Poll::Ready(result) => result,
                    Poll::Pending => Ok(0),
                }
            }
        }
    }

    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    /// TLS may hold encrypted bytes back; TCP holds nothing.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Tcp(_) => Poll::Ready(Ok(())),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    pub(crate) fn is_tls(&self) -> bool {
        matches!(self, Stream::Tls(_))
    }

    pub(crate) fn tcp(&self) -> &TcpStream {
        match self {
            Stream::Tcp(stream) => stream,
            Stream::Tls(stream) => stream.get_ref().0,
        }
    }

    pub(crate) fn limit_receive_buffer(&self, bytes: usize) -> io::Result<()> {
        SockRef::from(self.tcp()).set_recv_buffer_size(bytes)
    }

    /// Makes the coming drop a reset instead of an orderly end.
    pub(crate) fn reset_on_drop(&self) {
        // Where the system refuses, the drop is orderly; there is nothing better to do.
        let _ = SockRef::from(self.tcp()).set_linger(Some(Duration::ZERO));
    }
}

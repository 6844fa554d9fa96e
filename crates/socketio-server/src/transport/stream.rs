//! A connection's bytes: TCP, or TLS over it.
//!
//! Reading and writing go through `&self`, since a session's task and its worker's flush share the stream. For
//! TCP each call is the system's own behind one match.
//!
//! TLS holds at most one record of what was written: more is encrypted only after the socket has taken the last,
//! so that an outbox keeps the bytes of a slow reader, and its bounds mean the same as over TCP. What the socket
//! did not take is *held back*; it leaves before anything else, and until then the stream is not ready to write.

use std::cell::{Cell, RefCell};
use std::io::{self, BufRead as _, IoSlice, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use rustls::{ServerConfig, ServerConnection};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

/// Most bytes encrypted before the socket has taken them: one full TLS record.
const RECORD: usize = 16 << 10;

/// Most bytes of a plain HTTP request that are read so that its sender gets to see the answer.
const PLAIN_REQUEST: u64 = 64 << 10;

/// What a TLS port answers to a request without TLS.
const PLAIN_ANSWER: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 44\r\n\
Connection: close\r\n\r\nthis port speaks TLS only: use https or wss\n";

#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    /// Boxed: its state is a thousand bytes, and a plain connection has none of it.
    Tls(Box<Tls>),
}

/// An established TLS connection.
#[derive(Debug)]
pub(crate) struct Tls {
    tcp: TcpStream,
    connection: RefCell<ServerConnection>,
    /// `close_notify` is queued: the socket's write side closes behind it.
    finishing: Cell<bool>,
}

/// A stream between two threads' runtimes.
#[derive(Debug)]
pub(crate) struct Detached {
    tcp: std::net::TcpStream,
    tls: Option<Box<ServerConnection>>,
}

/// What one call of [`Stream::receive`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// There may be more at once.
    Again,
    /// Wait for the stream to become readable.
    Wait,
    /// The peer has ended it.
    Over,
}

impl Stream {
    /// The TLS handshake, to be run under a deadline. A request in plain HTTP is told so.
    ///
    /// # Errors
    /// When the peer speaks no TLS, or none that `config` accepts, or goes away.
    pub(crate) async fn accept_tls(mut tcp: TcpStream, config: Arc<ServerConfig>) -> io::Result<Self> {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut first = [0];
        // A handshake record begins with 22; an HTTP request with its method.
        if tcp.peek(&mut first).await? == 1 && first[0].is_ascii_uppercase() {
            tcp.write_all(PLAIN_ANSWER).await?;
            tcp.shutdown().await?;
            // Closing with bytes unread would be a reset, which may overtake the answer.
            tokio::io::copy(&mut tcp.take(PLAIN_REQUEST), &mut tokio::io::sink()).await?;
            return Err(io::Error::new(io::ErrorKind::InvalidData, "plain HTTP on the TLS port"));
        }
        let (tcp, mut connection) = TlsAcceptor::from(config).accept(tcp).await?.into_inner();
        connection.set_buffer_limit(Some(RECORD));
        Ok(Stream::tls(tcp, connection))
    }

    fn tls(tcp: TcpStream, connection: ServerConnection) -> Self {
        Stream::Tls(Box::new(Tls { tcp, connection: RefCell::new(connection), finishing: Cell::new(false) }))
    }

    /// Takes the stream from this thread's runtime.
    ///
    /// # Errors
    /// The operating system's.
    pub(crate) fn detach(self) -> io::Result<Detached> {
        Ok(match self {
            Stream::Tcp(tcp) => Detached { tcp: tcp.into_std()?, tls: None },
            Stream::Tls(tls) => {
                Detached { tcp: tls.tcp.into_std()?, tls: Some(Box::new(tls.connection.into_inner())) }
            }
        })
    }

    /// One write call: the frames' beginnings that were taken, in bytes. `WouldBlock` when none were.
    #[inline] // the match belongs into the flush, which is compiled apart
    pub(crate) fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let tcp = match self {
            Stream::Tcp(tcp) => tcp,
            Stream::Tls(tls) => return tls.write(slices),
        };
        // Not by way of the runtime, which would look up first what it knows of the socket: a miss of the cache for each.
        let written = match slices {
            [one] => send(tcp, one, SendFlags::NOSIGNAL).map_err(io::Error::from),
            many => rustix::io::writev(tcp, many).map_err(io::Error::from),
        };
        if matches!(&written, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
            self.found_full();
        }
        written
    }

    /// The socket, where what is written leaves as it is.
    pub(crate) fn plain_socket(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Stream::Tcp(tcp) => Some(tcp.as_fd()),
            Stream::Tls(_) => None,
        }
    }

    /// A send on the plain socket would have blocked: waiting for it to be ready means something again.
    pub(crate) fn found_full(&self) {
        let full = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
        let _ = self.tcp().try_io(Interest::WRITABLE, full);
    }

    /// Whether the socket has yet to take something that [`Stream::write`] took.
    #[inline]
    pub(crate) fn holds_back(&self) -> bool {
        match self {
            Stream::Tcp(_) => false,
            Stream::Tls(tls) => tls.connection.borrow().wants_write(),
        }
    }

    /// Ready when a write may be taken and nothing is held back.
    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Tcp(tcp) => tcp.poll_write_ready(cx),
            Stream::Tls(tls) => tls.poll_write_ready(cx),
        }
    }

    /// Ready when [`Stream::receive`] may find something.
    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Tls(tls) if tls.has_input() => Poll::Ready(Ok(())),
            _ => self.tcp().poll_read_ready(cx),
        }
    }

    /// Reads once into `buffer`. Gives the number of bytes read.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<(Read, usize)> {
        match self {
            Stream::Tcp(tcp) => receive(tcp, buffer.len(), |tcp| {
                recv(tcp, &mut *buffer, RecvFlags::empty()).map(|(_, length)| length)
            }),
            Stream::Tls(tls) => {
                let mut at = 0;
                tls.receive(buffer.len(), |bytes| {
                    buffer[at..][..bytes.len()].copy_from_slice(bytes);
                    at += bytes.len();
                })
            }
        }
    }

    /// Reads once behind what `buffer` holds, within its capacity. Gives the number of bytes read.
    pub(crate) fn receive_more(&self, buffer: &mut Vec<u8>) -> io::Result<(Read, usize)> {
        let room = buffer.capacity() - buffer.len();
        match self {
            Stream::Tcp(tcp) => receive(tcp, room, |tcp| {
                recv(tcp, rustix::buffer::spare_capacity(buffer), RecvFlags::empty())
                    .map(|(_, length)| length)
            }),
            Stream::Tls(tls) => tls.receive(room, |bytes| buffer.extend_from_slice(bytes)),
        }
    }

    /// Nothing more will be written: closes this direction behind what is held back.
    pub(crate) fn finish(&self) {
        // An error means that the peer is gone, which reading will show.
        let _ = match self {
            Stream::Tcp(tcp) => shutdown(tcp, Shutdown::Write).map_err(Into::into),
            Stream::Tls(tls) => tls.finish().map(|_| ()),
        };
    }

    /// Before the stream is dropped: `unsent` tells that the peer was not given all it should have been.
    pub(crate) fn end(&self, unsent: bool) {
        if unsent || self.holds_back() {
            // Half a frame may have left, and the kernel may hold more: only a reset frees it at once.
            let _ = self.tcp().set_zero_linger();
        } else if let Stream::Tls(_) = self {
            // RFC 8446 section 6.1: each side says `close_notify` before it closes.
            self.finish();
        }
    }

    fn tcp(&self) -> &TcpStream {
        match self {
            Stream::Tcp(tcp) => tcp,
            Stream::Tls(tls) => &tls.tcp,
        }
    }
}

impl Detached {
    /// Gives the stream to this thread's runtime.
    ///
    /// # Errors
    /// The operating system's.
    pub(crate) fn attach(self) -> io::Result<Stream> {
        let tcp = TcpStream::from_std(self.tcp)?;
        Ok(match self.tls {
            None => Stream::Tcp(tcp),
            Some(connection) => Stream::tls(tcp, *connection),
        })
    }
}

impl Tls {
    #[inline(never)] // plain connections pay for nothing of this
    fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut connection = self.connection.borrow_mut();
        if !self.send(&mut connection)? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let (mut index, mut offset, mut taken) = (0, 0, 0);
        while index < slices.len() {
            let mut writer = connection.writer();
            // Many small frames become one record, a large one becomes many.
            let mut count = if offset == 0 && index + 1 < slices.len() {
                writer.write_vectored(&slices[index..])?
            } else {
                writer.write(&slices[index][offset..])?
            };
            taken += count;
            while index < slices.len() && count >= slices[index].len() - offset {
                count -= slices[index].len() - offset;
                (index, offset) = (index + 1, 0);
            }
            offset += count;
            if !self.send(&mut connection)? {
                break;
            }
        }
        Ok(taken)
    }

    /// Gives the socket what is encrypted. Tells whether it took all.
    fn send(&self, connection: &mut ServerConnection) -> io::Result<bool> {
        while connection.wants_write() {
            match connection.write_tls(&mut Sender(&self.tcp)) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        if self.finishing.take() {
            shutdown(&self.tcp, Shutdown::Write)?;
        }
        Ok(true)
    }

    fn finish(&self) -> io::Result<bool> {
        let mut connection = self.connection.borrow_mut();
        connection.send_close_notify();
        self.finishing.set(true);
        self.send(&mut connection)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.tcp.poll_write_ready(cx))?;
            if self.send(&mut self.connection.borrow_mut())? {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Whether there is something to read, an end included, without asking the socket.
    fn has_input(&self) -> bool {
        let mut connection = self.connection.borrow_mut();
        let has_none =
            matches!(connection.reader().fill_buf(), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        !has_none
    }

    /// Hands `take` up to `room` decrypted bytes, piece by piece.
    fn receive(&self, room: usize, mut take: impl FnMut(&[u8])) -> io::Result<(Read, usize)> {
        let mut connection = self.connection.borrow_mut();
        let (mut length, mut emptied) = (0, false);
        loop {
            // First what is decrypted: there is no room for more before it is taken.
            loop {
                let mut reader = connection.reader();
                match reader.fill_buf() {
                    Ok(bytes) if !bytes.is_empty() => {
                        let count = bytes.len().min(room - length);
                        take(&bytes[..count]);
                        reader.consume(count);
                        length += count;
                        if length == room {
                            return Ok((Read::Again, length));
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error),
                    // Ended with a `close_notify` or without; frames have lengths, so a cut is noticed there.
                    Ok(_) | Err(_) if length == 0 => return Ok((Read::Over, 0)),
                    Ok(_) | Err(_) => return Ok((Read::Again, length)),
                }
            }
            if emptied {
                return Ok((Read::Wait, length));
            }
            match connection.read_tls(&mut Receiver { tcp: &self.tcp, emptied: &mut emptied }) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok((Read::Wait, length)),
                Err(error) => return Err(error),
            }
            if let Err(error) = connection.process_new_packets() {
                // The alert that tells the peer.
                let _ = self.send(&mut connection);
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
    }
}

/// The socket, as rustls writes to it.
struct Sender<'a>(&'a TcpStream);

impl io::Write for Sender<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The socket, as rustls reads from it.
struct Receiver<'a> {
    tcp: &'a TcpStream,
    /// Set when there is nothing more to read now.
    emptied: &'a mut bool,
}

impl io::Read for Receiver<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (read, length) = receive(self.tcp, buffer.len(), |tcp| {
            recv(tcp, &mut *buffer, RecvFlags::empty()).map(|(_, length)| length)
        })?;
        *self.emptied = read == Read::Wait;
        if *self.emptied && length == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(length) }
    }
}

/// One `recv` of up to `room` bytes. A call that does not fill the room has emptied the socket, so its
/// readiness is given up without a second call that would only say so.
fn receive(
    tcp: &TcpStream,
    room: usize,
    mut call: impl FnMut(&TcpStream) -> rustix::io::Result<usize>,
) -> io::Result<(Read, usize)> {
    let mut partial = None;
    let result = tcp.try_io(Interest::READABLE, || {
        let length = loop {
            match call(tcp) {
                Err(rustix::io::Errno::INTR) => {}
                other => break other?,
            }
        };
        if length > 0 && length < room {
            partial = Some(length);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(length)
    });
    match (partial, result) {
        (Some(length), _) => Ok((Read::Wait, length)),
        (None, Ok(0)) => Ok((Read::Over, 0)),
        (None, Ok(length)) => Ok((Read::Again, length)),
        (None, Err(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok((Read::Wait, 0)),
        (None, Err(error)) => Err(error),
    }
}

/// For HTTP, until the upgrade.
impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Stream::Tcp(tcp) = &mut *self {
            return Pin::new(tcp).poll_read(cx, buffer);
        }
        loop {
            ready!(self.poll_read_ready(cx))?;
            match self.receive(buffer.initialize_unfilled())? {
                (Read::Wait, 0) => {}
                (_, length) => {
                    buffer.advance(length);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Stream::Tcp(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Stream::Tls(_) => self.poll_write_vectored(cx, &[IoSlice::new(bytes)]),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Stream::Tcp(tcp) = &mut *self {
            return Pin::new(tcp).poll_write_vectored(cx, slices);
        }
        loop {
            ready!(self.poll_write_ready(cx))?;
            match self.write(slices) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return Poll::Ready(other),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.holds_back() { self.poll_write_ready(cx) } else { Poll::Ready(Ok(())) }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Stream::Tls(tls) = &*self {
            tls.finish()?;
            return self.poll_flush(cx);
        }
        match &mut *self {
            Stream::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Stream::Tls(_) => Poll::Ready(Ok(())),
        }
    }
}

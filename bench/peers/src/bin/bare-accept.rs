//! Accepts and answers, with one thread on epoll and no runtime: 101 to a WebSocket, whose frames it sends back, and a
//! short 200 to every other request. What a server pays to the operating system for a connection or a request.

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use base64::Engine as _;
use bench_peers::bare;
use clap::Parser;
use sha1::Digest as _;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok";
const WEBSOCKET_GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

#[derive(Parser)]
struct Arguments {
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

struct Connection {
    stream: TcpStream,
    unread: Vec<u8>,
    is_websocket: bool,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let listener = TcpListener::bind(arguments.listen)?;
    listener.set_nonblocking(true)?;
    // The standard library's backlog is 128.
    rustix::net::listen(&listener, 4096)?;
    let mut poll = bare::Poll::new()?;
    poll.add_reader(&listener, bare::LISTENER)?;
    println!("listening on {}", listener.local_addr()?);
    io::stdout().flush()?;

    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    loop {
        for (name, readable) in poll.wait()? {
            if name == bare::LISTENER {
                accept(&listener, &poll, &mut connections, &mut free)?;
                continue;
            }
            let Some(slot) = connections.get_mut(name as usize).filter(|_| readable) else { continue };
            let stays = slot.as_mut().is_some_and(|connection| connection.turn().unwrap_or(false));
            if !stays && slot.take().is_some() {
                free.push(name as usize);
            }
        }
    }
}

fn accept(
    listener: &TcpListener,
    poll: &bare::Poll,
    connections: &mut Vec<Option<Connection>>,
    free: &mut Vec<usize>,
) -> anyhow::Result<()> {
    use rustix::net::{SocketFlags, accept_with};
    loop {
        let stream: TcpStream = match accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok(stream) => stream.into(),
            Err(rustix::io::Errno::AGAIN) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        stream.set_nodelay(true)?;
        let place = free.pop().unwrap_or_else(|| {
            connections.push(None);
            connections.len() - 1
        });
        poll.add_reader(&stream, place as u64)?;
        connections[place] = Some(Connection { stream, unread: Vec::new(), is_websocket: false });
    }
}

impl Connection {
    /// Reads and answers; `false` when it is over.
    fn turn(&mut self) -> io::Result<bool> {
        let open = bare::read(&self.stream, &mut self.unread)?;
        let mut answer = Vec::new();
        let mut closes = false;
        let mut done = 0;
        loop {
            let rest = &self.unread[done..];
            if self.is_websocket {
                let Some(frame) = bare::frame(rest) else { break };
                done += frame.payload.end;
                let key = frame.mask.unwrap_or_default();
                let payload: Vec<u8> = rest[frame.payload]
                    .iter()
                    .zip(key.iter().cycle())
                    .map(|(byte, key)| byte ^ key)
                    .collect();
                closes |= frame.opcode == CLOSE;
                let opcode = if frame.opcode == PING { PONG } else { frame.opcode };
                bare::put_frame(&mut answer, opcode, &payload, None);
            } else {
                let Some(end) = bare::head_end(rest) else { break };
                done += end;
                match websocket_key(&rest[..end]) {
                    Some(key) => {
                        self.is_websocket = true;
                        answer.extend(switching(key));
                    }
                    None => answer.extend_from_slice(OK),
                }
            }
        }
        self.unread.drain(..done);
        if !answer.is_empty() {
            bare::write(&self.stream, &answer)?;
        }
        if self.unread.is_empty() {
            // Idle it holds nothing.
            self.unread = Vec::new();
        }
        Ok(open && !closes)
    }
}

/// What a client that wants a WebSocket asks to be answered.
fn websocket_key(head: &[u8]) -> Option<&str> {
    let head = std::str::from_utf8(head).ok()?;
    head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim())
    })
}

fn switching(key: &str) -> Vec<u8> {
    let digest = sha1::Sha1::new().chain_update(key).chain_update(WEBSOCKET_GUID).finalize();
    let accept = base64::engine::general_purpose::STANDARD.encode(digest);
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    )
    .into_bytes()
}

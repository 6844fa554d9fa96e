//! The floor under a fan-out: one thread, one `send` of a ready frame to each hearer, and just enough of Engine.IO 4 and
//! Socket.IO 5 over WebSocket for `drumfire`. Stores nothing, looks at no token, finds the hearers of a place once.
//!
//! `bare-fanout PORT`

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

use base64::Engine as _;
use bench_peers::grid::{Grid, Person};
use bench_peers::{Author, NewMsg, SaveMsg, Store};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use sha1::{Digest as _, Sha1};

const LISTENER: Token = Token(usize::MAX);
/// No run lasts as long, so nothing need be said between.
const OPEN: &str =
    r#"0{"sid":"bare","upgrades":[],"pingInterval":600000,"pingTimeout":600000,"maxPayload":1000000}"#;

struct Connection {
    stream: TcpStream,
    is_open: bool,
    /// What has been read and is not complete.
    rest: Vec<u8>,
    /// What the socket did not take.
    unsent: Vec<u8>,
}

struct Audience {
    hearers: Vec<usize>,
    /// Who stands within a LoudSpeaker's reach.
    near: Vec<usize>,
}

struct Server {
    poll: Poll,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    grid: Grid<usize>,
    /// By place and reach; forgotten when somebody comes or goes.
    known: HashMap<[u64; 3], Rc<Audience>>,
    messages: u64,
}

fn main() -> io::Result<()> {
    let port = std::env::args().nth(1).and_then(|port| port.parse().ok()).expect("bare-fanout PORT");
    let mut listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    let poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    println!("listening on {}", listener.local_addr()?);

    let mut server = Server {
        poll,
        connections: Vec::new(),
        free: Vec::new(),
        grid: Grid::default(),
        known: HashMap::new(),
        messages: 0,
    };
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; 1 << 16];
    loop {
        match server.poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            other => other?,
        }
        for event in &events {
            match event.token() {
                LISTENER => server.accept(&listener)?,
                Token(id) => {
                    if event.is_writable() {
                        server.resume(id);
                    }
                    if event.is_readable() {
                        server.read(id, &mut buffer);
                    }
                }
            }
        }
    }
}

impl Server {
    fn accept(&mut self, listener: &TcpListener) -> io::Result<()> {
        loop {
            let mut stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            stream.set_nodelay(true)?;
            let id = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            let both = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut stream, Token(id), both)?;
            self.connections[id] =
                Some(Connection { stream, is_open: false, rest: Vec::new(), unsent: Vec::new() });
        }
    }

    fn read(&mut self, id: usize, buffer: &mut [u8]) {
        loop {
            let Some(connection) = &mut self.connections[id] else { return };
            match connection.stream.read(buffer) {
                Ok(0) => return self.close(id),
                Ok(length) => {
                    let mut bytes = std::mem::take(&mut connection.rest);
                    bytes.extend_from_slice(&buffer[..length]);
                    let used = self.take(id, &mut bytes);
                    if let Some(connection) = &mut self.connections[id] {
                        bytes.drain(..used);
                        connection.rest = bytes;
                    }
                    // Less than there was room for: nothing more is there.
                    if length < buffer.len() {
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return self.close(id),
            }
        }
    }

    /// What is complete in `bytes`; how much of them that was.
    fn take(&mut self, id: usize, bytes: &mut [u8]) -> usize {
        let mut used = 0;
        if !self.connections[id].as_ref().is_some_and(|connection| connection.is_open) {
            let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return 0 };
            used = end + 4;
            self.request(id, &String::from_utf8_lossy(&bytes[..end]));
        }
        while let Some((opcode, from, until)) = frame_in(&mut bytes[used..]) {
            let payload = used + from..used + until;
            used += until;
            match opcode {
                1 => self.packet(id, &bytes[payload]),
                8 => {
                    self.close(id);
                    return used;
                }
                _ => {}
            }
        }
        used
    }

    fn request(&mut self, id: usize, head: &str) {
        let key = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("sec-websocket-key").then_some(value.trim())
        });
        let Some(key) = key else {
            self.send(id, b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            return self.close(id);
        };
        let digest = Sha1::new().chain_update(key).chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
        let accept = base64::engine::general_purpose::STANDARD.encode(digest.finalize());
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: {accept}\r\n\r\n"
        );
        self.send(id, answer.as_bytes());
        self.send(id, &frame(OPEN));
        if let Some(connection) = &mut self.connections[id] {
            connection.is_open = true;
        }
    }

    fn packet(&mut self, id: usize, packet: &[u8]) {
        if packet.starts_with(b"40") {
            return self.send(id, &frame(r#"40{"sid":"bare"}"#));
        }
        let Some(event) = packet.strip_prefix(b"42") else { return };
        let Some(start) = event.iter().position(|&byte| byte == b'[') else { return };
        let (ack, event) = event.split_at(start);
        let ack = std::str::from_utf8(ack).unwrap_or_default();
        if let Ok(("store", store)) = serde_json::from_slice::<(&str, Store)>(event) {
            let [lng, lat] = store.position;
            self.grid.put(id, Person { lng: lng.0, lat: lat.0, radius: store.radius.0 });
            self.known.clear();
            if !ack.is_empty() {
                self.send(id, &frame(&format!(r#"43{ack}[{{"status":200,"result":{{"idx":{id}}}}}]"#)));
            }
        } else if let Ok(("save_msg", said)) = serde_json::from_slice::<(&str, SaveMsg)>(event) {
            self.say(id, ack, said);
        }
    }

    fn say(&mut self, id: usize, ack: &str, said: SaveMsg) {
        let (lng, lat) = (said.message.lng.0, said.message.lat.0);
        let is_loud = said.message.kind == "LoudSpeaker";
        let reach = if is_loud { said.radius.map_or(500.0, |radius| radius.0) } else { -1.0 };
        let grid = &self.grid;
        let known = self.known.entry([lng.to_bits(), lat.to_bits(), reach.to_bits()]).or_insert_with(|| {
            let near = if is_loud { grid.within(lng, lat, reach).collect() } else { Vec::new() };
            Rc::new(Audience { hearers: grid.hearers(lng, lat).collect(), near })
        });
        let known = Rc::clone(known);
        let Audience { hearers, near } = &*known;

        self.messages += 1;
        let author =
            Author { idx: id as u64, nickname: format!("user-{id}"), avatar: None, anonymity: false };
        let message = NewMsg::new(self.messages, author, said.message);
        let body = serde_json::to_string(&message).expect("plain data");
        if !ack.is_empty() {
            self.send(id, &frame(&format!("43{ack}[{body}]")));
        }
        let new_msg = frame(&format!(r#"42["new_msg",{body}]"#));
        for &hearer in hearers.iter().filter(|&&hearer| hearer != id) {
            self.send(hearer, &new_msg);
        }
        self.send(id, &new_msg);
        if is_loud {
            let result = serde_json::to_string(&message.result).expect("plain data");
            let speaker = frame(&format!(r#"42["speaker",{result}]"#));
            for &alerted in near.iter().filter(|&&alerted| alerted != id) {
                self.send(alerted, &speaker);
            }
        }
    }

    /// At once, or behind what the socket has not taken yet.
    fn send(&mut self, id: usize, bytes: &[u8]) {
        let Some(connection) = &mut self.connections[id] else { return };
        let sent = if connection.unsent.is_empty() { write(&mut connection.stream, bytes) } else { 0 };
        connection.unsent.extend_from_slice(&bytes[sent..]);
    }

    /// The socket takes more again.
    fn resume(&mut self, id: usize) {
        let Some(connection) = &mut self.connections[id] else { return };
        if !connection.unsent.is_empty() {
            let sent = write(&mut connection.stream, &connection.unsent);
            connection.unsent.drain(..sent);
        }
    }

    fn close(&mut self, id: usize) {
        if let Some(mut connection) = self.connections[id].take() {
            let _ = self.poll.registry().deregister(&mut connection.stream);
            self.grid.remove(id);
            self.known.clear();
            self.free.push(id);
        }
    }
}

/// How much the socket took; a broken one takes all, and its end is read.
fn write(stream: &mut TcpStream, bytes: &[u8]) -> usize {
    let mut sent = 0;
    while sent < bytes.len() {
        match stream.write(&bytes[sent..]) {
            Ok(length) => sent += length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return sent,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return bytes.len(),
        }
    }
    sent
}

/// The first whole frame, unmasked in place: its opcode, where its payload begins and ends.
fn frame_in(bytes: &mut [u8]) -> Option<(u8, usize, usize)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    let (mut from, length) = match second & 0x7f {
        126 => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        127 => (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?),
        short => (2, usize::from(short)),
    };
    let mut mask = [0; 4];
    if second & 0x80 != 0 {
        mask.copy_from_slice(bytes.get(from..from + 4)?);
        from += 4;
    }
    let payload = bytes.get_mut(from..from + length)?;
    for (place, byte) in payload.iter_mut().enumerate() {
        *byte ^= mask[place % 4];
    }
    Some((first & 0x0f, from, from + length))
}

/// Text as one unmasked frame.
fn frame(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81];
    match text.len() {
        short @ ..126 => frame.push(short as u8),
        middle @ ..65_536 => {
            frame.push(126);
            frame.extend_from_slice(&(middle as u16).to_be_bytes());
        }
        long => {
            frame.push(127);
            frame.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(text.as_bytes());
    frame
}

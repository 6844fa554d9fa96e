//! The server's side of long polling, in raw bytes: each connection has a thread that reads requests, and the
//! script takes them in the order it wants them and answers with whatever bytes it likes.

use std::collections::VecDeque;
use std::io::{Cursor, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, channel};

use super::{LONG, Peer, Server};

/// What a server with these times says first; `upgrades` is the JSON list.
pub fn open_packet(upgrades: &str, ping_interval: u64, ping_timeout: u64) -> String {
    format!(
        r#"0{{"sid":"engine/1","upgrades":{upgrades},"pingInterval":{ping_interval},"pingTimeout":{ping_timeout},"maxPayload":1000000}}"#
    )
}

pub struct Request {
    /// `GET`, `POST`, `WS` for an upgrade, or `END` when the connection has ended; the body then says how.
    pub method: String,
    pub target: String,
    head: String,
    pub body: Vec<u8>,
    /// Which connection it came on, from 0 in the order of their coming.
    pub connection: usize,
    pub stream: TcpStream,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (known, value) = line.split_once(':')?;
            known.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// Bytes as they are. A client that has gone is no fault of the script.
    pub fn raw(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
    }

    pub fn answer(mut self, body: impl AsRef<[u8]>) {
        self.raw(response("text/plain; charset=UTF-8", body.as_ref()));
    }

    pub fn answer_bytes(mut self, body: &[u8]) {
        self.raw(response("application/octet-stream", body));
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The server's end of the WebSocket this request asks for.
    pub fn into_websocket(self) -> Peer<Replay> {
        Peer::accept(Replay { head: Cursor::new(self.head.into_bytes()), stream: self.stream })
    }
}

pub fn response(kind: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// A stream whose first bytes have been read already.
pub struct Replay {
    head: Cursor<Vec<u8>>,
    pub stream: TcpStream,
}

impl Read for Replay {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self.head.read(buffer)? {
            0 => self.stream.read(buffer),
            count => Ok(count),
        }
    }
}

impl Write for Replay {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

/// The requests of one client.
pub struct Requests {
    coming: Receiver<Request>,
    /// Came before they were asked for.
    early: VecDeque<Request>,
}

impl Requests {
    #[track_caller]
    pub fn get(&mut self) -> Request {
        self.take("GET")
    }

    #[track_caller]
    pub fn post(&mut self) -> Request {
        self.take("POST")
    }

    #[track_caller]
    pub fn websocket(&mut self) -> Request {
        self.take("WS")
    }

    #[track_caller]
    pub fn take(&mut self, method: &str) -> Request {
        if let Some(at) = self.early.iter().position(|request| request.method == method) {
            return self.early.remove(at).unwrap();
        }
        loop {
            let request =
                self.coming.recv_timeout(LONG).unwrap_or_else(|error| panic!("no {method}: {error}"));
            if request.method == method {
                return request;
            }
            self.early.push_back(request);
        }
    }

    /// Whether no request has come that was not taken.
    pub fn is_empty(&mut self) -> bool {
        self.early.extend(self.coming.try_iter());
        self.early.iter().all(|request| request.method == "END")
    }

    /// Takes the post that has to say this, and answers it.
    #[track_caller]
    pub fn expect_post(&mut self, body: &str) {
        let post = self.post();
        assert_eq!(post.text(), body);
        post.answer("ok");
    }

    /// Engine.IO 4 up to the connected default namespace.
    pub fn greet(&mut self, upgrades: &str) {
        self.get().answer(open_packet(upgrades, 25_000, 20_000));
        self.expect_post("40");
        self.get().answer(r#"40{"sid":"socket"}"#);
    }

    /// Engine.IO 3 up to the connected default namespace.
    pub fn greet_v3(&mut self, upgrades: &str) {
        let open = open_packet(upgrades, 25_000, 5_000);
        self.get().answer(format!("{}:{open}2:40", open.len()));
    }

    /// What the client does last, once no post is under way.
    #[track_caller]
    pub fn expect_goodbye(&mut self, body: &str) {
        self.expect_post(body);
        self.get().answer("6");
    }
}

/// Plays `script` to a client that polls.
pub fn server(script: impl FnOnce(Requests) + Send + 'static) -> Server {
    Server::listen(|listener| {
        let listener = listener.try_clone().unwrap();
        let (sender, coming) = channel();
        std::thread::spawn(move || {
            for (connection, stream) in listener.incoming().flatten().enumerate() {
                let sender = sender.clone();
                std::thread::spawn(move || {
                    loop {
                        let request = read(&stream, connection);
                        let last = matches!(request.method.as_str(), "WS" | "END");
                        if sender.send(request).is_err() || last {
                            return;
                        }
                    }
                });
            }
        });
        script(Requests { coming, early: VecDeque::new() });
    })
}

/// The next request, or why there is none.
fn read(stream: &TcpStream, connection: usize) -> Request {
    let mut request = Request {
        method: String::new(),
        target: String::new(),
        head: String::new(),
        body: Vec::new(),
        connection,
        stream: stream.try_clone().unwrap(),
    };
    if let Err(error) = request.read() {
        request.method = "END".into();
        request.body = format!("{:?}", error.kind()).into_bytes();
    }
    request
}

impl Request {
    fn read(&mut self) -> std::io::Result<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        self.head = String::from_utf8(head).unwrap();
        let mut words = self.head.split(' ').map(str::to_owned);
        (self.method, self.target) = (words.next().unwrap(), words.next().unwrap());
        if self.header("upgrade").is_some() {
            self.method = "WS".into();
        }
        let length = self.header("content-length").map_or(0, |length| length.parse().unwrap());
        self.body.resize(length, 0);
        self.stream.read_exact(&mut self.body)
    }
}

//! A server that plays a script: one thread, one connection after the other, tungstenite's WebSocket
//! (an implementation that shares no code with ours) or bare TCP.

#![allow(dead_code, unreachable_pub)] // each test file uses its part

pub mod polling;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use socketio_client::{Client, Options, Revision, connect};
use tungstenite::handshake::server::{Request, Response};
use tungstenite::{Message, WebSocket};

/// Nothing on loopback takes this long; a test that waits for it has failed.
pub const LONG: Duration = Duration::from_secs(10);

pub struct Server {
    pub addr: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Plays `script` to the first connection.
    pub fn tcp(script: impl FnOnce(TcpStream) + Send + 'static) -> Self {
        Self::listen(|listener| script(accept(listener)))
    }

    /// Plays `script` to the first connection, once it is a WebSocket.
    pub fn websocket(script: impl FnOnce(Peer) + Send + 'static) -> Self {
        Self::tcp(|stream| script(Peer::accept(stream)))
    }

    pub fn listen(script: impl FnOnce(&TcpListener) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        Self { addr, thread: Some(std::thread::spawn(move || script(&listener))) }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub fn options(&self) -> Options {
        Options::new(&self.url()).unwrap()
    }

    pub fn options_v3(&self) -> Options {
        Options { revision: Revision::V3, ..self.options() }
    }

    /// Waits for the script's end; its failed assertion fails the test.
    pub fn join(mut self) {
        if let Err(panic) = self.thread.take().unwrap().join() {
            std::panic::resume_unwind(panic);
        }
    }
}

pub fn accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Reads a request's head.
pub fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).unwrap() == 0 {
            break;
        }
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// The server's end of a WebSocket.
pub struct Peer<S = TcpStream> {
    pub ws: WebSocket<S>,
    /// Path and query of the request.
    pub target: String,
    pub headers: Vec<(String, String)>,
}

impl<S: Read + Write> Peer<S> {
    #[allow(clippy::result_large_err)] // tungstenite's callback type
    pub fn accept(stream: S) -> Self {
        let mut target = String::new();
        let mut headers = Vec::new();
        let ws = tungstenite::accept_hdr(stream, |request: &Request, mut response: Response| {
            target = request.uri().to_string();
            headers = (request.headers().iter())
                .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
                .collect();
            if let Some(offered) = request.headers().get("sec-websocket-protocol") {
                let picked = offered.to_str().unwrap().rsplit(", ").next().unwrap().parse().unwrap();
                response.headers_mut().insert("sec-websocket-protocol", picked);
            }
            Ok(response)
        });
        Self { ws: ws.map_err(|error| error.to_string()).unwrap(), target, headers }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn send(&mut self, text: &str) {
        self.ws.send(Message::text(text)).unwrap();
    }

    pub fn send_binary(&mut self, bytes: &[u8]) {
        self.ws.send(Message::binary(bytes.to_vec())).unwrap();
    }

    #[track_caller]
    pub fn expect(&mut self, text: &str) {
        let message = self.ws.read().unwrap();
        assert_eq!(message.to_text().unwrap(), text);
        assert!(message.is_text(), "{message:?}");
    }

    #[track_caller]
    pub fn expect_binary(&mut self, bytes: &[u8]) {
        assert_eq!(self.ws.read().unwrap(), Message::binary(bytes.to_vec()));
    }

    /// The `open` packet.
    pub fn open(&mut self, ping_interval: u64, ping_timeout: u64) {
        self.send(&format!(
            r#"0{{"sid":"engine","upgrades":[],"pingInterval":{ping_interval},"pingTimeout":{ping_timeout},"maxPayload":1000000}}"#
        ));
    }

    /// Engine.IO 4 up to the connected default namespace.
    pub fn greet(&mut self) {
        self.open(25_000, 20_000);
        self.expect("40");
        self.send(r#"40{"sid":"socket"}"#);
    }

    /// Engine.IO 3 up to the connected default namespace.
    pub fn greet_v3(&mut self) {
        self.open(25_000, 5_000);
        self.send("40");
    }

    /// What the official clients do last.
    #[track_caller]
    pub fn expect_goodbye(&mut self) {
        self.expect("41");
        assert_eq!(self.ws.read().unwrap(), Message::Close(None));
        // Sends the answer that tungstenite has prepared.
        while self.ws.read().is_ok() {}
    }
}

impl Peer {
    /// Plays on until the client is gone.
    pub fn until_gone(mut self) {
        while self.ws.read().is_ok() {}
    }

    /// Bytes as they are, past tungstenite.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.ws.get_mut().write_all(bytes).unwrap();
    }
}

/// Ends a connection with a reset.
pub fn reset(stream: &TcpStream) {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
}

pub async fn client(server: &Server) -> Client {
    connect(&server.options()).await.unwrap().client
}

/// An unmasked frame of any kind.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        0..126 => frame.push(payload.len() as u8),
        126..=0xffff => {
            frame.push(126);
            frame.extend((payload.len() as u16).to_be_bytes());
        }
        _ => {
            frame.push(127);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend(payload);
    frame
}

pub fn text_frame(text: &str) -> Vec<u8> {
    frame(0x81, text.as_bytes())
}

//! The other side: a server made of bytes, to which `socketio-client` connects.

use std::future::Future;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};
use socketio_client::{Options, Revision};

use crate::http::PATIENCE;
use crate::transcript::{Pen, Transcript, shown};
use crate::websocket::WebSocket;

/// What RFC 6455 section 1.3 appends to a key.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Waits for the client of one case.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    pub(crate) transcript: Transcript,
}

/// A request's head, to be answered.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) line: String,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    stream: TcpStream,
    pen: Pen,
}

impl Listener {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { listener: TcpListener::bind("127.0.0.1:0")?, transcript: Transcript::default() })
    }

    fn options(&self) -> Result<Options> {
        let mut options = Options::new(&format!("http://{}", self.listener.local_addr()?))?;
        options.timeouts.stage = PATIENCE;
        Ok(options)
    }

    /// Runs `client` on a thread of its own while `server` plays here; gives what the client came to.
    pub(crate) fn play<T, F>(
        &self,
        client: impl FnOnce(Options) -> F + Send,
        server: impl FnOnce(&Self) -> Result<()>,
    ) -> Result<T>
    where
        T: Send,
        F: Future<Output = Result<T>>,
    {
        let options = self.options()?;
        thread::scope(|scope| {
            let client = scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(client(options))
            });
            let played = server(self);
            let outcome = client.join().map_err(|_| anyhow!("the client panicked"))?;
            played?;
            outcome
        })
    }

    /// Whether nobody connects within `time`.
    pub(crate) fn is_silent_for(&self, time: Duration) -> Result<bool> {
        self.listener.set_nonblocking(true)?;
        thread::sleep(time);
        let waiting = self.listener.accept();
        self.listener.set_nonblocking(false)?;
        Ok(waiting.is_err())
    }

    /// The next connection's request.
    pub(crate) fn accept(&self) -> Result<Request> {
        let (mut stream, _) = self.listener.accept()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let pen = self.transcript.connection();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            ensure!(stream.read(&mut byte)? == 1, "the client ended its request early");
            head.push(byte[0]);
        }
        pen.got(shown(&head));
        let head = String::from_utf8(head)?;
        let (line, fields) = head.split_once("\r\n").context("a request line")?;
        let headers = fields.split("\r\n").filter_map(|field| field.split_once(':'));
        let headers =
            headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
        Ok(Request { line: line.to_owned(), headers, stream, pen })
    }
}

impl Request {
    /// The only field of this name.
    pub(crate) fn header(&self, name: &str) -> Result<&str> {
        let mut found = self.headers.iter().filter(|(field, _)| field == name);
        let (_, value) = found.next().with_context(|| format!("no {name} in the request"))?;
        ensure!(found.next().is_none(), "{name} twice in the request");
        Ok(value)
    }

    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        let target = self.line.split(' ').nth(1)?;
        let (_, query) = target.split_once('?')?;
        query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|found| found.1)
    }

    /// What a server answers to the request's key.
    pub(crate) fn accept_value(&self) -> Result<String> {
        let key = self.header("sec-websocket-key")?;
        Ok(STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize()))
    }

    /// The 101 and the server's end behind it.
    pub(crate) fn upgrade(self) -> Result<WebSocket> {
        let accept = self.accept_value()?;
        self.upgrade_with(&accept, "")
    }

    /// A 101 with this proof and further header lines.
    pub(crate) fn upgrade_with(mut self, accept: &str, more: &str) -> Result<WebSocket> {
        self.write(&format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {accept}\r\n{more}\r\n"
        ))?;
        Ok(WebSocket::server(self.stream, self.pen))
    }

    /// The body that `Content-Length` announces.
    pub(crate) fn body(&mut self) -> Result<String> {
        let mut body = vec![0; self.header("content-length")?.parse()?];
        self.stream.read_exact(&mut body)?;
        self.pen.got(shown(&body));
        Ok(String::from_utf8(body)?)
    }

    /// A whole answer to a poll or a post, the connection's last.
    pub(crate) fn answer(self, body: &str) -> Result<()> {
        let length = body.len();
        self.respond(&format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=UTF-8\r\nConnection: close\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        ))
    }

    pub(crate) fn respond(mut self, response: &str) -> Result<()> {
        self.write(response)
    }

    fn write(&mut self, text: &str) -> Result<()> {
        self.pen.sent(shown(text.as_bytes()));
        Ok(self.stream.write_all(text.as_bytes())?)
    }
}

/// What a server says in which revision until the default namespace is connected.
pub(crate) fn greet(socket: &mut WebSocket, revision: Revision) -> Result<()> {
    greet_with(socket, revision, 25_000, 20_000)
}

/// As [`greet`], with times in milliseconds.
pub(crate) fn greet_with(
    socket: &mut WebSocket,
    revision: Revision,
    ping_interval: u64,
    ping_timeout: u64,
) -> Result<()> {
    socket.send(&format!(
        r#"0{{"sid":"engine","upgrades":[],"pingInterval":{ping_interval},"pingTimeout":{ping_timeout},"maxPayload":1000000}}"#
    ))?;
    match revision {
        Revision::V3 => socket.send("40"),
        Revision::V4 => {
            socket.expect("40")?;
            socket.send(r#"40{"sid":"socket"}"#)
        }
    }
}

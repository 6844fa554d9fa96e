//! A server on its own thread and a client that speaks bytes.
#![allow(dead_code)] // each test file uses its own part

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use serde_json::value::RawValue;
use socketio_server::{
    Application, Config, ConnectError, ConnectRequest, Event, Message, Payload, Reason, Seat, Socket, Stats,
    Worker,
};
use tokio::sync::mpsc as tokio_mpsc;

/// Longer than anything a passing test waits for.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Tells the test what it was told, and answers a few events.
pub struct TestApp {
    log: mpsc::Sender<String>,
}

impl TestApp {
    fn say(&self, line: String) {
        // The test may have seen enough.
        let _ = self.log.send(line);
    }
}

impl Application for TestApp {
    type Data = ();

    fn connect(&self, socket: &Rc<Socket<Self>>, request: &ConnectRequest<'_>) -> Result<(), ConnectError> {
        let ConnectRequest { namespace, auth, namespace_query, .. } = request;
        self.say(format!("connect {namespace} auth={auth} query={namespace_query}"));
        match *namespace {
            "/refused" => {
                socket.emit("never", "1");
                Err(ConnectError::new("no").with_data(r#"{"code":7}"#))
            }
            "/unknown" => Err(ConnectError::unknown_namespace()),
            "" => Ok(()),
            _ => {
                socket.emit("hello", &format!("{:?}", socket.namespace()));
                Ok(())
            }
        }
    }

    fn event(&self, socket: &Rc<Socket<Self>>, event: Event<'_>) {
        let args: Vec<&str> = event.payload.args.iter().copied().map(RawValue::get).collect();
        let args = args.join(",");
        let attachments = event.payload.attachments;
        self.say(format!("event {} {args} attachments={attachments:?} ack={:?}", event.name, event.ack));
        match (event.name, event.ack) {
            ("echo", None) if attachments.is_empty() => socket.emit("echo", &args),
            ("echo", None) => socket.emit_binary("echo", &args, attachments),
            ("echo", Some(id)) if attachments.is_empty() => socket.ack(id, &args),
            ("echo", Some(id)) => socket.ack_binary(id, &args, attachments),
            ("leave", _) => socket.disconnect(),
            ("ask", _) => {
                socket.emit_with_ack("question", "1");
            }
            ("panic", _) => panic!("asked to"),
            _ => {}
        }
    }

    fn acknowledged(&self, _: &Rc<Socket<Self>>, id: u64, answer: Payload<'_>) {
        let args: Vec<&str> = answer.args.iter().copied().map(RawValue::get).collect();
        self.say(format!("acknowledged {id} {} attachments={:?}", args.join(","), answer.attachments));
    }

    fn message(&self, socket: &Rc<Socket<Self>>, message: Message<'_>) {
        self.say(format!("message {message:?}"));
        socket.send(message);
    }

    fn disconnect(&self, socket: &Rc<Socket<Self>>, reason: &Reason) {
        self.say(format!("disconnect {} {reason}", socket.namespace()));
    }
}

type Job = Box<dyn FnOnce(&Rc<Worker<TestApp>>) + Send>;

/// Runs until dropped.
pub struct Server {
    pub address: SocketAddr,
    pub stats: Arc<Stats>,
    log: mpsc::Receiver<String>,
    jobs: Option<tokio_mpsc::UnboundedSender<Job>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    pub fn start(config: Config) -> Self {
        let seat = socketio_server::seats(1).remove(0);
        Self::start_at(seat, config)
    }

    /// One of several workers of a server; each listens on a port of its own, so that a test chooses whom it asks.
    pub fn start_at(seat: Seat, config: Config) -> Self {
        let (log_sender, log) = mpsc::channel();
        let (jobs, mut job_receiver) = tokio_mpsc::unbounded_channel::<Job>();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let stats = Arc::new(Stats::default());
        let worker_stats = Arc::clone(&stats);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build_local(Default::default())
                .unwrap();
            runtime.block_on(async move {
                let worker =
                    Worker::with_seat(Rc::new(TestApp { log: log_sender }), config, worker_stats, seat);
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                loop {
                    tokio::select! {
                        accepted = listener.accept() => {
                            let (stream, peer) = accepted.unwrap();
                            worker.accept(stream, peer);
                        }
                        job = job_receiver.recv() => match job {
                            Some(job) => job(&worker),
                            None => break,
                        },
                    }
                }
            });
        });
        Self { address, stats, log, jobs: Some(jobs), thread: Some(thread) }
    }

    /// Runs `job` on the worker's thread and waits for what it gives.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce(&Rc<Worker<TestApp>>) -> T + Send + 'static) -> T {
        let (sender, receiver) = mpsc::channel();
        let job: Job = Box::new(move |worker| sender.send(job(worker)).unwrap());
        assert!(self.jobs.as_ref().unwrap().send(job).is_ok(), "the server runs");
        receiver.recv_timeout(PATIENCE).expect("the job's answer")
    }

    /// The next thing the application was told.
    #[track_caller]
    pub fn told(&self) -> String {
        self.log.recv_timeout(PATIENCE).expect("something told to the application")
    }

    #[track_caller]
    pub fn expect(&self, line: &str) {
        assert_eq!(self.told(), line);
    }

    /// What the application was told and nobody asked for.
    pub fn told_nothing(&self) -> bool {
        self.log.try_recv().is_err()
    }

    /// A bare HTTP exchange on a connection of its own: status and body.
    pub fn http(&self, request: &str) -> (u16, String) {
        self.ask(request).answer()
    }

    /// The first half of such an exchange.
    pub fn ask(&self, request: &str) -> Asked {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        Asked(stream)
    }

    /// One GET or POST of a polling client, on a connection of its own: status and body.
    pub fn poll(&self, query: &str) -> (u16, String) {
        self.ask_poll(query).answer()
    }

    /// A poll that may have to wait for its answer.
    pub fn ask_poll(&self, query: &str) -> Asked {
        self.ask(&format!("GET /socket.io/?{query} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
    }

    pub fn post(&self, query: &str, body: &str) -> (u16, String) {
        let length = body.len();
        self.http(&format!(
            "POST /socket.io/?{query} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
    }

    /// A polling session: the query that names it.
    pub fn polling(&self, revision: u8) -> String {
        let query = format!("EIO={revision}&transport=polling");
        let (status, body) = self.poll(&query);
        assert_eq!(status, 200, "{body}");
        let sid = body.split("\"sid\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a sid");
        format!("{query}&sid={sid}")
    }

    /// A WebSocket whose handshake is done, nothing read behind it.
    pub fn websocket(&self, query: &str) -> Client {
        Client::upgrade(TcpStream::connect(self.address).unwrap(), query)
    }

    /// A client in `/`, its open packet, CONNECT answer and `hello` read.
    pub fn client(&self, revision: u8) -> Client {
        let mut client = self.websocket(&format!("EIO={revision}&transport=websocket"));
        assert!(client.text().starts_with("0{"));
        if revision == 4 {
            client.send("40");
        }
        assert!(client.text().starts_with("40"));
        assert_eq!(client.text(), r#"42["hello","/"]"#);
        self.expect("connect / auth= query=");
        client
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the server's thread panicked");
        }
    }
}

/// A request under way; dropped, its client has gone.
pub struct Asked(pub TcpStream);

impl Asked {
    /// Status and body.
    pub fn answer(self) -> (u16, String) {
        let (head, body) = self.head_and_body();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        (status, String::from_utf8(body).unwrap())
    }

    pub fn head_and_body(mut self) -> (String, Vec<u8>) {
        let mut answer = Vec::new();
        self.0.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
        let body = answer.split_off(end);
        (String::from_utf8(answer).unwrap(), body)
    }
}

/// Times short enough to wait for, long enough for a slow machine where they must not pass.
pub fn config() -> Config {
    Config {
        ping_interval: Duration::from_secs(300),
        ping_timeout: Duration::from_secs(300),
        ..Config::default()
    }
}

#[derive(Debug, PartialEq, Eq, Clone)]
pub enum Got {
    Text(String),
    Binary(Vec<u8>),
    Close(Option<u16>),
    Pong(Vec<u8>),
    Eof,
    Reset,
}

/// The client's end, byte for byte.
pub struct Client {
    pub stream: TcpStream,
    /// Read and not yet taken.
    buffer: VecDeque<u8>,
    ended: Option<Got>,
}

impl Client {
    pub fn upgrade(mut stream: TcpStream, query: &str) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        write!(
            stream,
            "GET /socket.io/?{query} HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\n\
             Upgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        .unwrap();
        let mut client = Self { stream, buffer: VecDeque::new(), ended: None };
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(client.byte().expect("an answer to the upgrade"));
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        // The key and its answer stand in RFC 6455 section 1.3.
        assert!(
            head.to_lowercase().contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"),
            "{head}"
        );
        client
    }

    /// A masked text frame.
    pub fn send(&mut self, text: &str) {
        self.frame(0x81, text.as_bytes());
    }

    pub fn send_binary(&mut self, data: &[u8]) {
        self.frame(0x82, data);
    }

    /// A masked frame with this first byte.
    pub fn frame(&mut self, first: u8, payload: &[u8]) {
        self.raw(&masked(first, payload));
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Gives up the memory of the client's own buffer, for tests that count.
    pub fn forget_buffer(&mut self) {
        assert!(self.buffer.is_empty());
        self.buffer = VecDeque::new();
    }

    fn byte(&mut self) -> Option<u8> {
        let mut chunk = [0; 16 << 10];
        while self.buffer.is_empty() && self.ended.is_none() {
            match self.stream.read(&mut chunk) {
                Ok(0) => self.ended = Some(Got::Eof),
                Ok(length) => self.buffer.extend(&chunk[..length]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => self.ended = Some(Got::Reset),
                Err(error) => panic!("nothing arrived: {error}"),
            }
        }
        self.buffer.pop_front()
    }

    /// The next whole frame, or how the connection ended. A frame cut short is a failure.
    #[track_caller]
    pub fn next(&mut self) -> Got {
        let Some(first) = self.byte() else { return self.ended.clone().unwrap() };
        let mut bytes = |count: usize| -> Vec<u8> {
            (0..count).map(|_| self.byte().expect("the rest of a frame")).collect()
        };
        let length = match bytes(1)[0] {
            126 => u16::from_be_bytes(bytes(2).try_into().unwrap()).into(),
            127 => u64::from_be_bytes(bytes(8).try_into().unwrap()) as usize,
            length => usize::from(length),
        };
        assert!(length < 1 << 24, "a masked or absurd length");
        let payload = bytes(length);
        match first {
            0x81 => Got::Text(String::from_utf8(payload).unwrap()),
            0x82 => Got::Binary(payload),
            0x88 => Got::Close(payload.first_chunk().map(|code| u16::from_be_bytes(*code))),
            0x8a => Got::Pong(payload),
            other => panic!("frame that begins with {other:#x}"),
        }
    }

    /// The next text frame.
    #[track_caller]
    pub fn text(&mut self) -> String {
        match self.next() {
            Got::Text(text) => text,
            other => panic!("expected text, got {other:?}"),
        }
    }

    #[track_caller]
    pub fn expect(&mut self, expected: &str) {
        assert_eq!(self.text(), expected);
    }

    /// A close frame with `code`, then the end of the connection.
    #[track_caller]
    pub fn expect_close(&mut self, code: u16) {
        assert_eq!(self.next(), Got::Close(Some(code)));
        assert_eq!(self.next(), Got::Eof);
    }
}

/// A client's frame with this first byte.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x12, 0x34, 0x56, 0x78];
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

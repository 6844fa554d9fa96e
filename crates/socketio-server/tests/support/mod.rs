//! A server on its own thread; `raw` is a client that speaks bytes.
#![allow(dead_code, unused_imports)] // each test file uses its own part

mod raw;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use serde_json::value::RawValue;
use socketio_server::{
    Application, CloseCode, Config, ConnectError, ConnectRequest, Event, Message, Payload, Reason, Seat,
    Socket, Stats, Worker,
};
use tokio::sync::mpsc as tokio_mpsc;

pub use raw::{Client, Got, PATIENCE, masked};

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

/// What a server does with an accepted connection.
pub type Accept = Box<dyn Fn(&Rc<Worker<TestApp>>, tokio::net::TcpStream, SocketAddr) + Send>;

type Job = Box<dyn FnOnce(&Rc<Worker<TestApp>>) + Send>;

/// Runs until dropped.
pub struct Server {
    pub address: SocketAddr,
    pub stats: Arc<Stats>,
    log: mpsc::Receiver<String>,
    jobs: Option<tokio_mpsc::UnboundedSender<Job>>,
    thread: Option<std::thread::JoinHandle<()>>,
    drains: Arc<AtomicBool>,
}

impl Server {
    pub fn start(config: Config) -> Self {
        let seat = socketio_server::seats(1).remove(0);
        Self::start_at(seat, config)
    }

    /// `accept` gets each accepted connection.
    pub fn start_with(config: Config, accept: Accept) -> Self {
        let seat = socketio_server::seats(1).remove(0);
        Self::start_accepting(seat, config, accept)
    }

    /// One of several workers of a server; each listens on a port of its own, so that a test chooses whom it asks.
    pub fn start_at(seat: Seat, config: Config) -> Self {
        Self::start_accepting(seat, config, Box::new(|worker, stream, peer| worker.accept(stream, peer)))
    }

    pub fn start_accepting(seat: Seat, config: Config, accept: Accept) -> Self {
        let (log_sender, log) = mpsc::channel();
        let (jobs, mut job_receiver) = tokio_mpsc::unbounded_channel::<Job>();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let stats = Arc::new(Stats::default());
        let worker_stats = Arc::clone(&stats);
        let drains = Arc::new(AtomicBool::new(false));
        let drains_at_end = Arc::clone(&drains);
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
                            accept(&worker, stream, peer);
                        }
                        job = job_receiver.recv() => match job {
                            Some(job) => job(&worker),
                            None => break,
                        },
                    }
                }
                if drains_at_end.load(Ordering::Relaxed) {
                    worker.drain(CloseCode::SERVICE_RESTART, PATIENCE).await;
                }
            });
        });
        Self { address, stats, log, jobs: Some(jobs), thread: Some(thread), drains }
    }

    /// Holds the worker's thread while `meanwhile` runs, then drains and ends it. What the application was told since;
    /// and whether it is gone, as everything is that belongs to a worker that has ended.
    pub fn finish(mut self, meanwhile: impl FnOnce()) -> (Vec<String>, bool) {
        self.drains.store(true, Ordering::Relaxed);
        let (release, held) = mpsc::channel::<()>();
        let job: Job = Box::new(move |_| _ = held.recv());
        assert!(self.jobs.take().unwrap().send(job).is_ok(), "the server runs");
        meanwhile();
        drop(release);
        self.thread.take().unwrap().join().unwrap();
        let mut told = Vec::new();
        loop {
            match self.log.try_recv() {
                Ok(line) => told.push(line),
                Err(error) => return (told, error == mpsc::TryRecvError::Disconnected),
            }
        }
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
        ping_interval: std::time::Duration::from_secs(300),
        ping_timeout: std::time::Duration::from_secs(300),
        // Where the system has it; few at a time are written one by one anyway.
        batch: true,
        ..Config::default()
    }
}

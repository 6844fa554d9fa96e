//! A little HTTP and Socket.IO server that misbehaves on purpose, and runs against it.

#![allow(dead_code, unreachable_pub)] // each test file uses its part

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::{Duration, Instant};

use load_tester::outcome::Outcome;
use load_tester::run::{RunOptions, run};
use load_tester::script::{self, LoadOptions};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use socketio_wire::websocket::upgrade::accept_key;

/// What becomes of a WebSocket connection, or of a session that polls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    Serve,
    Answer503,
    ResetAfter101,
    SilentAfterOpen,
    /// Of a session that polls: gone when it polls again after its first event.
    Forgotten,
}

type Decide = dyn Fn(usize) -> Manner + Send + Sync;
type OnEvent = dyn Fn(&Arc<Server>, &Arc<Socket>, &str, &[Value], Option<u64>) + Send + Sync;
/// Path and head of a request -> the whole answer, and whether the connection stays.
type OnRequest = dyn Fn(&str, &str) -> (String, bool) + Send + Sync;

/// HTTP and Socket.IO on one port, a thread for each connection.
pub struct Server {
    pub address: SocketAddr,
    decide: Box<Decide>,
    /// The same for the n-th polling handshake; all are served until told.
    pub decide_polls: OnceLock<Box<Decide>>,
    /// `pingInterval` and `pingTimeout` told to clients, in milliseconds; no ping is sent unasked.
    pub pings: OnceLock<(u64, u64)>,
    sessions: Mutex<Vec<Session>>,
    on_event: Box<OnEvent>,
    on_request: Box<OnRequest>,
    pub upgrades: AtomicUsize,
    /// With a close frame.
    pub closed_politely: AtomicUsize,
    pub closed_by_post: AtomicUsize,
    pub accepted: AtomicUsize,
    /// Where each connection came from.
    pub peers: Mutex<Vec<IpAddr>>,
    /// How long each HTTP connection stayed open after its last answer.
    pub idled: Mutex<Vec<Duration>>,
    /// Those that emitted `store`.
    pub standing: Mutex<Vec<Arc<Socket>>>,
    /// Every one that opened by WebSocket, those that left among them.
    pub everybody: Mutex<Vec<Arc<Socket>>>,
    /// Heads of the requests that asked for a WebSocket.
    pub handshakes: Mutex<Vec<String>>,
    /// CONNECT packets.
    pub connects: Mutex<Vec<String>>,
    /// WebSockets that ended without a close frame.
    pub cut_off: AtomicUsize,
    /// Called for each answer to a ping.
    pub on_pong: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

/// A session that began by polling; its `sid` is its number.
struct Session {
    socket: Arc<Socket>,
    manner: Manner,
}

pub struct Socket {
    out: Mutex<Out>,
    said: Condvar,
}

enum Out {
    Frames(TcpStream),
    /// What the next poll brings.
    Packets(Vec<String>),
}

impl Socket {
    fn new(out: Out) -> Arc<Self> {
        Arc::new(Self { out: Mutex::new(out), said: Condvar::new() })
    }

    fn send(&self, text: &str) {
        match &mut *self.out.lock().unwrap() {
            Out::Frames(stream) => send_frame(stream, text),
            Out::Packets(packets) => {
                packets.push(text.to_owned());
                self.said.notify_all();
            }
        }
    }

    /// What a poll is answered with, once there is something; `6` when the session has left polling.
    fn wait(&self) -> String {
        let out = self.out.lock().unwrap();
        let waits = |out: &mut Out| matches!(out, Out::Packets(packets) if packets.is_empty());
        match &mut *self.said.wait_while(out, waits).unwrap() {
            Out::Packets(packets) => std::mem::take(packets).join("\u{1e}"),
            Out::Frames(_) => "6".to_owned(),
        }
    }

    pub fn emit(&self, event: &str, argument: &Value) {
        self.send(&format!("42{}", json!([event, argument])));
    }

    /// One Engine.IO packet.
    pub fn raw(&self, packet: &str) {
        self.send(packet);
    }

    /// Ends the connection without a word.
    pub fn cut(&self) {
        if let Out::Frames(stream) = &*self.out.lock().unwrap() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    pub fn ack(&self, id: u64, argument: &Value) {
        self.send(&format!("43{id}{}", json!([argument])));
    }

    /// Any Engine.IO packet.
    pub fn packet(&self, text: &str) {
        self.send(text);
    }

    /// Ends the connection of a WebSocket without a word.
    pub fn end(&self) {
        if let Out::Frames(stream) = &*self.out.lock().unwrap() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn send_frame(stream: &mut TcpStream, text: &str) {
    let mut frame = vec![0x81];
    if text.len() < 126 {
        frame.push(text.len() as u8);
    } else {
        frame.push(126);
        frame.extend_from_slice(&(text.len() as u16).to_be_bytes());
    }
    frame.extend_from_slice(text.as_bytes());
    // The client may be gone, which is its right.
    let _ = stream.write_all(&frame);
}

pub fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

impl Server {
    pub fn start(
        decide: impl Fn(usize) -> Manner + Send + Sync + 'static,
        on_event: impl Fn(&Arc<Server>, &Arc<Socket>, &str, &[Value], Option<u64>) + Send + Sync + 'static,
        on_request: impl Fn(&str, &str) -> (String, bool) + Send + Sync + 'static,
    ) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Arc::new(Self {
            address: listener.local_addr().unwrap(),
            decide: Box::new(decide),
            on_event: Box::new(on_event),
            on_request: Box::new(on_request),
            decide_polls: OnceLock::new(),
            pings: OnceLock::new(),
            sessions: Mutex::default(),
            upgrades: AtomicUsize::new(0),
            closed_politely: AtomicUsize::new(0),
            closed_by_post: AtomicUsize::new(0),
            accepted: AtomicUsize::new(0),
            peers: Mutex::default(),
            idled: Mutex::default(),
            standing: Mutex::default(),
            everybody: Mutex::default(),
            handshakes: Mutex::default(),
            connects: Mutex::default(),
            cut_off: AtomicUsize::new(0),
            on_pong: OnceLock::new(),
        });
        let this = Arc::clone(&server);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let this = Arc::clone(&this);
                std::thread::spawn(move || this.serve(stream));
            }
        });
        server
    }

    fn serve(self: &Arc<Self>, stream: TcpStream) -> Option<()> {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.peers.lock().unwrap().push(stream.peer_addr().ok()?.ip());
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let mut answered = None;
        // drumfire's own look at the target, which is no load.
        let mut looks = false;
        loop {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if reader.read_line(&mut head).ok()? == 0 {
                    let idled = answered.filter(|_| !looks).map(|at: Instant| at.elapsed());
                    self.idled.lock().unwrap().extend(idled);
                    return None;
                }
            }
            let path = head.split(' ').nth(1)?.to_owned();
            if path == "/metrics" && answered.is_none() {
                looks = true;
                self.accepted.fetch_sub(1, Ordering::Relaxed);
            }
            let header = |name: &str| {
                head.lines().find_map(|line| {
                    line.to_ascii_lowercase().starts_with(name).then(|| line[name.len()..].trim().to_owned())
                })
            };
            if let Some(key) = header("sec-websocket-key:") {
                self.handshakes.lock().unwrap().push(head.clone());
                return self.upgrade(stream, reader, &path, &key);
            }
            let mut body =
                vec![0; header("content-length:").and_then(|length| length.parse().ok()).unwrap_or(0)];
            reader.read_exact(&mut body).ok()?;
            let (answer, stays) = if path.starts_with("/socket.io/") {
                (self.poll(&path, &body), true)
            } else {
                (self.on_request)(&path, &head)
            };
            (&stream).write_all(answer.as_bytes()).ok()?;
            answered = Some(Instant::now());
            if !stays {
                let _ = stream.shutdown(Shutdown::Both);
                return None;
            }
        }
    }

    fn upgrade(
        self: &Arc<Self>,
        stream: TcpStream,
        mut reader: BufReader<TcpStream>,
        path: &str,
        key: &str,
    ) -> Option<()> {
        let manner = (self.decide)(self.upgrades.fetch_add(1, Ordering::Relaxed));
        if manner == Manner::Answer503 {
            (&stream).write_all(BUSY.as_bytes()).ok()?;
            return None;
        }
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: {}\r\n\r\n",
            accept_key(key)
        );
        (&stream).write_all(answer.as_bytes()).ok()?;
        if manner == Manner::ResetAfter101 {
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).ok()?;
            return None;
        }
        let mut end = stream.try_clone().ok()?;
        let socket = match sid_of(path) {
            Some(sid) => self.changed(sid, stream, &mut reader)?,
            None => {
                let socket = Socket::new(Out::Frames(stream));
                self.everybody.lock().unwrap().push(Arc::clone(&socket));
                socket.send(&self.open_packet(0));
                socket
            }
        };
        let mut closed = false;
        while let Some((opcode, payload)) = read_frame(&mut reader) {
            if opcode == 8 {
                closed = true;
                self.closed_politely.fetch_add(1, Ordering::Relaxed);
                let _ = end.write_all(&[0x88, 0]);
                break;
            }
            if manner == Manner::SilentAfterOpen {
                continue;
            }
            self.packet(&socket, &String::from_utf8(payload).ok()?);
        }
        if !closed {
            self.cut_off.fetch_add(1, Ordering::Relaxed);
        }
        let _ = end.shutdown(Shutdown::Both);
        None
    }

    /// A session's change to this WebSocket, from probe to `5`.
    fn changed(
        &self,
        sid: usize,
        mut stream: TcpStream,
        reader: &mut BufReader<TcpStream>,
    ) -> Option<Arc<Socket>> {
        let socket = Arc::clone(&self.sessions.lock().unwrap()[sid].socket);
        assert_eq!(read_frame(reader)?.1, b"2probe");
        send_frame(&mut stream, "3probe");
        socket.send("6");
        assert_eq!(read_frame(reader)?.1, b"5");
        let left = std::mem::replace(&mut *socket.out.lock().unwrap(), Out::Frames(stream));
        socket.said.notify_all();
        if let Out::Packets(packets) = left {
            packets.iter().filter(|packet| *packet != "6").for_each(|packet| socket.send(packet));
        }
        Some(socket)
    }

    /// The answer to a poll or a post.
    fn poll(self: &Arc<Self>, path: &str, body: &[u8]) -> String {
        let Some(sid) = sid_of(path) else {
            let mut sessions = self.sessions.lock().unwrap();
            let sid = sessions.len();
            let manner = self.decide_polls.get().map_or(Manner::Serve, |decide| decide(sid));
            sessions.push(Session { socket: Socket::new(Out::Packets(Vec::new())), manner });
            return match manner {
                Manner::Answer503 => BUSY.to_owned(),
                // One that changed could not be forgotten by polls.
                Manner::Forgotten => ok(&self.open_packet(sid).replace(r#""websocket""#, "")),
                _ => ok(&self.open_packet(sid)),
            };
        };
        let (socket, manner) = {
            let sessions = self.sessions.lock().unwrap();
            (Arc::clone(&sessions[sid].socket), sessions[sid].manner)
        };
        if body.is_empty() {
            let said = socket.wait();
            return if said == FORGOTTEN { UNKNOWN.to_owned() } else { ok(&said) };
        }
        for packet in String::from_utf8_lossy(body).split('\u{1e}') {
            match packet {
                "1" => {
                    self.closed_by_post.fetch_add(1, Ordering::Relaxed);
                    socket.send("6");
                }
                event if event.starts_with("42") && manner == Manner::Forgotten => socket.send(FORGOTTEN),
                packet if manner != Manner::SilentAfterOpen => {
                    self.packet(&socket, packet);
                }
                _ => {}
            }
        }
        ok("ok")
    }

    fn open_packet(&self, sid: usize) -> String {
        let (interval, timeout) = self.pings.get().copied().unwrap_or((25_000, 20_000));
        format!(
            r#"0{{"sid":"{sid}","upgrades":["websocket"],"pingInterval":{interval},"pingTimeout":{timeout},"maxPayload":100000}}"#
        )
    }

    fn packet(self: &Arc<Self>, socket: &Arc<Socket>, text: &str) -> Option<()> {
        if let Some(namespace) = text.strip_prefix("40") {
            self.connects.lock().unwrap().push(text.to_owned());
            if namespace.starts_with("/refused") {
                socket.send(r#"44/refused,{"message":"no entry for 17"}"#);
            } else {
                socket.send(r#"40{"sid":"s"}"#);
            }
        } else if text == "3" {
            if let Some(on_pong) = self.on_pong.get() {
                on_pong();
            }
        } else if let Some(event) = text.strip_prefix("42") {
            let at = event.find('[')?;
            let ack = event[..at].parse().ok();
            let all: Vec<Value> = serde_json::from_str(&event[at..]).ok()?;
            let (name, arguments) = all.split_first()?;
            if name == "store" {
                self.standing.lock().unwrap().push(Arc::clone(socket));
            }
            (self.on_event)(self, socket, name.as_str()?, arguments, ack);
        }
        Some(())
    }
}

const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\nconnection: close\r\n\r\nbusy";
const UNKNOWN: &str =
    "HTTP/1.1 400 Bad Request\r\ncontent-length: 41\r\n\r\n{\"code\":1,\"message\":\"Session ID unknown\"}";
const FORGOTTEN: &str = "forgotten";

fn sid_of(path: &str) -> Option<usize> {
    path.split('&').find_map(|part| part.strip_prefix("sid="))?.parse().ok()
}

fn read_frame(reader: &mut impl std::io::Read) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    reader.read_exact(&mut head).ok()?;
    let mut length = usize::from(head[1] & 0x7f);
    if length == 126 {
        let mut long = [0; 2];
        reader.read_exact(&mut long).ok()?;
        length = usize::from(u16::from_be_bytes(long));
    }
    let mut mask = [0; 4];
    reader.read_exact(&mut mask).ok()?;
    let mut payload = vec![0; length];
    reader.read_exact(&mut payload).ok()?;
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    Some((head[0] & 0x0f, payload))
}

pub fn plain_page(_path: &str, _head: &str) -> (String, bool) {
    (ok("page"), true)
}

/// Runs a script; `{target}` in it is the server.
pub fn drum(server: &Server, yaml: &str) -> anyhow::Result<Outcome> {
    drum_with(server, yaml, &RunOptions { workers: Some(2), ..RunOptions::default() })
}

pub fn drum_with(server: &Server, yaml: &str, options: &RunOptions) -> anyhow::Result<Outcome> {
    let folder = tempfile::tempdir().unwrap();
    let path = write_script(server, yaml, folder.path());
    let script = script::load(&LoadOptions { files: vec![path], seed: Some(7), ..LoadOptions::default() })
        .unwrap_or_else(|error| panic!("{error}"));
    run(&script, options, &mut |_| {})
}

pub fn write_script(server: &Server, yaml: &str, folder: &Path) -> std::path::PathBuf {
    let path = folder.join("script.yml");
    std::fs::write(&path, yaml.replace("{target}", &format!("http://{}", server.address))).unwrap();
    path
}

pub fn counter(outcome: &Outcome, name: &str) -> u64 {
    outcome.total.counters.get(name).copied().unwrap_or(0)
}

/// A `drumfire` at work, to be interrupted.
pub struct Running {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Running {
    pub fn start(dir: &Path, words: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_drumfire"));
        Self::start_as(command.args(words).current_dir(dir))
    }

    pub fn start_as(command: &mut Command) -> Self {
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("drumfire starts");
        let lines = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, lines }
    }

    /// Waits until it has printed this so many times.
    pub fn until_said(&mut self, words: &str, times: usize) {
        let mut line = String::new();
        for _ in 0..times {
            line.clear();
            while !line.contains(words) {
                line.clear();
                assert!(self.lines.read_line(&mut line).expect("reads") > 0, "{words} was never said");
            }
        }
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Its exit code and the rest of what it printed; its death when it takes longer.
    pub fn ended(mut self, at_most: Duration) -> (i32, String) {
        // What it prints has to go somewhere.
        let rest = std::thread::spawn(move || {
            let mut text = String::new();
            self.lines.read_to_string(&mut text).map(|_| text)
        });
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("waits") {
                break status;
            }
            if begun.elapsed() > at_most {
                let _ = self.child.kill();
                panic!("still running after {at_most:?}");
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        (status.code().expect("an exit code"), rest.join().expect("reads").expect("UTF-8"))
    }
}

/// Waits for what is to come.
pub fn until(what: &str, come: impl Fn() -> bool) {
    let begun = Instant::now();
    while !come() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// `drumfire` as it is typed: exit code, standard output and error.
pub fn drumfire(dir: &Path, words: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_drumfire"))
        .args(words)
        .current_dir(dir)
        .output()
        .expect("drumfire starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("an exit code"), text(output.stdout), text(output.stderr))
}

/// The same, once more and again while the tester itself could not keep up (exit code 3), which says nothing about what is
/// tested. A machine that stays too busy for minutes fails the test.
pub fn drumfire_in_time(dir: &Path, words: &[&str]) -> (i32, String, String) {
    let begun = Instant::now();
    loop {
        let ended = drumfire(dir, words);
        if ended.0 != 3 {
            return ended;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(180),
            "too much else runs on this machine, drumfire keeps no time: {words:?}\n{}{}",
            ended.1,
            ended.2
        );
        std::thread::sleep(Duration::from_secs(2));
    }
}

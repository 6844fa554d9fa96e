//! One `dna` with one worker, somebody who talks and somebody who hears beside the attack, and the counters.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::raw::{Client, Got, PATIENCE};
use crate::support::program::Program;
use crate::support::{HERE, Person, message, token};

/// No message of the bystander takes longer, attack or not; generous, because the machine may be busy.
const PROMPT: Duration = Duration::from_secs(5);

/// A limit that neither the bystander nor most attacks are to meet.
const WIDE: &str = "{ per_second = 100000.0, burst = 100000.0 }";

pub(crate) struct Stage {
    pub(crate) dna: Program,
    bystander: Bystander,
    data: tempfile::TempDir,
}

impl Stage {
    /// `limits` and `sockets`: lines of these tables of `dna.toml`.
    pub(crate) fn set(limits: &str, sockets: &str) -> Self {
        let data = tempfile::tempdir().unwrap();
        let per_connection = if limits.contains("per_connection") {
            String::new()
        } else {
            format!("per_connection = {WIDE}\n")
        };
        let settings = format!(
            "durability = \"process\"\n[limits]\nper_user = {WIDE}\n{per_connection}{limits}\n[sockets]\n{sockets}\n"
        );
        let dna = Program::with_settings(data.path(), &settings);
        let bystander = Bystander::start(dna.address);
        Self { dna, bystander, data }
    }

    pub(crate) fn usual() -> Self {
        Self::set("", "")
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.dna.address
    }

    /// A WebSocket whose handshake is done, the open packet read.
    pub(crate) fn websocket(&self) -> Client {
        let mut client =
            Client::upgrade(TcpStream::connect(self.address()).unwrap(), "EIO=4&transport=websocket");
        assert!(client.text().starts_with("0{"));
        client
    }

    /// Somebody with a good token who has joined the namespace.
    pub(crate) fn attacker(&self) -> Client {
        let mut client = self.websocket();
        client.send(&format!(r#"40{{"token":"{}"}}"#, token(666)));
        assert!(client.text().starts_with("40{"));
        client
    }

    /// As [`Stage::attacker`], on the map beside the bystander, so that it is sent what they say.
    pub(crate) fn hearer(&self, receive_buffer: usize) -> Client {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(receive_buffer).unwrap();
        socket.connect(&self.address().into()).unwrap();
        let mut client = Client::upgrade(TcpStream::from(socket), "EIO=4&transport=websocket");
        assert!(client.text().starts_with("0{"));
        client.send(&format!(r#"40{{"token":"{}"}}"#, token(666)));
        assert!(client.text().starts_with("40{"));
        let (lng, lat) = HERE;
        client.send(&format!(r#"420["store",{{"position":[{lng},{lat}],"radius":500}}]"#));
        while !client.text().starts_with("430[") {}
        client
    }

    /// The value of the sample whose name and labels are exactly `sample`; 0 when there is none yet.
    pub(crate) fn metric(&self, sample: &str) -> u64 {
        let text = http(self.address(), b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        line.map_or(0, |value| value.parse::<f64>().unwrap() as u64)
    }

    /// Messages of this user in the live world's database.
    pub(crate) fn stored_by(&self, user: i64) -> i64 {
        let database = rusqlite::Connection::open(self.data.path().join("dna.db")).unwrap();
        let count = "SELECT count(*) FROM message WHERE user_idx = ?1";
        database.query_row(count, [user], |row| row.get(0)).unwrap()
    }

    /// Runs an attack, which must raise a counter by one.
    #[track_caller]
    pub(crate) fn counted<T>(&self, name: &str, sample: &str, attack: impl FnOnce() -> T) -> T {
        let before = self.metric(sample);
        let outcome = attack();
        self.until(&format!("{name}: {sample} counts one"), || self.metric(sample) == before + 1);
        outcome
    }

    #[track_caller]
    pub(crate) fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let start = Instant::now();
        while !holds() {
            assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// A row of most attacks: these bytes on a joined connection get this close code.
    #[track_caller]
    pub(crate) fn closes(&self, name: &str, code: u16, reason: &str, attack: impl FnOnce(&mut Client)) {
        self.counted(name, &closed(reason), || {
            let mut client = self.attacker();
            attack(&mut client);
            assert_eq!(end_of(&mut client), Got::Close(Some(code)), "{name}");
        });
    }

    /// What the bystander heard was all, in order and prompt.
    pub(crate) fn end(self) {
        let heard = self.bystander.finish();
        assert!(heard >= 3, "the bystander spoke {heard} times only");
        self.dna.stop();
    }
}

/// The sample that counts sessions closed for `reason`.
pub(crate) fn closed(reason: &str) -> String {
    format!("dna_closed_total{{reason=\"{reason}\"}}")
}

/// The sample that counts refusals with `code`.
pub(crate) fn refused(code: u64) -> String {
    format!("dna_refusals_total{{code=\"{code}\"}}")
}

/// The sample that counts HTTP's faults.
pub(crate) fn fault(name: &str) -> String {
    format!("dna_http_faults_total{{fault=\"{name}\"}}")
}

/// How the connection ends, whatever comes before.
pub(crate) fn end_of(client: &mut Client) -> Got {
    loop {
        match client.next() {
            Got::Text(_) | Got::Binary(_) | Got::Pong(_) => {}
            end => return end,
        }
    }
}

/// The body of ack `id`, whatever comes before.
pub(crate) fn ack(client: &mut Client, id: u64) -> Value {
    let start = format!("43{id}[");
    loop {
        let text = client.text();
        if let Some(body) = text.strip_prefix(&start) {
            return serde_json::from_str(body.strip_suffix(']').unwrap()).unwrap();
        }
    }
}

/// Writes `request` on a connection of its own and gives everything that comes until the server closes. A reset
/// behind an answer is as good as an end.
pub(crate) fn http(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // The server may have enough before it has everything.
    let _ = stream.write_all(request);
    read_all(&mut stream)
}

/// Everything that comes until the server closes.
pub(crate) fn read_all(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "no end: {error}");
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// Talks and hears on a thread of its own: one message after the other, each awaited before the next.
struct Bystander {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<usize>,
}

impl Bystander {
    fn start(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (ready, is_ready) = mpsc::channel();
        let thread = std::thread::spawn({
            let stop = stop.clone();
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(listen(address, &stop, &ready))
            }
        });
        is_ready.recv_timeout(PATIENCE).expect("the bystander is on the map");
        Self { stop, thread }
    }

    /// How many messages were heard.
    fn finish(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the bystander is undisturbed")
    }
}

async fn listen(address: SocketAddr, stop: &AtomicBool, ready: &mpsc::Sender<()>) -> usize {
    let mut speaker = Person::connect(address, &token(1)).await;
    let mut hearer = Person::connect(address, &token(2)).await;
    hearer.join(HERE, 500.0, None).await;
    let mut count = 0;
    // Others may be heard in between.
    let own = |hearer: &Person| -> Vec<String> {
        let own = hearer.heard.iter().filter(|heard| heard.author == json!(1));
        own.map(|heard| heard.text.clone()).collect()
    };
    while count < 3 || !stop.load(Ordering::Relaxed) {
        let text = format!("beside {count}");
        let said = Instant::now();
        let id = speaker.emit("save_msg", &[message(&text)]).await;
        assert_eq!(speaker.ack(id).await["status"], 201);
        count += 1;
        hearer.until(&text, |hearer| own(hearer).len() >= count).await;
        let took = said.elapsed();
        assert!(took < PROMPT, "{text:?} took {took:?}");
        if count == 1 {
            let _ = ready.send(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let expected: Vec<String> = (0..count).map(|n| format!("beside {n}")).collect();
    assert_eq!(own(&hearer), expected);
    count
}

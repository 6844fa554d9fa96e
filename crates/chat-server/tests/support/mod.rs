//! `dna` inside the test's own process, people who talk to it, and a storage that behaves badly on demand.

#![allow(dead_code, unreachable_pub, unused_imports, missing_debug_implementations)] // each test file uses its part

#[cfg(target_os = "linux")]
pub mod faults;
mod person;
pub mod program;
mod slow_storage;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chat_server::config::Config;
use chat_server::server::{self, Running};
use chat_server::storage::Storage;
use chat_server::token::{Claims, TokenKey, now_s};
use chat_server::world::PerWorld;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

pub use person::{Heard, Person, message};
pub use slow_storage::SlowStorage;

/// Nothing here takes this long, however busy the machine; a test that waits for it has failed.
pub const LONG: Duration = Duration::from_secs(20);

pub const SECRET: &[u8] = b"a secret for tests only";

/// Where most of these tests take place.
pub const HERE: (f64, f64) = (127.0276, 37.4979);

/// Two workers on a loopback port, no rate limits.
pub fn config() -> Config {
    let mut config = Config { workers: 2, ..Config::default() };
    config.limits.enabled = false;
    config
}

/// A running server.
pub struct Dna {
    pub address: SocketAddr,
    running: Option<Running>,
}

impl Dna {
    pub fn start(config: &Config, live: Arc<dyn Storage>, test: Arc<dyn Storage>) -> Self {
        let storages = PerWorld { live, test };
        // A thread of its own: the server makes runtimes, which no async test may.
        let start = || {
            let listener = server::bind("127.0.0.1:0".parse().unwrap()).unwrap();
            server::start(listener, config, SECRET, storages).unwrap()
        };
        let running = std::thread::scope(|scope| scope.spawn(start).join().expect("the server starts"));
        Self { address: running.address(), running: Some(running) }
    }

    /// Both worlds on storages of their own; the live one is given.
    pub fn on(live: &SlowStorage) -> Self {
        Self::start(&config(), Arc::new(live.clone()), Arc::new(SlowStorage::new()))
    }

    pub async fn person(&self, idx: u64) -> Person {
        Person::connect(self.address, &token(idx)).await
    }

    /// Somebody who is on the map.
    pub async fn person_at(&self, idx: u64, place: (f64, f64), radius_m: f64) -> Person {
        let mut person = self.person(idx).await;
        person.join(place, radius_m, None).await;
        person
    }

    /// Status and body of `GET path`.
    pub async fn get(&self, path: &str) -> (u16, String) {
        get(self.address, path).await
    }

    /// Waits until `/readyz` answers this status.
    pub async fn until_ready_is(&self, wanted: u16) -> String {
        until_ready_is(self.address, wanted).await
    }

    /// [`Running::stop`], which blocks, beside the test.
    pub fn stop(&mut self) -> tokio::task::JoinHandle<()> {
        let running = self.running.take().expect("stopped once");
        tokio::task::spawn_blocking(move || running.stop())
    }
}

impl Drop for Dna {
    fn drop(&mut self) {
        // A failed test leaves its threads to the end of the process: waiting could hide the failure.
        if let Some(running) = self.running.take()
            && !std::thread::panicking()
        {
            running.stop();
        }
    }
}

pub fn token(idx: u64) -> String {
    sign(&Claims { idx, exp: now_s() + 3600, nickname: None, avatar: None, anonymity: None, test: false })
}

pub fn test_token(idx: u64) -> String {
    sign(&Claims { idx, exp: now_s() + 3600, nickname: None, avatar: None, anonymity: None, test: true })
}

pub fn sign(claims: &Claims) -> String {
    TokenKey::new(SECRET).sign(claims).unwrap()
}

pub async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    request(address, &format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")).await
}

/// One raw request; status and body of the answer.
pub async fn request(address: SocketAddr, text: &str) -> (u16, String) {
    let exchange = async {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let answer = tokio::time::timeout(LONG, exchange).await.expect("an answer to an HTTP request");
    let status = answer.get(9..12).and_then(|digits| digits.parse().ok());
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned();
    (status.unwrap_or_else(|| panic!("no HTTP answer: {answer:?}")), body)
}

pub async fn until_ready_is(address: SocketAddr, wanted: u16) -> String {
    let asking = async {
        loop {
            let (status, body) = get(address, "/readyz").await;
            if status == wanted {
                return body;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LONG, asking).await.unwrap_or_else(|_| panic!("/readyz never answered {wanted}"))
}

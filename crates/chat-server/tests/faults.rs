//! The `dna` program when the machine fails it: the disk, the descriptors, the clock, a thread.
#![cfg(target_os = "linux")]

mod support;

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::time::Duration;

use chat_server::token::{Claims, now_s};
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use support::faults::{Fault, Faults};
use support::program::Program;
use support::{HERE, LONG, Person, get, sign, until_ready_is};

const STORED: (u64, u64) = (201, 0);
const REFUSED: (u64, u64) = (503, 10503);
const UNKNOWN: (u64, u64) = (504, 10504);
const EXPIRED: (u64, u64) = (401, 11400);

const HOUR_S: i64 = 3600;

/// A program and its faults, which are none yet.
fn start(data: &Path, arguments: &[&str]) -> (Program, Faults) {
    let faults = Faults::new(data);
    let dna = Program::start_with(data, arguments, &faults.environment());
    (dna, faults)
}

fn count(data: &Path, file: &str, query: &str) -> i64 {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let database = Connection::open_with_flags(data.join(file), flags).unwrap();
    database.query_row(query, [], |row| row.get(0)).unwrap()
}

/// What `save_msg` is answered.
async fn save(person: &mut Person, text: &str) -> (u64, u64) {
    let id = person.say(text).await;
    person.verdict(id).await
}

#[tokio::test]
async fn a_disk_that_fails_is_told_by_what_it_means_and_recovers_by_itself() {
    const NO_SPACE: i64 = rustix::io::Errno::NOSPC.raw_os_error() as i64;
    const IO: i64 = rustix::io::Errno::IO.raw_os_error() as i64;
    let data = tempfile::tempdir().unwrap();
    let (dna, faults) = start(data.path(), &[]);
    let mut hearer = dna.person(1).await;
    hearer.join(HERE, 500.0, None).await;
    let mut sender = dna.person(2).await;
    let mut stored = vec!["before".to_owned()];
    assert_eq!(save(&mut sender, "before").await, STORED);
    for (fault, errno, verdict, meaning) in [
        (Fault::WriteErrno, NO_SPACE, REFUSED, "the disk is full"),
        (Fault::WriteErrno, IO, REFUSED, "the disk takes no more"),
        // It may have reached the disk, or not.
        (Fault::FlushErrno, IO, UNKNOWN, "the disk could not be flushed"),
    ] {
        faults.set(fault, errno);
        assert_eq!(save(&mut sender, "lost").await, verdict, "{meaning}");
        let (status, body) = get(dna.address, "/readyz").await;
        assert_eq!(status, 503);
        assert!(body.contains("live store") && body.contains("dna.db") && body.contains(meaning), "{body}");
        assert!(dna.log().contains(meaning), "{}", dna.log());
        // Everybody is still here, and the probe finds no change.
        hearer.round_trip().await;
        tokio::time::sleep(Duration::from_millis(1200)).await;
        assert_eq!(get(dna.address, "/readyz").await.0, 503);
        faults.set(fault, 0);
        until_ready_is(dna.address, 200).await;
        stored.push(format!("after {meaning}"));
        assert_eq!(save(&mut sender, stored.last().unwrap()).await, STORED);
    }
    hearer.until_heard(stored.len()).await;
    hearer.round_trip().await;
    assert_eq!(hearer.texts(), stored);
    assert_eq!(dna.metric("dna_rollbacks_total{world=\"live\"}").await, 3.0);
    dna.stop();
    assert_eq!(count(data.path(), "dna.db", "SELECT count(*) FROM message WHERE contents = 'lost'"), 0);
}

#[tokio::test]
async fn out_of_descriptors_accepting_pauses_and_nobody_connected_suffers() {
    let data = tempfile::tempdir().unwrap();
    let dna = Program::start(data.path(), &[]);
    let mut hearer = dna.person(1).await;
    hearer.join(HERE, 500.0, None).await;
    let mut sender = dna.person(2).await;
    let open = std::fs::read_dir(format!("/proc/{}/fd", dna.pid())).unwrap().count() as u64;
    dna.limit_descriptors(open + 3);
    // Taken by the kernel all the same: they wait for `dna`.
    let mut waiting = Vec::new();
    for _ in 0..8 {
        waiting.push(tokio::net::TcpStream::connect(dna.address).await.unwrap());
    }
    dna.until_log_says("accepting pauses").await;
    for round in 0..20 {
        assert_eq!(save(&mut sender, &format!("{round}")).await, STORED);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    hearer.until_heard(20).await;
    assert_eq!(dna.log().matches("accepting pauses").count(), 1, "one line, however long it lasts");

    // Some go, and those who waited are served.
    dna.limit_descriptors(open + 200);
    dna.until_log_says("accepting goes on").await;
    let mut late = dna.person(3).await;
    assert_eq!(save(&mut late, "late").await, STORED);
    hearer.until_heard(21).await;
    assert!(dna.metric("dna_accept_pauses_total").await >= 1.0);
    assert_eq!(dna.metric("dna_connected").await, 3.0);
    drop(waiting);
    dna.stop();
}

#[tokio::test]
async fn a_panic_in_a_worker_ends_the_process_with_its_trace() {
    for (arguments, is_json) in [(vec![], false), (vec!["--log-json"], true)] {
        let data = tempfile::tempdir().unwrap();
        let (mut dna, faults) = start(data.path(), &arguments);
        let mut sender = dna.person(2).await;
        assert_eq!(save(&mut sender, "kept").await, STORED);
        // The standard library panics where the clock fails.
        faults.set(Fault::WorkerClockFails, 1);
        sender.try_say("anything").await;
        let status = dna.until_ended();
        assert_eq!(status.signal(), Some(rustix::process::Signal::ABORT.as_raw()), "{status}");
        let log = dna.log();
        let trace = log.split_once("a thread panicked").expect(&log).1;
        for part in ["worker-0", "chat_server::server", "unwrap"] {
            assert!(trace.contains(part), "no {part} in {log}");
        }
        if is_json {
            let line: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
            assert_eq!(line["level"], "ERROR");
            assert_eq!(line["fields"]["thread"], "worker-0");
        }
        sender.until_closed().await;
        // Started again it has what it had.
        let dna = Program::start(data.path(), &[]);
        dna.stop();
        assert_eq!(count(data.path(), "dna.db", "SELECT count(*) FROM message WHERE contents = 'kept'"), 1);
    }
}

/// A token of the test world, valid for this long from now.
fn test_token(idx: u64, valid_s: i64) -> String {
    let exp = now_s().checked_add_signed(valid_s).unwrap();
    sign(&Claims { idx, exp, nickname: None, avatar: None, anonymity: None, test: true })
}

fn created_at_s(ack: &Value) -> i64 {
    let at: jiff::Timestamp = ack["result"]["created_at"].as_str().expect("stored").parse().unwrap();
    at.as_second()
}

#[tokio::test]
async fn a_clock_that_jumps_disturbs_nobody() {
    let data = tempfile::tempdir().unwrap();
    let settings = "[sockets]\nping_interval_ms = 500\nping_timeout_ms = 10000\n";
    std::fs::write(data.path().join("dna.toml"), settings).unwrap();
    let (dna, faults) = start(data.path(), &["--config", "dna.toml"]);
    let mut patient = Person::connect(dna.address, &test_token(1, 1000 * HOUR_S)).await;
    let mut brief = Person::connect(dna.address, &test_token(2, HOUR_S)).await;
    patient.join(HERE, 500.0, None).await;
    let (mut heard, begun) = (0, std::time::Instant::now());
    let begun_s = now_s().cast_signed();
    for offset_s in [0, 48 * HOUR_S, 0, -48 * HOUR_S, 0] {
        faults.set(Fault::WallOffset, offset_s);
        // `created_at` says what the machine's clock says; a token is as old as that clock makes it.
        let id = patient.say("patient").await;
        let ack = patient.ack(id).await;
        let off_s = created_at_s(&ack) - begun_s - offset_s;
        assert!((-1..=1 + begun.elapsed().as_secs().cast_signed()).contains(&off_s), "{off_s} s off: {ack}");
        let verdict = save(&mut brief, "brief").await;
        assert_eq!(verdict, if offset_s > 0 { EXPIRED } else { STORED });
        heard += 1 + usize::from(verdict == STORED);
        // A heartbeat or two.
        patient.listen_for(Duration::from_millis(1200)).await;
        brief.listen_for(Duration::from_millis(100)).await;
        assert!(patient.closed.is_none() && brief.closed.is_none());
        patient.until_heard(heard).await;
        assert_eq!(patient.heard.len(), heard);
    }
    let order: Vec<u64> = patient.heard.iter().map(|heard| heard.idx).collect();
    assert!(order.is_sorted(), "{order:?}");
    dna.stop();
}

/// A server whose time the test makes: heartbeats as long as that, a day's retention in the test world.
struct Timed {
    dna: Program,
    faults: Faults,
    passed_s: i64,
    ahead_s: i64,
    person: Person,
}

impl Timed {
    async fn start(data: &Path) -> Self {
        let settings = "[retention]\ntest_hours = 24\n\
                        [sockets]\nping_interval_ms = 2000000000\nping_timeout_ms = 2000000000\n";
        std::fs::write(data.join("dna.toml"), settings).unwrap();
        let (dna, faults) = start(data, &["--config", "dna.toml"]);
        let person = Person::connect(dna.address, &test_token(1, 10_000 * HOUR_S)).await;
        Self { dna, faults, passed_s: 0, ahead_s: 0, person }
    }

    /// Time goes on for everything in the program.
    async fn pass(&mut self, seconds: i64) {
        self.passed_s += seconds;
        self.faults.set(Fault::WallOffset, self.ahead_s + self.passed_s);
        self.faults.set(Fault::MonotonicOffset, self.passed_s);
        // The store sleeps until somebody comes; then it sees how late it is.
        assert_eq!(save(&mut self.person, "wakes the store").await, STORED);
    }

    /// Somebody sets the clock, and a while later the store looks at it.
    async fn set_clock(&mut self, ahead_s: i64) {
        self.ahead_s = ahead_s;
        self.faults.set(Fault::WallOffset, self.ahead_s + self.passed_s);
        self.pass(120).await;
    }
}

#[tokio::test]
async fn retention_goes_by_time_that_passed_and_not_by_a_clock_that_jumped() {
    let data = tempfile::tempdir().unwrap();
    let count_of = |text: &str| {
        let query = format!("SELECT count(*) FROM message WHERE contents = '{text}'");
        count(data.path(), "dna-test.db", &query)
    };
    let mut timed = Timed::start(data.path()).await;
    assert_eq!(save(&mut timed.person, "first").await, STORED);
    let mut jumps = 0.0;
    for ahead_s in [48 * HOUR_S, 0, -48 * HOUR_S, 0] {
        timed.set_clock(ahead_s).await;
        assert_eq!(save(&mut timed.person, "while it was wrong").await, STORED);
        jumps += 1.0;
        until("the jump is seen", async || {
            timed.dna.metric("dna_clock_jumps_total{world=\"test\"}").await >= jumps
        })
        .await;
        // It keeps its pace for more than an hour, and is believed.
        for _ in 0..5 {
            timed.pass(15 * 60).await;
        }
        assert_eq!((count_of("first"), count_of("while it was wrong")), (1, jumps as i64), "{ahead_s}");
    }
    assert!(timed.dna.log().contains("the clock jumped"), "{}", timed.dna.log());

    // Five hours have passed, whatever the clock said. What was said is gone a day after it was noted, all of it,
    // and no more.
    timed.pass(17 * HOUR_S).await;
    assert_eq!(save(&mut timed.person, "young").await, STORED);
    timed.pass(61).await;
    assert_eq!((count_of("first"), count_of("while it was wrong")), (1, 4));
    timed.pass(8 * HOUR_S).await;
    until("the old are gone", async || count_of("first") + count_of("while it was wrong") == 0).await;
    assert_eq!(count_of("young"), 1);
    assert_eq!(timed.dna.metric("dna_clock_jumps_total{world=\"test\"}").await, jumps);
    timed.dna.stop();
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LONG, waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}

//! The `dna` program on a disk that fails it: full, locked, from the future, killed in the middle.

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};
use support::program::Program;
use support::{HERE, get, until_ready_is};

const STORED: (u64, u64) = (201, 0);
const REFUSED: (u64, u64) = (503, 10503);

/// The largest `contents`, so that a disk fills soon.
fn long(text: &str) -> String {
    format!("{text} {}", "x".repeat(4000))
}

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |file| file.len())
}

/// What is in the database, by the first word of the text.
fn kept(data: &Path) -> Vec<String> {
    let database =
        Connection::open_with_flags(data.join("dna.db"), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let mut rows = database.prepare("SELECT contents FROM message ORDER BY idx").unwrap();
    let texts = rows.query_map([], |row| row.get::<_, String>(0)).unwrap();
    texts.map(|text| text.unwrap().split(' ').next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_full_disk_refuses_and_recovers_by_itself() {
    let data = tempfile::tempdir().unwrap();
    let dna = Program::start(data.path(), &[]);
    let mut hearer = dna.person(1).await;
    hearer.join(HERE, 500.0, None).await;
    let mut sender = dna.person(2).await;
    let id = sender.say(&long("before")).await;
    assert_eq!(sender.verdict(id).await, STORED);
    assert_eq!(get(dna.address, "/readyz").await.0, 200);

    // The log may not grow by more than a few messages.
    let limit = size(&data.path().join("dna.db-wal")) + 64 * 1024;
    dna.limit_file_size(Some(limit));
    let mut stored = vec!["before".to_owned()];
    let refused_at = loop {
        let text = format!("filling-{}", stored.len());
        let id = sender.say(&long(&text)).await;
        match sender.verdict(id).await {
            STORED => stored.push(text),
            other => {
                assert_eq!(other, REFUSED);
                break Instant::now();
            }
        }
        assert!(stored.len() < 1000, "the disk never filled");
    };
    let (status, body) = get(dna.address, "/readyz").await;
    assert!(status == 503 && body.contains("live") && body.contains("the disk"), "{status} {body}");
    for _ in 0..3 {
        let id = sender.say(&long("refused")).await;
        assert_eq!(sender.verdict(id).await, REFUSED);
    }
    // Still full after a probe or two.
    tokio::time::sleep_until((refused_at + Duration::from_millis(2500)).into()).await;
    assert_eq!(get(dna.address, "/readyz").await.0, 503);
    assert_eq!(get(dna.address, "/healthz").await.0, 200);

    dna.limit_file_size(None);
    // Nobody sends anything, and it is ready again.
    until_ready_is(dna.address, 200).await;
    let id = sender.say(&long("after")).await;
    assert_eq!(sender.verdict(id).await, STORED);
    stored.push("after".to_owned());
    hearer.until_heard(stored.len()).await;
    hearer.round_trip().await;
    let heard: Vec<&str> = hearer.texts().iter().map(|text| text.split(' ').next().unwrap()).collect();
    assert_eq!(heard, stored, "what was refused was never heard");
    drop((hearer, sender));
    dna.stop();
    assert_eq!(kept(data.path()), stored, "what was refused was not kept");
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let data = tempfile::tempdir().unwrap();
    let mut acknowledged = BTreeSet::new();
    for round in 0..3 {
        let dna = Program::start(data.path(), &[]);
        let mut sender = dna.person(2).await;
        let mut sent = Vec::new();
        for count in 0..200 {
            let text = format!("{round}-{count}");
            sent.push((sender.say(&text).await, text));
        }
        // Some answers are there, others on the way.
        sender.until("an answer", |sender| sender.acks.len() > 20).await;
        dna.kill();
        sender.until_closed().await;
        for (id, text) in sent {
            if sender.acks.get(&id).is_some_and(|ack| ack["status"] == 201) {
                acknowledged.insert(text);
            }
        }
    }
    assert!(acknowledged.len() > 60);
    let dna = Program::start(data.path(), &[]);
    dna.stop();
    let kept: BTreeSet<String> = kept(data.path()).into_iter().collect();
    assert!(acknowledged.is_subset(&kept), "lost: {:?}", acknowledged.difference(&kept));
}

#[test]
fn a_newer_schema_is_refused_with_advice() {
    let data = tempfile::tempdir().unwrap();
    Program::start(data.path(), &[]).stop();
    let database = Connection::open(data.path().join("dna.db")).unwrap();
    database.pragma_update(None, "user_version", 7).unwrap();
    drop(database);
    let said = Program::try_start(data.path(), &[]).err().expect("it does not start");
    assert!(said.contains("dna.db") && said.contains("schema version 7"), "{said}");
    assert!(said.contains("another data directory"), "{said}");
    // Nothing was changed on the way.
    let database = Connection::open(data.path().join("dna.db")).unwrap();
    let version: i64 = database.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    assert_eq!(version, 7);
}

#[test]
fn a_data_directory_serves_one_at_a_time() {
    let data = tempfile::tempdir().unwrap();
    let first = Program::start(data.path(), &[]);
    let said = Program::try_start(data.path(), &[]).err().expect("it does not start");
    assert!(said.contains("another dna is using") && said.contains("--data"), "{said}");
    assert!(said.contains(&format!("(process {})", first.pid())), "{said}");
    // A killed one holds nothing.
    first.kill();
    Program::start(data.path(), &[]).stop();
}

#[tokio::test]
async fn the_log_is_bounded_under_load() {
    /// Twice the size at which the log is emptied; far less than all that is written.
    const BOUND: u64 = 32 << 20;
    let data = tempfile::tempdir().unwrap();
    let dna = Program::start(data.path(), &["--durability", "process"]);
    let log = data.path().join("dna.db-wal");
    let mut sender = dna.person(2).await;
    let text = long("load");
    let (mut stored, mut largest) = (0_usize, 0);
    // Each message takes more than a page of the log: without checkpoints it would hold all of them.
    let written = |stored: usize| (stored * 8192) as u64;
    let began = Instant::now();
    while written(stored) < 2 * BOUND {
        let mut last = 0;
        for _ in 0..100 {
            last = sender.say(&text).await;
        }
        assert_eq!(sender.verdict(last).await, STORED);
        stored += 100;
        sender.heard.clear();
        sender.events.clear();
        largest = largest.max(size(&log));
    }
    let took = began.elapsed();
    let (_, metrics) = get(dna.address, "/metrics").await;
    let line = metrics.lines().find(|line| line.starts_with("dna_wal_bytes{world=\"live\"}")).unwrap();
    let exported: u64 = line.rsplit(' ').next().unwrap().parse().unwrap();
    println!("{stored} messages of 4 kB in {took:?}; the log at most {largest} bytes, {exported} exported");
    assert!(largest < BOUND, "{largest} bytes");
    assert!(exported > 0 && exported < BOUND, "{exported} bytes");
    drop(sender);
    dna.stop();
    assert_eq!(size(&log), 0, "a clean end leaves one file");
    assert_eq!(kept(data.path()).len(), stored);
}

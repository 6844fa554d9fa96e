//! `dna backup` beside a server that writes, what is restored from it, and the way of an old database to today.

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use support::program::{Program, dna, run_dna};
use support::{HERE, Person};

const STORED: (u64, u64) = (201, 0);

fn texts(database: &Path) -> BTreeSet<String> {
    let database = Connection::open(database).unwrap();
    let mut rows = database.prepare("SELECT contents FROM message").unwrap();
    rows.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Says `name-0`, `name-1`, ... with a few on the way, until told to end; gives how many were acknowledged by then.
async fn say_until(person: &mut Person, name: &str, is_over: impl Fn() -> bool) -> usize {
    const ON_THE_WAY: usize = 8;
    let mut ids = Vec::new();
    while !is_over() {
        ids.push(person.say(&format!("{name}-{}", ids.len())).await);
        if let Some(&id) = ids.len().checked_sub(ON_THE_WAY).and_then(|at| ids.get(at)) {
            assert_eq!(person.verdict(id).await, STORED);
        }
    }
    for &id in &ids {
        assert_eq!(person.verdict(id).await, STORED);
    }
    ids.len()
}

/// Serves from a restored copy, to which `lost` is the cursor of another database; gives its own cursor after one
/// message, and that one's number.
async fn serve_restored(data: &Path, lost: &str) -> (String, u64) {
    let restored = Program::start(data, &[]);
    let mut returning = restored.person(2).await;
    let joined = returning.join(HERE, 500.0, Some(lost)).await;
    assert_eq!(joined["recovered"], false, "a cursor of the lost database: {joined}");
    let id = returning.say("afterwards").await;
    let idx = returning.ack(id).await["result"]["idx"].as_u64().unwrap();
    assert!((1 << 32..1 << 50).contains(&idx), "{idx}");
    returning.round_trip().await;
    let cursor = returning.cursor.clone().unwrap();
    drop(returning);
    restored.stop();
    (cursor, idx)
}

#[tokio::test]
async fn a_backup_under_load_holds_all_that_was_acknowledged_before_it() {
    let (data, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let copy = elsewhere.path().join("dna-copy.db");
    let dna_running = Program::start(data.path(), &["--durability", "process"]);
    let mut sender = dna_running.person(2).await;
    let began = Instant::now();
    let before = say_until(&mut sender, "before", || began.elapsed() > Duration::from_millis(800)).await;
    let cursor = sender.cursor.clone().unwrap();

    let mut command = dna(data.path());
    command.arg("backup").arg(&copy).arg("--data").arg(data.path());
    let backup = tokio::task::spawn_blocking(move || support::program::said(command.output().unwrap()));
    let during = say_until(&mut sender, "during", || backup.is_finished()).await;
    let said = backup.await.unwrap().expect("a backup");
    assert!(said.contains("messages of the live world are in") && said.contains("checked"), "{said}");
    assert!(said.contains("To restore: stop dna"), "{said}");
    assert_eq!(files(elsewhere.path()), ["dna-copy.db"], "nothing beside it");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let kept = texts(&copy);
    assert!((0..before).all(|number| kept.contains(&format!("before-{number}"))));
    assert!(said.starts_with(&format!("{} messages", kept.len())), "{said}");
    // What came meanwhile is there up to one moment, without a hole.
    let later: Vec<bool> = (0..during).map(|number| kept.contains(&format!("during-{number}"))).collect();
    assert!(later.is_sorted_by(|a, b| a >= b), "{later:?}");
    drop(sender);
    dna_running.stop();

    // Into a fresh directory: it serves, everything is there, and its numbers never meet the lost ones.
    let fresh = tempfile::tempdir().unwrap();
    std::fs::copy(&copy, fresh.path().join("dna.db")).unwrap();
    let (first_cursor, first_idx) = serve_restored(fresh.path(), &cursor).await;
    // The same copy once more: a world that knows neither the lost one's cursors nor the first restore's.
    let again = tempfile::tempdir().unwrap();
    std::fs::copy(&copy, again.path().join("dna.db")).unwrap();
    let (second_cursor, second_idx) = serve_restored(again.path(), &first_cursor).await;
    let epoch = |cursor: &str| cursor.split_once('.').expect(cursor).0.to_owned();
    assert_ne!(epoch(&first_cursor), epoch(&second_cursor));
    println!("numbers go on at {first_idx} and {second_idx}");
    // Started again it is no restored copy any more.
    let restored = Program::start(fresh.path(), &[]);
    let joined = restored.person(2).await.join(HERE, 500.0, Some(&first_cursor)).await;
    assert_eq!(joined["recovered"], true, "{joined}");
    restored.stop();
    let mut expected = kept;
    expected.insert("afterwards".to_owned());
    assert_eq!(texts(&fresh.path().join("dna.db")), expected);
}

#[test]
fn a_backup_harms_no_file_and_says_what_is_wrong() {
    let (data, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let data_name = data.path().to_str().unwrap();
    let copy = elsewhere.path().join("copy.db");
    let backup = |data_name: &str, more: &[&str]| {
        let copy = copy.to_str().unwrap();
        run_dna(elsewhere.path(), &[&["backup", copy, "--data", data_name], more].concat())
    };
    // A wrong directory is not made.
    let nowhere = elsewhere.path().join("nowhere");
    let said = backup(nowhere.to_str().unwrap(), &[]).unwrap_err();
    assert!(said.contains("there is no") && said.contains("--data") && !nowhere.exists(), "{said}");
    // A server that was killed leaves a log, and is not needed.
    Program::start(data.path(), &[]).kill();
    std::fs::write(&copy, "precious").unwrap();
    let said = backup(data_name, &[]).unwrap_err();
    assert!(said.contains("--force") && std::fs::read(&copy).unwrap() == b"precious", "{said}");
    let said = backup(data_name, &["--force"]).unwrap();
    assert!(said.starts_with("0 messages of the live world"), "{said}");
    let restored = tempfile::tempdir().unwrap();
    std::fs::copy(&copy, restored.path().join("dna.db")).unwrap();
    Program::start(restored.path(), &[]).stop();
    let numbers = "SELECT seq FROM sqlite_sequence WHERE name = 'message'";
    let restored = Connection::open(restored.path().join("dna.db")).unwrap();
    let next: i64 = restored.query_row(numbers, [], |row| row.get(0)).unwrap();
    assert!(next >= 1 << 32, "an empty world's numbers may have been given meanwhile, too: {next}");
    let said = backup(data_name, &["--force", "--test"]).unwrap();
    assert!(said.starts_with("0 messages of the test world"), "{said}");
    for served in ["dna.db", "dna-test.db"] {
        let served = data.path().join(served);
        let said =
            run_dna(data.path(), &["backup", served.to_str().unwrap(), "--force", "--data", data_name]);
        assert!(said.unwrap_err().contains("what dna serves from"));
    }
    // What cannot be copied whole does not touch what is there.
    let good = std::fs::read(&copy).unwrap();
    Connection::open(data.path().join("dna.db")).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let said = backup(data_name, &["--force"]).unwrap_err();
    assert!(said.contains("schema version 99"), "{said}");
    std::fs::write(data.path().join("dna.db"), "no database at all".repeat(100)).unwrap();
    assert!(backup(data_name, &["--force"]).is_err());
    assert!(std::fs::read(&copy).unwrap() == good);
    assert_eq!(files(elsewhere.path()), ["copy.db"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_backup_to_a_full_disk_leaves_nothing_behind() {
    use support::faults::{Fault, Faults};
    let (data, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // It serves, so that nothing need be written beside the source.
    let _dna = Program::start(data.path(), &[]);
    let faults = Faults::new(data.path());
    faults.set(Fault::WriteErrno, rustix::io::Errno::NOSPC.raw_os_error().into());
    let mut command = dna(elsewhere.path());
    command.args(["backup", "copy.db", "--data"]).arg(data.path()).envs(faults.environment());
    let said = support::program::said(command.output().unwrap()).unwrap_err();
    assert!(said.contains("full") && said.contains("copy.db"), "{said}");
    assert_eq!(files(elsewhere.path()), [""; 0]);
}

#[tokio::test]
async fn somebody_who_reads_for_long_does_not_hold_up_those_who_write() {
    let data = tempfile::tempdir().unwrap();
    let dna = Program::start(data.path(), &["--durability", "process"]);
    let mut sender = dna.person(2).await;
    let text = "x".repeat(4000);
    // A reader of an old state, as a backup or an SQLite shell is.
    let reader = Connection::open(data.path().join("dna.db")).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    let _: i64 = reader.query_row("SELECT count(*) FROM message", [], |row| row.get(0)).unwrap();
    let log = data.path().join("dna.db-wal");
    let size = || std::fs::metadata(&log).unwrap().len();
    let mut slowest = Duration::ZERO;
    // Far beyond where the log is emptied when nobody reads.
    while size() < 34 << 20 {
        let mut last = 0;
        for _ in 0..100 {
            last = sender.say(&text).await;
        }
        let asked = Instant::now();
        assert_eq!(sender.verdict(last).await, STORED);
        slowest = slowest.max(asked.elapsed());
        sender.heard.clear();
        sender.events.clear();
    }
    println!("the slowest hundred took {slowest:?}");
    // With the patience of five seconds they had once, every half a second.
    assert!(slowest < Duration::from_secs(3), "{slowest:?}");
    dna.until_log_says("somebody reads an old state").await;
    drop(reader);
    let began = Instant::now();
    while size() > 0 {
        assert!(began.elapsed() < support::LONG, "the log is not emptied");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(sender);
    dna.stop();
}

/// Tables as the first version made them.
const VERSION_1: &str = "
    CREATE TABLE message (
        idx INTEGER PRIMARY KEY AUTOINCREMENT, user_idx INTEGER NOT NULL, nickname TEXT NOT NULL, avatar TEXT,
        anonymity INTEGER NOT NULL, lng REAL NOT NULL, lat REAL NOT NULL, type TEXT NOT NULL,
        contents TEXT NOT NULL, created_at INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX message_created_at ON message (created_at);
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
    INSERT INTO meta (key, value) VALUES ('epoch', '0123456789abcdef');
    PRAGMA user_version = 1;";

fn make_version_1(path: &Path, messages: u32) {
    let database = Connection::open(path).unwrap();
    database.pragma_update(None, "journal_mode", "WAL").unwrap();
    database.execute_batch(VERSION_1).unwrap();
    database
        .execute(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
             INSERT INTO message SELECT i, i % 100, 'Ann', NULL, 0, 127.0276, 37.4979, 'Message', 'old ' || i,
                 1535796000000 + i * 100 FROM n",
            [messages],
        )
        .unwrap();
}

fn version(path: &Path) -> i64 {
    Connection::open(path).unwrap().query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn an_older_database_is_migrated_whatever_ends_the_process_meanwhile() {
    const MESSAGES: u32 = 100_000;
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("dna.db");
    make_version_1(&path, MESSAGES);
    // Killed a little later each time, until one is through.
    let (mut kills, mut pause) = (0, Duration::from_millis(2));
    while version(&path) == 1 {
        let mut child = dna(data.path())
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(data.path())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(pause);
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        pause = pause * 3 / 2;
        let database = Connection::open(&path).unwrap();
        let count: u32 = database.query_row("SELECT count(*) FROM message", [], |row| row.get(0)).unwrap();
        assert_eq!(count, MESSAGES, "after {kills} kills");
        let tables: u32 = database
            .query_row(
                "SELECT count(*) FROM sqlite_schema WHERE name IN ('mark', 'message_created_at')",
                [],
                |row| row.get(0),
            )
            .unwrap();
        assert_eq!(tables, 1, "either the old index or the new table");
        assert!(kills < 200);
    }
    println!("migrated after {kills} kills");
    assert_eq!(version(&path), 2);
    // It serves as ever: the same epoch, so that cursors hold, and numbers that go on.
    let dna = Program::start(data.path(), &[]);
    let mut person = dna.person(1).await;
    let joined = person.join(HERE, 500.0, Some("0123456789abcdef.99990")).await;
    assert_eq!(joined["recovered"], true, "{joined}");
    assert_eq!(person.texts().len(), 10);
    let id = person.say("new").await;
    assert_eq!(person.ack(id).await["result"]["idx"], MESSAGES + 1);
    dna.stop();
    let marks: u32 = Connection::open(&path)
        .unwrap()
        .query_row("SELECT count(*) FROM mark WHERE idx <= ?1", [MESSAGES], |row| row.get(0))
        .unwrap();
    // 10,000 seconds in stretches of ten minutes.
    assert!((17..=18).contains(&marks), "{marks}");
}

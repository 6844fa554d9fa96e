//! docs/operating.md, run: every row of its table of alarms is brought about on a real server, seen, and its
//! command run; so are the procedures that change the secret and restore a backup.
#![cfg(target_os = "linux")]

mod support;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use chat_server::token::{Claims, TokenKey, now_s};
use rusqlite::Connection;
use support::faults::{Fault, Faults};
use support::program::{Program, said};
use support::{HERE, LONG, Person, get, until_ready_is};

const DOCUMENT: &str = include_str!("../../../docs/operating.md");

const STORED: (u64, u64) = (201, 0);
const REFUSED: (u64, u64) = (503, 10503);
const UNKNOWN: (u64, u64) = (504, 10504);
const INVALID: (u64, u64) = (401, 12400);

/// The part of the page under this heading.
fn part(heading: &str) -> &'static str {
    let start = DOCUMENT.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("{heading}")).1;
    start.split("\n## ").next().unwrap()
}

/// (alarm, command) of each row.
fn rows() -> Vec<(&'static str, &'static str)> {
    let rows = part("Alarms").lines().filter(|line| line.starts_with("| ")).skip(2);
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [alarm, _, command] = cells[..] else { panic!("three cells: {row}") };
        (alarm, command.trim_matches('`'))
    })
    .collect()
}

/// One test for each row, and none without a row.
macro_rules! rows {
    ($($name:ident: $alarm:literal,)*) => {
        #[test]
        fn every_row_has_its_test() {
            let documented: Vec<&str> = rows().iter().map(|(alarm, _)| *alarm).collect();
            assert_eq!(documented, [$($alarm),*]);
        }

        $(#[tokio::test]
        async fn $name() {
            brought_about::$name(Stage::new($alarm)).await;
        })*
    };
}

rows! {
    disk_full: "`/readyz` 503: the disk is full",
    disk_takes_no_more: "`/readyz` 503: the disk takes no more",
    disk_not_flushed: "`/readyz` 503: the disk could not be flushed",
    accepting_pauses: "`dna_accept_pauses_total` grows",
    log_grows: "`dna_wal_bytes` stays above 32 MB",
    clock_jumps: "`dna_clock_jumps_total` grows",
    slow_readers: "`dna_closed_total{reason=\"outbox_bytes\"}` grows",
    unknown_secret: "`dna_refusals_total{code=\"12400\"}` grows",
    panic: "log: a thread panicked; ending",
    newer_schema: "does not start: schema version",
    directory_taken: "does not start: another dna is using",
    damaged: "does not start: file is not a database",
}

/// A data directory, a folder elsewhere, and what the page says is to be run.
struct Stage {
    data: tempfile::TempDir,
    elsewhere: tempfile::TempDir,
    command: String,
}

impl Stage {
    fn new(alarm: &str) -> Self {
        let (_, command) = rows().into_iter().find(|(known, _)| *known == alarm).expect("a row");
        Self {
            data: tempfile::tempdir().unwrap(),
            elsewhere: tempfile::tempdir().unwrap(),
            command: command.to_owned(),
        }
    }

    fn data(&self) -> &Path {
        self.data.path()
    }

    /// Runs the row's command as an operator would; gives what it said.
    fn run(&self) -> String {
        shell(&self.command, self.data(), self.elsewhere.path()).unwrap_or_else(|text| panic!("{text}"))
    }

    /// The faults of a program that [`Stage::start_with`] has not started yet.
    fn faults(&self) -> Faults {
        Faults::new(self.elsewhere.path())
    }

    fn start_with(&self, faults: &Faults) -> Program {
        Program::start_with(self.data(), &["--config", "dna.toml"], &faults.environment())
    }

    fn configure(&self, settings: &str) {
        std::fs::write(self.data().join("dna.toml"), settings).unwrap();
    }
}

fn shell(command: &str, data: &Path, elsewhere: &Path) -> Result<String, String> {
    let programs = Path::new(env!("CARGO_BIN_EXE_dna")).parent().unwrap();
    let path = std::env::join_paths(
        std::iter::once(programs.to_owned()).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let output = Command::new("sh")
        .args(["-euc", command])
        .current_dir(elsewhere)
        .env("PATH", path.unwrap())
        .env("DATA", data)
        .env("ELSEWHERE", elsewhere)
        .env("CONFIG", data.join("dna.toml"))
        .output()
        .unwrap();
    said(output).map_err(|text| format!("{command}: {text}"))
}

async fn save(person: &mut Person, text: &str) -> (u64, u64) {
    let id = person.say(text).await;
    person.verdict(id).await
}

async fn not_ready(dna: &Program, because: &str) {
    let (status, body) = get(dna.address, "/readyz").await;
    assert!(status == 503 && body.contains(because), "{status} {body}");
}

mod brought_about {
    use super::*;

    pub(super) async fn disk_full(stage: Stage) {
        stage.configure("");
        let faults = stage.faults();
        let dna = stage.start_with(&faults);
        let mut sender = dna.person(1).await;
        faults.set(Fault::WriteErrno, rustix::io::Errno::NOSPC.raw_os_error().into());
        assert_eq!(save(&mut sender, "refused").await, REFUSED);
        not_ready(&dna, "the disk is full").await;
        assert!(stage.run().contains('%'), "how full each disk is");
        faults.set(Fault::WriteErrno, 0);
        until_ready_is(dna.address, 200).await;
        assert_eq!(save(&mut sender, "taken").await, STORED);
    }

    pub(super) async fn disk_takes_no_more(stage: Stage) {
        let dna = Program::start(stage.data(), &[]);
        let mut sender = dna.person(1).await;
        assert_eq!(save(&mut sender, "taken").await, STORED);
        dna.limit_file_size(Some(100));
        assert_eq!(save(&mut sender, "refused").await, REFUSED);
        not_ready(&dna, "the disk takes no more").await;
        stage.run();
        until_ready_is(dna.address, 200).await;
        assert_eq!(save(&mut sender, "taken").await, STORED);
    }

    pub(super) async fn disk_not_flushed(stage: Stage) {
        stage.configure("");
        let faults = stage.faults();
        let dna = stage.start_with(&faults);
        let mut sender = dna.person(1).await;
        assert_eq!(save(&mut sender, "taken").await, STORED);
        faults.set(Fault::FlushErrno, rustix::io::Errno::IO.raw_os_error().into());
        assert_eq!(save(&mut sender, "unknown").await, UNKNOWN);
        not_ready(&dna, "the disk could not be flushed").await;
        assert!(stage.run().contains("1 messages of the live world"));
        faults.set(Fault::FlushErrno, 0);
        until_ready_is(dna.address, 200).await;
    }

    pub(super) async fn accepting_pauses(stage: Stage) {
        let dna = Program::start(stage.data(), &[]);
        let mut sender = dna.person(1).await;
        let open = std::fs::read_dir(format!("/proc/{}/fd", dna.pid())).unwrap().count();
        dna.limit_descriptors(open as u64 + 1);
        let waiting: Vec<_> = (0..4).map(|_| std::net::TcpStream::connect(dna.address).unwrap()).collect();
        dna.until_log_says("accepting pauses").await;
        assert_eq!(save(&mut sender, "goes on").await, STORED);
        stage.run();
        dna.until_log_says("accepting goes on").await;
        assert!(dna.metric("dna_accept_pauses_total").await > 0.0);
        drop(waiting);
    }

    pub(super) async fn log_grows(stage: Stage) {
        let dna = Program::start(stage.data(), &["--durability", "process"]);
        let reader = Connection::open(stage.data().join("dna.db")).unwrap();
        reader.execute_batch("BEGIN; SELECT * FROM message LIMIT 1;").unwrap();
        let mut sender = dna.person(1).await;
        let text = "x".repeat(4000);
        while dna.metric("dna_wal_bytes{world=\"live\"}").await < (33 << 20) as f64 {
            let mut last = 0;
            for _ in 0..100 {
                last = sender.say(&text).await;
            }
            assert_eq!(sender.verdict(last).await, STORED);
            sender.heard.clear();
            sender.events.clear();
        }
        dna.until_log_says("somebody reads an old state").await;
        // What it may not read it passes over, and says so in its status.
        let found = shell(&stage.command, stage.data(), stage.elsewhere.path()).unwrap_or_else(|text| text);
        for pid in [std::process::id(), dna.pid()] {
            assert!(found.contains(&format!("/proc/{pid}/maps")), "{found}");
        }
        drop(reader);
        let began = Instant::now();
        while dna.metric("dna_wal_bytes{world=\"live\"}").await > 0.0 {
            assert!(began.elapsed() < LONG, "the log is not emptied");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(super) async fn clock_jumps(stage: Stage) {
        stage.configure("[sockets]\nping_interval_ms = 1000000000\nping_timeout_ms = 1000000000\n");
        let faults = stage.faults();
        let dna = stage.start_with(&faults);
        let claims =
            Claims { idx: 1, exp: now_s() * 2, nickname: None, avatar: None, anonymity: None, test: false };
        let mut sender = Person::connect(dna.address, &support::sign(&claims)).await;
        // The store has looked at the clock once; the clock is set a day ahead, and two minutes pass.
        assert_eq!(save(&mut sender, "first").await, STORED);
        faults.set(Fault::WallOffset, 86_400 + 120);
        faults.set(Fault::MonotonicOffset, 120);
        assert_eq!(save(&mut sender, "wakes the store").await, STORED);
        dna.until_log_says("the clock jumped").await;
        assert_eq!(dna.metric("dna_clock_jumps_total{world=\"live\"}").await, 1.0);
        assert!(stage.run().contains("UTC"));
    }

    pub(super) async fn slow_readers(stage: Stage) {
        stage.configure("[sockets]\noutbox_bytes = 16384\n");
        let dna = Program::start(stage.data(), &["--config", "dna.toml", "--durability", "process"]);
        let mut sleeper = dna.person(1).await;
        sleeper.join(HERE, 500.0, None).await;
        let mut sender = dna.person(2).await;
        let text = "x".repeat(4000);
        let began = Instant::now();
        while dna.metric("dna_closed_total{reason=\"outbox_bytes\"}").await == 0.0 {
            assert!(began.elapsed() < LONG);
            for _ in 0..200 {
                assert_eq!(save(&mut sender, &text).await, STORED);
            }
        }
        assert!(stage.run().contains("The settings work"));
        // It may come back, as it is told to.
        assert_eq!(sleeper.until_closed().await, Some(4008));
        dna.person(1).await.round_trip().await;
    }

    pub(super) async fn unknown_secret(stage: Stage) {
        let claims = |idx| Claims {
            idx,
            exp: now_s() + 3600,
            nickname: None,
            avatar: None,
            anonymity: None,
            test: false,
        };
        let old = TokenKey::new(b"the secret of last year".as_slice()).sign(&claims(1)).unwrap();
        stage.configure("");
        let dna = Program::start(stage.data(), &["--config", "dna.toml"]);
        let mut person = dna.person(1).await;
        let mut event = support::message("x");
        event["token"] = old.clone().into();
        let id = person.emit("save_msg", &[event]).await;
        assert_eq!(person.verdict(id).await, INVALID);
        assert_eq!(dna.metric("dna_refusals_total{code=\"12400\"}").await, 1.0);
        assert!(!stage.run().contains("previous secret"));
        drop(person);
        dna.stop();
        // With the old secret kept its tokens are good.
        std::fs::write(stage.data().join("old"), "the secret of last year").unwrap();
        stage.configure(&format!(
            "[tokens]\nprevious_secret_file = {:?}\nprevious_until = \"2999-01-01T00:00:00Z\"\n",
            stage.data().join("old")
        ));
        let checked = stage.run();
        assert!(checked.contains("previous secret are accepted until 2999-01-01"), "{checked}");
        let dna = Program::start(stage.data(), &["--config", "dna.toml"]);
        let mut person = Person::connect(dna.address, &old).await;
        assert_eq!(save(&mut person, "known").await, STORED);
    }

    pub(super) async fn panic(stage: Stage) {
        stage.configure("");
        let faults = stage.faults();
        let mut dna = stage.start_with(&faults);
        let mut sender = dna.person(1).await;
        assert_eq!(save(&mut sender, "kept").await, STORED);
        faults.set(Fault::WorkerClockFails, 1);
        sender.try_say("anything").await;
        dna.until_ended();
        assert!(dna.log().contains("a thread panicked; ending"));
        let checked = stage.run();
        assert!(checked.contains(" messages of the live world") && checked.contains("checked"), "{checked}");
        let dna = Program::start(stage.data(), &[]);
        until_ready_is(dna.address, 200).await;
    }

    fn does_not_start(stage: &Stage, because: &str) {
        let said = Program::try_start(stage.data(), &[]).err().expect("it does not start");
        assert!(said.contains(because), "{said}");
    }

    pub(super) async fn newer_schema(stage: Stage) {
        Program::start(stage.data(), &[]).stop();
        let database = Connection::open(stage.data().join("dna.db")).unwrap();
        database.pragma_update(None, "user_version", 99).unwrap();
        does_not_start(&stage, "schema version 99");
        assert_eq!(stage.run().trim(), "99");
    }

    pub(super) async fn directory_taken(stage: Stage) {
        let first = Program::start(stage.data(), &[]);
        does_not_start(&stage, "another dna is using");
        assert!(stage.run().trim().ends_with("dna"));
        first.stop();
        Program::start(stage.data(), &[]).stop();
    }

    pub(super) async fn damaged(stage: Stage) {
        let dna = Program::start(stage.data(), &[]);
        let mut sender = dna.person(1).await;
        assert_eq!(save(&mut sender, "kept").await, STORED);
        shell("dna backup --data \"$DATA\" \"$ELSEWHERE/dna.db\"", stage.data(), stage.elsewhere.path())
            .unwrap();
        drop(sender);
        dna.stop();
        std::fs::write(stage.data().join("dna.db"), "overwritten by something".repeat(1000)).unwrap();
        does_not_start(&stage, "file is not a database");
        stage.run();
        Program::start(stage.data(), &[]).stop();
        let database = Connection::open(stage.data().join("dna.db")).unwrap();
        let kept: String = database.query_row("SELECT contents FROM message", [], |row| row.get(0)).unwrap();
        assert_eq!(kept, "kept");
    }
}

/// The lines of a part of the page that stand as code and are commands, joined.
fn commands(heading: &str) -> String {
    let lines = part(heading).lines().filter_map(|line| line.strip_prefix("    "));
    lines.filter(|line| line.contains("\"$DATA")).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn a_backup_is_made_and_restored_as_the_page_says() {
    let (data, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let commands = commands("Backups");
    let (backup, restore) = commands.split_once('\n').unwrap();
    let dna = Program::start(data.path(), &[]);
    let mut sender = dna.person(1).await;
    assert_eq!(save(&mut sender, "before").await, STORED);
    shell(backup, data.path(), elsewhere.path()).unwrap();
    assert_eq!(save(&mut sender, "after").await, STORED);
    dna.kill();
    shell(restore, data.path(), elsewhere.path()).unwrap();
    Program::start(data.path(), &[]).stop();
    let database = Connection::open(data.path().join("dna.db")).unwrap();
    let mut kept = database.prepare("SELECT contents FROM message").unwrap();
    let kept: Vec<String> = kept.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    assert_eq!(kept, ["before"]);
}

#[tokio::test]
async fn the_secret_is_changed_as_the_page_says_and_the_old_one_ends_at_its_date() {
    const EXPIRED: (u64, u64) = (401, 11400);
    // The directory's own secret.
    const OWN: &[(&str, &str)] = &[("DNA_JWT_SECRET", "")];
    let (data, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let token = || {
        shell("dna token --idx 1 --data \"$DATA\"", data.path(), elsewhere.path()).unwrap().trim().to_owned()
    };
    Program::start_with(data.path(), &[], OWN).stop();
    let old = token();
    shell(&commands("Changing the secret"), data.path(), elsewhere.path()).unwrap();
    let new = token();
    assert_ne!(old.rsplit('.').next(), new.rsplit('.').next());

    // The page's settings, with our paths and a date that comes soon.
    let settings = part("Changing the secret").lines().filter_map(|line| line.strip_prefix("    "));
    let settings: Vec<&str> = settings.filter(|line| !line.contains("\"$DATA")).collect();
    let until = jiff::Timestamp::from_second(now_s().cast_signed() + 15).unwrap();
    let settings = settings
        .join("\n")
        .replace("/var/lib/dna", data.path().to_str().unwrap())
        .replace("2026-12-01T00:00:00Z", &until.to_string());
    assert!(settings.contains(&until.to_string()) && settings.contains(data.path().to_str().unwrap()));
    std::fs::write(data.path().join("dna.toml"), settings).unwrap();
    let dna = Program::start_with(data.path(), &["--config", "dna.toml"], OWN);
    let mut with_old = Person::connect(dna.address, &old).await;
    assert_eq!(save(&mut with_old, "old").await, STORED);
    let mut with_new = Person::connect(dna.address, &new).await;
    assert_eq!(save(&mut with_new, "new").await, STORED);
    while jiff::Timestamp::now() <= until {
        with_old.listen_for(Duration::from_millis(100)).await;
    }
    // On the connection that was let in as on any other, and without one word about the new.
    assert_eq!(save(&mut with_old, "old").await, EXPIRED);
    let mut event = support::message("x");
    event["token"] = old.into();
    let id = with_new.emit("save_msg", &[event]).await;
    assert_eq!(with_new.verdict(id).await, EXPIRED);
    assert_eq!(save(&mut with_new, "new").await, STORED);
    let checked = shell("dna check --config \"$CONFIG\"", data.path(), elsewhere.path()).unwrap();
    assert!(checked.contains("ended at"), "{checked}");
}

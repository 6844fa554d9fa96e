//! The real Artillery runs our script against `dna`, and `drumfire` runs it against the real Socket.IO.

use std::process::Command;
use std::time::Duration;

use e2e::lines::LineProgram;
use e2e::stage::Stage;
use e2e::{Dna, alone, drumfire, node_packages, read_json, run, sqlite_number};

/// The journal's night; what it was run with gets all of it, the others a third.
const JOURNAL: Load =
    Load { users: 9_000, phases: r#"{"config":{"phases":[{"duration":30,"arrivalRate":300}]}}"# };
const SHORTER: Load =
    Load { users: 3_000, phases: r#"{"config":{"phases":[{"duration":10,"arrivalRate":300}]}}"# };

#[derive(Clone, Copy)]
struct Load {
    users: u64,
    phases: &'static str,
}

/// Artillery's own result file, both shapes: (completed, errors).
fn completed(result: &serde_json::Value) -> (u64, u64) {
    let aggregate = &result["aggregate"];
    if aggregate["counters"]["vusers.created"].is_u64() {
        let counters = aggregate["counters"].as_object().unwrap();
        let errors =
            counters.iter().filter(|(name, _)| name.starts_with("errors.")).map(|(_, n)| n.as_u64().unwrap());
        (counters["vusers.completed"].as_u64().unwrap(), errors.sum())
    } else {
        let errors = aggregate["errors"].as_object().unwrap().values().map(|n| n.as_u64().unwrap());
        (aggregate["scenariosCompleted"].as_u64().unwrap(), errors.sum())
    }
}

fn artillery(packages: &str, load: Load) {
    let _alone = alone();
    let dir = node_packages(packages);
    let data = tempfile::tempdir().unwrap();
    let dna = Dna::start(data.path(), &[]);
    let stage = Stage::set(&dna, load.users, 1);
    let program = dir.join("node_modules/.bin/artillery");
    run(
        Command::new(program)
            .args([
                "run",
                "-o",
                "artillery.json",
                "--overrides",
                load.phases,
                "-t",
                &dna.url(),
                "journal.yml",
            ])
            .env("ARTILLERY_DISABLE_TELEMETRY", "true")
            .env("CI", "true"),
        stage.dir(),
        Duration::from_secs(180),
    )
    .unwrap()
    .expect_code(0);
    assert_eq!(completed(&read_json(&stage.path("artillery.json"))), (load.users, 0));
    let stored = sqlite_number(&data.path().join("dna-test.db"), "SELECT count(*) FROM message");
    assert_eq!(stored, load.users as i64);
    assert_eq!(sqlite_number(&data.path().join("dna.db"), "SELECT count(*) FROM message"), 0);
    // Its file is read and drawn as ours is.
    drumfire(&["report", "artillery.json"], stage.dir(), Duration::from_secs(30)).expect_code(0);
    assert!(stage.path("artillery.json.html").is_file());
}

#[test]
fn artillery_1_7_9_over_engine_io_3() {
    artillery("artillery-1", JOURNAL);
}

#[test]
fn artillery_2_0_21_over_engine_io_4() {
    artillery("artillery-2", SHORTER);
}

fn node_server(version: &str, revision: u64) {
    let _alone = alone();
    let mut server = LineProgram::node("server.mjs", &[version]);
    let port = server.line(Duration::from_secs(20))["port"].as_u64().unwrap();
    let stage = Stage::empty();
    stage.write("tokens.csv", &(1..=SHORTER.users).map(|n| format!("token-{n}\n")).collect::<String>());
    drumfire(
        &[
            "run",
            "-o",
            "node.json",
            "--overrides",
            SHORTER.phases,
            "-t",
            &format!("http://127.0.0.1:{port}"),
            "journal.yml",
        ],
        stage.dir(),
        Duration::from_secs(120),
    )
    .expect_code(0);
    let result = read_json(&stage.path("node.json"));
    assert_eq!(completed(&result), (SHORTER.users, 0));
    assert_eq!(result["drumfire"]["meta"]["engine_revision"], revision, "found out by itself");
    server.close_input();
    let counted = server.line(Duration::from_secs(20));
    assert_eq!(counted["save_msg"], SHORTER.users, "{counted}");
    assert_eq!(counted["tokens"], SHORTER.users, "{counted}");
    // One connection a user. A 2.5 server opens a session for the question that finds out its revision.
    let probes = if revision == 3 { 1 } else { 0 };
    assert_eq!(counted["connections"], SHORTER.users + probes, "{counted}");
}

#[test]
fn drumfire_against_socket_io_2_5() {
    node_server("2", 3);
}

#[test]
fn drumfire_against_socket_io_4_8() {
    node_server("4", 4);
}

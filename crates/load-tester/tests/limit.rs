//! `limit` and `quick` against a server whose capacity is known: it answers at once up to so many requests a second, and
//! lets what is beyond wait in line.

mod support;

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Manner, Server, Socket, drumfire, drumfire_in_time, ok, plain_page};

/// Requests are served one after the other, each in so long.
fn server_with_a_queue(served_in: Duration) -> Arc<Server> {
    let free = Mutex::new(Instant::now());
    let page = move |_: &str, _: &str| {
        let done = {
            let mut free = free.lock().unwrap();
            *free = (*free).max(Instant::now()) + served_in;
            *free
        };
        std::thread::sleep(done.saturating_duration_since(Instant::now()));
        (ok("page"), true)
    };
    Server::start(|_| Manner::Serve, |_, _, _, _, _| {}, page)
}

/// `drumfire limit -o` on this script with these words, until the tester itself has kept time: the answer, what was
/// printed, and how many steps `--keep` kept.
fn searched(dir: &Path, script: &str, words: &[&str]) -> (Value, String, usize) {
    fs::write(dir.join("a.yml"), script).expect("written");
    let mut all = vec!["limit", "a.yml", "--workers", "1", "-o", "limit.json", "--keep", "steps"];
    all.extend(words);
    let begun = Instant::now();
    let out = loop {
        let _ = fs::remove_dir_all(dir.join("steps"));
        let (code, out, err) = drumfire(dir, &all);
        if code == 0 {
            break out;
        }
        assert_eq!(code, 3, "{out}{err}");
        assert!(
            begun.elapsed() < Duration::from_secs(300),
            "this machine stays too busy to keep time: {out}"
        );
    };
    let text = fs::read_to_string(dir.join("limit.json")).expect("a file");
    let kept = fs::read_dir(dir.join("steps")).expect("a directory").count();
    (serde_json::from_str::<Value>(&text).expect("JSON")["drumfire_limit"].take(), out, kept)
}

/// What held and the next above it that did not.
fn edge(found: &Value) -> (f64, f64) {
    let load = |which: &str| found[which]["load"].as_f64().unwrap_or_else(|| panic!("no {which}: {found}"));
    (load("held"), load("beyond"))
}

#[test]
fn the_limit_of_a_server_is_found_and_confirmed() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = server_with_a_queue(Duration::from_millis(10));
    let script = format!(
        "config:\n  target: http://{}\n  phases: [{{duration: 1, arrivalRate: 1}}]\nscenarios:\n  - flow: [{{get: {{url: /}}}}]\n",
        server.address
    );
    let until = "response_from_due.p95 < 150ms";
    let words = ["--until", until, "--from", "20", "--step-duration", "2", "--precision", "10"];
    let (found, out, kept) = searched(dir.path(), &script, &words);
    // Wherever its lines were wrapped.
    let words = out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("confirmed by 2 runs of 4 s") && out.contains("\nFailed: "), "{out}");
    let (held, failed) = edge(&found);
    // A hundred a second is what it serves. Below that by as much as a busy machine is late, above it by what a queue of
    // 150 ms lets pass in two seconds.
    assert!((50.0..=115.0).contains(&held), "{out}");
    assert!(failed > held && failed <= 160.0, "{out}");
    assert_eq!(kept, found["steps"].as_array().expect("steps").len());

    // A run at that rate by hand confirms it, one at 1.3 times what failed refutes.
    for (rate, expected) in [(held * 0.9, 0), (failed * 1.3, 1)] {
        let over = format!(
            r#"{{"config": {{"phases": [{{"duration": 3, "arrivalRate": {rate}}}], "ensure": {{"conditions": [{{"expression": "{until}"}}]}}}}}}"#
        );
        let (code, ..) = drumfire_in_time(dir.path(), &["run", "-q", "--overrides", &over, "a.yml"]);
        assert_eq!(code, expected, "{rate}\n{out}");
    }
}

/// Users without a pause stand in line behind each other: N of them wait N times as long as one is served.
#[test]
fn the_most_users_at_once_are_found_and_confirmed() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = server_with_a_queue(Duration::from_millis(20));
    let script = format!(
        "config:\n  target: http://{}\n  phases: [{{duration: 1, arrivalRate: 1}}]\nscenarios:\n  - flow: [{{loop: [{{get: {{url: /}}}}], count: 5}}]\n",
        server.address
    );
    let until = "http.response_time.p90 < 250ms";
    let words = ["--what", "users", "--until", until, "--from", "6", "--step-duration", "2"];
    let (found, out, _) = searched(dir.path(), &script, &words);
    let (held, failed) = edge(&found);
    assert_eq!(found["what"], "users");
    // Twelve wait 240 ms, thirteen 260 ms. On a busy machine they wait a little longer.
    assert!((7.0..=12.0).contains(&held) && failed == held + 1.0, "{out}");
    assert_eq!(found["held"]["concurrent_users"], held, "{out}");
    assert!(out.contains(&format!("Held: {held} users at once")), "{out}");
    for (users, expected) in [((held * 0.75).floor(), 0), ((failed * 1.3).ceil(), 1)] {
        let over = format!(
            r#"{{"config": {{"phases": [{{"duration": 3, "concurrency": {users}}}], "ensure": {{"conditions": [{{"expression": "{until}"}}]}}}}}}"#
        );
        let (code, ..) = drumfire_in_time(dir.path(), &["run", "-q", "--overrides", &over, "a.yml"]);
        assert_eq!(code, expected, "{users}\n{out}");
    }
}

#[test]
fn what_a_script_does_not_measure_cannot_be_searched_for() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(
        dir.path().join("a.yml"),
        "config: {target: 'http://127.0.0.1:9'}\nscenarios: [{flow: [{get: {url: /}}]}]\n",
    )
    .expect("written");
    for (until, expected) in [
        ("delivery.p99 < 1s", "measures no delivery"),
        ("deliverey.p99 < 1s", "did you mean delivery.p99?"),
        ("p99 <", "ends too early"),
    ] {
        let (code, out, err) = drumfire(dir.path(), &["limit", "a.yml", "--until", until]);
        assert_eq!((code, out.as_str(), err.contains(expected)), (1, "", true), "{err}");
    }
}

#[test]
fn a_search_that_can_find_nothing_does_not_begin() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(
        dir.path().join("a.yml"),
        "config: {target: 'http://127.0.0.1:1'}\nscenarios: [{flow: [{get: {url: /}}]}]\n",
    )
    .expect("written");
    fs::write(dir.path().join("file"), "").expect("written");
    for (words, expected) in [
        (&["--solo"][..], "--solo runs one user"),
        (&["--from", "5", "--to", "2"], "--to is below --from"),
        (&["--keep", "file/steps"], "--keep file/steps: cannot be made"),
        (&["-q", "--step-duration", "1"], "http://127.0.0.1:1: connection refused: nothing listens there"),
    ] {
        let all: Vec<&str> = ["limit", "a.yml", "--until", "p99 < 1s"].iter().chain(words).copied().collect();
        let (code, out, err) = drumfire(dir.path(), &all);
        assert_eq!((code, out.as_str(), err.contains(expected)), (1, "", true), "{err}");
    }
}

#[test]
fn quick_measures_who_heard_without_a_script() {
    let say = |server: &Arc<Server>, _: &Arc<Socket>, event: &str, arguments: &[Value], _: Option<u64>| {
        if event == "message" {
            for standing in server.standing.lock().unwrap().iter() {
                standing.emit("message", &arguments[0]);
            }
        }
    };
    let server = Server::start(|_| Manner::Serve, say, plain_page);
    let dir = tempfile::tempdir().expect("a directory");
    let url = format!("http://{}", server.address);
    let words = [
        "quick",
        &url,
        "--emit",
        "message",
        "--data",
        r#"{"text": "hi"}"#,
        "--listen",
        "message",
        "--listeners",
        "5",
        "--join",
        "store",
        "--rate",
        "10",
        "--duration",
        "2",
        "--stay",
        "0.3",
        "--workers",
        "1",
        "-o",
        "r.json",
    ];
    let (code, out, err) = drumfire(dir.path(), &words);
    assert_eq!(code, 0, "{out}{err}");
    let file: Value = serde_json::from_str(&fs::read_to_string(dir.path().join("r.json")).expect("a result"))
        .expect("JSON");
    let delivery = &file["drumfire"]["delivery"];
    assert_eq!(
        (&delivery["messages"], &delivery["heard"], &delivery["missing"]),
        (&20.into(), &100.into(), &0.into())
    );

    // What it prints is the same load as a script.
    let mut printed = words[..words.len() - 4].to_vec();
    printed.push("--print-script");
    let (code, script, _) = drumfire(dir.path(), &printed);
    assert_eq!(code, 0);
    fs::write(dir.path().join("printed.yml"), script).expect("written");
    let (code, out, err) = drumfire(dir.path(), &["check", "--strict", "printed.yml"]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains('5') && out.contains("message"), "{out}");

    let (code, out, _) =
        drumfire(dir.path(), &["quick", &url, "--rate", "5", "--duration", "1", "--workers", "1"]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains('5'), "{out}");
}

//! `drumfire debug`: what it prints, and its exit codes.

mod support;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use support::{Manner, Server, Socket, ok, write_script};

const SCRIPT: &str = r#"
config:
  target: "{target}"
  timeout: 1
  socketio: {transports: ["websocket"], auth: {token: "{{ token }}"}}
  phases: [{duration: 600, arrivalRate: 1000}]
before: {flow: [{get: /warm}]}
scenarios:
  - engine: socketio
    flow:
      - post: {url: /login, json: {password: hunter2}, capture: [{json: $.token, as: token}, {json: $.room, as: room}]}
      - emit: [say, "{{ room }}", {token: "{{ token }}"}]
        acknowledge: true
      - wait: {for: said, capture: {json: $, as: heard}}
      - log: "heard {{ heard }}"
"#;

fn server() -> Arc<Server> {
    let say = |_: &Arc<Server>, socket: &Arc<Socket>, _: &str, arguments: &[Value], ack: Option<u64>| {
        socket.emit("said", &json!(format!("{}!", arguments[0].as_str().unwrap())));
        socket.ack(ack.unwrap(), &json!({"ok": true}));
    };
    let page = |path: &str, _: &str| {
        (ok(if path == "/login" { r#"{"token":"secret-17","room":"lobby"}"# } else { "page" }), true)
    };
    Server::start(|_| Manner::Serve, say, page)
}

/// Exit code and what was printed, times left out.
fn debug(server: &Server, yaml: &str, flags: &[&str]) -> (Option<i32>, Vec<String>, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = write_script(server, yaml, folder.path());
    let output =
        Command::new(env!("CARGO_BIN_EXE_drumfire")).arg("debug").args(flags).arg(path).output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    let lines = out.lines().map(|line| line.split_once(" s  ").map_or(line, |(_, line)| line).to_owned());
    (output.status.code(), lines.collect(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn debug_prints_everything_one_user_does() {
    let server = server();
    let (code, lines, err) = debug(&server, SCRIPT, &[]);
    let all = lines.join("\n");
    assert_eq!((code, err.as_str()), (Some(0), ""), "{all}");
    let expected = [
        "before: GET /warm (line 7)".to_owned(),
        format!("  -> GET http://{}/warm", server.address),
        "POST /login (line 11)".to_owned(),
        format!("  -> POST http://{}/login", server.address),
        r#"     {"password":"***"}"#.to_owned(),
        "  <- 200 OK, first byte after".to_owned(),
        r#"     {"token":"***","room":"lobby"}"#.to_owned(),
        "  token = ***".to_owned(),
        r#"  room = "lobby""#.to_owned(),
        "  done in ".to_owned(),
        "connect".to_owned(),
        format!("  connected to {} in ", server.address),
        "emit say (line 12)".to_owned(),
        r#"  -> 420["say","lobby",{"token":"***"}]"#.to_owned(),
        r#"  <- event ["said","lobby!"]"#.to_owned(),
        r#"  <- ack 0 [{"ok":true}]"#.to_owned(),
        "  done in ".to_owned(),
        "wait said (line 14)".to_owned(),
        r#"  heard = "lobby!""#.to_owned(),
        "log (line 15)".to_owned(),
        "  heard lobby!".to_owned(),
        "user completed after ".to_owned(),
    ];
    let mut rest = lines.iter();
    for line in &expected {
        let found = rest.any(|told| told.starts_with(line.as_str()));
        assert!(found, "{line:?} is missing or out of order in\n{all}");
    }
    assert!(!all.contains("secret-17") && !all.contains("hunter2"), "{all}");
    assert_eq!(server.upgrades.load(Ordering::Relaxed), 1, "one user, whatever the phases say");
    assert_eq!(server.closed_politely.load(Ordering::Relaxed), 1);
}

#[test]
fn debug_of_a_user_that_fails_exits_with_1() {
    let server = server();
    let failing = SCRIPT.replace("for: said, capture", "for: never, timeout: 0.2, capture");
    let (code, lines, _) = debug(&server, &failing, &["--users", "2"]);
    let all = lines.join("\n");
    assert_eq!(code, Some(1), "{all}");
    for user in ["[1]", "[2]"] {
        for told in
            ["  ERROR wait never (line 14): no never within 0.2 s", "  FAILED after", "user FAILED after"]
        {
            assert!(lines.iter().any(|line| line.starts_with(&format!("{user} {told}"))), "{told}: {all}");
        }
    }
    assert!(!all.contains("log (line"), "the rest is skipped: {all}");
    let expecting = SCRIPT.replace("capture: [", "expect: {statusCode: 201}, capture: [");
    assert_eq!(debug(&server, &expecting, &[]).0, Some(21));
    // A script that cannot be run, and a `before` that fails.
    assert_eq!(debug(&server, &SCRIPT.replace("emit:", "emti:"), &[]).0, Some(1));
    let (code, _, err) = debug(
        &server,
        &SCRIPT.replace("{get: /warm}", "{get: {url: /warm, capture: {json: $.x, as: x}}}"),
        &[],
    );
    assert_eq!(code, Some(1));
    assert!(err.contains("`before` failed, so no user was started"), "{err}");
}

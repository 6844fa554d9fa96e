//! What `drumfire init` writes runs as it stands: only its phases are shortened here. The one for plain WebSockets is in
//! websocket.rs.

mod support;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use support::{Manner, Server, drumfire, plain_page};

const SHORT: &str = r#"{"config": {"phases": [{"duration": 1, "arrivalRate": 5}]}}"#;

/// Its result.
fn begun_with(kind: &str, server: &Server, dir: &Path) -> Value {
    let target = format!("http://{}", server.address);
    let file = format!("{kind}.yml");
    let (code, out, err) = drumfire(dir, &["init", &file, "--kind", kind, "--target", &target]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let (code, out, err) = drumfire(dir, &["run", "--strict", "-o", "r.json", "--overrides", SHORT, &file]);
    // Where too much else runs the times are not to be believed (3); what was said and heard is.
    assert!(matches!(code, 0 | 3) && err.is_empty(), "{kind}: {code} {out}{err}");
    let text = fs::read_to_string(dir.join("r.json")).expect("a result");
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn a_script_to_begin_with_runs_as_it_stands() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(
        |_| Manner::Serve,
        |server, socket, event, arguments, ack| {
            assert_eq!(event, "message");
            if let Some(ack) = ack {
                socket.ack(ack, &json!({"ok": true}));
            }
            for one in server.everybody.lock().unwrap().iter() {
                one.emit("message", &arguments[0]);
            }
        },
        plain_page,
    );
    let counters = |result: &Value, name: &str| result["aggregate"]["counters"][name].as_u64();
    let http = begun_with("http", &server, dir.path());
    assert_eq!(
        (counters(&http, "vusers.completed"), counters(&http, "http.codes.200")),
        (Some(5), Some(5)),
        "{http}"
    );
    let socketio = begun_with("socketio", &server, dir.path());
    assert_eq!(counters(&socketio, "vusers.completed"), Some(5));
    assert_eq!(socketio["aggregate"]["summaries"]["socketio.response_time"]["count"], 5, "the acks");
    let chat = begun_with("chat", &server, dir.path());
    let delivery = &chat["drumfire"]["delivery"];
    assert_eq!(
        (&delivery["messages"], &delivery["heard"], &delivery["missing"]),
        (&json!(5), &json!(500), &json!(0))
    );
    assert_eq!(chat["drumfire"]["checks"].as_array().map(Vec::len), Some(2));
}

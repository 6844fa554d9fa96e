//! The journal's scripts, old and new.

use super::*;

#[test]
fn journal_script_byte_for_byte() {
    let script = good(JOURNAL_ORIGINAL);
    assert_eq!(script.warnings, []);
    let plan = Plan::new(&script.config.phases, 0);
    assert_eq!((plan.len(), plan.duration()), (9000, Duration::from_secs(30)));
    assert_eq!(script.config.target, "http://localhost:9013");
    let [scenario] = &script.scenarios[..] else { panic!() };
    assert_eq!((scenario.name.as_str(), scenario.engine), ("0", Engine::SocketIo));
    let [get, emit, think] = &scenario.flow[..] else { panic!() };
    assert!(matches!(&get.action, Action::Http(get) if get.method == "GET" && get.name == "GET /"));
    let Action::Emit(emit) = &emit.action else { panic!() };
    assert!(emit.acknowledge.is_none() && emit.response.is_none());
    assert_eq!(
        rendered(&emit.args[0]),
        json!({
            "token": "...",
            "messageData": {"lng": "127.???????", "lat": "37.???????", "contents": "testing"},
            "radius": 500
        })
    );
    assert!(matches!(think.action, Action::Think { pause: Think::Fixed(pause), .. } if pause.as_secs() == 1));
    assert_eq!(script.scenarios[0].flow[1].line, 15);
}

#[test]
fn journal_scripts_load_with_their_rows() {
    let dir = tempfile::tempdir().unwrap();
    let rows = |count: usize| (0..count).map(|i| format!("token-{i}\n")).collect::<String>();
    std::fs::write(dir.path().join("tokens.csv"), rows(9000)).unwrap();
    std::fs::write(dir.path().join("listeners.csv"), rows(2000)).unwrap();
    for (name, text) in [("시나리오.yml", JOURNAL), ("heard.yml", JOURNAL_HEARD)] {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        let script = load(&LoadOptions { files: vec![path], ..LoadOptions::default() }).unwrap();
        assert_eq!(script.warnings, [], "{name}");
        assert_eq!(script.config.payloads[0].rows.len(), 9000);
        assert_eq!(script.config.payloads[0].order, RowOrder::Sequence);
        assert_eq!(script.sha256.len(), 64);
        for group in &script.config.listeners {
            assert_eq!((group.count, group.payloads[0].rows.len()), (2000, 2000));
        }
    }
}

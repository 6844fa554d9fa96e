//! The journal's night, end to end, seen from every side: the load tester, the database, people who watch.

use std::time::Duration;

use e2e::lines::LineProgram;
use e2e::stage::Stage;
use e2e::{Dna, alone, drumfire, oracle, read_json, sqlite, sqlite_number};
use serde_json::Value;

const USERS: u64 = 9_000;

fn counter(result: &Value, name: &str) -> u64 {
    result["aggregate"]["counters"][name].as_u64().unwrap_or(0)
}

#[test]
fn nine_thousand_messages_are_stored_heard_and_accounted_for() {
    let _alone = alone();
    let data = tempfile::tempdir().unwrap();
    let dna = Dna::start(data.path(), &[]);
    let stage = Stage::set(&dna, USERS, 2_000);

    let watchers = dna.tokens(5_000_001, 3, true);
    let mut onlooker = LineProgram::node(
        "onlooker.mjs",
        &[&dna.url(), &watchers[0], &watchers[1], &watchers[2], "127.0276", "37.4979", &USERS.to_string()],
    );
    assert_eq!(onlooker.line(Duration::from_secs(20))["ready"], true);

    let pairs = stage.path("pairs.csv");
    let run = drumfire(
        &["run", "-o", "결과.json", "-t", &dna.url(), "--pairs", "pairs.csv", "journal-heard.yml"],
        stage.dir(),
        Duration::from_secs(120),
    )
    .expect_code(0);

    // drumfire's own account.
    let result = read_json(&stage.path("결과.json"));
    assert_eq!(counter(&result, "vusers.created"), USERS);
    assert_eq!(counter(&result, "vusers.completed"), USERS);
    assert_eq!(counter(&result, "vusers.failed"), 0);
    let errors: Vec<_> = result["aggregate"]["counters"]
        .as_object()
        .unwrap()
        .keys()
        .filter(|name| name.starts_with("errors."))
        .collect();
    assert!(errors.is_empty(), "{errors:?}\n{}", run.stdout);

    // An oracle that shares no code with either side: the set of pairs is the same.
    let verdict = oracle::judge(&pairs);
    assert_eq!((verdict.listeners, verdict.messages), (2_000, USERS as usize));
    assert_eq!((verdict.missing.len(), verdict.uncalled.len(), verdict.undecided), (0, 0, 0));
    let per_message = verdict.heard / USERS as usize;
    assert!((60..=130).contains(&per_message), "{per_message} hear a message");
    assert_eq!(result["drumfire"]["delivery"]["heard"].as_u64().unwrap() as usize, verdict.heard);

    // The databases, read by the stock client.
    let test = data.path().join("dna-test.db");
    let live = data.path().join("dna.db");
    assert_eq!(sqlite_number(&test, "SELECT count(*) FROM message"), USERS as i64);
    assert_eq!(sqlite_number(&live, "SELECT count(*) FROM message"), 0);
    let places = sqlite(&test, "SELECT DISTINCT lng || ' ' || lat || ' ' || type FROM message");
    assert_eq!(places, ["127.0276 37.4979 LoudSpeaker"]);
    let told = "SELECT count(DISTINCT contents) FROM message WHERE contents LIKE 'testing%'";
    assert_eq!(sqlite_number(&test, told), USERS as i64);
    assert_eq!(sqlite_number(&test, "SELECT count(DISTINCT user_idx) FROM message"), USERS as i64);

    // The official client's account.
    onlooker.close_input();
    let sums = onlooker.line(Duration::from_secs(60));
    let inside = &sums["before"]["inside"];
    assert_eq!(inside["new_msg"], USERS, "{sums}");
    assert_eq!(inside["contents"]["testing"], USERS, "{sums}");
    assert_eq!(inside["places"]["127.0276,37.4979"], USERS, "{sums}");
    assert_eq!(inside["told"], USERS, "{sums}");
    assert!(inside["alerts"].as_u64().unwrap() < 40, "{sums}");
    // Never faster than one in two seconds: so many alerts took at least so long (a late first one aside).
    let (alerts, span_ms) = (inside["alerts"].as_f64().unwrap(), inside["alerts_span_ms"].as_f64().unwrap());
    assert!(span_ms + 500.0 >= (alerts - 1.0) * 2_000.0, "{sums}");
    let outside = &sums["before"]["outside"];
    assert_eq!((outside["new_msg"].as_u64(), outside["alerts"].as_u64()), (Some(0), Some(0)), "{sums}");
    let after = &sums["after"]["outside"];
    assert_eq!((after["new_msg"].as_u64(), after["alerts"].as_u64()), (Some(1), Some(1)), "{sums}");

    // Pushes went through to the loopback receiver, folded and counted.
    let pushed = dna.metric("dna_pushes_received_total");
    assert!(pushed > 0.0);
    assert_eq!(dna.metric("dna_pushes_dropped_total"), 0.0);
    assert!(dna.stop().success());
}

#[test]
fn deliveries_follow_five_hundred_people_who_walk_while_the_load_runs() {
    let _alone = alone();
    let data = tempfile::tempdir().unwrap();
    let dna = Dna::start(data.path(), &["--workers", "2"]);
    let users = 1_500;
    let stage = Stage::set(&dna, users, 500);
    // Every message has a place of its own within 1.5 km.
    let mut rng = fastrand::Rng::with_seed(2018);
    let tokens = std::fs::read_to_string(stage.path("tokens.csv")).unwrap();
    let mut rows = String::new();
    for token in tokens.lines() {
        let (lng, lat) =
            (127.0276 + 0.017 * (rng.f64() * 2.0 - 1.0), 37.4979 + 0.0135 * (rng.f64() * 2.0 - 1.0));
        rows += &format!("{token},{lng:.7},{lat:.7}\n");
    }
    stage.write("places.csv", &rows);
    stage.write("walk.yml", WALK);
    drumfire(
        &["run", "-o", "walk.json", "-t", &dna.url(), "--pairs", "pairs.csv", "walk.yml"],
        stage.dir(),
        Duration::from_secs(120),
    )
    .expect_code(0);
    let verdict = oracle::judge(&stage.path("pairs.csv"));
    println!("{} heard, {} undecided", verdict.heard, verdict.undecided);
    assert_eq!((verdict.listeners, verdict.messages), (500, users as usize));
    assert_eq!((verdict.missing.len(), verdict.uncalled.len()), (0, 0), "{verdict:?}");
    assert!(verdict.heard > 10_000, "{}", verdict.heard);
    // What is left open are walkers at the rim at that moment, not an excuse.
    assert!(verdict.undecided < 500 * users as usize / 100, "{}", verdict.undecided);
    let moved = read_json(&stage.path("walk.json"));
    assert_eq!(counter(&moved, "vusers.completed"), users);
}

const WALK: &str = r#"
config:
  target: "http://localhost:9013"
  socketio: { transports: ["websocket"] }
  payload: { path: places.csv, fields: [token, lng, lat], order: sequence }
  phases: [{ duration: 10, arrivalRate: 150 }]
  listeners:
    - count: 500
      place: { around: [127.0276, 37.4979], within: 1500, radius: [100, 1000] }
      payload: { path: listeners.csv, fields: [token], order: sequence }
      flow:
        - emit: [store, { token: "{{ token }}", position: ["{{ lng }}", "{{ lat }}"], radius: "{{ radius }}" }]
          acknowledge: true
      moving:
        every: 1
        step: 60
        flow:
          - emit: [update, { position: ["{{ lng }}", "{{ lat }}"], radius: "{{ radius }}" }]
            acknowledge: true
  delivery: { event: new_msg, stamp: messageData.contents, read: result.contents, expect: circle }
scenarios:
  - engine: socketio
    flow:
      - emit:
          channel: save_msg
          data: { token: "{{ token }}", messageData: { lng: "{{ lng }}", lat: "{{ lat }}", contents: "walk" } }
        acknowledge: true
"#;

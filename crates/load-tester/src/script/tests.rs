//! Whole scripts through one check: a script in, a few words about what it became out.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::compat::{Section, Support, TABLE};
use super::model::*;
use super::template::Template;
use super::*;
use crate::plan::Plan;

const JOURNAL_ORIGINAL: &str = include_str!("../../../../scenarios/journal-original.yml");
const JOURNAL: &str = include_str!("../../../../scenarios/journal.yml");
const JOURNAL_HEARD: &str = include_str!("../../../../scenarios/journal-heard.yml");

fn read(text: &str) -> Result<Script, ScriptError> {
    read_with(text, &LoadOptions::default())
}

fn read_with(text: &str, options: &LoadOptions) -> Result<Script, ScriptError> {
    let options = LoadOptions {
        seed: Some(7),
        environment_variables: Some(vec![("HOME".into(), "/root".into())]),
        ..options.clone()
    };
    parse_str(text, &options)
}

#[track_caller]
fn good(text: &str) -> Script {
    read(text).unwrap_or_else(|error| panic!("{text}\n{error}"))
}

/// A script with these lines under `config` and this one flow.
fn with(config: &str, scenario: &str) -> String {
    let indent = |text: &str, by: usize| {
        text.trim_matches('\n').lines().map(|line| format!("{:by$}{line}\n", "")).collect::<String>()
    };
    let target = if config.contains("target:") { "" } else { "  target: http://localhost:9013\n" };
    let phases = if config.contains("phases:") { "" } else { "  phases: [{duration: 1, arrivalRate: 1}]\n" };
    format!("config:\n{target}{phases}{}scenarios:\n  -\n{}", indent(config, 2), indent(scenario, 4))
}

/// A socketio script of these steps.
fn steps(flow: &str) -> String {
    let flow: String = flow.trim_matches('\n').lines().map(|line| format!("  {line}\n")).collect();
    with("", &format!("engine: socketio\nflow:\n{flow}"))
}

fn warnings(text: &str) -> Vec<String> {
    good(text).warnings.iter().map(|w| format!("{}: {}", w.line, w.message)).collect()
}

fn rendered(template: &Template) -> Value {
    template.render(&Vars::empty(), &mut fastrand::Rng::with_seed(1))
}

fn shown_errors(scripts: &[&str]) -> String {
    let mut text = String::new();
    for script in scripts {
        match read(script) {
            Ok(_) => panic!("nothing wrong with\n{script}"),
            Err(error) => text += &format!("{error}\n"),
        }
    }
    text
}

macro_rules! assert_errors {
    ($name:literal, $scripts:expr) => {
        insta::with_settings!({prepend_module_to_snapshot => false, omit_expression => true}, {
            insta::assert_snapshot!($name, shown_errors($scripts));
        });
    };
}

// -- the journal

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

// -- config

#[test]
fn targets() {
    for (target, expected) in [
        ("http://localhost:9013/", "http://localhost:9013"),
        ("https://a.example/base/", "https://a.example/base"),
        ("\"http://{{ $processEnvironment.HOME }}\"", "http:///root"),
        ("ws://h", "ws://h"),
    ] {
        let script = read(&with(&format!("target: {target}"), "flow: [{get: {url: /}}]"));
        match script {
            Ok(script) => assert_eq!(script.config.target, expected),
            Err(error) => assert!(expected == "http:///root", "{error}"),
        }
    }
    let given = LoadOptions { target: Some("http://x:1/".into()), ..LoadOptions::default() };
    let script =
        read_with("config: {phases: [{duration: 1, arrivalCount: 1}]}\nscenarios: [{flow: []}]", &given);
    assert_eq!(script.unwrap().config.target, "http://x:1");
    assert_errors!(
        "targets",
        &[
            "scenarios: [{flow: []}]",
            "config: {target: localhost:9013}\nscenarios: [{flow: []}]",
            "config: {target: ftp://x}\nscenarios: [{flow: []}]",
            "config: {target: \"{{ nowhere }}\"}\nscenarios: [{flow: []}]",
        ]
    );
}

#[test]
fn phases() {
    use PhaseKind::{Count, Pause, Ramp, Rate};
    let s = Duration::from_secs_f64;
    let rows = [
        ("{duration: 30, arrivalRate: 300}", Rate { duration: s(30.0), rate: 300.0, poisson: false }),
        ("{duration: '30', arrivalRate: '300'}", Rate { duration: s(30.0), rate: 300.0, poisson: false }),
        ("{duration: 0.5, arrivalRate: 10}", Rate { duration: s(0.5), rate: 10.0, poisson: false }),
        ("{duration: 10m, arrivalRate: 0.5}", Rate { duration: s(600.0), rate: 0.5, poisson: false }),
        ("{duration: 5, arrivalRate: 1, mode: poisson}", Rate { duration: s(5.0), rate: 1.0, poisson: true }),
        (
            "{duration: 10, arrivalRate: 1, rampTo: 10}",
            Ramp { duration: s(10.0), from: 1.0, to: 10.0, poisson: false },
        ),
        ("{duration: 10, rampTo: 10}", Ramp { duration: s(10.0), from: 0.0, to: 10.0, poisson: false }),
        (
            "{duration: 10, arrivalRate: 0, rampTo: 4}",
            Ramp { duration: s(10.0), from: 0.0, to: 4.0, poisson: false },
        ),
        ("{duration: 10, arrivalRate: 0}", Pause { duration: s(10.0) }),
        ("{pause: 3}", Pause { duration: s(3.0) }),
        ("{pause: 500ms, duration: 9}", Pause { duration: s(0.5) }),
        ("{duration: 60, arrivalCount: 20}", Count { duration: s(60.0), count: 20 }),
        ("{duration: 60, arrivalCount: 0}", Count { duration: s(60.0), count: 0 }),
        ("{duration: \"{{ d }}\", arrivalCount: \"{{ n }}\"}", Count { duration: s(2.0), count: 3 }),
    ];
    for (phase, expected) in rows {
        let script = good(&with(&format!("variables: {{d: 2s, n: '3'}}\nphases: [{phase}]"), "flow: []"));
        assert_eq!(script.config.phases[0].kind, expected, "{phase}");
    }
    let script = good(&with(
        "mode: poisson\nphases: [{duration: 1, arrivalRate: 9, maxVusers: '50', name: hot}]",
        "flow: []",
    ));
    assert_eq!(
        script.config.phases[0],
        Phase {
            name: Some("hot".into()),
            kind: Rate { duration: s(1.0), rate: 9.0, poisson: true },
            max_vusers: Some(50)
        }
    );
    let none = "config: {target: http://x}\nscenarios: [{flow: []}]";
    assert_eq!(good(none).config.phases[0].kind, Count { duration: s(1.0), count: 1 });
    assert_eq!(good(none).warnings.len(), 1);
    let solo = LoadOptions { solo: true, ..LoadOptions::default() };
    assert_eq!(Plan::new(&read_with(JOURNAL_ORIGINAL, &solo).unwrap().config.phases, 0).len(), 1);
    assert_eq!(
        warnings(&with("phases: [{duration: 1, arrivalRate: 0.1}]", "flow: []")),
        ["2: nobody arrives in this phase: it ends before the first whole user"]
            .map(|w| w.replace("2:", "3:"))
    );
    let bad = |phase: &str| with(&format!("phases:\n  - {phase}"), "flow: []");
    assert_errors!(
        "phases",
        &[
            &bad("{arrivalRate: 3}"),
            &bad("{duration: 3}"),
            &bad("{duration: 0, arrivalRate: 3}"),
            &bad("{duration: 3 parsecs, arrivalRate: 3}"),
            &bad("{duration: 3, arrivalRate: many}"),
            &bad("{duration: 3, arrivalRate: -1}"),
            &bad("{duration: 3, arrivalCount: 1.5}"),
            &bad("{duration: 3, arrivalRate: 1, mode: gauss}"),
            &bad("{duration: 300d, arrivalRate: 100000}"),
            &bad("just text"),
            &bad("{duration: [3], arrivalRate: 1}"),
        ]
    );
}

#[test]
fn environments() {
    let text = "
config:
  target: http://a
  phases: [{duration: 1, arrivalRate: 1}, {duration: 2, arrivalRate: 2}]
  variables: {where: '{{ $environment }}'}
  environments:
    live: {target: http://b, phases: [{duration: 9}]}
scenarios: [{flow: []}]
";
    let options = |name: &str| LoadOptions { environment: Some(name.into()), ..LoadOptions::default() };
    let live = read_with(text, &options("live")).unwrap();
    assert_eq!(live.config.target, "http://b");
    // Index by index: the first phase keeps its rate, the second stays.
    assert_eq!(live.config.phases.iter().map(Phase::load).collect::<Vec<_>>(), ["1/s", "2/s"]);
    assert_eq!(live.config.phases[0].duration(), Duration::from_secs(9));
    assert_eq!(live.config.variables, [("where".into(), vec![json!("live")])]);
    assert_eq!(good(text).config.target, "http://a");
    let error = read_with(text, &options("lvie")).unwrap_err();
    assert_eq!(error.problems[0].message, "the script has no environment `lvie`");
    assert_eq!(error.problems[0].help.as_deref(), Some("did you mean `live`?"));
}

#[test]
fn several_files_merge() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let base = file("a.yml", "config: {target: http://a, timeout: 3}\nscenarios: [{flow: [{think: 1}]}]");
    let config = file(
        "c.json",
        r#"{"config": {"target": "http://c", "phases": [{"duration": 1, "arrivalCount": 5}]}}"#,
    );
    let script =
        load(&LoadOptions { files: vec![base.clone()], config: Some(config), ..LoadOptions::default() })
            .unwrap();
    assert_eq!((script.config.target.as_str(), script.config.timeout.as_secs()), ("http://c", 3));
    assert_eq!(script.config.phases[0].load(), "5 users");

    let wrong = file("wrong.yml", "config:\n  phases:\n    - {duration: soon, arrivalRate: 1}\n");
    let error =
        load(&LoadOptions { files: vec![base], config: Some(wrong), ..LoadOptions::default() }).unwrap_err();
    assert!(error.problems[0].path.ends_with("wrong.yml"), "{error}");
    assert_eq!((error.problems[0].line, error.problems[0].column), (3, 18), "{error}");
}

#[test]
fn overrides_replace_lists() {
    let text = with("phases: [{duration: 1, arrivalRate: 1}, {duration: 2, arrivalRate: 2}]", "flow: []");
    let options = |json: &str| LoadOptions { overrides: Some(json.into()), ..LoadOptions::default() };
    let script =
        read_with(&text, &options(r#"{"config": {"phases": [{"duration": 5, "arrivalRate": 3}]}}"#)).unwrap();
    assert_eq!(script.config.phases.len(), 1);
    let error =
        read_with(&text, &options(r#"{"config": {"phases": [{"duration": "x", "arrivalRate": 3}]}}"#));
    assert_eq!(error.unwrap_err().problems[0].path, Path::new("--overrides"));
    assert_eq!(read_with(&text, &options("{oops")).unwrap_err().problems.len(), 1);
}

#[test]
fn variables_and_precedence() {
    let text =
        with("variables: {room: lobby, port: 80, pick: [a, b], full: '{{ room }}-{{ port }}'}", "flow: []");
    let options = LoadOptions {
        variables: Some(r#"{"room": "attic", "more": {"x": 1}}"#.into()),
        ..LoadOptions::default()
    };
    let mut script = read_with(&text, &options).unwrap();
    script.config.payloads.push(Payload {
        path: "p.csv".into(),
        fields: vec!["room".into(), "row".into(), "left".into()],
        order: RowOrder::Sequence,
        rows: std::sync::Arc::new(vec![vec![json!("csv"), json!(1), json!("row")]]),
        load_all_as: None,
    });
    let captured = [("left".into(), json!("before")), ("only".into(), json!("before"))];
    let shared = vars::SharedVars::new(&script, &captured);
    let mut rng = fastrand::Rng::with_seed(3);
    let mut user = shared.user(0, &mut rng);
    let get = |user: &Vars, name: &str| user.get(name).cloned().unwrap_or_default();
    // config.variables go over rows, rows over what `before` left.
    assert_eq!(get(&user, "room"), "attic");
    assert_eq!(get(&user, "row"), 1);
    assert_eq!(get(&user, "left"), "row");
    assert_eq!(get(&user, "only"), "before");
    assert_eq!(get(&user, "full"), "attic-80");
    assert_eq!(get(&user, "more"), json!({"x": 1}));
    assert!(["a", "b"].contains(&get(&user, "pick").as_str().unwrap()));
    assert_eq!(get(&user, "target"), "http://localhost:9013");
    user.set("room", json!("mine"));
    assert_eq!(get(&user, "room"), "mine");
    let uuid = get(&user, "$uuid");
    assert_eq!(uuid, get(&user, "$uuid"));
    let uuid = uuid.as_str().unwrap();
    assert_eq!((uuid.len(), &uuid[14..15]), (36, "4"));
    assert_ne!(uuid, get(&shared.user(1, &mut rng), "$uuid"));
    let bad = LoadOptions { variables: Some("[1]".into()), ..LoadOptions::default() };
    assert!(read_with(&text, &bad).unwrap_err().problems[0].message.contains("JSON object"));
}

#[test]
fn dotenv_and_environment_variables() {
    let pairs = dotenv("# c\nA=1\nexport B = 'x y' \nC=\"a\\nb\"\nD=v # c\n\nE=\n").unwrap();
    let expected = [("A", "1"), ("B", "x y"), ("C", "a\nb"), ("D", "v"), ("E", "")];
    assert_eq!(pairs, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!(dotenv("A=1\nnonsense").unwrap_err(), (2, "nonsense".to_owned()));

    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(".env"), "PORT=9013\nHOME=/other").unwrap();
    let text = with(
        "target: 'http://h:{{ $env.PORT }}'\nvariables: {home: '{{ $processEnvironment.HOME }}'}",
        "flow: []",
    );
    let options = LoadOptions { dotenv: Some(dir.path().join(".env")), ..LoadOptions::default() };
    let script = read_with(&text, &options).unwrap();
    assert_eq!(script.config.target, "http://h:9013");
    assert_eq!(script.config.variables[0].1, [json!("/root")]);
}

#[test]
fn http_defaults() {
    let script = good(&with(
        "defaults: {headers: {x: old, y: old}, strictCapture: false}\nhttp: {pool: 10, defaults: {headers: {x: '{{ v }}'}, cookie: {c: 1}}}\nvariables: {v: 1}",
        "flow: [{get: {url: /, capture: {json: $.a, as: a}}}]",
    ));
    let http = &script.config.http;
    assert_eq!(http.headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["x"]);
    assert_eq!((http.pool, http.strict_capture, http.cookies.len()), (Some(10), false, 1));
    let Action::Http(get) = &script.scenarios[0].flow[0].action else { panic!() };
    assert!(!get.captures[0].strict);
}

#[test]
fn timeouts() {
    for (config, seconds) in [
        ("x-none: 1", 10.0),
        ("timeout: 3", 3.0),
        ("timeout: 1500ms", 1.5),
        ("http: {timeout: 4}", 4.0),
        ("http: {timeout: 4}\ntimeout: 2", 2.0),
        ("ws: {timeout: 6}", 6.0),
    ] {
        assert_eq!(good(&with(config, "flow: []")).config.timeout.as_secs_f64(), seconds, "{config}");
    }
    let interval = |config: &str| good(&with(config, "flow: []")).config.stats_interval.as_secs();
    assert_eq!((interval("x-none: 1"), interval("statsInterval: 30")), (10, 30));
}

#[test]
fn tls_keys() {
    let verify = |config: &str| good(&with(config, "flow: []")).config.tls_verify;
    assert!(verify("tls: {rejectUnauthorized: true}") && verify("x-none: 1"));
    for config in ["tls", "ws", "socketio"] {
        assert!(!verify(&format!("{config}: {{rejectUnauthorized: false}}")), "{config}");
    }
    let insecure = LoadOptions { insecure: true, ..LoadOptions::default() };
    assert!(!read_with(JOURNAL_ORIGINAL, &insecure).unwrap().config.tls_verify);
}

#[test]
fn socketio_config() {
    let script = good(&with(
        "socketio:\n  path: /chat\n  transports: [polling, websocket]\n  protocol: 3\n  query: {t: '{{ token }}'}\n  extraHeaders: {a: b}\n  auth: {token: '{{ token }}'}\nvariables: {token: x}",
        "engine: socketio\nflow: [{emit: [a]}]",
    ));
    let io = &script.config.socketio;
    assert_eq!((io.path.as_str(), io.revision), ("/chat/", Some(EngineRevision::V3)));
    assert_eq!(io.transports, [Transport::WebSocket]);
    // Late: filled when a user connects.
    assert!(!io.query[0].1.is_constant() && !io.auth.as_ref().unwrap().is_constant());
    assert_eq!(script.warnings.len(), 1, "{:?}", script.warnings);
    let query = good(&with("socketio: {query: 'a=1&b=%20x'}", "flow: []")).config.socketio.query;
    let query: Vec<_> = query.iter().map(|(name, value)| (name.as_str(), rendered(value))).collect();
    assert_eq!(query, [("a", json!("1")), ("b", json!(" x"))]);
    assert_errors!(
        "socketio",
        &[
            &with("socketio:\n  transports: [polling]", "engine: socketio\nflow: [{emit: [a]}]"),
            &with("socketio:\n  transports: [carrier-pigeon]", "flow: []"),
            &with("socketio: {protocol: 5}", "flow: []"),
            &with("socketio: websocket", "flow: []"),
        ]
    );
}

#[test]
fn scenario_socketio() {
    let script =
        good(&with("", "engine: socketio\nsocketio: {query: {a: '{{ $uuid }}'}}\nflow: [{emit: [a]}]"));
    assert_eq!(script.config.socketio.query.len(), 1);
    assert_eq!(script.warnings, []);
    let two = "config: {target: http://x, phases: [{pause: 1}]}\nscenarios:\n  - {engine: socketio, socketio: {path: /a}, flow: []}\n  - {engine: socketio, flow: []}\n";
    assert!(warnings(two)[0].contains("share one `socketio` block"));
}

#[test]
fn plugins() {
    let text =
        with("plugins: {expect: {}, ensure: {thresholds: [{p95: 5}]}, slack: {}, mine: {}}", "flow: []");
    let script = good(&text);
    assert_eq!(script.config.ensure.unwrap().thresholds["p95"], 5.0);
    assert_eq!(
        warnings(&text),
        [
            "4: the plugin `slack` is ignored: nobody is notified",
            "4: the plugin `mine` is not known and ignored"
        ]
    );
}

#[test]
fn ensure_keys() {
    let script = good(&with(
        "ensure:\n  p95: 200\n  maxErrorRate: 1\n  thresholds: [{http.response_time.p99: 500}, {vusers.failed: 1}]\n  conditions: [{expression: 'a < 1 and b > 2', strict: false}, {expression: x > 1}]",
        "flow: []",
    ));
    let ensure = script.config.ensure.unwrap();
    let thresholds: Vec<_> = ensure.thresholds.iter().map(|(name, limit)| (name.as_str(), *limit)).collect();
    assert_eq!(thresholds, [("http.response_time.p99", 500.0), ("p95", 200.0), ("vusers.failed", 1.0)]);
    assert_eq!(ensure.max_error_rate, Some(1.0));
    assert_eq!(ensure.conditions, [("a < 1 and b > 2".into(), false), ("x > 1".into(), true)]);
}

#[test]
fn payload_keys() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    file("users.csv", "name;age\nann;3\nbob;4\n\n");
    file("all.csv", "1,true\n2,x\n");
    let script = |payload: &str| {
        let path = dir.path().join("s.yml");
        let text = with(&format!("payload:\n{payload}"), "flow: [{log: '{{ name }} {{ all }}'}]");
        std::fs::write(&path, text).unwrap();
        load(&LoadOptions { files: vec![path], seed: Some(1), ..LoadOptions::default() })
    };
    let two = "
  - {path: users.csv, fields: [name, age], order: sequence, skipHeader: true, delimiter: ';', cast: false}
  - {path: ./all.csv, loadAll: true, name: all, fields: [n, b]}
";
    let script_of_two = script(two).unwrap();
    let [users, all] = &script_of_two.config.payloads[..] else { panic!() };
    assert_eq!(
        (users.order, users.rows.as_slice()),
        (RowOrder::Sequence, &[vec![json!("ann"), json!("3")], vec![json!("bob"), json!("4")]][..])
    );
    assert_eq!(all.as_value(), json!([{"n": 1, "b": true}, {"n": 2, "b": "x"}]));
    let shared = vars::SharedVars::new(&script_of_two, &[]);
    let mut rng = fastrand::Rng::with_seed(1);
    let names: Vec<_> = (0..3).map(|i| shared.user(i, &mut rng).get("name").cloned().unwrap()).collect();
    assert_eq!(names, ["ann", "bob", "ann"]);
    assert_eq!(shared.user(0, &mut rng).get("all").unwrap()[1]["b"], "x");

    for (payload, expected) in [
        ("  {path: none.csv, fields: [a]}", "cannot read"),
        ("  {path: users.csv, fields: [a, b]}", "line 1 has 1 columns, but `fields` names 2"),
        ("  {path: users.csv}", "this payload names no `fields`"),
        ("  {fields: [a]}", "this payload has no `path`"),
        ("  {path: users.csv, fields: [a], order: backwards}", "`backwards` is no order"),
        ("  {path: users.csv, fields: [a], delimiter: ab}", "a delimiter is one ASCII character"),
        ("  {path: users.csv, loadAll: true}", "`loadAll` needs a `name`"),
        ("  {path: ., fields: [a]}", "not a file"),
    ] {
        let error = script(payload).unwrap_err().to_string();
        assert!(error.contains(expected), "{payload}\n{error}");
    }
}

#[test]
fn payload_from_the_command_line() {
    let dir = tempfile::tempdir().unwrap();
    let csv = dir.path().join("given.csv");
    std::fs::write(&csv, "a\nb\n").unwrap();
    let run = |config: &str| {
        let path = dir.path().join("s.yml");
        std::fs::write(&path, with(config, "flow: []")).unwrap();
        load(&LoadOptions { files: vec![path], payload: Some(csv.clone()), ..LoadOptions::default() })
    };
    assert_eq!(run("payload: {path: absent.csv, fields: [x]}").unwrap().config.payloads[0].rows.len(), 2);
    assert!(run("x-none: 1").unwrap_err().to_string().contains("does not name its columns"));
}

// -- listeners and delivery

#[test]
fn listeners_and_delivery() {
    let script = good(JOURNAL_HEARD);
    let [group] = &script.config.listeners[..] else { panic!() };
    assert_eq!(
        group.place,
        Some(model::Place { lng: 127.0276, lat: 37.4979, within_m: 2870.0, radius_m: (100.0, 1000.0) })
    );
    let Action::Emit(emit) = &group.flow[0].action else { panic!() };
    assert!(emit.acknowledge.is_some() && group.moving.is_none());
    let delivery = script.config.delivery.as_ref().unwrap();
    assert_eq!(delivery.stamp, ["messageData", "contents"]);
    assert_eq!(delivery.read, ["result", "contents"]);
    assert_eq!(delivery.expect, Some(DeliveryExpectation::Circle));
    assert_eq!(delivery.place.1, ["messageData", "lat"]);
    assert_eq!(delivery.deadline.as_secs(), 10);

    let moving = good(&with(
        "listeners:\n  - count: '5'\n    name: walkers\n    place: {around: [0, 0], within: 10, radius: 5}\n    moving: {every: 2s, step: 30, flow: [{emit: [update, {p: '{{ lng }}'}]}]}\ndelivery: {event: e, stamp: a, read: b, expect: 3, deadline: 2s, place: {lng: x.lng, lat: x.lat}}",
        "flow: []",
    ));
    let group = &moving.config.listeners[0];
    let walk = group.moving.as_ref().unwrap();
    assert_eq!((group.count, walk.every.as_secs(), walk.step_m, walk.flow.len()), (5, 2, 30.0, 1));
    assert_eq!(moving.config.delivery.unwrap().expect, Some(DeliveryExpectation::Number(3)));

    let heard = |from: &str, to: &str| JOURNAL_HEARD.replace(from, to);
    assert_errors!(
        "listeners",
        &[
            &heard("[127.0276, 37.4979]", "[37.4979, 127.0276]"),
            &heard("radius: [100, 1000]", "radius: [1000, 100]"),
            &heard("within: 2870, ", ""),
            &heard("count: 2000", "count: a lot"),
            &heard("expect: circle", "expect: cirlce"),
            &heard("      place: { around: [127.0276, 37.4979], within: 2870, radius: [100, 1000] }\n", ""),
            &heard("    stamp: messageData.contents\n", ""),
        ]
    );
    // Rows of the users are not the listeners'.
    let without =
        heard("      payload: { path: \"listeners.csv\", fields: [\"token\"], order: \"sequence\" }\n", "");
    assert!(warnings(&without)[0].contains("nothing sets `token` for listeners"), "{:?}", warnings(&without));
}

// -- scenarios and steps

#[test]
fn engines() {
    let engine = |config: &str, line: &str| {
        good(&with(config, &format!("{line}\nflow: [{{think: 1}}]"))).scenarios[0].engine
    };
    assert_eq!(engine("x-a: 1", ""), Engine::Http);
    assert_eq!(engine("x-a: 1", "engine: socketio"), Engine::SocketIo);
    assert_eq!(engine("x-a: 1", "engine: socketio-v3"), Engine::SocketIo);
    assert_eq!(engine("engine: socketio", ""), Engine::SocketIo);
    let v3 = good(&with("engines: {socketio-v3: {path: /x/}}", "engine: socketio-v3\nflow: []"));
    assert_eq!(v3.config.socketio.path, "/x/");
    assert_errors!(
        "engines",
        &[
            &with("", "engine: ws\nflow: [{send: hi}]"),
            &with("", "engine: sokcetio\nflow: []"),
            &with("", "engine: websocket\nflow: []"),
            &with("", "engine: playwright\nflow: []"),
            &with("", "flow: [{emit: [a]}]"),
        ]
    );
}

#[test]
fn scenarios() {
    let script = good(
        "config: {target: http://x, phases: [{pause: 1}], variables: {w: 2}}
scenarios:
  - {name: often, weight: '{{ w }}', flow: [[{log: 'hi {{ w }}'}, [{think: 1}]], {think: 2}]}
  - {weight: 1.9, flow: []}
  - {weight: 0, flow: []}
",
    );
    let told: Vec<_> = script.scenarios.iter().map(|s| (s.name.as_str(), s.weight, s.flow.len())).collect();
    assert_eq!(told, [("often", 2, 3), ("1", 1, 0), ("2", 0, 0)]);
    assert_errors!(
        "scenarios",
        &[
            "config: {target: http://x}",
            "config: {target: http://x}\nscenarios: []",
            "config: {target: http://x}\nscenarios: [{name: a}]",
            "config: {target: http://x}\nscenarios: [{flow: {think: 1}}]",
            "config: {target: http://x}\nscenarios: [{flow: [], weight: 0}]",
            "- a\n- b",
            "config: {target: http://x}\nscenarios: [{flow: [think]}]",
            "config: {target: http://x}\nscenarios: [{flow: [{get: {url: /}, think: 1}]}]",
        ]
    );
}

#[test]
fn scenario_name() {
    let text = "config: {target: http://x, phases: [{pause: 1}]}\nscenarios: [{name: buy, flow: []}, {name: buy more, flow: []}, {name: look, flow: []}]";
    let choose = |name: &str| {
        read_with(text, &LoadOptions { scenario_name: Some(name.into()), ..LoadOptions::default() })
            .map(|script| script.scenarios.iter().map(|s| s.name.clone()).collect::<Vec<_>>())
            .map_err(|error| error.problems[0].message.clone())
    };
    assert_eq!(choose("buy").unwrap(), ["buy"]);
    assert_eq!(choose("^l..k$").unwrap(), ["look"]);
    assert_eq!(choose("b.y").unwrap_err(), "`--scenario-name b.y` fits 2 scenarios; it must fit one");
    assert_eq!(choose("[").unwrap_err(), "`--scenario-name [` fits 0 scenarios; it must fit one");
}

#[test]
fn before_and_after() {
    let script = good(&format!(
        "{}before: {{flow: [{{post: {{url: /login, capture: {{json: $.t, as: tok}}}}}}]}}\nafter: {{engine: socketio, flow: [{{emit: [bye]}}]}}\n",
        with("", "flow: [{get: {url: '/{{ tok }}'}}]")
    ));
    assert_eq!(script.warnings, []);
    assert_eq!(script.before.unwrap().flow.len(), 1);
    assert_eq!(script.after.unwrap().engine, Engine::SocketIo);
}

#[test]
fn emit_spellings() {
    let emit = |flow: &str| {
        let script = good(&steps(flow));
        let Action::Emit(emit) = script.scenarios[0].flow[0].action.clone() else { panic!() };
        *emit
    };
    let nested = emit(
        "- emit: {channel: join, data: {room: a}, namespace: /chat, response: {channel: joined, data: [ok], capture: {json: $.id, as: x}}, acknowledge: {match: {json: $.0, value: ok}}}",
    );
    let sibling = emit(
        "- emit: {channel: join, data: {room: a}}\n  namespace: chat\n  response: {on: joined, data: [ok], capture: {json: '$.0.id', as: x}}\n  acknowledge: {match: {json: $.0, value: ok}}",
    );
    for step in [&nested, &sibling] {
        assert_eq!(rendered(&step.event), "join");
        assert_eq!(rendered(&step.args[0]), json!({"room": "a"}));
        assert_eq!(rendered(&step.namespace), "/chat");
        assert_eq!(rendered(&step.response.as_ref().unwrap().event), "joined");
        assert_eq!(step.acknowledge.as_ref().unwrap().matches.len(), 1);
    }
    let (nested, sibling) = (nested.response.unwrap(), sibling.response.unwrap());
    assert_eq!((nested.paths_see, sibling.paths_see), (PathsSee::FirstArgument, PathsSee::ArgumentArray));
    assert!(matches!(nested.data, Some(DataCheck::FirstArgument(_))));
    assert!(matches!(sibling.data, Some(DataCheck::AllArguments(_))));

    let list = emit("- emit: [join, lobby, {silent: true}]\n  acknowledge: true");
    assert_eq!(list.args.iter().map(rendered).collect::<Vec<_>>(), [json!("lobby"), json!({"silent": true})]);
    let ack = list.acknowledge.unwrap();
    assert!(ack.data.is_none() && ack.captures.is_empty());
    assert_eq!(rendered(&list.namespace), "/");

    for (flow, acknowledged, args) in [
        ("- emit: [a]\n  acknowledge: {}", true, 0),
        ("- emit: [a]\n  acknowledge: false", false, 0),
        ("- emit: {channel: a}", false, 0),
        ("- emit: {channel: a, data: null, acknowledge: true}", true, 1),
        ("- emit: a\n  acknowledge: {args: [1, 2]}", true, 0),
    ] {
        let step = emit(flow);
        assert_eq!((step.acknowledge.is_some(), step.args.len()), (acknowledged, args), "{flow}");
    }
    assert_errors!(
        "emit",
        &[
            &steps("- emit: {data: x}"),
            &steps("- emit: []"),
            &steps("- emit: [[a]]"),
            &steps("- emit:\n  channel: a\n  data: b"),
            &steps("- emit: {channel: a, acknowledge: true}\n  acknowledge: true"),
            &steps("- emit: [a]\n  acknowledge: yes please"),
            &steps("- emit: [a]\n  response: {data: 1}"),
            &steps("- emti: [a]"),
        ]
    );
}

#[test]
fn requests() {
    let script = good(&with(
        "variables: {id: 7, token: t}",
        "flow:
  - get: /short
  - post:
      url: \"/users/{{ id }}\"
      name: make
      headers: {Authorization: 'Bearer {{ token }}'}
      cookie: {c: 1}
      qs: {page: 2}
      json: {id: '{{ id }}'}
      auth: {user: u, pass: '{{ token }}'}
      followRedirect: false
      probability: 50
  - put: {url: 'http://other/x', form: {a: 1}}
  - delete: {uri: /y, body: text}",
    ));
    assert_eq!(script.warnings, []);
    let http: Vec<&HttpStep> = script.scenarios[0]
        .flow
        .iter()
        .map(|step| match &step.action {
            Action::Http(http) => &**http,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        http.iter().map(|step| step.name.as_str()).collect::<Vec<_>>(),
        ["GET /short", "make", "PUT http://other/x", "DELETE /y"]
    );
    let post = http[1];
    assert!(matches!(&post.body, HttpBody::Json(json) if !json.is_constant()));
    assert!(!post.follow_redirects && post.auth.is_some() && post.probability.is_some());
    assert_eq!((post.headers.len(), post.cookies.len(), post.query.len()), (1, 1, 1));
    assert!(matches!(&http[2].body, HttpBody::Form(form) if form.len() == 1));
    assert!(matches!(&http[3].body, HttpBody::Text(_)));
    let bad = |flow: &str| with("", &format!("flow:\n  - {flow}"));
    assert_errors!(
        "requests",
        &[
            &bad("get: {}"),
            &bad("get: {url: users}"),
            &bad("get: {url: [a]}"),
            &bad("get: {url: /, probability: 200}"),
            &bad("get: {url: /, auth: {user: a}}"),
            &bad("gett: {url: /}"),
            &bad("get: 3"),
        ]
    );
}

#[test]
fn if_true() {
    let condition = |text: &str| {
        let script =
            good(&with("variables: {on: true}", &format!("flow: [{{get: {{url: /, ifTrue: {text}}}}}]")));
        let Action::Http(http) = script.scenarios[0].flow[0].action.clone() else { panic!() };
        let mut vars = Vars::empty();
        vars.set("on", json!({"x": 1}));
        http.if_true.unwrap().render(&vars, &mut fastrand::Rng::with_seed(1))
    };
    assert_eq!(condition("on"), json!({"x": 1}));
    assert_eq!(condition("on.x"), 1);
    assert_eq!(condition("'{{ on.x }}'"), 1);
    assert_eq!(condition("false"), false);
    assert_errors!("if_true", &[&with("", "flow: [{get: {url: /, ifTrue: 'pageNumber < 10'}}]")]);
}

#[test]
fn expectations() {
    let script = good(&with(
        "",
        "flow:
  - get:
      url: /
      expect:
        - statusCode: [200, 201]
        - {notStatusCode: 500, contentType: json, hasProperty: a.b, hasHeader: X-A}
        - headerEquals: [X-A, '1']
        - equals: ['{{ target }}', b]
        - matchesRegexp: '^a+$'",
    ));
    let Action::Http(http) = &script.scenarios[0].flow[0].action else { panic!() };
    assert_eq!(http.expect.len(), 8);
    assert!(matches!(&http.expect[0], Expectation::StatusCode(codes) if codes == &[200, 201]));
    assert!(matches!(&http.expect[4], Expectation::HasHeader(name) if name == "x-a"));
}

#[test]
fn captures_and_matches() {
    let script = good(&with(
        "",
        "flow:
  - get:
      url: /
      capture:
        - {json: '$.items[*].id', as: id}
        - {regexp: 'a(?<n>\\d+)', flags: i, group: n, as: n, strict: false}
        - {header: X-Next, as: next}
      match: {json: $.ok, value: true}
  - get: {url: '/{{ id }}/{{ n }}/{{ next }}'}",
    ));
    assert_eq!(script.warnings, []);
    let Action::Http(http) = &script.scenarios[0].flow[0].action else { panic!() };
    assert!(matches!(&http.captures[0].source, CaptureSource::Json(path) if path == "$.items[*].id"));
    assert!(
        matches!(&http.captures[1].source, CaptureSource::Regexp { group: Some(group), .. } if group == "n")
    );
    assert!(matches!(&http.captures[2].source, CaptureSource::Header(name) if name == "x-next"));
    assert!(http.captures[0].strict && !http.captures[1].strict);
    assert_eq!(rendered(&http.matches[0].value), json!(true));
    let bad = |capture: &str| with("", &format!("flow:\n  - get: {{url: /, {capture}}}"));
    assert_errors!(
        "captures",
        &[
            &bad("capture: {json: $.a}"),
            &bad("capture: {as: a}"),
            &bad("capture: {regexp: '(a', as: a}"),
            &bad("capture: {regexp: 'a(?=b)', as: a}"),
            &bad("capture: {regexp: a, flags: q, as: a}"),
            &bad("capture: {json: '$.[', as: a}"),
            &bad("match: {json: $.a}"),
        ]
    );
}

#[test]
fn think_and_jitter() {
    let think = |step: &str| {
        let script = good(&with("variables: {t: 1}", &format!("flow: [{{{step}}}]")));
        let Action::Think { pause, jitter } = script.scenarios[0].flow[0].action.clone() else { panic!() };
        let Think::Fixed(pause) = pause else { return (None, jitter) };
        (Some(pause.as_millis()), jitter)
    };
    assert_eq!(think("think: 1"), (Some(1000), None));
    assert_eq!(think("think: 0"), (Some(0), None));
    assert_eq!(think("think: 0.5"), (Some(500), None));
    assert_eq!(think("think: 1m"), (Some(60_000), None));
    assert_eq!(think("think: '{{ t }}'"), (None, None));
    assert_eq!(
        think("think: 1, jitter: 200"),
        (Some(1000), Some(Jitter::Absolute(Duration::from_millis(200))))
    );
    assert_eq!(think("think: 1, jitter: 20%"), (Some(1000), Some(Jitter::Percent(20.0))));
    assert_eq!(
        warnings(&with("", "flow: [{think: 0.5}]")),
        ["6: `think: 0.5` is 500ms here and in Artillery 1; Artillery 2 took it as milliseconds"]
    );
    let script = good(&with("defaults: {think: {jitter: '10%'}}", "flow: []"));
    assert_eq!(script.config.think_jitter, Some(Jitter::Percent(10.0)));
    assert_errors!(
        "think",
        &[
            &with("", "flow: [{think: soon}]"),
            &with("", "flow: [{think: -1}]"),
            &with("", "flow: [{think: 1, jitter: lots}]")
        ]
    );
}

#[test]
fn loops() {
    let repeat = |rest: &str| {
        let script =
            good(&with("variables: {list: x}", &format!("flow: [{{loop: [{{think: 1}}], {rest}}}]")));
        let Action::Loop(repeat) = script.scenarios[0].flow[0].action.clone() else { panic!() };
        let times = match &repeat.times {
            LoopTimes::Count { from, to } => format!("{from}..{to:?}"),
            LoopTimes::Late(_) => "late".into(),
            LoopTimes::Over(items) => format!("over {}", Value::from(items.clone())),
            LoopTimes::OverVariable(name) => format!("over {name}"),
        };
        format!("{times} {}", repeat.value_name)
    };
    for (rest, expected) in [
        ("count: 10", "0..Some(10) $loopCount"),
        ("count: '10'", "0..Some(10) $loopCount"),
        ("count: 3-7", "3..Some(7) $loopCount"),
        ("count: -1", "0..None $loopCount"),
        ("x-none: 1", "0..None $loopCount"),
        ("count: '{{ list }}'", "late $loopCount"),
        ("count: 2, loopValue: i", "0..Some(2) i"),
        ("over: [a, {b: 1}]", "over [\"a\",{\"b\":1}] $loopElement"),
        ("over: list, loopElement: e", "over list e"),
        ("over: '{{ list }}'", "over list $loopElement"),
    ] {
        assert_eq!(repeat(rest), expected, "{rest}");
    }
    assert!(warnings(&with("", "flow: [{loop: [{think: 1}]}]"))[0].contains("never ends"));
    assert_errors!(
        "loops",
        &[
            &with("", "flow: [{loop: [{think: 1}], count: 1.5}]"),
            &with("", "flow: [{loop: [{think: 1}], count: lots}]"),
            &with("", "flow: [{loop: {think: 1}, count: 2}]"),
            &with("", "flow: [{loop: [], count: 2}]"),
            &with("", "flow: [{loop: [{think: 1}], over: 3}]"),
        ]
    );
}

// -- what is not understood

#[test]
fn unknown_keys_warn_with_line_and_suggestion() {
    let text = "config:
  target: http://x
  phaes: []
  phases: [{duration: 1, arivalRate: 3, arrivalRate: 1}]
scenarios:
  - nmae: a
    flow:
      - get: {ulr: /, url: /}
        jitter: 3
";
    assert_eq!(
        warnings(text),
        [
            "3: `phaes` is not known and ignored: did you mean `phases`?",
            "4: `arivalRate` is not known and ignored: did you mean `arrivalRate`?",
            "6: `nmae` is not known and ignored: did you mean `name`?",
            "8: `ulr` is not known and ignored: did you mean `url`?",
            "9: `jitter` means nothing beside `get`",
        ]
    );
    let strict = LoadOptions { strict: true, ..LoadOptions::default() };
    let error = read_with(text, &strict).unwrap_err();
    assert_eq!(error.problems.len(), 5);
    assert_eq!((error.problems[1].line, error.problems[1].column), (4, 26));
}

#[test]
fn unknown_variables_warn_with_their_place() {
    let text = with("variables: {token: t}", "flow: [{get: {url: '/{{ tokne }}/{{ nobody }}'}}]");
    assert_eq!(
        warnings(&text),
        [
            "7: nothing sets `tokne`: did you mean `token`?",
            "7: nothing sets `nobody`: it becomes `undefined` in text and is left out of data",
        ]
    );
    assert!(warnings(&with("", "flow: [{log: '{{ a + b }}'}]"))[0].contains("no template expression"));
    let environment = with("", "flow: [{log: '{{ $env.HOME }} {{ $processEnvironment.NOWHERE }}'}]");
    assert_eq!(warnings(&environment), ["6: the environment has no `NOWHERE`: it becomes `undefined`"]);
    // Variables are filled when the script is read: rows are not there yet.
    let early = with(
        "variables: {a: '{{ row }}'}\npayload: {path: x.csv, fields: [row]}",
        "flow: [{log: '{{ a }}'}]",
    );
    assert_eq!(
        warnings(&early),
        ["4: `row` is not known when `variables` are read: put `{{ row }}` where it is used"]
    );
}

#[test]
fn unknown_template_functions_are_refused() {
    assert_errors!(
        "template_functions",
        &[
            &steps("- emit: [a, {mail: '{{ $internetEmail() }}'}]"),
            &steps("- emit: [a, '{{ $randomNumber(1) }}']"),
            &steps("- log: '{{ $testId }}'"),
        ]
    );
}

/// A script that has `key` in a section, and nothing else that could be complained about.
fn planted(section: Section, key: &str) -> Option<String> {
    let entry = format!("{key}: 1");
    let flow = "flow: [{think: 1}]";
    Some(match section {
        Section::Document => format!("{}{entry}\n", with("", flow)),
        Section::Config => with(&entry.replace(": 1", ": {}"), flow),
        Section::Phase => with(&format!("phases: [{{duration: 1, arrivalRate: 1, {entry}}}]"), flow),
        Section::Payload => with(&format!("payload: {{path: a, fields: [a], {entry}}}"), flow),
        Section::Defaults => with(&format!("defaults: {{{entry}}}"), flow),
        Section::Http | Section::Tls | Section::Ws | Section::SocketIo | Section::Plugins => {
            let name = format!("{section:?}").to_lowercase();
            with(&format!("{name}: {{{entry}}}"), flow)
        }
        Section::Engines => with(&format!("engines: {{{key}: {{}}}}"), flow),
        Section::Scenario => with("", &format!("{entry}\n{flow}")),
        Section::Step => with("", &format!("engine: socketio\nflow: [{{{entry}}}]")),
        Section::Request => with("", &format!("flow: [{{get: {{url: /, {entry}}}}}]")),
        Section::Expect => with("", &format!("flow: [{{get: {{url: /, expect: {{{entry}}}}}}}]")),
        Section::Response => {
            with("", &format!("engine: socketio\nflow: [{{emit: [a], response: {{on: b, {entry}}}}}]"))
        }
        Section::Capture => with("", &format!("flow: [{{get: {{url: /, capture: {{as: a, {entry}}}}}}}]")),
        Section::Match => with("", &format!("flow: [{{get: {{url: /, match: {{value: 1, {entry}}}}}}}]")),
        _ => return None,
    })
}

#[test]
fn refused_keys_say_what_to_do() {
    for entry in TABLE.iter().filter(|entry| entry.test == "refused_keys_say_what_to_do") {
        assert_eq!(entry.support, Support::Refused);
        let text = planted(entry.section, entry.key).unwrap_or_else(|| panic!("{entry:?}"));
        let error = read(&text).err().unwrap_or_else(|| panic!("{} is accepted in\n{text}", entry.key));
        let told = error.problems.iter().any(|p| {
            p.message.contains(&format!("`{}`", entry.key))
                && p.help.as_deref() == Some(entry.ruling)
                && p.line > 0
        });
        assert!(told, "{}: {error}", entry.key);
    }
    assert_errors!(
        "refused",
        &[
            &steps("- function: makeUser"),
            &steps("- emit: [a]\n- loop: [{think: 1}]\n  whileTrue: more"),
            &with("", "flow:\n  - parallel: [{get: {url: /}}]"),
            &with("", "beforeScenario: login\nflow: []"),
        ]
    );
}

#[test]
fn ignored_keys_warn() {
    for entry in TABLE.iter().filter(|entry| entry.test == "ignored_keys_warn") {
        assert_eq!(entry.support, Support::Ignored);
        let text = planted(entry.section, entry.key).unwrap_or_else(|| panic!("{entry:?}"));
        let told = warnings(&text)
            .iter()
            .any(|w| w.contains(&format!("`{}`", entry.key)) && w.contains(entry.ruling));
        assert!(told, "{}: {:?}", entry.key, warnings(&text));
    }
}

#[test]
fn yaml_errors_have_their_place() {
    assert_errors!(
        "yaml",
        &[
            "config:\n  target: http://x\n\tphases: []\n",
            "config: {target: http://x\nscenarios: []\n",
            "config: {target: a, target: b}",
            "",
            "config: \"unfinished",
            "config: {target: {{ host }}}",
            "config: {이름: 값, target: {호스트: 1}}\nscenarios: [{flow: []}]",
            &format!(
                "{{\"config\": {{\"x-long\": \"{}\", \"target\": [1], \"timeout\": \"{}\"}}, \"scenarios\": []}}",
                "x".repeat(300),
                "y".repeat(300)
            ),
        ]
    );
}

#[test]
fn unreadable_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let load_file = |name: &str| {
        let path = dir.path().join(name);
        load(&LoadOptions { files: vec![path], ..LoadOptions::default() }).unwrap_err().to_string()
    };
    assert!(load_file("없음.yml").contains("없음.yml"));
    assert!(load_file(".").contains("not a file"));
    std::fs::write(dir.path().join("latin.yml"), b"config:\n  target: \xff\n").unwrap();
    assert!(load_file("latin.yml").contains("line 2 is not UTF-8"));
    assert!(load(&LoadOptions::default()).is_err());
}

#[test]
fn json_scripts_load() {
    let value = serde_json::to_string(&json!({
        "config": {"target": "http://x", "phases": [{"duration": 1, "arrivalRate": 5}]},
        "scenarios": [{"engine": "socketio", "flow": [{"emit": ["a", {"long": "x".repeat(5000), "\u{1F600}": "\"\\\n"}]}]}]
    }))
    .unwrap();
    assert_eq!(good(&value).scenarios[0].flow.len(), 1);
    let pretty = serde_json::to_string_pretty(&serde_json::from_str::<Value>(&value).unwrap()).unwrap();
    assert_eq!(good(&pretty).config.phases, good(&value).config.phases);
    assert_eq!(good("\u{feff}config: {target: http://x}\nscenarios: [{flow: []}]").scenarios.len(), 1);
}

// -- what `check` prints, and the document

#[test]
fn check_tells_what_will_run() {
    let heard = summary::describe(&good(JOURNAL_HEARD));
    let mixed = summary::describe(&good(
        "config:
  target: https://shop.example
  phases:
    - {name: warm, duration: 10, arrivalRate: 1, rampTo: 10}
    - {pause: 5}
    - {duration: 1m, arrivalCount: 20, maxVusers: 5}
    - {duration: 10, arrivalRate: 2.5, mode: poisson}
  ensure: {p95: 200, maxErrorRate: 1}
  http: {maxSockets: 5}
scenarios:
  - {name: look, weight: 3, flow: [{get: {url: /}}, {think: 0.5s}]}
  - {name: buy, flow: [{loop: [{post: {url: /cart}}], count: 3}]}
before: {flow: [{post: {url: /login}}]}
",
    ));
    insta::with_settings!({prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_snapshot!("check", format!("{heard}\n{mixed}"));
    });
}

/// The document is written from the list: `UPDATE_DOCS=1 cargo test -p load-tester` rewrites it.
#[test]
fn compat_document_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/artillery-compat.md");
    let expected = compat::document();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "docs/artillery-compat.md is out of date: UPDATE_DOCS=1 cargo test -p load-tester compat"
    );
}

/// Each row of the list names a test that exists, and stands in it once.
#[test]
fn every_row_is_tested() {
    fn sources(dir: &Path, text: &mut String) {
        for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                sources(&path, text);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                text.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut text = String::new();
    for dir in ["src", "tests"] {
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join(dir), &mut text);
    }
    let mut seen = BTreeSet::new();
    for entry in TABLE {
        assert!(
            text.contains(&format!("fn {}()", entry.test)),
            "{} names no test: {}",
            entry.key,
            entry.test
        );
        assert!(seen.insert((format!("{:?}", entry.section), entry.key)), "{} stands twice", entry.key);
        assert!(
            !entry.ruling.is_empty() || entry.support == Support::Yes || entry.support == Support::Ours,
            "{entry:?}"
        );
    }
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
            let _ = read(&text);
        }

        /// Scripts with something wrong in them somewhere.
        #[test]
        fn damaged_scripts_are_read_or_refused(at in 0..JOURNAL_HEARD.len(), cut in 0..40_usize, put in "[-:{}\\[\\]\"'&*!|>%@`\t\n #0-9a-z]{0,6}") {
            let mut text = JOURNAL_HEARD.as_bytes().to_vec();
            let end = (at + cut).min(text.len());
            text.splice(at..end, put.bytes());
            if let Err(error) = read(&String::from_utf8_lossy(&text)) {
                prop_assert!(!error.problems.is_empty());
                prop_assert!(!error.to_string().is_empty());
            }
        }

        #[test]
        fn any_bytes_are_rows_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300), columns in 0..4_usize) {
            let options = payload::CsvOptions { columns, ..payload::CsvOptions::default() };
            if let Ok(rows) = payload::parse_bytes(&bytes, &options) {
                prop_assert!(rows.iter().all(|row| row.len() >= columns));
            }
        }

        /// JSON written by a template without holes is the value itself.
        #[test]
        fn values_without_holes_stay(text in "[^{}]{0,20}", number in any::<i64>()) {
            let value = json!({"a": [text, number, null, true], "b": {"c": text}});
            let template = Template::new(&value).unwrap();
            prop_assert!(template.is_constant());
            let mut out = Vec::new();
            template.write_json(&Vars::empty(), &mut fastrand::Rng::with_seed(1), &mut out);
            prop_assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), value);
        }
    }
}

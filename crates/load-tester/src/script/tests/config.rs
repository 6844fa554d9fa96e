//! What stands under `config`, and what the command line puts over it.

use super::*;

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
fn closed_phases() {
    let closed = |seconds, from, to| PhaseKind::Closed { duration: Duration::from_secs(seconds), from, to };
    let rows = [
        ("{duration: 30, concurrency: 100}", closed(30, 100, 100), "100 users at once"),
        ("{duration: 30s, concurrency: '1'}", closed(30, 1, 1), "1 user at once"),
        ("{duration: 5, concurrency: 0, rampTo: 20}", closed(5, 0, 20), "0 -> 20 users at once"),
        ("{duration: 5, concurrency: 20, rampTo: 5}", closed(5, 20, 5), "20 -> 5 users at once"),
        ("{duration: 5, concurrency: 0}", PhaseKind::Pause { duration: Duration::from_secs(5) }, "pause"),
    ];
    for (phase, kind, load) in rows {
        let script = good(&with(&format!("phases: [{phase}]"), "flow: []"));
        assert_eq!(script.config.phases[0].kind, kind, "{phase}");
        assert_eq!(script.config.phases[0].load(), load);
    }
    assert_errors!(
        "closed_phases",
        &[
            &with("phases: [{duration: 1, concurrency: 5, arrivalRate: 3}]", "flow: []"),
            &with("phases: [{duration: 1, concurrency: 5, arrivalCount: 3, maxVusers: 4}]", "flow: []"),
            &with("phases: [{duration: 0, concurrency: 5}]", "flow: []"),
            &with("phases: [{concurrency: 5}]", "flow: []"),
            &with("phases: [{duration: 1, concurrency: 1.5}, {duration: 1, concurrency: -1}]", "flow: []"),
            &with(
                "phases: [{duration: 1, concurrency: 600000}, {duration: 1, concurrency: 500000}]",
                "flow: []"
            ),
        ]
    );
}

#[test]
fn max_duration_and_sources() {
    let script = good(&with("maxDuration: 10m\nsources: [127.0.0.0/8, 10.0.0.7]", "flow: []"));
    assert_eq!(script.config.max_duration, Some(Duration::from_secs(600)));
    assert_eq!(script.config.sources.to_string(), "127.0.0.0/8, 10.0.0.7");
    let one = good(&with("sources: '::1'", "flow: []"));
    assert_eq!((one.config.sources.count(true), one.config.max_duration), (1, None));
    assert_errors!(
        "max_duration_and_sources",
        &[
            &with("maxDuration: 0", "flow: []"),
            &with("maxDuration: soon", "flow: []"),
            &with("sources:\n  - 127.0.0.1\n  - localhost", "flow: []"),
            &with("sources: 10.0.0.0/33", "flow: []"),
        ]
    );
}

#[test]
fn a_deadline_before_the_timeout_is_warned_of() {
    let delivery = |more: &str| {
        with(
            &format!("listeners: {{count: 1, flow: []}}\ndelivery: {{event: e, stamp: a, read: b{more}}}"),
            "engine: socketio\nflow: []",
        )
    };
    assert_eq!(warnings(&delivery("")), [""; 0]);
    assert_eq!(
        warnings(&delivery(", deadline: 2")),
        [
            "5: a message is judged after 2s, but may be refused as late as 10s (`timeout`): what is refused between counts as missing"
        ]
    );
    assert_eq!(
        warnings(&delivery(", deadline: 2").replace("  delivery", "  timeout: 2\n  delivery")),
        [""; 0]
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
    // Late: filled when a user connects.
    assert!(!io.query[0].1.is_constant() && !io.auth.as_ref().unwrap().is_constant());
    assert_eq!(script.warnings, []);
    for (config, transports, upgrade) in [
        ("x-none: 1", &[Transport::Polling, Transport::WebSocket][..], true),
        ("socketio: {transports: [polling, websocket]}", &[Transport::Polling, Transport::WebSocket], true),
        ("socketio: {transports: [websocket]}", &[Transport::WebSocket], true),
        ("socketio: {transports: polling}", &[Transport::Polling], true),
        ("socketio: {upgrade: false}", &[Transport::Polling, Transport::WebSocket], false),
    ] {
        let io = good(&with(config, "engine: socketio\nflow: [{emit: [a]}]")).config.socketio;
        assert_eq!((&*io.transports, io.upgrade), (transports, upgrade), "{config}");
    }
    let query = good(&with("socketio: {query: 'a=1&b=%20x'}", "flow: []")).config.socketio.query;
    let query: Vec<_> = query.iter().map(|(name, value)| (name.as_str(), rendered(value))).collect();
    assert_eq!(query, [("a", json!("1")), ("b", json!(" x"))]);
    assert_errors!(
        "socketio",
        &[
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

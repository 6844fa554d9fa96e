//! Scenarios and their steps.

use super::*;

#[test]
fn engines() {
    let engine = |config: &str, line: &str| {
        good(&with(config, &format!("{line}\nflow: [{{think: 1}}]"))).scenarios[0].engine
    };
    assert_eq!(engine("x-a: 1", ""), Engine::Http);
    assert_eq!(engine("x-a: 1", "engine: socketio"), Engine::SocketIo);
    assert_eq!(engine("x-a: 1", "engine: socketio-v3"), Engine::SocketIo);
    assert_eq!(engine("engine: socketio", ""), Engine::SocketIo);
    assert_eq!(engine("x-a: 1", "engine: ws"), Engine::WebSocket);
    let v3 = good(&with("engines: {socketio-v3: {path: /x/}}", "engine: socketio-v3\nflow: []"));
    assert_eq!(v3.config.socketio.path, "/x/");
    assert_errors!(
        "engines",
        &[
            &with("", "engine: socketio\nflow: [{send: hi}]"),
            &with("", "engine: ws\nflow: [{emit: [a]}]"),
            &with("", "engine: ws\nflow: [{listen: a}]"),
            &with("", "flow: [{wait: a}]"),
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

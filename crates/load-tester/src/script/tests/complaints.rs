//! What is not understood: warned of, refused, or unreadable, each with its place.

use super::*;

#[test]
fn limits_on_figures_nobody_measures_warn_before_the_run() {
    let text = with(
        "ensure: {thresholds: [{delivrey.p99: 5}], conditions: [{expression: 'delivery.p99 < 100ms and error > 1'}]}",
        "flow: []",
    );
    let told = warnings(&text);
    assert!(told[0].contains("no such metric: delivrey.p99 (did you mean delivery.p99?)"), "{told:?}");
    assert!(told[1].contains("no such metric: error (did you mean errors?)"), "{told:?}");
    assert_eq!(told.len(), 2, "{told:?}");
}

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
        Section::WsConnect => {
            with("", &format!("engine: ws\nflow: [{{connect: {{target: 'ws://h', {entry}}}}}]"))
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

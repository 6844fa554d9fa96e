//! The journal's own files and commands, typed as the journal types them.

use std::time::Duration;

use e2e::stage::Stage;
use e2e::{Dna, alone, drumfire, read_json, root, sqlite_number};

/// The first script, question marks and all, on the port it names.
#[test]
fn the_journals_yaml_byte_for_byte_is_refused_by_name_and_nothing_is_called_confirmed() {
    let _alone = alone();
    let data = tempfile::tempdir().unwrap();
    let _dna = Dna::start_on(9013, data.path(), &[]);
    let stage = Stage::empty();
    std::fs::copy(stage.path("journal-original.yml"), stage.path("시나리오.yml")).unwrap();
    let run = drumfire(&["run", "-o", "결과.json", "시나리오.yml"], stage.dir(), Duration::from_secs(120));
    let run = run.expect_code(0);

    let result = read_json(&stage.path("결과.json"));
    let errors = result["drumfire"]["errors"].as_array().expect("errors");
    let exceptions: Vec<_> =
        errors.iter().filter(|error| error["cause"].as_str().unwrap().contains("exception")).collect();
    assert_eq!(exceptions.len(), 1, "{errors:?}");
    assert_eq!(exceptions[0]["count"], 9_000, "{errors:?}");
    assert!(exceptions[0]["cause"].as_str().unwrap().contains("messageData.lng"), "{errors:?}");
    assert!(exceptions[0]["sample"].as_str().unwrap().contains("messageData.lng"), "{errors:?}");
    assert!(run.stdout.contains("9,000 messages sent, 0 confirmed"), "{}", run.stdout);
    assert!(run.stdout.contains("acknowledge: true"), "{}", run.stdout);
    for world in ["dna.db", "dna-test.db"] {
        assert_eq!(sqlite_number(&data.path().join(world), "SELECT count(*) FROM message"), 0);
    }

    drumfire(&["report", "결과.json"], stage.dir(), Duration::from_secs(20)).expect_code(0);
    let page = std::fs::read_to_string(stage.path("결과.json.html")).unwrap();
    assert!(page.contains("messageData.lng") && page.contains("9,000"), "the page tells the same");
    assert!(!page.contains("src=\"http") && !page.contains("href=\"http"), "the page needs nothing else");
}

/// `scenarios/journal-original.yml` is what the journal printed, not what we remember of it.
#[test]
fn the_original_script_is_the_journals() {
    let script = std::fs::read_to_string(root().join("scenarios/journal-original.yml")).unwrap();
    for line in
        ["  target: \"http://localhost:9013\"", "    transports: [\"websocket\"]", "      arrivalRate: 300"]
    {
        assert!(script.lines().any(|have| have == line), "{line}");
    }
    assert!(script.contains("\"lng\": 127.???????,") && script.contains("\"token\": \"...\""));
}

#[test]
fn the_console_block_is_the_journals_label_for_label() {
    let _alone = alone();
    let data = tempfile::tempdir().unwrap();
    let dna = Dna::start(data.path(), &[]);
    let stage = Stage::set(&dna, 600, 1);
    let run = drumfire(
        &[
            "run",
            "-o",
            "report0901_3.json",
            "-t",
            &dna.url(),
            "--format",
            "v1",
            "--overrides",
            r#"{"config":{"phases":[{"duration":2,"arrivalRate":300}]}}"#,
            "journal.yml",
        ],
        stage.dir(),
        Duration::from_secs(60),
    )
    .expect_code(0);
    let at = run.stdout.find("All virtual users finished").expect("the last block");
    let block: Vec<String> = run.stdout[at..].lines().map(label).collect();
    let expected = [
        "All virtual users finished",
        "Summary report @",
        "  Scenarios launched:",
        "  Scenarios completed:",
        "  Requests completed:",
        "  RPS sent:",
        "  Request latency:",
        "    min:",
        "    max:",
        "    median:",
        "    p95:",
        "    p99:",
        "  Scenario counts:",
        "    0:",
        "  Codes:",
        "    0:",
        "    200:",
    ];
    assert_eq!(block.iter().take(expected.len()).collect::<Vec<_>>(), expected, "{}", run.stdout);
    let line = |label: &str| {
        run.stdout[at..]
            .lines()
            .find(|line| line.trim_start().starts_with(label))
            .unwrap_or("")
            .trim()
            .to_owned()
    };
    assert_eq!(line("Scenarios launched:"), "Scenarios launched:  600");
    assert_eq!(line("Scenarios completed:"), "Scenarios completed: 600");
    assert_eq!(line("Requests completed:"), "Requests completed:  1200");
    assert_eq!(line("0: 600 (100%)"), "0: 600 (100%)");
    assert_eq!(line("200:"), "200: 600");
    assert_eq!(line("Log file:"), "Log file: report0901_3.json");
}

/// A line without its figure.
fn label(line: &str) -> String {
    match line.find(['@', ':']) {
        Some(at) => line[..=at].to_owned(),
        None => line.to_owned(),
    }
}

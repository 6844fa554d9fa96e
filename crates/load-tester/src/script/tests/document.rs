//! What `check` prints, and the compatibility document.

use super::*;

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
    let closed = summary::describe(&good(
        "config:
  target: http://localhost:9013
  maxDuration: 10m
  sources: [127.0.0.0/8, 10.0.0.7]
  phases:
    - {name: fill, duration: 10, concurrency: 0, rampTo: 200}
    - {name: hold, duration: 60, concurrency: 200}
    - {duration: 10, arrivalRate: 5}
scenarios: [{flow: [{get: {url: /}}]}]
",
    ));
    insta::with_settings!({prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_snapshot!("check", format!("{heard}\n{mixed}\n{closed}"));
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

/// What the page teaches is read without a complaint.
#[test]
fn every_example_of_the_scripts_page_is_a_script() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/drumfire-scripts.md");
    let page = std::fs::read_to_string(path).unwrap();
    let examples: Vec<&str> =
        page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    // Parts of a script, which show one key, are not.
    let whole: Vec<_> = examples.into_iter().filter(|example| example.contains("scenarios:")).collect();
    assert!(whole.len() >= 6);
    for example in whole {
        assert_eq!(warnings(example), [""; 0], "{example}");
    }
}

//! JUnit's XML, as Jenkins, GitLab and GitHub's actions read it: a case for each `ensure` and `expect`, one for whether
//! the figures may be believed, one for the run itself.

use std::io;

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};

use super::loaded::{Loaded, Run};
use super::plain::one_line;
use super::verdict;
use crate::outcome::{Check, CheckKind};

/// What a case says beside its name.
enum Result {
    Passed,
    /// Of no consequence for the exit code, so none for the suite.
    Skipped(String),
    Failed {
        kind: &'static str,
        message: String,
        text: String,
    },
    /// What was to be judged did not take place as asked.
    Error {
        message: String,
        text: String,
    },
}

struct Case {
    class: &'static str,
    name: String,
    seconds: f64,
    result: Result,
}

pub(super) fn render(loaded: &Loaded) -> String {
    let mut bytes = Vec::new();
    // A Vec takes everything.
    let _ = write(loaded, &mut Writer::new_with_indent(&mut bytes, b' ', 2));
    bytes.push(b'\n');
    String::from_utf8(bytes).unwrap_or_default()
}

fn write(loaded: &Loaded, xml: &mut Writer<&mut Vec<u8>>) -> io::Result<()> {
    let cases = cases(loaded);
    let count =
        |which: fn(&Result) -> bool| cases.iter().filter(|case| which(&case.result)).count().to_string();
    let tests = cases.len().to_string();
    let failures = count(|result| matches!(result, Result::Failed { .. }));
    let errors = count(|result| matches!(result, Result::Error { .. }));
    let skipped = count(|result| matches!(result, Result::Skipped(_)));
    let time = seconds(loaded.duration_s);
    let name = text(&loaded.name);

    xml.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let all = xml.create_element("testsuites").with_attributes([
        ("name", "drumfire"),
        ("tests", &tests),
        ("failures", &failures),
        ("errors", &errors),
        ("time", &time),
    ]);
    all.write_inner_content(|xml| {
        let mut suite = xml.create_element("testsuite").with_attributes([
            ("name", name.as_str()),
            ("tests", &tests),
            ("failures", &failures),
            ("errors", &errors),
            ("skipped", &skipped),
            ("time", &time),
        ]);
        if let Some(at) = loaded.started_at_ms.and_then(timestamp) {
            suite = suite.with_attribute(("timestamp", at.as_str()));
        }
        suite.write_inner_content(|xml| {
            if let Some(run) = &loaded.run {
                properties(run, xml)?;
            }
            for case in &cases {
                write_case(case, xml)?;
            }
            let story = verdict::sentences(loaded).join("\n");
            xml.create_element("system-out").write_text_content(BytesText::new(&text(&story)))?;
            Ok(())
        })?;
        Ok(())
    })?;
    Ok(())
}

fn properties(run: &Run, xml: &mut Writer<&mut Vec<u8>>) -> io::Result<()> {
    let meta = &run.meta;
    let seed = meta.seed.to_string();
    xml.create_element("properties").write_inner_content(|xml| {
        for (name, value) in [
            ("target", &meta.target),
            ("run", &meta.run_id),
            ("seed", &seed),
            ("script.sha256", &meta.script_sha256),
            ("drumfire", &meta.tool_version),
            ("host", &meta.host),
        ] {
            let value = text(value);
            xml.create_element("property")
                .with_attributes([("name", name), ("value", &value)])
                .write_empty()?;
        }
        Ok(())
    })?;
    Ok(())
}

fn write_case(case: &Case, xml: &mut Writer<&mut Vec<u8>>) -> io::Result<()> {
    let (name, time) = (text(&one_line(&case.name, 300)), seconds(case.seconds));
    let element = xml.create_element("testcase").with_attributes([
        ("classname", case.class),
        ("name", &name),
        ("time", &time),
    ]);
    if matches!(case.result, Result::Passed) {
        element.write_empty()?;
        return Ok(());
    }
    element.write_inner_content(|xml| {
        match &case.result {
            Result::Passed => {}
            Result::Skipped(message) => {
                let message = text(&one_line(message, 500));
                xml.create_element("skipped").with_attribute(("message", message.as_str())).write_empty()?;
            }
            Result::Failed { kind, message, text: body } => {
                let (message, body) = (text(&one_line(message, 500)), text(body));
                xml.create_element("failure")
                    .with_attributes([("type", *kind), ("message", &message)])
                    .write_text_content(BytesText::new(&body))?;
            }
            Result::Error { message, text: body } => {
                let (message, body) = (text(&one_line(message, 500)), text(body));
                xml.create_element("error")
                    .with_attributes([("type", "interrupted"), ("message", message.as_str())])
                    .write_text_content(BytesText::new(&body))?;
            }
        }
        Ok(())
    })?;
    Ok(())
}

fn cases(loaded: &Loaded) -> Vec<Case> {
    let story = verdict::sentences(loaded).join("\n");
    let Some(run) = &loaded.run else {
        // Artillery's files hold no limits and no verdict.
        return vec![Case {
            class: "drumfire",
            name: "run".to_owned(),
            seconds: loaded.duration_s,
            result: Result::Passed,
        }];
    };
    let ran = match &run.interrupted {
        None => Result::Passed,
        Some(signal) => Result::Error { message: format!("ended early by {signal}"), text: story },
    };
    let trust = match verdict::distrust(run) {
        None => Result::Passed,
        // As with the exit code: without a claim an invalid run is only said to be one.
        Some(why) if run.checks.is_empty() => Result::Skipped(why),
        Some(why) => {
            let rules: Vec<_> = run
                .validity
                .rules
                .iter()
                .map(|rule| {
                    let held = if rule.held { "held" } else { "BROKEN" };
                    format!("{held}: {}: {} (limit {})", rule.what, rule.measured, rule.limit)
                })
                .collect();
            Result::Failed { kind: "validity", message: why, text: rules.join("\n") }
        }
    };
    let mut cases = vec![
        Case { class: "drumfire", name: "run".to_owned(), seconds: loaded.duration_s, result: ran },
        Case { class: "drumfire", name: "figures may be believed".to_owned(), seconds: 0.0, result: trust },
    ];
    cases.extend(run.checks.iter().map(check));
    cases
}

fn check(check: &Check) -> Case {
    let (class, kind) = match check.kind {
        CheckKind::Ensure => ("drumfire.ensure", "ensure"),
        CheckKind::Expect => ("drumfire.expect", "expect"),
    };
    let observed = format!("observed {}", check.observed);
    let result = match (check.passed, check.strict) {
        (true, _) => Result::Passed,
        (false, true) => {
            Result::Failed { kind, text: format!("{}\n{observed}", check.expression), message: observed }
        }
        (false, false) => Result::Skipped(format!("failed, but not strict: {observed}")),
    };
    Case { class, name: check.expression.clone(), seconds: 0.0, result }
}

fn seconds(value: f64) -> String {
    format!("{:.3}", if value.is_finite() { value.max(0.0) } else { 0.0 })
}

/// Without a zone, as the schemas have it; UTC is meant.
fn timestamp(ms: u64) -> Option<String> {
    let at = jiff::Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok()?;
    Some(at.strftime("%Y-%m-%dT%H:%M:%S").to_string())
}

/// What XML 1.0 cannot hold, even escaped, becomes a mark in its place.
fn text(raw: &str) -> String {
    let allowed =
        |c: char| matches!(c, '\t' | '\n' | '\r') || (c >= ' ' && !matches!(c, '\u{fffe}' | '\u{ffff}'));
    raw.chars().map(|c| if allowed(c) { c } else { '\u{fffd}' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_xml_cannot_hold_is_marked() {
        assert_eq!(text("a\u{0}b\u{1b}[31m\u{fffe}<확>\n"), "a\u{fffd}b\u{fffd}[31m\u{fffd}<확>\n");
    }
}

//! docs/protocol.md, written from the list of rules.

use std::fmt::Write as _;

use crate::rule::{Case, Rule, Section, Spec};
use crate::rules;

/// Where it stands, from the root of the workspace.
pub const PATH: &str = "docs/protocol.md";

/// How it is made.
pub const COMMAND: &str = "cargo run -p conformance -- --write docs/protocol.md";

/// Status, code, message, and when it is said.
const REFUSALS: [(u16, &str, &str, &str); 8] = [
    (400, "0", "Transport unknown", "`transport` is missing or not served"),
    (400, "1", "Session ID unknown", "`sid` names no session, or one that has ended"),
    (400, "2", "Bad handshake method", "a handshake that is no GET; a POST without `sid`"),
    (
        400,
        "3",
        "Bad request",
        "not what may be asked of this session: overlapping requests, polling after an upgrade, a method or an upgrade that is none; JSONP, with words of its own",
    ),
    (403, "4", "Forbidden", "refused by the application; ours refuses by CONNECT_ERROR instead"),
    (400, "5", "Unsupported protocol version", "`EIO` is missing or not spoken"),
    (413, "-", "-", "a body larger than `maxPayload`"),
    (426, "3", "Bad request", "a WebSocket version other than 13"),
];

/// The whole document.
pub fn document() -> String {
    let mut out = String::new();
    let mut line = |text: &str| {
        out.push_str(text);
        out.push('\n');
    };
    line("# The rules of the protocols, and the case that checks each");
    line("");
    line(&format!("<!-- Written from conformance/src/rules by: {COMMAND} -->"));
    line("");
    line(
        "A Socket.IO server speaks five specifications: Engine.IO 3 and 4, Socket.IO 4 and 5, and WebSocket below them. \
         Each of their rules stands here in one sentence of our own, with what must come back.",
    );
    line("");
    line(
        "Socket.IO 2.x clients speak Socket.IO 4 over Engine.IO 3, Socket.IO 3.x and 4.x clients Socket.IO 5 over Engine.IO 4. \
         A case speaks raw bytes: HTTP requests and WebSocket frames written by hand. It runs against `protocol-echo` of \
         [`socketio-server`](../crates/socketio-server/README.md), while a bystander on the same server must notice nothing; \
         rules of clients run against [`socketio-client`](../crates/socketio-client/README.md). \
         [conformance/](../conformance/README.md) says how, and how to run the cases against another server.",
    );
    line("");
    line(
        "- `400, code 1` is status 400 with the reference server's body `{\"code\":1,\"message\":\"Session ID unknown\"}`.",
    );
    line("- `close 1008` is a WebSocket close frame with that code, then the end of the connection.");
    line("- What stands in code spans is sent as it is; bytes are hexadecimal.");
    line(
        "- Engine.IO and Socket.IO say only that a session is closed for a broken rule; 1008 is our choice, and other servers \
         are not held to it.",
    );
    line("");
    line("What a refused request is told, as the reference server tells it; no specification fixes it:");
    line("");
    line("| status | code | message | when |");
    line("| --- | --- | --- | --- |");
    for (status, code, message, when) in REFUSALS {
        line(&format!("| {status} | {code} | {message} | {when} |"));
    }
    line("");
    line("| specification | rules | of servers | of clients | without a case |");
    line("| --- | --- | --- | --- | --- |");
    for spec in Spec::ALL {
        let count =
            |wanted: fn(&Case) -> bool| rules::of(spec).filter(|(_, rule)| wanted(&rule.case)).count();
        line(&format!(
            "| [{}](#{}) | {} | {} | {} | {} |",
            spec.name(),
            slug(spec.name()),
            count(|_| true),
            count(|case| matches!(case, Case::Server(_))),
            count(|case| matches!(case, Case::Client(_))),
            count(|case| matches!(case, Case::None)),
        ));
    }
    for spec in Spec::ALL {
        write!(out, "\n## {}\n\nSpecification: <{}>\n", spec.name(), spec.url()).expect("a string grows");
        for section in rules::sections().into_iter().filter(|section| section.spec == spec) {
            write_section(section, &mut out);
        }
    }
    out
}

fn write_section(section: &Section, out: &mut String) {
    let Section { spec, heading, anchor, file, rules } = section;
    write!(out, "\n### {heading}\n\nIn the [specification]({}{anchor}). Cases: ", spec.url())
        .expect("a string grows");
    let short = file.rsplit_once("rules/").map_or(*file, |(_, short)| short);
    out.push_str(&format!("[{short}](../{file}).\n\n| rule | answer | case |\n| --- | --- | --- |\n"));
    for Rule { text, answer, case, name } in *rules {
        let text = text.trim();
        let case = match case {
            Case::Server(_) | Case::Client(_) => format!("[`{name}`](../{file})"),
            Case::None => "none".to_owned(),
        };
        out.push_str(&format!("| {} | {} | {case} |\n", cell(text), cell(answer)));
    }
}

/// Text of a table's cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// A heading's anchor as code hosts make it.
fn slug(heading: &str) -> String {
    let kept = heading.to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_document_is_current() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(PATH);
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(found == document(), "{PATH} is out of date: {COMMAND}");
    }
}

//! `drumfire debug`: everything a user does, told as it happens. A run has no tracer, and pays one comparison for it.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use regex::{Captures, Regex};
use serde_json::Value;
use socketio_client::websocket::Message;
use socketio_client::{Incoming, Kind, Stage, Stages};

use crate::flow::{FlowAction, FlowStep};
use crate::metrics::cut;
use crate::virtual_user::{Actor, Failed};

/// Of a message so many bytes are shown.
const MOST_SHOWN: usize = 400;

pub(crate) struct Tracer {
    /// `[2] `; empty for a single user.
    user: String,
    started: Instant,
    print: Rc<dyn Fn(&str)>,
}

impl std::fmt::Debug for Tracer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tracer").finish_non_exhaustive()
    }
}

/// Compiles what secrets are found with, so that no step's time has it.
pub(crate) fn get_ready() {
    LazyLock::force(&SECRETS);
    LazyLock::force(&SECRET_NAME);
}

impl Tracer {
    /// `print` is given whole lines.
    pub(crate) fn new(user: String, started: Instant, print: Rc<dyn Fn(&str)>) -> Self {
        Self { user, started, print }
    }

    fn line(&self, text: &str) {
        let at = self.started.elapsed().as_secs_f64();
        (self.print)(&format!("{at:>8.3} s  {}{text}", self.user));
    }

    pub(crate) fn note(&self, text: &str) {
        self.line(text);
    }

    pub(crate) fn connected(&self, endpoint: &str, stages: &Stages) {
        let mut text = format!("  connected to {endpoint} in {}:", ms(stages.total()));
        for stage in Stage::ALL {
            let took = stages.get(stage);
            if !took.is_zero() {
                text += &format!(" {} {},", stage.name(), ms(took));
            }
        }
        self.line(text.trim_end_matches([',', ':']));
    }

    /// Bytes on their way out.
    pub(crate) fn sent(&self, bytes: &[u8]) {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.line(&format!("  -> {}", shown(text))),
            Err(_) => self.line(&format!("  -> {} bytes of binary data", bytes.len())),
        }
    }

    pub(crate) fn packet(&self, incoming: &Incoming<'_>) {
        let what = match incoming.kind {
            Kind::Event => "event",
            Kind::Ack => "ack",
            Kind::Connect => "connect",
            Kind::ConnectError => "connect_error",
            Kind::Disconnect => "disconnect",
        };
        let place = if incoming.namespace == "/" { "" } else { incoming.namespace };
        let id = incoming.ack.map_or_else(String::new, |id| format!(" {id}"));
        self.line(&format!("  <- {what}{id}{place} {}", shown(incoming.data)));
    }

    pub(crate) fn frame(&self, message: &Message<'_>) {
        match message {
            Message::Text(text) => self.line(&format!("  <- {}", shown(text))),
            Message::Binary(bytes) => self.line(&format!("  <- {} bytes of binary data", bytes.len())),
            Message::Pong(_) => {}
        }
    }

    /// A request on its way out.
    pub(crate) fn request(&self, method: &http::Method, url: &url::Url, body: &[u8]) {
        self.line(&format!("  -> {method} {}", shown(url.as_str())));
        if !body.is_empty() {
            self.line(&format!("     {}", shown(&String::from_utf8_lossy(body))));
        }
    }

    pub(crate) fn answer(&self, status: http::StatusCode, took: Duration, length: u64, body: &[u8]) {
        self.line(&format!("  <- {status}, first byte after {}, {length} bytes", ms(took)));
        if !body.is_empty() {
            self.line(&format!("     {}", shown(&String::from_utf8_lossy(body))));
        }
    }

    pub(crate) fn error(&self, step: &str, cause: &str, sample: &str) {
        self.line(&format!("  ERROR {step}: {}", shown(cause)));
        if !sample.is_empty() && sample != cause {
            self.line(&format!("        {}", shown(sample)));
        }
    }
}

impl Actor {
    /// A step, told: what it is, what it set, how long it took.
    pub(crate) async fn traced(&mut self, step: &FlowStep, sent: Option<Instant>) -> Result<(), Failed> {
        let silent = matches!(&step.action, FlowAction::Socket(socket)
            if matches!(**socket, crate::flow::socket::SocketAction::Forget(_)));
        if silent {
            return self.take(step, sent).await;
        }
        let worker = Rc::clone(&self.person.worker);
        worker.trace(|tracer| tracer.note(worker.shared.names.step_label(step.id)));
        let before: Vec<(Arc<str>, Value)> = self.person.vars.own().to_vec();
        let began = Instant::now();
        let done = self.take(step, sent).await;
        let took = began.elapsed();
        worker.trace(|tracer| {
            // The steps of a loop have told what they set.
            if !matches!(step.action, FlowAction::Loop(_)) {
                for (name, value) in self.person.vars.own() {
                    let known = before.iter().find(|(known, _)| known == name);
                    if known.is_none_or(|(_, old)| old != value) {
                        tracer.line(&format!("  {name} = {}", shown_as(name, value)));
                    }
                }
            }
            let end = if done.is_ok() { "done in" } else { "FAILED after" };
            tracer.line(&format!("  {end} {}", ms(took)));
        });
        done
    }
}

fn ms(took: Duration) -> String {
    format!("{:.1} ms", took.as_secs_f64() * 1e3)
}

/// A value whose name says that it is a secret is none for a terminal.
fn shown_as(name: &str, value: &Value) -> String {
    if SECRET_NAME.is_match(name) {
        return "***".to_owned();
    }
    shown(&value.to_string())
}

/// Cut, on one line, secrets left out.
fn shown(text: &str) -> String {
    // Masked before it is cut: half a secret is still one.
    let mut start = text.get(..text.floor_char_boundary(MOST_SHOWN * 8)).unwrap_or(text).to_owned();
    let long = start.len() < text.len();
    start = masked(&start).into_owned();
    // A server is not to move the terminal's cursor.
    start = start.replace(char::is_control, " ");
    let length = start.len();
    cut(&mut start, MOST_SHOWN);
    if long || start.len() < length {
        start += &format!(" ({} bytes)", text.len());
    }
    start
}

static SECRET_NAME: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)token|passw|secret|authorization|api_?key|cookie|session_?id|jwt|credential")
        .expect("constant")
});

static SECRETS: LazyLock<Regex> = LazyLock::new(|| {
    const NAME: &str =
        r"[\w-]*(?:token|passw|secret|authorization|api_?key|cookie|session_?id|jwt|credential)[\w-]*";
    let members = format!(r#"("{NAME}\\?"\s*:\s*\\?")((?:[^"\\]|\\.)*)"#);
    let pairs = format!(r"(\b{NAME}=)([^&;\s]*)");
    let bare = r"\b(eyJ)([\w-]{8,}\.[\w-]+(?:\.[\w-]*)?)";
    Regex::new(&format!("(?i){members}|{pairs}|{bare}")).expect("constant")
});

/// Tokens, passwords and cookies are not for terminals, which are copied into issues.
fn masked(text: &str) -> Cow<'_, str> {
    SECRETS.replace_all(text, |found: &Captures<'_>| {
        let name = [1, 3, 5].iter().find_map(|&group| found.get(group)).map_or("", |name| name.as_str());
        let value = [2, 4, 6].iter().find_map(|&group| found.get(group)).map_or("", |value| value.as_str());
        if value.is_empty() { name.to_owned() } else { format!("{name}***") }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever a server says is shown on one line, within bounds.
        #[test]
        fn any_text_is_shown(text in "(?s).{0,40}[\"=]?(token|cookie|eyJ)?[\":=]{0,3}.{0,2000}") {
            let shown = shown(&text);
            prop_assert!(shown.len() < MOST_SHOWN + 40);
            let controls = shown.contains(char::is_control);
            prop_assert!(!controls);
        }
    }

    #[test]
    fn secrets_are_left_out() {
        let rows = [
            (r#"["save_msg",{"token":"abc.def","x":1}]"#, r#"["save_msg",{"token":"***","x":1}]"#),
            (r#"{"accessToken": "a\"b", "author": "me"}"#, r#"{"accessToken": "***", "author": "me"}"#),
            (r#"{"password":""}"#, r#"{"password":""}"#),
            ("http://h/socket.io/?token=abc&x=1", "http://h/socket.io/?token=***&x=1"),
            ("sessionid=42; theme=dark", "sessionid=***; theme=dark"),
            ("said eyJhbGciOiJIUzI1NiJ9.e30.c2ln here", "said eyJ*** here"),
            ("nothing to hide", "nothing to hide"),
        ];
        for (text, expected) in rows {
            assert_eq!(masked(text), expected);
        }
        assert_eq!(shown_as("token", &"abc".into()), "***");
        assert_eq!(shown_as("room", &"abc".into()), "\"abc\"");
    }

    #[test]
    fn long_messages_are_cut_and_keep_to_one_line() {
        let long = format!("a\nb{}", "한".repeat(1000));
        let shown = shown(&long);
        assert!(shown.starts_with("a b한") && shown.ends_with("… (3003 bytes)"), "{shown}");
        assert!(shown.len() < MOST_SHOWN + 30);
    }
}

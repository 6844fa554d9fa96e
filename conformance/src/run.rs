//! Runs a case and, beside it, a bystander that must not notice.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use crate::client_side::Listener;
use crate::http::PATIENCE;
use crate::rule::{Case, Protocol, Revision, Rule, Section};
use crate::subject::{Subject, Target};
use crate::websocket::WebSocket;

/// Runs the case of a rule. An error holds the rule, what went wrong and what was said.
///
/// # Errors
/// When the case fails, or the bystander was disturbed by it.
pub fn run(target: Target, section: &Section, rule: &Rule) -> Result<()> {
    let (outcome, said) = match rule.case {
        Case::None => return Ok(()),
        Case::Server(case) => {
            let subject = Subject::new(target, section.spec.protocol(), section.spec.revision());
            let outcome = undisturbed(&subject, || case(&subject));
            (outcome, subject.transcript.text())
        }
        Case::Client(case) => {
            let listener = Listener::new()?;
            let outcome = case(&listener);
            (outcome, listener.transcript.text())
        }
    };
    outcome.map_err(|error| {
        anyhow!(
            "{}, {}:{}\n  must: {}\n  case: {} in {}\n  {error:#}\n  what was said:\n{said}",
            section.spec.name(),
            section.heading,
            rule.text,
            rule.answer,
            rule.name,
            section.file,
        )
    })
}

/// The test of one rule, against our own server.
#[cfg(test)]
pub(crate) fn test(section: &Section, name: &str) {
    let rule = section.rules.iter().find(|rule| rule.name == name).expect("the rule of this test");
    if let Err(error) = run(Target::Ours, section, rule) {
        panic!("{error:#}");
    }
}

/// A bystander on each server the case may use has its message echoed before and after.
fn undisturbed(subject: &Subject, case: impl FnOnce() -> Result<()>) -> Result<()> {
    let brisk = subject.brisk();
    let greet = |when: &str| -> Result<()> {
        for subject in [subject, &brisk] {
            greet_bystander(subject).with_context(|| format!("the bystander {when}"))?;
        }
        Ok(())
    };
    greet("was not served before the case")?;
    case()?;
    greet("was disturbed")
}

/// Asks for one echo, the answer to come back through the inner sender.
type Question = mpsc::Sender<Result<()>>;

/// One connection per server, the same for all cases of the process.
fn greet_bystander(subject: &Subject) -> Result<()> {
    static BYSTANDERS: OnceLock<Mutex<HashMap<SocketAddr, mpsc::Sender<Question>>>> = OnceLock::new();
    let bystanders = BYSTANDERS.get_or_init(Mutex::default);
    let (sender, answer) = mpsc::channel();
    {
        let mut bystanders = bystanders.lock().map_err(|_| anyhow!("another case panicked"))?;
        let known = bystanders.entry(subject.address());
        let questions = match known {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(place) => {
                let own = Subject::new(Target::Other(subject.address()), subject.protocol, Revision::V4);
                let socket = own.websocket()?;
                let (questions, asked) = mpsc::channel();
                thread::spawn(move || stand_by(&own, socket, &asked));
                place.insert(questions)
            }
        };
        questions.send(sender).map_err(|_| anyhow!("it has lost its connection"))?;
    }
    answer.recv_timeout(PATIENCE).context("no echo")?
}

/// Answers heartbeats and has messages echoed until the connection ends.
fn stand_by(subject: &Subject, mut socket: WebSocket, asked: &mpsc::Receiver<Question>) {
    loop {
        match asked.recv_timeout(Duration::from_millis(20)) {
            Ok(answer) => {
                let outcome = subject.expect_alive(&mut socket);
                let is_over = outcome.is_err();
                // The case may have given up waiting.
                let _ = answer.send(outcome);
                if is_over {
                    return;
                }
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                // Reads heartbeats; anything else is not for a bystander, and shows at the next question.
                if !matches!(socket.is_silent_for(Duration::from_millis(1)), Ok(true)) {
                    return;
                }
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Whether this rule's case can be run against a server that speaks `protocol`.
pub fn concerns(section: &Section, rule: &Rule, protocol: Protocol) -> bool {
    matches!(rule.case, Case::Server(_)) && section.spec.protocol() == protocol
}

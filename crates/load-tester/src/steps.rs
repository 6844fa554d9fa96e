//! Steps about a user's connection: making it late, leaving, coming back, waiting for what comes, reading slowly.

use std::ops::ControlFlow;
use std::rc::Rc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::Value;
use socketio_client::Closed;
use socketio_client::websocket::Message;

use crate::capture::Answer;
use crate::flow::socket::{SocketAction, WaitAction};
use crate::inbox::{Inbox, Topic};
use crate::metrics::StepId;
use crate::script::model::{ConnectStep, Leaving, ListenStep};
use crate::virtual_user::{Actor, Failed, Person, lose, lost_sample};
use crate::websocket::payload_value;

/// What one `collect` may hold.
const MOST_COLLECTED: usize = 16 << 20;

/// How a wait ended, other than by what was waited for.
enum Missed {
    /// How the connection ended; `None`: there was none.
    Gone(Option<Closed>),
    Timeout(Duration),
    TooMuch,
}

/// What has come of what a wait is for.
struct Progress {
    taken: u64,
    collected: Vec<Value>,
    collected_bytes: usize,
    /// Why the last message that did not fit did not, and what it was.
    misfit: Option<String>,
    /// When the first and the last that were taken had been read.
    received: Option<(Instant, Instant)>,
}

impl Actor {
    pub(crate) async fn socket_step(
        &mut self,
        action: &SocketAction,
        step: StepId,
        sent: Option<Instant>,
    ) -> Result<(), Failed> {
        match action {
            SocketAction::Connect(over) => self.connect_again(step, over, Duration::ZERO).await,
            SocketAction::Disconnect(leaving) => self.disconnect(*leaving, step).await,
            SocketAction::Reconnect { over, after } => self.connect_again(step, over, *after).await,
            SocketAction::Listen(listen) => self.listen(listen, step).await,
            SocketAction::Wait(wait) => self.wait(wait, step, sent).await,
            SocketAction::Read { bytes_per_second: Some(rate), time } => {
                let Some(open) = &mut self.socket else { return self.not_connected(step) };
                open.link.ignore_late_heartbeats();
                open.link.set_read_rate(Some(*rate));
                self.person.last_emit = step;
                self.pause(*time).await;
                if let Some(open) = &mut self.socket {
                    open.link.set_read_rate(None);
                }
                Ok(())
            }
            SocketAction::Read { bytes_per_second: None, time } => {
                let Some(open) = &mut self.socket else { return self.not_connected(step) };
                open.link.ignore_late_heartbeats();
                self.person.last_emit = step;
                // Nobody looks at the socket, so the kernel's buffers fill, then the server's.
                tokio::time::sleep(*time).await;
                self.look_up().await;
                Ok(())
            }
            SocketAction::ForgetAll => {
                self.person.inbox = None;
                Ok(())
            }
            SocketAction::Forget(topics) => {
                if let Some(inbox) = &self.person.inbox {
                    for (namespace, event) in topics {
                        inbox.borrow_mut().forget(namespace, event);
                    }
                }
                Ok(())
            }
        }
    }

    /// Leaves, if it is still there. Whoever had lost its connection is back.
    async fn connect_again(
        &mut self,
        step: StepId,
        over: &ConnectStep,
        after: Duration,
    ) -> Result<(), Failed> {
        let away = self.socket.is_none() && !self.left;
        self.leave().await;
        if !after.is_zero() {
            self.pause(after).await;
        }
        self.connect(step, over).await?;
        if away && self.person.measured {
            let worker = &self.person.worker;
            worker.recorder.borrow_mut().add(worker.shared.audience.back, 1);
        }
        Ok(())
    }

    pub(crate) fn not_connected(&self, step: StepId) -> Result<(), Failed> {
        self.person.worker.error(step, "not connected", "not connected", String::new);
        Err(Failed)
    }

    async fn disconnect(&mut self, leaving: Leaving, step: StepId) -> Result<(), Failed> {
        if self.socket.is_none() {
            return self.not_connected(step);
        }
        match leaving {
            Leaving::Close => self.leave().await,
            Leaving::Drop => {
                let mut socket = self.socket.take();
                if let Some(open) = &mut socket {
                    open.tell_upgrade();
                    open.give_up();
                }
                self.cut_off();
            }
            Leaving::Silent => {
                // Kept open and never looked at again, until the user's end.
                if let Some(mut open) = self.socket.take() {
                    open.give_up();
                    self.silenced.push(open.into_link());
                }
                self.cut_off();
            }
        }
        Ok(())
    }

    /// The script ended the connection as a failing network does.
    fn cut_off(&mut self) {
        self.left = false;
        if self.person.measured {
            self.person.worker.count_lost();
        }
    }

    async fn listen(&mut self, listen: &ListenStep, step: StepId) -> Result<(), Failed> {
        let namespace = self.namespace_of(&listen.namespace);
        if namespace != "/" {
            Box::pin(self.join_namespace(&namespace, step)).await?;
        }
        if listen.events.is_empty() {
            return Ok(());
        }
        let Person { vars, rng, inbox, .. } = &mut self.person;
        let inbox = inbox.get_or_insert_default();
        for event in &listen.events {
            inbox.borrow_mut().want(&namespace, &event.render_text(vars, rng), step);
        }
        Ok(())
    }

    fn namespace_of(&mut self, template: &crate::script::template::Template) -> String {
        let Person { vars, rng, .. } = &mut self.person;
        let namespace = template.render_text(vars, rng);
        if namespace.is_empty() { "/".to_owned() } else { namespace.into_owned() }
    }

    /// Takes what is in the inbox first, then what comes. `sent`: the step before was a `send`, whose answer this is when
    /// it names one with `match`; whatever frame comes next may be anybody's.
    async fn wait(&mut self, wait: &WaitAction, step: StepId, sent: Option<Instant>) -> Result<(), Failed> {
        let inbox = Rc::clone(self.person.inbox.get_or_insert_default());
        let Some(event) = &wait.spec.event else {
            let topic = inbox.borrow_mut().want_frames(step);
            let sent = sent.filter(|_| !wait.spec.matches.is_empty());
            return self.await_letters(wait, step, topic, "frame", 0, sent).await;
        };
        let namespace = self.namespace_of(&wait.spec.namespace);
        if namespace != "/" {
            Box::pin(self.join_namespace(&namespace, step)).await?;
        }
        let Person { vars, rng, .. } = &mut self.person;
        let name = event.render_text(vars, rng).into_owned();
        // A name that differs from user to user, which no `listen` has: no step is known that would wait for it again.
        let once = !event.is_constant() && !inbox.borrow().wants(&namespace, &name);
        let topic = inbox.borrow_mut().want(&namespace, &name, step);
        let done = self.await_letters(wait, step, topic, &name, 0, sent).await;
        if once {
            inbox.borrow_mut().forget(&namespace, &name);
        }
        done
    }

    /// Takes letters from number `from` on until there are enough that fit.
    pub(crate) async fn await_letters(
        &mut self,
        wait: &WaitAction,
        step: StepId,
        topic: Topic,
        name: &str,
        from: u64,
        sent: Option<Instant>,
    ) -> Result<(), Failed> {
        self.person.last_emit = step;
        let began = Instant::now();
        let timeout = wait.spec.timeout.unwrap_or(self.person.worker.shared.script.config.timeout);
        let deadline = tokio::time::Instant::now() + timeout;
        let mut progress =
            Progress { taken: 0, collected: Vec::new(), collected_bytes: 0, misfit: None, received: None };
        let inbox = Rc::clone(self.person.inbox.get_or_insert_default());
        // Of a `send` with an answer of its own; a step of its own takes what had come, too.
        let since = sent.filter(|_| wait.time.is_none());
        let missed = self.gather(wait, topic, from, since, deadline, timeout, &inbox, &mut progress).await;
        let count = wait.spec.count;
        let Err(missed) = missed else {
            let (first, last) = progress.received.unwrap_or((began, began));
            if let Some(time) = wait.time {
                self.person.record(|recorder| recorder.time_of(time, last.saturating_duration_since(began)));
            }
            // What had come before it was sent is no answer.
            if let Some(sent) = sent.filter(|sent| first >= *sent) {
                self.person.got_answer(last);
                let worker = Rc::clone(&self.person.worker);
                self.person.record(|recorder| {
                    recorder.time_of(worker.shared.ws.response, last.saturating_duration_since(sent));
                });
            }
            if let Some(collect) = &wait.spec.collect {
                self.person.vars.set(collect.as_str(), Value::Array(progress.collected));
            }
            return Ok(());
        };
        let worker = &self.person.worker;
        let came = if count > 1 { format!(", {} of {count} came", progress.taken) } else { String::new() };
        let (cause, code) = match &missed {
            Missed::Gone(None) => ("not connected".to_owned(), "not connected"),
            Missed::Gone(Some(closed)) => {
                (format!("disconnected while waiting for {name}{came}: {closed}"), "disconnect")
            }
            Missed::Timeout(timeout) => {
                let fitting = if progress.misfit.is_some() { " that fits" } else { "" };
                let cause = format!("no {name}{fitting} within {} s{came}", timeout.as_secs_f64());
                (cause, "response timeout")
            }
            Missed::TooMuch => {
                (format!("{name}: more than {} MiB to collect", MOST_COLLECTED >> 20), "too much to collect")
            }
        };
        worker.error(step, &cause, code, || {
            let sample = match (&missed, progress.misfit) {
                (Missed::Gone(Some(closed)), _) => lost_sample(&cause, closed),
                (_, Some(misfit)) => format!("{cause}; the last that came: {misfit}"),
                (_, None) => cause.clone(),
            };
            match inbox.borrow().dropped() {
                0 => sample,
                dropped => format!(
                    "{sample}; {dropped} older ones that had not fitted were dropped, the inbox was full"
                ),
            }
        });
        if matches!(missed, Missed::Gone(Some(_))) {
            lose(&mut self.socket);
        }
        Err(Failed)
    }

    #[allow(clippy::too_many_arguments)] // all of them are one wait
    async fn gather(
        &mut self,
        wait: &WaitAction,
        topic: Topic,
        mut from: u64,
        since: Option<Instant>,
        deadline: tokio::time::Instant,
        timeout: Duration,
        inbox: &std::cell::RefCell<Inbox>,
        progress: &mut Progress,
    ) -> Result<(), Missed> {
        loop {
            while progress.taken < wait.spec.count {
                let Some(next) = inbox.borrow().find(topic, from).map(crate::inbox::Letter::number) else {
                    break;
                };
                from = next + 1;
                // Read with an earlier frame, or with the handshake, and looked at only now.
                let early = |since| inbox.borrow().find(topic, next).is_some_and(|one| one.received < since);
                if since.is_some_and(early) {
                    continue;
                }
                self.judge(wait, inbox, next, progress)?;
            }
            if progress.taken >= wait.spec.count {
                return Ok(());
            }
            let hearing = self.person.hearing();
            let Some(open) = &mut self.socket else { return Err(Missed::Gone(None)) };
            let visit = open.link.visit(|came| {
                hearing.came(&came);
                match inbox.borrow().find(topic, from) {
                    Some(_) => ControlFlow::Break(()),
                    None => ControlFlow::Continue(()),
                }
            });
            let visited = tokio::time::timeout_at(deadline, visit).await;
            open.tell_upgrade();
            match visited {
                Ok(Ok(())) => {}
                Ok(Err(closed)) => return Err(Missed::Gone(Some(closed))),
                Err(_) => return Err(Missed::Timeout(timeout)),
            }
        }
    }

    /// Takes the letter if it fits; else it stays for another step.
    fn judge(
        &mut self,
        wait: &WaitAction,
        inbox: &std::cell::RefCell<Inbox>,
        number: u64,
        progress: &mut Progress,
    ) -> Result<(), Missed> {
        let Some(letter) = inbox.borrow_mut().take(number) else { return Ok(()) };
        let wanted = !wait.rules.is_empty() || wait.spec.collect.is_some();
        if wanted {
            let value = match &wait.spec.event {
                Some(_) => first_argument(&letter.data),
                None => payload_value(&letter.data),
            };
            let text = match &value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            let answer = Answer { json: Some(&value), text: &text, headers: None };
            let Person { vars, rng, .. } = &mut self.person;
            if let Err(why) = wait.rules.apply(&answer, vars, rng) {
                progress.misfit = Some(format!("{why}; {}", letter.data));
                inbox.borrow_mut().put_back(letter);
                return Ok(());
            }
            if wait.spec.collect.is_some() {
                progress.collected_bytes += letter.data.len();
                if progress.collected_bytes > MOST_COLLECTED {
                    return Err(Missed::TooMuch);
                }
                progress.collected.push(value);
            }
        }
        progress.taken += 1;
        let first = progress.received.map_or(letter.received, |(first, _)| first);
        progress.received = Some((first, letter.received));
        Ok(())
    }
}

/// Of an event's raw JSON, name first.
fn first_argument(data: &str) -> Value {
    let mut all: Vec<Value> = serde_json::from_str(data).unwrap_or_default();
    if all.len() > 1 { all.swap_remove(1) } else { Value::Null }
}

/// A frame as an inbox keeps it.
pub(crate) fn frame_text(message: &Message<'_>) -> String {
    match message {
        Message::Text(text) => (*text).to_owned(),
        Message::Binary(bytes) | Message::Pong(bytes) => {
            base64::engine::general_purpose::STANDARD.encode(bytes)
        }
    }
}

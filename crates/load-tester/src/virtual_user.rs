//! One user walking one scenario.
//!
//! A user is one local task. It remembers when it was due, when it started and when it was first answered; it reads
//! its socket whenever it waits for something else, so nothing the server says goes uncounted.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use serde_json::Value;
use socketio_client::websocket::Message;
use socketio_client::{Client, Closed, ConnectError, Incoming, Kind, Stage};

use crate::delivery::{Ears, Listening, Marks, Messages, Status};
use crate::flow::socket::Connects;
use crate::flow::{Flow, FlowAction, FlowStep, LoopAction};
use crate::http::{Origins, Session};
use crate::inbox::{Full, Inbox, MOST_LETTERS};
use crate::link::{Came, Link};
use crate::listeners::{Audience, Turns};
use crate::metrics::{Count, CounterId, Names, Recorder, StepId, Time, TimeId};
use crate::outcome::Nanos;
use crate::plan::Plan;
use crate::script::model::{ConnectStep, DeliveryConfig, Engine, Jitter, LoopTimes, Script, Think};
use crate::script::template::{Template, text_of};
use crate::script::vars::{SharedVars, Vars};
use crate::socketio::{SocketTemplate, complaint_cause, stable};
use crate::sources::Sources;
use crate::steps::frame_text;
use crate::trace::Tracer;
use crate::websocket::WebSocketTemplate;

/// What all threads of a run read and none changes, but for counters and cells made for it.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) script: Script,
    pub(crate) names: Names,
    /// In the script's order.
    pub(crate) scenarios: Vec<ScenarioFlow>,
    /// Sum of the weights.
    pub(crate) weights: u64,
    pub(crate) before: Option<Flow>,
    pub(crate) after: Option<Flow>,
    pub(crate) listeners: Vec<ListenerFlow>,
    pub(crate) audience: Audience,
    /// Where a listener's errors outside its flow are filed.
    pub(crate) listening: StepId,
    /// Users cut off at the run's end.
    pub(crate) unfinished: CounterId,
    /// Users of closed phases that came in the place of one that ended.
    pub(crate) replacements: CounterId,
    /// How late the threads' own ticks are.
    pub(crate) loop_lag: TimeId,
    /// How long a socket did not take what was to be sent.
    pub(crate) send_wait: TimeId,
    /// Where connections come from, if the script says so.
    pub(crate) sources: Sources,
    pub(crate) plan: Plan,
    pub(crate) workers: usize,
    pub(crate) seed: u64,
    /// Set once `before` has run.
    pub(crate) vars: OnceLock<Arc<SharedVars>>,
    pub(crate) socket: SocketTemplate,
    pub(crate) ws: WebSocketTemplate,
    /// Made for the target, or when a URL or redirect first asks for it; `None` when this machine trusts nobody.
    pub(crate) tls: OnceLock<Option<Arc<rustls::ClientConfig>>>,
    /// Of the target, the one that answered first in front.
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) delivery: Option<DeliveryConfig>,
    pub(crate) marks: Option<Marks>,
    pub(crate) messages: Messages,
    /// Distinct pairs heard so far, by worker.
    pub(crate) heard: Vec<crate::run::Padded>,
    /// The first phase's start.
    pub(crate) zero: OnceLock<Instant>,
    /// Users alive on all threads, for `maxVusers`.
    pub(crate) alive: AtomicU64,
    pub(crate) log: tokio::sync::mpsc::UnboundedSender<String>,
}

#[derive(Debug)]
pub(crate) struct ScenarioFlow {
    pub(crate) flow: Flow,
    /// Its number in [`Names`].
    pub(crate) id: usize,
    pub(crate) weight: u32,
}

#[derive(Debug)]
pub(crate) struct ListenerFlow {
    pub(crate) flow: Flow,
    pub(crate) moving: Option<Flow>,
    /// Number of the group's first listener.
    pub(crate) first: usize,
    /// Of each storm of the group, in which turn each listener is cut off.
    pub(crate) storms: Vec<Turns>,
}

impl Shared {
    /// Since the first phase's start; 0 before it.
    pub(crate) fn nanos(&self, at: Instant) -> Nanos {
        let zero = self.zero.get().copied().unwrap_or(at);
        u64::try_from(at.saturating_duration_since(zero).as_nanos()).unwrap_or(u64::MAX)
    }

    pub(crate) fn tls(&self) -> Option<&Arc<rustls::ClientConfig>> {
        let make = || match self.script.config.tls_verify {
            true => socketio_client::tls::native_roots().ok(),
            false => Some(socketio_client::tls::insecure()),
        };
        self.tls.get_or_init(make).as_ref()
    }

    /// What hearers look at, once the first phase has begun.
    fn listening_for(&self) -> Option<Listening<'_>> {
        let (marks, &zero) = self.marks.as_ref().zip(self.zero.get())?;
        let remembered = self.audience.remembered;
        Some(Listening { marks, messages: &self.messages, zero, remembered })
    }

    fn count_heard(&self, worker: usize, by: u64) {
        // Nobody else writes this one.
        let heard = &self.heard[worker].0;
        heard.store(heard.load(Ordering::Relaxed) + by, Ordering::Relaxed);
    }

    fn choose(&self, rng: &mut fastrand::Rng) -> &ScenarioFlow {
        if self.scenarios.len() == 1 {
            return &self.scenarios[0];
        }
        let mut ticket = rng.u64(..self.weights.max(1));
        for scenario in &self.scenarios {
            match ticket.checked_sub(u64::from(scenario.weight)) {
                Some(rest) => ticket = rest,
                None => return scenario,
            }
        }
        &self.scenarios[0]
    }
}

/// What the users of one thread share.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) index: usize,
    pub(crate) recorder: RefCell<Recorder>,
    pub(crate) origins: Origins,
    pub(crate) users: Cell<u64>,
    pub(crate) connections: Cell<u64>,
    /// Of its next connection among the source addresses.
    turn: Cell<u64>,
    /// Of `drumfire debug`.
    pub(crate) tracer: Option<Box<Tracer>>,
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>, index: usize) -> Rc<Self> {
        Self::traced(shared, index, None)
    }

    pub(crate) fn traced(shared: Arc<Shared>, index: usize, tracer: Option<Box<Tracer>>) -> Rc<Self> {
        Rc::new(Self {
            origins: Origins::new(&shared),
            shared,
            index,
            recorder: RefCell::default(),
            users: Cell::new(0),
            connections: Cell::new(0),
            turn: Cell::new(index as u64),
            tracer,
        })
    }

    /// The address the next connection comes from; `None`: the system chooses.
    pub(crate) fn source(&self, to_v6: bool) -> Option<IpAddr> {
        if self.shared.sources.is_empty() {
            return None;
        }
        let turn = self.turn.get();
        // The threads take turns, so that all of them together go round once before an address comes again.
        self.turn.set(turn.wrapping_add(self.shared.workers as u64));
        self.shared.sources.get(turn, to_v6)
    }

    /// Says what happens, where somebody wants to know.
    #[inline]
    pub(crate) fn trace(&self, tell: impl FnOnce(&Tracer)) {
        if let Some(tracer) = &self.tracer {
            tell(tracer);
        }
    }

    pub(crate) fn count_lost(&self) {
        self.recorder.borrow_mut().add(self.shared.audience.lost, 1);
    }

    pub(crate) fn error(&self, step: StepId, cause: &str, code: &str, sample: impl FnOnce() -> String) {
        let at = self.shared.nanos(Instant::now());
        if let Some(tracer) = &self.tracer {
            let sample = sample();
            tracer.error(self.shared.names.step_label(step), cause, &sample);
            self.recorder.borrow_mut().error(at, step, cause, code, || sample);
            return;
        }
        self.recorder.borrow_mut().error(at, step, cause, code, sample);
    }
}

/// The step failed and its failure is recorded; the user skips the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failed;

/// Counts an open socket for as long as it lives.
#[derive(Debug)]
pub(crate) struct OpenSocket {
    pub(crate) link: Link,
    /// Where a change of transport that fails is filed.
    connect: StepId,
    measured: bool,
    /// Stamped messages in posts that may not have been answered: how many packets had been given by then, and which.
    posts: VecDeque<(u64, u32)>,
    open: Open,
}

#[derive(Debug)]
struct Open(Rc<Worker>);

impl OpenSocket {
    pub(crate) fn new(worker: &Rc<Worker>, link: Link, connect: StepId, measured: bool) -> Self {
        worker.connections.set(worker.connections.get() + 1);
        Self { link, connect, measured, posts: VecDeque::new(), open: Open(Rc::clone(worker)) }
    }

    fn posted(&mut self) -> Option<(u64, u64)> {
        self.link.socketio().and_then(|client| client.posted())
    }

    /// A stamped message was given to the connection. Over a WebSocket it has left; by post it has only when that is
    /// answered.
    pub(crate) fn gave(&mut self, message: u32) {
        match self.posted() {
            None => self.posts.clear(),
            Some((given, taken)) => {
                while self.posts.pop_front_if(|(at, _)| *at <= taken).is_some() {}
                self.posts.push_back((given, message));
            }
        }
    }

    /// Nobody waits for it any more: what stood in posts that were not answered most likely did not get there.
    pub(crate) fn give_up(&mut self) {
        if self.posts.is_empty() {
            return;
        }
        let Some((_, taken)) = self.posted() else { return };
        for (_, message) in self.posts.drain(..).filter(|(at, _)| *at > taken) {
            self.open.0.shared.messages.set_status(message, Status::Unanswered);
        }
    }

    /// The connection alone, no longer counted among those open.
    pub(crate) fn into_link(self) -> Link {
        self.link
    }

    /// Records what became of the change from polling to WebSocket, once it is known. It happens while the user
    /// does something else, so this is asked whenever something has been waited for.
    pub(crate) fn tell_upgrade(&mut self) {
        let Some(upgrade) = self.link.socketio().and_then(Client::take_upgrade) else { return };
        let worker = &self.open.0;
        if let Err(error) = &upgrade.outcome {
            let cause = format!("change to websocket: {error}");
            worker.error(self.connect, &cause, &cause, || told(error));
        }
        if !self.measured {
            return;
        }
        let mut recorder = worker.recorder.borrow_mut();
        match &upgrade.outcome {
            Ok(stages) => {
                recorder.count(Count::Upgrades);
                recorder.time(Time::Upgrade, upgrade.took);
                for stage in [Stage::Upgrade, Stage::Probe] {
                    recorder.stage(stage, stages.get(stage));
                }
            }
            Err(_) => recorder.count(Count::UpgradesFailed),
        }
    }
}

/// A failed connect for a report: whom, where, why, and what was said.
pub(crate) fn told(error: &ConnectError) -> String {
    match error.sample() {
        Some(sample) => format!("{} {error}: {sample}", error.endpoint()),
        None => format!("{} {error}", error.endpoint()),
    }
}

/// The connection is gone; what it has still to tell is told.
pub(crate) fn lose(socket: &mut Option<Box<OpenSocket>>) {
    if let Some(open) = socket {
        open.tell_upgrade();
        // Listeners' losses are counted where their way back is.
        if open.measured {
            open.open.0.count_lost();
        }
        open.give_up();
    }
    *socket = None;
}

/// What the server said when the connection ended, behind the cause.
pub(crate) fn lost_sample(cause: &str, closed: &Closed) -> String {
    match closed.sample() {
        Some(said) => format!("{cause}: {said}"),
        None => cause.to_owned(),
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections.set(self.0.connections.get() - 1);
    }
}

/// Whoever walks a flow: a virtual user, a listener, `before` and `after`.
#[derive(Debug)]
pub(crate) struct Actor {
    pub(crate) socket: Option<Box<OpenSocket>>,
    /// Connected beside `/`.
    pub(crate) namespaces: Vec<Box<str>>,
    /// Sent with the handshake, where it differs from user to user.
    pub(crate) auth: Option<Box<str>>,
    /// It never connected, or said goodbye.
    pub(crate) left: bool,
    /// Open, and never looked at again.
    pub(crate) silenced: Vec<Link>,
    engine: Engine,
    /// Connects before the first step that needs it; where that is filed.
    late: Option<StepId>,
    pub(crate) person: Person,
}

impl Drop for Actor {
    /// Whoever is cut off at the run's end has no time to wait for answers to its posts.
    fn drop(&mut self) {
        if let Some(open) = &mut self.socket {
            open.give_up();
        }
    }
}

/// The part of an actor that is not its socket, so that both can be at work at once.
#[derive(Debug)]
pub(crate) struct Person {
    pub(crate) worker: Rc<Worker>,
    pub(crate) vars: Vars,
    pub(crate) rng: fastrand::Rng,
    pub(crate) web: Session,
    /// Virtual users count in the figures; listeners, `before` and `after` only in the errors.
    pub(crate) measured: bool,
    /// It reads slowly on purpose, so what comes late to it is no fault of the server.
    pub(crate) slow: bool,
    pub(crate) due: Instant,
    pub(crate) answered: bool,
    pub(crate) ears: Option<Rc<RefCell<Ears>>>,
    /// Only of those whose flow waits for something.
    pub(crate) inbox: Option<Rc<RefCell<Inbox>>>,
    /// When the frame of the step before was sent, if it was one.
    pub(crate) sent: Option<Instant>,
    /// Whom to blame for what the server says next.
    pub(crate) last_emit: StepId,
    pub(crate) last_message: Option<u32>,
    /// The last message when no ack will tell what became of it.
    pub(crate) unconfirmed: Option<u32>,
}

impl Person {
    pub(crate) fn record(&self, with: impl FnOnce(&mut Recorder)) {
        if self.measured {
            with(&mut self.worker.recorder.borrow_mut());
        }
    }

    /// The first answer a user gets closes the interval that opened when it was due.
    pub(crate) fn got_answer(&mut self, at: Instant) {
        if !self.answered {
            self.answered = true;
            self.record(|recorder| {
                recorder.time(Time::ResponseFromDue, at.saturating_duration_since(self.due));
            });
        }
    }

    pub(crate) fn hearing(&self) -> Hearing {
        Hearing {
            worker: Rc::clone(&self.worker),
            ears: self.ears.clone(),
            inbox: self.inbox.clone(),
            measured: self.measured,
            step: self.last_emit,
            unconfirmed: self.unconfirmed,
        }
    }
}

/// Takes what the server says while the actor is busy with something else.
#[derive(Debug)]
pub(crate) struct Hearing {
    worker: Rc<Worker>,
    ears: Option<Rc<RefCell<Ears>>>,
    inbox: Option<Rc<RefCell<Inbox>>>,
    measured: bool,
    step: StepId,
    unconfirmed: Option<u32>,
}

impl Hearing {
    pub(crate) fn came(&self, came: &Came<'_>) {
        match came {
            Came::Packet(incoming) => self.packet(incoming),
            Came::Frame(message, received) => self.frame(message, *received),
        }
    }

    /// Counts a frame of a plain WebSocket, keeps it for a wait, and looks for marks in it.
    fn frame(&self, message: &Message<'_>, received: Instant) {
        self.worker.trace(|tracer| tracer.frame(message));
        let shared = &self.worker.shared;
        if self.measured {
            self.worker.recorder.borrow_mut().add(shared.ws.received, 1);
        }
        if let (Some(ears), Message::Text(text)) = (&self.ears, message) {
            let mut ears = ears.borrow_mut();
            ears.came(text);
            if let Some(listening) = shared.listening_for() {
                let recorder = &mut self.worker.recorder.borrow_mut();
                // Several messages may come in one frame, a line each, as with Centrifugo.
                let lines = text.split('\n');
                let heard = lines.filter(|line| ears.hear(listening, line, received, recorder)).count();
                shared.count_heard(self.worker.index, heard as u64);
            }
        }
        self.keep("", "", received, || frame_text(message));
    }

    /// Into the inbox, if anybody waits for such messages.
    fn keep(&self, namespace: &str, event: &str, received: Instant, data: impl FnOnce() -> String) {
        let Some(inbox) = &self.inbox else { return };
        let kept = inbox.borrow_mut().offer(namespace, event, received, data);
        if let Err(Full(step)) = kept {
            let cause = format!("inbox full: more than {MOST_LETTERS} messages or 1 MiB wait unread");
            self.worker.error(step, &cause, "inbox full", || cause.clone());
        }
    }

    /// Counts every event, notes marks, and files what complains as an error. Cheap for what is merely heard.
    pub(crate) fn packet(&self, incoming: &Incoming<'_>) {
        self.worker.trace(|tracer| tracer.packet(incoming));
        match incoming.kind {
            Kind::Event => {
                let Some(name) = incoming.event_name() else {
                    self.worker.recorder.borrow_mut().server_event("(unreadable name)");
                    return;
                };
                self.worker.recorder.borrow_mut().server_event(name);
                let shared = &self.worker.shared;
                if let (Some(ears), Some(marks)) = (&self.ears, &shared.marks)
                    && name == marks.event()
                {
                    let mut ears = ears.borrow_mut();
                    ears.came(incoming.data);
                    let recorder = &mut self.worker.recorder.borrow_mut();
                    if let Some(listening) = shared.listening_for()
                        && ears.hear(listening, incoming.data, incoming.received, recorder)
                    {
                        shared.count_heard(self.worker.index, 1);
                    }
                } else if matches!(name, "exception" | "error" | "connect_error") {
                    self.complaint(name, incoming.data);
                }
                self.keep(incoming.namespace, name, incoming.received, || incoming.data.to_owned());
            }
            Kind::Disconnect => {
                let cause = format!("disconnected from {} by the server", incoming.namespace);
                self.worker.error(self.step, &cause, "disconnect", || incoming.data.to_owned());
            }
            Kind::ConnectError => {
                let cause = complaint_cause(
                    "connect_error",
                    &serde_json::from_str(incoming.data).unwrap_or_default(),
                );
                self.worker.error(self.step, &cause, &cause, || incoming.data.to_owned());
            }
            Kind::Ack => self.caught_up(incoming.data),
            Kind::Connect => {}
        }
    }

    /// The ack of somebody who came back may hold what was missed.
    fn caught_up(&self, data: &str) {
        let Some(mut ears) = self.ears.as_ref().map(|ears| ears.borrow_mut()) else { return };
        if ears.remembers() {
            ears.came(data);
            let shared = &self.worker.shared;
            if let Some(listening) = shared.listening_for() {
                let fresh = ears.catch_up(listening, data, &mut self.worker.recorder.borrow_mut());
                shared.count_heard(self.worker.index, fresh);
            }
        }
    }

    fn complaint(&self, name: &str, data: &str) {
        let arguments: Vec<Value> = serde_json::from_str(data).unwrap_or_default();
        let cause = complaint_cause(name, arguments.get(1).unwrap_or(&Value::Null));
        self.worker.error(self.step, &cause, &cause, || data.to_owned());
        // A server that complains has most likely not delivered what it complains of.
        if let Some(message) = self.unconfirmed {
            self.worker.shared.messages.set_status(message, Status::Complained);
        }
    }

    /// The connection ended without our doing.
    pub(crate) fn lost(&self, closed: &Closed) {
        let cause = format!("disconnected: {closed}");
        self.worker.error(self.step, &cause, "disconnect", || lost_sample(&cause, closed));
    }
}

/// Does `work` and reads the socket meanwhile. When the connection ends the work goes on.
pub(crate) async fn while_hearing<T>(
    socket: &mut Option<Box<OpenSocket>>,
    hearing: &Hearing,
    work: impl Future<Output = T>,
) -> T {
    let mut work = pin!(work);
    if let Some(open) = socket {
        let visited = open.link.visit_while(work.as_mut(), |came| hearing.came(&came)).await;
        open.tell_upgrade();
        match visited {
            Ok(done) => return done,
            Err(closed) => {
                hearing.lost(&closed);
                lose(socket);
            }
        }
    }
    work.await
}

impl Actor {
    pub(crate) fn new(
        worker: &Rc<Worker>,
        flow: &Flow,
        vars: Vars,
        rng: fastrand::Rng,
        due: Instant,
    ) -> Self {
        Self {
            socket: None,
            namespaces: Vec::new(),
            auth: None,
            left: true,
            silenced: Vec::new(),
            engine: flow.engine,
            late: None,
            person: Person {
                worker: Rc::clone(worker),
                vars,
                rng,
                web: Session::default(),
                measured: false,
                slow: false,
                due,
                answered: false,
                ears: None,
                inbox: None,
                sent: None,
                last_emit: flow.connect,
                last_message: None,
                unconfirmed: None,
            },
        }
    }

    /// Connects when the engine needs it, then takes the steps.
    pub(crate) async fn perform(&mut self, flow: &Flow) -> Result<(), Failed> {
        if flow.kept.inbox {
            let mut inbox = Inbox::default();
            flow.kept.prepare(&mut inbox);
            self.person.inbox = Some(Rc::new(RefCell::new(inbox)));
        }
        self.late = None;
        match flow.connects {
            Connects::AtStart => self.connect_unasked(flow.connect).await?,
            Connects::BeforeFirstUse => self.late = Some(flow.connect),
            Connects::ByStep | Connects::Never => {}
        }
        let (with_http, without) = flow.steps.split_at(flow.http_ends);
        if !with_http.is_empty() {
            self.walk(with_http).await?;
            self.person.web.park();
        }
        self.walk(without).await
    }

    /// Without a step of its own.
    async fn connect_unasked(&mut self, step: StepId) -> Result<(), Failed> {
        let worker = &self.person.worker;
        worker.trace(|tracer| tracer.note(worker.shared.names.step_label(step)));
        // Boxed: who is connected needs no room for it.
        Box::pin(self.connect(step, &ConnectStep::default())).await
    }

    pub(crate) async fn connect(&mut self, step: StepId, over: &ConnectStep) -> Result<(), Failed> {
        self.namespaces.clear();
        match self.engine {
            Engine::WebSocket => self.connect_websocket(step, over).await,
            Engine::SocketIo | Engine::Http => self.connect_socketio(step, over).await,
        }?;
        self.left = false;
        Ok(())
    }

    /// Takes the steps in order; the first that fails ends it.
    pub(crate) async fn walk(&mut self, steps: &[FlowStep]) -> Result<(), Failed> {
        for step in steps {
            if let Some(connect) = self.late.filter(|_| step.action.needs_socket()) {
                self.late = None;
                self.connect_unasked(connect).await?;
            }
            let sent = self.person.sent.take();
            if self.person.worker.tracer.is_some() {
                Box::pin(self.traced(step, sent)).await?;
            } else {
                self.take(step, sent).await?;
            }
        }
        Ok(())
    }

    pub(crate) async fn take(&mut self, step: &FlowStep, sent: Option<Instant>) -> Result<(), Failed> {
        match &step.action {
            FlowAction::Think { pause, jitter } => {
                let pause = self.pause_length(step.id, pause, *jitter)?;
                self.pause(pause).await;
            }
            FlowAction::Emit(action) => self.emit(action, step.id).await?,
            FlowAction::Send(action) => self.send(action, step.id).await?,
            // Boxed: users that only emit and think need no room for it.
            FlowAction::Socket(action) => Box::pin(self.socket_step(action, step.id, sent)).await?,
            FlowAction::Http(action) => {
                if self.wanted(action) {
                    let hearing = self.person.hearing();
                    let Actor { socket, person, .. } = self;
                    while_hearing(socket, &hearing, Box::pin(person.request(action, step.id))).await?;
                }
            }
            FlowAction::Log(text) => self.log(text),
            FlowAction::Loop(inner) => Box::pin(self.repeat(inner, step.id)).await?,
        }
        Ok(())
    }

    async fn repeat(&mut self, inner: &LoopAction, step: StepId) -> Result<(), Failed> {
        let (from, to) = match &inner.times {
            LoopTimes::Count { from, to } => (*from, *to),
            LoopTimes::Late(template) => {
                let count = template.render(&self.person.vars, &mut self.person.rng);
                match loop_count(&count) {
                    Some(range) => range,
                    None => {
                        let cause = format!("loop count is no number: {}", stable(&count.to_string()));
                        self.person.worker.error(step, &cause, "invalid loop count", || count.to_string());
                        return Err(Failed);
                    }
                }
            }
            LoopTimes::Over(values) => return self.repeat_over(inner, values.clone()).await,
            LoopTimes::OverVariable(name) => {
                let values =
                    self.person.vars.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
                return self.repeat_over(inner, values).await;
            }
        };
        let mut count = from;
        while to.is_none_or(|to| count < to) {
            self.person.vars.set(Arc::clone(&inner.value_name), count.into());
            self.walk(&inner.steps).await?;
            // A loop around nothing that waits must not hold the thread.
            tokio::task::coop::consume_budget().await;
            count += 1;
        }
        Ok(())
    }

    async fn repeat_over(&mut self, inner: &LoopAction, values: Vec<Value>) -> Result<(), Failed> {
        for value in values {
            self.person.vars.set(Arc::clone(&inner.value_name), value);
            self.walk(&inner.steps).await?;
            tokio::task::coop::consume_budget().await;
        }
        Ok(())
    }

    fn log(&mut self, text: &Template) {
        let text = text.render_text(&self.person.vars, &mut self.person.rng).into_owned();
        self.person.worker.trace(|tracer| tracer.note(&format!("  {text}")));
        // Nobody listens any more when the run is being torn down.
        let _ = self.person.worker.shared.log.send(text);
    }

    /// `ifTrue` and `probability`.
    fn wanted(&mut self, action: &crate::flow::HttpAction) -> bool {
        let Person { vars, rng, .. } = &mut self.person;
        if let Some(chance) = &action.spec.probability {
            let chance = chance.render(vars, rng);
            let chance = chance.as_f64().or_else(|| text_of(&chance).parse().ok()).unwrap_or(100.0);
            if rng.f64() * 100.0 >= chance {
                return false;
            }
        }
        match (&action.condition, &action.spec.if_true) {
            (Some(expression), _) => expression.holds_for(&|name| vars.get(name).cloned()).unwrap_or(true),
            (None, Some(template)) if !template.is_constant() => {
                !matches!(template.render(vars, rng), Value::Null | Value::Bool(false))
            }
            _ => true,
        }
    }

    fn pause_length(
        &mut self,
        step: StepId,
        pause: &Think,
        jitter: Option<Jitter>,
    ) -> Result<Duration, Failed> {
        let Person { vars, rng, worker, .. } = &mut self.person;
        let pause = match pause {
            Think::Fixed(pause) => *pause,
            Think::Late(template) => {
                let text = template.render_text(vars, rng);
                match read_duration(&text) {
                    Some(pause) => pause,
                    None => {
                        worker.error(step, "think is no duration", "invalid think", || text.into_owned());
                        return Err(Failed);
                    }
                }
            }
        };
        let Some(jitter) = jitter else { return Ok(pause) };
        let spread = match jitter {
            Jitter::Absolute(spread) => spread.as_secs_f64(),
            Jitter::Percent(percent) => pause.as_secs_f64() * percent / 100.0,
        };
        let seconds = pause.as_secs_f64() + (rng.f64() * 2.0 - 1.0) * spread;
        Ok(Duration::from_secs_f64(seconds.max(0.0)))
    }

    /// Waits, and hears what the server says meanwhile.
    pub(crate) async fn pause(&mut self, pause: Duration) {
        let until = tokio::time::Instant::now() + pause;
        let hearing = self.person.hearing();
        while_hearing(&mut self.socket, &hearing, tokio::time::sleep_until(until)).await;
    }

    /// Reads what has come meanwhile, and so learns that the server has ended the connection before anybody leaves it.
    pub(crate) async fn look_up(&mut self) {
        if let Some(open) = &mut self.socket {
            let hearing = self.person.hearing();
            if let Err(closed) = open.link.visit_ready(|came| hearing.came(&came)).await {
                hearing.lost(&closed);
                lose(&mut self.socket);
            }
        }
    }

    /// Leaves as the official clients do.
    pub(crate) async fn leave(&mut self) {
        if let Some(open) = self.socket.take() {
            let hearing = self.person.hearing();
            let OpenSocket { mut link, mut posts, open, .. } = *open;
            self.left = true;
            let posted = link.socketio().and_then(|client| client.posted());
            let (given, taken) = posted.unwrap_or_default();
            let messages = &open.0.shared.messages;
            posts.retain(|(at, _)| posted.is_some() && *at > taken);
            // Until the server has answered: who leaves may be cut off.
            posts.iter().for_each(|&(_, message)| messages.set_status(message, Status::Unanswered));
            // Boxed: a user that thinks need not hold the room for it.
            let closed = Box::pin(link.close_visiting(|came| hearing.came(&came))).await;
            let unsent = if let Closed::Unsent { packets, .. } = &closed { *packets } else { 0 };
            for (at, message) in posts {
                if at <= given.saturating_sub(unsent) {
                    messages.set_status(message, Status::Written);
                }
            }
            if let Closed::Unsent { packets, .. } = &closed {
                let cause = format!("leaving: {closed}");
                let sample = || format!("{cause} ({packets} packets)");
                self.person.worker.error(self.person.last_emit, &cause, "disconnect", sample);
            }
        }
    }
}

/// `5`, `"5"`, `"2-7"`; -1 is for ever.
fn loop_count(value: &Value) -> Option<(i64, Option<i64>)> {
    let text = text_of(value);
    let text = text.trim();
    if let Ok(count) = text.parse::<i64>() {
        return Some((0, (count >= 0).then_some(count)));
    }
    let (from, to) = text.split_once('-')?;
    Some((from.trim().parse().ok()?, Some(to.trim().parse().ok()?)))
}

/// Seconds, or a number with a unit, known only when the user gets there.
fn read_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let number: f64 = text[..split].parse().ok()?;
    let unit = match text[split..].trim() {
        "" | "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
        "ms" | "msec" | "msecs" | "millisecond" | "milliseconds" => 0.001,
        "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
        "h" | "hr" | "hrs" | "hour" | "hours" => 3600.0,
        "d" | "day" | "days" => 86_400.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number * unit).ok().filter(|pause| *pause < Duration::from_secs(366 * 86_400))
}

/// Alive from its arrival to its last step, whatever ends it.
struct Alive(Rc<Worker>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.users.set(self.0.users.get() - 1);
        self.0.shared.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A random generator that depends on the seed and the number alone.
pub(crate) fn rng_of(seed: u64, number: u64) -> fastrand::Rng {
    // SplitMix64's mixing step, so that neighbours have nothing in common.
    let mut x = seed ^ number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    fastrand::Rng::with_seed(x ^ (x >> 31))
}

/// How a user came to be due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// An arrival of the plan.
    Planned(Instant),
    /// When the slot opened, or the user ended in whose place it comes.
    Closed { at: Instant, replacing: bool },
}

/// The whole life of a user but for its leaving, which is the caller's. The caller has counted it among the living.
pub(crate) async fn live(worker: &Rc<Worker>, arrival: u64, due: Due) -> Actor {
    let started = Instant::now();
    let shared = Arc::clone(&worker.shared);
    worker.users.set(worker.users.get() + 1);
    let alive = Alive(Rc::clone(worker));
    let mut rng = rng_of(shared.seed, arrival);
    let scenario = shared.choose(&mut rng);
    let due = {
        let mut recorder = worker.recorder.borrow_mut();
        recorder.count(Count::UsersCreated);
        recorder.scenario(scenario.id);
        match due {
            Due::Planned(due) => {
                recorder.time(Time::StartLateness, started.saturating_duration_since(due));
                due
            }
            // A closed phase asks for a number of users and not for an instant, so nobody is late.
            Due::Closed { at, replacing } => {
                recorder.add(shared.replacements, u64::from(replacing));
                at
            }
        }
    };
    let vars = shared.vars.get().expect("set before the first phase").user(arrival, &mut rng);
    let mut actor = Actor::new(worker, &scenario.flow, vars, rng, due);
    actor.person.measured = true;
    let done = actor.perform(&scenario.flow).await;
    worker.trace(|tracer| {
        let end = if done.is_ok() { "completed" } else { "FAILED" };
        tracer.note(&format!("user {end} after {:.3} s", started.elapsed().as_secs_f64()));
    });
    {
        let mut recorder = worker.recorder.borrow_mut();
        match done {
            Ok(()) => {
                recorder.count(Count::UsersCompleted);
                recorder.time(Time::SessionLength, started.elapsed());
            }
            Err(Failed) => recorder.count(Count::UsersFailed),
        }
    }
    drop(alive);
    actor
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn complaints_name_the_field_and_nothing_that_differs() {
        let rows = [
            (
                json!({"status": 400, "code": 10400, "message": "bad", "errors": {"messageData.lng": {"message": "is no number"}}}),
                "exception 400: messageData.lng",
            ),
            (
                json!({"status": 401, "message": "token of user 4711 has expired"}),
                "exception 401: token of user N has expired",
            ),
            (json!({"errors": {"a": {}, "b": {}}}), "exception: a, b"),
            (json!("no room 17"), "exception: no room N"),
            (json!(null), "exception"),
            (json!({"status": 429}), "exception 429"),
        ];
        for (payload, expected) in rows {
            assert_eq!(complaint_cause("exception", &payload), expected, "{payload}");
        }
    }

    #[test]
    fn late_durations_and_counts() {
        let rows = [
            ("1", Some(1_000)),
            ("0.5", Some(500)),
            ("250ms", Some(250)),
            ("2 m", Some(120_000)),
            ("1h", Some(3_600_000)),
            ("soon", None),
            ("-1", None),
            ("1e9", None),
            ("99999999999", None),
        ];
        for (text, expected) in rows {
            assert_eq!(read_duration(text), expected.map(Duration::from_millis), "{text}");
        }
        assert_eq!(loop_count(&json!(3)), Some((0, Some(3))));
        assert_eq!(loop_count(&json!("2-5")), Some((2, Some(5))));
        assert_eq!(loop_count(&json!(-1)), Some((0, None)));
        assert_eq!(loop_count(&json!("many")), None);
    }

    #[test]
    fn neighbours_have_random_numbers_of_their_own_and_a_seed_repeats_them() {
        let draw = |seed, number| rng_of(seed, number).u64(..);
        assert_eq!(draw(1, 5), draw(1, 5));
        assert_ne!(draw(1, 5), draw(1, 6));
        assert_ne!(draw(1, 5), draw(2, 5));
    }
}

//! Clients that poll. Each request is answered with `Connection: close`, so each comes on a connection of its own.

use std::time::Duration;

use anyhow::{Result, ensure};
use socketio_client::{Options, Revision, Transport, connect};

use crate::client_side::{Listener, Request};
use crate::payload::join;
use crate::rule::{self, rules};

rules! {
    mod client_3 = EngineIo3, "Clients: polling and upgrading", "#transport-upgrading";
    /// A session over polling begins with a GET without `sid`; every later request names its session.
    client every_request_names_its_session_3 => "`EIO=3&transport=polling`, then `sid` as well";
    /// A client sends `upgrade` only once polling is paused: its GET has been answered.
    none the_client_pauses_before_it_upgrades_3 => "tested beside the client, in `crates/socketio-client/tests/upgrade.rs`";
}

rules! {
    mod client_4 = EngineIo4, "Clients: polling and upgrading", "#upgrade";
    /// A session over polling begins with a GET without `sid`; every later request names its session.
    client every_request_names_its_session_4 => "`EIO=4&transport=polling`, then `sid` as well";
    /// A client has one GET at a time.
    client one_get_at_a_time => "no request while one waits";
    /// A client has one POST at a time; what it says meanwhile waits for the answer.
    client one_post_at_a_time => "no POST while one is under way";
    /// To upgrade, a client probes, pauses polling, and sends `upgrade` once its GET has been answered.
    none the_client_pauses_before_it_upgrades_4 => "tested beside the client, in `crates/socketio-client/tests/upgrade.rs`";
}

/// Long enough for a client to do what it should not.
const SOON: Duration = Duration::from_millis(100);

fn rule_revision(revision: Revision) -> rule::Revision {
    match revision {
        Revision::V3 => rule::Revision::V3,
        Revision::V4 => rule::Revision::V4,
    }
}

fn body(revision: Revision, packets: &[&str]) -> String {
    join(rule_revision(revision), packets)
}

/// The requests of one session, told apart: a GET that waits is kept while a POST is looked for.
struct Requests<'a> {
    listener: &'a Listener,
    revision: Revision,
    waiting: Option<Request>,
}

impl<'a> Requests<'a> {
    /// Answers the handshake.
    fn open(listener: &'a Listener, revision: Revision, upgrades: &str) -> Result<Self> {
        let request = listener.accept()?;
        ensure!(request.line.starts_with("GET "), "{}", request.line);
        ensure!(request.query("EIO") == Some(rule_revision(revision).pick("3", "4")), "{}", request.line);
        ensure!(request.query("transport") == Some("polling"), "{}", request.line);
        ensure!(request.query("sid").is_none(), "{}", request.line);
        let open = format!(
            r#"0{{"sid":"engine","upgrades":[{upgrades}],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}}"#
        );
        request.answer(&body(revision, &[&open]))?;
        Ok(Self { listener, revision, waiting: None })
    }

    /// Up to the connected default namespace.
    fn greet(listener: &'a Listener, revision: Revision, upgrades: &str) -> Result<Self> {
        let mut requests = Self::open(listener, revision, upgrades)?;
        if revision == Revision::V4 {
            requests.post("40")?.answer("ok")?;
        }
        let answer = rule_revision(revision).pick("40", r#"40{"sid":"socket"}"#);
        requests.get()?.answer(&body(revision, &[answer]))?;
        Ok(requests)
    }

    fn next(&self) -> Result<Request> {
        let request = self.listener.accept()?;
        ensure!(request.query("sid") == Some("engine"), "{}", request.line);
        Ok(request)
    }

    fn get(&mut self) -> Result<Request> {
        if let Some(request) = self.waiting.take() {
            return Ok(request);
        }
        let request = self.next()?;
        ensure!(request.line.starts_with("GET "), "{}", request.line);
        Ok(request)
    }

    /// The next POST, which must bring this one packet.
    fn post(&mut self, packet: &str) -> Result<Request> {
        loop {
            let mut request = self.next()?;
            if request.line.starts_with("GET ") {
                ensure!(self.waiting.is_none(), "a second GET while one waits");
                self.waiting = Some(request);
                continue;
            }
            ensure!(request.line.starts_with("POST "), "{}", request.line);
            ensure!(request.query("transport") == Some("polling"), "{}", request.line);
            let (got, expected) = (request.body()?, body(self.revision, &[packet]));
            ensure!(got == expected, "expected {expected:?}, got {got:?}");
            return Ok(request);
        }
    }
}

fn every_request_names_its_session_3(listener: &Listener) -> Result<()> {
    every_request_names_its_session(listener, Revision::V3)
}

fn every_request_names_its_session_4(listener: &Listener) -> Result<()> {
    every_request_names_its_session(listener, Revision::V4)
}

fn every_request_names_its_session(listener: &Listener, revision: Revision) -> Result<()> {
    listener.play(
        async move |options| {
            let options = Options { revision, transport: Transport::Polling, ..options };
            let mut client = connect(&options).await?.client;
            client.emit("/", "message", "1").await?;
            let event = client.next().await?;
            ensure!(event.data == r#"["message-back",1]"#, "{event:?}");
            client.abort();
            Ok(())
        },
        |listener| {
            let mut requests = Requests::greet(listener, revision, "")?;
            requests.post(r#"42["message",1]"#)?.answer("ok")?;
            requests.get()?.answer(&body(revision, &[r#"42["message-back",1]"#]))
        },
    )
}

fn one_get_at_a_time(listener: &Listener) -> Result<()> {
    listener.play(
        async |options| {
            let mut client = connect(&Options { transport: Transport::Polling, ..options }).await?.client;
            client.next().await?;
            client.abort();
            Ok(())
        },
        |listener| {
            let mut requests = Requests::greet(listener, Revision::V4, "")?;
            let waiting = requests.get()?;
            ensure!(listener.is_silent_for(SOON)?, "a request while a GET waits");
            waiting.answer(r#"42["end"]"#)
        },
    )
}

fn one_post_at_a_time(listener: &Listener) -> Result<()> {
    listener.play(
        async |options| {
            let mut client = connect(&Options { transport: Transport::Polling, ..options }).await?.client;
            for n in 0..2 {
                client.emit("/", "message", &n.to_string()).await?;
            }
            client.next().await?;
            client.abort();
            Ok(())
        },
        |listener| {
            let mut requests = Requests::greet(listener, Revision::V4, "")?;
            for n in 0..2 {
                let post = requests.post(&format!(r#"42["message",{n}]"#))?;
                if requests.waiting.is_none() {
                    requests.waiting = Some(requests.get()?);
                }
                ensure!(listener.is_silent_for(SOON)?, "a request while a POST is under way");
                post.answer("ok")?;
            }
            requests.get()?.answer(r#"42["end"]"#)
        },
    )
}

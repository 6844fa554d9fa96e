//! Coming back: a client that connects again after it lost its connection, as the official clients do.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::backoff::Backoff;
use crate::client::{Client, Connected, Incoming, Kind, connect};
use crate::error::{Cause, Closed, ConnectError};
use crate::options::Options;

/// A client that comes back. It starts no task: it waits, connects and hears while its user does, and every
/// wait can be cancelled and taken up again.
///
/// What the server forgets with a connection (places, subscriptions) is its user's to say again, after each
/// [`Reconnecting::connected`].
///
/// ```no_run
/// # use socketio_client::{Backoff, Options, Reconnecting};
/// # use std::ops::ControlFlow;
/// # async fn example(options: Options) {
/// let mut link = Reconnecting::new(options, Backoff::new(1));
/// let ended = loop {
///     let client = match link.connected(|attempt| println!("{attempt}")).await {
///         Ok(client) => client,
///         Err(ended) => break ended,
///     };
///     let _ = client.emit("/", "store", r#"{"position":[127.0276,37.4979],"radius":500}"#).await;
///     let heard = link.visit(|incoming| {
///         println!("{:?}", incoming.event_name());
///         ControlFlow::<()>::Continue(())
///     });
///     if let Err(lost) = heard.await {
///         println!("{lost}");
///     }
/// };
/// println!("{ended}");
/// # }
/// ```
#[derive(Debug)]
pub struct Reconnecting {
    options: Options,
    backoff: Backoff,
    /// How many attempts in a row may fail; `None`: any number.
    attempts: Option<u32>,
    client: Option<Client>,
    /// An attempt has failed or a connection was lost, so that the next attempt is waited for.
    lost: bool,
    /// When the next attempt is due. Kept while a wait is cancelled.
    due: Option<Instant>,
    ended: Option<Ended>,
}

/// What is tried and what comes of it.
#[derive(Debug)]
pub enum Attempt<'a> {
    /// The next attempt comes after a wait.
    Waiting {
        /// Which it is, from 1, since the last success.
        number: u32,
        /// How long.
        delay: Duration,
    },
    /// It failed.
    Failed {
        /// Which it was; 0 is the first connect of all, which nothing was waited for.
        number: u32,
        /// Stage and cause.
        error: &'a ConnectError,
    },
    /// It succeeded.
    Connected {
        /// Which it was; 0 as for `Failed`.
        number: u32,
        /// Stages, session id and what the namespace said.
        connected: &'a Connected,
    },
}

/// Why nothing more is tried by itself.
#[derive(Clone, Debug)]
pub enum Ended {
    /// The server disconnected the namespace, which is its way to say: stay away.
    Disconnected,
    /// The server refused the namespace, and would again. The next call tries at once, with other options perhaps
    /// (a fresh token, see [`Reconnecting::options_mut`]).
    Refused(Arc<ConnectError>),
    /// As many attempts as are allowed have failed; this was the last.
    GaveUp(Arc<ConnectError>),
}

/// What ended a [`Reconnecting::visit`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The connection ended, and may be made anew.
    Closed(Closed),
    /// The server disconnected the namespace.
    Disconnected,
    /// There was none.
    NotConnected,
}

impl Reconnecting {
    /// Nothing is done until [`Reconnecting::connected`]. Any number of attempts is made.
    pub fn new(options: Options, backoff: Backoff) -> Self {
        Self { options, backoff, attempts: None, client: None, lost: false, due: None, ended: None }
    }

    /// Gives up after so many failed attempts in a row (`reconnectionAttempts`).
    #[must_use]
    pub fn with_attempts(mut self, attempts: u32) -> Self {
        self.attempts = Some(attempts);
        self
    }

    /// What is connected to; a change counts from the next attempt on, so that a token can be renewed.
    pub fn options_mut(&mut self) -> &mut Options {
        &mut self.options
    }

    /// The client, if it is connected as far as is known.
    pub fn client(&mut self) -> Option<&mut Client> {
        self.client.as_mut()
    }

    /// The client that is connected; where there is none, waits and tries until there is. Each wait, failure and
    /// success goes to `tell`. The first connect of all is tried at once.
    ///
    /// # Errors
    /// When nothing more is to be tried by itself.
    pub async fn connected(&mut self, mut tell: impl FnMut(Attempt<'_>)) -> Result<&mut Client, Ended> {
        while self.client.is_none() {
            if let Some(ended) = &self.ended {
                return Err(ended.clone());
            }
            if self.lost {
                self.lost = false;
                let delay = self.backoff.next_delay();
                self.due = Some(Instant::now() + delay);
                tell(Attempt::Waiting { number: self.backoff.attempts(), delay });
            }
            if let Some(due) = self.due {
                sleep_until(due).await;
            }
            let number = self.backoff.attempts();
            match connect(&self.options).await {
                Ok(connected) => {
                    tell(Attempt::Connected { number, connected: &connected });
                    self.backoff.reset();
                    self.due = None;
                    self.client = Some(connected.client);
                }
                Err(error) => {
                    tell(Attempt::Failed { number, error: &error });
                    if let Cause::Refused { .. } = error.cause() {
                        self.due = None;
                        return Err(Ended::Refused(Arc::new(error)));
                    }
                    self.lost = true;
                    if self.attempts.is_some_and(|most| number >= most) {
                        self.ended = Some(Ended::GaveUp(Arc::new(error)));
                    }
                }
            }
        }
        Ok(self.client.as_mut().expect("the loop ends with it"))
    }

    /// [`Client::visit`], which also watches for the end: whether the server disconnects the namespace of the
    /// options (which is visited too, and after which nothing is tried any more) or the connection is lost.
    ///
    /// # Errors
    /// What ended it. [`Reconnecting::connected`] then says how it goes on.
    pub async fn visit<B>(
        &mut self,
        mut visit: impl FnMut(Incoming<'_>) -> ControlFlow<B>,
    ) -> Result<B, Lost> {
        let Self { client, options, .. } = self;
        let Some(open) = client else { return Err(Lost::NotConnected) };
        let outcome = open
            .visit(|incoming| {
                let stay_away = incoming.kind == Kind::Disconnect && incoming.namespace == options.namespace;
                match visit(incoming) {
                    _ if stay_away => ControlFlow::Break(None),
                    flow => flow.map_break(Some),
                }
            })
            .await;
        match outcome {
            Ok(Some(value)) => Ok(value),
            Ok(None) => {
                self.ended = Some(Ended::Disconnected);
                // As the official clients do, where no other namespace needs the connection.
                if let Some(client) = self.client.take() {
                    client.close().await;
                }
                Err(Lost::Disconnected)
            }
            Err(closed) => {
                self.client = None;
                self.lost = true;
                Err(Lost::Closed(closed))
            }
        }
    }

    /// Leaves for good. Answers how the connection ended, if there was one.
    pub async fn close(mut self) -> Option<Closed> {
        match self.client.take() {
            Some(client) => Some(client.close().await),
            None => None,
        }
    }
}

impl fmt::Display for Attempt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Attempt::Waiting { number, delay } => {
                write!(f, "attempt {number} in {:.1} s", delay.as_secs_f64())
            }
            Attempt::Failed { number, error } => write!(f, "attempt {number}: {error}"),
            Attempt::Connected { number, .. } => write!(f, "attempt {number}: connected"),
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::Disconnected => f.write_str("disconnected by the server"),
            Ended::Refused(error) => error.fmt(f),
            Ended::GaveUp(error) => write!(f, "gave up: {error}"),
        }
    }
}

impl std::error::Error for Ended {}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lost::Closed(closed) => closed.fmt(f),
            Lost::Disconnected => f.write_str("disconnected by the server"),
            Lost::NotConnected => f.write_str("not connected"),
        }
    }
}

impl std::error::Error for Lost {}

//! A rule of a specification, and the case that checks it.

use anyhow::Result;

use crate::client_side::Listener;
use crate::subject::Subject;

/// The five specifications a Socket.IO server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Spec {
    EngineIo3,
    EngineIo4,
    SocketIo4,
    SocketIo5,
    WebSocket,
}

impl Spec {
    pub const ALL: [Spec; 5] =
        [Spec::EngineIo3, Spec::EngineIo4, Spec::SocketIo4, Spec::SocketIo5, Spec::WebSocket];

    pub fn name(self) -> &'static str {
        match self {
            Spec::EngineIo3 => "Engine.IO 3",
            Spec::EngineIo4 => "Engine.IO 4",
            Spec::SocketIo4 => "Socket.IO 4",
            Spec::SocketIo5 => "Socket.IO 5",
            Spec::WebSocket => "WebSocket (RFC 6455)",
        }
    }

    /// Where the specification can be read; anchors follow.
    pub fn url(self) -> &'static str {
        match self {
            Spec::EngineIo3 => {
                "https://github.com/socketio/socket.io/blob/main/docs/engine.io-protocol/v3.md"
            }
            Spec::EngineIo4 => {
                "https://github.com/socketio/socket.io/blob/main/docs/engine.io-protocol/v4-current.md"
            }
            Spec::SocketIo4 => {
                "https://github.com/socketio/socket.io/blob/main/docs/socket.io-protocol/v4.md"
            }
            Spec::SocketIo5 => {
                "https://github.com/socketio/socket.io/blob/main/docs/socket.io-protocol/v5-current.md"
            }
            Spec::WebSocket => "https://www.rfc-editor.org/rfc/rfc6455",
        }
    }

    pub fn protocol(self) -> Protocol {
        match self {
            Spec::EngineIo3 | Spec::EngineIo4 | Spec::WebSocket => Protocol::Engine,
            Spec::SocketIo4 | Spec::SocketIo5 => Protocol::Socket,
        }
    }

    pub fn revision(self) -> Revision {
        match self {
            Spec::EngineIo3 | Spec::SocketIo4 => Revision::V3,
            Spec::EngineIo4 | Spec::SocketIo5 | Spec::WebSocket => Revision::V4,
        }
    }
}

/// What the server under test does with messages: `protocol-echo --protocol engine|socket`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Path `/engine.io/`; each message comes back.
    Engine,
    /// Path `/socket.io/`; `message` and `message-with-ack` come back, in `/` and `/custom`.
    Socket,
}

/// The Engine.IO revision a case speaks: what `EIO` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Revision {
    V3,
    V4,
}

impl Revision {
    pub(crate) fn number(self) -> u8 {
        match self {
            Revision::V3 => 3,
            Revision::V4 => 4,
        }
    }

    /// One of two values.
    pub(crate) fn pick<T>(self, v3: T, v4: T) -> T {
        match self {
            Revision::V3 => v3,
            Revision::V4 => v4,
        }
    }
}

/// Rules that stand under one heading of a specification.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    pub spec: Spec,
    /// The heading, as the specification has it; for an RFC its number and title.
    pub heading: &'static str,
    /// What follows the specification's address, such as `#heartbeat`.
    pub anchor: &'static str,
    /// The source file of the cases, from the root of the workspace.
    pub file: &'static str,
    pub rules: &'static [Rule],
}

#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Name of the case's function, used once in a file for one specification.
    pub name: &'static str,
    /// The rule in our own words, as doc comments have them: a space before each line.
    pub text: &'static str,
    /// What must come back, or why there is no case.
    pub answer: &'static str,
    pub case: Case,
}

#[derive(Clone, Copy, Debug)]
pub enum Case {
    /// Speaks to a server.
    Server(fn(&Subject) -> Result<()>),
    /// Is spoken to by a client: `socketio-client`.
    Client(fn(&Listener) -> Result<()>),
    /// Has no case; [`Rule::answer`] says why.
    None,
}

/// Declares the rules under one heading, and a test for each.
///
/// ```text
/// rules! {
///     mod sending_4 = EngineIo4, "Sending data", "#sending-data";
///     /// The rule, a sentence.
///     server function_of_the_case => "what must come back";
///     /// A rule of clients.
///     client another_function => "what the client must do";
///     /// A rule without a case.
///     none name => "why";
/// }
/// ```
macro_rules! rules {
    (
        mod $module:ident = $spec:ident, $heading:literal, $anchor:literal;
        $($(#[doc = $text:literal])+ $side:ident $name:ident => $answer:literal;)+
    ) => {
        pub(crate) mod $module {
            use crate::rule::{Rule, Section, Spec};

            pub(crate) static SECTION: Section = Section {
                spec: Spec::$spec,
                heading: $heading,
                anchor: $anchor,
                file: file!(),
                rules: &[$(Rule {
                    name: stringify!($name),
                    text: concat!($($text),+),
                    answer: $answer,
                    case: $crate::rule::rules!(@case $side $name),
                }),+],
            };

            $($crate::rule::rules!(@test $side $name);)+
        }
    };
    (@case server $name:ident) => { $crate::rule::Case::Server(super::$name) };
    (@case client $name:ident) => { $crate::rule::Case::Client(super::$name) };
    (@case none $name:ident) => { $crate::rule::Case::None };
    (@test none $name:ident) => {};
    (@test $side:ident $name:ident) => {
        #[cfg(test)]
        #[test]
        fn $name() {
            $crate::run::test(&SECTION, stringify!($name));
        }
    };
}

pub(crate) use rules;

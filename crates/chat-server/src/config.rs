//! Settings: flags over environment (`DNA_...`) over the TOML file over defaults.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use socketio_server::CloseCode;

use crate::limits::Rate;
use crate::rotation::Tokens;
use crate::storage::Durability;
use crate::tls::TlsFiles;

/// A reader that does not keep up is asked to come back and catch up.
pub(crate) const SLOW_CLOSE: CloseCode = CloseCode::SLOW_CONSUMER;

/// Everything `dna.toml` may say. Unknown keys are refused by name and line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address and port to listen on.
    pub listen: SocketAddr,
    /// Data directory; absent: see [`default_data_dir`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    /// Threads with connections; 0: one per core.
    pub workers: usize,
    /// What an acknowledged message survives: `power` or `process`.
    pub durability: Durability,
    /// Whether what goes to many hearers is handed to the kernel in one call (`io_uring`): `on`, `off`, or `auto` (where
    /// that is measured to be cheaper at the start).
    pub batch: Batch,
    /// Who may enter the test world without a test token: `open`, `closed`, or `auto` (open on loopback).
    pub test_world: TestWorld,
    pub limits: Limits,
    pub chat: ChatSettings,
    pub retention: Retention,
    pub sockets: Sockets,
    pub tls: TlsSettings,
    /// The secret before this one.
    pub tokens: Tokens,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Batch {
    Auto,
    On,
    Off,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum TestWorld {
    Auto,
    Open,
    Closed,
}

/// Token buckets; `enabled = false` or `--no-limits` turns all of them off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    pub enabled: bool,
    /// Events of any kind on one connection.
    pub per_connection: Rate,
    /// Messages of one user, over all connections.
    pub per_user: Rate,
    /// Messages written in one area of about 2 km.
    pub per_place: Rate,
    /// New connections from one address (of IPv6 one /64); trusted proxies are exempt, and loopback where it is.
    pub per_address: Rate,
    /// Connections of one address at a time, and its polling sessions on each worker; the same are exempt.
    pub connections_per_address: usize,
    pub exempt_loopback: bool,
    pub trusted_proxies: Vec<IpAddr>,
    /// Connections on which no request is being answered and no session lives, and sessions that have joined
    /// nothing, in the whole process, shared evenly by the workers; beyond, the one that has waited longest is
    /// closed. Holds whether limits are enabled or not, and never takes more than half of the descriptors. After a
    /// restart a whole town waits at once.
    pub waiting_connections: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChatSettings {
    /// Largest hearing radius and LoudSpeaker reach, metres; at most 100,000.
    pub max_radius_m: f64,
    /// A LoudSpeaker's reach where neither the message nor the sender's own radius says.
    pub default_reach_m: f64,
    /// Time between two `speaker` alerts on one connection, milliseconds.
    pub alert_interval_ms: u64,
}

/// How long messages are kept, hours; 0: for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    pub live_hours: u64,
    pub test_hours: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sockets {
    /// Serve HTTP long polling beside WebSockets.
    pub polling: bool,
    pub ping_interval_ms: u64,
    pub ping_timeout_ms: u64,
    /// Largest message a client may send, bytes.
    pub max_payload: usize,
    /// What may wait for one slow reader, bytes and milliseconds; then it is closed with 4008.
    pub outbox_bytes: usize,
    pub outbox_age_ms: u64,
    /// How long a session may live without having joined the namespace (1008), milliseconds.
    pub connect_ms: u64,
    /// How long the head of a request may take, milliseconds.
    pub head_ms: u64,
    /// How long a message that has begun may take to be complete (1008), a request's body too (408), milliseconds.
    pub message_ms: u64,
    /// What unfinished messages of one worker's clients may hold together, bytes; beyond, whoever holds most is
    /// closed (1013). As much again for bodies of requests (503).
    pub input_bytes: usize,
    /// How long SIGTERM waits for queues to empty, milliseconds.
    pub drain_ms: u64,
    /// Origins whose pages may connect (polling needs it); empty: any.
    pub allowed_origins: Vec<String>,
}

/// PEM files, relative to the settings file; without them `dna` speaks plain HTTP.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsSettings {
    /// The server's certificate, then those that lead to its authority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// Its private key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9013)),
            data: None,
            workers: 0,
            durability: Durability::Power,
            batch: Batch::Auto,
            test_world: TestWorld::Auto,
            limits: Limits::default(),
            chat: ChatSettings::default(),
            retention: Retention::default(),
            sockets: Sockets::default(),
            tls: TlsSettings::default(),
            tokens: Tokens::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            enabled: true,
            per_connection: Rate { per_second: 20.0, burst: 100.0 },
            per_user: Rate { per_second: 5.0, burst: 20.0 },
            per_place: Rate { per_second: 1000.0, burst: 5000.0 },
            per_address: Rate { per_second: 50.0, burst: 500.0 },
            connections_per_address: 2000,
            exempt_loopback: true,
            trusted_proxies: Vec::new(),
            waiting_connections: 10_000,
        }
    }
}

impl Default for ChatSettings {
    fn default() -> Self {
        Self { max_radius_m: 20_000.0, default_reach_m: 500.0, alert_interval_ms: 2000 }
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self { live_hours: 0, test_hours: 24 }
    }
}

impl Default for Sockets {
    fn default() -> Self {
        Self {
            polling: true,
            ping_interval_ms: 25_000,
            ping_timeout_ms: 20_000,
            max_payload: 1_000_000,
            outbox_bytes: 1 << 20,
            outbox_age_ms: 10_000,
            connect_ms: 45_000,
            head_ms: 10_000,
            message_ms: 30_000,
            input_bytes: 64 << 20,
            drain_ms: 10_000,
            allowed_origins: Vec::new(),
        }
    }
}

impl Config {
    /// Reads a file; `None`: `dna.toml` in the working directory when there is one, else the defaults.
    ///
    /// # Errors
    /// When the file cannot be read or says something unknown or impossible; names file, line and key.
    pub fn read(path: Option<&Path>) -> anyhow::Result<Self> {
        let (path, required) = match path {
            Some(path) => (path.to_owned(), true),
            None => (PathBuf::from("dna.toml"), false),
        };
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                let mut config: Self =
                    toml::from_str(&text).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
                let TlsSettings { certificate, key } = &mut config.tls;
                let previous = &mut config.tokens.previous_secret_file;
                for file in [certificate, key, previous].into_iter().flatten() {
                    *file = path.with_file_name(&*file);
                }
                Ok(config)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !required => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    /// What cannot work, one sentence each.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |holds: bool, what: &str| {
            if !holds {
                problems.push(what.to_owned());
            }
        };
        let chat = &self.chat;
        check(
            chat.max_radius_m.is_finite() && (1.0..=100_000.0).contains(&chat.max_radius_m),
            "chat.max_radius_m must be between 1 and 100000 metres",
        );
        check(
            chat.default_reach_m.is_finite() && (0.0..=chat.max_radius_m).contains(&chat.default_reach_m),
            "chat.default_reach_m must be between 0 and chat.max_radius_m",
        );
        check(self.workers <= 64, "workers must be at most 64");
        let limits = &self.limits;
        for (name, rate) in [
            ("per_connection", limits.per_connection),
            ("per_user", limits.per_user),
            ("per_place", limits.per_place),
            ("per_address", limits.per_address),
        ] {
            let fine = rate.per_second.is_finite() && rate.per_second > 0.0 && rate.burst >= 1.0;
            check(fine, &format!("limits.{name} needs per_second above 0 and a burst of at least 1"));
        }
        check(limits.connections_per_address >= 1, "limits.connections_per_address must be at least 1");
        check(limits.waiting_connections >= 64, "limits.waiting_connections must be at least 64");
        let sockets = &self.sockets;
        check(sockets.ping_interval_ms >= 100, "sockets.ping_interval_ms must be at least 100");
        check(sockets.ping_timeout_ms >= 100, "sockets.ping_timeout_ms must be at least 100");
        check(
            (1024..=100_000_000).contains(&sockets.max_payload),
            "sockets.max_payload must be between 1024 and 100000000 bytes",
        );
        check(sockets.outbox_bytes >= 16 << 10, "sockets.outbox_bytes must be at least 16384");
        check(sockets.outbox_age_ms >= 100, "sockets.outbox_age_ms must be at least 100");
        check(sockets.connect_ms >= 100, "sockets.connect_ms must be at least 100");
        check(sockets.head_ms >= 100, "sockets.head_ms must be at least 100");
        check(sockets.message_ms >= 100, "sockets.message_ms must be at least 100");
        check(
            sockets.input_bytes >= sockets.max_payload,
            "sockets.input_bytes must be at least sockets.max_payload",
        );
        check(
            self.tls.certificate.is_some() == self.tls.key.is_some(),
            "tls.certificate and tls.key belong together: give both, or neither for plain HTTP",
        );
        if let Err(error) = self.tokens.previous() {
            problems.push(format!("{error:#}"));
        }
        problems
    }

    /// The files of TLS, when it is wanted.
    pub fn tls_files(&self) -> Option<TlsFiles> {
        let TlsSettings { certificate, key } = self.tls.clone();
        Some(TlsFiles { certificate: certificate?, key: key? })
    }

    pub fn worker_count(&self) -> usize {
        match self.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from).min(64),
            count => count,
        }
    }

    pub fn data_dir(&self) -> PathBuf {
        self.data.clone().unwrap_or_else(default_data_dir)
    }

    pub fn test_world_open(&self) -> bool {
        match self.test_world {
            TestWorld::Auto => self.listen.ip().is_loopback(),
            TestWorld::Open => true,
            TestWorld::Closed => false,
        }
    }

    pub(crate) fn limit(&self, rate: Rate) -> Option<Rate> {
        self.limits.enabled.then_some(rate)
    }

    fn waiting_per_worker(&self) -> usize {
        let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let half = descriptors.map_or(usize::MAX, |count| usize::try_from(count / 2).unwrap_or(usize::MAX));
        self.limits.waiting_connections.min(half).div_ceil(self.worker_count())
    }

    pub(crate) fn rules(&self) -> Rules {
        Rules {
            per_connection: self.limit(self.limits.per_connection),
            max_radius_m: self.chat.max_radius_m,
            default_reach_m: self.chat.default_reach_m,
            alert_interval: Duration::from_millis(self.chat.alert_interval_ms),
            test_world_open: self.test_world_open(),
        }
    }

    /// `batch`: as decided by [`Config::batch`].
    pub(crate) fn socket_config(&self, batch: bool) -> socketio_server::Config {
        let sockets = &self.sockets;
        socketio_server::Config {
            polling: sockets.polling,
            ping_interval: Duration::from_millis(sockets.ping_interval_ms),
            ping_timeout: Duration::from_millis(sockets.ping_timeout_ms),
            max_payload: sockets.max_payload,
            outbox_bytes: sockets.outbox_bytes,
            outbox_age: Duration::from_millis(sockets.outbox_age_ms),
            connect_timeout: Duration::from_millis(sockets.connect_ms),
            header_timeout: Duration::from_millis(sockets.head_ms),
            message_timeout: Duration::from_millis(sockets.message_ms),
            body_timeout: Duration::from_millis(sockets.message_ms),
            input_bytes: sockets.input_bytes,
            batch,
            max_waiting: self.waiting_per_worker(),
            polling_per_address: self.limits.connections_per_address,
            cors: if sockets.allowed_origins.is_empty() {
                socketio_server::Cors::Any
            } else {
                socketio_server::Cors::Origins(sockets.allowed_origins.clone())
            },
            ..socketio_server::Config::default()
        }
    }
}

/// What handlers ask on each event.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) per_connection: Option<Rate>,
    pub(crate) max_radius_m: f64,
    pub(crate) default_reach_m: f64,
    pub(crate) alert_interval: Duration,
    pub(crate) test_world_open: bool,
}

/// `$XDG_DATA_HOME/dna`, else `~/.local/share/dna`, else `./dna-data`.
pub fn default_data_dir() -> PathBuf {
    let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    from("XDG_DATA_HOME")
        .map(|base| base.join("dna"))
        .or_else(|| from("HOME").map(|home| home.join(".local/share/dna")))
        .unwrap_or_else(|| PathBuf::from("dna-data"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_sound_and_survive_being_written_down() {
        let defaults = Config::default();
        assert_eq!(defaults.problems(), Vec::<String>::new());
        // Where the journal's script looks for it.
        assert_eq!(defaults.listen.to_string(), "127.0.0.1:9013");
        let text = toml::to_string(&defaults).unwrap();
        assert_eq!(toml::from_str::<Config>(&text).unwrap(), defaults);
    }

    #[test]
    fn a_wrong_file_is_refused_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dna.toml");
        for (text, expected) in [
            ("listne = \"127.0.0.1:1\"", "listne"),
            ("[chat]\nmax_radius_m = \"far\"", "line 2"),
            ("[limits.per_user]\nper_second = 1.0", "burst"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = Config::read(Some(&path)).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("dna.toml"), "{error}");
        }
        assert!(Config::read(Some(&dir.path().join("none.toml"))).is_err());
    }

    #[test]
    fn files_it_names_lie_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dna.toml");
        let text =
            "[tls]\ncertificate = \"c.pem\"\nkey = \"/k.pem\"\n[tokens]\nprevious_secret_file = \"old\"\n";
        std::fs::write(&path, text).unwrap();
        let config = Config::read(Some(&path)).unwrap();
        assert_eq!(config.tls.certificate, Some(dir.path().join("c.pem")));
        assert_eq!(config.tls.key, Some("/k.pem".into()));
        assert_eq!(config.tokens.previous_secret_file, Some(dir.path().join("old")));
    }

    #[test]
    fn impossible_values_are_named() {
        let mut config = Config::default();
        config.chat.max_radius_m = f64::NAN;
        config.limits.per_user.burst = 0.0;
        let problems = config.problems().join("\n");
        assert!(problems.contains("chat.max_radius_m") && problems.contains("limits.per_user"), "{problems}");
    }

    #[test]
    fn the_test_world_is_open_only_on_loopback() {
        let mut config = Config::default();
        assert!(config.test_world_open());
        config.listen = "0.0.0.0:9013".parse().unwrap();
        assert!(!config.test_world_open());
    }
}

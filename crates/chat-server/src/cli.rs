//! The command line: `serve` (also without a command), `token`, `check`, `backup`, `forget-test-world`.

use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use chat_server::clock;
use chat_server::config::{Batch, Config, TestWorld, TlsSettings, default_data_dir};
use chat_server::data_dir::DataDir;
use chat_server::rotation::Secrets;
use chat_server::server;
use chat_server::storage::{Copied, Durability, back_up as back_up_database};
use chat_server::token::{Claims, MAX_SAFE_INTEGER, TokenKey, now_s};
use chat_server::world::World;
use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{Signal, SignalKind, signal};

const EXAMPLES: &str = "\
Examples:
  dna                                        serve on 127.0.0.1:9013, then open http://127.0.0.1:9013/
  dna serve --listen 0.0.0.0:80 --data /var/lib/dna
  dna serve --listen 0.0.0.0:443 --tls-certificate fullchain.pem --tls-key privkey.pem
  dna token --idx 7 --nickname Ann           a signed token for user 7
  dna token --idx 1 --count 9000 --test > tokens.csv
  dna check --config dna.toml                what is wrong with the settings, if anything
  dna backup /mnt/dna-2026-11-25.db          a copy of the live world, while dna serves or not

Settings: flags over environment (DNA_...) over dna.toml over defaults. `dna check --defaults` prints a
complete dna.toml. The secret that signs tokens is DNA_JWT_SECRET, else one made in the data directory.";

#[derive(Parser)]
#[command(
    name = "dna",
    version,
    about = "A location-based chat server: a message reaches everyone whose own circle holds its place.",
    after_help = EXAMPLES,
    args_conflicts_with_subcommands = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until SIGTERM or Ctrl-C; then finish what was accepted and ask every client to come back
    Serve(Serve),
    /// Print signed tokens, one a line
    Token(Token),
    /// Read the settings and say what is wrong with them
    Check(Check),
    /// Copy a world's database, consistent and checked, while dna serves from it or not
    Backup(BackUp),
    /// Delete everything the test world has stored
    ForgetTestWorld(DataArg),
}

#[derive(Args, Default)]
struct DataArg {
    /// Data directory [default: $XDG_DATA_HOME/dna or ~/.local/share/dna]
    #[arg(long, env = "DNA_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
}

#[derive(Args, Default)]
struct TlsArgs {
    /// Certificate chain (PEM): serve https and wss; read again on SIGHUP
    #[arg(long, env = "DNA_TLS_CERTIFICATE", value_name = "FILE")]
    tls_certificate: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, env = "DNA_TLS_KEY", value_name = "FILE")]
    tls_key: Option<PathBuf>,
}

impl TlsArgs {
    fn apply(self, config: &mut Config) {
        let TlsSettings { certificate, key } = &mut config.tls;
        *certificate = self.tls_certificate.or(certificate.take());
        *key = self.tls_key.or(key.take());
    }
}

#[derive(Args, Default)]
struct Serve {
    /// Address and port [default: 127.0.0.1:9013]
    #[arg(long, env = "DNA_LISTEN", value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    #[command(flatten)]
    data: DataArg,
    /// Settings file [default: ./dna.toml where there is one]
    #[arg(long, env = "DNA_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Threads with connections [default: one per core]
    #[arg(long, env = "DNA_WORKERS", value_name = "N")]
    workers: Option<usize>,
    /// What an acknowledged message survives [default: power]
    #[arg(long, env = "DNA_DURABILITY", value_enum, value_name = "WHAT")]
    durability: Option<Durability>,
    /// Send to many hearers in one system call (io_uring) [default: auto, which is where it is measured to be cheaper]
    #[arg(long, env = "DNA_BATCH", value_enum, value_name = "WHEN")]
    batch: Option<Batch>,
    /// Who may enter the test world with an ordinary token [default: auto, which is open on loopback only]
    #[arg(long, env = "DNA_TEST_WORLD", value_enum, value_name = "WHO")]
    test_world: Option<TestWorld>,
    /// Turn every rate limit off (load tests)
    #[arg(long, env = "DNA_NO_LIMITS")]
    no_limits: bool,
    #[command(flatten)]
    tls: TlsArgs,
    /// Write log lines as JSON
    #[arg(long, env = "DNA_LOG_JSON")]
    log_json: bool,
}

#[derive(Args)]
struct Token {
    /// The user's number; with --count the first one's
    #[arg(long, value_name = "N")]
    idx: u64,
    /// Shown beside messages; with --count numbered
    #[arg(long, value_name = "S")]
    nickname: Option<String>,
    /// How many tokens, for idx, idx+1, ...
    #[arg(long, value_name = "N", default_value_t = 1)]
    count: u64,
    /// Tokens of the test world
    #[arg(long)]
    test: bool,
    /// How long they are valid: 90s, 30m, 12h, 7d
    #[arg(long, value_name = "TIME", default_value = "12h", value_parser = parse_ttl)]
    ttl: Duration,
    #[command(flatten)]
    data: DataArg,
}

#[derive(Args)]
struct Check {
    /// Settings file [default: ./dna.toml where there is one]
    #[arg(long, env = "DNA_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    tls: TlsArgs,
    /// Print the defaults as a complete dna.toml instead
    #[arg(long)]
    defaults: bool,
}

#[derive(Args)]
struct BackUp {
    /// Where the copy goes; it appears when it is complete
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The test world instead of the live one
    #[arg(long)]
    test: bool,
    /// Replace FILE where it is there
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    data: DataArg,
}

pub(crate) fn run() -> anyhow::Result<()> {
    let cli = Cli::parse();
    match cli.command {
        None => serve(cli.serve),
        Some(Command::Serve(arguments)) => serve(arguments),
        Some(Command::Token(arguments)) => token(&arguments),
        Some(Command::Check(arguments)) => check(arguments),
        Some(Command::Backup(arguments)) => back_up(arguments),
        Some(Command::ForgetTestWorld(arguments)) => forget_test_world(arguments),
    }
}

fn serve(arguments: Serve) -> anyhow::Result<()> {
    start_log(arguments.log_json);
    crate::trace::end_on_panic(arguments.log_json);
    set_signal(libc::SIGXFSZ, libc::SIG_IGN);
    // SIGHUP ends nothing, at no time; the signals that end are caught before anyone is told that we are ready, and
    // until then they end at once.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let hup = runtime.block_on(async { signal(SignalKind::hangup()) })?;
    let config = settings(arguments)?;
    let problems = config.problems();
    if !problems.is_empty() {
        bail!("the settings do not work:\n  {}", problems.join("\n  "));
    }
    raise_descriptor_limit();
    let data = DataDir::open(&config.data_dir())?;
    let _lock = data.lock()?;
    let previous = config.tokens.previous()?;
    let secrets = Secrets { current: data.secret()?, previous };
    if secrets.previous.as_ref().is_some_and(|(previous, _)| *previous == secrets.current) {
        bail!(
            "the previous secret is the current one, so its date would end nothing: give the one before it"
        );
    }
    let listener = server::bind(config.listen)?;
    let storages = server::open_storages(&data, &config)?;
    let signals = runtime.block_on(async { Signals::new(hup) })?;
    let running = server::start(listener, &config, secrets, storages)?;
    say(&format!("dna is listening on {}  (data in {})", running.url(), config.data_dir().display()));
    let signal = runtime.block_on(signals.last(|| running.reload_tls()));
    // A second Ctrl-C is for whoever cannot wait. Not a second SIGTERM: whoever started us may send one after a
    // Ctrl-C that all of a terminal has seen.
    set_signal(libc::SIGINT, libc::SIG_DFL);
    say(&format!("{signal}: finishing what was accepted"));
    running.stop();
    Ok(())
}

/// A line on the standard output, where there still is one: whoever read it may be gone.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// SIGTERM and SIGINT end; SIGHUP reloads.
struct Signals {
    hup: Signal,
    term: Signal,
    int: Signal,
}

impl Signals {
    fn new(hup: Signal) -> std::io::Result<Self> {
        Ok(Self { hup, term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    /// Calls `reload` at each SIGHUP until a signal that ends.
    async fn last(mut self, reload: impl Fn()) -> &'static str {
        loop {
            tokio::select! {
                _ = self.hup.recv() => reload(),
                _ = self.term.recv() => return "SIGTERM",
                _ = self.int.recv() => return "SIGINT",
            }
        }
    }
}

fn settings(arguments: Serve) -> anyhow::Result<Config> {
    let mut config = Config::read(arguments.config.as_deref())?;
    if let Some(listen) = arguments.listen {
        config.listen = listen;
    }
    if arguments.data.data.is_some() {
        config.data = arguments.data.data;
    }
    if let Some(workers) = arguments.workers {
        config.workers = workers;
    }
    if let Some(durability) = arguments.durability {
        config.durability = durability;
    }
    if let Some(batch) = arguments.batch {
        config.batch = batch;
    }
    if let Some(test_world) = arguments.test_world {
        config.test_world = test_world;
    }
    if arguments.no_limits {
        config.limits.enabled = false;
    }
    arguments.tls.apply(&mut config);
    Ok(config)
}

fn start_log(json: bool) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("DNA_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        // They would go to stderr and panic when that is what fails: a full disk must not end the process.
        .log_internal_errors(false);
    if json { log.json().init() } else { log.init() }
}

/// `action`: `SIG_IGN` or `SIG_DFL`. SIGXFSZ is ignored: a file that may not grow is an error of its write, as a full
/// disk is; the default is the process's end.
fn set_signal(signal: libc::c_int, action: libc::sighandler_t) {
    // SAFETY: neither action runs code of ours.
    #[allow(unsafe_code)]
    unsafe {
        libc::signal(signal, action);
    }
}

/// One descriptor per connection: take what the system allows.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum || limit.maximum.is_none() {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
}

fn token(arguments: &Token) -> anyhow::Result<()> {
    let last = arguments.idx.checked_add(arguments.count.saturating_sub(1));
    if last.is_none_or(|last| last > MAX_SAFE_INTEGER) {
        bail!("--idx and --count go beyond {MAX_SAFE_INTEGER}, the largest number JavaScript keeps exactly");
    }
    let data = DataDir::open(&arguments.data.data.clone().unwrap_or_else(default_data_dir))?;
    let key = TokenKey::new(data.secret()?.as_slice());
    let exp = now_s() + arguments.ttl.as_secs();
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for step in 0..arguments.count {
        let nickname = arguments
            .nickname
            .as_ref()
            .map(|name| if arguments.count == 1 { name.clone() } else { format!("{name}-{}", step + 1) });
        let claims = Claims {
            idx: arguments.idx + step,
            exp,
            nickname,
            avatar: None,
            anonymity: None,
            test: arguments.test,
        };
        writeln!(out, "{}", key.sign(&claims)?).context("writing tokens")?;
    }
    out.flush().context("writing tokens")
}

fn check(arguments: Check) -> anyhow::Result<()> {
    if arguments.defaults {
        print!("{}", toml::to_string(&Config::default())?);
        return Ok(());
    }
    let mut config = Config::read(arguments.config.as_deref())?;
    arguments.tls.apply(&mut config);
    let mut problems = config.problems();
    let tls = check_tls(&config, &mut problems);
    if !problems.is_empty() {
        bail!("the settings do not work:\n  {}", problems.join("\n  "));
    }
    println!(
        "The settings work. dna would listen on {} with {} workers, keep its data in {}, and leave the test world {} to ordinary tokens.",
        config.listen,
        config.worker_count(),
        config.data_dir().display(),
        if config.test_world_open() { "open" } else { "closed" },
    );
    for line in tls {
        println!("{line}");
    }
    if let Some((_, until)) = config.tokens.previous()? {
        if until > clock::now() {
            println!("Tokens of the previous secret are accepted until {until}.");
        } else {
            println!(
                "The previous secret ended at {until}: its tokens are refused, and its two settings can go."
            );
        }
    }
    Ok(())
}

fn back_up(arguments: BackUp) -> anyhow::Result<()> {
    set_signal(libc::SIGXFSZ, libc::SIG_IGN);
    let world = if arguments.test { World::Test } else { World::Live };
    let data = arguments.data.data.unwrap_or_else(default_data_dir);
    let database = data.join(world.database_file());
    let is_watched = std::io::stderr().is_terminal();
    let mut shown = None;
    let progress = |copied: u64, all: u64| {
        let percent = copied * 100 / all.max(1);
        if is_watched && shown.replace(percent) != Some(percent) {
            eprint!("\rcopied {percent} % of {all} pages");
        }
    };
    let copied = back_up_database(&database, &arguments.file, arguments.force, progress);
    if is_watched {
        eprintln!();
    }
    let Copied { messages, bytes } = copied?;
    let file = arguments.file.display();
    println!("{messages} messages of the {} world are in {file}: {bytes} bytes, checked.", world.name());
    println!(
        "To restore: stop dna, remove {0}, {0}-wal and {0}-shm, copy {file} to {0}, give it to the user dna runs as (chown --reference={1} {0}), start dna.",
        database.display(),
        data.display(),
    );
    println!("Tokens stay good only with the secret they were signed with; it is not in the copy.");
    Ok(())
}

/// Reads the TLS files, if any: adds what is wrong to `problems`, gives what else is to be said.
fn check_tls(config: &Config, problems: &mut Vec<String>) -> Vec<String> {
    let Some(files) = config.tls_files() else { return Vec::new() };
    match files.read() {
        Err(error) => {
            problems.push(error.to_string());
            Vec::new()
        }
        Ok(identity) => {
            let path = files.certificate.display();
            problems.extend(identity.invalid(now_s()).map(|why| format!("{path}: {why}")));
            let mut lines = vec![format!("TLS: {path} is valid until {}.", identity.until())];
            lines.extend(
                identity.warnings(&files, now_s()).into_iter().map(|line| format!("Warning: {line}")),
            );
            lines
        }
    }
}

fn forget_test_world(arguments: DataArg) -> anyhow::Result<()> {
    let path = arguments.data.unwrap_or_else(default_data_dir);
    let data = DataDir::open(&path)?;
    let _lock = data.lock().context("forgetting needs the server stopped")?;
    if data.forget_test_world()? {
        println!("The test world in {} is forgotten; the live one is as it was.", path.display());
    } else {
        println!("There is no test world in {}.", path.display());
    }
    Ok(())
}

fn parse_ttl(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration; write 90s, 30m, 12h or 7d");
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    number.checked_mul(seconds).filter(|s| *s <= 10 * 365 * 86_400).map(Duration::from_secs).ok_or_else(wrong)
}

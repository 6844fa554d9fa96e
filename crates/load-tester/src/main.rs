//! `drumfire`: what was typed -> a script -> a run -> its story.

// These panic where nobody reads or a disk is full; `tell!` and `print` do not.
#![deny(clippy::print_stderr, clippy::print_stdout)]

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Parser as _;
use load_tester::cli::{CheckArgs, Cli, Command, DebugArgs, Format, ReportArgs, RunArgs, ScriptArgs};
use load_tester::exit;
use load_tester::live::Live;
use load_tester::outcome::Outcome;
use load_tester::outputs;
use load_tester::report::{self, Console, Form, Loaded, form};
use load_tester::run::{Progress, RunOptions, debug, run};
use load_tester::screen::{self, Screen};
use load_tester::script::model::{Script, Warning};
use load_tester::script::{self, summary};
use load_tester::signals;

/// To standard error, a line. Nobody there to read it, or no room, is no reason to stop a run; `eprintln!` would panic.
macro_rules! tell {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr().lock(), $($words)*);
    }};
}
mod commands;

/// Thousands of small allocations a second, many threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Artillery's code for a script or command that cannot be run.
const SCRIPT_ERROR: u8 = 1;

fn main() -> ExitCode {
    signals::outlive_file_limits();
    keep_pages_small();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { SCRIPT_ERROR } else { 0 });
        }
    };
    let code = match cli.command {
        Command::Run(args) => run_command(&args),
        Command::Report(args) => report_command(&args),
        Command::Check(args) => check_command(&args),
        Command::Debug(args) => debug_command(&args),
        Command::Compare(args) => commands::compare(&args),
        Command::Limit(args) => commands::limit(&args),
        Command::Quick(args) => commands::quick(&args),
        Command::Init(args) => commands::init(&args),
        Command::Completions(args) => commands::completions(&args),
    };
    ExitCode::from(code.unwrap_or_else(|error| {
        tell!("error: {error:#}");
        SCRIPT_ERROR
    }))
}

/// In huge pages the allocator's reserves of a handful of threads take 16 MB that nobody uses; small ones cost a run of
/// the journal's file no more CPU.
fn keep_pages_small() {
    // Where it is refused, more memory is all there is to it.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

fn run_command(args: &RunArgs) -> anyhow::Result<u8> {
    let Some(script) = load(&args.script) else { return Ok(SCRIPT_ERROR) };
    run_script(&script, args)
}

fn run_script(script: &Script, args: &RunArgs) -> anyhow::Result<u8> {
    let flags = args.cloud_flags();
    if !flags.is_empty() {
        tell!("note: {} taken and ignored: nothing is sent anywhere", flags.join(", "));
    }
    // Before the run: a result that cannot be written should not cost one.
    let read = args.script.files().chain(script.files());
    outputs::distinct(read, &args.outputs()).map_err(anyhow::Error::msg)?;
    let output = args.output.as_deref().map(report::json::probe).transpose()?;

    let options = RunOptions {
        workers: args.workers.map(usize::from),
        command_line: command_line(),
        ack: args.ack,
        pairs_out: args.pairs.clone(),
        handle_signals: true,
        max_duration: args.max_duration,
        grace: args.grace,
        sources: args.sources.clone(),
        ..RunOptions::default()
    };
    let format = match args.format {
        Format::Plain => report::Format::Plain,
        Format::V1 => report::Format::V1,
        Format::V2 => report::Format::V2,
    };
    for path in args.forms().into_iter().map(|(_, path)| path).chain(args.pairs.as_deref()) {
        form::probe(path)?;
    }
    let live = args.live.map(Live::start).transpose()?;
    if let Some(live) = &live {
        tell!("live: http://{}/ shows the run; /metrics for Prometheus, /result.json", live.address());
    }
    let mut windows = args.windows.as_deref().map(report::json::create).transpose()?;
    let lines = args.quiet || args.no_tui || format != report::Format::Plain || !screen::wanted();
    // Before the screen: whoever ends the process has to give the terminal back.
    signals::heed()?;
    let screen = if lines { None } else { Some(Screen::start(script)?) };
    let mut teller = Teller { console: None, format, quiet: args.quiet, screen };
    let outcome = run(script, &options, &mut |progress| {
        if let (Some(file), Progress::Window { window, delivery }) = (&mut windows, progress)
            && let Err(error) = file.write_all(report::json::window_line(window, *delivery).as_bytes())
        {
            teller.note(&format!("note: --windows ends here: {error}"));
            windows = None;
        }
        if let (Some(live), Progress::SoFar(so_far)) = (&live, progress) {
            live.take(so_far);
        }
        teller.tell(progress);
    });
    signals::only_writing_is_left();
    teller.close();
    let outcome = outcome?;

    if !args.quiet {
        let console = Console::new(format, outcome.meta.started_at_ms);
        print(&console.summary(&outcome, output.as_deref()));
    }
    let written = write_all(&outcome, output.as_deref(), &args.forms(), args.quiet);
    if let Some(live) = live {
        live.end(&outcome);
    }
    let code = exit::code_of(&outcome, args.require_valid);
    // What was asked for and is not there outranks all but a signal.
    Ok(if written || code >= 128 { code } else { SCRIPT_ERROR })
}

/// Everything that was asked for; what cannot be written is told and keeps nothing else from being written.
fn write_all(outcome: &Outcome, output: Option<&Path>, forms: &[(Form, &Path)], quiet: bool) -> bool {
    let mut all = true;
    if let Some(path) = output {
        all &= tell_failure(
            report::json::write(outcome, path).or_else(|error| keep_elsewhere(outcome, path, error)),
        );
    }
    if forms.is_empty() {
        return all;
    }
    let loaded = Loaded::of(outcome);
    for &(form, path) in forms {
        let written = form::write(form, &form::of_run(form, outcome, &loaded), path);
        if let Ok(path) = &written
            && !quiet
            && path != Path::new("standard output")
        {
            tell!("written: {}", path.display());
        }
        all &= tell_failure(written.map(drop));
    }
    all
}

/// A result that took an hour to get is not lost to a full disk where there is another one.
fn keep_elsewhere(
    outcome: &Outcome,
    path: &Path,
    error: report::json::Error,
) -> Result<(), report::json::Error> {
    let spare = std::env::temp_dir().join(path.file_name().unwrap_or("drumfire.json".as_ref()));
    if spare != *path && !spare.exists() && report::json::write(outcome, &spare).is_ok() {
        tell!("note: the result is kept in {} instead", spare.display());
    }
    Err(error)
}

fn tell_failure(written: Result<(), report::json::Error>) -> bool {
    written.inspect_err(|error| tell!("error: {error}")).is_ok()
}

fn report_command(args: &ReportArgs) -> anyhow::Result<u8> {
    let form = args.format.form();
    let output = args.output.clone().unwrap_or_else(|| match form {
        Form::Text => PathBuf::from("-"),
        form => appended(&args.result, form.suffix()),
    });
    outputs::distinct([args.result.as_path()], &[("--output", &output)]).map_err(anyhow::Error::msg)?;
    let text = form::of_file(form, &args.result)?;
    let written = form::write(form, &text, &output)?;
    if output != Path::new("-") {
        print(&format!("{}\n", written.display()));
    }
    Ok(0)
}

fn check_command(args: &CheckArgs) -> anyhow::Result<u8> {
    let Some(script) = load(&args.script) else { return Ok(SCRIPT_ERROR) };
    hand_over(&summary::describe(&script))?;
    Ok(0)
}

fn debug_command(args: &DebugArgs) -> anyhow::Result<u8> {
    let Some(script) = load(&args.script) else { return Ok(SCRIPT_ERROR) };
    let lines: std::rc::Rc<dyn Fn(&str)> = std::rc::Rc::new(|line| print(&format!("{line}\n")));
    let debugged = debug(&script, args.users, &lines)?;
    Ok(exit::code_of_debug(&debugged))
}

/// Reads the script and tells what is wrong with it; `None` when it cannot be run.
fn load(args: &ScriptArgs) -> Option<Script> {
    told(script::load(&args.load_options()))
}

fn told(read: Result<Script, script::ScriptError>) -> Option<Script> {
    match read {
        Ok(script) => {
            warn(&script.warnings);
            Some(script)
        }
        Err(error) => {
            warn(&error.warnings);
            tell!("{error}");
            let count = error.problems.len();
            tell!("{count} {}: nothing was run", if count == 1 { "error" } else { "errors" });
            None
        }
    }
}

fn warn(warnings: &[Warning]) {
    for warning in warnings {
        tell!("warning: {}", summary::warning_line(warning));
    }
}

/// Prints what a run says while it goes on.
struct Teller {
    /// Made when the run begins, since its clock times count from there.
    console: Option<Console>,
    format: report::Format,
    quiet: bool,
    /// In place of lines.
    screen: Option<Screen>,
}

impl Teller {
    fn note(&mut self, text: &str) {
        match &mut self.screen {
            Some(screen) => screen.note(text),
            None => tell!("{text}"),
        }
    }

    /// Gives the terminal back; what was said meanwhile is said again.
    fn close(&mut self) {
        if let Some(screen) = self.screen.take() {
            for line in screen.close() {
                print(&format!("{line}\n"));
            }
        }
    }

    fn tell(&mut self, progress: &Progress<'_>) {
        if let Some(screen) = &mut self.screen {
            return screen.tell(progress);
        }
        // What the script itself prints is no progress.
        if let Progress::Log(text) = progress {
            print(&format!("{text}\n"));
            return;
        }
        if self.quiet {
            return;
        }
        let format = self.format;
        let now_ms =
            || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        let mut console = |start_s: f64| {
            self.console
                .get_or_insert_with(|| Console::new(format, now_ms().saturating_sub((start_s * 1e3) as u64)))
                .clone()
        };
        // Lines of our own stay out of the shapes that scripts read.
        let plain = self.format == report::Format::Plain;
        match progress {
            Progress::Notice(text) => tell!("note: {text}"),
            Progress::ListenersConnecting { ready, of } if plain && std::io::stderr().is_terminal() => {
                tell!("listeners: {ready} of {of} stand");
            }
            Progress::ListenersReady(count) if plain && *count > 0 => {
                print(&format!("{count} listeners stand\n"));
            }
            Progress::PhaseStarted { index, phase } => {
                print(&console(phase.start_s).phase_started(*index, phase));
            }
            Progress::PhaseCompleted { index, phase } => {
                print(&console(phase.start_s + phase.duration_s).phase_completed(*index, phase));
            }
            Progress::Window { window, .. } => {
                print(&console(window.start_s + window.length_s).window(window));
            }
            Progress::Draining { users } if plain && *users > 0 => {
                print(&format!("all phases over, {} still at work\n", load_tester::progress::users(*users)));
            }
            Progress::AwaitingDeliveries if plain => print("waiting for the last deliveries\n"),
            Progress::DurationOver { users, grace } if plain => {
                let grace = script::duration::shown(*grace);
                let users = load_tester::progress::users(*users);
                print(&format!(
                    "the longest duration is over: no more arrivals; {grace} for {users} to end\n"
                ));
            }
            Progress::Interrupted(signal) => {
                tell!(
                    "{signal}: no more arrivals; results follow (once more: stop at once, without results)"
                );
            }
            _ => {}
        }
    }
}

/// To standard output, at once. A reader that went away (`| head`) is no reason to stop the run.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}

/// As [`print`], of what the command is there to print: where there is no room for it, the command has failed.
fn hand_over(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            anyhow::bail!("standard output: cannot write here: {error}\n  make room, or choose another place")
        }
        _ => Ok(()),
    }
}

fn appended(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// As typed, tokens left out: `-v` and `--key` may hold secrets.
fn command_line() -> String {
    let mut words = Vec::new();
    let mut secret = false;
    for word in std::env::args_os() {
        let word = word.to_string_lossy().into_owned();
        words.push(if secret { "...".to_owned() } else { word.clone() });
        secret = matches!(word.as_str(), "-v" | "--variables" | "--key" | "--overrides");
    }
    words.join(" ")
}

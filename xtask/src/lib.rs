//! The project's tasks as a library: `cargo xtask` is its program, and the end-to-end tests install packages and start
//! servers as it does.

mod bench; // servers and testers side by side, measured in one go
mod clients; // official clients in three languages
mod command; // child processes: quiet, logged, timed
mod demo; // dna, a crowd and the journal's load, end to end
mod echo; // the example protocol-echo
mod fuzz; // every fuzz target for a while
mod journal; // docs/journal.md is walked
mod licences; // what the libraries' licences ask
mod limits; // what `drumfire limit` finds, confirmed by hand-made runs
mod program; // a server beside others
mod server_2018; // the chat server of 2018, and its Redis
mod signal; // Ctrl-C and SIGTERM as a question one can ask
mod soak; // an hour of people who come and go
mod stage; // one dna with its data and its people
mod suites; // the protocols' official test suites
mod test; // everything that must hold before a change lands
mod tidy; // rules no compiler knows
mod tree; // where things lie
mod web; // the map page

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use echo::Echo;
pub use server_2018::Server2018;
pub use tree::{cargo, root, target};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's tasks.", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build, serve, let 2,000 people listen while the journal's load runs, report, serve on.
    Demo(demo::Options),
    /// Everything that must hold: tidy, format, lints, page, release build, all tests.
    Test(test::Options),
    /// The protocols' official test suites, from a checkout of the Socket.IO repository.
    Suites(suites::Options),
    /// Every fuzz target for a while, two at a time; needs a nightly toolchain and cargo-fuzz.
    Fuzz(fuzz::Options),
    /// Let people come, talk and go for an hour at half the measured peak: nothing may grow, go missing or come twice.
    Soak(soak::Options),
    /// Check and build the map page.
    Web,
    /// The most load at which deliveries stay in time, for dna and for the server of 2018; confirmed and refuted by hand-made runs.
    Limits(limits::Options),
    /// Servers and testers side by side, in one go: what a delivery, a question, a connection, a user costs.
    ///
    /// About 48 minutes on 2 cores, and 8 more to install the peers the first time.
    Bench(bench::Options),
    /// Install the official clients the end-to-end tests talk through.
    Clients,
    /// Rules no compiler knows: lengths, links, READMEs, arrows between crates, licences.
    Tidy,
}

/// `npm ci` in `folder`, unless what is installed is younger than its lock file.
///
/// # Errors
/// When npm is absent or fails, with what it said.
pub fn node_packages(folder: &Path) -> anyhow::Result<()> {
    web::install(folder, "packages").map(|_| ())
}

/// The official clients in three languages, those that are not there or have changed since.
///
/// # Errors
/// When one cannot be installed, with what to do.
pub fn install_clients() -> anyhow::Result<()> {
    clients::run().map(|_| ())
}

/// The Python that has python-socketio, installed when it is not there or has changed since.
///
/// # Errors
/// When it cannot be installed, with what pip said.
pub fn install_python() -> anyhow::Result<PathBuf> {
    clients::python()?;
    Ok(clients::python_program())
}

/// The program.
pub fn main() -> ExitCode {
    signal::watch();
    let result = match Arguments::parse().task {
        Task::Demo(options) => demo::run(&options),
        Task::Test(options) => test::run(&options),
        Task::Suites(options) => suites::run(&options),
        Task::Fuzz(options) => fuzz::run(&options),
        Task::Soak(options) => soak::run(&options),
        Task::Limits(options) => limits::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::Web => web::run(),
        Task::Clients => clients::run(),
        Task::Tidy => tidy::run(),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) if error.is::<command::Interrupted>() => ExitCode::from(signal::exit_code()),
        Err(error) => {
            eprintln!("\nxtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

//! A program beside ours that talks in lines: one JSON value a line, both ways.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use serde_json::Value;

use crate::{clients, node_packages};

/// Killed when dropped.
#[derive(Debug)]
pub struct LineProgram {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<Value>,
}

impl LineProgram {
    /// Starts `e2e/js/<script>`.
    pub fn node(script: &str, arguments: &[&str]) -> Self {
        Self::start(Command::new("node").current_dir(node_packages("js")).arg(script).args(arguments))
    }

    /// Starts `e2e/clients/python/<script>`.
    pub fn python(script: &str, arguments: &[&str]) -> Self {
        Self::start(clients::python(script).args(arguments))
    }

    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, lines) = mpsc::channel();
        let program = command.get_program().to_string_lossy().into_owned();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                match serde_json::from_str(&line) {
                    Ok(value) => {
                        if sender.send(value).is_err() {
                            break;
                        }
                    }
                    Err(_) => eprintln!("{program}: {line}"),
                }
            }
        });
        let input = child.stdin.take();
        Self { child, input, lines }
    }

    /// The next line; panics when none comes in time.
    #[track_caller]
    pub fn line(&self, limit: Duration) -> Value {
        self.next(limit).expect("a line from the program")
    }

    /// The next line.
    ///
    /// # Errors
    /// When none comes within `limit`, or none will come any more.
    pub fn next(&self, limit: Duration) -> Result<Value, RecvTimeoutError> {
        self.lines.recv_timeout(limit)
    }

    /// Gives the program a line.
    #[track_caller]
    pub fn say(&mut self, line: &Value) {
        let input = self.input.as_mut().expect("its input is open");
        writeln!(input, "{line}").and_then(|()| input.flush()).expect("the program reads");
    }

    /// Closes its standard input, which asks our scripts to sum up and end.
    pub fn close_input(&mut self) {
        self.input.take();
    }
}

impl Drop for LineProgram {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

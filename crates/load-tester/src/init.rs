//! `drumfire init`: a script to begin with, explained line by line.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;

use anyhow::{Context as _, bail};

use crate::report;
use crate::script::{self, LoadOptions};

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Requests.
    Http,
    /// Emits with acknowledgements.
    Socketio,
    /// Plain WebSocket.
    Ws,
    /// Listeners, and whether each of them heard each message.
    Chat,
}

impl Kind {
    fn template(self) -> &'static str {
        match self {
            Self::Http => include_str!("init/http.yml"),
            Self::Socketio => include_str!("init/socketio.yml"),
            Self::Ws => include_str!("init/ws.yml"),
            Self::Chat => include_str!("init/chat.yml"),
        }
    }

    /// The script, with the address in its place.
    pub fn script(self, target: Option<&str>) -> String {
        let usual = if self == Self::Ws { "ws://localhost:3000" } else { "http://localhost:3000" };
        self.template().replace("{{TARGET}}", target.unwrap_or(usual))
    }
}

/// Writes the script; what is there already stays.
///
/// # Errors
/// When there is such a file, or none can be made.
pub fn write(path: &Path, kind: Kind, target: Option<&str>) -> anyhow::Result<()> {
    if target.is_some_and(|target| target.contains(['"', '\\', '\n'])) {
        bail!("--target holds a quote or a backslash, which no URL has");
    }
    let text = kind.script(target);
    if let Err(error) =
        script::parse_str(&text, &LoadOptions { files: vec![path.into()], ..LoadOptions::default() })
        && let Some(problem) = error.problems.first()
    {
        let help = problem.help.as_ref().map_or_else(String::new, |help| format!(": {help}"));
        bail!("--target: {}{help}", problem.message);
    }
    let mut file = match OpenOptions::new().write(true).create_new(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            bail!("{}: there is one already, and it stays: name another file", path.display())
        }
        opened => opened.map_err(|error| report::json::write_error(path, error))?,
    };
    file.write_all(text.as_bytes()).with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_runs_as_it_stands() {
        for kind in [Kind::Http, Kind::Socketio, Kind::Ws, Kind::Chat] {
            let target = if kind == Kind::Ws { "ws://127.0.0.1:9" } else { "http://127.0.0.1:9" };
            let text = kind.script(Some(target));
            let options = LoadOptions { strict: true, ..LoadOptions::default() };
            let script =
                script::parse_str(&text, &options).unwrap_or_else(|error| panic!("{kind:?}\n{error}"));
            assert_eq!(script.config.target, target, "{kind:?}");
            // Its limits name figures there are.
            for (condition, _) in script.config.ensure.iter().flat_map(|ensure| &ensure.conditions) {
                crate::limit::Condition::parse(condition).unwrap_or_else(|why| panic!("{kind:?}: {why}"));
            }
        }
    }

    #[test]
    fn nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yml");
        write(&path, Kind::Chat, None).unwrap();
        assert!(std::fs::read_to_string(&path).unwrap().contains("target: \"http://localhost:3000\""));
        let error = write(&path, Kind::Http, None).unwrap_err().to_string();
        assert!(error.ends_with("there is one already, and it stays: name another file"), "{error}");
        assert!(std::fs::read_to_string(&path).unwrap().contains("expect: all"));
        assert!(write(&folder.path().join("b.yml"), Kind::Http, Some("http://\"")).is_err());
    }
}

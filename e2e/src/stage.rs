//! A folder with scenarios and tokens, as `cargo xtask demo` lays it out.

use std::path::{Path, PathBuf};

use crate::{Dna, root};

/// First user number of the listeners; users of the load count from 1.
pub const FIRST_LISTENER: u64 = 1_000_001;

/// A temporary folder with a copy of the repository's scenarios and token files of its own.
#[derive(Debug)]
pub struct Stage {
    folder: tempfile::TempDir,
}

impl Stage {
    /// Tokens of the test world for `users` and `listeners`, signed with the data directory's secret.
    pub fn set(dna: &Dna, users: u64, listeners: u64) -> Self {
        let stage = Self::empty();
        stage.write("tokens.csv", &lines(&dna.tokens(1, users, true)));
        stage.write("listeners.csv", &lines(&dna.tokens(FIRST_LISTENER, listeners.max(1), true)));
        stage
    }

    /// Without tokens.
    pub fn empty() -> Self {
        let stage = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        for name in ["journal.yml", "journal-heard.yml", "journal-original.yml"] {
            std::fs::copy(root().join("scenarios").join(name), stage.path(name)).expect(name);
        }
        stage
    }

    pub fn dir(&self) -> &Path {
        self.folder.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect(name);
    }
}

fn lines(tokens: &[String]) -> String {
    tokens.join("\n") + "\n"
}

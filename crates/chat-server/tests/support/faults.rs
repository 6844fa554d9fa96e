//! Faults of the machine that no limit of the system can bring about: see faults.c.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Their order is that of faults.c.
#[derive(Clone, Copy)]
pub enum Fault {
    /// Seconds the time of day is ahead.
    WallOffset,
    /// Seconds the monotonic clock is ahead; both together: time has passed.
    MonotonicOffset,
    /// A worker that asks for the time panics.
    WorkerClockFails,
    /// What flushes answer, an errno.
    FlushErrno,
    /// What writes of the database answer, an errno.
    WriteErrno,
}

/// The faults of one program.
pub struct Faults {
    file: File,
    path: PathBuf,
}

impl Faults {
    /// None yet; remembered in `folder`.
    pub fn new(folder: &Path) -> Self {
        let path = folder.join("faults");
        std::fs::write(&path, [0; 64]).unwrap();
        Self { file: File::options().write(true).open(&path).unwrap(), path }
    }

    pub fn set(&self, fault: Fault, value: i64) {
        self.file.write_all_at(&value.to_ne_bytes(), 8 * fault as u64).unwrap();
    }

    /// What the program must find in its environment.
    pub fn environment(&self) -> [(&'static str, &Path); 2] {
        [("LD_PRELOAD", library()), ("DNA_TEST_FAULTS", &self.path)]
    }
}

/// Compiled once for each test binary.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/faults.c");
        let library =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("faults-{}.so", std::process::id()));
        let status = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
            .arg(&library)
            .arg(&source)
            .status()
            .expect("a C compiler, which SQLite needs as well");
        assert!(status.success(), "{status}");
        library
    })
}

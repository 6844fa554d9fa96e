//! A consistent copy of a database while a server writes to it.
//!
//! SQLite's backup interface copies page by page and can say how far it is; `VACUUM INTO` cannot, and spends
//! CPU on rebuilding every page. The interface begins anew whenever another process commits, so the copy runs
//! inside one read transaction: it sees the moment it began, and nothing else.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::{StorageError, schema};
use crate::world::World;

/// Pages between two reports, 4 MiB.
const PAGES_A_STEP: i32 = 1024;
/// A restored world's numbers go on a random multiple of this above the copy's: what was given between the backup
/// and the loss, or by another restore of the same copy, is not given to another message.
const NUMBERS_LEFT_OUT: i64 = 1 << 32;
/// At most this many of them, and at most a 64th of what is left below 2^53: good for a thousand restores.
const MOST_LEFT_OUT: i64 = 1 << 16;

/// What was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    pub messages: u64,
    pub bytes: u64,
}

/// Copies `database` to `target`, complete and checked, or leaves `target` as it was. The copy is marked as
/// one: whoever serves from it first makes it a world of its own ([`settle`]).
///
/// `progress` is told the pages copied and all pages, now and then.
///
/// # Errors
/// When there is no database, `target` is there and not to be replaced, or the disk fails.
pub fn back_up(
    database: &Path,
    target: &Path,
    replace: bool,
    mut progress: impl FnMut(u64, u64),
) -> anyhow::Result<Copied> {
    ensure!(
        database.try_exists()?,
        "there is no {}: name the data directory with --data",
        database.display()
    );
    refuse_existing(target, replace)?;
    refuse_served(database, target)?;
    let aside = Aside::new(target)?;
    let messages = copy(database, &aside.path, &mut progress)
        .with_context(|| format!("copying {} to {}", database.display(), target.display()))?;
    let file = File::open(&aside.path)?;
    file.sync_all().with_context(|| format!("flushing the copy beside {}", target.display()))?;
    let bytes = file.metadata()?.len();
    // Again: it may have come into being meanwhile.
    refuse_existing(target, replace)?;
    std::fs::rename(&aside.path, target)
        .with_context(|| format!("renaming the copy to {}", target.display()))?;
    File::open(folder(target))?.sync_all().context("flushing the folder of the copy")?;
    Ok(Copied { messages, bytes })
}

fn refuse_existing(target: &Path, replace: bool) -> anyhow::Result<()> {
    if !replace && target.try_exists()? {
        bail!("{} is there already: choose another name, or replace it with --force", target.display());
    }
    Ok(())
}

/// Not even with `--force`: the data directory's own databases.
fn refuse_served(database: &Path, target: &Path) -> anyhow::Result<()> {
    let Ok(target) = target.canonicalize() else { return Ok(()) };
    for world in World::ALL {
        let served = folder(database).join(world.database_file());
        if served.canonicalize().is_ok_and(|served| served == target) {
            bail!("{} is what dna serves from: name another file for the copy", target.display());
        }
    }
    Ok(())
}

fn folder(target: &Path) -> &Path {
    target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn copy(database: &Path, aside: &Path, progress: &mut impl FnMut(u64, u64)) -> anyhow::Result<u64> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let source = Connection::open_with_flags(database, flags)?;
    source.busy_timeout(std::time::Duration::from_secs(5))?;
    ensure!(schema::version(&source)? > 0, "it is no database of dna");
    // Deferred: the first read fixes what is seen, until the end.
    source.execute_batch("BEGIN")?;
    let messages: i64 = source.query_row("SELECT count(*) FROM message", [], |row| row.get(0))?;
    let mut copy = Connection::open(aside)?;
    {
        let backup = Backup::new(&source, &mut copy)?;
        loop {
            let step = backup.step(PAGES_A_STEP)?;
            let pages = backup.progress();
            let all = u64::try_from(pages.pagecount).unwrap_or(0);
            progress(all - u64::try_from(pages.remaining).unwrap_or(0).min(all), all);
            match step {
                StepResult::Done => break,
                StepResult::More => {}
                // Nobody else has the copy open, and reading waits for nobody.
                other => bail!("SQLite stopped at {other:?}"),
            }
        }
    }
    source.execute_batch("COMMIT")?;
    // One plain file, without a log beside it.
    copy.pragma_update(None, "journal_mode", "DELETE")?;
    copy.execute_batch("INSERT INTO meta (key, value) VALUES ('copy', '1') ON CONFLICT DO NOTHING")?;
    let verdict: String = copy.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    ensure!(verdict == "ok", "the copy is damaged, and so may be the database: {verdict}");
    let copied: i64 = copy.query_row("SELECT count(*) FROM message", [], |row| row.get(0))?;
    ensure!(copied == messages, "the copy has {copied} messages of {messages}");
    copy.close().map_err(|(_, error)| error)?;
    Ok(u64::try_from(messages)?)
}

/// Makes a restored copy a world of its own: with a new epoch, so that a cursor from after the copy, or from
/// another restore of it, is recognised, and with numbers that neither has given. All in one transaction.
///
/// # Errors
/// When the database cannot be written, or all numbers below 2^53 are given.
pub(super) fn settle(connection: &mut Connection) -> Result<(), StorageError> {
    let failed =
        |error: rusqlite::Error| StorageError::new("making a restored copy a world of its own", error);
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    if transaction.execute("DELETE FROM meta WHERE key = 'copy'", []).map_err(failed)? == 0 {
        return Ok(());
    }
    transaction
        .execute_batch(
            "UPDATE meta SET value = lower(hex(randomblob(8))) WHERE key = 'epoch';
             INSERT INTO sqlite_sequence (name, seq) SELECT 'message', 0
                 WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'message');",
        )
        .map_err(failed)?;
    let given: i64 = transaction
        .query_row("SELECT seq FROM sqlite_sequence WHERE name = 'message'", [], |row| row.get(0))
        .map_err(failed)?;
    let left = (1 << 53) - given;
    if left <= NUMBERS_LEFT_OUT {
        return Err(StorageError::new(
            "making a restored copy a world of its own",
            "no numbers are left below 2^53: begin with an empty data directory",
        ));
    }
    let times = fastrand::i64(1..=(left / NUMBERS_LEFT_OUT / 64).clamp(1, MOST_LEFT_OUT));
    transaction
        .execute(
            "UPDATE sqlite_sequence SET seq = seq + ?1 WHERE name = 'message'",
            [times * NUMBERS_LEFT_OUT],
        )
        .map_err(failed)?;
    transaction.commit().map_err(failed)?;
    tracing::info!("a restored copy: its epoch is new, and its numbers go on higher");
    Ok(())
}

/// The unfinished copy; removed when it is not renamed.
struct Aside {
    path: PathBuf,
}

impl Aside {
    /// In the target's folder, readable by its owner only: people's messages are in it.
    fn new(target: &Path) -> anyhow::Result<Self> {
        let mut name = target.file_name().context("the copy needs a file name")?.to_owned();
        name.push(format!(".unfinished-{}", std::process::id()));
        let path = folder(target).join(name);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(Self { path })
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        for suffix in ["", "-journal", "-wal", "-shm"] {
            let mut name = self.path.clone().into_os_string();
            name.push(suffix);
            match std::fs::remove_file(&name) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => tracing::warn!(%error, "an unfinished copy could not be removed"),
            }
        }
    }
}

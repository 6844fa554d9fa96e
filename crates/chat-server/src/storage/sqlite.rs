//! One SQLite file a world: write-ahead log, one writing connection, one reading connection, and a
//! thread that checkpoints.
//!
//! `save` blocks its caller while it commits. Its caller is the world's store thread, which exists for
//! that: what arrives meanwhile becomes the next group.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use geo_index::Position;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};

use super::{
    Author, Missed, MissedQuery, NewMessage, Outcome, Storage, StorageError, StoredMessage, backup, schema,
};
use crate::event::MessageKind;

/// What an acknowledged message survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Loss of power: every commit is flushed to the disk.
    Power,
    /// Death of the process; a power cut may take the last moments.
    Process,
}

/// From this much in the log on it is copied into the database.
const CHECKPOINT_FROM_BYTES: u64 = 4 << 20;
/// From this much on writers wait for the rest of the checkpoint, behind which the log begins anew: under steady load
/// one that lets them pass never reaches the end. The file keeps its size: flushing what is written over need not
/// store a new length.
const RESTART_FROM_BYTES: u64 = 16 << 20;
/// What SQLite puts before each page in the log, bytes.
const FRAME_HEADER: u64 = 24;
const CHECKPOINT_EVERY: Duration = Duration::from_millis(500);

/// How long writers, and the end of the process, wait for a reader in the way of that, each time; a reader who
/// stays is not waited for.
const RESTART_PATIENCE: Duration = Duration::from_millis(100);
/// From this size on it is said that somebody keeps the log from beginning anew, and afterwards the file is emptied.
const WARN_FROM_BYTES: u64 = 32 << 20;

/// Messages deleted in one transaction: a few milliseconds, for which those who save wait.
const FORGET_AT_ONCE: u32 = 1000;

pub struct SqliteStorage {
    writer: Mutex<Connection>,
    reader: Arc<Mutex<Connection>>,
    epoch: Arc<str>,
    last_idx: u64,
    noted_ms: Option<i64>,
    path: PathBuf,
    wal: PathBuf,
    checkpointer: Option<(mpsc::Sender<()>, JoinHandle<()>)>,
}

impl std::fmt::Debug for SqliteStorage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteStorage").field("wal", &self.wal).finish_non_exhaustive()
    }
}

impl SqliteStorage {
    /// Opens or creates the database.
    ///
    /// # Errors
    /// When the file cannot be opened, is not a `dna` database, or was written by a newer `dna`.
    pub fn open(path: &Path, durability: Durability) -> Result<Self, StorageError> {
        let failed = |error: rusqlite::Error| StorageError::new("opening the database", error);
        let mut writer = connect(path, durability).map_err(failed)?;
        schema::prepare(&mut writer)?;
        backup::settle(&mut writer)?;
        let epoch: String = writer
            .query_row("SELECT value FROM meta WHERE key = 'epoch'", [], |row| row.get(0))
            .map_err(failed)?;
        let last_idx: i64 = writer
            .query_row("SELECT seq FROM sqlite_sequence WHERE name = 'message'", [], |row| row.get(0))
            .optional()
            .map_err(failed)?
            .unwrap_or(0);
        let noted_ms: Option<i64> = writer
            .query_row("SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'noted_ms'", [], |row| row.get(0))
            .optional()
            .map_err(failed)?;
        let reader = Connection::open_with_flags(
            path,
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI,
        )
        .map_err(failed)?;
        reader.busy_timeout(Duration::from_secs(5)).map_err(failed)?;
        let wal =
            path.with_file_name(format!("{}-wal", path.file_name().unwrap_or_default().to_string_lossy()));
        let checkpointer = spawn_checkpointer(path, durability, wal.clone()).map_err(failed)?;
        Ok(Self {
            writer: Mutex::new(writer),
            reader: Arc::new(Mutex::new(reader)),
            epoch: epoch.into(),
            last_idx: u64::try_from(last_idx).unwrap_or(0),
            noted_ms,
            path: path.to_owned(),
            wal,
            checkpointer: Some(checkpointer),
        })
    }

    /// One transaction of the writer that is no message.
    fn write<T>(
        &self,
        what: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StorageError> {
        let connection = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let written = (|| {
            let transaction = Transaction::begin(&connection)?;
            let done = work(&transaction)?;
            transaction.commit()?;
            Ok(done)
        })();
        written.map_err(|error| StorageError::new(what, explain(&error, &self.path)))
    }

    fn commit(&self, batch: &[Arc<NewMessage>]) -> Result<Vec<u64>, CommitError> {
        let connection = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = Transaction::begin(&connection).map_err(CommitError::NotStored)?;
        let mut idxs = Vec::with_capacity(batch.len());
        {
            let mut insert = transaction
                .prepare_cached(
                    "INSERT INTO message (user_idx, nickname, avatar, anonymity, lng, lat, type, contents, \
                     created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                )
                .map_err(CommitError::NotStored)?;
            for message in batch {
                let author = &message.author;
                insert
                    .execute(params![
                        author.idx.cast_signed(),
                        &*author.nickname,
                        author.avatar.as_deref(),
                        author.anonymity,
                        message.position.lng(),
                        message.position.lat(),
                        message.kind.name(),
                        message.contents,
                        message.created_at_ms,
                    ])
                    .map_err(CommitError::NotStored)?;
                idxs.push(transaction.last_insert_rowid().cast_unsigned());
            }
        }
        transaction.commit().map_err(CommitError::classify)?;
        Ok(idxs)
    }
}

/// As rusqlite's, whose begin and end are parsed anew each time. Rolled back when dropped.
struct Transaction<'c>(&'c Connection);

impl<'c> Transaction<'c> {
    fn begin(connection: &'c Connection) -> rusqlite::Result<Self> {
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        Ok(Self(connection))
    }

    fn commit(self) -> rusqlite::Result<()> {
        self.0.prepare_cached("COMMIT")?.execute([]).map(drop)
    }
}

impl std::ops::Deref for Transaction<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.0
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        // Some failures have rolled back already.
        if !self.0.is_autocommit() {
            let _ = self.0.execute_batch("ROLLBACK");
        }
    }
}

enum CommitError {
    /// Rolled back for certain.
    NotStored(rusqlite::Error),
    /// An I/O error while COMMIT flushed, or later: it may come back to life in recovery.
    Unknown(rusqlite::Error),
}

impl CommitError {
    fn classify(error: rusqlite::Error) -> Self {
        // The frame that marks the commit is written last, so a log that could not be written (a quota, a
        // limit on file sizes: not "disk full" to SQLite) holds no commit for recovery to find.
        let not_written = error
            .sqlite_error()
            .is_some_and(|error| error.extended_code == rusqlite::ffi::SQLITE_IOERR_WRITE);
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::SystemIoFailure) if !not_written => Self::Unknown(error),
            // Dropping the transaction rolls back; full disks and locks leave nothing behind.
            _ => Self::NotStored(error),
        }
    }
}

/// What SQLite said, and what that means to whoever runs the machine.
fn explain(error: &rusqlite::Error, path: &Path) -> String {
    use rusqlite::ffi::{SQLITE_FULL, SQLITE_IOERR_FSYNC, SQLITE_IOERR_WRITE};
    let meaning = match error.sqlite_error().map(|error| error.extended_code) {
        Some(SQLITE_FULL) => "the disk is full",
        Some(SQLITE_IOERR_WRITE) => "the disk takes no more: a quota, a limit on file sizes, or a fault",
        Some(SQLITE_IOERR_FSYNC) => "the disk could not be flushed",
        _ => return format!("{}: {error}", path.display()),
    };
    format!("{}: {meaning} ({error})", path.display())
}

impl Storage for SqliteStorage {
    fn save(&self, batch: Vec<Arc<NewMessage>>) -> BoxFuture<'static, Vec<Outcome>> {
        let outcomes = match self.commit(&batch) {
            Ok(idxs) => idxs.into_iter().map(Outcome::Stored).collect(),
            Err(CommitError::NotStored(error)) => {
                vec![Outcome::Refused(explain(&error, &self.path)); batch.len()]
            }
            Err(CommitError::Unknown(error)) => {
                vec![Outcome::Unknown(explain(&error, &self.path)); batch.len()]
            }
        };
        futures_util::future::ready(outcomes).boxed()
    }

    fn missed(&self, query: MissedQuery) -> BoxFuture<'static, Result<Missed, StorageError>> {
        let reader = self.reader.clone();
        on_blocking_thread("reading missed messages", move || {
            let reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
            read_missed(&reader, &query)
        })
    }

    fn note(&self, now_ms: i64, set_ms: i64) -> BoxFuture<'static, Result<(), StorageError>> {
        let noted = self.write("noting the time", |transaction| {
            if set_ms != 0 {
                transaction.execute("UPDATE mark SET at_ms = at_ms + ?1", [set_ms])?;
            }
            transaction.execute("UPDATE mark SET at_ms = ?1 WHERE at_ms > ?1", [now_ms])?;
            transaction.execute(
                "INSERT INTO mark (idx, at_ms) SELECT seq, ?1 FROM sqlite_sequence \
                 WHERE name = 'message' AND seq > (SELECT coalesce(max(idx), 0) FROM mark)",
                [now_ms],
            )?;
            transaction.execute(
                "INSERT INTO meta (key, value) VALUES ('noted_ms', ?1) \
                 ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                [now_ms.to_string()],
            )?;
            Ok(())
        });
        futures_util::future::ready(noted).boxed()
    }

    fn noted_ms(&self) -> Option<i64> {
        self.noted_ms
    }

    fn forget_before(&self, noted_ms: i64) -> BoxFuture<'static, Result<u64, StorageError>> {
        let forgotten = self.write("forgetting old messages", |transaction| {
            let number = |query: &str, parameters: &[&dyn rusqlite::ToSql]| {
                transaction.query_row(query, parameters, |row| row.get::<_, Option<i64>>(0))
            };
            let Some(up_to) = number("SELECT max(idx) FROM mark WHERE at_ms < ?1", &[&noted_ms])? else {
                return Ok(0);
            };
            let slice =
                "SELECT max(idx) FROM (SELECT idx FROM message WHERE idx <= ?1 ORDER BY idx LIMIT ?2)";
            let Some(forgotten_to) = number(slice, &[&up_to, &FORGET_AT_ONCE])? else {
                // All gone; the last mark of them stays, so that what it stands for is not marked again.
                transaction.execute("DELETE FROM mark WHERE idx < ?1", [up_to])?;
                return Ok(0);
            };
            let deleted = transaction.execute("DELETE FROM message WHERE idx <= ?1", [forgotten_to])?;
            transaction.execute(
                "INSERT INTO meta (key, value) VALUES ('forgotten_to', ?1) \
                 ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                [forgotten_to.to_string()],
            )?;
            Ok(deleted as u64)
        });
        futures_util::future::ready(forgotten).boxed()
    }

    fn probe(&self) -> BoxFuture<'static, Result<(), StorageError>> {
        // As large as a message may be, and committed: what it needs, a message needs. Random, because SQLite
        // writes nothing where nothing changes.
        let probed = self.write("probing the database", |transaction| {
            transaction.execute(
                "INSERT INTO meta (key, value) VALUES ('probe', hex(randomblob(4096))) \
                 ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                [],
            )
        });
        futures_util::future::ready(probed.map(drop)).boxed()
    }

    fn epoch(&self) -> Arc<str> {
        self.epoch.clone()
    }

    fn last_idx(&self) -> u64 {
        self.last_idx
    }

    fn wal_bytes(&self) -> u64 {
        file_size(&self.wal)
    }
}

impl Drop for SqliteStorage {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.checkpointer.take() {
            drop(stop);
            let _ = thread.join();
        }
        // Leaves one plain file behind for whoever looks at it next.
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = writer.busy_timeout(RESTART_PATIENCE);
        let _ = writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    }
}

fn on_blocking_thread<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> BoxFuture<'static, Result<T, StorageError>> {
    async move {
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(StorageError::new(what, error)))
    }
    .boxed()
}

fn connect(path: &Path, durability: Durability) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(
        None,
        "synchronous",
        match durability {
            Durability::Power => "FULL",
            Durability::Process => "NORMAL",
        },
    )?;
    // Checkpoints run in their own thread, so a commit never pays for one.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.set_prepared_statement_cache_capacity(16);
    Ok(connection)
}

fn read_missed(reader: &Connection, query: &MissedQuery) -> Result<Missed, StorageError> {
    let failed = |error: rusqlite::Error| StorageError::new("reading missed messages", error);
    // Both questions are about one moment: what is deleted between them would be a hole nobody is told of.
    let reader = reader.unchecked_transaction().map_err(failed)?;
    let forgotten_to: Option<String> = reader
        .query_row("SELECT value FROM meta WHERE key = 'forgotten_to'", [], |row| row.get(0))
        .optional()
        .map_err(failed)?;
    let forgotten_to = forgotten_to.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    if query.after_idx < forgotten_to {
        return Ok(Missed::Forgotten);
    }
    let mut statement = reader
        .prepare_cached(
            "SELECT idx, user_idx, nickname, avatar, anonymity, lng, lat, type, contents, created_at \
             FROM message WHERE idx > ?1 AND idx <= ?2 ORDER BY idx",
        )
        .map_err(failed)?;
    let mut rows = statement
        .query(params![query.after_idx.cast_signed(), query.up_to_idx.cast_signed()])
        .map_err(failed)?;
    let (mut found, mut bytes, mut looked_at) = (Vec::new(), 0, 0_usize);
    while let Some(row) = rows.next().map_err(failed)? {
        // A busy world's stretch is read only so far: the answer would be too much in any case.
        looked_at += 1;
        if looked_at > MAX_ROWS_LOOKED_AT {
            return Ok(Missed::TooMany);
        }
        let (lng, lat): (f64, f64) = (row.get(5).map_err(failed)?, row.get(6).map_err(failed)?);
        let position =
            Position::new(lng, lat).map_err(|error| StorageError::new("reading a message's place", error))?;
        if !geo_index::circle_contains(query.centre, query.radius_m, position) {
            continue;
        }
        let stored = read_message(row, position).map_err(failed)?;
        bytes += stored.message.contents.len();
        found.push(stored);
        if found.len() > query.max_messages || bytes > query.max_bytes {
            return Ok(Missed::TooMany);
        }
    }
    Ok(Missed::All(found))
}

const MAX_ROWS_LOOKED_AT: usize = 200_000;

fn read_message(row: &rusqlite::Row<'_>, position: Position) -> rusqlite::Result<StoredMessage> {
    let kind: String = row.get(7)?;
    Ok(StoredMessage {
        idx: row.get::<_, i64>(0)?.cast_unsigned(),
        message: Arc::new(NewMessage {
            author: Author {
                idx: row.get::<_, i64>(1)?.cast_unsigned(),
                nickname: row.get::<_, String>(2)?.into(),
                avatar: row.get::<_, Option<String>>(3)?.map(Into::into),
                anonymity: row.get(4)?,
            },
            position,
            kind: MessageKind::from_name(&kind).unwrap_or(MessageKind::Message),
            contents: row.get(8)?,
            created_at_ms: row.get(9)?,
        }),
    })
}

fn spawn_checkpointer(
    path: &Path,
    durability: Durability,
    wal: PathBuf,
) -> rusqlite::Result<(mpsc::Sender<()>, JoinHandle<()>)> {
    let connection = connect(path, durability)?;
    connection.busy_timeout(RESTART_PATIENCE)?;
    let page: u32 = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
    let (stop, stopped) = mpsc::channel::<()>();
    let (mut failing, mut held) = (false, false);
    let thread = std::thread::Builder::new()
        .name("checkpoint".into())
        .spawn(move || {
            while stopped.recv_timeout(CHECKPOINT_EVERY) == Err(mpsc::RecvTimeoutError::Timeout) {
                let result = checkpoint(&connection, page, &wal);
                let is_held = matches!(result, Ok(log) if log.bytes >= WARN_FROM_BYTES && !log.is_copied);
                if is_held && !held {
                    tracing::warn!(
                        bytes = file_size(&wal),
                        "somebody reads an old state of the database: its log grows until they end"
                    );
                }
                held = is_held;
                let failed = result.is_err();
                if let Err(error) = result
                    && !failing
                {
                    tracing::warn!(%error, "checkpoint failed; will be tried again");
                }
                failing = failed;
            }
        })
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    Ok((stop, thread))
}

/// The write-ahead log at one moment.
#[derive(Clone, Copy)]
struct Log {
    /// In use; the file may be larger.
    bytes: u64,
    /// All of it is in the database: not while somebody reads an older state.
    is_copied: bool,
}

/// As much of a checkpoint as the log's size asks for. `page`: bytes.
fn checkpoint(connection: &Connection, page: u32, wal: &Path) -> rusqlite::Result<Log> {
    let run = |mode| {
        connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| {
            let (frames, copied): (i64, i64) = (row.get(1)?, row.get(2)?);
            Ok(Log {
                bytes: frames.max(0).cast_unsigned() * (u64::from(page) + FRAME_HEADER),
                is_copied: frames == copied,
            })
        })
    };
    let log = run("NOOP")?;
    let is_overgrown = file_size(wal) >= WARN_FROM_BYTES;
    if !is_overgrown && (log.bytes < CHECKPOINT_FROM_BYTES || log.is_copied) {
        return Ok(log);
    }
    // The bulk first, beside the writers; then they wait for the little that came meanwhile.
    let log = run("PASSIVE")?;
    if !log.is_copied || (log.bytes < RESTART_FROM_BYTES && !is_overgrown) {
        return Ok(log);
    }
    run(if is_overgrown { "TRUNCATE" } else { "RESTART" })
}

fn file_size(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |file| file.len())
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn message(text: &str, lng: f64, at: i64) -> Arc<NewMessage> {
        Arc::new(NewMessage {
            author: Author { idx: 3, nickname: "단아".into(), avatar: None, anonymity: false },
            position: Position::new(lng, 37.5).unwrap(),
            kind: MessageKind::LoudSpeaker,
            contents: text.into(),
            created_at_ms: at,
        })
    }

    fn save(storage: &SqliteStorage, batch: Vec<Arc<NewMessage>>) -> Vec<Outcome> {
        storage.save(batch).now_or_never().unwrap()
    }

    fn note(storage: &SqliteStorage, now_ms: i64) {
        note_after(storage, 0, now_ms);
    }

    fn note_after(storage: &SqliteStorage, set_ms: i64, now_ms: i64) {
        storage.note(now_ms, set_ms).now_or_never().unwrap().unwrap();
    }

    fn forget_before(storage: &SqliteStorage, noted_ms: i64) -> u64 {
        storage.forget_before(noted_ms).now_or_never().unwrap().unwrap()
    }

    fn missed_one() -> Missed {
        let idx = 3 * u64::from(FORGET_AT_ONCE) + 1;
        Missed::All(vec![StoredMessage { idx, message: message("new", 127.0, 40) }])
    }

    fn query(after_idx: u64, up_to_idx: u64) -> MissedQuery {
        MissedQuery {
            after_idx,
            up_to_idx,
            centre: Position::new(127.0, 37.5).unwrap(),
            radius_m: 500.0,
            max_messages: 3,
            max_bytes: 1000,
        }
    }

    #[test]
    fn numbers_go_on_after_reopening_and_forgetting() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dna.db");
        let storage = SqliteStorage::open(&path, Durability::Power).unwrap();
        assert_eq!(storage.last_idx(), 0);
        assert_eq!(
            save(&storage, vec![message("a", 127.0, 10), message("b", 127.0, 20)]),
            [Outcome::Stored(1), Outcome::Stored(2)]
        );
        let epoch = storage.epoch();
        assert_eq!((forget_before(&storage, 30), storage.noted_ms()), (0, None));
        note(&storage, 29);
        assert_eq!(forget_before(&storage, 30), 2);
        drop(storage);
        assert!(!dir.path().join("dna.db-wal").exists(), "a clean end leaves one file");
        let storage = SqliteStorage::open(&path, Durability::Process).unwrap();
        assert_eq!((storage.epoch(), storage.last_idx(), storage.noted_ms()), (epoch, 2, Some(29)));
        assert_eq!(save(&storage, vec![message("c", 127.0, 40)]), [Outcome::Stored(3)]);
    }

    #[tokio::test]
    async fn missed_is_all_or_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let storage = SqliteStorage::open(&dir.path().join("dna.db"), Durability::Process).unwrap();
        let near = message("near", 127.001, 10);
        let far = message("far", 127.1, 10);
        save(&storage, vec![near.clone(), far, near.clone(), near.clone()]);
        let Missed::All(found) = storage.missed(query(0, 4)).await.unwrap() else { panic!() };
        assert_eq!(found.iter().map(|stored| stored.idx).collect::<Vec<_>>(), [1, 3, 4]);
        assert_eq!(found[0].message, near);
        let Missed::All(found) = storage.missed(query(1, 3)).await.unwrap() else { panic!() };
        assert_eq!(found.iter().map(|stored| stored.idx).collect::<Vec<_>>(), [3]);
        save(&storage, vec![near]);
        assert_eq!(storage.missed(query(0, 5)).await.unwrap(), Missed::TooMany);
        assert_eq!(
            storage.missed(MissedQuery { max_bytes: 5, ..query(0, 4) }).await.unwrap(),
            Missed::TooMany
        );
        note(&storage, 10);
        forget_before(&storage, 11);
        assert_eq!(storage.missed(query(4, 5)).await.unwrap(), Missed::Forgotten);
        assert_eq!(storage.missed(query(5, 5)).await.unwrap(), Missed::All(vec![]));
    }

    #[test]
    fn what_is_deleted_while_it_is_read_is_no_hole() {
        let dir = tempfile::tempdir().unwrap();
        let storage = SqliteStorage::open(&dir.path().join("dna.db"), Durability::Process).unwrap();
        for idx in 1..=200 {
            save(&storage, vec![message("one", 127.0, 10)]);
            note(&storage, 10);
            let reader = storage.reader.clone();
            let (begun, has_begun) = mpsc::channel();
            let reading = std::thread::spawn(move || {
                let reader = reader.lock().unwrap();
                loop {
                    let missed = read_missed(&reader, &query(idx - 1, idx)).unwrap();
                    let _ = begun.send(());
                    match missed {
                        Missed::Forgotten => return,
                        missed => {
                            assert!(matches!(&missed, Missed::All(found) if found.len() == 1), "{missed:?}");
                        }
                    }
                }
            });
            has_begun.recv().unwrap();
            assert_eq!(forget_before(&storage, 11), 1);
            reading.join().unwrap();
        }
    }

    #[tokio::test]
    async fn much_is_forgotten_a_slice_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let storage = SqliteStorage::open(&dir.path().join("dna.db"), Durability::Process).unwrap();
        let slice = u64::from(FORGET_AT_ONCE);
        for _ in 0..3 {
            save(&storage, vec![message("old", 127.1, 10); FORGET_AT_ONCE as usize]);
        }
        note(&storage, 30);
        save(&storage, vec![message("new", 127.0, 40)]);
        note(&storage, 40);
        assert_eq!(forget_before(&storage, 40), slice);
        // What is left of the old may be asked for until it is gone as well.
        assert_eq!(storage.missed(query(slice - 1, slice)).await.unwrap(), Missed::Forgotten);
        assert_eq!(storage.missed(query(3 * slice, 3 * slice + 1)).await.unwrap(), missed_one());
        assert_eq!(forget_before(&storage, 40), slice);
        assert_eq!(forget_before(&storage, 40), slice);
        assert_eq!(forget_before(&storage, 40), 0);
        assert_eq!(storage.missed(query(3 * slice - 1, 3 * slice + 1)).await.unwrap(), Missed::Forgotten);
        assert_eq!(storage.missed(query(3 * slice, 3 * slice + 1)).await.unwrap(), missed_one());
    }

    #[tokio::test]
    async fn what_was_said_while_the_clock_was_wrong_is_kept_as_long_as_all_else() {
        let dir = tempfile::tempdir().unwrap();
        let storage = SqliteStorage::open(&dir.path().join("dna.db"), Durability::Process).unwrap();
        const HOUR: i64 = 3_600_000;
        // Noted at 100 h; then one with a clock of 1970, one of the far future, and one as it should be.
        save(&storage, vec![message("a", 127.0, 100 * HOUR)]);
        note(&storage, 100 * HOUR);
        save(&storage, vec![message("b", 127.0, 0), message("c", 127.0, 9_999 * HOUR)]);
        save(&storage, vec![message("d", 127.0, 101 * HOUR)]);
        note(&storage, 102 * HOUR);
        assert_eq!(forget_before(&storage, 100 * HOUR), 0);
        assert_eq!(forget_before(&storage, 101 * HOUR), 1);
        assert_eq!(forget_before(&storage, 102 * HOUR), 0, "b is as young as d");
        // A clock that was believed and wrong, by an earlier process: its notes count from when it was put right.
        note(&storage, 9_000 * HOUR);
        save(&storage, vec![message("e", 127.0, 103 * HOUR)]);
        note(&storage, 9_001 * HOUR);
        note(&storage, 104 * HOUR);
        assert_eq!(forget_before(&storage, 104 * HOUR), 3);
        assert_eq!(forget_before(&storage, 105 * HOUR), 1);
    }

    #[test]
    fn a_clock_that_is_set_while_it_is_watched_changes_no_age() {
        let dir = tempfile::tempdir().unwrap();
        let storage = SqliteStorage::open(&dir.path().join("dna.db"), Durability::Process).unwrap();
        const HOUR: i64 = 3_600_000;
        // An hour between any two notes, whatever the clock says.
        let mut now_ms = 1_000 * HOUR;
        for set_hours in [0, -744, 744, 744, -744] {
            save(&storage, vec![message("a", 127.0, now_ms)]);
            now_ms += (1 + set_hours) * HOUR;
            note_after(&storage, set_hours * HOUR, now_ms);
            assert_eq!(forget_before(&storage, now_ms - 5 * HOUR), 0, "{set_hours}");
        }
        for hours in [4, 3, 2, 1, 0] {
            assert_eq!(
                forget_before(&storage, now_ms - hours * HOUR),
                0,
                "the one of {hours} hours is no older"
            );
            assert_eq!(forget_before(&storage, now_ms - hours * HOUR + 1), 1, "nor younger");
        }
    }

    #[test]
    fn a_newer_schema_is_refused_with_advice() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dna.db");
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
        let error = SqliteStorage::open(&path, Durability::Power).unwrap_err().to_string();
        assert!(error.contains("99") && error.contains("newer dna"), "{error}");
    }

    #[test]
    fn what_is_no_database_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dna.db");
        std::fs::write(&path, "certainly not SQLite, but long enough to look at".repeat(50)).unwrap();
        assert!(SqliteStorage::open(&path, Durability::Power).is_err());
    }
}

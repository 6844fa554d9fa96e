//! The tables, and how those of an older `dna` become today's.

use rusqlite::{Connection, TransactionBehavior};

use super::StorageError;

/// What [`MIGRATIONS`] lead to; a newer one is refused.
pub(super) const SCHEMA_VERSION: usize = MIGRATIONS.len();

/// The statement at index n makes version n + 1 of version n. A new file goes through all of them, so that
/// it is no different from one that has come a long way.
const MIGRATIONS: [&str; 2] = [
    "CREATE TABLE message (
         idx INTEGER PRIMARY KEY AUTOINCREMENT, -- never given twice, even after deletion
         user_idx INTEGER NOT NULL,
         nickname TEXT NOT NULL,
         avatar TEXT,
         anonymity INTEGER NOT NULL,
         lng REAL NOT NULL,
         lat REAL NOT NULL,
         type TEXT NOT NULL,
         contents TEXT NOT NULL,
         created_at INTEGER NOT NULL -- milliseconds since 1970, UTC
     ) STRICT;
     CREATE INDEX message_created_at ON message (created_at);
     CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
     INSERT INTO meta (key, value) VALUES ('epoch', lower(hex(randomblob(8))));",
    // Retention goes by marks instead of `created_at`: what it deletes is a stretch from the beginning whatever
    // the clock did, and saving writes one index less.
    "CREATE TABLE mark (
         idx INTEGER PRIMARY KEY, -- this message and all before it
         at_ms INTEGER NOT NULL -- were stored by then; milliseconds since 1970, UTC
     ) STRICT;
     INSERT INTO mark (idx, at_ms)
         SELECT max(idx), max(at_ms)
         FROM (SELECT idx, max(created_at) OVER (ORDER BY idx) AS at_ms FROM message)
         GROUP BY at_ms / 600000; -- one for ten minutes
     -- The clock of the first start is compared with it, as with any other note.
     INSERT INTO meta (key, value) SELECT 'noted_ms', max(at_ms) FROM mark HAVING max(at_ms) IS NOT NULL;
     DROP INDEX message_created_at;",
];

/// Makes or migrates the tables, all in one transaction: a process that dies here leaves what was.
///
/// # Errors
/// When the database was written by a newer `dna`, or cannot be written.
pub(super) fn prepare(connection: &mut Connection) -> Result<(), StorageError> {
    let version = version(connection)?;
    if version == SCHEMA_VERSION {
        return Ok(());
    }
    if version > 0 {
        tracing::info!(from = version, to = SCHEMA_VERSION, "migrating the database");
    }
    let mut migrate = || -> rusqlite::Result<()> {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for statements in &MIGRATIONS[version..] {
            transaction.execute_batch(statements)?;
        }
        transaction.execute_batch(&format!("PRAGMA user_version = {SCHEMA_VERSION}"))?;
        transaction.commit()
    };
    migrate().map_err(|error| StorageError::new("preparing the tables", error))
}

/// The version a database has; 0: none of ours yet.
///
/// # Errors
/// When it is newer than ours, or no database.
pub(super) fn version(connection: &Connection) -> Result<usize, StorageError> {
    let version: i64 = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(|error| StorageError::new("reading the schema's version", error))?;
    match usize::try_from(version) {
        Ok(version) if version <= SCHEMA_VERSION => Ok(version),
        _ => Err(StorageError::new(
            "opening the database",
            format!(
                "it has schema version {version}, this dna knows {SCHEMA_VERSION}: use the newer dna, or another data directory"
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Durability, SqliteStorage, Storage as _};
    use super::*;

    /// A database as version 1 left it.
    fn version_1(path: &std::path::Path, rows: &[(i64, i64)]) {
        let connection = Connection::open(path).unwrap();
        connection.execute_batch(MIGRATIONS[0]).unwrap();
        connection.pragma_update(None, "user_version", 1).unwrap();
        for (idx, created_at) in rows {
            connection
                .execute(
                    "INSERT INTO message VALUES (?1, 7, 'Ann', NULL, 0, 127.0, 37.5, 'Message', 'old', ?2)",
                    [idx, created_at],
                )
                .unwrap();
        }
    }

    #[test]
    fn version_1_becomes_today_s_with_marks_that_never_go_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dna.db");
        // The clock was set back at 4; 3 and 5 share ten minutes with others.
        version_1(
            &path,
            &[(1, 1_000), (2, 700_000), (3, 800_000), (4, 50_000), (5, 900_000), (9, 5_000_000)],
        );
        let mut connection = Connection::open(&path).unwrap();
        prepare(&mut connection).unwrap();
        prepare(&mut connection).unwrap();
        let mut marks = connection.prepare("SELECT idx, at_ms FROM mark ORDER BY idx").unwrap();
        let marks: Vec<(i64, i64)> = marks
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(marks, [(1, 1_000), (5, 900_000), (9, 5_000_000)]);
        assert_eq!(version(&connection).unwrap(), SCHEMA_VERSION);
        let kept: i64 = connection.query_row("SELECT count(*) FROM message", [], |row| row.get(0)).unwrap();
        assert_eq!(kept, 6);
    }

    #[test]
    fn the_last_message_of_version_1_counts_as_its_last_note() {
        for (rows, noted_ms) in [(&[][..], None), (&[(1, 1_000), (2, 90_000), (3, 50_000)], Some(90_000))] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("dna.db");
            version_1(&path, rows);
            let storage = SqliteStorage::open(&path, Durability::Process).unwrap();
            assert_eq!(storage.noted_ms(), noted_ms);
        }
    }
}

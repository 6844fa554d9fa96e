//! The data directory: locked by the one `dna` that serves from it, with the secret tokens are signed with.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::rotation::MIN_SECRET_BYTES;
use crate::world::World;

const SECRET_FILE: &str = "jwt-secret";
const LOCK_FILE: &str = "lock";

/// An existing directory.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
}

/// Held while serving; released when dropped or when the process dies.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl DataDir {
    /// Makes the directory when it is not there, for its owner only: people's messages are in it. An existing one
    /// stays as it is.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(path).with_context(|| {
            format!("making the data directory {}: choose another with --data", path.display())
        })?;
        Ok(Self { path: path.to_owned() })
    }

    pub fn database(&self, world: World) -> PathBuf {
        self.path.join(world.database_file())
    }

    /// # Errors
    /// When another process holds it.
    pub fn lock(&self) -> anyhow::Result<Lock> {
        let path = self.path.join(LOCK_FILE);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .with_context(|| format!("opening {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {
                // For people, who look for the process to signal; the lock itself needs no contents.
                let _ = file.set_len(0).and_then(|()| writeln!(&file, "{}", std::process::id()));
                Ok(Lock { _file: file })
            }
            Err(TryLockError::WouldBlock) => bail!(
                "another dna is using {}{}: stop it, or choose another directory with --data",
                self.path.display(),
                std::fs::read_to_string(&path)
                    .map_or(String::new(), |pid| format!(" (process {})", pid.trim_end())),
            ),
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("locking {}", path.display()))
            }
        }
    }

    /// `DNA_JWT_SECRET`, else the directory's own, made once and readable by its owner only.
    ///
    /// # Errors
    /// When the secret is too short, or the file cannot be read or made.
    pub fn secret(&self) -> anyhow::Result<Vec<u8>> {
        if let Some(secret) = std::env::var_os("DNA_JWT_SECRET") {
            let secret = secret.into_encoded_bytes();
            if secret.len() < MIN_SECRET_BYTES {
                bail!("DNA_JWT_SECRET has {} bytes; give at least {MIN_SECRET_BYTES}", secret.len());
            }
            return Ok(secret);
        }
        let path = self.path.join(SECRET_FILE);
        match File::open(&path) {
            Ok(mut file) => {
                let mut secret = Vec::new();
                file.read_to_end(&mut secret).with_context(|| format!("reading {}", path.display()))?;
                if secret.len() < MIN_SECRET_BYTES {
                    bail!("{} is damaged: remove it, and old tokens become invalid", path.display());
                }
                Ok(secret)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => self.make_secret(&path),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    fn make_secret(&self, path: &Path) -> anyhow::Result<Vec<u8>> {
        let mut bytes = [0u8; 32];
        getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
        let secret: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        // Written aside and renamed, so that a second starter never reads half of it.
        let aside = self.path.join(format!("{SECRET_FILE}.{}", std::process::id()));
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&aside).with_context(|| format!("making {}", aside.display()))?;
        file.write_all(secret.as_bytes())?;
        file.sync_all()?;
        // A link fails where the name is taken: whoever was first wins.
        let linked = std::fs::hard_link(&aside, path);
        std::fs::remove_file(&aside)?;
        match linked {
            Ok(()) => Ok(secret.into_bytes()),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => self.secret(),
            Err(error) => Err(error).with_context(|| format!("making {}", path.display())),
        }
    }

    /// Removes the test world's database.
    ///
    /// # Errors
    /// When a file is there and cannot be removed. Holding the [`Lock`] is the caller's duty.
    pub fn forget_test_world(&self) -> anyhow::Result<bool> {
        let database = self.database(World::Test);
        let mut found = false;
        for suffix in ["", "-wal", "-shm"] {
            let mut name = database.clone().into_os_string();
            name.push(suffix);
            match std::fs::remove_file(&name) {
                Ok(()) => found = true,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("removing {}", Path::new(&name).display()));
                }
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_is_made_once_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        let secret = data.secret().unwrap();
        assert_eq!(data.secret().unwrap(), secret);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(dir.path().join(SECRET_FILE)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_new_directory_is_private_and_an_old_one_stays_as_it_is() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let path = dir.path().join("new");
        DataDir::open(&path).unwrap();
        assert_eq!(mode(&path), 0o700);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o750)).unwrap();
        DataDir::open(&path).unwrap();
        assert_eq!(mode(&path), 0o750);
    }

    #[test]
    fn one_lock_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        let lock = data.lock().unwrap();
        assert!(data.lock().unwrap_err().to_string().contains("--data"));
        drop(lock);
        assert!(data.lock().is_ok());
    }

    #[test]
    fn forgetting_takes_the_test_world_only() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        for name in ["dna.db", "dna-test.db", "dna-test.db-wal"] {
            std::fs::write(dir.path().join(name), "x").unwrap();
        }
        assert!(data.forget_test_world().unwrap());
        assert!(!data.forget_test_world().unwrap());
        let left: Vec<_> =
            std::fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert_eq!(left, ["dna.db"]);
    }
}

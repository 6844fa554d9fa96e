//! The two worlds. Nothing but this enum crosses from one to the other.

use serde::Serialize;

/// Where a connection, a message and a listener belong. They never meet across.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum World {
    Live,
    Test,
}

impl World {
    pub const ALL: [World; 2] = [World::Live, World::Test];

    /// `live` or `test`, as labels and file names say it.
    pub fn name(self) -> &'static str {
        match self {
            World::Live => "live",
            World::Test => "test",
        }
    }

    /// The database file inside the data directory.
    pub fn database_file(self) -> &'static str {
        match self {
            World::Live => "dna.db",
            World::Test => "dna-test.db",
        }
    }
}

/// One of something for each world.
#[derive(Debug, Clone, Default)]
pub struct PerWorld<T> {
    pub live: T,
    pub test: T,
}

impl<T> PerWorld<T> {
    pub fn new(mut make: impl FnMut(World) -> T) -> Self {
        Self { live: make(World::Live), test: make(World::Test) }
    }

    /// # Errors
    /// The first error `make` gives.
    pub fn try_new<E>(mut make: impl FnMut(World) -> Result<T, E>) -> Result<Self, E> {
        Ok(Self { live: make(World::Live)?, test: make(World::Test)? })
    }

    pub fn get(&self, world: World) -> &T {
        match world {
            World::Live => &self.live,
            World::Test => &self.test,
        }
    }

    pub fn get_mut(&mut self, world: World) -> &mut T {
        match world {
            World::Live => &mut self.live,
            World::Test => &mut self.test,
        }
    }
}

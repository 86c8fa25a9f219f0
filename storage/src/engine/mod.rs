//! Where records rest: ordered maps on disk, behind one small trait.
//!
//! An engine is a *materialisation* of the Raft log, not the point of
//! durability. The log is synced before an entry counts; what an engine holds
//! can be replayed from it. That is why the contract is unusual:
//!
//! ```text
//!   write(batch)   atomic over the whole key space, visible on return,
//!                  NOT durable
//!   persist()      everything written before the call survives power loss
//!   crash          the state is that after some prefix of the batches, and
//!                  never shorter than what the last persist covered
//! ```
//!
//! A batch carries the applied index along with the records, so after a crash
//! the log is replayed from wherever the surviving prefix ended, and nothing
//! is applied twice or lost.
//!
//! All logical trees share one key space, one prefix byte each ([`Tree`]);
//! this is what makes one batch atomic across all of them on every engine.
//!
//! | engine | files | for |
//! |---|---|---|
//! | `sled` | `sled/` | the default; data that fits in memory |
//! | `redb` | `redb.rs` | bounded memory; data larger than it |
//! | `memory` | `memory.rs` | tests and the simulator, with injected faults |

mod batch;
mod crash;
mod damage;
mod dir;
mod error;
mod files;
mod format;
mod memory;
mod opening;
mod packed;
mod redb;
mod sled;
mod tree;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

#[cfg(target_os = "linux")]
pub use self::sled::sync_log;
pub use batch::{Op, WriteBatch};
use damage::Marking;
pub use damage::forget as forget_damage;
pub use dir::{Checkpoint, EngineDir, Replacement, Retired, Rewrite};
pub use error::EngineError;
pub use memory::{Faults, Memory};
pub use opening::{caught, opening};
pub use packed::Packed;
pub use tree::Tree;

/// The order in which a scan visits keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the smallest key up.
    Forward,
    /// From the largest key down.
    Backward,
}

/// What a scan calls for every record: key, then value.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// What an engine can do beyond the contract of [`Engine`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// A scan sees one point in time, however long it runs.
    pub snapshots: bool,
    /// Memory stays near `cache_bytes` whatever the size of the data.
    pub bounded_memory: bool,
    /// `persist` runs beside writes; otherwise writes wait for it.
    pub concurrent_persist: bool,
}

/// How large an engine is right now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineStats {
    /// What its files take on the disk, holes not counted.
    pub disk_bytes: u64,
    /// Bytes its cache holds, where the engine can tell.
    pub cache_bytes: Option<u64>,
}

/// Which engine stores the data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineKind {
    /// sled 0.34.
    #[default]
    Sled,
    /// redb 4.
    Redb,
    /// Nothing on disk.
    Memory,
}

impl EngineKind {
    const ALL: [Self; 3] = [Self::Sled, Self::Redb, Self::Memory];

    /// The name used on the command line, in directory names and in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sled => "sled",
            Self::Redb => "redb",
            Self::Memory => "memory",
        }
    }
}

impl std::fmt::Display for EngineKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for EngineKind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let kind = Self::ALL.into_iter().find(|kind| kind.name() == name);
        kind.ok_or_else(|| {
            let [sled, redb, memory] = Self::ALL.map(Self::name);
            format!("unknown storage engine {name:?}: expected {sled:?}, {redb:?} or {memory:?}")
        })
    }
}

/// What an engine is opened with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineOptions {
    /// Which engine.
    pub kind: EngineKind,
    /// How much memory its cache may take. It takes what the data needs, up to
    /// this.
    pub cache_bytes: u64,
}

impl EngineOptions {
    /// An engine with the cache that suits it: sled's should hold all data,
    /// since it does not keep to a smaller one; redb does well with little, as
    /// what it reads again comes from the cache of the file system.
    pub fn new(kind: EngineKind) -> Self {
        let cache_bytes = match kind {
            EngineKind::Sled => 1 << 30,
            EngineKind::Redb => 64 << 20,
            EngineKind::Memory => 0,
        };
        Self { kind, cache_bytes }
    }
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self::new(EngineKind::default())
    }
}

/// An ordered map from byte strings to byte strings; see the module's
/// documentation for what it promises after a crash.
///
/// Keys are full keys: [`Tree::key`] has put the prefix byte in front.
pub trait Engine: Send + Sync + 'static {
    /// The name of the engine: `sled`, `redb` or `memory`.
    fn name(&self) -> &'static str;

    /// The value of `key`.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError>;

    /// The values of `keys`, which are in strictly ascending order, one for each.
    /// Not a snapshot: writes beside it may show in some of them.
    fn get_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>, EngineError> {
        keys.iter().map(|key| self.get(key)).collect()
    }

    /// Visits the records of `[start, end)` in order until `visit` breaks.
    ///
    /// It sees every write that returned before the call. Writes that run
    /// beside it may or may not be seen.
    fn scan(
        &self,
        start: &[u8],
        end: &[u8],
        direction: Direction,
        visit: &mut Visit<'_>,
    ) -> Result<(), EngineError>;

    /// Applies a batch: all of it or nothing, visible on return, not durable.
    /// A read that runs beside it may see part of it.
    ///
    /// There is one writer at a time; engines serialise callers.
    fn write(&self, batch: &WriteBatch) -> Result<(), EngineError>;

    /// On return everything written before the call survives power loss. May
    /// be called beside `write`, on another thread.
    fn persist(&self) -> Result<(), EngineError>;

    /// Loads records in ascending key order into a key range that is empty,
    /// faster than `write` would. Not atomic; durable only after `persist`.
    fn bulk_load(
        &self,
        sorted: &mut dyn Iterator<Item = (Bytes, Bytes)>,
    ) -> Result<(), EngineError>;

    /// How large the engine is.
    fn stats(&self) -> Result<EngineStats, EngineError>;

    /// What the engine can do beyond the contract.
    fn capabilities(&self) -> Capabilities;

    /// Persists and lets go of the files. Calls after it fail with
    /// [`EngineError::Closed`]; closing twice is fine.
    fn close(&self) -> Result<(), EngineError>;
}

/// Opens the engine in `dir`, creating both if they are absent.
pub fn open(dir: &Path, options: &EngineOptions) -> Result<Arc<dyn Engine>, EngineError> {
    let name = options.kind.name();
    std::fs::create_dir_all(dir).map_err(|error| EngineError::io(name, dir, "create", &error))?;
    let exists = format::check(dir, options.kind)?;
    let engine = open_files(dir, options, exists)?;
    if !exists {
        format::mark(dir, options.kind)?;
    }
    Ok(engine)
}

/// Opens the engine that has to be in `dir`; if it is not, it is to be rebuilt.
pub fn open_existing(dir: &Path, options: &EngineOptions) -> Result<Arc<dyn Engine>, EngineError> {
    if !format::check(dir, options.kind)? {
        let reason = "its format mark is missing";
        return Err(EngineError::rebuild(options.kind.name(), dir, reason));
    }
    damage::check(dir, options.kind.name())?;
    open_files(dir, options, true)
}

/// Removes a closed engine and all its data.
pub fn destroy(dir: &Path) -> Result<(), EngineError> {
    files::remove_tree(dir)
        .map_err(|error| EngineError::io("engine directory", dir, "remove", &error))
}

fn open_files(
    dir: &Path,
    options: &EngineOptions,
    exists: bool,
) -> Result<Arc<dyn Engine>, EngineError> {
    Ok(match options.kind {
        EngineKind::Sled => {
            let packed = Packed::new(sled::Sled::open(dir, options, exists)?, dir);
            Arc::new(Marking::new(packed, dir))
        }
        EngineKind::Redb => {
            let packed = Packed::new(redb::Redb::open(dir, options, exists)?, dir);
            Arc::new(Marking::new(packed, dir))
        }
        EngineKind::Memory => Arc::new(Memory::new()),
    })
}

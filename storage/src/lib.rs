//! Storage: engines, revisions, the key index and the MVCC store. A plain synchronous library.
//!
//! ```text
//!   WriteTxn -> MvccStore --publish--> Views -> ReadView        (any thread, never waits for the writer)
//!                  |  seal / take_sealed                |
//!                  v                                    |  record: the ring of recent records first,
//!               WriteBatch -> Engine  <-----------------+          then the engine
//! ```
//!
//! The writer applies transactions to the key index and to a pending batch. Sealed batches are written to the
//! [engine](engine::Engine) by whoever owns the store, on a thread of its choice; until then their records are
//! served from memory. The engine materialises a log that is kept elsewhere: after a crash it holds some prefix
//! of the sealed batches, together with the [`LogPosition`] that says which.

#![deny(unsafe_code)]

pub mod backend;
pub mod compactor;
pub mod engine;
pub mod error;
pub mod index;
pub mod key_range;
pub mod mvcc;
pub mod record;
pub mod revision;

pub use backend::{Backend, BackendConfig};
pub use compactor::{CompactionMode, Compactor};
pub use error::{StorageError, StorageResult};
pub use index::{KeyIndex, KeyMeta};
pub use key_range::KeyRange;
pub use mvcc::{
    Change, ChangeKind, CompactStep, CompactionHash, Estimate, HashKv, HistoryPage, LogPosition,
    MvccOptions, MvccStore, ReadAt, ReadGuard, ReadView, SealedBatch, Sizes, TxnEnd, Views,
    WriteTxn, check_entry,
};
pub use record::Record;
pub use revision::{At, RecordRevision};

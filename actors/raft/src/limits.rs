//! Every bound of this crate, with the reason for its value.

/// How far the commit index may run ahead of the applied one before proposals are turned down (G-11).
pub const APPLY_GAP_MAX: u64 = 5_000;

/// The same for lease revocations under the feature gate `PriorityRequest` (G-11): they free what others wait for.
pub const APPLY_GAP_PRIORITY_MAX: u64 = 10_000;

/// Proposals of this member that may wait for their entry: ten times what a thousand busy clients need.
pub const WAITING_MAX: usize = 16_384;

/// Bytes of proposals that may be held back while a write is in flight or no leader is known.
pub const HELD_BYTES_MAX: usize = 128 << 20;

/// Bytes that may be in the log without being committed, so that a leader without a quorum does not fill its memory.
pub const UNCOMMITTED_BYTES_MAX: usize = 64 << 20;

/// One append batch, which becomes one record of the log. Large enough to amortise the sync, small enough that
/// a segment stays near its target size. A single larger entry passes alone.
pub const WRITE_BATCH_BYTES_MAX: usize = 8 << 20;

/// Entries of one append batch.
pub const WRITE_BATCH_ENTRIES_MAX: usize = 4_096;

/// Entries of one Apply batch: small enough that the state machine turns to other messages often.
pub const APPLY_BATCH_ENTRIES_MAX: usize = 512;

/// Bytes of one Apply batch. A single larger entry passes alone.
pub const APPLY_BATCH_BYTES_MAX: usize = 4 << 20;

/// Entries handed to the state machine and not yet applied. Below [`APPLY_GAP_MAX`]: the gap is what callers
/// see as an error, the credit is what bounds the queue.
pub const APPLY_CREDIT_ENTRIES: usize = 2_048;

/// Bytes handed to the state machine and not yet applied.
pub const APPLY_CREDIT_BYTES: usize = 16 << 20;

/// Committed entries taken from raft-rs and waiting for credit. Beyond this they stay in the log.
pub const COMMITTED_QUEUE_BYTES_MAX: usize = 8 << 20;

/// Bytes of entries that are on disk and applied, yet kept in memory: followers and term look-ups are served
/// from them without touching a file.
pub const TAIL_KEEP_BYTES: usize = 4 << 20;

/// Entries kept in the log below the applied index when there are other members, so that a slow one
/// catches up from the log rather than from a snapshot (O-09).
pub const CATCH_UP_ENTRIES: u64 = 5_000;

/// A truncation waits this long for entries that are written anyway; then it is written alone.
pub const TRUNCATION_DELAY_MS_MAX: u64 = 1_000;

/// Readies whose messages may wait for the disk. Only a stalled disk makes so many.
pub const AFTER_PERSIST_MAX: usize = 1_024;

/// Reads that may wait for a ReadIndex round.
pub const READS_WAITING_MAX: usize = 65_536;

/// A ReadIndex round is repeated after this long: a leader that has committed nothing in its term drops it.
pub const READ_INDEX_RETRY_MS: u64 = 500;

/// A sole voter campaigns once at most this many committed entries wait to be applied: raft-rs reads all of
/// them into memory to look for membership changes.
pub const CAMPAIGN_GAP_MAX: u64 = 1_000;

/// Entries between two lines in the log while a member that starts applies what it finds there.
pub const REPLAY_REPORT_ENTRIES: u64 = 100_000;

/// The shell drives the core at the latest after this many inputs of one mailbox run: a flood of messages
/// would otherwise put off the scheduled drive.
pub const DRIVE_INPUTS_MAX: usize = 256;

/// As [`DRIVE_INPUTS_MAX`], in bytes.
pub const DRIVE_BYTES_MAX: usize = 1 << 20;

/// A batch of at most this many bytes is written by the Raft thread of a sole voter itself.
pub const INLINE_BYTES_MAX: usize = 1 << 20;

/// Largest message of entries to another member (O-08).
pub const MESSAGE_BYTES_MAX: u64 = 1 << 20;

/// Messages to another member that may be unacknowledged (O-08).
pub const INFLIGHT_MESSAGES_MAX: usize = 512;

/// Size at which the log goes on in a new segment.
pub const SEGMENT_BYTES: u64 = 32 << 20;

/// Segments beyond this size in all are removed once the log has been truncated below them.
pub const PURGE_THRESHOLD_BYTES: u64 = 64 << 20;

/// A segment larger than this cannot have been written by this program.
pub const SEGMENT_BYTES_SANE: u64 = 1 << 30;

/// Proposals in the mailbox. The core refuses by its own measures; this one only keeps a stalled thread
/// from collecting messages without end.
pub const PROPOSE_QUEUE: usize = 16_384;

/// Reads in the mailbox.
pub const READ_INDEX_QUEUE: usize = 16_384;

/// Credits coming back: at most one message for each batch on its way, which credits bound.
pub const APPLIED_QUEUE: usize = 4_096;

/// Messages of which only the latest matters, or which come one at a time.
pub const CONTROL_QUEUE: usize = 64;

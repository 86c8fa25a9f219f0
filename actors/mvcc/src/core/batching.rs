//! When sealed batches are handed to the engine writer: together, since an engine's batch costs nearly as much as it
//! costs to write a hundred records; and at any rate before too much piles up.

/// So many bytes that the engine does not have yet are handed over at once.
pub const BATCH_BYTES: usize = 64 << 10;
/// How long fewer may wait for company: as long as etcd's backend waits between commits. The fewer the batches, the
/// less the engine's writing is in the way of the log's.
pub const BATCH_INTERVAL_MS: u64 = 100;
/// A batch in the engine writer's hands and one behind it: more are collected meanwhile.
pub const BATCHES_OUT_MAX: usize = 2;
/// Bytes that the engine does not have yet, beyond which Raft gets no credits, which in the end slows clients down.
pub const UNWRITTEN_BYTES_MAX: usize = 32 << 20;
/// What an entry takes in the log besides its data, about.
const ENTRY_OVERHEAD_BYTES: usize = 32;
/// Bytes of log that change nothing, after which a batch is written all the same: the log is only truncated through the
/// entry that the engine has noted with its last batch.
pub const UNREPORTED_LOG_BYTES_MAX: usize = 1 << 20;

#[derive(Debug, Default)]
pub(super) struct Batching {
    now_ms: u64,
    /// Since when something waits to be handed over.
    waiting_since_ms: Option<u64>,
    /// Batches handed over and not yet written.
    batches_out: usize,
    /// Bytes of the log applied since the last batch was handed over.
    unreported_log_bytes: usize,
}

impl Batching {
    pub(super) fn tick(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
    }

    /// An entry with so much data was applied.
    pub(super) fn applied(&mut self, data_bytes: usize) {
        self.unreported_log_bytes += data_bytes + ENTRY_OVERHEAD_BYTES;
    }

    /// Whether a batch is to be handed over now, of so many bytes that the engine does not have yet.
    pub(super) fn is_due(&mut self, unwritten_bytes: usize) -> bool {
        if unwritten_bytes == 0 && self.unreported_log_bytes < UNREPORTED_LOG_BYTES_MAX {
            return false;
        }
        let since_ms = *self.waiting_since_ms.get_or_insert(self.now_ms);
        let due = unwritten_bytes >= BATCH_BYTES || self.now_ms - since_ms >= BATCH_INTERVAL_MS;
        let is_due = due && self.batches_out < BATCHES_OUT_MAX;
        if is_due {
            self.waiting_since_ms = None;
        }
        is_due
    }

    /// A batch is handed over. Returns the bytes of log that it is the first to cover.
    pub(super) fn taken(&mut self) -> u64 {
        self.batches_out += 1;
        std::mem::take(&mut self.unreported_log_bytes) as u64
    }

    /// A batch is written.
    pub(super) fn wrote(&mut self) {
        debug_assert!(self.batches_out > 0, "a batch that was never handed over");
        self.batches_out = self.batches_out.saturating_sub(1);
    }
}

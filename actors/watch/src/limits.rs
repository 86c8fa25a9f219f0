//! The bounds of the hub, each with the reason for its value.

use rusd_messages::watch::SinkLimits;

/// Distinct revisions in one response (W-12).
pub const BATCH_REVISIONS: usize = 1000;
/// So many revisions that come together are still sent one by one, as etcd does with live events: clients whose writes
/// do not come in floods get a response for each. More than that are merged, which costs all of them less.
pub const APART_REVISIONS: usize = 8;
/// Bytes of events that are matched and sent together. One response holds at most this and one revision more:
/// small enough for the 4 MiB at which many clients refuse a message, large enough that its own cost vanishes.
pub const BATCH_BYTES: usize = 1 << 20;
/// Bytes of a page of history: what one response can hold.
pub const PAGE_BYTES: usize = BATCH_BYTES;
/// Bytes of recent revisions that are kept while anybody watches, unless `--watch-ring-bytes` says otherwise: a second
/// of heavy writing.
pub const RING_BYTES: usize = 8 << 20;
/// Recent revisions that are kept, so that small ones do not make the ring long.
pub const RING_REVISIONS: usize = 16 * 1024;
/// Pages taken from the ring before other messages get their turn.
pub const ROUNDS_PER_TURN: usize = 8;

/// A stream's queue. Ten thousand watches on one stream fill it for every event; each filling costs the stream
/// and the hub one message, so it holds many responses; they are small and share their events. Its bytes
/// are what a client that has stopped reading can hold back.
pub const SINK: SinkLimits = SinkLimits {
    responses: 1024,
    bytes: 2 << 20,
    requests: 64,
};

/// Batches of revisions that wait for the hub. Beyond this the state machine says only how far it is, and the
/// hub reads history.
pub const COMMITTED_QUEUE: usize = 64;
/// Streams that wait to be opened; a client finding it full is told `too many requests`.
pub const OPEN_QUEUE: usize = 4096;
/// Requests of streams. Never the bound in force: each stream has its credits ([`SINK`]).
pub const REQUEST_QUEUE: usize = 4096;
/// One notice per stream is under way at most, so this is never the bound in force.
pub const NOTICE_QUEUE: usize = 4096;
/// Rare messages of the state machine, none of which may be lost.
pub const NEWS_QUEUE: usize = 64;
/// Ticks are coalesced: the next one says all.
pub const TICK_QUEUE: usize = 1;

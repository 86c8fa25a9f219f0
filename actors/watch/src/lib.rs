//! The watch hub: who watches what, and what each of them has yet to see.
//!
//! The state machine tells the hub the events of every revision once, each encoded once. The hub matches them
//! against the ranges that are watched and puts, per watch, one small response on the queue of its stream;
//! responses share their events. What a watcher sees is every event of its range and filters from its start
//! on, once, in order, whole revisions at a time, or a message that history was compacted.
//!
//! ```text
//!   Committed -> pending --pass_on--> matching --> synced watchers --> sinks --> streams
//!                             |                        |    ^
//!                             v                  full  |    |  caught up
//!                            ring ----> recent <-------+----+
//!                             |  (evicted)  |               |
//!                             +-----------> old ------------+
//!                                            ^
//!             History <--- one request ------+--- page
//! ```
//!
//! A watcher is in one of three states. *Synced* ones follow live events; their `next_revision` is implied.
//! One whose stream has no room is *recent*: the ring of the latest revisions feeds it once there is room. One
//! is *old* if it starts in the past, if its next revision has left the ring, or if it wants previous records that were
//! not looked up: it is fed pages of history up to the revision the hub itself has seen, until the ring takes over.
//! Because the next revision moves only when a response was taken, there is neither gap nor duplicate.
//!
//! The state machine never waits for the hub: beyond the bound of its port it says [`Lagged`], and
//! everybody becomes old. While no stream is open it says nothing ([`WatchDemand`]). Nor does the hub wait for
//! a stream: a client that does not read costs the memory of its queue ([`limits::SINK`]) and holds up no other client.
//!
//! Memory: a watcher is 48 bytes in a slab, about 20 in its stream's map and 4 to 8 in its group, so about 80 bytes and
//! its share of the group; a group (a distinct range) is about 200 bytes and its keys. The ring keeps at most
//! [`limits::RING_BYTES`], a page [`limits::PAGE_BYTES`] and one revision. When the last stream closes, all of it is
//! freed.
//!
//! [`Lagged`]: rusd_messages::watch::Lagged
//! [`WatchDemand`]: rusd_messages::watch::WatchDemand

#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods)]

mod actor;
mod burst;
mod catch_up;
mod groups;
pub mod hub;
mod intervals;
pub mod limits;
mod matching;
mod metrics;
mod placement;
mod range;
mod requests;
mod ring;
mod slab;
mod start;
mod stream;
mod watcher;

pub use hub::{Counts, HistoryRequest, Hub, HubConfig};
pub use start::{Links, Ports, Started, WatchConfig, start};

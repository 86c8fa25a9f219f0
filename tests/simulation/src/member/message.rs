//! What the actors of a member tell each other, and what else happens to it.

use crate::client::Ask;
use crate::engine::VirtualEngine;
use crate::network::Party;
use rusd_messages::compactor::{CompactStepped, CompactionPending, RevisionAdvanced};
use rusd_messages::lease::{KeepAlive, LeasesChanged, TimeToLive};
use rusd_messages::mvcc::Apply;
use rusd_messages::raft::{Applied, ConfApplied, EnginePersisted, Propose, ReadIndex};
use rusd_messages::watch::{
    Committed, Compacted, FromStream, HistoryPage, Lagged, OpenStream, StreamId,
};
use rusd_messages::{Published, Reply, RoleChanged};
use rusd_mvcc::Write;
use rusd_proto::EtcdError;
use rusd_raft::log::ReadyNumber;
use rusd_storage::CompactionHash;
use rusd_watch::HistoryRequest;
use std::sync::Arc;

/// A message from one actor, thread or client to another.
pub enum Message {
    /// Time, for any actor.
    Tick,
    /// To lease timer, compactor and members.
    Role(RoleChanged),
    Propose(Propose),
    ReadIndex(ReadIndex),
    LogPersisted(ReadyNumber),
    Credits(Applied),
    ConfApplied(ConfApplied),
    EnginePersisted(EnginePersisted),
    Apply(Apply),
    CompactStep(usize),
    EngineWrote(u64),
    EngineReplaced(Arc<VirtualEngine>),
    Write(Write),
    Defragment(Reply<Result<(), EtcdError>>),
    Committed(Committed),
    Lagged(Lagged),
    Compacted(Compacted),
    OpenStream(OpenStream),
    FromStream(FromStream),
    SinkReady(StreamId),
    CloseStream(StreamId),
    History(HistoryRequest),
    HistoryPage(HistoryPage),
    Leases(LeasesChanged),
    KeepAlive(KeepAlive),
    TimeToLive(TimeToLive),
    Revision(RevisionAdvanced),
    CompactionPending(CompactionPending),
    Stepped(CompactStepped),
    Members(Arc<Published>),
}

impl Message {
    /// For the trace.
    fn text(&self) -> String {
        match self {
            Self::Tick => "tick".to_owned(),
            Self::Role(role) => format!("{:?} in term {}", role.role, role.term.0),
            Self::Propose(propose) => {
                format!("propose {}, {} bytes", propose.id, propose.data.len())
            }
            Self::ReadIndex(_) => "read index".to_owned(),
            Self::LogPersisted(ready) => format!("log has ready {}", ready.0),
            Self::Credits(applied) => format!("applied through {}", applied.through),
            Self::ConfApplied(change) => format!("{change:?}"),
            Self::EnginePersisted(persisted) => format!("{persisted:?}"),
            Self::Apply(apply) => {
                let indexes = apply.entries.iter().map(|entry| entry.index.0);
                format!("apply {:?}", indexes.collect::<Vec<_>>())
            }
            Self::CompactStep(records) => format!("remove {records}"),
            Self::EngineWrote(batch) => format!("engine has batch {batch}"),
            Self::EngineReplaced(_) => "engine replaced".to_owned(),
            Self::Write(write) => format!("write batch {}", write.batch.seq),
            Self::Defragment(_) => "defragment".to_owned(),
            Self::Committed(committed) => {
                let revisions = committed.revisions.iter().map(|events| events.revision);
                format!("committed {:?}", revisions.collect::<Vec<_>>())
            }
            Self::Lagged(lagged) => format!("{lagged:?}"),
            Self::Compacted(compacted) => format!("{compacted:?}"),
            Self::OpenStream(open) => format!("open {:?}", open.stream),
            Self::FromStream(from) => format!("{from:?}"),
            Self::SinkReady(stream) => format!("room in {stream:?}"),
            Self::CloseStream(stream) => format!("close {stream:?}"),
            Self::History(request) => format!("{request:?}"),
            Self::HistoryPage(page) => format!("{page:?}"),
            // Those found at a start come in no particular order.
            Self::Leases(changed) => format!("{} changes of leases", changed.changes.len()),
            Self::KeepAlive(renewal) => format!("keep lease {} alive", renewal.id),
            Self::TimeToLive(question) => format!("ask for lease {}", question.id),
            Self::Revision(revision) => format!("{revision:?}"),
            Self::CompactionPending(pending) => format!("{pending:?}"),
            Self::Stepped(stepped) => format!("{stepped:?}"),
            Self::Members(published) => format!("{published:?}"),
        }
    }
}

/// What happens to a member.
pub enum Input {
    /// A message arrives.
    Message {
        from: Party,
        to: Party,
        message: Box<Message>,
    },
    /// Time to tell everybody the time.
    Clock,
    /// The batch that is being written to the log is on its disk.
    LogWritten,
    /// Raft does what its inputs have made possible.
    DriveRaft,
    /// The engine's writer goes on, if it has not been woken since this wake-up.
    EngineWriter { wake: u64 },
    /// A persist is done.
    Persisted {
        engine: Arc<VirtualEngine>,
        batches: u64,
        covers: EnginePersisted,
    },
    /// The thread that hashes compactions gets to this one.
    Hash(CompactionHash),
    /// The hub goes on with what is left.
    ContinueHub,
    /// Readers see the newest view, which a planted bug has kept from them.
    ShowView,
    /// A client's request, made when it knew of a revision.
    Ask { ask: Ask, floor: i64 },
}

impl Input {
    /// For the trace.
    pub fn text(&self) -> String {
        match self {
            Self::Message { from, to, message } => {
                format!("{from:?} -> {to:?}: {}", message.text())
            }
            Self::Clock => "clock".to_owned(),
            Self::LogWritten => "log written".to_owned(),
            Self::DriveRaft => "drive raft".to_owned(),
            Self::EngineWriter { .. } => "engine writer".to_owned(),
            Self::Persisted { covers, .. } => format!("persisted {covers:?}"),
            Self::Hash(_) => "hash a compaction".to_owned(),
            Self::ContinueHub => "hub goes on".to_owned(),
            Self::ShowView => "show view".to_owned(),
            Self::Ask { ask, floor } => format!("knows {floor}, asks {}", ask.text()),
        }
    }
}

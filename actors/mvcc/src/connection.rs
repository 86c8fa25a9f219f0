//! What the actor works with once it is connected, and which effect of the core goes to whom.

use crate::core::{Core, Effect};
use crate::engine::{EngineWriter, Work};
use crate::readers::compaction_hash::CompactionHasher;
use crate::start::Links;
use rusd_messages::Refused;
use rusd_messages::members::MembersChanged;

/// Hands a started actor what it works with.
pub(crate) struct Connect {
    pub(crate) core: Core,
    pub(crate) links: Links,
    pub(crate) writer: EngineWriter,
    pub(crate) hasher: CompactionHasher,
}

impl actix::Message for Connect {
    type Result = ();
}

impl Connect {
    /// Performs an effect. What a full queue refuses goes back to the core.
    pub(crate) fn tell(&mut self, effect: Effect) {
        let links = &self.links;
        match effect {
            // Performed by the actor itself.
            Effect::Published { .. } => {}
            Effect::Applied(applied) => expect_open(links.applied.deliver(applied)),
            Effect::Members(published) => {
                expect_open(links.members.deliver(MembersChanged { published }))
            }
            Effect::Leases(changed) => expect_open(links.leases.deliver(changed)),
            Effect::ConfApplied(change) => expect_open(links.conf_applied.deliver(change)),
            Effect::Hash(compaction) => self.hasher.send(compaction),
            Effect::Compacted(compacted) => expect_open(links.compacted.deliver(compacted)),
            Effect::CompactionPending(pending) => expect_open(links.compaction.deliver(pending)),
            Effect::Committed(committed) => {
                if let Err(Refused::Full(refused) | Refused::Closed(refused)) =
                    links.committed.tell(committed)
                    && let Some(lagged) = self.core.committed_refused(&refused)
                {
                    self.tell(lagged);
                }
            }
            Effect::Lagged(lagged) => {
                tracing::debug!(lagged.through, "the watch hub is to read history");
                if links.lagged.tell(lagged).is_err() {
                    self.core.lagged_refused(lagged);
                }
            }
            Effect::Revision(revision) => {
                if links.revision.tell(revision).is_err() {
                    self.core.revision_refused();
                }
            }
            Effect::Replies(replies) => {
                for (reply, result) in replies {
                    reply.send(result);
                }
            }
            Effect::Write(write) => self.writer.send(Work::Write(write)),
            Effect::Stepped(stepped) => expect_open(links.stepped.deliver(stepped)),
        }
    }
}

/// A closed port: the server is shutting down.
pub(crate) fn expect_open<M>(sent: Result<(), Refused<M>>) {
    if let Err(refused) = sent {
        tracing::debug!(?refused, "a message to an actor that has stopped");
    }
}

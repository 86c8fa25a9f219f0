//! What the watch hub is told, and from when on it has to read history instead.
//!
//! Nobody ever waits for the hub. What its queue cannot take it reads from history later, and so it does with what
//! happened just before its first stream opened.

use super::Effect;
use rusd_messages::watch::{Committed, Lagged, RevisionEvents, WatchDemand};
use std::sync::Arc;

pub(super) struct Hub {
    demand: Arc<WatchDemand>,
    /// The hub has to read history through here, and its queue had no room to say so.
    lagging_through: Option<i64>,
}

impl Hub {
    pub(super) fn new(demand: Arc<WatchDemand>) -> Self {
        Self {
            demand,
            lagging_through: None,
        }
    }

    pub(super) fn wants_events(&self) -> bool {
        self.demand.events()
    }

    pub(super) fn wants_previous(&self) -> bool {
        self.demand.previous()
    }

    /// This revision can be read now. True if the hub is to be told of it.
    pub(super) fn published(&self, revision: i64) -> bool {
        self.demand.published(revision)
    }

    /// Tells the hub of published revisions; None if their events were not made, as nobody was there.
    pub(super) fn tell(
        &mut self,
        newest: i64,
        revisions: Option<Vec<RevisionEvents>>,
        effects: &mut Vec<Effect>,
    ) {
        debug_assert!(
            revisions.as_ref().is_none_or(|revisions| {
                revisions.last().map(|last| last.revision) == Some(newest)
                    && revisions.is_sorted_by(|one, next| one.revision + 1 == next.revision)
            }),
            "every revision in order, without gaps, through the newest"
        );
        if !self.published(newest) {
            return;
        }
        let news = match revisions {
            Some(revisions) if self.lagging_through.is_none() => {
                Effect::Committed(Committed { revisions })
            }
            _ => self.lagged(newest),
        };
        effects.push(news);
    }

    pub(super) fn tick(&mut self, effects: &mut Vec<Effect>) {
        if let Some(through) = self.lagging_through {
            effects.push(self.lagged(through));
        }
    }

    /// Said once, unless it is refused.
    fn lagged(&mut self, through: i64) -> Effect {
        self.lagging_through = None;
        Effect::Lagged(Lagged { through })
    }

    pub(super) fn committed_refused(&mut self, refused: &Committed) -> Option<Effect> {
        let newest = refused.revisions.last()?.revision;
        Some(self.lagged(newest))
    }

    pub(super) fn lagged_refused(&mut self, refused: Lagged) {
        self.lagging_through = Some(refused.through);
    }
}

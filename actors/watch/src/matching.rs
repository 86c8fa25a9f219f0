//! Which events of a few revisions go to which group, and the vectors they are sent in.
//!
//! A batch is matched event by event: each finds its groups through the index. The vector of events that a
//! watcher is sent is then built once for each group and [`Wants`], and shared by everybody who gets the same; a
//! watcher that starts in the middle of the batch gets the rest of that vector.

use crate::groups::{Group, Groups};
use crate::watcher::Wants;
use bytes::Bytes;
use rusd_messages::watch::{Events, RevisionEvents};
use std::sync::Arc;

/// The events of a group: positions of revisions, and of events in them.
#[derive(Debug)]
struct Entry {
    group: u32,
    hits: Vec<(u32, u32)>,
    built: Vec<(Wants, Batch)>,
}

/// What watchers with the same range and wants are sent of a batch.
#[derive(Clone, Debug)]
pub struct Batch {
    events: Arc<[Bytes]>,
    /// The revision of each event.
    revisions: Arc<[i64]>,
    bytes: usize,
    /// Previous records are wanted, but were not looked up for all of the events.
    pub lacks_previous: bool,
}

impl Batch {
    /// The events from `from` on, and the revision of the last one; None if there is none.
    pub fn from(&self, from: i64) -> Option<(Events, i64)> {
        let last = *self.revisions.last()?;
        let skipped = match self.revisions.first() {
            Some(first) if *first >= from => 0,
            _ => self.revisions.partition_point(|revision| *revision < from),
        };
        let bytes = match skipped {
            0 => self.bytes,
            _ => self.events.iter().skip(skipped).map(Bytes::len).sum(),
        };
        (skipped < self.events.len())
            .then(|| (Events::from(self.events.clone(), skipped, bytes), last))
    }
}

/// A batch of revisions, matched.
#[derive(Debug)]
pub struct Matching<'r> {
    revisions: &'r [RevisionEvents],
    entries: Vec<Entry>,
}

impl<'r> Matching<'r> {
    /// Matches `revisions` against the groups that are `relevant`.
    pub fn new(
        revisions: &'r [RevisionEvents],
        groups: &mut Groups,
        relevant: impl Fn(&Group) -> bool,
    ) -> Self {
        let mut entries: Vec<Entry> = Vec::new();
        let mut found = Vec::new();
        for (r, revision) in revisions.iter().enumerate() {
            for (e, event) in revision.events.iter().enumerate() {
                groups.holding(&event.key, |group| found.push(group));
                for index in found.drain(..) {
                    let group = groups.get_mut(index);
                    let hit = (r as u32, e as u32);
                    match group.entry.and_then(|at| entries.get_mut(at as usize)) {
                        Some(entry) => entry.hits.push(hit),
                        None if relevant(group) => {
                            group.entry = Some(entries.len() as u32);
                            entries.push(Entry {
                                group: index,
                                hits: vec![hit],
                                built: Vec::new(),
                            });
                        }
                        None => {}
                    }
                }
            }
        }
        Self { revisions, entries }
    }

    /// How many groups have events.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The group at `entry`.
    pub fn group(&self, entry: usize) -> Option<u32> {
        self.entries.get(entry).map(|entry| entry.group)
    }

    /// What watchers with these wants get of the group at `entry`.
    pub fn batch(&mut self, entry: usize, wants: Wants) -> Option<&Batch> {
        let revisions = self.revisions;
        let entry = self.entries.get_mut(entry)?;
        let known = entry.built.iter().position(|(of, _)| *of == wants);
        let at = match known {
            Some(at) => at,
            None => {
                let batch = build(revisions, &entry.hits, wants);
                entry.built.push((wants, batch));
                entry.built.len() - 1
            }
        };
        entry.built.get(at).map(|(_, batch)| batch)
    }

    /// Takes the marks off the groups. To be called before any group can go away.
    pub fn finish(self, groups: &mut Groups) {
        for entry in &self.entries {
            groups.get_mut(entry.group).entry = None;
        }
    }
}

fn build(revisions: &[RevisionEvents], hits: &[(u32, u32)], wants: Wants) -> Batch {
    let mut events = Vec::with_capacity(hits.len());
    let mut numbers = Vec::with_capacity(hits.len());
    let mut bytes = 0;
    let mut lacks_previous = false;
    for (r, e) in hits {
        let Some(revision) = revisions.get(*r as usize) else {
            continue;
        };
        let event = revision
            .events
            .get(*e as usize)
            .filter(|event| wants.passes(event.deleted));
        let Some(event) = event else {
            continue;
        };
        let encoded = match &event.encoded_with_previous {
            Some(encoded) if wants.previous => encoded,
            _ => &event.encoded,
        };
        lacks_previous |= wants.previous && !revision.with_previous;
        bytes += encoded.len();
        events.push(encoded.clone());
        numbers.push(revision.revision);
    }
    Batch {
        events: events.into(),
        revisions: numbers.into(),
        bytes,
        lacks_previous,
    }
}

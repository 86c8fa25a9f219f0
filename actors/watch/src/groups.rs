//! The distinct ranges that are watched, and who watches each.
//!
//! Watchers of one range form a group, so that an event is matched once for ten thousand watchers of one
//! prefix, and what they are sent is built once. Single keys are found by hash, ranges in a tree of
//! [`Intervals`].

use crate::intervals::Intervals;
use crate::range::Range;
use crate::slab::Slab;
use bytes::Bytes;
use std::collections::HashMap;

/// The watchers of one range.
#[derive(Debug)]
pub struct Group {
    range: Range,
    members: u32,
    /// The members that follow live events.
    pub synced: Vec<u32>,
    /// Where the group's entry is while a batch is being matched.
    pub entry: Option<u32>,
}

impl Group {
    /// Whether some member has to be fed from the past.
    pub fn has_unsynced(&self) -> bool {
        self.members as usize > self.synced.len()
    }
}

/// All groups, by index, and found by key or interval.
#[derive(Debug)]
pub struct Groups {
    groups: Slab<Group>,
    keys: HashMap<Bytes, u32>,
    intervals: Intervals,
}

impl Groups {
    /// No groups. `seed` decides the shape of the interval tree.
    pub fn new(seed: u64) -> Self {
        Self {
            groups: Slab::default(),
            keys: HashMap::new(),
            intervals: Intervals::new(seed),
        }
    }

    /// Adds a member to the group of a range.
    pub fn join(&mut self, range: Range) -> u32 {
        let existing = match &range {
            Range::One(key) => self.keys.get(key).copied(),
            Range::Interval(start, end) => self.intervals.get(start, end.as_ref()),
        };
        if let Some(group) = existing {
            self.groups[group].members += 1;
            return group;
        }
        let group = self.groups.insert(Group {
            range: range.clone(),
            members: 1,
            synced: Vec::new(),
            entry: None,
        });
        match range {
            Range::One(key) => {
                self.keys.insert(key, group);
            }
            Range::Interval(start, end) => self.intervals.insert(start, end, group),
        }
        group
    }

    /// Takes a member away; a group without any is gone.
    pub fn leave(&mut self, group: u32) {
        self.groups[group].members -= 1;
        if self.groups[group].members > 0 {
            return;
        }
        match self.groups.remove(group).map(|group| group.range) {
            Some(Range::One(key)) => {
                self.keys.remove(&key);
            }
            Some(Range::Interval(start, end)) => self.intervals.remove(&start, end.as_ref()),
            None => {}
        }
    }

    /// Calls `found` for every group whose range holds `key`.
    pub fn holding(&self, key: &Bytes, mut found: impl FnMut(u32)) {
        if let Some(group) = self.keys.get(key) {
            found(*group);
        }
        self.intervals.holding(key, &mut found);
    }

    /// The group at an index that `join` gave out.
    pub fn get(&self, group: u32) -> &Group {
        &self.groups[group]
    }

    /// As [`get`](Self::get), to change it.
    pub fn get_mut(&mut self, group: u32) -> &mut Group {
        &mut self.groups[group]
    }

    /// Asserts that the groups have these numbers of members, and that each can be found.
    pub fn check(&self, members: &HashMap<u32, usize>) {
        assert_eq!(self.groups.len(), members.len(), "groups without members");
        for (index, group) in self.groups.iter() {
            let counted = members.get(&index).copied();
            assert_eq!(
                Some(group.members as usize),
                counted,
                "members of {group:?}"
            );
            assert!(
                group.synced.len() <= group.members as usize,
                "too many synced: {group:?}"
            );
            assert_eq!(group.entry, None, "left over from a batch: {group:?}");
            let found = match &group.range {
                Range::One(key) => self.keys.get(key).copied(),
                Range::Interval(start, end) => self.intervals.get(start, end.as_ref()),
            };
            assert_eq!(found, Some(index), "nobody finds {group:?}");
        }
    }

    /// How many groups there are.
    pub fn len(&self) -> usize {
        self.groups.len()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn holding(groups: &Groups, key: &'static str) -> Vec<u32> {
        let mut found = Vec::new();
        groups.holding(&key.into(), |group| found.push(group));
        found.sort_unstable();
        found
    }

    #[test]
    fn equal_ranges_share_a_group_until_the_last_member_leaves() {
        let mut groups = Groups::new(0);
        let one = groups.join(Range::from_wire(b"a", b"").unwrap());
        let prefix = groups.join(Range::from_wire(b"a", b"b").unwrap());
        assert_eq!(groups.join(Range::from_wire(b"a", b"b").unwrap()), prefix);
        assert_eq!(holding(&groups, "a"), [one, prefix]);
        assert_eq!(holding(&groups, "aa"), [prefix]);
        groups.leave(prefix);
        assert_eq!(holding(&groups, "aa"), [prefix]);
        groups.leave(prefix);
        groups.leave(one);
        assert!(holding(&groups, "a").is_empty());
        assert_eq!(groups.len(), 0);
    }
}

//! The `slab` crate with indices of four bytes: a watcher, of which there may be a million, holds three of them.

use std::ops::{Index, IndexMut};

/// Values by index; freed indices are used again.
///
/// An index lives from [`insert`](Self::insert) to [`remove`](Self::remove). Looking up a freed one panics: it is a
/// broken invariant of the hub, which must end the process rather than serve a wrong watcher.
#[derive(Debug)]
pub struct Slab<T>(slab::Slab<T>);

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self(slab::Slab::new())
    }
}

impl<T> Slab<T> {
    /// Stores a value, and returns its index.
    pub fn insert(&mut self, value: T) -> u32 {
        self.0.insert(value) as u32
    }

    /// Takes a value out.
    pub fn remove(&mut self, index: u32) -> Option<T> {
        self.0.try_remove(index as usize)
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The values, by index.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.0.iter().map(|(index, value)| (index as u32, value))
    }

    /// The values, by index, to change them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut T)> {
        self.0
            .iter_mut()
            .map(|(index, value)| (index as u32, value))
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;

    fn index(&self, index: u32) -> &T {
        &self.0[index as usize]
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, index: u32) -> &mut T {
        &mut self.0[index as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watcher::Watcher;

    /// Laid out as an entry of the crate.
    #[allow(dead_code)]
    enum Entry {
        Vacant(usize),
        Occupied(Watcher),
    }

    #[test]
    fn a_watcher_takes_no_more_room_in_a_slab_than_by_itself() {
        assert_eq!(std::mem::size_of::<Entry>(), std::mem::size_of::<Watcher>());
        assert_eq!(std::mem::size_of::<Watcher>(), 48);
    }

    #[test]
    fn indices_stay_and_holes_are_filled() {
        let mut slab = Slab::default();
        let (a, b) = (slab.insert('a'), slab.insert('b'));
        assert_eq!(slab.remove(a), Some('a'));
        assert_eq!(slab.remove(a), None);
        assert_eq!((slab[b], slab.len()), ('b', 1));
        assert_eq!(slab.insert('c'), a);
        assert_eq!(slab.iter().map(|(_, c)| *c).collect::<String>(), "cb");
    }
}

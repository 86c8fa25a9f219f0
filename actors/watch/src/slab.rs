//! A vector with holes: stable small indices for things that refer to each other.

use std::ops::{Index, IndexMut};

/// Values by index; freed indices are used again.
#[derive(Debug)]
pub struct Slab<T> {
    entries: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slab<T> {
    /// Stores a value.
    pub fn insert(&mut self, value: T) -> u32 {
        if let Some(index) = self.free.pop() {
            self.entries[index as usize] = Some(value);
            return index;
        }
        let index = self.entries.len() as u32;
        self.entries.push(Some(value));
        index
    }

    /// Takes a value out.
    pub fn remove(&mut self, index: u32) -> Option<T> {
        let value = self.entries.get_mut(index as usize)?.take()?;
        self.free.push(index);
        Some(value)
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The values, by index.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let indexed = self.entries.iter().enumerate();
        indexed.filter_map(|(index, entry)| Some((index as u32, entry.as_ref()?)))
    }

    /// The values, by index, to change them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut T)> {
        let indexed = self.entries.iter_mut().enumerate();
        indexed.filter_map(|(index, entry)| Some((index as u32, entry.as_mut()?)))
    }
}

/// Indices come only from [`Slab::insert`] and die with [`Slab::remove`]: a hole is a broken invariant of the
/// hub, which must end the process rather than serve a wrong watcher.
impl<T> Index<u32> for Slab<T> {
    type Output = T;

    fn index(&self, index: u32) -> &T {
        match &self.entries[index as usize] {
            Some(value) => value,
            None => dangling(index),
        }
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, index: u32) -> &mut T {
        match &mut self.entries[index as usize] {
            Some(value) => value,
            None => dangling(index),
        }
    }
}

#[cold]
#[allow(clippy::panic)]
fn dangling(index: u32) -> ! {
    panic!("the watch hub refers to entry {index}, which is free")
}

#[cfg(test)]
mod tests {
    use super::*;

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

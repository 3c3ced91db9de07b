//! A slab whose keys are never reused: an index and the generation of its slot.

/// A key into [`Slots`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    /// Index and generation in one number.
    pub const fn as_u64(self) -> u64 {
        (self.generation as u64) << 32 | self.index as u64
    }
}

/// Values by [`Key`].
#[derive(Debug)]
pub(super) struct Slots<T> {
    slots: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
    used: usize,
}

impl<T> Slots<T> {
    pub(super) const fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), used: 0 }
    }

    pub(super) const fn len(&self) -> usize {
        self.used
    }

    pub(super) fn insert(&mut self, value: T) -> Key {
        self.used += 1;
        if let Some(index) = self.free.pop()
            && let Some((generation, slot)) = self.slots.get_mut(index as usize)
        {
            *slot = Some(value);
            return Key { index, generation: *generation };
        }
        let index = u32::try_from(self.slots.len()).expect("limits keep tables far below 2^32");
        self.slots.push((0, Some(value)));
        Key { index, generation: 0 }
    }

    pub(super) fn get(&self, key: Key) -> Option<&T> {
        let (generation, slot) = self.slots.get(key.index as usize)?;
        slot.as_ref().filter(|_| *generation == key.generation)
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let (generation, slot) = self.slots.get_mut(key.index as usize)?;
        slot.as_mut().filter(|_| *generation == key.generation)
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        let (generation, slot) = self.slots.get_mut(key.index as usize)?;
        if *generation != key.generation {
            return None;
        }
        let value = slot.take()?;
        *generation = generation.wrapping_add(1);
        self.free.push(key.index);
        self.used -= 1;
        Some(value)
    }

    /// The keys in use, in the order of their slots.
    pub(super) fn keys(&self) -> impl Iterator<Item = Key> {
        (0u32..).zip(&self.slots).filter_map(|(index, (generation, slot))| {
            slot.as_ref().map(|_| Key { index, generation: *generation })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_dies_with_its_value() {
        let mut slots = Slots::new();
        let first = slots.insert("a");
        assert_eq!(slots.remove(first), Some("a"));
        let second = slots.insert("b");
        assert_eq!((slots.get(first), slots.get(second)), (None, Some(&"b")));
        assert_eq!((slots.remove(first), slots.len()), (None, 1));
        assert_ne!(first.as_u64(), second.as_u64());
        assert_eq!(slots.keys().collect::<Vec<_>>(), [second]);
    }
}

//! Packets in the order of their timestamps, in memory that is taken once.
//!
//! A packet of a codec with one byte per sample is stored as pieces of 10 ms, so that packets of
//! any length share slots of one size.

use std::fmt;

use crate::prefetch::prefetch;

/// The most pieces a store can have: its order is kept in bytes.
pub const PIECES_MAX: usize = 255;
/// Pieces that a store on a quiet network holds at most.
const PREFETCHED: usize = 4;

/// What became of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It is in the store.
    Stored,
    /// It is in the store, and the oldest piece had to go for it.
    StoredForOldest,
    /// Its timestamp is in the store already.
    Duplicate,
    /// It is longer than a slot, or the store is full of younger ones.
    Refused,
}

/// A stored stretch of a packet's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// RTP timestamp of its first sample.
    pub timestamp: u32,
    /// Its duration in timestamp units.
    pub duration: u32,
    /// RTP sequence number of the packet it came in.
    pub sequence: u16,
    /// The bytes.
    pub payload: &'a [u8],
}

impl Piece<'_> {
    /// The timestamp right after it.
    pub fn end(&self) -> u32 {
        self.timestamp.wrapping_add(self.duration)
    }
}

#[derive(Clone, Copy, Default)]
struct Slot {
    timestamp: u32,
    duration: u16,
    sequence: u16,
    length: u16,
}

/// A bounded set of pieces in timestamp order (RFC 3550 §5.1), wrap-around included.
pub struct Store {
    /// Slot numbers: the first `length` in use and in order, the rest free.
    order: Box<[u8]>,
    length: usize,
    slots: Box<[Slot]>,
    bytes: Box<[u8]>,
    slot_bytes: usize,
}

impl Store {
    /// Room for `pieces` (at most [`PIECES_MAX`]) of `slot_bytes` each.
    pub fn new(pieces: usize, slot_bytes: usize) -> Self {
        let pieces = pieces.clamp(1, PIECES_MAX);
        Self {
            order: (0..pieces).map(|slot| slot as u8).collect(),
            length: 0,
            slots: vec![Slot::default(); pieces].into_boxed_slice(),
            bytes: vec![0; pieces * slot_bytes].into_boxed_slice(),
            slot_bytes,
        }
    }

    /// Asks for the memory that the next pieces will be in. Those let go of last are used first, so
    /// that a short store stays in the same few lines.
    pub fn prefetch(&self) {
        prefetch(&self.order[..]);
        prefetch(&self.slots[..self.slots.len().min(PREFETCHED)]);
        prefetch(&self.bytes[..self.bytes.len().min(PREFETCHED * self.slot_bytes)]);
    }

    /// Pieces stored.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Bytes on the heap.
    pub fn memory_bytes(&self) -> usize {
        size_of_val(&*self.order) + size_of_val(&*self.slots) + size_of_val(&*self.bytes)
    }

    /// Pieces that fit.
    pub fn capacity(&self) -> usize {
        self.order.len()
    }

    /// Whether nothing is stored.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.length = 0;
    }

    /// The piece at `index`, oldest first.
    pub fn piece(&self, index: usize) -> Option<Piece<'_>> {
        let used = self.order.get(..self.length)?;
        let number = usize::from(*used.get(index)?);
        let slot = self.slots.get(number)?;
        let from = number * self.slot_bytes;
        Some(Piece {
            timestamp: slot.timestamp,
            duration: u32::from(slot.duration),
            sequence: slot.sequence,
            payload: self.bytes.get(from..from + usize::from(slot.length))?,
        })
    }

    /// The oldest piece.
    pub fn front(&self) -> Option<Piece<'_>> {
        self.piece(0)
    }

    /// The youngest piece.
    pub fn back(&self) -> Option<Piece<'_>> {
        self.piece(self.length.checked_sub(1)?)
    }

    /// Lets go of the oldest piece.
    pub fn pop(&mut self) {
        if self.length > 0 {
            self.order[..self.length].rotate_left(1);
            self.length -= 1;
        }
    }

    /// Copies a piece in, in its place.
    pub fn insert(&mut self, sequence: u16, timestamp: u32, duration: u16, payload: &[u8]) -> Inserted {
        if payload.len() > self.slot_bytes {
            return Inserted::Refused;
        }
        // Nearly always it is the youngest, so the search starts there.
        let mut place = self.length;
        while place > 0 {
            let before = self.slots[usize::from(self.order[place - 1])].timestamp;
            match timestamp.wrapping_sub(before) as i32 {
                0 => return Inserted::Duplicate,
                1.. => break,
                _ => place -= 1,
            }
        }
        let is_full = self.length == self.order.len();
        if is_full {
            if place == 0 {
                return Inserted::Refused;
            }
            self.pop();
            place -= 1;
        }
        self.order[place..=self.length].rotate_right(1);
        self.length += 1;
        let number = usize::from(self.order[place]);
        self.slots[number] = Slot { timestamp, duration, sequence, length: payload.len() as u16 };
        self.bytes[number * self.slot_bytes..][..payload.len()].copy_from_slice(payload);
        if is_full { Inserted::StoredForOldest } else { Inserted::Stored }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries((0..self.length).filter_map(|index| self.piece(index))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn timestamps(store: &Store) -> Vec<u32> {
        (0..store.len()).filter_map(|index| store.piece(index)).map(|piece| piece.timestamp).collect()
    }

    #[test]
    fn any_order_of_arrival_comes_out_in_order_across_the_wrap() {
        let mut rng = Rng::from_number(1);
        for _ in 0..200 {
            let first = u32::MAX - 400;
            let mut arrivals: Vec<u32> = (0..10).map(|n| first.wrapping_add(n * 80)).collect();
            for index in (1..arrivals.len()).rev() {
                arrivals.swap(index, rng.below(index as u64 + 1) as usize);
            }
            let mut store = Store::new(16, 80);
            for &timestamp in &arrivals {
                let payload = [timestamp as u8; 80];
                assert_eq!(store.insert(0, timestamp, 80, &payload), Inserted::Stored);
                assert_eq!(store.insert(0, timestamp, 80, &payload), Inserted::Duplicate);
            }
            let expected: Vec<u32> = (0..10).map(|n| first.wrapping_add(n * 80)).collect();
            assert_eq!(timestamps(&store), expected);
            for timestamp in expected {
                let front = store.front().expect("ten were stored");
                assert_eq!((front.timestamp, front.payload), (timestamp, &[timestamp as u8; 80][..]));
                assert_eq!(front.end(), timestamp.wrapping_add(80));
                store.pop();
            }
            assert!(store.is_empty());
            store.pop();
        }
    }

    #[test]
    fn a_full_store_drops_the_oldest_for_a_younger_one_only() {
        let mut store = Store::new(3, 4);
        for timestamp in [80, 160, 240] {
            assert_eq!(store.insert(1, timestamp, 80, &[1]), Inserted::Stored);
        }
        assert_eq!(store.insert(1, 0, 80, &[1]), Inserted::Refused, "older than all");
        assert_eq!(store.insert(1, 200, 80, &[2]), Inserted::StoredForOldest);
        assert_eq!(timestamps(&store), [160, 200, 240]);
        assert_eq!(store.insert(1, 400, 80, &[0; 5]), Inserted::Refused, "longer than a slot");
        assert_eq!(store.back().map(|piece| piece.timestamp), Some(240));
        store.clear();
        assert_eq!(store.front(), None);
        assert_eq!(store.back(), None);
    }
}

//! Which shard a room lives in, and the ids the data plane knows things by.

use crate::id::{LegId, RoomId, TapId};
use crate::plane::ShardIndex;

/// A conference's room in the data plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OpenRoom {
    pub(super) room: RoomId,
    pub(super) shard: ShardIndex,
    /// Legs in it, as far as commands went out.
    pub(super) legs: usize,
    /// Taps on it, as far as commands went out.
    pub(super) taps: usize,
}

/// How loaded each shard is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ShardLoad {
    /// Legs in it.
    pub legs: usize,
    /// Rooms in it.
    pub rooms: usize,
}

/// The owner of the rooms' places.
#[derive(Debug)]
pub(super) struct Shards {
    loads: Vec<ShardLoad>,
    next_room: u64,
    next_leg: u64,
    next_tap: u64,
}

impl Shards {
    pub(super) fn new(shards: u16) -> Self {
        Self {
            loads: vec![ShardLoad::default(); usize::from(shards.max(1))],
            next_room: 1,
            next_leg: 1,
            next_tap: 1,
        }
    }

    /// A new room, in the shard with the fewest legs, then rooms.
    pub(super) fn open_room(&mut self) -> OpenRoom {
        let (shard, load) = (0u16..)
            .zip(&mut self.loads)
            .min_by_key(|(_, load)| **load)
            .expect("there is at least one shard");
        load.rooms += 1;
        let room = RoomId(self.next_room);
        self.next_room += 1;
        OpenRoom { room, shard: ShardIndex(shard), legs: 0, taps: 0 }
    }

    /// The room is closed.
    pub(super) fn close_room(&mut self, room: &OpenRoom) {
        self.change(room.shard, |load| load.rooms = load.rooms.saturating_sub(1));
    }

    /// A leg comes into `room`.
    pub(super) fn enter(&mut self, room: &mut OpenRoom) {
        room.legs += 1;
        self.change(room.shard, |load| load.legs += 1);
    }

    /// A new leg in `room`.
    pub(super) fn add_leg(&mut self, room: &mut OpenRoom) -> LegId {
        self.enter(room);
        let leg = LegId(self.next_leg);
        self.next_leg += 1;
        leg
    }

    /// A leg of `room` is gone, or is told to go.
    pub(super) fn remove_leg(&mut self, room: &mut OpenRoom) {
        room.legs = room.legs.saturating_sub(1);
        self.change(room.shard, |load| load.legs = load.legs.saturating_sub(1));
    }

    /// The name of a new source. It is no load to speak of.
    pub(super) fn name_source(&mut self) -> LegId {
        let leg = LegId(self.next_leg);
        self.next_leg += 1;
        leg
    }

    /// A new tap on `room`, which keeps it open.
    pub(super) fn add_tap(&mut self, room: &mut OpenRoom) -> TapId {
        room.taps += 1;
        let tap = TapId(self.next_tap);
        self.next_tap += 1;
        tap
    }

    /// A tap on `room` is told to go.
    pub(super) fn remove_tap(&mut self, room: &mut OpenRoom) {
        room.taps = room.taps.saturating_sub(1);
    }

    fn change(&mut self, shard: ShardIndex, change: impl FnOnce(&mut ShardLoad)) {
        if let Some(load) = self.loads.get_mut(usize::from(shard.0)) {
            change(load);
        }
    }

    /// Every shard's load.
    pub(super) fn loads(&self) -> &[ShardLoad] {
        &self.loads
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_opens_where_the_fewest_legs_are() {
        let mut shards = Shards::new(2);
        let mut first = shards.open_room();
        for _ in 0..3 {
            shards.add_leg(&mut first);
        }
        let mut second = shards.open_room();
        assert_ne!(first.shard, second.shard);
        for _ in 0..4 {
            shards.add_leg(&mut second);
        }
        let third = shards.open_room();
        assert_eq!(third.shard, first.shard);
        for _ in 0..4 {
            shards.remove_leg(&mut second);
        }
        shards.close_room(&second);
        assert_eq!(shards.loads(), [ShardLoad { legs: 3, rooms: 2 }, ShardLoad::default()]);
        assert_eq!(shards.open_room().shard, second.shard);
    }

    #[test]
    fn empty_rooms_spread_too() {
        let mut shards = Shards::new(3);
        let places: Vec<u16> = (0..6).map(|_| shards.open_room().shard.0).collect();
        assert_eq!(places, [0, 1, 2, 0, 1, 2]);
    }
}

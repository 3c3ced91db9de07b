//! The data plane, sans-IO: legs, rooms and the shard that owns them. Bytes, commands and time
//! come in; packets and reports go out. One shard is driven by one media thread.

pub mod leg;
pub mod packetizer;
pub mod playout;
pub mod ringback;
pub mod room;
pub mod shard;
pub mod source;
pub mod tap;
pub mod tones;

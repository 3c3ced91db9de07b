//! The data plane through its doors: phones speak RTP into a shard and what each hears is asserted.

mod alone;
mod hears;
mod moves;
mod packets;
mod phones;
mod sources;
mod taps;

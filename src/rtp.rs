//! RTP and RTCP (RFC 3550) as values: checked packet views, the sequence and quality bookkeeping of
//! a received stream, key presses (RFC 4733), the jitter buffer, and the latch that decides whose
//! packets count. No sockets and no clock; bytes and time are arguments.

pub mod dtmf;
pub mod jitter;
pub mod latch;
pub mod packet;
pub mod rtcp;
pub mod seq;
pub mod stats;

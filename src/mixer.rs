//! The mix: exact sums of PCM frames, minus one's own voice, limited once. Pure arithmetic on
//! slices; who is in which room, and where frames come from and go to, is `media`'s.

pub mod kernel;
pub mod level;
pub mod limiter;
pub mod room;
pub mod speakers;

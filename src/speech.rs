//! Speech: what callers say, as text, and texts that are spoken.

pub mod recogniser;
pub mod voice;

//! Speech: texts that are spoken.

pub mod voice;

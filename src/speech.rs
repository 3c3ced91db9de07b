//! Speech: what callers say, as text.

pub mod recogniser;

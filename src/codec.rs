//! Sound as bytes and back, and what repairs it: G.711, resampling, loss concealment and
//! time-stretch. Slices in, slices out; no state but what a struct here owns, no allocation after
//! a constructor.

pub mod conceal;
pub mod g711;
pub mod pitch;
pub mod resample;
pub mod stretch;

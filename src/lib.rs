//! Confab, a SIP-facing conference media bridge. `ARCHITECTURE.md` is the map.

pub mod rng;
pub mod time;

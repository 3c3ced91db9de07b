//! Confab, a SIP-facing conference media bridge. `ARCHITECTURE.md` is the map.

#![warn(missing_docs)]

pub mod audio;
pub mod config;
pub mod id;
pub mod rng;
pub mod time;

pub mod codec;
pub mod mixer;
pub mod plane;
pub mod rtp;
pub mod sdp;
pub mod sip;

pub mod bridge;
pub mod media;

pub mod api;
pub mod control;
pub mod net;
pub mod obs;
pub mod speech;
pub mod store;

pub mod app;
pub mod load;

//! The control core over simulated links, from outside: SIP text, commands and reports in.

#[path = "../support/mod.rs"]
mod support;

mod answers;
mod connect;
mod ending;
mod limits;
mod media;
mod races;
mod restart;
mod scenes;
mod transcribing;
mod truth;

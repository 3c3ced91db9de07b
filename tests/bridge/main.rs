//! The control core over simulated links, from outside: SIP text, commands and reports in.

#[path = "../support/mod.rs"]
mod support;

mod answers;
mod connect;
mod ending;
mod flows;
mod limits;
mod media;
mod moving;
mod races;
mod recordings;
mod restart;
mod scenes;
mod streams;
mod transcribing;
mod truth;

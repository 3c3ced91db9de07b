//! Real SIP clients against a real server on loopback: SIPp, baresip and linphone. Each test has a
//! server, ports and a folder of its own, and every program a limit of time; when a test fails the
//! folder stays, with what each program said. `make test` installs the clients.
#![allow(clippy::disallowed_methods, reason = "other programs run by the real clock")]

mod connect;
mod crash;
mod ear;
mod flows;
mod hears;
mod http;
mod join;
#[path = "../support/network.rs"]
mod network;
mod phones;
mod postgres;
mod process;
mod recording;
mod server;
mod sipp;
mod sipp_calls;
mod sipp_refusals;
mod sound;
#[allow(dead_code, reason = "the recogniser's own tests use the rest of it")]
#[path = "../recogniser/speech.rs"]
mod speech;
mod story;
mod stream;
mod transcripts;

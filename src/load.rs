//! Sources of calls: `confab call`, a small real phone; `confab load`, thousands of phones that
//! measure what comes back; and `confab floor`, the bare echo that a call's cost is compared with.
//!
//! A load source must cost far less than what it measures, so [`load`](fn@load) is one thread with
//! signalling from templates and sound computed beforehand. The phone is the opposite: it is made
//! of the same parts as the bridge.

#[cfg(test)]
mod echo;
mod expect;
pub mod floor;
mod interrupt;
mod marker;
mod network;
mod options;
mod phone;
mod process;
mod report;
mod source;
mod target;
mod tone;
mod ua;
mod wave;

pub use expect::{BadExpectation, Expectation};
pub use network::{BadNetwork, NetworkOptions};
pub use options::{CallOptions, CodecChoice, LoadOptions, TransportChoice};
pub use phone::{CallError, Finished, Outcome, Quality, call, dial};
pub use report::{Heard, Latency, LoadUse, ProcessUse, Report, Spread};
pub use source::{LoadError, load, measure};
pub use target::TargetError;
pub use wave::WaveError;

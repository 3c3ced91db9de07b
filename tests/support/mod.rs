//! The simulator: the production control core in one thread, on an injected clock, between phones
//! that know nothing of its code and links that delay, lose, double and reorder. The same seed
//! gives the same run.

pub mod link;
pub mod message;
pub mod phone;
pub mod plane;
pub mod sim;
pub mod store;

pub use link::Link;
pub use phone::{Phone, Stage};
pub use plane::{DataPlane, Recorder};
pub use sim::{PhoneId, Sim};

//! Webhooks: a customer's events are told to its own server, at least once, each conference's in
//! order, from the durable outbox of the store.
//!
//! [`schedule`] decides what is due when and knows no clock; [`delivery`] is the task around it;
//! [`request`] makes and sends one.

pub mod delivery;
mod lane;
pub mod request;
pub mod schedule;

pub use delivery::{Counters, Setup, Telling, Webhooks, spawn};

//! Webhooks against real servers on loopback: signed, in order, through outages and kills.

mod deliveries;
mod kills;
mod receiver;
mod world;

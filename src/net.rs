//! The network, clocks and threads of the shell: SIP over UDP and TCP, RTP by the batch.

pub mod clock;
pub mod http;
pub mod media;
pub mod tcp;
pub mod thread;
pub mod transport;
pub mod udp;

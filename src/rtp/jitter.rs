//! The jitter buffer's two halves that know nothing of sound: the [`store`] that puts packets in
//! order, and the estimates of how late ([`delay`]) and how often lost ([`loss`]) they are.
//! What plays them, and stretches time to follow the estimates, is `media::playout`.

pub mod delay;
pub mod loss;
pub mod store;

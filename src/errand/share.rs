//! Who may have how many errands: a limit for all and a share for each customer, so that one whose
//! servers hang, or who asks for too much, holds up nobody else.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use super::{ERRANDS_MAX, REQUESTS_MAX, SPEAKERS_MAX};
use crate::id::CustomerId;

/// Customers that must hang with all they may have before another has to wait.
const SHARES: usize = 8;
/// One customer's errands at once, those that wait for their turn included; one more fails.
pub const CUSTOMER_ERRANDS_MAX: usize = ERRANDS_MAX.div_ceil(SHARES);
/// One customer's HTTP requests at once; the next wait.
pub const CUSTOMER_REQUESTS_MAX: usize = REQUESTS_MAX.div_ceil(SHARES);
/// One customer's texts spoken here at once; the next wait.
pub const CUSTOMER_SPEAKERS_MAX: usize = SPEAKERS_MAX.div_ceil(SHARES);

/// Why an errand is not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// All customers together have too many.
    #[error("the server does too much at once; try again")]
    Full,
    /// This customer has too many.
    #[error("{CUSTOMER_ERRANDS_MAX} requests, sounds and texts of your flows are under way; try again")]
    Share,
}

/// What all errands and each customer's hold.
#[derive(Debug, Default)]
pub(super) struct Shares {
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    total: usize,
    /// Those who have an errand: no more than [`ERRANDS_MAX`].
    by_customer: HashMap<CustomerId, Share>,
}

#[derive(Debug)]
struct Share {
    errands: usize,
    turns: Arc<Turns>,
}

/// One customer's turns.
#[derive(Debug)]
pub(super) struct Turns {
    /// For HTTP requests.
    pub requests: Semaphore,
    /// For texts that are spoken here.
    pub speakers: Semaphore,
}

/// An errand that may be done; its place is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    /// The turns of whose errand it is.
    pub turns: Arc<Turns>,
    shares: Arc<Shares>,
    customer: CustomerId,
}

impl Shares {
    /// Takes a place for an errand of this customer.
    pub fn admit(self: &Arc<Self>, customer: CustomerId) -> Result<Place, Refused> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.total >= ERRANDS_MAX {
            return Err(Refused::Full);
        }
        let share = held.by_customer.entry(customer).or_insert_with(Share::new);
        if share.errands >= CUSTOMER_ERRANDS_MAX {
            return Err(Refused::Share);
        }
        share.errands += 1;
        let turns = share.turns.clone();
        held.total += 1;
        Ok(Place { turns, shares: self.clone(), customer })
    }
}

impl Share {
    fn new() -> Self {
        let turns = Turns {
            requests: Semaphore::new(CUSTOMER_REQUESTS_MAX),
            speakers: Semaphore::new(CUSTOMER_SPEAKERS_MAX),
        };
        Self { errands: 0, turns: Arc::new(turns) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.shares.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.total -= 1;
        if let Some(share) = held.by_customer.get_mut(&self.customer) {
            share.errands -= 1;
            if share.errands == 0 {
                held.by_customer.remove(&self.customer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn a_customer_has_its_share_and_all_have_the_limit() {
        let shares = Arc::new(Shares::default());
        let mut rng = Rng::from_number(1);
        let mut places = Vec::new();
        for _ in 0..SHARES {
            let customer = CustomerId::random(&mut rng);
            places.extend((0..CUSTOMER_ERRANDS_MAX).map(|_| shares.admit(customer).expect("a place")));
            if places.len() < ERRANDS_MAX {
                assert_eq!(shares.admit(customer).err(), Some(Refused::Share));
            }
        }
        let other = CustomerId::random(&mut rng);
        assert_eq!(shares.admit(other).err(), Some(Refused::Full));
        places.pop();
        drop(shares.admit(other).expect("a place"));
        places.clear();
        let held = shares.held.lock().expect("nobody panics");
        assert_eq!((held.total, held.by_customer.len()), (0, 0), "nothing is kept of who has none");
    }
}

//! What the process asks of the system: files, randomness, its environment.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};

use crate::rng::Rng;

/// The environment.
pub(super) fn environment() -> Vec<(OsString, OsString)> {
    std::env::vars_os().collect()
}

/// A generator seeded by the system.
///
/// # Errors
/// When the system has no randomness to give.
pub(super) fn rng() -> io::Result<Rng> {
    let mut seed = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut seed)?;
    Ok(Rng::from_seed(seed))
}

/// Raises the number of files that may be open to what the system allows, and returns it: every
/// call has two sockets, and the usual soft limit is 1024.
pub(super) fn raise_file_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid, exclusive place for the one struct the call writes.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return 0;
    }
    let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
    // SAFETY: `raised` is a valid struct that the call only reads.
    let done = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raised) } == 0;
    if done { raised.rlim_cur } else { limit.rlim_cur }
}

/// Cores this process may use; 1 when the system does not say.
pub(super) fn cores() -> u16 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    u16::try_from(cores).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_generators_differ() {
        let (mut one, mut other) = (rng().expect("randomness"), rng().expect("randomness"));
        assert_ne!(one.next_u64(), other.next_u64());
    }

    #[test]
    fn the_file_limit_is_known_and_stays() {
        let limit = raise_file_limit();
        assert!(limit > 0);
        assert_eq!(raise_file_limit(), limit);
    }
}

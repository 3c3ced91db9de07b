//! Ctrl-C as a flag: the first one asks for a clean end, the second one ends the process.

use std::sync::atomic::{AtomicBool, Ordering};

/// Set by the signal.
static REQUESTED: AtomicBool = AtomicBool::new(false);

/// What the kernel calls on a signal: a store is all that is safe here.
extern "C" fn note(_signal: libc::c_int) {
    REQUESTED.store(true, Ordering::Relaxed);
}

/// From now on the first SIGINT or SIGTERM only sets the flag; a second one works as always.
pub fn watch() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: an all-zero sigaction is a valid value, and `note` only stores to an atomic.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = note as extern "C" fn(libc::c_int) as libc::sighandler_t;
            action.sa_flags = libc::SA_RESETHAND;
            libc::sigaction(signal, &action, std::ptr::null_mut());
        }
    }
}

/// Whether an end was asked for.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}

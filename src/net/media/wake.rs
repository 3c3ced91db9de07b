//! Waking a media thread that sleeps on the clock.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;

use crate::net::clock::{Clock, timespec};
use crate::time::Instant;

/// Wakes a thread out of [`Waker::wait`], from any thread; clones wake the same one.
#[derive(Clone, Debug)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    /// A new one.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        // SAFETY: takes numbers only.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just gave us this descriptor and nobody else has it.
        Ok(Self(Arc::new(unsafe { OwnedFd::from_raw_fd(fd) })))
    }

    /// Ends the current or the next [`Waker::wait`].
    pub fn wake(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: `one` is eight readable bytes. The counter can only be full of wake-ups, so a
        // refused write is a wake-up that is already there.
        unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// Sleeps until `deadline` (`None`: for ever) or [`Waker::wake`]; returns whether it was woken.
    /// May also return early on a signal.
    pub fn wait(&self, clock: &Clock, deadline: Option<Instant>) -> bool {
        let limit = deadline.map(|deadline| timespec(deadline.since(clock.now())));
        let limit = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        let mut fd = libc::pollfd { fd: self.0.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd and, if any, one timespec, both alive through the call.
        if unsafe { libc::ppoll(&mut fd, 1, limit, std::ptr::null()) } <= 0 {
            return false;
        }
        let mut count = [0; 8];
        // SAFETY: `count` is eight writable bytes; reading resets the counter.
        unsafe { libc::read(self.0.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;

    #[test]
    fn a_wake_before_the_wait_is_not_lost_and_counts_once() {
        let (clock, waker) = (Clock::new(), Waker::new().expect("a descriptor"));
        waker.wake();
        waker.wake();
        assert!(waker.wait(&clock, None));
        assert!(!waker.wait(&clock, Some(Instant::ZERO)));
    }

    #[test]
    fn a_wait_ends_at_its_deadline() {
        let (clock, waker) = (Clock::new(), Waker::new().expect("a descriptor"));
        let deadline = clock.now() + Duration::from_millis(2);
        assert!(!waker.wait(&clock, Some(deadline)));
        assert!(clock.now() >= deadline);
    }

    #[test]
    fn another_thread_wakes_the_sleeper() {
        let (clock, waker) = (Clock::new(), Waker::new().expect("a descriptor"));
        let other = waker.clone();
        let thread = std::thread::spawn(move || other.wake());
        assert!(waker.wait(&clock, None));
        thread.join().expect("it only wakes");
    }
}

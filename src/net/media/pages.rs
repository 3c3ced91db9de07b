//! Memory by the page, for what is shared with the kernel: it stays in place, is zeroed, and costs
//! nothing until it is touched.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;

/// A page-aligned piece of zeroed memory.
#[derive(Debug)]
pub(super) struct Pages {
    start: NonNull<u8>,
    len: usize,
}

impl Pages {
    /// At least `len` bytes (not zero).
    ///
    /// # Errors
    /// When the kernel has no address space left.
    pub(super) fn new(len: usize) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new private mapping of the kernel's choice touches nothing that exists.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, kind, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, len })
    }

    /// The first byte.
    pub(super) fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// As [`Pages::slice_mut`], to read.
    pub(super) fn slice(&self, offset: usize, len: usize) -> Option<&[u8]> {
        if offset.checked_add(len)? > self.len {
            return None;
        }
        // SAFETY: inside the mapping, initialised (zeroed), and borrowed with the pages.
        Some(unsafe { std::slice::from_raw_parts(self.start.as_ptr().add(offset), len) })
    }

    /// `len` bytes from `offset`; `None` outside of the pages. The caller must not use bytes that
    /// the kernel may write at this time.
    pub(super) fn slice_mut(&mut self, offset: usize, len: usize) -> Option<&mut [u8]> {
        if offset.checked_add(len)? > self.len {
            return None;
        }
        // SAFETY: inside the mapping, initialised (zeroed), and borrowed with the pages.
        Some(unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().add(offset), len) })
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in `new`; nothing borrows from it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// Memory that the kernel made for a descriptor and shares with us.
#[derive(Debug)]
pub(super) struct Mapped {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: whoever holds it may use the memory by atomics only; the mapping belongs to the process.
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// `len` bytes from `offset` of what the descriptor stands for.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn new(len: usize, of: &OwnedFd, offset: libc::off_t) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_SHARED | libc::MAP_POPULATE;
        // SAFETY: a new mapping at the kernel's choice touches nothing that exists.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), len, protection, kind, of.as_raw_fd(), offset) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, len })
    }

    /// The first byte.
    pub(super) fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in `new`; nothing borrows from it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_zeroed_writable_and_bounded() {
        let mut pages = Pages::new(10_000).expect("three pages");
        assert_eq!(pages.as_ptr() as usize % 4096, 0);
        let all = pages.slice_mut(0, 10_000).expect("inside");
        assert!(all.iter().all(|&byte| byte == 0));
        all.fill(7);
        assert_eq!(pages.slice_mut(9_999, 1), Some(&mut [7][..]));
        assert_eq!((pages.slice(9_999, 1), pages.slice(9_999, 2)), (Some(&[7][..]), None));
        assert_eq!(pages.slice_mut(9_999, 2), None);
        assert_eq!(pages.slice_mut(usize::MAX, 2), None);
    }
}

//! Memory by the page, for what is shared with the kernel: it stays in place, is zeroed, and costs
//! nothing until it is touched.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;

/// A page-aligned piece of zeroed memory.
#[derive(Debug)]
pub(super) struct Pages(Mapped);

impl Pages {
    /// At least `len` bytes (not zero).
    ///
    /// # Errors
    /// When the kernel has no address space left.
    pub(super) fn new(len: usize) -> io::Result<Self> {
        Mapped::map(len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0).map(Self)
    }

    /// The first byte.
    pub(super) fn as_ptr(&self) -> *mut u8 {
        self.0.as_ptr()
    }

    /// As [`Pages::slice_mut`], to read.
    pub(super) fn slice(&self, offset: usize, len: usize) -> Option<&[u8]> {
        let start = self.0.at(offset, len)?;
        // SAFETY: inside the mapping, initialised (zeroed), and borrowed with the pages.
        Some(unsafe { std::slice::from_raw_parts(start, len) })
    }

    /// `len` bytes from `offset`; `None` outside of the pages. The caller must not use bytes that
    /// the kernel may write at this time.
    pub(super) fn slice_mut(&mut self, offset: usize, len: usize) -> Option<&mut [u8]> {
        let start = self.0.at(offset, len)?;
        // SAFETY: inside the mapping, initialised (zeroed), and borrowed with the pages.
        Some(unsafe { std::slice::from_raw_parts_mut(start, len) })
    }
}

/// Memory that the kernel mapped for us: unmapped when this is dropped.
#[derive(Debug)]
pub(super) struct Mapped {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to the process; it is used by atomics, or by who has it borrowed.
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// `len` bytes from `offset` of what a descriptor stands for, shared with the kernel.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn new(len: usize, of: &OwnedFd, offset: libc::off_t) -> io::Result<Self> {
        Self::map(len, libc::MAP_SHARED | libc::MAP_POPULATE, of.as_raw_fd(), offset)
    }

    fn map(len: usize, kind: libc::c_int, of: libc::c_int, offset: libc::off_t) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping of the kernel's choice touches nothing that exists.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, kind, of, offset) };
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

    /// Where `len` bytes from `offset` begin; `None` outside of the mapping.
    fn at(&self, offset: usize, len: usize) -> Option<*mut u8> {
        let is_inside = offset.checked_add(len)? <= self.len;
        // SAFETY: inside the mapping, or at its end.
        is_inside.then(|| unsafe { self.start.as_ptr().add(offset) })
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in `map`; nothing borrows from it any more.
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

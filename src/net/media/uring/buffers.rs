//! The ring of buffers that the kernel fills with datagrams.

use std::io;
use std::ptr;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

use crate::net::media::DATAGRAM_MAX;
use crate::net::media::pages::Pages;
use crate::net::media::socket::NAME_BYTES;

/// The number the buffers are known by in the ring.
pub(super) const GROUP: u16 = 0;
/// Buffers: a slot of a full thread brings a few hundred datagrams. A power of two.
pub(super) const BUFFERS: u16 = 2048;
/// Bytes of a buffer: the kernel's header, the sender and a datagram. An odd number of cache
/// lines, so that the used parts of the buffers do not all fall on the same sets of the cache.
const BUFFER_BYTES: usize = 25 * 64;
/// Bytes of the header before the name (`struct io_uring_recvmsg_out`).
const HEADER_BYTES: usize = 16;
/// Where a datagram starts in its buffer.
const DATAGRAM_AT: usize = HEADER_BYTES + NAME_BYTES;
const _: () = assert!(DATAGRAM_AT + DATAGRAM_MAX < BUFFER_BYTES && BUFFERS.is_power_of_two());

/// The buffers and the ring of those that are free.
#[derive(Debug)]
pub(super) struct Buffers {
    ring: Pages,
    memory: Pages,
    tail: u16,
}

impl Buffers {
    /// Makes the buffers known to the kernel.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn open(submitter: &Submitter<'_>) -> io::Result<Self> {
        let ring = Pages::new(usize::from(BUFFERS) * size_of::<BufRingEntry>())?;
        let memory = Pages::new(usize::from(BUFFERS) * BUFFER_BYTES)?;
        // SAFETY: page-aligned memory of the length given. The driver drops the io_uring before
        // this value.
        unsafe { submitter.register_buf_ring_with_flags(ring.as_ptr() as u64, BUFFERS, GROUP, 0)? };
        let mut buffers = Self { ring, memory, tail: 0 };
        for buffer in 0..BUFFERS {
            buffers.give_back(buffer);
        }
        Ok(buffers)
    }

    /// The sender's name and the datagram in a buffer that the kernel filled with `len` bytes;
    /// `None` when the datagram did not fit.
    pub(super) fn named(&mut self, buffer: u16, len: usize) -> Option<(&[u8], &mut [u8])> {
        let bytes = self.memory.slice_mut(usize::from(buffer) * BUFFER_BYTES, len.min(BUFFER_BYTES))?;
        let (header, rest) = bytes.split_at_mut_checked(HEADER_BYTES)?;
        let (name, datagram) = rest.split_at_mut_checked(NAME_BYTES)?;
        let flags = u32::from_ne_bytes(*header.last_chunk()?);
        let whole = flags & libc::MSG_TRUNC as u32 == 0 && datagram.len() <= DATAGRAM_MAX;
        whole.then_some((name, datagram))
    }

    /// The same of a receive that did not ask for the name. `len` is the datagram's own length,
    /// which may be more than the buffer holds.
    pub(super) fn plain(&mut self, buffer: u16, len: usize) -> Option<(&[u8], &mut [u8])> {
        if len > DATAGRAM_MAX {
            return None;
        }
        Some((&[], self.memory.slice_mut(usize::from(buffer) * BUFFER_BYTES, len)?))
    }

    /// Lets the kernel fill a buffer again.
    pub(super) fn give_back(&mut self, buffer: u16) {
        let at = usize::from(self.tail & (BUFFERS - 1));
        let start = self.memory.as_ptr().wrapping_add(usize::from(buffer) * BUFFER_BYTES);
        let base = self.ring.as_ptr().cast::<BufRingEntry>();
        // SAFETY: `at` is below the number of entries; the kernel reads an entry only after the
        // tail has passed it.
        let entry = unsafe { &mut *base.add(at) };
        entry.set_addr(start as u64);
        entry.set_len(BUFFER_BYTES as u32);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: `base` is the ring's first entry, whose spare field is the tail.
        let tail = unsafe { AtomicU16::from_ptr(ptr::from_ref(&*BufRingEntry::tail(base)).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}

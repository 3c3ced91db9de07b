//! An `AF_XDP` socket: frames of memory shared with the kernel, and the four rings in which their
//! descriptors change hands.
//!
//! The kernel takes empty frames from the fill ring and gives received ones in the receive ring; it
//! takes frames to send from the send ring and gives them back in the completion ring.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::net::media::pages::{Mapped, Pages};

/// Bytes of a frame: the least that the kernel takes.
pub(super) const FRAME_BYTES: usize = 2048;
/// Frames to receive in: 80 ms of 2000 calls.
pub(in crate::net::media) const RECEIVE_FRAMES: u32 = 8192;
/// Frames to send from.
pub(super) const SEND_FRAMES: u32 = 4096;
/// The kernel's limit of frames that one call sends, as we set it (`XDP_MAX_TX_SKB_BUDGET`).
const SEND_BUDGET: u32 = 1024;
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;
/// Calls to send what is queued, when the kernel takes it by parts.
const KICKS_MAX: usize = 128;

/// A ring whose one end is ours and whose other end is the kernel's.
#[derive(Debug)]
struct Ring {
    memory: Mapped,
    producer: usize,
    consumer: usize,
    entries: usize,
    /// Entries, a power of two.
    size: u32,
    /// Our end, as it is known to the kernel once it is published.
    ours: u32,
    /// The kernel's end, as last read.
    theirs: u32,
}

impl Ring {
    fn index(&self, at: usize) -> &AtomicU32 {
        // SAFETY: an aligned word of the mapping that both sides use atomically.
        unsafe { &*self.memory.as_ptr().add(at).cast::<AtomicU32>() }
    }

    /// Where entry `at` is, of entries of type `T`.
    fn entry<T>(&self, at: u32) -> *mut T {
        let offset = self.entries + (at & (self.size - 1)) as usize * size_of::<T>();
        // SAFETY: the mapping was made for `size` entries of this type.
        unsafe { self.memory.as_ptr().add(offset).cast() }
    }

    /// Takes the next entry of a ring that the kernel fills.
    fn take<T: Copy>(&mut self) -> Option<T> {
        if self.ours == self.theirs {
            self.theirs = self.index(self.producer).load(Ordering::Acquire);
            if self.ours == self.theirs {
                return None;
            }
        }
        // SAFETY: the kernel published this entry, and does not write it before we give it back.
        let entry = unsafe { self.entry::<T>(self.ours).read() };
        self.ours = self.ours.wrapping_add(1);
        Some(entry)
    }

    /// Tells the kernel what was taken.
    fn publish_taken(&self) {
        self.index(self.consumer).store(self.ours, Ordering::Release);
    }

    /// Puts an entry into a ring that the kernel empties; `false` when it is full.
    fn put<T>(&mut self, entry: T) -> bool {
        if self.ours.wrapping_sub(self.theirs) == self.size {
            self.theirs = self.index(self.consumer).load(Ordering::Acquire);
            if self.ours.wrapping_sub(self.theirs) == self.size {
                return false;
            }
        }
        // SAFETY: the kernel has emptied this entry, and does not read it before it is published.
        unsafe { self.entry::<T>(self.ours).write(entry) };
        self.ours = self.ours.wrapping_add(1);
        true
    }

    /// Tells the kernel what was put.
    fn publish_put(&self) {
        self.index(self.producer).store(self.ours, Ordering::Release);
    }

    /// Whether the kernel has emptied it.
    fn is_emptied(&self) -> bool {
        self.index(self.consumer).load(Ordering::Acquire) == self.ours
    }
}

/// A received frame: its number, and where in the memory its bytes are.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Received {
    pub(super) frame: u32,
    pub(super) at: usize,
    pub(super) len: usize,
}

/// The socket with its memory and rings.
#[derive(Debug)]
pub(super) struct Rings {
    // Dropped first: the kernel lets go of the memory below.
    socket: OwnedFd,
    fill: Ring,
    receive: Ring,
    send: Ring,
    completion: Ring,
    memory: Pages,
    /// Frames to send from that are free, the last used on top: it is still in the cache.
    free: Vec<u32>,
    /// System calls made.
    pub(super) syscalls: u64,
}

impl Rings {
    /// A socket for one queue of an interface.
    ///
    /// # Errors
    /// What the kernel says: `EPERM` without `CAP_NET_RAW`, `EBUSY` when another has the queue.
    pub(super) fn open(interface: u32, queue: u32) -> io::Result<Self> {
        // SAFETY: takes numbers only.
        let socket = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just gave us this descriptor and nobody else has it.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        let frames = RECEIVE_FRAMES + SEND_FRAMES;
        let memory = Pages::new(frames as usize * FRAME_BYTES)?;
        let shared = UmemReg {
            start: memory.as_ptr() as u64,
            len: u64::from(frames) * FRAME_BYTES as u64,
            chunk_bytes: FRAME_BYTES as u32,
            headroom: 0,
            flags: 0,
            metadata_bytes: 0,
        };
        set(&socket, libc::XDP_UMEM_REG, &shared)?;
        set(&socket, libc::XDP_UMEM_FILL_RING, &RECEIVE_FRAMES)?;
        set(&socket, libc::XDP_UMEM_COMPLETION_RING, &SEND_FRAMES)?;
        set(&socket, libc::XDP_RX_RING, &RECEIVE_FRAMES)?;
        set(&socket, libc::XDP_TX_RING, &SEND_FRAMES)?;
        // Kernels before 6.17 do not know it and send 32 a call.
        drop(set(&socket, XDP_MAX_TX_SKB_BUDGET, &SEND_BUDGET));
        let offsets = offsets(&socket)?;
        let ring = |size, entry_bytes, offsets: &libc::xdp_ring_offset, page| {
            open_ring(&socket, size, entry_bytes, offsets, page)
        };
        let descriptor = size_of::<libc::xdp_desc>();
        let mut rings = Self {
            fill: ring(RECEIVE_FRAMES, 8, &offsets.fr, libc::XDP_UMEM_PGOFF_FILL_RING as libc::off_t)?,
            receive: ring(RECEIVE_FRAMES, descriptor, &offsets.rx, libc::XDP_PGOFF_RX_RING)?,
            send: ring(SEND_FRAMES, descriptor, &offsets.tx, libc::XDP_PGOFF_TX_RING)?,
            completion: ring(
                SEND_FRAMES,
                8,
                &offsets.cr,
                libc::XDP_UMEM_PGOFF_COMPLETION_RING as libc::off_t,
            )?,
            memory,
            free: (RECEIVE_FRAMES..frames).collect(),
            socket,
            syscalls: 0,
        };
        (0..RECEIVE_FRAMES).for_each(|frame| rings.give_back(frame));
        rings.publish_taken();
        rings.bind(interface, queue)?;
        Ok(rings)
    }

    fn bind(&self, interface: u32, queue: u32) -> io::Result<()> {
        let name = libc::sockaddr_xdp {
            sxdp_family: libc::AF_XDP as u16,
            // Frames are copied: zero-copy needs a driver that can, and was never tried.
            sxdp_flags: libc::XDP_COPY,
            sxdp_ifindex: interface,
            sxdp_queue_id: queue,
            sxdp_shared_umem_fd: 0,
        };
        let len = size_of_val(&name) as libc::socklen_t;
        // SAFETY: `name` is readable for its length through the call.
        match unsafe { libc::bind(self.socket.as_raw_fd(), (&raw const name).cast(), len) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// The next frame that was received. It is ours until [`Rings::give_back`].
    pub(super) fn receive(&mut self) -> Option<Received> {
        let descriptor: libc::xdp_desc = self.receive.take()?;
        let at = descriptor.addr as usize;
        Some(Received { frame: (at / FRAME_BYTES) as u32, at, len: descriptor.len as usize })
    }

    /// Bytes of the memory: of a frame that is ours.
    pub(super) fn bytes(&mut self, at: usize, len: usize) -> Option<&mut [u8]> {
        self.memory.slice_mut(at, len)
    }

    /// The same, to look at.
    pub(super) fn peek(&self, at: usize, len: usize) -> Option<&[u8]> {
        self.memory.slice(at, len)
    }

    /// Lets the kernel receive in a frame again, once it is told by [`Rings::publish_taken`].
    pub(super) fn give_back(&mut self, frame: u32) {
        // There are as many places as frames.
        self.fill.put(u64::from(frame) * FRAME_BYTES as u64);
    }

    /// Tells the kernel which frames were taken and given back.
    pub(super) fn publish_taken(&self) {
        self.receive.publish_taken();
        self.fill.publish_put();
    }

    /// Queues a frame that `write` fills and gives the length of; `false` when none is free or
    /// nothing was written.
    pub(super) fn send(&mut self, write: impl FnOnce(&mut [u8]) -> Option<usize>) -> bool {
        if self.free.is_empty() {
            self.collect();
        }
        let Some(&frame) = self.free.last() else { return false };
        let at = frame as usize * FRAME_BYTES;
        let Some(len) = self.memory.slice_mut(at, FRAME_BYTES).and_then(write) else { return false };
        let is_queued = self.send.put(libc::xdp_desc { addr: at as u64, len: len as u32, options: 0 });
        if is_queued {
            self.free.pop();
        }
        is_queued
    }

    /// Has the kernel send what is queued.
    pub(super) fn flush(&mut self) {
        if self.send.is_emptied() {
            return;
        }
        self.send.publish_put();
        for _ in 0..KICKS_MAX {
            self.syscalls += 1;
            // SAFETY: nothing is passed but numbers.
            unsafe {
                libc::sendto(
                    self.socket.as_raw_fd(),
                    std::ptr::null(),
                    0,
                    libc::MSG_DONTWAIT,
                    std::ptr::null(),
                    0,
                )
            };
            if self.send.is_emptied() {
                break;
            }
        }
        self.collect();
    }

    /// Takes back what was sent.
    fn collect(&mut self) {
        while let Some(address) = self.completion.take::<u64>() {
            self.free.push((address as usize / FRAME_BYTES) as u32);
        }
        self.completion.publish_taken();
    }

    /// Frames that were lost because none was empty, since the beginning.
    pub(super) fn lost(&self) -> u64 {
        // SAFETY: plain numbers, all of which may be zero.
        let mut statistics: libc::xdp_statistics = unsafe { std::mem::zeroed() };
        match get(&self.socket, libc::XDP_STATISTICS, &mut statistics) {
            Ok(()) => statistics.rx_dropped + statistics.rx_ring_full,
            Err(_) => 0,
        }
    }
}

/// `struct xdp_umem_reg`, whose form in the C library changes with its version.
#[repr(C)]
struct UmemReg {
    start: u64,
    len: u64,
    chunk_bytes: u32,
    headroom: u32,
    flags: u32,
    metadata_bytes: u32,
}

fn offsets(socket: &OwnedFd) -> io::Result<libc::xdp_mmap_offsets> {
    // SAFETY: plain numbers, all of which may be zero.
    let mut offsets: libc::xdp_mmap_offsets = unsafe { std::mem::zeroed() };
    get(socket, libc::XDP_MMAP_OFFSETS, &mut offsets)?;
    Ok(offsets)
}

fn open_ring(
    socket: &OwnedFd,
    size: u32,
    entry_bytes: usize,
    offsets: &libc::xdp_ring_offset,
    page: libc::off_t,
) -> io::Result<Ring> {
    let memory = Mapped::new(offsets.desc as usize + size as usize * entry_bytes, socket, page)?;
    let at = |offset: u64| offset as usize;
    let (producer, consumer, entries) = (at(offsets.producer), at(offsets.consumer), at(offsets.desc));
    Ok(Ring { memory, producer, consumer, entries, size, ours: 0, theirs: 0 })
}

fn set<T>(socket: &OwnedFd, option: libc::c_int, value: &T) -> io::Result<()> {
    let (value, len) = (std::ptr::from_ref(value).cast(), size_of::<T>() as libc::socklen_t);
    // SAFETY: the value is readable for its length through the call.
    match unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_XDP, option, value, len) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn get<T>(socket: &OwnedFd, option: libc::c_int, value: &mut T) -> io::Result<()> {
    let mut len = size_of::<T>() as libc::socklen_t;
    let value = std::ptr::from_mut(value).cast();
    // SAFETY: the value is writable for its length through the call.
    match unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_XDP, option, value, &mut len) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

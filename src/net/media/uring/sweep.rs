//! Sweeping: sockets of connected peers that the caller looks at by the clock have no receive
//! armed. Each sweep asks all of them at once, without waiting.
//!
//! An armed receive costs memory of the kernel that is touched for each datagram, first by the
//! sender's processor and then by ours; a swept one uses the same few lines for all.

use std::io;
use std::net::SocketAddr;

use io_uring::{EnterFlags, cqueue, opcode, types};

use super::{Driver, Receive, SWEPT};
use crate::net::media::pages::Pages;
use crate::net::media::socket::count_receive_error;
use crate::net::media::{DATAGRAM_MAX, SWEEPS, SocketKey};

/// Sockets asked at once.
pub(super) const PART: usize = 256;
/// Bytes for each of their datagrams. An odd number of cache lines, so that the used parts do not
/// all fall on the same sets of the cache.
const PLACE_BYTES: usize = 25 * 64;
/// Where a completion's place stands in its user data.
const PLACE_SHIFT: u32 = 40;
const _: () = assert!(DATAGRAM_MAX < PLACE_BYTES);

/// The memory that swept datagrams are received in.
pub(super) fn memory() -> io::Result<Pages> {
    Pages::new(PART * PLACE_BYTES)
}

impl Driver {
    pub(in crate::net::media) fn sweep(&mut self, key: SocketKey, sweep: Option<usize>) {
        let Some(entry) = self.entry(key) else { return };
        let sweep = sweep.map(|sweep| sweep % SWEEPS);
        if entry.sweep == sweep {
            return;
        }
        let is_swept = entry.receive == Receive::Swept;
        if is_swept {
            // Out of the old one's list before it goes to the new one's.
            self.end(key.index);
        }
        if let Some(entry) = self.entry(key) {
            entry.sweep = sweep;
            // A receive without the sender is only ever armed while the socket is connected.
            if entry.receive == Receive::Plain {
                self.end(key.index);
            }
        }
        self.ended(key.index);
    }

    /// Puts a quiet, connected socket into a sweep.
    pub(super) fn begin_sweeping(&mut self, index: u32, sweep: usize) {
        if let Some(entry) = self.entries.get_mut(index as usize) {
            entry.receive = Receive::Swept;
            self.sweeps[sweep].push(index);
        }
    }

    pub(in crate::net::media) fn poll_sweep(
        &mut self,
        sweep: usize,
        deliver: &mut impl FnMut(u32, Option<SocketAddr>, &mut [u8]),
    ) {
        let mut from = 0;
        loop {
            // Those that enter the sweep meanwhile are at its end; none leave.
            let part = self.sweeps[sweep % SWEEPS].iter().skip(from).take(PART);
            self.asked.clear();
            self.asked.extend(part);
            if self.asked.is_empty() {
                return;
            }
            from += self.asked.len();
            for &index in &self.asked {
                if let Some(entry) = self.entries.get_mut(index as usize) {
                    entry.pace.begin();
                }
            }
            while !self.asked.is_empty() {
                self.ask(deliver);
            }
        }
    }

    /// Asks each for one datagram; those to ask for another are then the ones asked next.
    fn ask(&mut self, deliver: &mut impl FnMut(u32, Option<SocketAddr>, &mut [u8])) {
        for place in 0..self.asked.len() {
            let index = self.asked[place];
            let start = self.swept.as_ptr().wrapping_add(place * PLACE_BYTES);
            let receive = opcode::Recv::new(types::Fixed(index), start, PLACE_BYTES as u32)
                .flags(libc::MSG_DONTWAIT | libc::MSG_TRUNC)
                .build()
                .user_data(SWEPT | (place as u64) << PLACE_SHIFT | u64::from(index));
            // One that finds no place in the queue is asked in the next sweep.
            self.push(&receive);
        }
        self.enter(EnterFlags::empty());
        self.again.clear();
        self.complete(deliver);
        std::mem::swap(&mut self.asked, &mut self.again);
    }

    /// Handles the answer of one that was asked.
    pub(super) fn answered(
        &mut self,
        index: u32,
        completion: &cqueue::Entry,
        deliver: &mut impl FnMut(u32, Option<SocketAddr>, &mut [u8]),
    ) {
        let Some(entry) = self.entries.get_mut(index as usize).filter(|entry| !entry.closing) else { return };
        let place = (completion.user_data() >> PLACE_SHIFT) as usize;
        match usize::try_from(completion.result()) {
            Ok(len) => {
                if len > DATAGRAM_MAX {
                    self.counters.truncated += 1;
                } else if let Some(datagram) = self.swept.slice_mut(place * PLACE_BYTES, len) {
                    if datagram.is_empty() {
                        self.counters.empty += 1;
                    } else {
                        self.counters.received += 1;
                        deliver(entry.socket.token, None, datagram);
                    }
                }
                if entry.pace.found() {
                    self.again.push(index);
                }
            }
            Err(_) if completion.result() == -libc::EAGAIN => entry.pace.drained(),
            Err(_) => count_receive_error(&mut self.counters, -completion.result()),
        }
    }
}

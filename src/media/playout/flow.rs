//! What goes into the line: what was sent, in its order, and what is made up where it is missing.

use super::{PIECE_MS, Playout, Pulled};
use crate::codec::conceal::{Bridge, FUTURE_LEN_MAX};
use crate::codec::g711;

/// A packet that was late by no more than this beyond the target delay is played late; a later
/// one is passed over, as long as there is something after it.
const LATE_PLAYED_MS: u32 = 100;

impl Playout {
    /// Makes the line longer, by what was sent or by at most `wanted` made up samples.
    pub(super) fn go_on(&mut self, wanted: usize) -> Pulled {
        let Some((gap, end)) = self.next_piece() else {
            return self.conceal(wanted, None);
        };
        if gap <= 0 {
            if self.is_too_late() {
                self.next = end;
                self.made_up = self.made_up.saturating_sub(PIECE_MS * self.units_per_ms);
                self.counts.discarded += 1;
                self.store.pop();
                return Pulled::Normal;
            }
            return self.play(gap.unsigned_abs() as usize);
        }
        let rest = gap.saturating_sub(self.made_up as i32);
        if rest > 0 {
            return self.conceal(wanted.min(rest as usize), Some(rest as usize));
        }
        // The gap is filled: what comes next is what was sent.
        self.next = self.next.wrapping_add(gap as u32);
        self.made_up -= gap as u32;
        Pulled::Normal
    }

    /// The oldest piece worth playing: its distance from what was played last, and its end.
    fn next_piece(&mut self) -> Option<(i32, u32)> {
        loop {
            let front = self.store.front()?;
            let end = front.end();
            if end.wrapping_sub(self.next) as i32 > 0 {
                return Some((front.timestamp.wrapping_sub(self.next) as i32, end));
            }
            self.store.pop();
        }
    }

    /// Whether the delay has grown so much by waiting that the oldest piece is better passed over.
    fn is_too_late(&self) -> bool {
        let limit = (LATE_PLAYED_MS * self.units_per_ms) as i32;
        self.made_up > 0 && self.store.len() > 2 && self.excess().is_some_and(|excess| excess > limit)
    }

    /// Passes over a frame that is silence after a past of silence, in time and without a gap: it is
    /// what is in the line already. Muted phones send hours of it.
    pub(super) fn pass_silence(&mut self, frame: u32) -> bool {
        let is_at_rest = self.zeros >= self.concealer.past_len()
            && self.line.ahead() == 0
            && self.concealer.run() == 0
            && self.made_up == 0
            && self.excess() == Some(0);
        if !is_at_rest || !self.is_silence_next(frame) {
            return false;
        }
        let end = self.next.wrapping_add(frame);
        while self.next != end {
            self.pass_piece();
        }
        self.measure_silence();
        true
    }

    /// Whether the store goes on with pieces of silence that make up exactly `frame`.
    fn is_silence_next(&self, frame: u32) -> bool {
        let Some(zero) = g711::zero(self.codec) else { return false };
        let mut length = 0;
        for piece in (0..).map_while(|index| self.store.piece(index)) {
            let follows = piece.timestamp == self.next.wrapping_add(length);
            if !follows || piece.payload.iter().any(|&byte| byte != zero) {
                return false;
            }
            length += piece.duration;
            if length >= frame {
                return length == frame;
            }
        }
        false
    }

    /// Goes on to the end of the oldest piece.
    fn pass_piece(&mut self) {
        let Some(front) = self.store.front() else { return };
        let (sequence, end) = (front.sequence, front.end());
        self.store.pop();
        self.next = end;
        self.made_up = 0;
        if self.last_sequence != Some(sequence) {
            self.count_gap(sequence);
            self.loss.record_played();
            self.last_sequence = Some(sequence);
        }
    }

    /// Decodes the oldest piece into the line, from its sample `skip` on.
    pub(super) fn play(&mut self, skip: usize) -> Pulled {
        let Some(front) = self.store.front() else { return Pulled::Normal };
        let payload = front.payload.get(skip..).unwrap_or_default();
        let (past, room) = self.line.room(payload.len());
        g711::decode(self.codec, payload, room);
        let mut pulled = Pulled::Normal;
        if self.concealer.run() > 0 {
            self.concealer.recover(past, room);
            pulled = Pulled::Concealed;
        }
        let length = room.len();
        self.line.grow(length);
        self.pass_piece();
        pulled
    }

    /// Counts the packets missing between the last one played and `sequence`.
    pub(super) fn count_gap(&mut self, sequence: u16) {
        let Some(last) = self.last_sequence else { return };
        if sequence == last {
            return;
        }
        let between = sequence.wrapping_sub(last).wrapping_sub(1);
        // A sender may begin anew with any number.
        if between < u16::MAX / 2 {
            let lost = between.saturating_sub(self.other_packets);
            if u32::from(lost) * self.packet < self.units_per_ms * 1000 {
                self.counts.lost += u64::from(lost);
                self.loss.record_lost(u32::from(lost));
            }
        }
        self.other_packets = 0;
    }

    /// Makes up `wanted` samples. `gap` is what is missing before the oldest piece, if there is one.
    fn conceal(&mut self, wanted: usize, gap: Option<usize>) -> Pulled {
        let mut future = [0; FUTURE_LEN_MAX];
        let length =
            gap.filter(|&gap| gap <= self.concealer.bridge_max()).map_or(0, |_| self.foresee(&mut future));
        let bridge = gap.map(|gap| Bridge { gap, future: &future[..length] });
        let (past, room) = self.line.room(wanted);
        self.concealer.conceal(past, room, bridge);
        let made = room.len();
        self.line.grow(made);
        self.made_up = self.made_up.saturating_add(made as u32);
        self.counts.concealed += made as u64;
        Pulled::Concealed
    }

    /// Decodes what follows the gap, as far as it is at hand; gives how much.
    fn foresee(&self, future: &mut [i16]) -> usize {
        let most = self.concealer.future_len().min(future.len());
        let mut length = 0;
        let mut end = None;
        for piece in (0..).map_while(|index| self.store.piece(index)) {
            let to = (length + piece.payload.len()).min(most);
            if end.is_some_and(|end| end != piece.timestamp) || to == length {
                break;
            }
            g711::decode(self.codec, piece.payload, &mut future[length..to]);
            length = to;
            end = Some(piece.end());
        }
        length
    }
}

//! Direct hashes: the credential in `sip:direct.<hash>@host`, which conference each one opens, and
//! which ones opened a conference that has ended.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::settings::ENDED_HASHES_MAX;
use crate::id::{ConferenceId, CustomerId};
use crate::rng::Rng;

/// What stands before the hash in the user part.
const PREFIX: &str = "direct.";
/// Hex digits of a hash: 48 bits.
const DIGITS: usize = 12;
/// Digits of a hash that people are shown.
const SHOWN: usize = 4;

/// What a hash opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opens {
    /// A conference that has not ended.
    Conference(ConferenceId),
    /// A conference that ended by itself.
    Ended,
    /// Nothing: never made, switched off, regenerated, or its conference was deleted.
    Nothing,
}

/// The owner of all direct hashes.
#[derive(Debug)]
pub(super) struct DirectHashes {
    live: HashMap<String, ConferenceId>,
    /// Hashes of ended conferences.
    ended: HashMap<String, ConferenceId>,
    /// The same by conference, with its owner.
    ended_of: BTreeMap<ConferenceId, (CustomerId, String)>,
    /// Ended conferences, the longest ended first.
    order: VecDeque<ConferenceId>,
    ended_max: usize,
    forgotten: u64,
}

impl Default for DirectHashes {
    fn default() -> Self {
        Self::with_limit(ENDED_HASHES_MAX)
    }
}

impl DirectHashes {
    fn with_limit(ended_max: usize) -> Self {
        Self {
            live: HashMap::new(),
            ended: HashMap::new(),
            ended_of: BTreeMap::new(),
            order: VecDeque::new(),
            ended_max,
            forgotten: 0,
        }
    }

    /// A fresh hash that opens `conference`.
    pub(super) fn make(&mut self, conference: ConferenceId, rng: &mut Rng) -> String {
        loop {
            let hash = rng.hex(DIGITS);
            if self.opens(&hash) == Opens::Nothing {
                self.live.insert(hash.clone(), conference);
                return hash;
            }
        }
    }

    /// Lets a hash from the store open `conference` again.
    pub(super) fn restore(&mut self, hash: &str, conference: ConferenceId) {
        if !hash.is_empty() {
            self.live.insert(hash.to_owned(), conference);
        }
    }

    /// What `hash` opens.
    pub(super) fn opens(&self, hash: &str) -> Opens {
        if let Some(conference) = self.live.get(hash) {
            return Opens::Conference(*conference);
        }
        if self.ended.contains_key(hash) { Opens::Ended } else { Opens::Nothing }
    }

    /// The hash opens nothing any more.
    pub(super) fn kill(&mut self, hash: &str) {
        self.live.remove(hash);
    }

    /// The conference has ended by itself: its hash says so from now on.
    pub(super) fn retire(&mut self, hash: &str, customer: CustomerId, conference: ConferenceId) {
        self.live.remove(hash);
        if hash.is_empty() {
            return;
        }
        self.ended.insert(hash.to_owned(), conference);
        if self.ended_of.insert(conference, (customer, hash.to_owned())).is_none() {
            self.order.push_back(conference);
        }
        while self.order.len() > self.ended_max {
            let Some(oldest) = self.order.pop_front() else { break };
            self.forgotten += 1;
            self.forget(oldest);
        }
    }

    /// The ended conference was deleted by its owner: its hash is free.
    pub(super) fn free(&mut self, customer: CustomerId, conference: ConferenceId) {
        if self.ended_of.get(&conference).is_some_and(|(owner, _)| *owner == customer) {
            self.order.retain(|other| *other != conference);
            self.forget(conference);
        }
    }

    fn forget(&mut self, conference: ConferenceId) {
        if let Some((_, hash)) = self.ended_of.remove(&conference) {
            self.ended.remove(&hash);
        }
    }

    /// Hashes of ended conferences forgotten because there were too many.
    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten
    }
}

/// The hash in a user part: exactly `direct.` and what follows, or nothing.
pub(super) fn of_user(user: &str) -> Option<&str> {
    user.strip_prefix(PREFIX).filter(|hash| !hash.is_empty())
}

/// `text` with every direct hash in it cut to its first digits.
pub(super) fn mask(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    // In any case: a misspelt one may still be somebody's secret.
    while let Some(at) = rest.to_ascii_lowercase().find(PREFIX) {
        let (before, hash) = rest.split_at(at + PREFIX.len());
        let length = hash.bytes().take_while(u8::is_ascii_alphanumeric).count();
        masked.push_str(before);
        masked.push_str(&hash[..length.min(SHOWN)]);
        if length > SHOWN {
            masked.push('…');
        }
        rest = &hash[length..];
    }
    masked.push_str(rest);
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(n: u64) -> Vec<ConferenceId> {
        let mut rng = Rng::from_number(n);
        (0..n).map(|_| ConferenceId::random(&mut rng)).collect()
    }

    #[test]
    fn a_hash_is_twelve_lower_case_hex_digits_and_opens_its_conference() {
        let mut hashes = DirectHashes::default();
        let mut rng = Rng::from_number(1);
        for id in ids(200) {
            let hash = hashes.make(id, &mut rng);
            assert!(
                hash.len() == 12 && hash.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
            );
            assert_eq!(hashes.opens(&hash), Opens::Conference(id));
            assert_eq!(
                hashes.opens(&hash.to_ascii_uppercase()) == Opens::Conference(id),
                hash.bytes().all(|b| b.is_ascii_digit())
            );
        }
    }

    #[test]
    fn only_the_exact_form_is_a_direct_user() {
        assert_eq!(of_user("direct.abc"), Some("abc"));
        for user in ["direct.", "direct", "Direct.abc", "xdirect.abc", "", "direct,abc"] {
            assert_eq!(of_user(user), None, "{user:?}");
        }
    }

    #[test]
    fn ended_hashes_are_told_from_unknown_ones_until_freed_by_their_owner() {
        let mut hashes = DirectHashes::default();
        let mut rng = Rng::from_number(2);
        let (owner, other) = (CustomerId::random(&mut rng), CustomerId::random(&mut rng));
        let id = ids(1)[0];
        let hash = hashes.make(id, &mut rng);
        hashes.retire(&hash, owner, id);
        hashes.free(other, id);
        assert_eq!(hashes.opens(&hash), Opens::Ended);
        hashes.free(owner, id);
        assert_eq!(hashes.opens(&hash), Opens::Nothing);
    }

    #[test]
    fn the_oldest_ended_hash_is_forgotten_at_the_limit_and_counted() {
        let mut hashes = DirectHashes::with_limit(2);
        let mut rng = Rng::from_number(3);
        let made: Vec<(ConferenceId, String)> =
            ids(3).into_iter().map(|id| (id, hashes.make(id, &mut rng))).collect();
        for (id, hash) in &made {
            hashes.retire(hash, CustomerId::NIL, *id);
        }
        let opens: Vec<Opens> = made.iter().map(|(_, hash)| hashes.opens(hash)).collect();
        assert_eq!(opens, [Opens::Nothing, Opens::Ended, Opens::Ended]);
        assert_eq!(hashes.forgotten(), 1);
    }

    #[test]
    fn a_masked_text_has_no_whole_hash() {
        assert_eq!(mask("sip:direct.ab12cd34ef56@host"), "sip:direct.ab12…@host");
        assert_eq!(mask("a direct.ab12cd34ef56 b Direct.00112233 c"), "a direct.ab12… b Direct.0011… c");
        assert_eq!(mask("direct.ab"), "direct.ab");
        assert_eq!(mask("sip:alice@é"), "sip:alice@é");
    }
}

//! The identity of our side's descriptions over a call (RFC 3264 §8).

use super::description::SessionDescription;

/// Numbers the descriptions we send in one call: the session id never changes, the version grows
/// by one exactly when a description differs from the one sent before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    id: u64,
    version: u64,
    /// The text sent last, without its version.
    last: Box<str>,
}

impl Session {
    /// A session that has sent nothing. RFC 3264 §5 wants `id` and the first `version` to fit a
    /// signed 64-bit number; their top bit is dropped.
    pub fn new(id: u64, version: u64) -> Session {
        let positive = u64::MAX >> 1;
        Session { id: id & positive, version: version & positive, last: Box::default() }
    }

    /// `description` with this session's id and the version it must bear.
    pub fn next(&mut self, description: &SessionDescription) -> SessionDescription {
        let mut next = description.clone();
        next.origin.session_id = self.id.to_string();
        next.origin.version.clear();
        let text = next.to_string();
        if !self.last.is_empty() && *self.last != *text {
            self.version = self.version.saturating_add(1);
        }
        self.last = text.into_boxed_str();
        next.origin.version = self.version.to_string();
        next
    }

    /// The version sent last, or to be sent first.
    pub fn version(&self) -> u64 {
        self.version
    }
}

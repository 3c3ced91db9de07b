//! The header names that mean something to us, long and compact (RFC 3261 §7.3.3).

/// A header name we know, or [`Name::Other`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Name {
    Accept,
    CallId,
    Contact,
    ContentEncoding,
    ContentLength,
    ContentType,
    CSeq,
    From,
    MaxForwards,
    Reason,
    RecordRoute,
    Require,
    RetryAfter,
    Route,
    To,
    Via,
    Other,
}

/// Long name, compact name (0: none) and what they name.
const TABLE: [(&str, u8, Name); 16] = [
    ("Via", b'v', Name::Via),
    ("From", b'f', Name::From),
    ("To", b't', Name::To),
    ("Call-ID", b'i', Name::CallId),
    ("CSeq", 0, Name::CSeq),
    ("Contact", b'm', Name::Contact),
    ("Content-Type", b'c', Name::ContentType),
    ("Content-Length", b'l', Name::ContentLength),
    ("Max-Forwards", 0, Name::MaxForwards),
    ("Record-Route", 0, Name::RecordRoute),
    ("Route", 0, Name::Route),
    ("Require", 0, Name::Require),
    ("Accept", 0, Name::Accept),
    ("Content-Encoding", b'e', Name::ContentEncoding),
    ("Reason", 0, Name::Reason),
    ("Retry-After", 0, Name::RetryAfter),
];

/// Compact names of headers that we only pass on, with their long form.
const COMPACT_OTHERS: [(u8, &str); 9] = [
    (b'a', "Accept-Contact"),
    (b'b', "Referred-By"),
    (b'd', "Request-Disposition"),
    (b'j', "Reject-Contact"),
    (b'k', "Supported"),
    (b'o', "Event"),
    (b'r', "Refer-To"),
    (b's', "Subject"),
    (b'x', "Session-Expires"),
];

impl Name {
    /// What a header name as sent stands for, whatever its case.
    pub(super) fn from_text(text: &[u8]) -> Name {
        if let [one] = text {
            let one = one.to_ascii_lowercase();
            return TABLE
                .iter()
                .find(|(_, compact, _)| *compact == one && one != 0)
                .map_or(Name::Other, |(_, _, name)| *name);
        }
        TABLE
            .iter()
            .find(|(long, _, _)| long.as_bytes().eq_ignore_ascii_case(text))
            .map_or(Name::Other, |(_, _, name)| *name)
    }

    /// Headers that a message may have only once, of those we read.
    pub(super) const fn is_single(self) -> bool {
        matches!(
            self,
            Name::CallId
                | Name::ContentLength
                | Name::ContentType
                | Name::CSeq
                | Name::From
                | Name::MaxForwards
                | Name::To
        )
    }
}

/// Whether the header name `sent` is the one `wanted` names, either of them long or compact.
pub(super) fn same_header(sent: &[u8], wanted: &[u8]) -> bool {
    let sent_name = Name::from_text(sent);
    if sent_name != Name::Other {
        return sent_name == Name::from_text(wanted);
    }
    long_form(sent).eq_ignore_ascii_case(long_form(wanted))
}

fn long_form(text: &[u8]) -> &[u8] {
    if let [one] = text {
        let one = one.to_ascii_lowercase();
        let found = COMPACT_OTHERS.iter().find(|(compact, _)| *compact == one);
        return found.map_or(text, |(_, long)| long.as_bytes());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_in_any_case_and_form() {
        assert_eq!(Name::from_text(b"cAlL-iD"), Name::CallId);
        assert_eq!(Name::from_text(b"I"), Name::CallId);
        assert_eq!(Name::from_text(b"q"), Name::Other);
        assert_eq!(Name::from_text(&[0]), Name::Other);
        assert!(same_header(b"k", b"supported"));
        assert!(same_header(b"SUBJECT", b"s"));
        assert!(same_header(b"v", b"via"));
        assert!(!same_header(b"x-via", b"via"));
    }
}

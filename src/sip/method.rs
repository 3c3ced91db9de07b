//! Request methods: those `rsip` has a table of, and the ones it has never heard of.

use std::fmt;

/// The method of a request. Methods are case-sensitive (RFC 3261 §7.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    /// A method that some RFC defines.
    Known(rsip::Method),
    /// Any other token.
    Other(Box<str>),
}

impl Method {
    /// INVITE.
    pub const INVITE: Method = Method::Known(rsip::Method::Invite);
    /// ACK.
    pub const ACK: Method = Method::Known(rsip::Method::Ack);
    /// BYE.
    pub const BYE: Method = Method::Known(rsip::Method::Bye);
    /// CANCEL.
    pub const CANCEL: Method = Method::Known(rsip::Method::Cancel);
    /// OPTIONS.
    pub const OPTIONS: Method = Method::Known(rsip::Method::Options);
    /// INFO.
    pub const INFO: Method = Method::Known(rsip::Method::Info);

    /// The method that `token` names.
    pub(super) fn from_token(token: &[u8]) -> Method {
        let known = match token {
            b"ACK" => rsip::Method::Ack,
            b"BYE" => rsip::Method::Bye,
            b"CANCEL" => rsip::Method::Cancel,
            b"INFO" => rsip::Method::Info,
            b"INVITE" => rsip::Method::Invite,
            b"MESSAGE" => rsip::Method::Message,
            b"NOTIFY" => rsip::Method::Notify,
            b"OPTIONS" => rsip::Method::Options,
            b"PRACK" => rsip::Method::PRack,
            b"PUBLISH" => rsip::Method::Publish,
            b"REFER" => rsip::Method::Refer,
            b"REGISTER" => rsip::Method::Register,
            b"SUBSCRIBE" => rsip::Method::Subscribe,
            b"UPDATE" => rsip::Method::Update,
            other => return Method::Other(String::from_utf8_lossy(other).into()),
        };
        Method::Known(known)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Method::Known(method) => write!(f, "{method}"),
            Method::Other(token) => f.write_str(token),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_of_the_table_is_read_as_it_is_written() {
        for method in rsip::Method::all() {
            assert_eq!(Method::from_token(method.to_string().as_bytes()), Method::Known(method));
        }
    }

    #[test]
    fn methods_are_case_sensitive() {
        assert_eq!(Method::from_token(b"invite"), Method::Other("invite".into()));
    }
}

//! SIP (RFC 3261) without I/O: bytes and time in, bytes and events out.
//!
//! [`Endpoint`] is the whole of it to its owner: parsing, transactions (with RFC 6026), dialogs and
//! the answers a user agent gives by itself. [`Framer`] cuts a TCP stream into messages for it. Our own lexer stands
//! in front, because peers fold, abbreviate and misspell; `rsip` lends its tables of methods and
//! statuses.

mod cause;
mod dialog;
mod endpoint;
mod flow;
mod framer;
mod header;
mod lexer;
mod message;
mod method;
mod name;
mod scan;
mod slots;
mod transaction;
mod uri;
mod write;

pub use cause::Cause;
pub use endpoint::{CallKey, Counters, Endpoint, Event, InviteError, Rejection, ServerKey, Settings};
pub use flow::{Flow, Transmit, Transport};
pub use framer::{FrameError, Framer};
pub use message::{DropReason, Request, Response};
pub use method::Method;
pub use uri::{Scheme, Uri, UriError};

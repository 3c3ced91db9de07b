//! What a flow needs of the outside: HTTP requests and sound. Each leaves the bridge with a ticket;
//! its answer comes back as an input with the same ticket.

use std::sync::Arc;

use crate::plane::Clip;

/// The method of an HTTP request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// GET.
    Get,
    /// POST.
    #[default]
    Post,
    /// PUT.
    Put,
    /// PATCH.
    Patch,
    /// DELETE.
    Delete,
}

impl Method {
    /// The method of this name; case does not matter, and no name is POST.
    pub fn from_name(name: &str) -> Option<Method> {
        match name.to_ascii_uppercase().as_str() {
            "GET" => Some(Method::Get),
            "POST" | "" => Some(Method::Post),
            "PUT" => Some(Method::Put),
            "PATCH" => Some(Method::Patch),
            "DELETE" => Some(Method::Delete),
            _ => None,
        }
    }

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Patch => "PATCH",
            Method::Delete => "DELETE",
        }
    }
}

/// Something that a flow asks of the shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Errand {
    /// An HTTP request.
    Http {
        /// The method.
        method: Method,
        /// Where to: `http` or `https`.
        url: String,
        /// The body's media type; empty without a body.
        content_type: String,
        /// The body.
        body: String,
    },
    /// The sound at a URL.
    Sound {
        /// Where from: `http` or `https`.
        url: String,
    },
    /// A text, spoken.
    Speech {
        /// The text.
        text: String,
        /// Its language (BCP 47), or empty.
        language: String,
    },
}

/// What came of an [`Errand`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrandResult {
    /// The answer to an HTTP request, whatever its status.
    Http {
        /// The status code.
        status: u16,
        /// The body, cut at a limit of the shell.
        body: Vec<u8>,
        /// Whether it was cut.
        is_cut: bool,
    },
    /// The sound.
    Clip(Arc<Clip>),
    /// It could not be done, and why.
    Failed(String),
}

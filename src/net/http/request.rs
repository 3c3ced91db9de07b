//! A request to a URL as people write it: with spaces, other letters than ASCII, or a password.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Uri};
use url::Url;

use super::Failure;

/// How we name ourselves.
const AGENT: HeaderValue = HeaderValue::from_static(concat!("confab/", env!("CARGO_PKG_VERSION")));

/// A request. A user and password in the URL go into the `Authorization` header (RFC 7617); an empty
/// `content_type` is none.
///
/// # Errors
/// When the URL or the media type is none.
pub fn request(
    method: Method,
    url: &str,
    content_type: &str,
    body: Bytes,
) -> Result<Request<Bytes>, Failure> {
    let url = Url::parse(url).map_err(|_| Failure::Unaskable("it is not a URL"))?;
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = uri(&url)?;
    let headers = request.headers_mut();
    headers.insert(USER_AGENT, AGENT);
    if !content_type.is_empty() {
        let value = HeaderValue::from_str(content_type);
        headers.insert(CONTENT_TYPE, value.map_err(|_| Failure::Unaskable("it is not a media type"))?);
    }
    if let Some(value) = authorization(&url) {
        headers.insert(AUTHORIZATION, value);
    }
    Ok(request)
}

/// What of a URL is asked: without user, password and fragment.
pub(super) fn uri(url: &Url) -> Result<Uri, Failure> {
    const NO_URL: Failure = Failure::Unaskable("it is not a URL that can be asked");
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Failure::Unaskable("only http and https URLs are asked"));
    }
    let mut url = url.clone();
    url.set_fragment(None);
    url.set_username("").and_then(|()| url.set_password(None)).map_err(|()| NO_URL)?;
    url.as_str().parse().map_err(|_| NO_URL)
}

fn authorization(url: &Url) -> Option<HeaderValue> {
    let user = unescaped(url.username());
    let password = url.password().map(unescaped);
    if user.is_empty() && password.is_none() {
        return None;
    }
    let pair = [user, b":".to_vec(), password.unwrap_or_default()].concat();
    let mut value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(pair))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The bytes that a part of a URL stands for (RFC 3986 §2.1).
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let escaped = digits.filter(|_| *first == b'%').and_then(|two| u8::from_str_radix(two, 16).ok());
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(url: &str) -> Result<Request<Bytes>, Failure> {
        request(Method::GET, url, "", Bytes::new())
    }

    #[test]
    fn urls_are_asked_as_people_write_them() {
        for (url, asked) in [
            ("http://a.example", "http://a.example/"),
            (
                "HTTP://a.example:80/grüße und so?x=ä#top",
                "http://a.example/gr%C3%BC%C3%9Fe%20und%20so?x=%C3%A4",
            ),
            ("http://2130706433/", "http://127.0.0.1/"),
            ("http://0x7f.1:8/", "http://127.0.0.1:8/"),
            ("http://bücher.example/", "http://xn--bcher-kva.example/"),
        ] {
            assert_eq!(get(url).expect(url).uri(), asked, "{url}");
        }
        for url in ["ftp://a.example/", "file:///etc/passwd", "http://", "a.example", "", "http://a b/"] {
            assert!(matches!(get(url), Err(Failure::Unaskable(_))), "{url}");
        }
        let bad = request(Method::POST, "http://a.example/", "text/\nplain", Bytes::new());
        assert!(matches!(bad, Err(Failure::Unaskable(_))));
    }

    #[test]
    fn a_password_in_the_url_becomes_a_header() {
        let asked = get("http://us%65r:p%40ss@a.example/x").expect("a URL");
        assert_eq!(asked.uri(), "http://a.example/x");
        assert_eq!(
            asked.headers()[AUTHORIZATION],
            format!("Basic {}", STANDARD.encode("user:p@ss")).as_str()
        );
        assert!(!get("http://a.example/").expect("a URL").headers().contains_key(AUTHORIZATION));
    }
}

//! Where a redirect leads (RFC 9110 §15.4), and what is asked there.

use bytes::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, LOCATION};
use hyper::{Method, Request, StatusCode};
use url::Url;

use super::Failure;
use super::request::uri;

/// The request that follows an answer; `None`: the answer is no redirect, or does not say where to.
///
/// A POST that is moved becomes a GET, as everywhere (§15.4.2, §15.4.3); 307 and 308 keep method and
/// body. What proves who asks stays with the origin it was meant for.
///
/// # Errors
/// When it leads to what cannot be asked.
pub(super) fn next(
    mut request: Request<Bytes>,
    status: StatusCode,
    headers: &HeaderMap,
) -> Result<Option<Request<Bytes>>, Failure> {
    let becomes_get = match status {
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => request.method() == Method::POST,
        StatusCode::SEE_OTHER => request.method() != Method::HEAD,
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => false,
        _ => return Ok(None),
    };
    let location = headers.get(LOCATION).and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
    let from = Url::parse(&request.uri().to_string()).ok();
    let Some((location, from)) = location.zip(from) else { return Ok(None) };
    let to = from.join(location).map_err(|_| Failure::Unaskable("it redirects to what is not a URL"))?;
    *request.uri_mut() = uri(&to)?;
    if to.origin() != from.origin() {
        request.headers_mut().remove(AUTHORIZATION);
    }
    if becomes_get {
        *request.method_mut() = Method::GET;
        *request.body_mut() = Bytes::new();
        request.headers_mut().remove(CONTENT_TYPE);
    }
    Ok(Some(request))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What follows a request of this method to `http://u:p@a.example/x/y` with a body.
    fn follow(method: Method, status: u16, location: &str) -> Result<Option<Request<Bytes>>, Failure> {
        let body = Bytes::from_static(b"body");
        let request = super::super::request(method, "http://u:p@a.example/x/y", "text/plain", body);
        let headers = [(LOCATION, location.parse().expect("a header"))].into_iter().collect();
        next(request.expect("a URL"), StatusCode::from_u16(status).expect("a code"), &headers)
    }

    #[test]
    fn the_method_stays_where_the_code_says_so() {
        for (method, status, then) in [
            (Method::GET, 301, Some(Method::GET)),
            (Method::POST, 301, Some(Method::GET)),
            (Method::POST, 302, Some(Method::GET)),
            (Method::PUT, 302, Some(Method::PUT)),
            (Method::PUT, 303, Some(Method::GET)),
            (Method::POST, 307, Some(Method::POST)),
            (Method::DELETE, 308, Some(Method::DELETE)),
            (Method::GET, 200, None),
            (Method::GET, 304, None),
        ] {
            let next = follow(method.clone(), status, "z").expect("it can be asked");
            assert_eq!(next.as_ref().map(|next| next.method().clone()), then, "{method} {status}");
            if let Some(next) = next {
                let kept = method != Method::GET && *next.method() == method;
                assert_eq!(next.body() == "body", kept || method == Method::GET, "{method} {status}");
                assert_eq!(next.uri(), "http://a.example/x/z");
            }
        }
    }

    #[test]
    fn secrets_stay_with_their_origin() {
        for (location, uri, keeps) in [
            ("/z", "http://a.example/z", true),
            ("http://a.example:80/z", "http://a.example/z", true),
            ("//b.example/z", "http://b.example/z", false),
            ("https://a.example/z", "https://a.example/z", false),
            ("http://a.example:8/z", "http://a.example:8/z", false),
            ("http://x:y@b.example/z", "http://b.example/z", false),
        ] {
            let next = follow(Method::GET, 302, location).expect("a URL").expect("a redirect");
            assert_eq!(next.uri(), uri);
            assert_eq!(next.headers().contains_key(AUTHORIZATION), keeps, "{location}");
        }
    }

    #[test]
    fn what_cannot_be_asked_is_not() {
        for location in ["file:///etc/passwd", "gopher://a.example/", "http://["] {
            assert!(matches!(follow(Method::GET, 302, location), Err(Failure::Unaskable(_))), "{location}");
        }
        let request = super::super::request(Method::GET, "http://a.example/", "", Bytes::new());
        let nowhere = next(request.expect("a URL"), StatusCode::FOUND, &HeaderMap::new());
        assert!(nowhere.expect("an answer").is_none());
    }
}

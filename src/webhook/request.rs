//! One delivery: the request, its signature, and what its answer means.

use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use hyper::header::{CONTENT_TYPE, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Uri};
use sha2::Sha256;

use crate::net::http::HttpClient;
use crate::store::Webhook;

/// The header that proves who sent it.
pub const SIGNATURE: &str = "x-voipbin-signature";
/// The longest URI of a webhook.
pub const URI_MAX: usize = 2048;
/// The methods a webhook may ask for.
pub const METHODS: [&str; 5] = ["POST", "PUT", "PATCH", "GET", "DELETE"];

/// Whether a webhook's URI can be asked; if not, what is wrong with it.
///
/// # Errors
/// What it must be instead.
pub fn check_uri(text: &str) -> Result<(), &'static str> {
    const FORM: &str = "must be an http or https URI such as https://example.com/events, or empty";
    if text.len() > URI_MAX {
        return Err("must not be longer than 2048 characters");
    }
    let uri: Uri = text.parse().map_err(|_| FORM)?;
    let authority = uri.authority().ok_or(FORM)?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || authority.host().is_empty() {
        return Err(FORM);
    }
    if authority.as_str().contains('@') {
        return Err("must not hold a user or password; set `webhook_secret`, which signs every event");
    }
    Ok(())
}

/// Tells one event.
///
/// # Errors
/// Why it does not count as told, in words for its owner.
pub async fn tell(client: &HttpClient, webhook: &Webhook, body: Bytes) -> Result<(), String> {
    let request = request(webhook, body)?;
    let answer = client.send(request).await.map_err(|failure| failure.to_string())?;
    if answer.status.is_success() {
        return Ok(());
    }
    let hint = if answer.status.is_redirection() { "; redirects are not followed" } else { "" };
    Err(format!("the answer was {}{hint}", answer.status))
}

fn request(webhook: &Webhook, body: Bytes) -> Result<Request<Bytes>, String> {
    let method = Method::from_bytes(webhook.method.as_bytes())
        .map_err(|_| format!("{:?} is no HTTP method", webhook.method))?;
    let signature = (!webhook.secret.is_empty()).then(|| signature(&webhook.secret, &body));
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = webhook.uri.parse().map_err(|_| "the webhook's URI cannot be read".to_owned())?;
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("confab/", env!("CARGO_PKG_VERSION"))));
    if let Some(signature) = signature.and_then(|text| HeaderValue::from_str(&text).ok()) {
        headers.insert(SIGNATURE, signature);
    }
    Ok(request)
}

/// `sha256=` and the hex HMAC-SHA256 (RFC 2104) of the body.
pub fn signature(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(body);
    let digest = mac.finalize().into_bytes();
    digest.iter().fold("sha256=".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_rfc_4231() {
        // Test case 2 of RFC 4231 §4.3.
        assert_eq!(
            signature("Jefe", b"what do ya want for nothing?"),
            "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn uris_that_cannot_be_asked_are_refused_when_they_are_set() {
        for good in
            ["http://127.0.0.1:1/x", "https://example.com", "HTTPS://example.com/a?b=c", "http://[::1]:80/"]
        {
            assert_eq!(check_uri(good), Ok(()), "{good}");
        }
        let long = format!("https://example.com/{}", "x".repeat(URI_MAX));
        for bad in [
            "example.com",
            "/x",
            "ftp://example.com/",
            "https://",
            "http://u:p@example.com/",
            "http://a b/",
            "é",
            &long,
        ] {
            assert!(check_uri(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_request_is_signed_exactly_where_there_is_a_secret() {
        let mut webhook = Webhook {
            uri: "http://example.com/e?x=1".to_owned(),
            method: "PUT".to_owned(),
            secret: String::new(),
        };
        let plain = request(&webhook, Bytes::from_static(b"{}")).expect("a request");
        assert_eq!((plain.method(), plain.uri().path()), (&Method::PUT, "/e"));
        assert!(!plain.headers().contains_key(SIGNATURE));
        webhook.secret = "s".to_owned();
        let signed = request(&webhook, Bytes::from_static(b"{}")).expect("a request");
        assert_eq!(signed.headers()[SIGNATURE], signature("s", b"{}").as_str());
        assert!(!format!("{webhook:?}").contains("\"s\""), "a secret is never shown");
    }
}

//! HTTP requests that we make for customers: bounded in time and size, and never to an address inside
//! our own network unless the operator allows it, whatever the name resolves to or redirects to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};

use crate::bridge::flow::outside::Method;
use crate::time::Duration;

/// How long a connection may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a whole exchange may take.
pub const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(15);
/// Redirects that are followed.
const REDIRECTS_MAX: usize = 5;
/// Idle connections kept for each host.
const IDLE_PER_HOST: usize = 4;

/// Why a request failed, in words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct HttpError(pub String);

/// An answer, whatever its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The media type, without parameters, in lower case.
    pub content_type: String,
    /// The body, up to the limit that was asked for.
    pub body: Vec<u8>,
    /// The body was longer than the limit.
    pub is_cut: bool,
}

/// Makes requests. Cheap to clone.
#[derive(Clone, Debug)]
pub struct HttpClient {
    /// Or why there can be none.
    client: Result<Client, String>,
    allow_private: bool,
}

impl HttpClient {
    /// A client that goes to private and local addresses only if allowed.
    pub fn new(allow_private: bool) -> Self {
        // One provider for the process; one that is there already is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let follow = Policy::custom(move |attempt| {
            if attempt.previous().len() > REDIRECTS_MAX {
                return attempt.error("too many redirects");
            }
            match refusal(attempt.url(), allow_private) {
                Some(why) => attempt.error(why),
                None => attempt.follow(),
            }
        });
        let client = Client::builder()
            .user_agent(concat!("confab/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(EXCHANGE_TIMEOUT)
            .redirect(follow)
            .no_proxy()
            .pool_max_idle_per_host(IDLE_PER_HOST)
            .dns_resolver(Guarded { allow_private })
            .build();
        let client = client.map_err(|error| format!("no HTTP client can be had: {}", told(&error)));
        if let Err(why) = &client {
            tracing::warn!("{why}: flows can neither fetch nor send anything");
        }
        Self { client, allow_private }
    }

    /// Sends a request and reads the answer, up to `limit` bytes of its body.
    ///
    /// # Errors
    /// When there is no answer, or its address is not one we may ask.
    pub async fn send(
        &self,
        method: Method,
        url: &str,
        content_type: &str,
        body: String,
        limit: usize,
    ) -> Result<Answer, HttpError> {
        let client = self.client.as_ref().map_err(|why| HttpError(why.clone()))?;
        let url = Url::parse(url).map_err(|error| HttpError(format!("not a URL: {error}")))?;
        if let Some(why) = refusal(&url, self.allow_private) {
            return Err(HttpError(why.to_owned()));
        }
        let method = match method {
            Method::Get => reqwest::Method::GET,
            Method::Post => reqwest::Method::POST,
            Method::Put => reqwest::Method::PUT,
            Method::Patch => reqwest::Method::PATCH,
            Method::Delete => reqwest::Method::DELETE,
        };
        let mut request = client.request(method.clone(), url);
        if method != reqwest::Method::GET && !(body.is_empty() && content_type.is_empty()) {
            request = request.header(reqwest::header::CONTENT_TYPE, content_type).body(body);
        }
        let failed = |error: reqwest::Error| HttpError(told(&error));
        let mut response = request.send().await.map_err(failed)?;
        let media_type = response.headers().get(reqwest::header::CONTENT_TYPE);
        let media_type = media_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
        let media_type = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let mut answer = Answer {
            status: response.status().as_u16(),
            content_type: media_type,
            body: Vec::new(),
            is_cut: false,
        };
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            let room = limit - answer.body.len();
            answer.body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if chunk.len() > room {
                answer.is_cut = true;
                break;
            }
        }
        Ok(answer)
    }
}

/// An error with its causes, without the URL, which may hold secrets.
fn told(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(error) = cause {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&error.to_string());
        cause = error.source();
    }
    match (error.is_timeout(), text.is_empty()) {
        (true, _) => "no answer in time".to_owned(),
        (false, true) => "the request failed".to_owned(),
        (false, false) => text,
    }
}

/// Why a URL is not asked, by what can be told without resolving its name.
fn refusal(url: &Url, allow_private: bool) -> Option<&'static str> {
    if !matches!(url.scheme(), "http" | "https") {
        return Some("only http and https URLs are asked");
    }
    let host = url.host_str().unwrap_or_default();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match bare.parse::<IpAddr>() {
        Ok(ip) if !allow_private && !is_public(ip) => Some(PRIVATE),
        _ => None,
    }
}

const PRIVATE: &str = "the address is private or local (see flow.allow_private)";

/// Resolves names by the system and leaves out the addresses that we may not ask.
#[derive(Clone, Copy, Debug)]
struct Guarded {
    allow_private: bool,
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_private = self.allow_private;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> =
                found.filter(|address| allow_private || is_public(address.ip())).collect();
            if allowed.is_empty() {
                return Err(PRIVATE.into());
            }
            let addresses: Addrs = Box::new(allowed.into_iter());
            Ok(addresses)
        })
    }
}

/// Whether an address is one of the public Internet (IANA's special-purpose registries, RFC 6890).
pub fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_documentation()
        || ip.is_multicast()
        || a == 0
        || a >= 240
        // Carrier-grade NAT (RFC 6598), protocol assignments (RFC 6890), 6to4 relays, benchmarks (RFC 2544).
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (18..20).contains(&b));
    !special
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let part = ip.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match part[0] {
        // NAT64 (RFC 6052) and 6to4 (RFC 3056) reach an IPv4 address.
        0x64 if part[1] == 0xff9b && part[2] == 0 => embedded(part[6], part[7]),
        0x2002 => embedded(part[1], part[2]),
        // Documentation, Teredo and other protocol assignments (RFC 2928, RFC 3849).
        0x2001 if part[1] < 0x200 || part[1] == 0xdb8 => false,
        // Of what IANA gave out, all else is public.
        0x2000..0x4000 => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_local_and_special_addresses_are_told_from_public_ones() {
        for public in
            ["8.8.8.8", "203.0.112.1", "100.63.0.1", "2600::1", "2002:808:808::1", "64:ff9b::808:808"]
        {
            assert!(is_public(public.parse().expect(public)), "{public}");
        }
        for private in [
            "127.0.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "192.0.2.1",
            "198.18.0.1",
            "::1",
            "::",
            "fc00::1",
            "fe80::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "2002:a00:1::1",
            "2001:db8::1",
        ] {
            assert!(!is_public(private.parse().expect(private)), "{private}");
        }
    }

    #[test]
    fn urls_are_refused_by_what_they_say() {
        let refused = |url: &str, allow| refusal(&Url::parse(url).expect(url), allow).is_some();
        for url in [
            "http://127.0.0.1/x",
            "http://[::1]:8/",
            "http://2130706433/",
            "http://0x7f.1/",
            "ftp://a.example/",
        ] {
            assert!(refused(url, false), "{url}");
        }
        assert!(!refused("http://127.0.0.1/x", true) && !refused("https://a.example/", false));
        assert!(refused("file:///etc/passwd", true));
    }
}

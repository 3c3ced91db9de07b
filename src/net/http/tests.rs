//! Redirects and long answers, against servers of the test's own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use hyper::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

const SETTINGS: Settings =
    Settings { timeout: Duration::from_secs(20), allow_private: true, answer_max: 100, redirects_max: 2 };

/// A server that answers every request with what `answer` makes of its path; counts the requests.
async fn server(
    ip: &str,
    answer: impl Fn(&str) -> String + Send + 'static,
) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((ip, 0)).await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Relaxed);
            let mut request = Vec::new();
            while !request.windows(4).any(|four| four == b"\r\n\r\n") {
                if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                    break;
                }
            }
            let line = String::from_utf8_lossy(&request).into_owned();
            let answer = answer(line.split(' ').nth(1).unwrap_or_default());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (address, asked)
}

fn found(location: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nConnection: close\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n")
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

async fn get(client: &HttpClient, url: &str) -> Result<Answer, Failure> {
    client.send(request(Method::GET, url, "", Bytes::new()).expect("a URL")).await
}

#[tokio::test]
async fn a_redirect_to_a_private_address_is_not_followed() {
    // 127.0.0.2 stands for the public internet, all else of this machine for what is private.
    let guard: Guard = |ip| ip.to_canonical() != IpAddr::from([127, 0, 0, 2]);
    let client = HttpClient::guarded(SETTINGS, &Trust::default(), guard).expect("TLS");
    let (inside, asked) = server("127.0.0.1", |_| ok("secret")).await;
    let port = inside.port();
    let (outside, _) = server("127.0.0.2", move |path| match path {
        "/address" => found(&format!("http://127.0.0.1:{port}/")),
        "/number" => found(&format!("http://2130706433:{port}/")),
        "/mapped" => found(&format!("http://[::ffff:127.0.0.1]:{port}/")),
        "/name" => found(&format!("http://localhost:{port}/")),
        "/twice" => found("/name"),
        "/round" => found("/fine"),
        _ => ok("public"),
    })
    .await;
    for path in ["address", "number", "mapped", "name", "twice"] {
        let refused = get(&client, &format!("http://{outside}/{path}")).await;
        assert!(matches!(refused, Err(Failure::Private(_))), "{path}: {refused:?}");
    }
    assert_eq!(asked.load(Relaxed), 0, "nobody inside was asked");
    let answer = get(&client, &format!("http://{outside}/round")).await.expect("an answer");
    assert_eq!(answer.body, "public", "another redirect is followed");
}

#[test]
fn further_authorities_come_from_pem_and_what_is_none_says_why() {
    assert_eq!(Trust::with_pem(b"").err(), Some(BadPem::Empty));
    assert_eq!(
        Trust::with_pem(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").err(),
        Some(BadPem::Empty)
    );
    let cut = Trust::with_pem(b"-----BEGIN CERTIFICATE-----\nAAAA\n").err();
    assert!(matches!(cut, Some(BadPem::Syntax(_))), "{cut:?}");
    let wrong = Trust::with_pem(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").err();
    assert!(matches!(wrong, Some(BadPem::Certificate(1, _))), "{wrong:?}");
}

/// A server that the authority of the fixtures vouches for; it answers each connection with 200.
fn tls_server() -> std::net::SocketAddr {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use std::io::{Read as _, Write as _};
    let certificate = CertificateDer::from_pem_slice(include_bytes!("../../../fixtures/tls/server.pem"));
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("../../../fixtures/tls/server.key"));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.expect("a certificate")], key.expect("a key"))
        .expect("they belong together");
    let config = Arc::new(config);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let connection = rustls::ServerConnection::new(config.clone()).expect("a connection");
            let mut tls = rustls::StreamOwned::new(connection, stream);
            // Who does not trust us breaks it off.
            if tls.read(&mut [0; 4096]).is_ok() {
                let _ = tls.write_all(ok("trusted").as_bytes()).and_then(|()| tls.flush());
            }
        }
    });
    address
}

#[tokio::test]
async fn an_authority_of_the_operators_own_is_trusted_when_it_is_named() {
    let url = format!("https://localhost:{}/", tls_server().port());
    let stranger = HttpClient::new(SETTINGS).expect("TLS");
    let refused = get(&stranger, &url).await;
    assert!(matches!(&refused, Err(Failure::Broken(why)) if why.contains("UnknownIssuer")), "{refused:?}");
    let trust = Trust::with_pem(include_bytes!("../../../fixtures/tls/authority.pem")).expect("a PEM file");
    assert_ne!(trust, Trust::default());
    let friend = HttpClient::trusting(SETTINGS, &trust).expect("TLS");
    assert_eq!(get(&friend, &url).await.expect("an answer").body, "trusted");
}

#[tokio::test]
async fn redirects_are_followed_so_often_and_no_more() {
    let (address, asked) = server("127.0.0.1", |path| match path {
        "/0" => ok("there"),
        path => found(&(path[1..].parse::<u32>().expect("a number") - 1).to_string()),
    })
    .await;
    let client = HttpClient::new(SETTINGS).expect("TLS");
    let answer = get(&client, &format!("http://{address}/2")).await.expect("an answer");
    assert_eq!((answer.body.as_ref(), asked.load(Relaxed)), (b"there".as_slice(), 3));
    assert_eq!(get(&client, &format!("http://{address}/3")).await, Err(Failure::Redirects(2)));
    let client = HttpClient::new(Settings { redirects_max: 0, ..SETTINGS }).expect("TLS");
    let answer = get(&client, &format!("http://{address}/1")).await.expect("an answer");
    assert_eq!(answer.status, StatusCode::FOUND, "of none, a redirect is the answer");
}

#[tokio::test]
async fn no_more_than_so_much_of_an_answer_is_read() {
    let (address, _) =
        server("127.0.0.1", |path| ok(&"x".repeat(path[1..].parse().expect("a number")))).await;
    let client = HttpClient::new(SETTINGS).expect("TLS");
    for (length, is_cut) in [(100, false), (101, true), (300_000, true)] {
        let answer = get(&client, &format!("http://{address}/{length}")).await.expect("an answer");
        assert_eq!((answer.body.len(), answer.is_cut), (100, is_cut), "{length}");
        assert_eq!(answer.whole().err(), is_cut.then_some(Failure::TooLong(100)));
    }
}

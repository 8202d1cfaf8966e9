//! The HTTP side: site, headers, ranges, metrics, health, origins, tokens, limits, TLS, stopping.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod support;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::StreamExt;
use support::{Recorder, relay, try_connect};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{Error, Message};

/// A directory that goes away with the test.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tab86-relay-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, data: &[u8]) -> String {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, data).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn raw(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> (String, Vec<u8>) {
    stream.write_all(format!("{request}\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").expect("a head");
    (String::from_utf8(answer[..end + 2].to_vec()).unwrap(), answer[end + 4..].to_vec())
}

async fn get(address: SocketAddr, request: &str) -> (String, Vec<u8>) {
    raw(TcpStream::connect(address).await.unwrap(), request).await
}

async fn eventually(condition: impl Fn() -> bool) {
    let end = std::time::Instant::now() + support::PATIENCE;
    while !condition() {
        assert!(std::time::Instant::now() < end, "not in time");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

fn status(head: &str) -> u16 {
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

async fn refused(address: SocketAddr, path: &str, header: Option<(&'static str, &str)>) -> Option<u16> {
    let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
    if let Some((name, value)) = header {
        request.headers_mut().insert(name, HeaderValue::from_str(value).unwrap());
    }
    let stream = TcpStream::connect(address).await.unwrap();
    match tokio_tungstenite::client_async(request, stream).await {
        Ok(_) => None,
        Err(Error::Http(response)) => Some(response.status().as_u16()),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_site_with_isolation_headers_ranges_and_nothing_outside() {
    let directory = Directory::new("site");
    directory.write("site/index.html", b"<h1>tab86</h1>");
    directory.write("site/docs/index.html", b"docs");
    let data: Vec<u8> = (0..200_000u32).map(|i| (i * 7) as u8).collect();
    directory.write("site/app.wasm", &data);
    directory.write("site/.secret", b"no");
    directory.write("outside.txt", b"no");
    std::os::unix::fs::symlink("../outside.txt", directory.0.join("site/link.txt")).unwrap();
    let site = format!("--site={}", directory.0.join("site").display());
    let relay = relay(&Recorder::new(), &[&site]).await;
    let address = relay.addresses[0];

    let (head, body) = get(address, "GET / HTTP/1.1").await;
    assert_eq!((status(&head), &body[..]), (200, &b"<h1>tab86</h1>"[..]));
    for line in [
        "cross-origin-opener-policy: same-origin",
        "cross-origin-embedder-policy: require-corp",
        "cross-origin-resource-policy: same-origin",
        "x-content-type-options: nosniff",
        "content-type: text/html; charset=utf-8",
        "accept-ranges: bytes",
    ] {
        assert!(head.contains(&format!("\r\n{line}\r\n")), "{line}: {head}");
    }
    let (head, body) = get(address, "GET /app.wasm HTTP/1.1").await;
    assert!(head.contains("content-type: application/wasm\r\n") && head.contains("content-length: 200000\r\n"));
    assert_eq!(body, data);
    let tag = head.lines().find_map(|l| l.strip_prefix("etag: ")).unwrap().to_owned();
    let (head, body) = get(address, "GET /app.wasm HTTP/1.1\r\nRange: bytes=100000-150000").await;
    assert_eq!((status(&head), &body[..]), (206, &data[100_000..=150_000]));
    assert!(head.contains("content-range: bytes 100000-150000/200000\r\n"));
    let (head, body) = get(address, "GET /app.wasm HTTP/1.1\r\nRange: bytes=-10").await;
    assert_eq!((status(&head), &body[..]), (206, &data[199_990..]));
    let (head, body) = get(address, "GET /app.wasm HTTP/1.1\r\nRange: bytes=200000-").await;
    assert_eq!((status(&head), body.len()), (416, 0));
    let (head, body) = get(address, &format!("GET /app.wasm HTTP/1.1\r\nIf-None-Match: {tag}")).await;
    assert_eq!((status(&head), body.len()), (304, 0));
    let (head, body) = get(address, "GET /app.wasm HTTP/1.1\r\nRange: bytes=0-1\r\nIf-Range: \"old\"").await;
    assert_eq!((status(&head), body.len()), (200, 200_000));
    let (head, body) = get(address, "HEAD /app.wasm HTTP/1.1").await;
    assert!(status(&head) == 200 && body.is_empty() && head.contains("content-length: 200000\r\n"));
    let (head, _) = get(address, "GET /docs HTTP/1.1").await;
    assert!(status(&head) == 301 && head.contains("location: ./docs/\r\n"));
    assert_eq!(get(address, "GET /docs/ HTTP/1.1").await.1, b"docs");
    for path in
        ["/nothing", "/.secret", "/link.txt", "/../outside.txt", "/%2e%2e/outside.txt", "/docs/../../outside.txt"]
    {
        let (head, body) = get(address, &format!("GET {path} HTTP/1.1")).await;
        assert_eq!((status(&head), &body[..]), (404, &b"not found\n"[..]), "{path}");
    }
    assert_eq!(status(&get(address, "POST / HTTP/1.1\r\nContent-Length: 0").await.0), 405);
    relay.stop().await;
}

#[tokio::test]
async fn health_and_metrics() {
    let recorder = Recorder::new();
    let relay = relay(&recorder, &["--trusted-proxy=127.0.0.0/8"]).await;
    let address = relay.addresses[0];
    let _client = try_connect(address, "/r/x").await.unwrap();
    let (head, body) = get(address, "GET /healthz HTTP/1.1").await;
    assert_eq!((status(&head), &body[..]), (200, &b"ok\n"[..]));
    let end = std::time::Instant::now() + support::PATIENCE;
    loop {
        let (head, body) = get(address, "GET /metrics HTTP/1.1").await;
        assert!(head.contains("content-type: text/plain; version=0.0.4"));
        let page = String::from_utf8(body).unwrap();
        if page.contains("\ntab86_relay_clients 1\n") && page.contains("\ntab86_relay_rooms 1\n") {
            break;
        }
        assert!(std::time::Instant::now() < end, "{page}");
    }
    // Through the proxy only those who are listed.
    assert_eq!(status(&get(address, "GET /metrics HTTP/1.1\r\nX-Forwarded-For: 127.0.0.1, 8.8.8.8").await.0), 403);
    assert_eq!(status(&get(address, "GET /metrics HTTP/1.1\r\nX-Forwarded-For: 127.0.0.5").await.0), 200);
    relay.stop().await;
    let strict = support::relay(&recorder, &[]).await;
    assert_eq!(status(&get(strict.addresses[0], "GET /metrics HTTP/1.1\r\nX-Forwarded-For: 127.0.0.1").await.0), 403);
    let mut rebound = TcpStream::connect(strict.addresses[0]).await.unwrap();
    rebound.write_all(b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    rebound.read_to_string(&mut answer).await.unwrap();
    assert_eq!(status(&answer), 403);
    strict.stop().await;
}

#[tokio::test]
async fn a_browser_that_takes_nothing_is_let_go() {
    let directory = Directory::new("slow");
    directory.write("large.bin", &vec![86; 32 << 20]);
    let site = format!("--site={}", directory.0.display());
    let relay = relay(&Recorder::new(), &[&site, "--write-timeout=1"]).await;
    let mut slow = TcpStream::connect(relay.addresses[0]).await.unwrap();
    slow.write_all(b"GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let metrics = &relay.shared.metrics;
    eventually(|| metrics.http_connections.get() == 1).await;
    eventually(|| metrics.http_connections.get() == 0).await;
    let mut got = Vec::new();
    let _ = slow.read_to_end(&mut got).await;
    assert!(got.starts_with(b"HTTP/1.1 200") && got.len() < 32 << 20, "{}", got.len());
    relay.stop().await;
}

#[tokio::test]
async fn who_may_connect() {
    let recorder = Recorder::new();
    let relay = relay(&recorder, &["--origin=https://a.example", "--token=sesame"]).await;
    let address = relay.addresses[0];
    assert_eq!(refused(address, "/r/x", None).await, Some(401));
    assert_eq!(refused(address, "/r/x?token=wrong", None).await, Some(401));
    assert_eq!(refused(address, "/r/x?token=sesame", None).await, None);
    assert_eq!(refused(address, "/r/x", Some(("authorization", "Bearer sesame"))).await, None);
    assert_eq!(refused(address, "/r/x?token=sesame", Some(("origin", "https://b.example"))).await, Some(403));
    assert_eq!(refused(address, "/r/x?token=sesame", Some(("origin", "https://a.example"))).await, None);
    let own = format!("http://{address}");
    assert_eq!(refused(address, "/r/x?token=sesame", Some(("origin", &own))).await, None);
    assert_eq!(refused(address, "/r/a%2Fb?token=sesame", None).await, Some(404));
    assert_eq!(refused(address, "/elsewhere?token=sesame", None).await, Some(404));
    let (head, _) = get(address, "GET /r/x HTTP/1.1\r\nUpgrade: websocket").await;
    assert_eq!(status(&head), 400);
    let metrics = &relay.shared.metrics;
    assert_eq!((metrics.reject_origin.get(), metrics.reject_token.get(), metrics.reject_name.get()), (1, 2, 2));
    relay.stop().await;
}

#[tokio::test]
async fn limits_on_rooms_clients_and_connections() {
    let recorder = Recorder::new();
    let relay =
        relay(&recorder, &["--max-rooms=2", "--max-clients-per-room=2", "--max-connections-per-ip=6", "--no-wisp"])
            .await;
    let address = relay.addresses[0];
    let mut kept = Vec::new();
    for room in ["a", "a", "b"] {
        kept.push(try_connect(address, &format!("/r/{room}")).await.unwrap());
    }
    assert_eq!(refused(address, "/r/a", None).await, Some(503));
    assert_eq!(refused(address, "/r/c", None).await, Some(503));
    assert_eq!(refused(address, "/wisp/", None).await, Some(404));
    let metrics = &relay.shared.metrics;
    assert_eq!((metrics.limit_room_full.get(), metrics.limit_rooms.get()), (1, 1));
    eventually(|| metrics.http_connections.get() == 3).await;
    let mut idle = Vec::new();
    for _ in 0..3 {
        idle.push(TcpStream::connect(address).await.unwrap());
    }
    eventually(|| metrics.http_connections.get() == 6).await;
    let mut over = TcpStream::connect(address).await.unwrap();
    assert_eq!(over.read(&mut [0; 1]).await.unwrap_or(0), 0);
    assert_eq!(metrics.limit_address.get(), 1);
    // A room ends with its last client, and its place is free.
    drop((idle, kept));
    eventually(|| metrics.rooms.get() == 0 && metrics.http_connections.get() == 0).await;
    assert!(try_connect(address, "/r/c").await.is_ok());
    relay.stop().await;
}

#[tokio::test]
async fn clients_are_told_when_the_relay_stops() {
    let relay = relay(&Recorder::new(), &["--shutdown-grace=5"]).await;
    let address = relay.addresses[0];
    let mut client = try_connect(address, "/r/x").await.unwrap();
    let mut wisp = try_connect(address, "/wisp/").await.unwrap();
    let metrics = Arc::clone(&relay.shared);
    let code = tokio::spawn(async move {
        loop {
            if let Some(Ok(Message::Close(Some(frame)))) = client.next().await {
                return u16::from(frame.code);
            }
        }
    });
    let wisp = tokio::spawn(async move { while let Some(Ok(_)) = wisp.next().await {} });
    relay.stop().await;
    assert_eq!(code.await.unwrap(), 1001);
    wisp.await.unwrap();
    assert_eq!(metrics.metrics.gone_shutdown.get(), 2);
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn the_same_over_tls() {
    use tokio_rustls::rustls::pki_types::pem::PemObject;
    use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
    use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};
    let directory = Directory::new("tls");
    let made = rcgen::generate_simple_self_signed(vec!["relay.test".to_owned()]).unwrap();
    let cert = directory.write("cert.pem", made.cert.pem().as_bytes());
    let key = directory.write("key.pem", made.signing_key.serialize_pem().as_bytes());
    let relay = relay(&Recorder::new(), &["--tls-cert", &cert, "--tls-key", &key]).await;
    let address = relay.addresses[0];
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&cert).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from("relay.test").unwrap();
    let stream = connector.connect(name.clone(), TcpStream::connect(address).await.unwrap()).await.unwrap();
    assert_eq!(raw(stream, "GET /healthz HTTP/1.1").await.1, b"ok\n");
    let stream = connector.connect(name, TcpStream::connect(address).await.unwrap()).await.unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async("wss://relay.test/wisp/", stream).await.unwrap();
    assert!(matches!(socket.next().await, Some(Ok(Message::Binary(_)))));
    // Plain HTTP at the TLS port gets nothing.
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"));
    relay.stop().await;
}

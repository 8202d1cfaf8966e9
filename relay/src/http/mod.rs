//! What the relay answers: WebSockets, metrics, health, and the site.

pub mod files;

use std::net::IpAddr;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::client;
use crate::room::{Rooms, valid_name};
use crate::server::Places;
use crate::shared::Shared;
use crate::wisp;
use files::{Content, plain};

/// The room of clients that name none, as those of websockproxy do.
const DEFAULT_ROOM: &str = "default";

/// Cross-origin isolation for the site, and no guessing of types.
const HEADERS: [(&str, &str); 4] = [
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-embedder-policy", "require-corp"),
    ("cross-origin-resource-policy", "same-origin"),
    ("x-content-type-options", "nosniff"),
];

/// What requests need.
pub struct Site {
    /// Settings, counters, the way out.
    pub shared: Arc<Shared>,
    /// The rooms.
    pub rooms: Arc<Rooms>,
    /// Places by address.
    pub places: Arc<Places>,
    /// Turns true when the relay stops.
    pub shutdown: watch::Receiver<bool>,
    /// Kept by every session: the relay waits until all are dropped.
    pub alive: mpsc::Sender<()>,
    /// Whether clients come over TLS.
    pub tls: bool,
    /// Whether only this host can connect: then a name that is not this host's is a page's trick (DNS rebinding).
    pub local_only: bool,
}

/// Where a WebSocket leads.
#[derive(Debug, PartialEq, Eq)]
enum Endpoint<'a> {
    Room(&'a str),
    Wisp,
}

fn endpoint(path: &str) -> Option<Endpoint<'_>> {
    if let Some(name) = path.strip_prefix("/r/") {
        return Some(Endpoint::Room(name.strip_suffix('/').unwrap_or(name)));
    }
    match path {
        "/" => Some(Endpoint::Room(DEFAULT_ROOM)),
        "/wisp/" | "/wisp" => Some(Endpoint::Wisp),
        _ => None,
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

fn has_token(headers: &HeaderMap, name: header::HeaderName, token: &str) -> bool {
    text(headers, name).is_some_and(|list| list.split(',').any(|item| item.trim().eq_ignore_ascii_case(token)))
}

/// Whether a Host header names this host itself or an address, so that no DNS record can have made it up.
fn is_local_name(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

/// A page may connect when its origin is the relay's own or listed. Clients that are no browsers send none.
fn origin_ok(headers: &HeaderMap, allowed: &[String], tls: bool, local_only: bool) -> bool {
    let Some(value) = headers.get(header::ORIGIN) else { return true };
    let Ok(origin) = value.to_str() else { return false };
    if allowed.iter().any(|o| o == "*" || o.trim_end_matches('/').eq_ignore_ascii_case(origin)) {
        return true;
    }
    let Some(host) = text(headers, header::HOST) else { return false };
    if local_only && !is_local_name(host) {
        return false;
    }
    // Behind a proxy that ends TLS the scheme is not the relay's.
    let schemes: &[&str] = if tls { &["https://"] } else { &["http://", "https://"] };
    schemes.iter().any(|s| origin.strip_prefix(s).is_some_and(|rest| rest.eq_ignore_ascii_case(host)))
}

/// Compares without telling by time how much was right.
fn same_secret(given: &str, secret: &str) -> bool {
    let differ = given.bytes().zip(secret.bytes()).fold(0, |acc, (a, b)| acc | (a ^ b));
    given.len() == secret.len() && differ == 0
}

fn given_token<'a>(headers: &'a HeaderMap, query: Option<&'a str>) -> Option<&'a str> {
    let from_query = query.and_then(|q| q.split('&').find_map(|pair| pair.strip_prefix("token=")));
    from_query.or_else(|| text(headers, header::AUTHORIZATION)?.strip_prefix("Bearer "))
}

/// The client's address: the last one that no trusted proxy added.
fn client_ip(peer: IpAddr, headers: &HeaderMap, shared: &Shared) -> IpAddr {
    let trusted = |ip: IpAddr| shared.settings.trusted_proxies.iter().any(|cidr| cidr.contains(ip));
    let peer = peer.to_canonical();
    if !trusted(peer) {
        return peer;
    }
    let mut client = peer;
    let values: Vec<&str> = headers.get_all("x-forwarded-for").iter().filter_map(|v| v.to_str().ok()).collect();
    for entry in values.iter().flat_map(|v| v.split(',')).rev() {
        let Ok(ip) = entry.trim().parse::<IpAddr>() else { break };
        client = ip.to_canonical();
        if !trusted(client) {
            break;
        }
    }
    client
}

/// Answers one request.
pub async fn handle(site: Arc<Site>, peer: IpAddr, request: Request<Incoming>) -> Response<Content> {
    site.shared.metrics.http_requests_total.inc();
    let upgrade = has_token(request.headers(), header::UPGRADE, "websocket");
    let mut response = if upgrade { websocket(&site, peer, request) } else { page(&site, peer, &request).await };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn page(site: &Site, peer: IpAddr, request: &Request<Incoming>) -> Response<Content> {
    let shared = &site.shared;
    let path = request.uri().path();
    match (request.method(), path) {
        (&Method::GET | &Method::HEAD, "/healthz") => plain(StatusCode::OK, "ok\n"),
        (&Method::GET | &Method::HEAD, "/metrics") => {
            let reader = client_ip(peer, request.headers(), shared);
            // Behind a proxy that is not listed, everybody looks like the proxy.
            let hidden = request.headers().contains_key("x-forwarded-for") && reader == peer.to_canonical();
            let named = text(request.headers(), header::HOST).is_some_and(|host| !is_local_name(host));
            if hidden
                || site.local_only && named
                || !shared.settings.metrics_allow.iter().any(|cidr| cidr.contains(reader))
            {
                return plain(StatusCode::FORBIDDEN, "not for you: see --metrics-allow\n");
            }
            let mut response = Response::new(Content::text(shared.metrics.render()));
            let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        (method, path) => match &shared.settings.site {
            Some(root) => files::serve(root, method, path, request.headers()).await,
            None if path == "/" => plain(StatusCode::OK, "tab86-relay: Ethernet at /r/NAME, Wisp at /wisp/\n"),
            None => plain(StatusCode::NOT_FOUND, "not found\n"),
        },
    }
}

fn websocket(site: &Arc<Site>, peer: IpAddr, mut request: Request<Incoming>) -> Response<Content> {
    let shared = &site.shared;
    let (metrics, settings) = (&shared.metrics, &shared.settings);
    let headers = request.headers();
    let bad = |text| {
        metrics.reject_handshake.inc();
        plain(StatusCode::BAD_REQUEST, text)
    };
    let path = request.uri().path().to_owned();
    let Some(endpoint) = endpoint(&path).filter(|e| *e != Endpoint::Wisp || settings.with_wisp) else {
        metrics.reject_name.inc();
        return plain(StatusCode::NOT_FOUND, "WebSockets are at /r/NAME and /wisp/\n");
    };
    if request.method() != Method::GET || !has_token(headers, header::CONNECTION, "upgrade") {
        return bad("not a WebSocket handshake\n");
    }
    if text(headers, header::SEC_WEBSOCKET_VERSION) != Some("13") {
        let mut response = bad("WebSocket version 13 is needed\n");
        *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
        response.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        return response;
    }
    // 16 bytes in base64.
    let key = text(headers, header::SEC_WEBSOCKET_KEY).filter(|key| key.len() == 24);
    let Some(accept) = key.map(|key| derive_accept_key(key.as_bytes())) else {
        return bad("Sec-WebSocket-Key is missing\n");
    };
    if !origin_ok(headers, &settings.origins, site.tls, site.local_only) {
        metrics.reject_origin.inc();
        return plain(StatusCode::FORBIDDEN, "this origin may not connect: see --origin\n");
    }
    // A Wisp client may still give the password in its INFO.
    let mut password_later = false;
    if let Some(token) = &settings.token {
        match given_token(headers, request.uri().query()) {
            Some(given) if same_secret(given, token) => {}
            None if endpoint == Endpoint::Wisp => password_later = true,
            _ => {
                metrics.reject_token.inc();
                return plain(StatusCode::UNAUTHORIZED, "the token is missing or wrong\n");
            }
        }
    }
    let ip = client_ip(peer, headers, shared);
    // The connection of a proxy has no place of its own.
    let proxied = settings.trusted_proxies.iter().any(|cidr| cidr.contains(peer.to_canonical()));
    let place = if proxied { site.places.take(ip) } else { None };
    if proxied && place.is_none() {
        return plain(StatusCode::TOO_MANY_REQUESTS, "too many connections from this address\n");
    }
    let Some(flows) = site.places.flows(ip) else { return bad("no connection\n") };
    let member = match &endpoint {
        Endpoint::Wisp => None,
        Endpoint::Room(name) => {
            if !valid_name(name) {
                metrics.reject_name.inc();
                return plain(StatusCode::NOT_FOUND, "a room's name is 1 to 64 letters, digits, '-', '_' and '.'\n");
            }
            match site.rooms.join(name, Arc::clone(&flows)) {
                Ok(member) => Some(member),
                Err(_) => return plain(StatusCode::SERVICE_UNAVAILABLE, "the room is full or there are too many\n"),
            }
        }
    };
    let (shared, shutdown, alive) = (Arc::clone(shared), site.shutdown.clone(), site.alive.clone());
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let _kept = (alive, place);
        let Ok(Ok(stream)) = tokio::time::timeout(shared.settings.limits.handshake(), upgraded).await else { return };
        let socket = client::websocket(TokioIo::new(stream), &shared).await;
        match member {
            Some(member) => client::serve(shared, member, socket, shutdown).await,
            None => wisp::serve(shared, flows, password_later, socket, shutdown).await,
        }
    });
    let mut response = Response::new(Content::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(&accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (header::HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn endpoints() {
        assert_eq!(endpoint("/r/lab-1"), Some(Endpoint::Room("lab-1")));
        assert_eq!(endpoint("/r/lab/"), Some(Endpoint::Room("lab")));
        assert_eq!(endpoint("/"), Some(Endpoint::Room("default")));
        assert_eq!(endpoint("/wisp/"), Some(Endpoint::Wisp));
        assert_eq!(endpoint("/x"), None);
        assert!(!valid_name("") && !valid_name("a/b") && !valid_name(&"a".repeat(65)) && valid_name("a.B-1_"));
    }

    #[test]
    fn origins() {
        let with = |origin, list: &[&str], tls| {
            let list: Vec<String> = list.iter().map(|o| (*o).to_owned()).collect();
            origin_ok(&headers(&[("origin", origin), ("host", "relay.example:8086")]), &list, tls, false)
        };
        assert!(origin_ok(&headers(&[]), &[], false, true), "no browser");
        assert!(with("http://relay.example:8086", &[], false));
        assert!(with("https://relay.example:8086", &[], true));
        assert!(!with("http://relay.example:8086", &[], true));
        assert!(!with("https://evil.example", &[], false));
        assert!(!with("http://relay.example", &[], false));
        assert!(!with("null", &[], false));
        assert!(with("https://a.example", &["https://a.example/"], false));
        assert!(!with("https://a.example.evil", &["https://a.example"], false));
        assert!(with("https://evil.example", &["*"], false));
    }

    #[test]
    fn a_relay_of_this_host_only_believes_no_other_name() {
        let from = |origin, host, list: &[String]| {
            origin_ok(&headers(&[("origin", origin), ("host", host)]), list, false, true)
        };
        assert!(from("http://127.0.0.1:8086", "127.0.0.1:8086", &[]));
        assert!(from("http://localhost:8086", "localhost:8086", &[]));
        assert!(from("http://[::1]:8086", "[::1]:8086", &[]));
        assert!(!from("http://rebound.example:8086", "rebound.example:8086", &[]));
        assert!(from("http://named.example", "named.example", &["http://named.example".to_owned()]));
        for (host, local) in
            [("localhost", true), ("[::1]", true), ("::1", true), ("10.0.0.1", true), ("a:80", false), ("", false)]
        {
            assert_eq!(is_local_name(host), local, "{host}");
        }
    }

    #[test]
    fn tokens() {
        assert_eq!(given_token(&headers(&[]), Some("x=1&token=abc")), Some("abc"));
        assert_eq!(given_token(&headers(&[("authorization", "Bearer abc")]), None), Some("abc"));
        assert_eq!(given_token(&headers(&[("authorization", "Basic abc")]), Some("mytoken=1")), None);
        assert!(same_secret("abc", "abc") && !same_secret("abd", "abc") && !same_secret("ab", "abc"));
    }
}

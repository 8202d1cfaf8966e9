//! `cargo xtask serve`: a small static server for `build/site` with the headers that shared memory needs.
use crate::{repo, run};
use anyhow::{Result, anyhow, bail};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use tiny_http::{Header, Method, Request, Response, Server, StatusCode};

/// Options of `cargo xtask serve`.
#[derive(clap::Args)]
pub struct Options {
    /// The TCP port
    #[arg(long, default_value_t = 8086)]
    port: u16,
    /// The address to listen on; 0.0.0.0 lets other machines in (whose browsers want https for shared memory)
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// Open the page in the default browser
    #[arg(long)]
    open: bool,
    /// Serve build/site as it is
    #[arg(long)]
    pub no_build: bool,
    /// Build without wasm-opt, with function names
    #[arg(long)]
    pub dev: bool,
}

/// Requests that are answered at the same time.
const THREADS: usize = 8;

/// Cross-origin isolation, which browsers demand before they give out shared memory; and no stale files while working.
const HEADERS: [(&str, &str); 5] = [
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Embedder-Policy", "require-corp"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-cache"),
    ("X-Content-Type-Options", "nosniff"),
];

/// Serves until the process is stopped.
pub fn serve(options: &Options) -> Result<()> {
    let site = repo::build("site");
    if !site.is_dir() {
        bail!("{} is not built: run `cargo xtask build`", repo::show(&site));
    }
    let address = format!("{}:{}", options.host, options.port);
    let server = Server::http(&address).map_err(|e| anyhow!("cannot listen on {address}: {e} (try --port)"))?;
    let port = server.server_addr().to_ip().map_or(options.port, |ip| ip.port());
    let host = if options.host == "0.0.0.0" { "127.0.0.1" } else { &options.host };
    let url = format!("http://{host}:{port}/");
    println!("tab86 is at {url}  (Ctrl-C stops)");
    if options.open && Command::new("xdg-open").arg(&url).spawn().is_err() {
        run::warn("xdg-open is missing: open the address by hand");
    }
    listen(Arc::new(server), site);
    Ok(())
}

fn listen(server: Arc<Server>, site: PathBuf) {
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for request in server.incoming_requests() {
                    // A browser that went away in the middle is nobody's error.
                    let _ = answer(request, &site);
                }
            });
        }
    });
}

fn answer(request: Request, site: &Path) -> io::Result<()> {
    if !matches!(request.method(), Method::Get | Method::Head) {
        return plain(request, 405, "only GET and HEAD");
    }
    let Some(path) = resolve(site, request.url()) else { return plain(request, 404, "not found") };
    let Ok(mut file) = File::open(&path) else { return plain(request, 404, "not found") };
    let length = file.metadata()?.len();
    let asked = request.headers().iter().find(|h| h.field.equiv("Range")).map(|h| h.value.as_str().to_owned());
    let (status, first, count) = match asked.as_deref().map(|text| parse_range(text, length)) {
        None | Some(Range::Ignored) => (200, 0, length),
        Some(Range::Part { first, last }) => (206, first, last - first + 1),
        Some(Range::Unsatisfiable) => {
            let response = with_headers(Response::from_string("no such range").with_status_code(416), "text/plain");
            return request.respond(response.with_header(header("Content-Range", &format!("bytes */{length}"))));
        }
    };
    file.seek(SeekFrom::Start(first))?;
    let data = file.take(count);
    let response = Response::new(StatusCode(status), Vec::new(), data, usize::try_from(count).ok(), None);
    // Never chunked: the page shows progress by Content-Length, and so do Range readers.
    let mut response = with_headers(response, mime(&path)).with_chunked_threshold(usize::MAX);
    response.add_header(header("Accept-Ranges", "bytes"));
    if status == 206 {
        response.add_header(header("Content-Range", &format!("bytes {first}-{}/{length}", first + count - 1)));
    }
    request.respond(response)
}

fn plain(request: Request, status: u16, text: &str) -> io::Result<()> {
    request.respond(with_headers(Response::from_string(text).with_status_code(status), "text/plain"))
}

fn with_headers<R: Read>(mut response: Response<R>, mime: &str) -> Response<R> {
    response.add_header(header("Content-Type", mime));
    HEADERS.iter().for_each(|(name, value)| response.add_header(header(name, value)));
    response
}

fn header(name: &str, value: &str) -> Header {
    // All names and values are ASCII written in this file or formatted numbers.
    Header::from_bytes(name, value).unwrap_or_else(|()| unreachable!("header {name}: {value}"))
}

/// The file a URL means, if it lies inside the site: no `..`, no links that lead out.
fn resolve(site: &Path, url: &str) -> Option<PathBuf> {
    let path = percent_decode(url.split(['?', '#']).next()?)?;
    let relative = Path::new(path.trim_start_matches('/'));
    if !relative.components().all(|part| matches!(part, Component::Normal(_))) {
        return None;
    }
    let mut file = site.join(relative);
    if file.is_dir() {
        file.push("index.html");
    }
    let real = file.canonicalize().ok()?;
    (real.is_file() && real.starts_with(site.canonicalize().ok()?)).then_some(real)
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |b: Option<u8>| char::from(b?).to_digit(16);
            bytes.push((digit(rest.next())? * 16 + digit(rest.next())?) as u8);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok().filter(|path| !path.contains('\0'))
}

#[derive(Debug, PartialEq)]
enum Range {
    /// Not a range that we serve (several parts, other units): the whole file is a valid answer. RFC 9110 section 14.2.
    Ignored,
    Part {
        first: u64,
        last: u64,
    },
    Unsatisfiable,
}

fn parse_range(text: &str, length: u64) -> Range {
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|spec| spec.split_once('-')) else {
        return Range::Ignored;
    };
    let part = match (first.trim(), last.trim()) {
        ("", suffix) => suffix.parse().ok().map(|count: u64| (length.saturating_sub(count), u64::MAX, count > 0)),
        (first, "") => first.parse().ok().map(|first| (first, u64::MAX, true)),
        (first, last) => first.parse().ok().zip(last.parse().ok()).map(|(first, last)| (first, last, true)),
    };
    match part {
        None => Range::Ignored,
        Some((first, last, _)) if first > last => Range::Ignored,
        Some((first, last, true)) if first < length => Range::Part { first, last: last.min(length - 1) },
        Some(_) => Range::Unsatisfiable,
    }
}

fn mime(path: &Path) -> &'static str {
    match path.extension().and_then(|e| e.to_str()).unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "wasm" => "application/wasm",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "txt" | "md" | "ts" | "asm" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{SocketAddr, TcpStream};

    fn start() -> (SocketAddr, Arc<Server>) {
        // A counter apart, because tests run at the same time in one process.
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("tab86-serve-{}-{count}", std::process::id()));
        run::write(&dir.join("site/index.html"), "<p>page").unwrap();
        run::write(&dir.join("site/a b/data.bin"), (0..=99u8).collect::<Vec<u8>>()).unwrap();
        run::write(&dir.join("secret"), "secret").unwrap();
        let server = Arc::new(Server::http("127.0.0.1:0").unwrap());
        let address = server.server_addr().to_ip().unwrap();
        let (shared, site) = (server.clone(), dir.join("site"));
        std::thread::spawn(move || listen(shared, site));
        (address, server)
    }

    fn ask(address: SocketAddr, request: &str) -> (String, Vec<u8>) {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "{request}\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
        (String::from_utf8_lossy(&bytes[..end]).to_lowercase(), bytes[end + 4..].to_vec())
    }

    #[test]
    fn serves_the_page_isolated() {
        let (address, _server) = start();
        let (head, body) = ask(address, "GET /?guest=debian HTTP/1.1");
        assert!(head.starts_with("http/1.1 200"));
        assert!(head.contains("cross-origin-opener-policy: same-origin"));
        assert!(head.contains("cross-origin-embedder-policy: require-corp"));
        assert!(head.contains("content-type: text/html"));
        assert_eq!(body, b"<p>page");
    }

    #[test]
    fn answers_ranges_with_just_that_part() {
        let (address, _server) = start();
        let (head, body) = ask(address, "GET /a%20b/data.bin HTTP/1.1\r\nRange: bytes=10-19");
        assert!(head.starts_with("http/1.1 206") && head.contains("content-range: bytes 10-19/100"));
        assert_eq!(body, (10..20).collect::<Vec<u8>>());
        let (_, body) = ask(address, "GET /a%20b/data.bin HTTP/1.1\r\nRange: bytes=-3");
        assert_eq!(body, [97, 98, 99]);
        let (head, _) = ask(address, "GET /a%20b/data.bin HTTP/1.1\r\nRange: bytes=100-");
        assert!(head.starts_with("http/1.1 416") && head.contains("bytes */100"));
        let (head, body) = ask(address, "HEAD /a%20b/data.bin HTTP/1.1");
        assert!(head.contains("content-length: 100") && body.is_empty());
    }

    #[test]
    fn nothing_outside_the_site_is_served() {
        let (address, _server) = start();
        for path in ["/../secret", "/%2e%2e/secret", "/a%20b/..%2f..%2fsecret", "//secret", "/%00", "/missing"] {
            let (head, body) = ask(address, &format!("GET {path} HTTP/1.1"));
            assert!(head.starts_with("http/1.1 404"), "{path}: {head}");
            assert!(!body.windows(6).any(|w| w == b"secret"), "{path}");
        }
        let (head, _) = ask(address, "POST / HTTP/1.1\r\nContent-Length: 0");
        assert!(head.starts_with("http/1.1 405"));
    }

    #[test]
    fn odd_ranges_are_ignored() {
        for text in ["bytes=5-2", "bytes=a-b", "items=0-1", "bytes=0-1,3-4", "bytes"] {
            assert_eq!(parse_range(text, 10), Range::Ignored, "{text}");
        }
        assert_eq!(parse_range("bytes=0-", 0), Range::Unsatisfiable);
        assert_eq!(parse_range("bytes=-0", 10), Range::Unsatisfiable);
        assert_eq!(parse_range("bytes=2-99", 10), Range::Part { first: 2, last: 9 });
    }
}

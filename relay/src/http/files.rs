//! A built site from a directory: files only, no listings, nothing outside, with byte ranges (RFC 9110, 14).

use std::io::{self, SeekFrom};
use std::path::{Component, Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{self, HeaderValue};
use hyper::{HeaderMap, Method, Response, StatusCode};
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncSeekExt, ReadBuf};

/// Bytes of a file that are read at a time.
const CHUNK: usize = 64 << 10;

/// A response's body: bytes, or a part of a file.
pub enum Content {
    /// All of it.
    Whole(Option<Bytes>),
    /// A file from its position on.
    File {
        /// The file.
        file: File,
        /// Bytes left to send.
        left: u64,
    },
}

impl Content {
    /// A short text.
    pub fn text(text: impl Into<Bytes>) -> Content {
        Content::Whole(Some(text.into()))
    }

    /// Nothing.
    pub fn empty() -> Content {
        Content::Whole(None)
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Content::Whole(bytes) => Poll::Ready(bytes.take().filter(|b| !b.is_empty()).map(|b| Ok(Frame::data(b)))),
            Content::File { left: 0, .. } => Poll::Ready(None),
            Content::File { file, left } => {
                let mut chunk = vec![0; CHUNK.min(usize::try_from(*left).unwrap_or(CHUNK))];
                let mut buffer = ReadBuf::new(&mut chunk);
                match Pin::new(file).poll_read(cx, &mut buffer) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(Err(error)) => Poll::Ready(Some(Err(error))),
                    Poll::Ready(Ok(())) => {
                        let length = buffer.filled().len();
                        if length == 0 {
                            // Shortened while it is sent: break the connection off, so that the client notices.
                            return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())));
                        }
                        *left -= length as u64;
                        chunk.truncate(length);
                        Poll::Ready(Some(Ok(Frame::data(chunk.into()))))
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Content::Whole(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Content::File { left, .. } => *left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Content::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Content::File { left, .. } => SizeHint::with_exact(*left),
        }
    }
}

/// A response with a short text.
pub fn plain(status: StatusCode, text: &'static str) -> Response<Content> {
    let mut response = Response::new(Content::text(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// The path of a URL below `root`; `None` when it is not a plain path.
fn locate(root: &Path, path: &str) -> Option<PathBuf> {
    let decoded = decode(path)?;
    let relative = decoded.strip_prefix('/')?;
    let mut file = root.to_owned();
    for component in Path::new(relative).components() {
        match component {
            // A file whose name starts with a dot is nobody's page.
            Component::Normal(name) if !name.to_str()?.starts_with('.') => file.push(name),
            _ => return None,
        }
    }
    Some(file)
}

fn decode(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    let text = String::from_utf8(bytes).ok()?;
    (!text.contains(['\0', '\\'])).then_some(text)
}

/// What a Range header asks of a file.
#[derive(Debug, PartialEq, Eq)]
enum Range {
    All,
    Part(u64, u64),
    Unsatisfiable,
}

/// One range; several at once, or what cannot be read, get the whole file, as the RFC allows.
fn range(value: Option<&HeaderValue>, length: u64) -> Range {
    let Some(spec) = value.and_then(|v| v.to_str().ok()).and_then(|v| v.trim().strip_prefix("bytes=")) else {
        return Range::All;
    };
    let Some((first, last)) = spec.split_once('-') else { return Range::All };
    let (first, last) = (first.trim(), last.trim());
    let bounds = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => (first, last.min(length.saturating_sub(1))),
        (Ok(first), Err(_)) if last.is_empty() => (first, length.saturating_sub(1)),
        (Err(_), Ok(suffix)) if first.is_empty() => {
            if suffix == 0 {
                return Range::Unsatisfiable;
            }
            (length.saturating_sub(suffix), length.saturating_sub(1))
        }
        _ => return Range::All,
    };
    if bounds.0 >= length { Range::Unsatisfiable } else { Range::Part(bounds.0, bounds.1) }
}

/// Answers a request for a file of the site.
pub async fn serve(root: &Path, method: &Method, path: &str, headers: &HeaderMap) -> Response<Content> {
    if method != Method::GET && method != Method::HEAD {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let missing = || plain(StatusCode::NOT_FOUND, "not found\n");
    let Some(mut file) = locate(root, path) else { return missing() };
    if path.ends_with('/') {
        file.push("index.html");
    }
    match open(root, &file).await {
        Ok(Found::Directory) => {
            let mut response = plain(StatusCode::MOVED_PERMANENTLY, "moved\n");
            // The last name only: a path that begins with two slashes would lead to another host.
            let name = path.rsplit('/').next().unwrap_or_default();
            match HeaderValue::from_str(&format!("./{name}/")) {
                Ok(location) => response.headers_mut().insert(header::LOCATION, location),
                Err(_) => return missing(),
            };
            response
        }
        Ok(Found::File(content, length, modified)) => {
            respond(content, (length, modified), &file, method, headers).await.unwrap_or_else(|_| missing())
        }
        Err(_) => missing(),
    }
}

enum Found {
    Directory,
    File(File, u64, SystemTime),
}

async fn open(root: &Path, path: &Path) -> io::Result<Found> {
    // Links may point around inside of the site, but not out of it.
    let (real, root) = (tokio::fs::canonicalize(path).await?, tokio::fs::canonicalize(root).await?);
    if !real.starts_with(&root) {
        return Err(io::ErrorKind::NotFound.into());
    }
    let metadata = tokio::fs::metadata(&real).await?;
    if metadata.is_dir() {
        return Ok(Found::Directory);
    }
    if !metadata.is_file() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let modified = metadata.modified().unwrap_or(UNIX_EPOCH);
    Ok(Found::File(File::open(&real).await?, metadata.len(), modified))
}

async fn respond(
    mut file: File,
    (length, modified): (u64, SystemTime),
    path: &Path,
    method: &Method,
    headers: &HeaderMap,
) -> io::Result<Response<Content>> {
    let age = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
    let tag = format!("\"{:x}-{:x}\"", age.as_nanos(), length);
    let mut response = Response::new(Content::empty());
    let out = response.headers_mut();
    let value = |text: &str| HeaderValue::from_str(text).map_err(io::Error::other);
    out.insert(header::ETAG, value(&tag)?);
    out.insert(header::LAST_MODIFIED, value(&httpdate::fmt_http_date(modified))?);
    out.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    out.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static(mime(path)));
    let matches = |name: header::HeaderName| headers.get(name).and_then(|v| v.to_str().ok()).map(|v| v.contains(&tag));
    if matches(header::IF_NONE_MATCH) == Some(true) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(response);
    }
    // If-Range with another version: the whole file.
    let wanted = if matches(header::IF_RANGE) == Some(false) { None } else { headers.get(header::RANGE) };
    let (first, left) = match range(wanted, length) {
        Range::All => (0, length),
        Range::Part(first, last) => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let content_range = value(&format!("bytes {first}-{last}/{length}"))?;
            response.headers_mut().insert(header::CONTENT_RANGE, content_range);
            (first, last - first + 1)
        }
        Range::Unsatisfiable => {
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            let content_range = value(&format!("bytes */{length}"))?;
            response.headers_mut().insert(header::CONTENT_RANGE, content_range);
            return Ok(response);
        }
    };
    if method == Method::HEAD {
        response.headers_mut().insert(header::CONTENT_LENGTH, left.into());
        return Ok(response);
    }
    file.seek(SeekFrom::Start(first)).await?;
    *response.body_mut() = Content::File { file, left };
    Ok(response)
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

    #[test]
    fn paths_stay_inside() {
        let root = Path::new("/site");
        for path in [
            "/../etc/passwd",
            "/a/../../b",
            "/%2e%2e/x",
            "/..%2fx",
            "/a%00",
            "/a\\b",
            "/.git/config",
            "x",
            "/%zz",
            "/%",
        ] {
            assert_eq!(locate(root, path), None, "{path}");
        }
        assert_eq!(locate(root, "/a%20b/c.js").unwrap(), Path::new("/site/a b/c.js"));
        assert_eq!(locate(root, "//etc/passwd"), None);
        assert_eq!(locate(root, "/").unwrap(), Path::new("/site"));
    }

    #[test]
    fn ranges() {
        let of = |text: &'static str| range(Some(&HeaderValue::from_static(text)), 100);
        assert_eq!(range(None, 100), Range::All);
        assert_eq!(of("bytes=0-9"), Range::Part(0, 9));
        assert_eq!(of("bytes=90-"), Range::Part(90, 99));
        assert_eq!(of("bytes=90-1000"), Range::Part(90, 99));
        assert_eq!(of("bytes=-5"), Range::Part(95, 99));
        assert_eq!(of("bytes=-500"), Range::Part(0, 99));
        assert_eq!(of("bytes=100-"), Range::Unsatisfiable);
        assert_eq!(of("bytes=-0"), Range::Unsatisfiable);
        for text in ["bytes=9-0", "bytes=a-b", "lines=1-2", "bytes=0-1,3-4", "bytes=-"] {
            assert_eq!(of(text), Range::All, "{text}");
        }
        assert_eq!(range(Some(&HeaderValue::from_static("bytes=-1")), 0), Range::Unsatisfiable);
    }
}

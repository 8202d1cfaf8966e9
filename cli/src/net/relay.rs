//! A client of an Ethernet relay: one binary WebSocket message is one frame, without frame check sequence. It
//! lives in a thread of its own, connects again when the connection is lost, and has bounded queues both ways.

use super::tls::{self, Stream, Trust};
use super::{Cable, QUEUE};
use crate::console::{Input, Notice};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};
use std::collections::VecDeque;
use std::io;
use std::net::ToSocketAddrs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use thiserror::Error;
use tungstenite::client::client_with_config;
use tungstenite::http::Uri;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Error as WsError, HandshakeError, Message, WebSocket};

/// A relay sends frames. Whatever is much longer is none, and the connection is closed.
const MAX_MESSAGE: usize = 64 << 10;
const WRITE_BUFFER: usize = 64 << 10;
/// To find the host, to connect, and to finish the handshake, each.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// A ping after this much silence, and the end of the connection after three times as much.
const SILENCE: Duration = Duration::from_secs(20);
const FIRST_DELAY: Duration = Duration::from_millis(500);
const LONGEST_DELAY: Duration = Duration::from_secs(30);
/// A connection that lasted this long was a good one: the next delay is the first again.
const GOOD: Duration = Duration::from_secs(10);
/// Messages read in one turn, so that a flood does not keep frames from going out.
const TURN: usize = 256;
const SOCKET: Token = Token(0);
const WAKE: Token = Token(1);

/// What is no relay's address.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is no relay's address: write ws://HOST[:PORT][/PATH] or wss://…")]
pub struct UrlError(String);

/// A relay's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayUrl(Uri);

impl RelayUrl {
    /// Reads `ws://HOST[:PORT][/PATH]`, or `wss://` for an encrypted connection.
    ///
    /// # Errors
    /// When it is something else.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let error = || UrlError(text.into());
        let uri: Uri = text.parse().map_err(|_| error())?;
        match (uri.scheme_str(), uri.host()) {
            (Some("ws" | "wss"), Some(host)) if !host.is_empty() => Ok(Self(uri)),
            _ => Err(error()),
        }
    }

    /// Whether the connection is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.0.scheme_str() == Some("wss")
    }

    fn host(&self) -> &str {
        self.0.host().unwrap_or_default().trim_matches(['[', ']'])
    }

    fn port(&self) -> u16 {
        self.0.port_u16().unwrap_or(if self.is_encrypted() { 443 } else { 80 })
    }
}

/// What the thread and the machine share.
#[derive(Default)]
struct Shared {
    up: AtomicBool,
    stop: AtomicBool,
    /// The machine was told that there is something to do and has not looked yet.
    told: AtomicBool,
    incoming: Mutex<VecDeque<Vec<u8>>>,
    outgoing: Mutex<VecDeque<Vec<u8>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The queues are whole at every moment, whatever happened to a thread.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection to a relay, or the attempt to get one.
pub struct Relay {
    shared: Arc<Shared>,
    waker: Arc<Waker>,
}

impl Relay {
    /// Starts the thread. `trust` is for an encrypted connection; `notices` gets word of frames and of changes of the
    /// connection.
    ///
    /// # Errors
    /// When the system has no means to wait for sockets.
    pub fn connect(url: RelayUrl, trust: Option<Trust>, notices: Sender<Input>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        let shared = Arc::new(Shared::default());
        let client = Client { url, trust, notices, poll, shared: shared.clone(), held: None };
        std::thread::Builder::new().name("relay".into()).spawn(move || client.run())?;
        Ok(Self { shared, waker })
    }

    fn wake(&self) {
        // Fails only when the thread is gone.
        let _ = self.waker.wake();
    }
}

impl Cable for Relay {
    fn is_up(&self) -> bool {
        self.shared.told.store(false, Ordering::Release);
        self.shared.up.load(Ordering::Acquire)
    }

    fn receive(&self) -> Option<Vec<u8>> {
        let mut queue = lock(&self.shared.incoming);
        let was_full = queue.len() >= QUEUE;
        let frame = queue.pop_front();
        drop(queue);
        if was_full {
            self.wake();
        }
        frame
    }

    fn unsent(&self) -> usize {
        lock(&self.shared.outgoing).len()
    }

    fn send(&self, frame: Vec<u8>) {
        let mut queue = lock(&self.shared.outgoing);
        if self.shared.up.load(Ordering::Acquire) && queue.len() < QUEUE {
            queue.push_back(frame);
        }
        let first = queue.len() == 1;
        drop(queue);
        if first {
            self.wake();
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.wake();
    }
}

/// The thread's side.
struct Client {
    url: RelayUrl,
    trust: Option<Trust>,
    notices: Sender<Input>,
    poll: Poll,
    shared: Arc<Shared>,
    /// A frame that the socket had no room for. It is not put back into the queue, which may be full again.
    held: Option<Message>,
}

/// Why a connection ended or did not come about.
#[derive(Debug, Error)]
enum Lost {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    WebSocket(#[from] WsError),
    #[error("{0}")]
    Tls(String),
    #[error("no such host")]
    NoHost,
    #[error("no answer")]
    Silent,
    #[error("the relay closed the connection")]
    Closed,
}

impl Client {
    fn run(mut self) {
        let mut delay = FIRST_DELAY;
        let mut known_down = false;
        while !self.stopped() {
            let begun = Instant::now();
            let lost = match self.open() {
                Ok(mut socket) => {
                    self.set_up(true);
                    known_down = false;
                    self.tell(Notice::Up);
                    let lost = self.serve(&mut socket);
                    let _ = self.poll.registry().deregister(socket.get_mut().tcp());
                    self.held = None;
                    self.set_up(false);
                    lost
                }
                Err(lost) => lost,
            };
            if self.stopped() {
                return;
            }
            // Once for each time that it goes away.
            if !std::mem::replace(&mut known_down, true) {
                self.tell(Notice::Down(self.explain(lost).to_string()));
            }
            delay = if begun.elapsed() > GOOD { FIRST_DELAY } else { delay };
            self.pause(delay);
            delay = (delay * 2).min(LONGEST_DELAY);
        }
    }

    /// Puts errors of TLS into words.
    fn explain(&self, lost: Lost) -> Lost {
        let text = match &lost {
            Lost::Io(e) | Lost::WebSocket(WsError::Io(e)) => tls::explain(e, self.url.host()),
            _ => None,
        };
        text.map_or(lost, Lost::Tls)
    }

    fn stopped(&self) -> bool {
        self.shared.stop.load(Ordering::Acquire)
    }

    fn set_up(&self, up: bool) {
        self.shared.up.store(up, Ordering::Release);
        lock(&self.shared.incoming).clear();
        lock(&self.shared.outgoing).clear();
    }

    fn tell(&self, notice: Notice) {
        // Nobody listens any more when the run is over.
        let _ = self.notices.send(Input::Network(notice));
    }

    /// Tells the machine that there is a frame, or room; not again before it has looked.
    fn tell_once(&self) {
        if !self.shared.told.swap(true, Ordering::AcqRel) {
            self.tell(Notice::Frames);
        }
    }

    fn wait(&mut self, at_most: Duration) -> Result<(), Lost> {
        let mut events = Events::with_capacity(8);
        match self.poll.poll(&mut events, Some(at_most)) {
            Err(e) if e.kind() != io::ErrorKind::Interrupted => Err(e.into()),
            _ => Ok(()),
        }
    }

    fn pause(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while !self.stopped() && Instant::now() < end {
            if self.wait(end.saturating_duration_since(Instant::now())).is_err() {
                std::thread::sleep(time);
            }
        }
    }

    /// Connects and shakes hands.
    fn open(&mut self) -> Result<WebSocket<Stream>, Lost> {
        let host = self.url.host();
        let mut last = Lost::NoHost;
        let mut stream = None;
        for address in (host, self.url.port()).to_socket_addrs()? {
            match std::net::TcpStream::connect_timeout(&address, CONNECT_TIME) {
                Ok(s) => {
                    stream = Some(s);
                    break;
                }
                Err(e) => last = e.into(),
            }
        }
        let stream = stream.ok_or(last)?;
        stream.set_nonblocking(true)?;
        // Frames are small and somebody waits for each.
        stream.set_nodelay(true)?;
        let mut stream = TcpStream::from_std(stream);
        self.poll.registry().register(&mut stream, SOCKET, Interest::READABLE | Interest::WRITABLE)?;
        let stream = match &self.trust {
            Some(trust) if self.url.is_encrypted() => Stream::tls(stream, trust, host)?,
            None if self.url.is_encrypted() => return Err(Lost::Tls("nobody is trusted".into())),
            _ => Stream::Plain(stream),
        };
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE))
            .write_buffer_size(WRITE_BUFFER)
            .max_write_buffer_size(4 * WRITE_BUFFER);
        let end = Instant::now() + CONNECT_TIME;
        let mut attempt = client_with_config(self.url.0.clone(), stream, Some(config));
        loop {
            let unfinished = match attempt {
                Ok((socket, _)) => return Ok(socket),
                Err(HandshakeError::Failure(e)) => return Err(e.into()),
                Err(HandshakeError::Interrupted(unfinished)) => unfinished,
            };
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || self.stopped() {
                return Err(Lost::Silent);
            }
            self.wait(left)?;
            attempt = unfinished.handshake();
        }
    }

    /// Moves frames until the connection is lost.
    fn serve(&mut self, socket: &mut WebSocket<Stream>) -> Lost {
        let (mut heard, mut pinged) = (Instant::now(), false);
        loop {
            if self.stopped() {
                // Politeness; the process does not wait for the answer.
                let _ = socket.close(None).and_then(|()| socket.flush());
                socket.get_mut().finish();
                return Lost::Closed;
            }
            if let Err(lost) = self.write_all(socket) {
                return lost;
            }
            let (messages, more) = match self.read_turn(socket) {
                Ok(n) => n,
                Err(lost) => return lost,
            };
            if messages > 0 {
                (heard, pinged) = (Instant::now(), false);
            }
            let silence = heard.elapsed();
            if silence > 3 * SILENCE {
                return Lost::Silent;
            }
            if silence > SILENCE && !pinged {
                pinged = true;
                if let Err(lost) = would_block(socket.send(Message::Ping(Default::default()))) {
                    return lost;
                }
            }
            let wait = if more { Duration::ZERO } else { SILENCE };
            if let Err(lost) = self.wait(wait) {
                return lost;
            }
        }
    }

    fn write_all(&mut self, socket: &mut WebSocket<Stream>) -> Result<(), Lost> {
        let was_full = lock(&self.shared.outgoing).len() >= QUEUE;
        let mut sent = false;
        loop {
            let next = || lock(&self.shared.outgoing).pop_front().map(Message::binary);
            let Some(message) = self.held.take().or_else(next) else { break };
            match socket.write(message) {
                Err(WsError::WriteBufferFull(message)) => {
                    self.held = Some(*message);
                    // Going on only behind a whole flush: what the socket refuses announces itself later.
                    match socket.flush() {
                        Err(WsError::Io(e)) if e.kind() == io::ErrorKind::WouldBlock => break,
                        other => would_block(other)?,
                    }
                    continue;
                }
                other => would_block(other)?,
            }
            sent = true;
        }
        if was_full && sent {
            // The machine may be waiting for room.
            self.tell_once();
        }
        would_block(socket.flush())
    }

    /// Reads what has come, while there is room for it: how many messages, and whether to go on at once.
    fn read_turn(&self, socket: &mut WebSocket<Stream>) -> Result<(usize, bool), Lost> {
        for messages in 0..TURN {
            if lock(&self.shared.incoming).len() >= QUEUE {
                return Ok((messages, false));
            }
            match socket.read() {
                Ok(Message::Binary(frame)) => {
                    lock(&self.shared.incoming).push_back(frame.into());
                    self.tell_once();
                }
                Ok(_) => {}
                Err(WsError::Io(e)) if e.kind() == io::ErrorKind::WouldBlock => return Ok((messages, false)),
                Err(WsError::ConnectionClosed | WsError::AlreadyClosed) => return Err(Lost::Closed),
                Err(e) => return Err(e.into()),
            }
        }
        Ok((TURN, true))
    }
}

/// A write that the socket could not take at once is kept by the WebSocket and not lost.
fn would_block(result: Result<(), WsError>) -> Result<(), Lost> {
    match result {
        Err(WsError::Io(e)) if e.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Err(WsError::ConnectionClosed | WsError::AlreadyClosed) => Err(Lost::Closed),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests;

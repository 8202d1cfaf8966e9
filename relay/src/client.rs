//! A client's WebSocket: one binary message is one Ethernet frame without checksum, as v86, JSLinux and websockproxy
//! speak it. Text messages mean nothing and are ignored.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, error::CapacityError};

use crate::metrics::Metrics;
use crate::rate::Bucket;
use crate::room::Membership;
use crate::shared::Shared;

/// What a short frame costs of the byte rate: the work for a frame does not shrink with it.
const MIN_COST: u64 = 256;
/// Frames that are written before they are flushed.
const BATCH: usize = 64;
/// Buffers of a WebSocket. The defaults of the library (128 KiB each) are too much for hundreds of clients.
const READ_BUFFER: usize = 16 << 10;
const WRITE_BUFFER: usize = 32 << 10;

/// Why a session ended. The relay counts the reasons that are its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The client closed or its connection broke.
    Client,
    /// Nothing came for too long.
    Idle,
    /// The client took nothing for too long.
    Slow,
    /// A message beyond `max-message`.
    Oversized,
    /// Not WebSocket, or not what is spoken over it.
    Protocol,
    /// The relay stops.
    Shutdown,
}

impl End {
    /// Counts the end and says how to close.
    pub fn close(self, metrics: &Metrics) -> Option<CloseFrame> {
        let (counter, code) = match self {
            End::Client => return None,
            End::Idle => (&metrics.gone_idle, CloseCode::Policy),
            End::Slow => (&metrics.gone_slow, CloseCode::Policy),
            End::Oversized => (&metrics.gone_oversized, CloseCode::Size),
            End::Protocol => (&metrics.gone_protocol, CloseCode::Protocol),
            End::Shutdown => (&metrics.gone_shutdown, CloseCode::Away),
        };
        counter.inc();
        Some(CloseFrame { code, reason: "".into() })
    }

    /// What a failed read means.
    pub fn from_error(error: &Error) -> End {
        match error {
            Error::Capacity(CapacityError::MessageTooLong { .. }) => End::Oversized,
            Error::Protocol(tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) => {
                End::Client
            }
            Error::Protocol(_) | Error::Utf8(_) | Error::Capacity(_) => End::Protocol,
            _ => End::Client,
        }
    }
}

/// A server's WebSocket over an upgraded connection.
pub async fn websocket<S: AsyncRead + AsyncWrite + Unpin>(stream: S, shared: &Shared) -> WebSocketStream<S> {
    let largest = shared.settings.limits.max_message;
    let config = WebSocketConfig::default()
        .max_message_size(Some(largest))
        .max_frame_size(Some(largest))
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(WRITE_BUFFER + BATCH * (largest + 64));
    WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await
}

/// Resolves when the relay stops.
pub async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    // An error means that the relay is gone altogether.
    let _ = shutdown.wait_for(|stop| *stop).await;
}

/// Serves one client until one side ends it.
pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    shared: Arc<Shared>,
    mut member: Membership,
    socket: WebSocketStream<S>,
    mut shutdown: watch::Receiver<bool>,
) {
    let Some(frames) = member.take_frames() else { return };
    let (metrics, limits) = (&shared.metrics, &shared.settings.limits);
    metrics.clients.inc();
    metrics.clients_total.inc();
    tracing::info!(room = member.room.name(), port = member.port.id.0, "client joined");
    let (mut sink, mut stream) = socket.split();
    let end = tokio::select! {
        end = read(&shared, &member, &mut stream) => end,
        end = write(&shared, &member, &mut sink, frames) => end,
        () = stopped(&mut shutdown) => End::Shutdown,
    };
    if let Some(frame) = end.close(metrics) {
        let closing = async {
            let _ = sink.send(Message::Close(Some(frame))).await;
            // The client answers with its own close frame.
            while let Some(Ok(_)) = stream.next().await {}
        };
        let grace = Duration::from_secs(limits.shutdown_grace.min(2));
        let _ = timeout(grace, closing).await;
    }
    tracing::info!(room = member.room.name(), port = member.port.id.0, ?end, "client left");
    metrics.clients.dec();
}

async fn read<S: AsyncRead + AsyncWrite + Unpin>(
    shared: &Shared,
    member: &Membership,
    stream: &mut SplitStream<WebSocketStream<S>>,
) -> End {
    let (metrics, limits) = (&shared.metrics, &shared.settings.limits);
    let idle = Duration::from_secs(limits.idle_timeout);
    let largest = shared.settings.max_frame();
    let mut rate = Bucket::new(limits.rate_up, limits.rate_up);
    loop {
        let message = match timeout(idle, stream.next()).await {
            Err(_) => return End::Idle,
            Ok(None) => return End::Client,
            Ok(Some(Err(error))) => return End::from_error(&error),
            Ok(Some(Ok(message))) => message,
        };
        let size = message.len() as u64;
        match message {
            Message::Binary(frame) => {
                metrics.frames_received_total.inc();
                metrics.bytes_received_total.add(size);
                if frame.len() > largest {
                    metrics.drop_oversized.inc();
                } else {
                    // A copy: the message shares the whole read buffer, which a queued frame would keep alive.
                    member.room.input(&member.port, Bytes::copy_from_slice(&frame));
                }
            }
            Message::Text(_) => metrics.drop_text.inc(),
            Message::Ping(_) | Message::Pong(_) => member.room.heard(&member.port),
            Message::Close(_) => return End::Client,
            Message::Frame(_) => {}
        }
        // Not reading is what holds a client back: its own TCP connection fills.
        let wait = rate.take(size.max(MIN_COST), shared.now());
        if !wait.is_zero() {
            metrics.throttled_total.inc();
            sleep(wait).await;
        }
    }
}

async fn write<S: AsyncRead + AsyncWrite + Unpin>(
    shared: &Shared,
    member: &Membership,
    sink: &mut SplitSink<WebSocketStream<S>, Message>,
    mut frames: mpsc::Receiver<Bytes>,
) -> End {
    let (metrics, limits) = (&shared.metrics, &shared.settings.limits);
    let patience = Duration::from_secs(limits.write_timeout);
    let mut rate = Bucket::new(limits.rate_down, limits.rate_down);
    let mut ping = interval(ping_every(limits.idle_timeout));
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ping.reset();
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let pinging = tokio::select! {
            count = frames.recv_many(&mut batch, BATCH) => {
                if count == 0 {
                    return End::Client;
                }
                false
            }
            _ = ping.tick() => true,
            () = member.port.ping.notified() => true,
        };
        let mut cost = 0;
        let sending = async {
            if pinging {
                sink.feed(Message::Ping(Bytes::new())).await?;
            }
            for frame in batch.drain(..) {
                metrics.frames_sent_total.inc();
                metrics.bytes_sent_total.add(frame.len() as u64);
                cost += (frame.len() as u64).max(MIN_COST);
                sink.feed(Message::Binary(frame)).await?;
            }
            sink.flush().await
        };
        match timeout(patience, sending).await {
            Err(_) => return End::Slow,
            Ok(Err(_)) => return End::Client,
            Ok(Ok(())) => {}
        }
        let wait = rate.take(cost, shared.now());
        if !wait.is_zero() {
            metrics.throttled_total.inc();
            sleep(wait).await;
        }
    }
}

/// Often enough that a client which only answers pings is never idle, and at least every 30 s as websockproxy does.
pub fn ping_every(idle_timeout: u64) -> Duration {
    Duration::from_secs(30).min(Duration::from_millis(idle_timeout * 1000 / 3)).max(Duration::from_millis(100))
}

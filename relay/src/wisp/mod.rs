//! Wisp v1 and v2: TCP and UDP streams multiplexed over one WebSocket, for pages with other emulators. The same policy,
//! limits, dialer and resolver as the gateway.

pub mod packet;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::client::{End, ping_every, stopped};
use crate::net::{Datagrams, Stream};
use crate::port::lock;
use crate::rate::Bucket;
use crate::shared::{ConnectError, Shared};
use packet::{Kind, Packet, Reason};

/// Packets for the client that wait to be written, of all streams together.
const OUTBOX: usize = 64;
/// Largest DATA packet to a client.
const CHUNK: usize = 16 << 10;
/// A client that sends no INFO within this time speaks version 1.
const INFO_WAIT: Duration = Duration::from_secs(5);
/// Addresses of a name that are tried.
const TRIES: usize = 3;

struct Client {
    shared: Arc<Shared>,
    outbox: mpsc::Sender<Bytes>,
    streams: Mutex<HashMap<u32, Open>>,
    next: AtomicU64,
    /// What is left of [`BUDGET`].
    budget: Arc<Semaphore>,
    /// Flows left of all clients of the address.
    flows: Arc<Semaphore>,
}

/// An open stream. `id` tells it from a later one with the same number.
struct Open {
    id: u64,
    kind: Kind,
    inbox: mpsc::Sender<Piece>,
}

/// Bytes of a client on their way to a destination, and their share of the client's budget.
struct Piece {
    data: Bytes,
    _share: OwnedSemaphorePermit,
}

/// Bytes of all streams of a client that may wait for their destinations.
const BUDGET: usize = 16 << 20;

/// A stream's place in the table; it is given back on drop.
struct Place {
    client: Arc<Client>,
    stream: u32,
    id: u64,
    _permits: [OwnedSemaphorePermit; 2],
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut streams = lock(&self.client.streams);
        if streams.get(&self.stream).is_some_and(|open| open.id == self.id) {
            streams.remove(&self.stream);
        }
        self.client.shared.metrics.wisp_streams.dec();
    }
}

/// Serves one client. With `password`, version 2's password extension must carry the relay's token.
pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    shared: Arc<Shared>,
    flows: Arc<Semaphore>,
    password: bool,
    socket: WebSocketStream<S>,
    mut shutdown: watch::Receiver<bool>,
) {
    let metrics = &shared.metrics;
    metrics.wisp_clients.inc();
    let (outbox, packets) = mpsc::channel(OUTBOX);
    let client = Arc::new(Client {
        shared: Arc::clone(&shared),
        outbox,
        streams: Mutex::default(),
        next: AtomicU64::new(0),
        budget: Arc::new(Semaphore::new(BUDGET)),
        flows,
    });
    let (mut sink, mut stream) = socket.split();
    let end = tokio::select! {
        end = read(&client, password, &mut stream) => end,
        end = write(&shared, &mut sink, packets) => end,
        () = stopped(&mut shutdown) => End::Shutdown,
    };
    // The tasks of the streams end when their inboxes do.
    lock(&client.streams).clear();
    if let Some(frame) = end.close(metrics) {
        let _ = timeout(Duration::from_secs(2), sink.send(Message::Close(Some(frame)))).await;
    }
    metrics.wisp_clients.dec();
}

async fn write<S: AsyncRead + AsyncWrite + Unpin>(
    shared: &Shared,
    sink: &mut SplitSink<WebSocketStream<S>, Message>,
    mut packets: mpsc::Receiver<Bytes>,
) -> End {
    let limits = &shared.settings.limits;
    let mut rate = Bucket::new(limits.rate_down, limits.rate_down);
    let mut ping = interval(ping_every(limits.idle_timeout));
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ping.reset();
    let mut batch = Vec::new();
    loop {
        let pinging = tokio::select! {
            count = packets.recv_many(&mut batch, 16) => {
                if count == 0 {
                    return End::Client;
                }
                false
            }
            _ = ping.tick() => true,
        };
        let mut cost = 0;
        let sending = async {
            if pinging {
                sink.feed(Message::Ping(Bytes::new())).await?;
            }
            for packet in batch.drain(..) {
                cost += packet.len() as u64;
                sink.feed(Message::Binary(packet)).await?;
            }
            sink.flush().await
        };
        match timeout(Duration::from_secs(limits.write_timeout), sending).await {
            Err(_) => return End::Slow,
            Ok(Err(_)) => return End::Client,
            Ok(Ok(())) => {}
        }
        throttle(shared, &mut rate, cost).await;
    }
}

async fn throttle(shared: &Shared, rate: &mut Bucket, cost: u64) {
    let wait = rate.take(cost, shared.now());
    if !wait.is_zero() {
        shared.metrics.throttled_total.inc();
        sleep(wait).await;
    }
}

async fn read<S: AsyncRead + AsyncWrite + Unpin>(
    client: &Arc<Client>,
    password: bool,
    stream: &mut SplitStream<WebSocketStream<S>>,
) -> End {
    let shared = &client.shared;
    let limits = &shared.settings.limits;
    // The relay speaks first: the window of every stream, then what it can do.
    for packet in [packet::window(0, limits.wisp_window), packet::server_info(password)] {
        if client.outbox.send(packet).await.is_err() {
            return End::Client;
        }
    }
    let mut admitted = !password;
    let info_until = Instant::now() + INFO_WAIT;
    let idle = Duration::from_secs(limits.idle_timeout);
    let mut up = Bucket::new(limits.rate_up, limits.rate_up);
    let mut connects = Bucket::new(limits.connect_rate, limits.connect_rate.saturating_mul(2));
    loop {
        let deadline = if admitted { Instant::now() + idle } else { info_until };
        let message = match timeout_at(deadline, stream.next()).await {
            Err(_) if admitted => return End::Idle,
            Err(_) => return refuse(client).await,
            Ok(None) => return End::Client,
            Ok(Some(Err(error))) => return End::from_error(&error),
            Ok(Some(Ok(Message::Binary(message)))) => message,
            Ok(Some(Ok(Message::Close(_)))) => return End::Client,
            Ok(Some(Ok(_))) => continue,
        };
        let cost = message.len() as u64;
        match packet::parse(&message) {
            None => return End::Protocol,
            Some(Packet::Info { major, password: given }) => {
                tracing::debug!(major, "wisp client");
                let right = given.is_some_and(|given| Some(given.as_slice()) == token(shared));
                admitted |= right;
                if !admitted {
                    return refuse(client).await;
                }
            }
            Some(_) if !admitted => return refuse(client).await,
            Some(Packet::Connect { stream, to }) => {
                if let Err(reason) = connect(client, stream, to, &mut connects)
                    && client.outbox.send(packet::close(stream, reason)).await.is_err()
                {
                    return End::Client;
                }
            }
            Some(Packet::Data { stream, data }) => {
                let patience = Duration::from_secs(limits.write_timeout);
                let share = u32::try_from(data.len()).unwrap_or(u32::MAX);
                let share = timeout(patience, Arc::clone(&client.budget).acquire_many_owned(share)).await;
                let full = match share {
                    Ok(Ok(_share)) => overrun(client, stream, Piece { data, _share }),
                    Ok(Err(_)) | Err(_) => true,
                };
                if full {
                    // More than its window, or too long without a taker: the stream goes, the others stay.
                    lock(&client.streams).remove(&stream);
                    if client.outbox.send(packet::close(stream, Reason::Throttled)).await.is_err() {
                        return End::Client;
                    }
                }
            }
            Some(Packet::Close { stream }) => {
                lock(&client.streams).remove(&stream);
            }
            Some(Packet::Other) => {}
        }
        throttle(shared, &mut up, cost).await;
    }
}

/// Gives data to a stream. True when a TCP stream has no room left; a datagram without room is dropped.
fn overrun(client: &Client, stream: u32, piece: Piece) -> bool {
    let streams = lock(&client.streams);
    let Some(open) = streams.get(&stream) else { return false };
    match open.inbox.try_send(piece) {
        Err(mpsc::error::TrySendError::Full(_)) if open.kind == Kind::Udp => {
            client.shared.metrics.drop_queue_full.inc();
            false
        }
        result => matches!(result, Err(mpsc::error::TrySendError::Full(_))),
    }
}

fn token(shared: &Shared) -> Option<&[u8]> {
    shared.settings.token.as_deref().map(str::as_bytes)
}

async fn refuse(client: &Client) -> End {
    client.shared.metrics.reject_token.inc();
    let _ = client.outbox.send(packet::close(0, Reason::Extensions)).await;
    // Time for the packet to leave.
    sleep(Duration::from_millis(100)).await;
    End::Protocol
}

fn connect(
    client: &Arc<Client>,
    stream: u32,
    to: Option<(Kind, String, u16)>,
    rate: &mut Bucket,
) -> Result<(), Reason> {
    let shared = &client.shared;
    let limits = &shared.settings.limits;
    let (kind, host, port) = to.ok_or(Reason::Invalid)?;
    if stream == 0 {
        return Err(Reason::Invalid);
    }
    if !rate.try_take(1, shared.now()) {
        shared.metrics.limit_rate.inc();
        return Err(Reason::Throttled);
    }
    let mut streams = lock(&client.streams);
    if streams.contains_key(&stream) {
        return Err(Reason::Invalid);
    }
    if streams.len() >= limits.wisp_streams {
        shared.metrics.limit_wisp.inc();
        return Err(Reason::Throttled);
    }
    let permits = shared.flow(&client.flows).ok_or(Reason::Throttled)?;
    // Twice the window: a CONTINUE resets the client's count while packets are still under way.
    let (inbox, packets) = mpsc::channel(usize::try_from(limits.wisp_window).unwrap_or(1).max(1) * 2);
    let id = client.next.fetch_add(1, Ordering::Relaxed);
    streams.insert(stream, Open { id, kind, inbox });
    drop(streams);
    shared.metrics.wisp_streams.inc();
    shared.metrics.wisp_streams_total.inc();
    let place = Place { client: Arc::clone(client), stream, id, _permits: permits };
    tokio::spawn(async move {
        let outbox = place.client.outbox.clone();
        let shared = Arc::clone(&place.client.shared);
        let carrying = async {
            match kind {
                Kind::Tcp => tcp(&shared, &host, port, stream, &outbox, packets).await,
                Kind::Udp => udp(&shared, &host, port, stream, &outbox, packets).await,
            }
        };
        let reason = tokio::select! {
            reason = carrying => reason,
            () = outbox.closed() => None,
        };
        // `None`: the client closed the stream itself.
        if let Some(reason) = reason {
            let _ = outbox.send(packet::close(stream, reason)).await;
        }
        drop(place);
    });
    Ok(())
}

fn reason(error: &ConnectError) -> Reason {
    match error {
        ConnectError::Refused(_) => Reason::Blocked,
        ConnectError::Timeout => Reason::Timeout,
        ConnectError::NoSuchHost => Reason::Unreachable,
        ConnectError::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Reason::Refused,
        ConnectError::Io(_) => Reason::Unreachable,
    }
}

/// The addresses of a host: itself when it is one.
async fn destinations(shared: &Shared, host: &str, port: u16) -> Result<Vec<SocketAddr>, ConnectError> {
    let addresses = match host.parse::<IpAddr>() {
        Ok(ip) => vec![ip],
        Err(_) => match shared.lookup(host).await {
            Err(ConnectError::Io(_)) => return Err(ConnectError::NoSuchHost),
            found => found?,
        },
    };
    Ok(addresses.into_iter().take(TRIES).map(|ip| SocketAddr::new(ip, port)).collect())
}

async fn tcp(
    shared: &Shared,
    host: &str,
    port: u16,
    stream: u32,
    outbox: &mpsc::Sender<Bytes>,
    mut packets: mpsc::Receiver<Piece>,
) -> Option<Reason> {
    let destinations = match destinations(shared, host, port).await {
        Ok(destinations) => destinations,
        Err(error) => return Some(reason(&error)),
    };
    let mut failure = Reason::Unreachable;
    let mut connected: Option<Box<dyn Stream>> = None;
    for to in destinations {
        match shared.tcp(to).await {
            Ok(stream) => {
                connected = Some(stream);
                break;
            }
            Err(error) => failure = reason(&error),
        }
    }
    let Some(connected) = connected else { return Some(failure) };
    let window = shared.settings.limits.wisp_window;
    let _ = outbox.send(packet::window(stream, window)).await;
    let (mut from, mut to) = tokio::io::split(connected);
    let idle = Duration::from_secs(shared.settings.limits.tcp_idle);
    let upload = async {
        let mut taken = 0;
        while let Some(piece) = packets.recv().await {
            match timeout(idle, to.write_all(&piece.data)).await {
                Err(_) => return Some(Reason::TransferTimeout),
                Ok(Err(_)) => return Some(Reason::Network),
                Ok(Ok(())) => {}
            }
            taken += 1;
            // Before the client runs dry; what still waits is not free.
            if taken >= window.div_ceil(2) {
                taken = 0;
                let waiting = u32::try_from(packets.len()).unwrap_or(window);
                let _ = outbox.send(packet::window(stream, window.saturating_sub(waiting))).await;
            }
        }
        None
    };
    let download = async {
        let mut buffer = vec![0; CHUNK];
        loop {
            match timeout(idle, from.read(&mut buffer)).await {
                Err(_) => return Some(Reason::TransferTimeout),
                Ok(Err(_)) => return Some(Reason::Network),
                Ok(Ok(0)) => return Some(Reason::Voluntary),
                Ok(Ok(length)) => {
                    if outbox.send(packet::data(stream, &buffer[..length])).await.is_err() {
                        return None;
                    }
                }
            }
        }
    };
    tokio::select! {
        reason = upload => reason,
        reason = download => reason,
    }
}

async fn udp(
    shared: &Shared,
    host: &str,
    port: u16,
    stream: u32,
    outbox: &mpsc::Sender<Bytes>,
    mut packets: mpsc::Receiver<Piece>,
) -> Option<Reason> {
    let to = match destinations(shared, host, port).await.map(|to| to.into_iter().next()) {
        Ok(Some(to)) => to,
        Ok(None) => return Some(Reason::Unreachable),
        Err(error) => return Some(reason(&error)),
    };
    let socket: Box<dyn Datagrams> = match shared.udp(to).await {
        Ok(socket) => socket,
        Err(error) => return Some(reason(&error)),
    };
    loop {
        tokio::select! {
            piece = packets.recv() => {
                let _ = socket.send(&piece?.data).await;
            }
            received = socket.recv() => match received {
                Ok(data) => outbox.send(packet::data(stream, &data)).await.ok()?,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {}
                Err(_) => return Some(Reason::Network),
            },
            () = sleep(Duration::from_secs(shared.settings.limits.udp_idle)) => return Some(Reason::TransferTimeout),
        }
    }
}

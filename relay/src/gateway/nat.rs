//! Carries out what the gateway decided: connections, datagrams and names, each in a task of its own that ends with
//! the client's queue.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::dns::{self, Query, Question, Rcode};
use super::packet::{self, Route};
use super::tcp::{Stack, reset};
use super::{FlowKey, MAC, icmp};
use crate::net::{Stream, random};
use crate::port::{Port, lock};
use crate::shared::{ConnectError, Shared};
use crate::switch::{Mac, PortId};

/// Packets that wait for a connection: what a full default window holds, also of a guest whose programs write 1 KiB at a
/// time and its acknowledgements of what comes. TCP repeats what is dropped beyond.
const INBOX: usize = 256;
/// Packets taken from the inbox before the stack is polled.
const AT_ONCE: usize = 32;
/// DNS over UDP is one question and one answer: its association is soon useless.
const DNS_IDLE: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Transport {
    Tcp,
    Udp,
}

type Key = (PortId, Transport, FlowKey);

struct Flow {
    id: u64,
    inbox: mpsc::Sender<Bytes>,
}

/// The connections of a room.
pub struct Nat {
    shared: Arc<Shared>,
    flows: Mutex<HashMap<Key, Flow>>,
    next: AtomicU64,
}

/// A flow's place in the table and under the caps; all of them are given back on drop.
struct Entry {
    nat: Arc<Nat>,
    key: Key,
    id: u64,
    _permits: (OwnedSemaphorePermit, [OwnedSemaphorePermit; 2]),
}

impl Entry {
    /// Takes the flow out of the table, unless something waits in its inbox: nothing can come in between.
    fn retire(&self, inbox: &mpsc::Receiver<Bytes>) -> bool {
        let mut flows = lock(&self.nat.flows);
        if !inbox.is_empty() {
            return false;
        }
        if flows.get(&self.key).is_some_and(|flow| flow.id == self.id) {
            flows.remove(&self.key);
        }
        true
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut flows = lock(&self.nat.flows);
        if flows.get(&self.key).is_some_and(|flow| flow.id == self.id) {
            flows.remove(&self.key);
        }
        let metrics = &self.nat.shared.metrics;
        match self.key.1 {
            Transport::Tcp => metrics.tcp_flows.dec(),
            Transport::Udp => metrics.udp_flows.dec(),
        }
    }
}

impl Nat {
    /// No connections yet.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared, flows: Mutex::default(), next: AtomicU64::new(0) }
    }

    /// Gives `data` to the flow with this key; returns it when there is none (any more).
    fn deliver(&self, key: &Key, data: Bytes) -> Option<Bytes> {
        let flows = lock(&self.flows);
        let Some(flow) = flows.get(key) else { return Some(data) };
        match flow.inbox.try_send(data) {
            Ok(()) => None,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.shared.metrics.drop_queue_full.inc();
                None
            }
            Err(mpsc::error::TrySendError::Closed(data)) => Some(data),
        }
    }

    fn open(self: &Arc<Self>, key: Key, place: &Arc<Semaphore>, port: &Port) -> Option<(Entry, mpsc::Receiver<Bytes>)> {
        let metrics = &self.shared.metrics;
        let full = match key.1 {
            Transport::Tcp => &metrics.limit_tcp,
            Transport::Udp => &metrics.limit_udp,
        };
        if !lock(&port.connect_rate).try_take(1, self.shared.now()) {
            metrics.limit_rate.inc();
            return None;
        }
        let Ok(own) = Arc::clone(place).try_acquire_owned() else {
            full.inc();
            return None;
        };
        let permits = (own, self.shared.flow(&port.flows)?);
        let (inbox, receiver) = mpsc::channel(INBOX);
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.flows).insert(key, Flow { id, inbox });
        match key.1 {
            Transport::Tcp => (metrics.tcp_flows.inc(), metrics.tcp_flows_total.inc()),
            Transport::Udp => (metrics.udp_flows.inc(), metrics.udp_flows_total.inc()),
        };
        Some((Entry { nat: Arc::clone(self), key, id, _permits: permits }, receiver))
    }

    /// A TCP packet of a guest.
    pub fn tcp(
        self: &Arc<Self>,
        port: &Arc<Port>,
        guest: Mac,
        flow: FlowKey,
        to: SocketAddr,
        packet: Bytes,
        syn: bool,
    ) {
        let key = (port.id, Transport::Tcp, flow);
        let Some(packet) = self.deliver(&key, packet) else { return };
        let opened = (syn && self.shared.permit(to).is_ok()).then(|| self.open(key, &port.tcp, port)).flatten();
        match opened {
            Some((entry, inbox)) => {
                let port = Arc::clone(port);
                tokio::spawn(tcp_flow(entry, port, guest, flow, to, packet, inbox));
            }
            None => {
                if let Some(frame) = reset(&packet, guest) {
                    port.send(frame.into(), &self.shared);
                }
            }
        }
    }

    /// A datagram of a guest.
    pub fn udp(
        self: &Arc<Self>,
        port: &Arc<Port>,
        guest: Mac,
        flow: FlowKey,
        to: SocketAddr,
        data: Bytes,
        packet: Bytes,
    ) {
        let key = (port.id, Transport::Udp, flow);
        let Some(data) = self.deliver(&key, data) else { return };
        if self.shared.permit(to).is_err() {
            if let Some(frame) = icmp::prohibited(&self.shared.settings, guest, &packet) {
                port.send(frame.into(), &self.shared);
            }
            return;
        }
        if let Some((entry, inbox)) = self.open(key, &port.udp, port) {
            let port = Arc::clone(port);
            tokio::spawn(udp_flow(entry, port, guest, flow, to, data, inbox));
        }
    }

    /// A DNS message of a guest to an address of the gateway.
    pub fn dns(self: &Arc<Self>, port: &Arc<Port>, guest_mac: Mac, guest: SocketAddr, server: IpAddr, message: Bytes) {
        let shared = &self.shared;
        shared.metrics.dns_queries_total.inc();
        let Some(query) = dns::parse(&message) else { return shared.metrics.drop_malformed.inc() };
        let permit = Arc::clone(&port.dns).try_acquire_owned();
        let in_rate = lock(&port.dns_rate).try_take(1, shared.now());
        let (Ok(permit), true) = (permit, in_rate) else { return shared.metrics.limit_dns.inc() };
        let (shared, port) = (Arc::clone(shared), Arc::clone(port));
        tokio::spawn(async move {
            let _permit = permit;
            let answer = tokio::select! {
                answer = resolve(&shared, query, &message) => answer,
                () = port.queue.closed() => return,
            };
            let route = Route { from_mac: MAC, to_mac: guest_mac, from: server, to: guest.ip() };
            for frame in datagrams(&shared, route, (super::DNS_PORT, guest.port()), &answer) {
                port.send(frame.into(), &shared);
            }
        });
    }
}

async fn resolve(shared: &Shared, query: Query, message: &[u8]) -> Vec<u8> {
    match query {
        Query::Answer(question, code) => question.answer(code),
        Query::Address(question) => addresses(shared, &question).await,
        Query::Forward(question) => match shared.forward(message).await {
            Ok(answer) if question.matches(&answer) => answer,
            _ => {
                shared.metrics.dns_failed_total.inc();
                question.answer(Rcode::ServFail)
            }
        },
    }
}

async fn addresses(shared: &Shared, question: &Question) -> Vec<u8> {
    let settings = &shared.settings;
    let six = question.kind == dns::TYPE_AAAA;
    let own = settings.addresses_of(&question.name);
    if !own.is_empty() {
        return question.addresses(&own);
    }
    // Rooms without IPv6: no name has such an address there.
    if six && settings.gateway6.is_none() {
        return question.addresses(&[]);
    }
    let code = match shared.lookup(&question.name).await {
        Ok(mut found) => {
            found.retain(|ip| shared.reachable(*ip));
            return question.addresses(&found);
        }
        Err(ConnectError::Refused(_)) => return question.answer(Rcode::Refused),
        Err(ConnectError::Timeout) => Rcode::ServFail,
        // The host's resolver does not tell a missing name from a failure.
        Err(ConnectError::NoSuchHost | ConnectError::Io(_)) => Rcode::NxDomain,
    };
    shared.metrics.dns_failed_total.inc();
    question.answer(code)
}

/// The frames of a datagram to a guest.
fn datagrams(shared: &Shared, route: Route<IpAddr>, ports: (u16, u16), data: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let ident = u32::from_be_bytes(random());
    packet::udp(route, ports, data, shared.settings.limits.mtu.into(), ident).into_iter().flatten()
}

async fn tcp_flow(
    entry: Entry,
    port: Arc<Port>,
    guest: Mac,
    flow: FlowKey,
    to: SocketAddr,
    first: Bytes,
    mut inbox: mpsc::Receiver<Bytes>,
) {
    let shared = Arc::clone(&entry.nat.shared);
    let limits = &shared.settings.limits;
    let seed = u64::from_le_bytes(random());
    let stack = Stack::new(flow.remote, (MAC, guest), limits.mtu.into(), limits.tcp_buffer, seed, shared.now());
    let Some(mut stack) = stack else { return };
    stack.push(first);
    stack.poll(shared.now());
    // Not a SYN that TCP accepts: nobody is dialled for it.
    if stack.over() {
        return;
    }
    let dial = shared.tcp(to);
    tokio::pin!(dial);
    let stream = loop {
        tokio::select! {
            stream = &mut dial => break stream,
            packet = inbox.recv() => {
                let Some(packet) = packet else { return };
                stack.push(packet);
                stack.poll(shared.now());
                if stack.over() {
                    return;
                }
            }
            () = port.queue.closed() => return,
        }
    };
    match stream {
        Ok(stream) => {
            stack.accept();
            Connection { shared: &shared, port: &port, stack, stream, inbox, eof: false, shut: false }.run().await;
        }
        Err(error) => {
            shared.metrics.tcp_failed_total.inc();
            tracing::debug!(%to, %error, "no connection");
            stack.socket().abort();
            stack.poll(shared.now());
            while let Some(frame) = stack.pop() {
                port.send(frame.into(), &shared);
            }
        }
    }
    drop(entry);
}

/// An accepted connection: the guest's side in `stack`, the destination's in `stream`.
struct Connection<'a> {
    shared: &'a Shared,
    port: &'a Port,
    stack: Stack,
    stream: Box<dyn Stream>,
    inbox: mpsc::Receiver<Bytes>,
    /// The destination sends no more.
    eof: bool,
    /// The destination was told that the guest sends no more.
    shut: bool,
}

impl Connection<'_> {
    async fn run(mut self) {
        let limits = &self.shared.settings.limits;
        let handshake = self.shared.now() + limits.handshake();
        let idle = Duration::from_secs(limits.tcp_idle);
        let mut moved = self.shared.now();
        loop {
            self.stack.poll(self.shared.now());
            while let Some(frame) = self.stack.pop() {
                // A full queue holds this connection back, and through it the destination.
                if self.port.queue.send(frame.into()).await.is_err() {
                    return;
                }
            }
            if self.stack.over() {
                return;
            }
            let now = self.shared.now();
            let deadline = if self.stack.opening() { handshake } else { moved + idle };
            if now >= deadline {
                self.stack.socket().abort();
                continue;
            }
            let wait = self.stack.delay(now).unwrap_or(idle).min(deadline - now);
            let queue = &self.port.queue;
            let progress = tokio::select! {
                progress = poll_fn(|cx| {
                    pump(cx, &mut self.stack, &mut self.stream, &mut self.inbox, &mut self.eof, &mut self.shut)
                }) => progress,
                () = tokio::time::sleep(wait) => continue,
                () = queue.closed() => return,
            };
            match progress {
                Ok(true) => moved = self.shared.now(),
                Ok(false) => {}
                Err(_) => self.stack.socket().abort(),
            }
        }
    }
}

/// Moves what can be moved: packets into the stack, bytes both ways. Ready when something did; `true` when data did.
fn pump(
    cx: &mut Context<'_>,
    stack: &mut Stack,
    stream: &mut Box<dyn Stream>,
    inbox: &mut mpsc::Receiver<Bytes>,
    eof: &mut bool,
    shut: &mut bool,
) -> Poll<io::Result<bool>> {
    let mut ready = false;
    let mut data = false;
    for _ in 0..AT_ONCE {
        match inbox.poll_recv(cx) {
            Poll::Ready(Some(packet)) => {
                stack.push(packet);
                ready = true;
            }
            Poll::Ready(None) | Poll::Pending => break,
        }
    }
    while stack.socket().can_recv() {
        let written = stack.socket().recv(|buffer| match Pin::new(&mut *stream).poll_write(cx, buffer) {
            Poll::Ready(Ok(length)) => (length, Some(Ok(length))),
            Poll::Ready(Err(error)) => (0, Some(Err(error))),
            Poll::Pending => (0, None),
        });
        match written {
            Ok(Some(Ok(0))) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Ok(Some(Ok(_))) => (ready, data) = (true, true),
            Ok(Some(Err(error))) => return Poll::Ready(Err(error)),
            Ok(None) | Err(_) => break,
        }
    }
    if !*shut && stack.drained() {
        match Pin::new(&mut *stream).poll_shutdown(cx) {
            Poll::Ready(result) => {
                result?;
                (*shut, ready) = (true, true);
            }
            Poll::Pending => {}
        }
    }
    while !*eof && stack.socket().can_send() {
        let read = stack.socket().send(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            match Pin::new(&mut *stream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) => (buffer.filled().len(), Some(Ok(buffer.filled().len()))),
                Poll::Ready(Err(error)) => (0, Some(Err(error))),
                Poll::Pending => (0, None),
            }
        });
        match read {
            Ok(Some(Ok(0))) => {
                stack.socket().close();
                (*eof, ready) = (true, true);
            }
            Ok(Some(Ok(_))) => (ready, data) = (true, true),
            Ok(Some(Err(error))) => return Poll::Ready(Err(error)),
            Ok(None) | Err(_) => break,
        }
    }
    if ready { Poll::Ready(Ok(data)) } else { Poll::Pending }
}

async fn udp_flow(
    entry: Entry,
    port: Arc<Port>,
    guest: Mac,
    flow: FlowKey,
    to: SocketAddr,
    first: Bytes,
    mut inbox: mpsc::Receiver<Bytes>,
) {
    let shared = Arc::clone(&entry.nat.shared);
    let socket = tokio::select! {
        socket = shared.udp(to) => match socket {
            Ok(socket) => socket,
            Err(error) => return tracing::debug!(%to, %error, "no datagrams"),
        },
        () = port.queue.closed() => return,
    };
    let idle = match flow.remote.port() {
        53 => DNS_IDLE,
        _ => Duration::from_secs(shared.settings.limits.udp_idle),
    };
    // An error says that nobody listens there (ICMP), which a later datagram may find different.
    let _ = socket.send(&first).await;
    loop {
        tokio::select! {
            data = inbox.recv() => {
                let Some(data) = data else { return };
                let _ = socket.send(&data).await;
            }
            received = socket.recv() => {
                let sent = match received {
                    Ok(data) => to_guest(&shared, &port, guest, flow, &data).await,
                    Err(error) => error.kind() == io::ErrorKind::ConnectionRefused,
                };
                if !sent {
                    return;
                }
            }
            // A datagram that came in the same moment is not lost.
            () = tokio::time::sleep(idle) => if entry.retire(&inbox) { return },
            () = port.queue.closed() => return,
        }
    }
}

/// Sends a datagram to the guest; false when the guest is gone.
async fn to_guest(shared: &Shared, port: &Port, guest: Mac, flow: FlowKey, data: &[u8]) -> bool {
    let route = Route { from_mac: MAC, to_mac: guest, from: flow.remote.ip(), to: flow.guest.ip() };
    for frame in datagrams(shared, route, (flow.remote.port(), flow.guest.port()), data) {
        if port.queue.send(frame.into()).await.is_err() {
            return false;
        }
    }
    true
}

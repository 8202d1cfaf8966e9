//! One TCP connection of a guest: a smoltcp interface with a single socket that stands in for the destination.
//!
//! A stack for each connection instead of one for all: a packet finds its connection by hash and not by a walk over
//! all sockets, and connections run on any thread. The socket's buffers are the whole memory of a connection, and its
//! window is what holds the guest back.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{CongestionControl, Socket, SocketBuffer, State};
use smoltcp::time::Instant;
use smoltcp::wire::{
    EthernetProtocol, HardwareAddress, IpAddress, IpCidr, IpListenEndpoint, IpProtocol, Ipv4Packet, Ipv6Packet,
    TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
};

use super::packet::{self, HOP_LIMIT, Route};
use crate::switch::{HEADER, Mac};

/// Frames that one poll may produce before they are sent.
const BATCH: usize = 32;
/// After so long without a word from a guest that has something to acknowledge, the connection is over.
const TIMEOUT: smoltcp::time::Duration = smoltcp::time::Duration::from_secs(300);
const KEEP_ALIVE: smoltcp::time::Duration = smoltcp::time::Duration::from_secs(60);

/// The queues between the stack and the room.
struct Queues {
    input: VecDeque<Bytes>,
    output: VecDeque<Vec<u8>>,
    from: Mac,
    to: Mac,
    protocol: EthernetProtocol,
    mtu: usize,
}

struct Input(Bytes);

impl RxToken for Input {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

struct Output<'a>(&'a mut Queues);

impl TxToken for Output<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut frame = vec![0; HEADER + length];
        packet::ethernet(&mut frame, self.0.from, self.0.to, self.0.protocol);
        let result = f(&mut frame[HEADER..]);
        self.0.output.push_back(frame);
        result
    }
}

impl Device for Queues {
    type RxToken<'a> = Input;
    type TxToken<'a> = Output<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Input, Output<'_>)> {
        if self.output.len() >= BATCH {
            return None;
        }
        let packet = self.input.pop_front()?;
        Some((Input(packet), Output(self)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Output<'_>> {
        (self.output.len() < BATCH).then_some(Output(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}

/// The connection.
pub struct Stack {
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    queues: Queues,
}

fn instant(now: Duration) -> Instant {
    Instant::from_micros(i64::try_from(now.as_micros()).unwrap_or(i64::MAX))
}

impl Stack {
    /// A socket that listens as `remote` and does not answer until [`Self::accept`]. `from` and `to` are the Ethernet
    /// addresses of gateway and guest; `None` when nobody can listen as `remote` (port 0, or an address of no single host).
    pub fn new(
        remote: SocketAddr,
        (from, to): (Mac, Mac),
        mtu: usize,
        buffer: usize,
        seed: u64,
        now: Duration,
    ) -> Option<Self> {
        let (protocol, broadcast) = match remote.ip() {
            IpAddr::V4(ip) => (EthernetProtocol::Ipv4, ip.is_broadcast()),
            IpAddr::V6(_) => (EthernetProtocol::Ipv6, false),
        };
        // The interface panics at an address that is no host's.
        if broadcast || remote.ip().is_multicast() || remote.ip().is_unspecified() {
            return None;
        }
        let mut queues = Queues { input: VecDeque::new(), output: VecDeque::new(), from, to, protocol, mtu };
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut queues, instant(now));
        // Everybody is on this link.
        interface.update_ip_addrs(|addresses| {
            let _ = addresses.push(IpCidr::new(remote.ip().into(), 0));
        });
        let storage = || SocketBuffer::new(vec![0; buffer]);
        let mut socket = Socket::new(storage(), storage());
        socket.pause_synack(true);
        socket.set_nagle_enabled(false);
        socket.set_congestion_control(CongestionControl::Reno);
        socket.set_timeout(Some(TIMEOUT));
        socket.set_keep_alive(Some(KEEP_ALIVE));
        socket.listen(IpListenEndpoint { addr: Some(remote.ip().into()), port: remote.port() }).ok()?;
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(socket);
        Some(Self { interface, sockets, handle, queues })
    }

    /// The socket.
    pub fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    /// A packet from the guest: an IP packet, for the next poll.
    pub fn push(&mut self, packet: Bytes) {
        self.queues.input.push_back(packet);
    }

    /// The destination answered: shake hands.
    pub fn accept(&mut self) {
        self.socket().pause_synack(false);
    }

    /// Handles what was pushed and produces frames, up to a batch.
    pub fn poll(&mut self, now: Duration) {
        self.interface.poll(instant(now), &mut self.queues, &mut self.sockets);
    }

    /// The next frame for the guest.
    pub fn pop(&mut self) -> Option<Vec<u8>> {
        self.queues.output.pop_front()
    }

    /// Time until the next poll, `None` when only a packet or the destination changes something.
    pub fn delay(&mut self, now: Duration) -> Option<Duration> {
        if !self.queues.input.is_empty() {
            return Some(Duration::ZERO);
        }
        self.interface.poll_delay(instant(now), &self.sockets).map(Into::into)
    }

    /// Whether the handshake is still going on.
    pub fn opening(&mut self) -> bool {
        matches!(self.socket().state(), State::Listen | State::SynReceived)
    }

    /// Whether the connection is over: both sides closed or one reset.
    pub fn over(&mut self) -> bool {
        matches!(self.socket().state(), State::Closed | State::TimeWait | State::Listen)
    }

    /// Whether the guest said that it sends no more, and everything it sent was taken out.
    pub fn drained(&mut self) -> bool {
        let socket = self.socket();
        let closed = matches!(
            socket.state(),
            State::CloseWait | State::LastAck | State::Closing | State::TimeWait | State::Closed
        );
        closed && socket.recv_queue() == 0
    }
}

/// A reset for a packet that belongs to no connection (RFC 9293, 3.10.7.1); `None` for a reset or a broken packet.
pub fn reset(packet: &[u8], to_mac: Mac) -> Option<Vec<u8>> {
    match packet.first()? >> 4 {
        4 => {
            let ip = Ipv4Packet::new_checked(packet).ok()?;
            let (from, to) = (ip.src_addr(), ip.dst_addr());
            let repr = reset_of(ip.payload(), from.into(), to.into())?;
            let route = Route { from_mac: super::MAC, to_mac, from: to, to: from };
            Some(packet::ipv4(route, IpProtocol::Tcp, repr.buffer_len(), |buffer| {
                emit(&repr, buffer, to.into(), from.into());
            }))
        }
        6 => {
            let ip = Ipv6Packet::new_checked(packet).ok()?;
            let (from, to) = (ip.src_addr(), ip.dst_addr());
            let repr = reset_of(ip.payload(), from.into(), to.into())?;
            let route = Route { from_mac: super::MAC, to_mac, from: to, to: from };
            Some(packet::ipv6(route, IpProtocol::Tcp, HOP_LIMIT, repr.buffer_len(), |buffer| {
                emit(&repr, buffer, to.into(), from.into());
            }))
        }
        _ => None,
    }
}

fn emit(repr: &TcpRepr<'_>, buffer: &mut [u8], from: IpAddress, to: IpAddress) {
    repr.emit(&mut TcpPacket::new_unchecked(buffer), &from, &to, &ChecksumCapabilities::default());
}

fn reset_of(segment: &[u8], from: IpAddress, to: IpAddress) -> Option<TcpRepr<'static>> {
    let tcp = TcpPacket::new_checked(segment).ok()?;
    if tcp.rst() || tcp.src_port() == 0 || tcp.dst_port() == 0 || !tcp.verify_checksum(&from, &to) {
        return None;
    }
    let acknowledged = tcp.seq_number() + tcp.segment_len();
    Some(TcpRepr {
        src_port: tcp.dst_port(),
        dst_port: tcp.src_port(),
        control: TcpControl::Rst,
        seq_number: if tcp.ack() { tcp.ack_number() } else { TcpSeqNumber(0) },
        ack_number: (!tcp.ack()).then_some(acknowledged),
        window_len: 0,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    })
}

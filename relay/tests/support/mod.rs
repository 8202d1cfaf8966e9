//! What the tests and the load bench share: a relay in this process, a recording dialer and resolver, and a guest: a
//! smoltcp machine behind a real WebSocket.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test uses a part of it, and a test says what it expects by failing"
)]

pub mod six;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use clap::Parser;
use futures_util::future::BoxFuture;
use futures_util::{SinkExt, StreamExt};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::wire::{
    DhcpMessageType, DhcpPacket, DhcpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, HardwareAddress, IpCidr,
    IpEndpoint, IpProtocol, Ipv4Packet, UdpPacket,
};
use tab86_relay::config::{Options, Settings};
use tab86_relay::gateway::packet::{self, Route};
use tab86_relay::net::{Datagrams, Dialer, Resolver, Stream, SystemDialer};
use tab86_relay::server::{self, Running};
use tab86_relay::switch::Mac;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message};

pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 86, 0, 1);
pub const GATEWAY_MAC: Mac = tab86_relay::gateway::MAC;
/// How long a test waits for something that must come.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Records what it is asked for and connects nothing, or only to what `via` names: then to that address instead.
#[derive(Default)]
pub struct Recorder {
    pub tcp: Mutex<Vec<SocketAddr>>,
    pub udp: Mutex<Vec<SocketAddr>>,
    pub names: Mutex<Vec<String>>,
    pub forwarded: Mutex<Vec<Vec<u8>>>,
    pub hosts: Mutex<HashMap<String, Vec<IpAddr>>>,
    pub via: Mutex<HashMap<SocketAddr, SocketAddr>>,
    pub no_ipv6: AtomicBool,
    pub own: Mutex<Vec<IpAddr>>,
}

impl Recorder {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn host(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|a| a.parse().unwrap()).collect();
        self.hosts.lock().unwrap().insert(name.to_owned(), addresses);
    }

    pub fn redirect(&self, from: &str, to: SocketAddr) {
        self.via.lock().unwrap().insert(from.parse().unwrap(), to);
    }

    /// Everything that was asked of the dialer.
    pub fn dialled(&self) -> Vec<SocketAddr> {
        let mut all = self.tcp.lock().unwrap().clone();
        all.extend(self.udp.lock().unwrap().iter());
        all
    }

    fn target(&self, to: SocketAddr) -> io::Result<SocketAddr> {
        let target = self.via.lock().unwrap().get(&to).copied().ok_or(io::ErrorKind::ConnectionRefused)?;
        assert!(target.ip().is_loopback(), "tests stay on this machine");
        Ok(target)
    }
}

impl Dialer for Recorder {
    fn tcp(&self, to: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        self.tcp.lock().unwrap().push(to);
        Box::pin(async move { SystemDialer.tcp(self.target(to)?).await })
    }

    fn udp(&self, to: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Datagrams>>> {
        self.udp.lock().unwrap().push(to);
        Box::pin(async move { SystemDialer.udp(self.target(to)?).await })
    }

    fn is_own(&self, ip: IpAddr) -> bool {
        self.own.lock().unwrap().contains(&ip)
    }

    fn has_route(&self, ip: IpAddr) -> bool {
        ip.is_ipv4() || !self.no_ipv6.load(Ordering::SeqCst)
    }
}

impl Resolver for Recorder {
    fn lookup<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        self.names.lock().unwrap().push(host.to_owned());
        let found = self.hosts.lock().unwrap().get(host).cloned();
        Box::pin(async move { found.ok_or_else(|| io::ErrorKind::NotFound.into()) })
    }

    fn forward<'a>(&'a self, query: &'a [u8]) -> BoxFuture<'a, io::Result<Vec<u8>>> {
        self.forwarded.lock().unwrap().push(query.to_vec());
        let mut answer = query.to_vec();
        answer[2] |= 0x80;
        Box::pin(async move { Ok(answer) })
    }
}

pub fn settings(flags: &[&str]) -> Settings {
    // Guests of tests do not answer the close frame.
    let grace = if flags.iter().any(|f| f.starts_with("--shutdown-grace")) { &[][..] } else { &["--shutdown-grace=0"] };
    let all = ["tab86-relay", "--listen", "127.0.0.1:0"].iter().chain(grace).chain(flags);
    Settings::load(Options::try_parse_from(all).unwrap()).unwrap()
}

/// A relay in this process whose way out is `recorder`.
pub async fn relay(recorder: &Arc<Recorder>, flags: &[&str]) -> Running {
    let (dialer, resolver) = (Arc::clone(recorder), Arc::clone(recorder));
    server::start(settings(flags), dialer, resolver).await.unwrap()
}

/// A relay in this process that opens real sockets: only ever used with destinations on the loopback interface.
pub async fn real_relay(flags: &[&str]) -> Running {
    server::start(settings(flags), Arc::new(SystemDialer), Recorder::new()).await.unwrap()
}

pub type Socket = WebSocketStream<TcpStream>;

pub async fn try_connect(address: SocketAddr, path: &str) -> Result<Socket, Error> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let url = format!("ws://{address}{path}");
    Ok(tokio_tungstenite::client_async(url, stream).await?.0)
}

pub async fn connect(address: SocketAddr, path: &str) -> Socket {
    try_connect(address, path).await.unwrap()
}

/// The next binary message; `None` at the end of the connection.
pub async fn next_binary(socket: &mut Socket) -> Option<Bytes> {
    loop {
        match tokio::time::timeout(PATIENCE, socket.next()).await.expect("a message in time")? {
            Ok(Message::Binary(data)) => return Some(data),
            Ok(Message::Close(_)) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

pub fn mac(n: u32) -> Mac {
    let [_, b, c, d] = n.to_be_bytes();
    Mac([0x52, 0x54, 0, b, c, d])
}

pub fn frame(to: Mac, from: Mac, protocol: u16, payload: &[u8]) -> Vec<u8> {
    [&to.0[..], &from.0[..], &protocol.to_be_bytes(), payload].concat()
}

pub fn udp_frame(from_mac: Mac, to_mac: Mac, from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), data: &[u8]) -> Vec<u8> {
    let route = Route { from_mac, to_mac, from: from.0.into(), to: to.0.into() };
    packet::udp(route, (from.1, to.1), data, 1500, 0).unwrap().remove(0)
}

pub type Endpoint = (Ipv4Addr, u16);

/// Source, destination and payload of a UDP frame.
pub fn read_udp(frame: &[u8]) -> Option<(Endpoint, Endpoint, Vec<u8>)> {
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    if ethernet.ethertype() != EthernetProtocol::Ipv4 {
        return None;
    }
    let ip = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
    if ip.next_header() != IpProtocol::Udp {
        return None;
    }
    let udp = UdpPacket::new_checked(ip.payload()).ok()?;
    assert!(udp.verify_checksum(&ip.src_addr().into(), &ip.dst_addr().into()) && ip.verify_checksum());
    Some(((ip.src_addr(), udp.src_port()), (ip.dst_addr(), udp.dst_port()), udp.payload().to_vec()))
}

#[derive(Debug, Clone, Copy)]
pub struct Dhcp {
    pub mac: Mac,
    pub kind: DhcpMessageType,
    pub requested: Option<Ipv4Addr>,
    pub server: Option<Ipv4Addr>,
    pub client: Ipv4Addr,
    pub broadcast: bool,
}

impl Dhcp {
    pub fn discover(mac: Mac) -> Self {
        let unspecified = Ipv4Addr::UNSPECIFIED;
        let kind = DhcpMessageType::Discover;
        Self { mac, kind, requested: None, server: None, client: unspecified, broadcast: false }
    }

    pub fn request(mac: Mac, ip: Ipv4Addr) -> Self {
        Self { kind: DhcpMessageType::Request, requested: Some(ip), server: Some(GATEWAY), ..Self::discover(mac) }
    }

    pub fn message(&self) -> Vec<u8> {
        let repr = DhcpRepr {
            message_type: self.kind,
            transaction_id: 0x8686,
            secs: 0,
            client_hardware_address: EthernetAddress(self.mac.0),
            client_ip: self.client,
            your_ip: Ipv4Addr::UNSPECIFIED,
            server_ip: Ipv4Addr::UNSPECIFIED,
            router: None,
            subnet_mask: None,
            relay_agent_ip: Ipv4Addr::UNSPECIFIED,
            broadcast: self.broadcast,
            requested_ip: self.requested,
            client_identifier: None,
            server_identifier: self.server,
            parameter_request_list: None,
            dns_servers: None,
            max_size: None,
            lease_duration: None,
            renew_duration: None,
            rebind_duration: None,
            additional_options: &[],
        };
        let mut message = vec![0; repr.buffer_len()];
        repr.emit(&mut DhcpPacket::new_unchecked(&mut message[..])).unwrap();
        message
    }

    pub fn frame(&self) -> Vec<u8> {
        let to = (Ipv4Addr::BROADCAST, 67);
        udp_frame(self.mac, Mac::BROADCAST, (self.client, 68), to, &self.message())
    }
}

/// The value of an option of a DHCP message.
pub fn dhcp_option(message: &[u8], kind: u8) -> Option<Vec<u8>> {
    let packet = DhcpPacket::new_checked(message).unwrap();
    packet.options().find(|option| option.kind == kind).map(|option| option.data.to_vec())
}

#[derive(Default)]
struct Wire {
    input: VecDeque<Bytes>,
    output: VecDeque<Vec<u8>>,
}

struct In(Bytes);
struct Out<'a>(&'a mut VecDeque<Vec<u8>>);

impl RxToken for In {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Out<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut frame = vec![0; length];
        let result = f(&mut frame);
        self.0.push_back(frame);
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = In;
    type TxToken<'a> = Out<'a>;

    fn receive(&mut self, _: smoltcp::time::Instant) -> Option<(In, Out<'_>)> {
        Some((In(self.input.pop_front()?), Out(&mut self.output)))
    }

    fn transmit(&mut self, _: smoltcp::time::Instant) -> Option<Out<'_>> {
        (self.output.len() < 64).then_some(Out(&mut self.output))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

/// A machine behind a WebSocket.
pub struct Guest {
    pub mac: Mac,
    pub ip: Ipv4Addr,
    pub socket: Socket,
    pub closed: bool,
    /// Frames that are no TCP for this guest, for tests that want them.
    pub seen: Vec<Bytes>,
    interface: Interface,
    sockets: SocketSet<'static>,
    wire: Wire,
    start: std::time::Instant,
    next_port: u16,
}

impl Guest {
    /// Connects and gets an address by DHCP.
    pub async fn join(address: SocketAddr, room: &str, n: u32) -> Guest {
        let mut guest = Guest::attach(connect(address, &format!("/r/{room}")).await, n);
        guest.dhcp().await;
        guest
    }

    pub fn attach(socket: Socket, n: u32) -> Guest {
        let mac = mac(n);
        let mut wire = Wire::default();
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(mac.0)));
        config.random_seed = u64::from(n) + 1;
        let interface = Interface::new(config, &mut wire, smoltcp::time::Instant::ZERO);
        Guest {
            mac,
            ip: Ipv4Addr::UNSPECIFIED,
            socket,
            closed: false,
            seen: Vec::new(),
            interface,
            sockets: SocketSet::new(Vec::new()),
            wire,
            start: std::time::Instant::now(),
            next_port: 40_000,
        }
    }

    pub async fn send(&mut self, frame: Vec<u8>) {
        self.socket.send(Message::Binary(frame.into())).await.unwrap();
    }

    /// Puts a frame before what the stack sends at the next step.
    pub fn queue(&mut self, frame: Vec<u8>) {
        self.wire.output.push_back(frame);
    }

    /// DISCOVER, REQUEST, and the address into the interface.
    pub async fn dhcp(&mut self) {
        let mac = self.mac;
        self.send(Dhcp::discover(mac).frame()).await;
        let offer = self.dhcp_answer().await;
        let ip = DhcpPacket::new_checked(&offer[..]).unwrap().your_ip();
        self.send(Dhcp::request(mac, ip).frame()).await;
        let ack = self.dhcp_answer().await;
        assert_eq!(dhcp_option(&ack, 53), Some(vec![5]));
        self.set_ip(ip);
    }

    pub fn set_ip(&mut self, ip: Ipv4Addr) {
        self.ip = ip;
        self.interface.update_ip_addrs(|addresses| {
            addresses.clear();
            addresses.push(IpCidr::new(ip.into(), 16)).unwrap();
        });
        self.interface.routes_mut().add_default_ipv4_route(GATEWAY).unwrap();
    }

    pub async fn dhcp_answer(&mut self) -> Vec<u8> {
        self.udp_from(67).await.1
    }

    /// The next datagram from this source port: where it came from and its payload.
    pub async fn udp_from(&mut self, port: u16) -> ((Ipv4Addr, u16), Vec<u8>) {
        loop {
            let frame = next_binary(&mut self.socket).await.expect("the connection lives");
            if let Some((from, _, data)) = read_udp(&frame).filter(|(from, ..)| from.1 == port) {
                return (from, data);
            }
            self.wire.input.push_back(frame);
        }
    }

    pub fn open(&mut self, to: impl Into<IpEndpoint>, buffer: usize) -> SocketHandle {
        let storage = || tcp::SocketBuffer::new(vec![0; buffer]);
        let mut socket = tcp::Socket::new(storage(), storage());
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        self.next_port = if self.next_port == u16::MAX { 40_000 } else { self.next_port + 1 };
        socket.connect(self.interface.context(), to.into(), self.next_port).unwrap();
        self.sockets.add(socket)
    }

    pub fn tcp(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    pub fn forget(&mut self, handle: SocketHandle) {
        self.sockets.remove(handle);
    }

    fn now(&self) -> smoltcp::time::Instant {
        smoltcp::time::Instant::from_micros(self.start.elapsed().as_micros() as i64)
    }

    /// Polls the stack and sends what it has to say.
    async fn flush(&mut self) {
        let now = self.now();
        self.interface.poll(now, &mut self.wire, &mut self.sockets);
        let mut sent = false;
        while let Some(frame) = self.wire.output.pop_front() {
            sent = true;
            if self.socket.feed(Message::Binary(frame.into())).await.is_err() {
                self.closed = true;
                return;
            }
        }
        if sent && self.socket.flush().await.is_err() {
            self.closed = true;
        }
    }

    /// Sends what there is to say, waits for a message at most `wait`, takes what is there and answers it.
    pub async fn step(&mut self, wait: Duration) {
        self.flush().await;
        if self.closed {
            return;
        }
        let now = self.now();
        let delay = self.interface.poll_delay(now, &self.sockets).map_or(wait, |d| Duration::from(d).min(wait));
        let Ok(mut message) = tokio::time::timeout(delay, self.socket.next()).await else { return };
        for _ in 0..256 {
            match message {
                Some(Ok(Message::Binary(frame))) => {
                    self.seen.truncate(512);
                    self.seen.insert(0, frame.clone());
                    self.wire.input.push_back(frame);
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => {
                    self.closed = true;
                    return;
                }
                Some(Ok(_)) => {}
            }
            match futures_util::FutureExt::now_or_never(self.socket.next()) {
                Some(next) => message = next,
                None => break,
            }
        }
        self.flush().await;
    }

    /// Steps until `done` says so.
    pub async fn until<T>(&mut self, mut done: impl FnMut(&mut Guest) -> Option<T>) -> T {
        let end = std::time::Instant::now() + PATIENCE;
        loop {
            if let Some(result) = done(self) {
                return result;
            }
            assert!(!self.closed, "the relay closed the connection");
            assert!(std::time::Instant::now() < end, "not in time");
            self.step(Duration::from_millis(200)).await;
        }
    }

    /// Sends `request`, then reads to the end.
    pub async fn exchange(&mut self, to: impl Into<IpEndpoint>, request: &[u8]) -> Vec<u8> {
        let handle = self.open(to, 65_536);
        let (mut sent, mut answer) = (0, Vec::new());
        self.until(|guest| {
            let socket = guest.tcp(handle);
            if socket.can_send() && sent < request.len() {
                sent += socket.send_slice(&request[sent..]).unwrap();
            }
            while socket.can_recv() {
                socket
                    .recv(|data| {
                        answer.extend_from_slice(data);
                        (data.len(), ())
                    })
                    .unwrap();
            }
            let over = !socket.may_recv() && !matches!(socket.state(), tcp::State::SynSent | tcp::State::SynReceived);
            over.then_some(())
        })
        .await;
        self.tcp(handle).close();
        self.until(|guest| (!guest.tcp(handle).may_send() && guest.tcp(handle).send_queue() == 0).then_some(())).await;
        self.step(Duration::from_millis(1)).await;
        self.forget(handle);
        answer
    }
}

/// Bytes that look random and are the same every time (xorshift64*).
pub struct Noise(pub u64);

impl Noise {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

/// FNV-1a over 64 bits.
pub fn checksum(data: &[u8]) -> u64 {
    data.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

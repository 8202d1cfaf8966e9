use super::*;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use tab86_relay::gateway::packet::{Route, udp};
use tab86_relay::gateway::{MAC, ipv6};
use tab86_relay::net::{Datagrams, Stream};
use tab86_relay::switch::Mac;

const OWN: Mac = Mac([2, 0, 0, 0, 0, 9]);
const IP: Ipv4Addr = Ipv4Addr::new(10, 86, 0, 50);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 86, 0, 1);

type Answer<'a, T> = std::pin::Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;

/// Records what it is asked for; the loopback interface only.
#[derive(Default)]
struct Loopback(Mutex<Vec<SocketAddr>>);

impl Dialer for Loopback {
    fn tcp(&self, to: SocketAddr) -> Answer<'_, Box<dyn Stream>> {
        lock(&self.0).push(to);
        Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) })
    }

    fn udp(&self, to: SocketAddr) -> Answer<'_, Box<dyn Datagrams>> {
        lock(&self.0).push(to);
        assert!(to.ip().is_loopback(), "the test stays on this machine");
        SystemDialer.udp(to)
    }

    fn is_own(&self, _: IpAddr) -> bool {
        false
    }
}

impl Resolver for Loopback {
    fn lookup<'a>(&'a self, _: &'a str) -> Answer<'a, Vec<IpAddr>> {
        Box::pin(async { Err(io::ErrorKind::NotFound.into()) })
    }

    fn forward<'a>(&'a self, _: &'a [u8]) -> Answer<'a, Vec<u8>> {
        Box::pin(async { Err(io::ErrorKind::NotFound.into()) })
    }
}

fn user(settings: Settings) -> (User, Receiver<Input>, Arc<Loopback>) {
    let (sender, notices) = channel();
    let outside = Arc::new(Loopback::default());
    let (dialer, resolver) = (Arc::clone(&outside), Arc::clone(&outside));
    (User::with(settings, dialer, resolver, sender).unwrap(), notices, outside)
}

/// The next frame, as the machine gets it: after word of it.
fn next(user: &User, notices: &Receiver<Input>) -> Vec<u8> {
    loop {
        assert!(user.is_up());
        if let Some(frame) = user.receive() {
            return frame;
        }
        assert_eq!(notices.recv_timeout(Duration::from_secs(60)).unwrap(), Input::Network(Notice::Frames));
    }
}

fn arp() -> Vec<u8> {
    let (head, ips) = ([8, 6, 0, 1, 8, 0, 6, 4, 0, 1], (IP.octets(), GATEWAY.octets()));
    [&MAC.0[..], &OWN.0, &head, &OWN.0, &ips.0, &[0; 6], &ips.1].concat()
}

fn datagram(to: Ipv4Addr, port: u16, data: &[u8]) -> Vec<u8> {
    let route = Route { from_mac: OWN, to_mac: MAC, from: IP.into(), to: to.into() };
    udp(route, (999, port), data, 1500, 0).unwrap().remove(0)
}

#[test]
fn the_gateway_answers_and_carries_what_is_allowed() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let allow = vec![format!("127.0.0.1:{port}").parse().unwrap()];
    let (user, notices, outside) = user(Settings { allow, ..Settings::default() });
    user.send(arp());
    assert_eq!(next(&user, &notices)[6..12], MAC.0);
    // A router solicitation from the link-local address: checksum over pseudo-header and message.
    let link = ipv6::link_local(OWN);
    let all_routers: std::net::Ipv6Addr = "ff02::2".parse().unwrap();
    let solicit = Route { from_mac: OWN, to_mac: Mac([0x33, 0x33, 0, 0, 0, 2]), from: link, to: all_routers };
    let mut message = [133, 0, 0, 0, 0, 0, 0, 0];
    let words = [link.segments(), all_routers.segments()].concat();
    let sum = words.iter().map(|word| u32::from(*word)).sum::<u32>() + 8 + 58 + 0x8500;
    let folded = (sum & 0xffff) + (sum >> 16);
    message[2..4].copy_from_slice(&(!((folded & 0xffff) + (folded >> 16)) as u16).to_be_bytes());
    let mut frame = [&solicit.to_mac.0[..], &OWN.0, &[0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, 58, 255]].concat();
    frame.extend_from_slice(&link.octets());
    frame.extend_from_slice(&all_routers.octets());
    frame.extend_from_slice(&message);
    user.send(frame);
    assert_eq!(next(&user, &notices)[54], 134, "a router advertisement");

    user.send(datagram(GATEWAY, port, b"question"));
    let mut buffer = [0; 64];
    let (length, from) = server.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"question");
    server.send_to(b"answer", from).unwrap();
    assert!(next(&user, &notices).ends_with(b"answer"));
    assert_eq!(*lock(&outside.0), [SocketAddr::from(([127, 0, 0, 1], port))]);
}

#[test]
fn what_is_not_public_is_refused_without_being_tried() {
    let (user, notices, outside) = user(Settings::default());
    for to in [GATEWAY, Ipv4Addr::LOCALHOST, Ipv4Addr::new(192, 168, 1, 1), Ipv4Addr::new(169, 254, 169, 254)] {
        user.send(datagram(to, 80, b"x"));
        assert_eq!(next(&user, &notices)[34..36], [3, 13], "administratively prohibited: {to}");
    }
    assert_eq!(*lock(&outside.0), []);
}

#[test]
fn a_machine_that_does_not_look_is_not_flooded() {
    let (user, notices, _) = user(Settings::default());
    for _ in 0..5000 {
        user.send(arp());
    }
    let mut got = 0;
    // The last frame that fits is in the gateway's own queue, behind the machine's.
    while got <= QUEUE {
        assert!(lock(&user.inbox.frames).len() <= QUEUE);
        next(&user, &notices);
        got += 1;
    }
    user.send(vec![0; 1519]);
    user.send(Vec::new());
}

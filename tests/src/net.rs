//! The other end of a guest's network cable: machines in step with one clock, and a tiny gateway.

use emulator_core::machine::{ClockMode, Exit, Machine, MachineConfig, NetworkConfig, NetworkKind};
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// Time between two looks at the cables. Small, because it is the delay of every frame.
const STEP_NS: u64 = 1_000_000;
/// Instructions in that time: 8 ns each.
const STEP_INSTRUCTIONS: u64 = 125_000;
/// The gateway's address, and the first of those that it gives away.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const FIRST: u8 = 15;
const GATEWAY_MAC: [u8; 6] = [0x52, 0x55, 10, 0, 2, 2];
/// MTU that the gateway announces, to see that guests take it over.
pub const MTU: u16 = 1400;

/// The firmware from `cargo xtask setup`, or the system's.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn firmware(name: &str) -> Vec<u8> {
    let places = [super::root().join("build/firmware"), PathBuf::from("/usr/share/seabios")];
    places.iter().find_map(|p| std::fs::read(p.join(name)).ok()).expect("firmware: run `cargo xtask setup`")
}

/// A machine with a network card and nothing to boot. Its clock is the one that [`Guest::step`] passes on: several
/// machines are in step, and every run is the same.
#[must_use]
pub fn config(mac: [u8; 6], kind: NetworkKind) -> MachineConfig {
    MachineConfig {
        memory: 128 << 20,
        cpus: 1,
        bios: firmware("bios-256k.bin"),
        vga_bios: firmware("vgabios-stdvga.bin"),
        clock: ClockMode::Realtime,
        serials: 1,
        network: Some(NetworkConfig { mac, kind }),
        ..MachineConfig::default()
    }
}

/// A running machine and what it said over its serial port.
pub struct Guest {
    /// The machine.
    pub machine: Machine,
    /// Serial output.
    pub said: String,
    typing: Vec<u8>,
    time: u64,
}

impl Guest {
    /// Switches a machine on.
    ///
    /// # Panics
    /// When the configuration is wrong.
    #[must_use]
    pub fn new(config: MachineConfig) -> Self {
        Self { machine: Machine::new(config).expect("a machine"), said: String::new(), typing: Vec::new(), time: 0 }
    }

    /// Lets a millisecond pass.
    ///
    /// # Panics
    /// When the guest stops for good.
    pub fn step(&mut self) {
        let taken = self.machine.serial_send(0, &self.typing);
        self.typing.drain(..taken);
        match self.machine.run(STEP_INSTRUCTIONS, self.time) {
            Exit::Budget | Exit::Halted { dead: false, .. } => {}
            other => panic!("the guest stopped: {other:?}\n{}", self.said),
        }
        self.time += STEP_NS;
        self.said.push_str(&String::from_utf8_lossy(&self.machine.serial_take(0)));
    }

    /// Types a line on the serial terminal.
    pub fn enter(&mut self, line: &str) {
        self.typing.extend(line.bytes().chain([b'\n']));
    }

    /// Frames that the guest has sent.
    pub fn frames(&mut self) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.machine.network_take()).collect()
    }
}

/// Answers DHCP, ARP for its own address, and echo requests.
#[derive(Default)]
pub struct Gateway {
    /// Hardware addresses of DHCPDISCOVERs seen.
    pub discovers: Vec<[u8; 6]>,
    /// Who has an address.
    pub leases: Vec<[u8; 6]>,
    /// Echo requests answered.
    pub echoes: usize,
}

impl Gateway {
    /// The answer to a frame, if it has one.
    pub fn answer(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        match (frame.get(12..14)?, frame.get(23)?) {
            ([8, 6], _) => arp(frame),
            ([8, 0], 17) if frame.get(36..38)? == [0, 67] => self.dhcp(frame),
            ([8, 0], 1) if *frame.get(34)? == 8 && frame.get(30..34)? == GATEWAY.octets() => {
                self.echoes += 1;
                Some(echo(frame))
            }
            _ => None,
        }
    }

    fn dhcp(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        let request = frame.get(42..)?;
        let mac: [u8; 6] = request.get(28..34)?.try_into().ok()?;
        let kind = match option(request.get(240..)?, 53)? {
            [1] => 2,
            [3] => 5,
            _ => return None,
        };
        if kind == 2 {
            self.discovers.push(mac);
        }
        let n = self.leases.iter().position(|m| *m == mac).unwrap_or_else(|| {
            self.leases.push(mac);
            self.leases.len() - 1
        });
        let mut reply = vec![0; 240];
        reply[..3].copy_from_slice(&[2, 1, 6]);
        reply[4..8].copy_from_slice(&request[4..8]);
        reply[16..20].copy_from_slice(&[10, 0, 2, FIRST + n as u8]);
        reply[28..34].copy_from_slice(&mac);
        reply[236..].copy_from_slice(&[99, 130, 83, 99]);
        reply.extend([53, 1, kind]);
        for code in [54, 3, 6] {
            reply.extend([code, 4]);
            reply.extend(GATEWAY.octets());
        }
        reply.extend([1, 4, 255, 255, 255, 0, 51, 4, 0, 1, 0, 0, 26, 2]);
        reply.extend(MTU.to_be_bytes());
        reply.push(255);
        let mut udp = vec![0, 67, 0, 68];
        udp.extend((reply.len() as u16 + 8).to_be_bytes());
        udp.extend([0, 0]);
        udp.extend(reply);
        Some(packet(mac, [255; 4], 17, &udp))
    }
}

fn option(mut options: &[u8], wanted: u8) -> Option<&[u8]> {
    while let [code, length, rest @ ..] = options {
        let (value, rest) = rest.split_at_checked((*length).into())?;
        if *code == wanted {
            return Some(value);
        }
        options = rest;
    }
    None
}

fn arp(frame: &[u8]) -> Option<Vec<u8>> {
    if frame.get(20..22)? != [0, 1] || frame.get(38..42)? != GATEWAY.octets() {
        return None;
    }
    let mut reply = [&frame[6..12], &GATEWAY_MAC, &frame[12..20], &[0, 2]].concat();
    reply.extend(GATEWAY_MAC);
    reply.extend(GATEWAY.octets());
    reply.extend(&frame[22..32]);
    Some(reply)
}

fn echo(frame: &[u8]) -> Vec<u8> {
    let end = 14 + usize::from(u16::from_be_bytes([frame[16], frame[17]]));
    let mut message = frame[34..end.min(frame.len())].to_vec();
    message[0] = 0;
    message[2..4].fill(0);
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum);
    let to = [frame[26], frame[27], frame[28], frame[29]];
    packet([frame[6], frame[7], frame[8], frame[9], frame[10], frame[11]], to, 1, &message)
}

/// An IPv4 packet from the gateway.
fn packet(mac: [u8; 6], to: [u8; 4], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut ip = vec![0x45, 0];
    ip.extend((payload.len() as u16 + 20).to_be_bytes());
    ip.extend([0, 0, 0, 0, 64, protocol, 0, 0]);
    ip.extend(GATEWAY.octets());
    ip.extend(to);
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum);
    [&mac[..], &GATEWAY_MAC, &[8, 0], &ip, payload].concat()
}

fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes.chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(w.get(1).copied().unwrap_or(0)));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    (!((folded & 0xffff) + (folded >> 16)) as u16).to_be_bytes()
}

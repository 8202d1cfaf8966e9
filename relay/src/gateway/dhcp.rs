//! The DHCP server of a room (RFC 2131, options of RFC 2132): one question, at most one answer.

use std::net::Ipv4Addr;
use std::time::Duration;

use smoltcp::wire::{
    DHCP_CLIENT_PORT, DHCP_SERVER_PORT, DhcpMessageType, DhcpOption, DhcpPacket, DhcpRepr, EthernetAddress,
};

use super::bindings::Bindings;
use crate::switch::Mac;

/// Ports of client and server.
pub const PORTS: (u16, u16) = (DHCP_CLIENT_PORT, DHCP_SERVER_PORT);
/// BOOTP clients want messages of at least 300 bytes (RFC 1542, 2.1).
const MIN_MESSAGE: usize = 300;
const OPT_MTU: u8 = 26;
const OPT_BROADCAST: u8 = 28;
const OPT_RENEWAL: u8 = 58;
const OPT_REBINDING: u8 = 59;

/// What the server tells everybody.
#[derive(Debug, Clone, Copy)]
pub struct Server {
    /// Router, name server and DHCP server in one.
    pub gateway: Ipv4Addr,
    /// Option 26.
    pub mtu: u16,
    /// Seconds.
    pub lease: u32,
}

/// What becomes of a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Send this.
    Answer(Answer),
    /// Nothing to say.
    Silent,
    /// Not a DHCP message, or one for somebody else.
    Malformed,
    /// The hardware address inside is not the sender's.
    Spoofed,
    /// No address is left for this client.
    Exhausted,
}

/// A message to the client.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// The UDP payload.
    pub message: Vec<u8>,
    /// Where to: the address given, or broadcast.
    pub to: Ipv4Addr,
    /// Whether this acknowledges a lease.
    pub acknowledged: bool,
}

impl Server {
    /// Handles a client's message.
    pub fn handle(
        &self,
        bindings: &mut Bindings,
        sender: Mac,
        message: &[u8],
        now: Duration,
        live: impl Fn(Mac) -> bool,
    ) -> Outcome {
        let Ok(packet) = DhcpPacket::new_checked(message) else { return Outcome::Malformed };
        let Ok(question) = DhcpRepr::parse(&packet) else { return Outcome::Malformed };
        let mac = Mac(question.client_hardware_address.0);
        if mac != sender {
            return Outcome::Spoofed;
        }
        // A relay agent would need routes that a room does not have.
        if !question.relay_agent_ip.is_unspecified() {
            return Outcome::Malformed;
        }
        let for_us = question.server_identifier.is_none_or(|server| server == self.gateway);
        match question.message_type {
            DhcpMessageType::Discover => match bindings.offer(mac, question.requested_ip, now, live) {
                Some(ip) => self.answer(bindings, &question, DhcpMessageType::Offer, ip),
                None => Outcome::Exhausted,
            },
            DhcpMessageType::Request if for_us => {
                let ip = question.requested_ip.unwrap_or(question.client_ip);
                if bindings.lease(mac, ip, now, live) {
                    self.answer(bindings, &question, DhcpMessageType::Ack, ip)
                } else {
                    self.answer(bindings, &question, DhcpMessageType::Nak, Ipv4Addr::UNSPECIFIED)
                }
            }
            DhcpMessageType::Inform => self.answer(bindings, &question, DhcpMessageType::Ack, Ipv4Addr::UNSPECIFIED),
            DhcpMessageType::Release if for_us => {
                bindings.release(mac, question.client_ip);
                Outcome::Silent
            }
            DhcpMessageType::Decline if for_us => {
                if let Some(ip) = question.requested_ip {
                    bindings.decline(mac, ip, now);
                }
                Outcome::Silent
            }
            DhcpMessageType::Request | DhcpMessageType::Release | DhcpMessageType::Decline => Outcome::Silent,
            _ => Outcome::Malformed,
        }
    }

    fn answer(&self, bindings: &Bindings, question: &DhcpRepr, kind: DhcpMessageType, ip: Ipv4Addr) -> Outcome {
        let nak = kind == DhcpMessageType::Nak;
        let inform = question.message_type == DhcpMessageType::Inform;
        let (mtu, broadcast) = (self.mtu.to_be_bytes(), bindings.broadcast().octets());
        let (renew, rebind) = ((self.lease / 2).to_be_bytes(), (self.lease / 8 * 7).to_be_bytes());
        let options = [
            DhcpOption { kind: OPT_MTU, data: &mtu },
            DhcpOption { kind: OPT_BROADCAST, data: &broadcast },
            DhcpOption { kind: OPT_RENEWAL, data: &renew },
            DhcpOption { kind: OPT_REBINDING, data: &rebind },
        ];
        let count = if nak {
            0
        } else if inform {
            2
        } else {
            4
        };
        let repr = DhcpRepr {
            message_type: kind,
            transaction_id: question.transaction_id,
            secs: 0,
            client_hardware_address: EthernetAddress(question.client_hardware_address.0),
            client_ip: if nak { Ipv4Addr::UNSPECIFIED } else { question.client_ip },
            your_ip: ip,
            server_ip: Ipv4Addr::UNSPECIFIED,
            router: (!nak).then_some(self.gateway),
            subnet_mask: (!nak).then(|| bindings.mask()),
            relay_agent_ip: Ipv4Addr::UNSPECIFIED,
            broadcast: question.broadcast,
            requested_ip: None,
            client_identifier: None,
            server_identifier: Some(self.gateway),
            parameter_request_list: None,
            dns_servers: (!nak).then(|| [self.gateway].into_iter().collect()),
            max_size: None,
            lease_duration: (!nak && !inform).then_some(self.lease),
            renew_duration: None,
            rebind_duration: None,
            additional_options: &options[..count],
        };
        let mut message = vec![0; repr.buffer_len().max(MIN_MESSAGE)];
        if repr.emit(&mut DhcpPacket::new_unchecked(&mut message[..])).is_err() {
            return Outcome::Malformed;
        }
        let to = match (nak || question.broadcast, question.client_ip.is_unspecified()) {
            (true, _) => Ipv4Addr::BROADCAST,
            (false, false) => question.client_ip,
            (false, true) if ip.is_unspecified() => Ipv4Addr::BROADCAST,
            (false, true) => ip,
        };
        Outcome::Answer(Answer { message, to, acknowledged: kind == DhcpMessageType::Ack && !inform })
    }
}

//! Which destinations a guest may reach: public addresses only, unless a rule opens or closes more.
//!
//! The tables are IANA's special-purpose registries (RFC 6890 and its updates) plus metadata services of clouds that
//! live at addresses outside of them. A name is resolved first and each of its addresses is judged here, so a public
//! name with a private address gains nothing.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use serde::Deserialize;

/// Why a destination is refused. The names are the label values of `tab86_relay_refused_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// 127.0.0.0/8 and ::1.
    Loopback,
    /// RFC 1918 networks and unique local IPv6 addresses.
    Private,
    /// 169.254.0.0/16 and fe80::/10, where most metadata services live.
    LinkLocal,
    /// Multicast and broadcast.
    Multicast,
    /// A cloud's metadata service at an address that is otherwise public.
    Metadata,
    /// 100.64.0.0/10, shared by carriers.
    CarrierNat,
    /// Any other address that is not globally reachable.
    Reserved,
    /// An address of the relay's own host or, in IPv6, of its own link.
    OwnHost,
    /// A rule of the operator, or the built-in one against mail (port 25).
    Denied,
}

impl Refusal {
    /// Every reason, in the order of the metric's labels.
    pub const ALL: [Refusal; 9] = [
        Refusal::Loopback,
        Refusal::Private,
        Refusal::LinkLocal,
        Refusal::Multicast,
        Refusal::Metadata,
        Refusal::CarrierNat,
        Refusal::Reserved,
        Refusal::OwnHost,
        Refusal::Denied,
    ];

    /// The label value.
    pub fn name(self) -> &'static str {
        match self {
            Refusal::Loopback => "loopback",
            Refusal::Private => "private",
            Refusal::LinkLocal => "link_local",
            Refusal::Multicast => "multicast",
            Refusal::Metadata => "metadata",
            Refusal::CarrierNat => "carrier_nat",
            Refusal::Reserved => "reserved",
            Refusal::OwnHost => "own_host",
            Refusal::Denied => "denied",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What cannot be read as a network or a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Neither an address nor an address with a prefix length.
    #[error("{0:?} is not an address or a network such as 10.0.0.0/8 or fd00::/8")]
    Network(String),
    /// A port that is not a number or a range.
    #[error("{0:?} is not a port or a range such as 80 or 8000-8999")]
    Port(String),
}

/// A network: an address and the number of leading bits that count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// `None` when the prefix is longer than the address.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        (prefix <= bits).then_some(Self { address, prefix })
    }

    /// The address as written.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The number of leading bits.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether `ip` lies in this network. The two families never match each other.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.address, ip) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                (u32::from(net) ^ u32::from(ip)) & mask == 0
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                (u128::from(net) ^ u128::from(ip)) & mask == 0
            }
            _ => false,
        }
    }
}

impl FromStr for Cidr {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let error = || ParseError::Network(text.to_owned());
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| error())?;
        let full = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => prefix.parse().map_err(|_| error())?,
            None => full,
        };
        Cidr::new(address, prefix).ok_or_else(error)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// A network and the ports it is about: `CIDR`, `CIDR:PORT`, `CIDR:FIRST-LAST`; IPv6 with ports as `[CIDR]:PORT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// The network.
    pub network: Cidr,
    /// First and last port, both included.
    pub ports: (u16, u16),
}

impl Rule {
    /// Whether the rule is about this destination.
    pub fn matches(&self, to: SocketAddr) -> bool {
        self.network.contains(to.ip()) && (self.ports.0..=self.ports.1).contains(&to.port())
    }
}

impl FromStr for Rule {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (network, ports) = if let Some(rest) = text.strip_prefix('[') {
            let (network, rest) = rest.split_once(']').ok_or_else(|| ParseError::Network(text.to_owned()))?;
            match rest {
                "" => (network, None),
                _ => (network, Some(rest.strip_prefix(':').ok_or_else(|| ParseError::Port(rest.to_owned()))?)),
            }
        } else if text.matches(':').count() == 1 {
            let (network, ports) = text.split_once(':').ok_or_else(|| ParseError::Network(text.to_owned()))?;
            (network, Some(ports))
        } else {
            (text, None)
        };
        let ports = match ports {
            None => (0, u16::MAX),
            Some(ports) => {
                let error = || ParseError::Port(ports.to_owned());
                let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
                let range = (first.parse().map_err(|_| error())?, last.parse().map_err(|_| error())?);
                if range.0 > range.1 {
                    return Err(error());
                }
                range
            }
        };
        Ok(Rule { network: network.parse()?, ports })
    }
}

macro_rules! from_text {
    ($type:ty) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
from_text!(Cidr);
from_text!(Rule);

/// An IPv4 address inside IPv6 notation counts as the IPv4 address: a socket would connect there.
pub fn canonical(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

/// Why an address is not a public one, or `None` when it is.
pub fn not_public(ip: IpAddr) -> Option<Refusal> {
    match canonical(ip) {
        IpAddr::V4(ip) => not_public_v4(ip),
        IpAddr::V6(ip) => not_public_v6(ip),
    }
}

fn not_public_v4(ip: Ipv4Addr) -> Option<Refusal> {
    let o = ip.octets();
    let refusal = match o {
        [127, ..] => Refusal::Loopback,
        [10, ..] | [192, 168, ..] => Refusal::Private,
        [172, b, ..] if b & 0xf0 == 16 => Refusal::Private,
        [169, 254, ..] => Refusal::LinkLocal,
        [100, b, ..] if b & 0xc0 == 64 => Refusal::CarrierNat,
        [224..=239, ..] | [255, 255, 255, 255] => Refusal::Multicast,
        // Azure's wire server.
        [168, 63, 129, 16] => Refusal::Metadata,
        // This network, IETF protocols, the three documentation networks, 6to4 anycast, benchmarks, class E.
        [0, ..] | [192, 0, 0 | 2, _] | [198, 51, 100, _] | [203, 0, 113, _] | [192, 88, 99, _] | [198, 18 | 19, ..] => {
            Refusal::Reserved
        }
        [240..=255, ..] => Refusal::Reserved,
        _ => return None,
    };
    Some(refusal)
}

fn not_public_v6(ip: Ipv6Addr) -> Option<Refusal> {
    let s = ip.segments();
    if ip.is_loopback() {
        return Some(Refusal::Loopback);
    }
    match s[0] {
        0xff00..=0xffff => return Some(Refusal::Multicast),
        0xfe80..=0xfebf => return Some(Refusal::LinkLocal),
        0xfc00..=0xfdff => return Some(Refusal::Private),
        _ => {}
    }
    // Only 2000::/3 is allocated for global unicast; NAT64 (64:ff9b::/96) and IPv4-compatible addresses are outside.
    let global = s[0] & 0xe000 == 0x2000;
    // IETF protocols with Teredo (2001::/23), documentation, 6to4 (which hides an IPv4 address).
    let special = match s[0] {
        0x2001 => s[1] < 0x0200 || s[1] == 0x0db8,
        0x2002 => true,
        0x3fff => s[1] < 0x1000,
        _ => false,
    };
    (!global || special).then_some(Refusal::Reserved)
}

/// What a destination got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// A rule names it: reachable even when it is the relay's own host.
    Allowed,
    /// Public. The dialer still refuses the relay's own addresses.
    Public,
}

/// The operator's rules over the built-in ones.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    allow: Vec<Rule>,
    deny: Vec<Rule>,
}

impl Policy {
    /// `deny` wins over `allow`, `allow` wins over what is built in.
    pub fn new(allow: Vec<Rule>, deny: Vec<Rule>) -> Self {
        Self { allow, deny }
    }

    /// Judges one destination.
    pub fn check(&self, to: SocketAddr) -> Result<Verdict, Refusal> {
        let to = SocketAddr::new(canonical(to.ip()), to.port());
        if self.deny.iter().any(|rule| rule.matches(to)) {
            return Err(Refusal::Denied);
        }
        if self.allow.iter().any(|rule| rule.matches(to)) {
            return Ok(Verdict::Allowed);
        }
        if let Some(refusal) = not_public(to.ip()) {
            return Err(refusal);
        }
        // An open relay for mail is the first thing that is abused.
        if to.port() == 25 || to.port() == 0 {
            return Err(Refusal::Denied);
        }
        Ok(Verdict::Public)
    }

    /// Judges an address of which the port is not known yet (an answer of the DNS): refused when no port could do.
    pub fn check_address(&self, ip: IpAddr) -> Result<(), Refusal> {
        let ip = canonical(ip);
        match not_public(ip) {
            Some(refusal) if !self.allow.iter().any(|rule| rule.network.contains(ip)) => Err(refusal),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_that_are_not_public() {
        let table: &[(&str, Refusal)] = &[
            ("0.0.0.0", Refusal::Reserved),
            ("0.1.2.3", Refusal::Reserved),
            ("10.0.0.1", Refusal::Private),
            ("10.255.255.255", Refusal::Private),
            ("100.64.0.1", Refusal::CarrierNat),
            ("100.100.100.200", Refusal::CarrierNat),
            ("100.127.255.255", Refusal::CarrierNat),
            ("127.0.0.1", Refusal::Loopback),
            ("127.255.0.9", Refusal::Loopback),
            ("168.63.129.16", Refusal::Metadata),
            ("169.254.169.254", Refusal::LinkLocal),
            ("169.254.0.1", Refusal::LinkLocal),
            ("172.16.0.1", Refusal::Private),
            ("172.31.255.255", Refusal::Private),
            ("192.0.0.192", Refusal::Reserved),
            ("192.0.2.1", Refusal::Reserved),
            ("192.88.99.1", Refusal::Reserved),
            ("192.168.1.1", Refusal::Private),
            ("198.18.0.1", Refusal::Reserved),
            ("198.19.255.255", Refusal::Reserved),
            ("198.51.100.7", Refusal::Reserved),
            ("203.0.113.7", Refusal::Reserved),
            ("224.0.0.1", Refusal::Multicast),
            ("239.255.255.250", Refusal::Multicast),
            ("240.0.0.1", Refusal::Reserved),
            ("255.255.255.255", Refusal::Multicast),
            ("::", Refusal::Reserved),
            ("::1", Refusal::Loopback),
            ("::127.0.0.1", Refusal::Reserved),
            ("::ffff:127.0.0.1", Refusal::Loopback),
            ("::ffff:10.1.2.3", Refusal::Private),
            ("::ffff:169.254.169.254", Refusal::LinkLocal),
            ("::ffff:0:127.0.0.1", Refusal::Reserved),
            ("64:ff9b::7f00:1", Refusal::Reserved),
            ("64:ff9b:1::1", Refusal::Reserved),
            ("100::1", Refusal::Reserved),
            ("2001::1", Refusal::Reserved),
            ("2001:db8::1", Refusal::Reserved),
            ("2002:7f00:1::1", Refusal::Reserved),
            ("3fff:fff::1", Refusal::Reserved),
            ("4000::1", Refusal::Reserved),
            ("5f00::1", Refusal::Reserved),
            ("fc00::1", Refusal::Private),
            ("fd00:ec2::254", Refusal::Private),
            ("fe80::1", Refusal::LinkLocal),
            ("fec0::1", Refusal::Reserved),
            ("ff02::1", Refusal::Multicast),
        ];
        for (address, expected) in table {
            let ip: IpAddr = address.parse().unwrap();
            assert_eq!(not_public(ip), Some(*expected), "{address}");
            assert_eq!(Policy::default().check(SocketAddr::new(ip, 80)), Err(*expected), "{address}");
        }
    }

    #[test]
    fn public_addresses_at_the_edges_of_the_table() {
        for address in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.1",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.1",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2001:200::1",
            "2606:4700::1111",
            "2a00::1",
            "::ffff:8.8.8.8",
        ] {
            let ip: IpAddr = address.parse().unwrap();
            assert_eq!(not_public(ip), None, "{address}");
            assert_eq!(Policy::default().check(SocketAddr::new(ip, 443)), Ok(Verdict::Public), "{address}");
        }
    }

    #[test]
    fn allow_opens_exactly_what_it_names() {
        let policy = Policy::new(
            vec![
                "127.0.0.1:8000".parse().unwrap(),
                "10.1.0.0/16".parse().unwrap(),
                "[fd00::/8]:80-81".parse().unwrap(),
            ],
            vec!["10.1.9.0/24".parse().unwrap(), "8.8.8.8:53".parse().unwrap()],
        );
        assert_eq!(policy.check(to("127.0.0.1:8000")), Ok(Verdict::Allowed));
        assert_eq!(policy.check(to("[::ffff:127.0.0.1]:8000")), Ok(Verdict::Allowed));
        assert_eq!(policy.check(to("127.0.0.1:8001")), Err(Refusal::Loopback));
        assert_eq!(policy.check(to("127.0.0.2:8000")), Err(Refusal::Loopback));
        assert_eq!(policy.check(to("10.1.2.3:1")), Ok(Verdict::Allowed));
        assert_eq!(policy.check(to("10.1.9.3:1")), Err(Refusal::Denied));
        assert_eq!(policy.check(to("10.2.0.0:1")), Err(Refusal::Private));
        assert_eq!(policy.check(to("[fd12::1]:81")), Ok(Verdict::Allowed));
        assert_eq!(policy.check(to("[fd12::1]:82")), Err(Refusal::Private));
        assert_eq!(policy.check(to("8.8.8.8:53")), Err(Refusal::Denied));
        assert_eq!(policy.check(to("8.8.8.8:443")), Ok(Verdict::Public));
        assert_eq!(policy.check_address("10.1.0.1".parse().unwrap()), Ok(()));
        assert_eq!(policy.check_address("10.2.0.1".parse().unwrap()), Err(Refusal::Private));
    }

    #[test]
    fn mail_is_refused_unless_allowed() {
        assert_eq!(Policy::default().check(to("1.1.1.1:25")), Err(Refusal::Denied));
        let policy = Policy::new(vec!["1.1.1.1:25".parse().unwrap()], vec![]);
        assert_eq!(policy.check(to("1.1.1.1:25")), Ok(Verdict::Allowed));
    }

    #[test]
    fn rules_that_cannot_be_read() {
        for text in
            ["", "10.0.0.0/33", "10.0.0/8", "fd00::/129", "10.0.0.1:x", "10.0.0.1:9-8", "[fd00::1", "[::1]80", "a:1"]
        {
            assert!(text.parse::<Rule>().is_err(), "{text}");
        }
        assert_eq!("::/0".parse::<Cidr>().unwrap().prefix(), 0);
        assert!("0.0.0.0/0".parse::<Cidr>().unwrap().contains("200.1.1.1".parse().unwrap()));
    }
}

//! The gateway's DNS (RFC 1035): reads one question, writes its answer. Addresses come from the relay's own resolver;
//! questions of other types are passed on whole.

use std::net::{IpAddr, Ipv6Addr};

/// Type A.
pub const TYPE_A: u16 = 1;
/// Type AAAA.
pub const TYPE_AAAA: u16 = 28;
const TYPE_PTR: u16 = 12;
const CLASS_IN: u16 = 1;
const HEADER: usize = 12;
/// Seconds that guests may keep an answer: short, because the resolver's cache knows better.
const TTL: u32 = 60;
/// Bytes of the largest answer over UDP without EDNS (RFC 1035, 4.2.1); the gateway's own answers stay below.
const MAX_MESSAGE: usize = 512;

/// Types that are passed on: NS, CNAME, SOA, PTR, HINFO, MX, TXT, SRV, NAPTR, DS, SSHFP, RRSIG, DNSKEY, TLSA, SVCB,
/// HTTPS, CAA. Transfers and ANY are not.
const FORWARDED: [u16; 17] = [2, 5, 6, TYPE_PTR, 13, 15, 16, 33, 35, 43, 44, 46, 48, 52, 64, 65, 257];

/// Response codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rcode {
    /// The answer, maybe an empty one.
    NoError = 0,
    /// The question cannot be read.
    FormErr = 1,
    /// The resolver failed.
    ServFail = 2,
    /// No such name.
    NxDomain = 3,
    /// Not this kind of question.
    NotImp = 4,
    /// Policy.
    Refused = 5,
}

/// The one question of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Identifier of the message.
    pub id: u16,
    /// Recursion desired, repeated in the answer.
    pub recursion: bool,
    /// In lower case with dots, none at the end.
    pub name: String,
    /// The type asked for.
    pub kind: u16,
    /// The question as it came, repeated in the answer (resolvers compare the case of the letters).
    raw: Vec<u8>,
}

/// What to do with a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Query {
    /// Look the addresses up.
    Address(Question),
    /// Pass the message on.
    Forward(Question),
    /// Answer at once with this code.
    Answer(Question, Rcode),
}

fn u16_at(data: &[u8], at: usize) -> Option<u16> {
    data.get(at..)?.first_chunk::<2>().map(|bytes| u16::from_be_bytes(*bytes))
}

/// Reads a query; `None` when it deserves no answer (a response, or no readable question).
pub fn parse(message: &[u8]) -> Option<Query> {
    let flags = u16_at(message, 2)?;
    if flags & 0x8000 != 0 || u16_at(message, 4)? != 1 {
        return None;
    }
    let mut name = String::new();
    let mut at = HEADER;
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        match length {
            0 => break,
            1..=63 => {}
            // A pointer has nothing to point to in the first name of a message.
            _ => return None,
        }
        let label = message.get(at..at + length)?;
        at += length;
        if !name.is_empty() {
            name.push('.');
        }
        for byte in label {
            // Bytes that are no text of a host name cannot be in any name that the resolver knows.
            let readable = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'/' | b'*');
            name.push(if readable { byte.to_ascii_lowercase() as char } else { '?' });
        }
        if name.len() > 253 {
            return None;
        }
    }
    let (kind, class) = (u16_at(message, at)?, u16_at(message, at + 2)?);
    let raw = message.get(HEADER..at + 4)?.to_vec();
    let question = Question { id: u16_at(message, 0)?, recursion: flags & 0x0100 != 0, name, kind, raw };
    if flags & 0x7800 != 0 || class != CLASS_IN {
        return Some(Query::Answer(question, Rcode::NotImp));
    }
    if question.name.contains('?') || question.name.is_empty() && kind == TYPE_A {
        return Some(Query::Answer(question, Rcode::NxDomain));
    }
    Some(match kind {
        TYPE_A | TYPE_AAAA => Query::Address(question),
        TYPE_PTR if is_inside(&question.name) => Query::Answer(question, Rcode::NxDomain),
        kind if FORWARDED.contains(&kind) => Query::Forward(question),
        _ => Query::Answer(question, Rcode::NotImp),
    })
}

/// Names of addresses that are not public belong to the relay's own network and are nobody's business.
fn is_inside(name: &str) -> bool {
    let address = if let Some(reversed) = name.strip_suffix(".in-addr.arpa") {
        let octets: Option<Vec<u8>> = reversed.split('.').rev().map(|octet| octet.parse().ok()).collect();
        octets.and_then(|octets| <[u8; 4]>::try_from(octets).ok()).map(IpAddr::from)
    } else if let Some(reversed) = name.strip_suffix(".ip6.arpa") {
        // Single hexadecimal digits (RFC 3596, 2.5).
        let digit = |label: &str| (label.len() == 1).then(|| u128::from_str_radix(label, 16).ok()).flatten();
        let digits: Option<Vec<u128>> = reversed.split('.').rev().map(digit).collect();
        let whole = digits.filter(|digits| digits.len() == 32);
        whole.map(|digits| Ipv6Addr::from(digits.iter().fold(0, |sum, digit| sum << 4 | digit)).into())
    } else {
        return false;
    };
    address.is_none_or(|ip| crate::policy::not_public(ip).is_some())
}

impl Question {
    /// An answer without records.
    pub fn answer(&self, code: Rcode) -> Vec<u8> {
        self.build(code, &[])
    }

    /// An answer with those addresses that are of the family asked for; an empty one when there are none (the name
    /// exists).
    pub fn addresses(&self, addresses: &[IpAddr]) -> Vec<u8> {
        let records: Vec<Vec<u8>> = addresses
            .iter()
            .filter_map(|address| match address {
                IpAddr::V4(ip) if self.kind == TYPE_A => Some(ip.octets().to_vec()),
                IpAddr::V6(ip) if self.kind == TYPE_AAAA => Some(ip.octets().to_vec()),
                _ => None,
            })
            .collect();
        self.build(Rcode::NoError, &records)
    }

    fn build(&self, code: Rcode, records: &[Vec<u8>]) -> Vec<u8> {
        let length = |data: &Vec<u8>| 12 + data.len();
        let room = (MAX_MESSAGE - HEADER).saturating_sub(self.raw.len());
        let count = records.first().map_or(0, |first| room / length(first)).min(records.len());
        // Response, recursion available.
        let flags = 0x8080 | (u16::from(self.recursion) << 8) | code as u16;
        let mut message = Vec::with_capacity(MAX_MESSAGE);
        for field in [self.id, flags, 1, count as u16, 0, 0] {
            message.extend_from_slice(&field.to_be_bytes());
        }
        message.extend_from_slice(&self.raw);
        for data in &records[..count] {
            // A pointer to the question's name.
            message.extend_from_slice(&[0xc0, HEADER as u8]);
            message.extend_from_slice(&self.kind.to_be_bytes());
            message.extend_from_slice(&CLASS_IN.to_be_bytes());
            message.extend_from_slice(&TTL.to_be_bytes());
            message.extend_from_slice(&(data.len() as u16).to_be_bytes());
            message.extend_from_slice(data);
        }
        message
    }

    /// Whether `message` may be passed back as the answer: a response with the same identifier.
    pub fn matches(&self, message: &[u8]) -> bool {
        message.len() >= HEADER && u16_at(message, 0) == Some(self.id) && message[2] & 0x80 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(name: &str, kind: u16) -> Vec<u8> {
        let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.').filter(|label| !label.is_empty()) {
            message.push(label.len() as u8);
            message.extend_from_slice(label.as_bytes());
        }
        message.push(0);
        message.extend_from_slice(&kind.to_be_bytes());
        message.extend_from_slice(&CLASS_IN.to_be_bytes());
        message
    }

    #[test]
    fn an_address_is_asked_for_and_answered() {
        let Some(Query::Address(question)) = parse(&query("Example.ORG", TYPE_A)) else { panic!() };
        assert_eq!((question.name.as_str(), question.kind, question.id), ("example.org", TYPE_A, 0x1234));
        let ip = IpAddr::from([1, 2, 3, 4]);
        let answer = question.addresses(&[Ipv6Addr::LOCALHOST.into(), ip]);
        assert_eq!(answer[..12], [0x12, 0x34, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        assert_eq!(&answer[12..29], &query("Example.ORG", TYPE_A)[12..], "the case of the letters is kept");
        assert_eq!(answer[answer.len() - 6..], [0, 4, 1, 2, 3, 4]);
        assert!(question.addresses(&[ip; 99]).len() <= 512);
        let Some(Query::Address(six)) = parse(&query("example.org", TYPE_AAAA)) else { panic!() };
        let answer = six.addresses(&[ip, Ipv6Addr::LOCALHOST.into()]);
        assert_eq!(answer[..12], [0x12, 0x34, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        assert_eq!(answer[29..41], [0xc0, 12, 0, 28, 0, 1, 0, 0, 0, 60, 0, 16]);
        assert_eq!(answer[41..], Ipv6Addr::LOCALHOST.octets());
        assert!(six.addresses(&[Ipv6Addr::LOCALHOST.into(); 99]).len() <= 512);
        assert_eq!(six.addresses(&[ip])[6..8], [0, 0], "no address of the family asked for");
        assert!(question.matches(&answer) && !question.matches(&query("a", 1)) && !question.matches(&[0x12, 0x34]));
    }

    #[test]
    fn what_is_passed_on_and_what_is_not() {
        assert!(matches!(parse(&query("example.org", 15)), Some(Query::Forward(_))));
        assert!(matches!(parse(&query("1.1.1.1.in-addr.arpa", 12)), Some(Query::Forward(_))));
        let reversed = |ip: &str| {
            let digits: Vec<String> = format!("{:032x}", u128::from(ip.parse::<Ipv6Addr>().unwrap()))
                .chars()
                .rev()
                .map(String::from)
                .collect();
            format!("{}.ip6.arpa", digits.join("."))
        };
        assert!(matches!(parse(&query(&reversed("2606:4700::1111"), 12)), Some(Query::Forward(_))));
        let (unique_local, mapped) = (reversed("fd00::1"), reversed("::ffff:10.0.0.1"));
        for name in [
            "1.0.0.10.in-addr.arpa",
            "1.0.0.127.in-addr.arpa",
            "x.in-addr.arpa",
            "1.1.1.in-addr.arpa",
            "1.ip6.arpa",
            &unique_local,
            &mapped,
        ] {
            assert!(matches!(parse(&query(name, 12)), Some(Query::Answer(_, Rcode::NxDomain))), "{name}");
        }
        for kind in [0, 251, 252, 255] {
            assert!(matches!(parse(&query("example.org", kind)), Some(Query::Answer(_, Rcode::NotImp))), "{kind}");
        }
        assert!(matches!(parse(&query("a b.org", TYPE_A)), Some(Query::Answer(_, Rcode::NxDomain))));
    }

    #[test]
    fn messages_that_deserve_no_answer() {
        let good = query("example.org", TYPE_A);
        for end in 0..good.len() {
            assert_eq!(parse(&good[..end]), None, "{end}");
        }
        let mut response = good.clone();
        response[2] |= 0x80;
        assert_eq!(parse(&response), None);
        let mut pointer = good.clone();
        pointer[12] = 0xc0;
        assert_eq!(parse(&pointer), None);
        let long = vec!["a".repeat(63); 5].join(".");
        assert_eq!(parse(&query(&long, TYPE_A)), None);
    }
}

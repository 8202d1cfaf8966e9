//! Wisp packets (protocol 2.0, draft 2; version 1 is a part of it). Little-endian: `u8 type, u32 stream, payload`.

use bytes::Bytes;

/// Bytes before the payload.
pub const HEADER: usize = 5;
/// Longest host name of a CONNECT (RFC 1035, 2.3.4).
const MAX_HOST: usize = 253;
const CONNECT: u8 = 1;
const DATA: u8 = 2;
const CONTINUE: u8 = 3;
const CLOSE: u8 = 4;
const INFO: u8 = 5;
const EXT_UDP: u8 = 1;
const EXT_PASSWORD: u8 = 2;

/// Why a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// Not said.
    Unknown = 0x01,
    /// Closed on purpose.
    Voluntary = 0x02,
    /// The network failed.
    Network = 0x03,
    /// Extensions (or a password) do not fit.
    Extensions = 0x04,
    /// CONNECT makes no sense.
    Invalid = 0x41,
    /// No such host, or no way to it.
    Unreachable = 0x42,
    /// The destination did not answer.
    Timeout = 0x43,
    /// The destination said no.
    Refused = 0x44,
    /// Nothing moved for too long.
    TransferTimeout = 0x47,
    /// Policy.
    Blocked = 0x48,
    /// A limit.
    Throttled = 0x49,
}

/// TCP or UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A byte stream.
    Tcp,
    /// Datagrams: one DATA each.
    Udp,
}

/// A packet of a client.
#[derive(Debug, PartialEq, Eq)]
pub enum Packet {
    /// Opens a stream. `to` is `None` when it makes no sense.
    Connect {
        /// Chosen by the client.
        stream: u32,
        /// Kind, host and port.
        to: Option<(Kind, String, u16)>,
    },
    /// Bytes of a stream.
    Data {
        /// Which stream.
        stream: u32,
        /// The bytes.
        data: Bytes,
    },
    /// Ends a stream.
    Close {
        /// Which stream.
        stream: u32,
    },
    /// The client's version and extensions.
    Info {
        /// Major version.
        major: u8,
        /// The password, when the extension is there.
        password: Option<Vec<u8>>,
    },
    /// To be ignored.
    Other,
}

/// Reads a packet; `None` when it is broken.
pub fn parse(message: &Bytes) -> Option<Packet> {
    let [kind, s0, s1, s2, s3] = *message.first_chunk::<HEADER>()?;
    let stream = u32::from_le_bytes([s0, s1, s2, s3]);
    let payload = message.slice(HEADER..);
    Some(match kind {
        CONNECT => Packet::Connect { stream, to: connect(&payload) },
        DATA => Packet::Data { stream, data: payload },
        CLOSE => Packet::Close { stream },
        INFO => info(&payload)?,
        _ => Packet::Other,
    })
}

fn connect(payload: &[u8]) -> Option<(Kind, String, u16)> {
    let ([kind, p0, p1], host) = payload.split_first_chunk::<3>()?;
    let kind = match kind {
        1 => Kind::Tcp,
        2 => Kind::Udp,
        _ => return None,
    };
    let host = std::str::from_utf8(host).ok()?;
    // Some clients write IPv6 addresses in brackets.
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port = u16::from_le_bytes([*p0, *p1]);
    let readable = host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':'));
    (port != 0 && (1..=MAX_HOST).contains(&host.len()) && readable).then(|| (kind, host.to_ascii_lowercase(), port))
}

fn info(payload: &[u8]) -> Option<Packet> {
    let ([major, _minor], mut extensions) = payload.split_first_chunk::<2>()?;
    let mut password = None;
    while let Some(([id, l0, l1, l2, l3], rest)) = extensions.split_first_chunk::<5>() {
        let length = usize::try_from(u32::from_le_bytes([*l0, *l1, *l2, *l3])).ok()?;
        let data = rest.get(..length)?;
        extensions = &rest[length..];
        if *id == EXT_PASSWORD {
            let ([user, p0, p1], text) = data.split_first_chunk::<3>()?;
            let start = usize::from(*user);
            password = Some(text.get(start..start + usize::from(u16::from_le_bytes([*p0, *p1])))?.to_vec());
        }
    }
    Some(Packet::Info { major: *major, password })
}

fn build(kind: u8, stream: u32, payload: &[u8]) -> Bytes {
    let mut packet = Vec::with_capacity(HEADER + payload.len());
    packet.push(kind);
    packet.extend_from_slice(&stream.to_le_bytes());
    packet.extend_from_slice(payload);
    packet.into()
}

/// Bytes of a stream to the client.
pub fn data(stream: u32, data: &[u8]) -> Bytes {
    build(DATA, stream, data)
}

/// How many packets the client may send.
pub fn window(stream: u32, packets: u32) -> Bytes {
    build(CONTINUE, stream, &packets.to_le_bytes())
}

/// The end of a stream.
pub fn close(stream: u32, reason: Reason) -> Bytes {
    build(CLOSE, stream, &[reason as u8])
}

/// The relay's version and extensions: UDP, and a password when one is needed.
pub fn server_info(password: bool) -> Bytes {
    let mut payload = vec![2, 0, EXT_UDP, 0, 0, 0, 0];
    if password {
        payload.extend_from_slice(&[EXT_PASSWORD, 0, 0, 0, 0]);
    }
    build(INFO, 0, &payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Option<Packet> {
        parse(&Bytes::copy_from_slice(bytes))
    }

    #[test]
    fn packets_of_a_client() {
        let connect = [&[1, 7, 0, 0, 0, 1, 80, 0][..], b"Example.org"].concat();
        let to = Some((Kind::Tcp, "example.org".to_owned(), 80));
        assert_eq!(read(&connect), Some(Packet::Connect { stream: 7, to }));
        let v6 = [&[1, 7, 0, 0, 0, 2, 53, 0][..], b"[2001:db8::1]"].concat();
        let to = Some((Kind::Udp, "2001:db8::1".to_owned(), 53));
        assert_eq!(read(&v6), Some(Packet::Connect { stream: 7, to }));
        assert_eq!(
            read(&[2, 1, 2, 3, 4, 9]),
            Some(Packet::Data { stream: 0x0403_0201, data: Bytes::from_static(&[9]) })
        );
        assert_eq!(read(&[4, 1, 0, 0, 0, 2]), Some(Packet::Close { stream: 1 }));
        assert_eq!(read(&[0x77, 1, 0, 0, 0]), Some(Packet::Other));
        let password = [5, 0, 0, 0, 0, 2, 0, 1, 0, 0, 0, 0, 2, 6, 0, 0, 0, 1, 2, 0, b'u', b'p', b'w'];
        assert_eq!(read(&password), Some(Packet::Info { major: 2, password: Some(b"pw".to_vec()) }));
    }

    #[test]
    fn what_makes_no_sense() {
        assert_eq!(read(&[1, 0, 0, 0]), None);
        assert_eq!(read(&[5, 0, 0, 0, 0, 2]), None);
        assert_eq!(read(&[5, 0, 0, 0, 0, 2, 0, 2, 0xff, 0xff, 0xff, 0xff]), None);
        for payload in
            [&[][..], &[1, 80], &[1, 80, 0], &[3, 80, 0, b'a'], &[1, 0, 0, b'a'], &[1, 80, 0, 0xff], &[1, 80, 0, b' ']]
        {
            let packet = [&[1, 7, 0, 0, 0], payload].concat();
            assert_eq!(read(&packet), Some(Packet::Connect { stream: 7, to: None }), "{payload:?}");
        }
    }
}

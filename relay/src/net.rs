//! The outside world behind two traits, so that tests can stand in for it.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;

/// A byte stream to a destination.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Datagrams to and from one destination.
pub trait Datagrams: Send + Sync {
    /// Sends one.
    fn send<'a>(&'a self, data: &'a [u8]) -> BoxFuture<'a, io::Result<()>>;
    /// Receives one.
    fn recv(&self) -> BoxFuture<'_, io::Result<Bytes>>;
}

/// Opens sockets. It is asked only for destinations that the policy lets through.
pub trait Dialer: Send + Sync {
    /// Connects.
    fn tcp(&self, to: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Stream>>>;
    /// Opens a socket that talks to `to` only.
    fn udp(&self, to: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Datagrams>>>;
    /// Whether an address is one of this host's own or, in IPv6, of its link: there neighbours have public addresses too.
    fn is_own(&self, ip: IpAddr) -> bool;
    /// Whether packets to an address could leave this host at all.
    fn has_route(&self, ip: IpAddr) -> bool {
        let _ = ip;
        true
    }
}

/// Resolves names.
pub trait Resolver: Send + Sync {
    /// The addresses of a host.
    fn lookup<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;
    /// Passes a whole DNS message on and returns the answer.
    fn forward<'a>(&'a self, query: &'a [u8]) -> BoxFuture<'a, io::Result<Vec<u8>>>;
}

thread_local! {
    /// Room for the largest datagram: one for each thread and not one for each of thousands of sockets.
    static DATAGRAM: RefCell<Vec<u8>> = RefCell::new(vec![0; usize::from(u16::MAX)]);
}

/// The host's sockets.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemDialer;

fn any(to: SocketAddr) -> SocketAddr {
    match to {
        SocketAddr::V4(_) => SocketAddr::from(([0, 0, 0, 0], 0)),
        SocketAddr::V6(_) => SocketAddr::from(([0u16; 8], 0)),
    }
}

impl Datagrams for UdpSocket {
    fn send<'a>(&'a self, data: &'a [u8]) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(async move { UdpSocket::send(self, data).await.map(|_| ()) })
    }

    fn recv(&self) -> BoxFuture<'_, io::Result<Bytes>> {
        Box::pin(async move {
            loop {
                self.readable().await?;
                let received = DATAGRAM.with_borrow_mut(|buffer| {
                    let length = self.try_recv(buffer)?;
                    Ok(Bytes::copy_from_slice(&buffer[..length]))
                });
                match received {
                    Err(error) if io::Error::kind(&error) == io::ErrorKind::WouldBlock => {}
                    received => return received,
                }
            }
        })
    }
}

impl Dialer for SystemDialer {
    fn tcp(&self, to: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let stream = TcpStream::connect(to).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }

    fn udp(&self, to: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Datagrams>>> {
        Box::pin(async move {
            let socket = UdpSocket::bind(any(to)).await?;
            socket.connect(to).await?;
            Ok(Box::new(socket) as Box<dyn Datagrams>)
        })
    }

    fn is_own(&self, ip: IpAddr) -> bool {
        source(ip).is_some_and(|source| is_near(source, ip))
    }

    fn has_route(&self, ip: IpAddr) -> bool {
        source(ip).is_some()
    }
}

/// The address that this host would send from. Connecting a UDP socket sends nothing, but makes the kernel choose it:
/// towards an address of its own it chooses that very address, and towards a neighbour one of the same network.
fn source(ip: IpAddr) -> Option<IpAddr> {
    let to = SocketAddr::new(ip, 9);
    let socket = std::net::UdpSocket::bind(any(to)).ok()?;
    socket.connect(to).ok()?;
    socket.local_addr().ok().map(|source| source.ip())
}

/// The same host or, in IPv6, the same link, which has 64 bits of prefix (RFC 7421).
fn is_near(source: IpAddr, ip: IpAddr) -> bool {
    match (source, ip) {
        (IpAddr::V6(source), IpAddr::V6(ip)) => source.octets()[..8] == ip.octets()[..8],
        _ => source == ip,
    }
}

/// The host's resolver for addresses, and its name servers for all other questions.
#[derive(Debug, Clone)]
pub struct SystemResolver {
    servers: Vec<SocketAddr>,
    lookups: Arc<Semaphore>,
}

/// Lookups at a time: each keeps a thread of tokio's pool for blocking work (512), which files need too.
const LOOKUPS: usize = 256;

impl SystemResolver {
    /// Reads the name servers from a file in the form of `resolv.conf(5)`; none when there is no such file.
    pub fn from_file(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        Self { servers: name_servers(&text), lookups: Arc::new(Semaphore::new(LOOKUPS)) }
    }
}

fn name_servers(text: &str) -> Vec<SocketAddr> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .filter_map(|address| address.trim().parse::<IpAddr>().ok())
        .map(|address| SocketAddr::new(address, 53))
        .take(3)
        .collect()
}

impl Resolver for SystemResolver {
    fn lookup<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        let host = host.to_owned();
        Box::pin(async move {
            let permit = Arc::clone(&self.lookups).acquire_owned().await.map_err(io::Error::other)?;
            let found = tokio::task::spawn_blocking(move || {
                // Kept by the thread: the caller may have given up long before.
                let _permit = permit;
                (host.as_str(), 0u16).to_socket_addrs()
            });
            let mut addresses: Vec<IpAddr> = found.await.map_err(io::Error::other)??.map(|a| a.ip()).collect();
            addresses.dedup();
            Ok(addresses)
        })
    }

    fn forward<'a>(&'a self, query: &'a [u8]) -> BoxFuture<'a, io::Result<Vec<u8>>> {
        Box::pin(async move {
            let mut last = io::Error::new(io::ErrorKind::NotFound, "this host has no name server");
            for server in &self.servers {
                match ask(*server, query).await {
                    Ok(answer) => return Ok(answer),
                    Err(error) => last = error,
                }
            }
            Err(last)
        })
    }
}

/// One question under an identifier of our own, so that a guest cannot prepare forged answers.
async fn ask(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut query = query.to_vec();
    let id = random::<2>();
    let original: [u8; 2] = match query.first_chunk_mut::<2>() {
        Some(field) => std::mem::replace(field, id),
        None => return Err(io::ErrorKind::InvalidInput.into()),
    };
    let socket = UdpSocket::bind(any(server)).await?;
    socket.connect(server).await?;
    UdpSocket::send(&socket, &query).await?;
    let mut answer = vec![0; 4096];
    tokio::time::timeout(Duration::from_secs(3), async {
        loop {
            let length = UdpSocket::recv(&socket, &mut answer).await?;
            if length >= 12 && answer[..2] == id {
                answer.truncate(length);
                answer[..2].copy_from_slice(&original);
                return Ok(answer);
            }
        }
    })
    .await?
}

/// Random bytes. Without a source of them the clock has to do: nothing secret depends on it.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if getrandom::fill(&mut bytes).is_err() {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos();
        bytes.iter_mut().zip(now.to_le_bytes()).for_each(|(byte, value)| *byte = value);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_of_resolv_conf() {
        let servers = name_servers("# c\nsearch x\nnameserver 10.0.0.1\n  nameserver\t::1 \nnameserver bad\n");
        assert_eq!(servers, ["10.0.0.1:53".parse().unwrap(), "[::1]:53".parse().unwrap()]);
    }

    #[test]
    fn own_addresses_are_recognised_without_a_packet() {
        assert!(SystemDialer.is_own("127.0.0.1".parse().unwrap()));
        assert!(!SystemDialer.is_own("192.0.2.1".parse().unwrap()));
        assert!(SystemDialer.has_route("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn the_own_link_of_ipv6_is_the_own_64_bits() {
        let near = |a: &str, b: &str| is_near(a.parse().unwrap(), b.parse().unwrap());
        assert!(near("2001:200::1", "2001:200::1") && near("2001:200::1", "2001:200:0:0:ffff::9"));
        assert!(!near("2001:200::1", "2001:200:0:1::1") && !near("192.0.2.1", "192.0.2.2"));
    }

    #[tokio::test]
    async fn a_question_goes_out_under_another_identifier() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut buffer = [0; 64];
            let (length, from) = server.recv_from(&mut buffer).await.unwrap();
            server.send_to(&[0xff; 20], from).await.unwrap();
            server.send_to(&buffer[..length], from).await.unwrap();
        });
        let query: Vec<u8> = (1..=20).collect();
        assert_eq!(ask(address, &query).await.unwrap(), query);
        task.await.unwrap();
    }
}

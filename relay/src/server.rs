//! Listening, TLS, limits on connections, and stopping.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::client::stopped;
use crate::config::Settings;
use crate::http::{self, Site};
use crate::net::{Dialer, Resolver};
use crate::port::lock;
use crate::room::Rooms;
use crate::shared::Shared;

/// Why the relay does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The certificate or the key cannot be used.
    #[error("TLS: {0}")]
    Tls(String),
    /// The TAP interface cannot be opened.
    #[error("TAP interface {name}: {reason}")]
    Tap {
        /// Its name.
        name: String,
        /// Why.
        reason: String,
    },
    /// The site is not a directory.
    #[error("{0} is not a directory")]
    Site(std::path::PathBuf),
}

/// How many connections each address has.
pub struct Places {
    shared: Arc<Shared>,
    by_ip: Mutex<HashMap<IpAddr, Address>>,
}

/// What an address has.
struct Address {
    connections: usize,
    flows: Arc<Semaphore>,
}

/// One connection of an address.
pub struct Place {
    places: Arc<Places>,
    ip: IpAddr,
}

/// An IPv6 customer has at least a /64: that counts as one address.
fn bucket(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from(u128::from(ip) & (u128::MAX << 64)).into(),
        ip => ip,
    }
}

impl Places {
    /// No connections yet.
    pub fn new(shared: Arc<Shared>) -> Arc<Places> {
        Arc::new(Places { shared, by_ip: Mutex::default() })
    }

    /// A place for a connection from `ip`, unless it has too many.
    pub fn take(self: &Arc<Self>, ip: IpAddr) -> Option<Place> {
        let ip = bucket(ip);
        let mut by_ip = lock(&self.by_ip);
        let limits = &self.shared.settings.limits;
        let flows = || Arc::new(Semaphore::new(limits.flows_per_ip.min(Semaphore::MAX_PERMITS)));
        let address = by_ip.entry(ip).or_insert_with(|| Address { connections: 0, flows: flows() });
        if address.connections >= limits.max_connections_per_ip {
            self.shared.metrics.limit_address.inc();
            return None;
        }
        address.connections += 1;
        Some(Place { places: Arc::clone(self), ip })
    }

    /// The places for flows of an address that has a connection.
    pub fn flows(&self, ip: IpAddr) -> Option<Arc<Semaphore>> {
        lock(&self.by_ip).get(&bucket(ip)).map(|address| Arc::clone(&address.flows))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_ip = lock(&self.places.by_ip);
        if let Some(address) = by_ip.get_mut(&self.ip) {
            address.connections -= 1;
            if address.connections == 0 {
                by_ip.remove(&self.ip);
            }
        }
    }
}

/// A relay that runs.
pub struct Running {
    /// Where it listens; a port 0 of the settings is a real one here.
    pub addresses: Vec<SocketAddr>,
    /// Settings and counters.
    pub shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    ended: mpsc::Receiver<()>,
}

impl Running {
    /// Stops: no new connections, a close frame to every client, then at most `shutdown-grace` for them to go.
    pub async fn stop(mut self) {
        let _ = self.stop.send(true);
        let grace = Duration::from_secs(self.shared.settings.limits.shutdown_grace);
        // Nothing is ever sent: this ends when the last session has dropped its end.
        let _ = tokio::time::timeout(grace, self.ended.recv()).await;
    }
}

/// Starts a relay in the current tokio runtime.
pub async fn start(
    settings: Settings,
    dialer: Arc<dyn Dialer>,
    resolver: Arc<dyn Resolver>,
) -> Result<Running, StartError> {
    if let Some(site) = settings.site.as_ref().filter(|site| !site.is_dir()) {
        return Err(StartError::Site(site.clone()));
    }
    let tls = settings.tls.as_ref().map(|(cert, key)| acceptor(cert, key)).transpose()?;
    let shared = Arc::new(Shared::new(settings, dialer, resolver));
    let rooms = Rooms::new(Arc::clone(&shared));
    tokio::spawn(Rooms::advertise(Arc::downgrade(&rooms)));
    let (stop, shutdown) = watch::channel(false);
    let (alive, ended) = mpsc::channel(1);
    let mut listeners = Vec::new();
    for address in &shared.settings.listen {
        let error = |source| StartError::Listen { address: *address, source };
        listeners.push(TcpListener::bind(address).await.map_err(error)?);
    }
    if let Some(name) = &shared.settings.tap {
        crate::tap::start(name, &rooms, &shared, shutdown.clone(), alive.clone())
            .map_err(|reason| StartError::Tap { name: name.clone(), reason })?;
    }
    let local_only = addresses_local(&shared.settings);
    let site = Arc::new(Site {
        shared: Arc::clone(&shared),
        rooms,
        places: Places::new(Arc::clone(&shared)),
        shutdown,
        alive,
        tls: tls.is_some(),
        local_only,
    });
    let limit = Arc::new(Semaphore::new(shared.settings.limits.max_connections.min(Semaphore::MAX_PERMITS)));
    let mut addresses = Vec::new();
    for listener in listeners {
        if let Ok(address) = listener.local_addr() {
            tracing::info!(%address, tls = tls.is_some(), "listening");
            addresses.push(address);
        }
        tokio::spawn(accept(listener, Arc::clone(&site), Arc::clone(&limit), tls.clone()));
    }
    Ok(Running { addresses, shared, stop, ended })
}

/// Nobody but this host can connect, and no proxy stands before it.
fn addresses_local(settings: &Settings) -> bool {
    settings.trusted_proxies.is_empty() && settings.listen.iter().all(|address| address.ip().is_loopback())
}

fn acceptor(cert: &Path, key: &Path) -> Result<TlsAcceptor, StartError> {
    let error = |path: &Path, e: &dyn std::fmt::Display| StartError::Tls(format!("{}: {e}", path.display()));
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(cert).map_err(|e| error(cert, &e))?.collect();
    let chain = chain.map_err(|e| error(cert, &e))?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|e| error(key, &e))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| StartError::Tls(e.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(|e| error(cert, &e))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn accept(listener: TcpListener, site: Arc<Site>, limit: Arc<Semaphore>, tls: Option<TlsAcceptor>) {
    let mut shutdown = site.shutdown.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut shutdown) => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: some will come back.
                tracing::warn!(%error, "accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&limit).try_acquire_owned() else {
            site.shared.metrics.limit_connections.inc();
            continue;
        };
        let ip = peer.ip().to_canonical();
        // A proxy's connections are counted for whom they are made.
        let proxy = site.shared.settings.trusted_proxies.iter().any(|cidr| cidr.contains(ip));
        let place = if proxy { None } else { site.places.take(ip) };
        if place.is_none() && !proxy {
            continue;
        }
        let (site, tls) = (Arc::clone(&site), tls.clone());
        let open = Open::new(Arc::clone(&site.shared));
        tokio::spawn(async move {
            connection(stream, ip, &site, tls, Box::new((permit, place, open))).await;
        });
    }
}

async fn connection(stream: TcpStream, ip: IpAddr, site: &Arc<Site>, tls: Option<TlsAcceptor>, place: Box<dyn Send>) {
    let _ = stream.set_nodelay(true);
    match tls {
        None => serve(stream, ip, site, place).await,
        Some(tls) => match tokio::time::timeout(site.shared.settings.limits.handshake(), tls.accept(stream)).await {
            Ok(Ok(stream)) => serve(stream, ip, site, place).await,
            Ok(Err(error)) => tracing::debug!(%ip, %error, "TLS handshake"),
            Err(_) => tracing::debug!(%ip, "TLS handshake timed out"),
        },
    }
}

/// Counts a connection as long as it is open.
struct Open(Arc<Shared>);

impl Open {
    fn new(shared: Arc<Shared>) -> Self {
        shared.metrics.http_connections.inc();
        Self(shared)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.metrics.http_connections.dec();
    }
}

/// A connection with what it holds: after an upgrade the session owns the stream, and so the place. A peer that takes
/// nothing for `patience` breaks it off.
struct Held<S> {
    stream: S,
    patience: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
    _place: Box<dyn Send>,
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    ip: IpAddr,
    site: &Arc<Site>,
    place: Box<dyn Send>,
) {
    let service = service_fn(|request| {
        let site = Arc::clone(site);
        async move { Ok::<_, Infallible>(http::handle(site, ip, request).await) }
    });
    // A session that knows better why (a slow reader) is a little faster.
    let patience = Duration::from_secs(site.shared.settings.limits.write_timeout) + Duration::from_secs(1);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(site.shared.settings.limits.handshake())
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(Held { stream, patience, stalled: None, _place: place }), service)
        .with_upgrades();
    tokio::pin!(connection);
    let mut shutdown = site.shutdown.clone();
    let result = tokio::select! {
        result = &mut connection => result,
        () = stopped(&mut shutdown) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%ip, %error, "HTTP connection");
    }
}

mod held {
    use std::future::Future;
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    use super::Held;

    impl<S> Held<S> {
        /// Gives the peer time as long as nothing can be written.
        fn watch<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
            if result.is_ready() {
                self.stalled = None;
                return result;
            }
            let patience = self.patience;
            let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
            match stalled.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
                Poll::Pending => Poll::Pending,
            }
        }
    }

    impl<S: AsyncRead + Unpin> AsyncRead for Held<S> {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_read(cx, buf)
        }
    }

    impl<S: AsyncWrite + Unpin> AsyncWrite for Held<S> {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            let result = Pin::new(&mut self.stream).poll_write(cx, buf);
            self.watch(cx, result)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            let result = Pin::new(&mut self.stream).poll_flush(cx);
            self.watch(cx, result)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_shutdown(cx)
        }
    }
}

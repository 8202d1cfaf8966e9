//! What all parts of a running relay share: settings, counters, the outside world and the one way into it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Settings;
use crate::metrics::Metrics;
use crate::net::{Datagrams, Dialer, Resolver, Stream};
use crate::policy::{Policy, Refusal, Verdict};

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The policy says no.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// Nothing answered in time.
    #[error("timed out")]
    Timeout,
    /// The name has no address.
    #[error("no such host")]
    NoSuchHost,
    /// The destination or the way to it says no.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Shared by every room and connection.
pub struct Shared {
    /// The settings.
    pub settings: Settings,
    /// The counters.
    pub metrics: Metrics,
    /// What may be reached.
    pub policy: Policy,
    dialer: Arc<dyn Dialer>,
    resolver: Arc<dyn Resolver>,
    flows: Arc<Semaphore>,
    start: Instant,
}

impl Shared {
    /// Puts the parts together.
    pub fn new(settings: Settings, dialer: Arc<dyn Dialer>, resolver: Arc<dyn Resolver>) -> Self {
        let policy = Policy::new(settings.allow.clone(), settings.deny.clone());
        let flows = Arc::new(Semaphore::new(settings.limits.flows_total.min(Semaphore::MAX_PERMITS)));
        Self { settings, metrics: Metrics::default(), policy, dialer, resolver, flows, start: Instant::now() }
    }

    /// Time since the start.
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// A place among the flows of an address and among all flows, until the permits are dropped.
    pub fn flow(&self, address: &Arc<Semaphore>) -> Option<[OwnedSemaphorePermit; 2]> {
        let Ok(own) = Arc::clone(address).try_acquire_owned() else {
            self.metrics.limit_flows_address.inc();
            return None;
        };
        let Ok(all) = Arc::clone(&self.flows).try_acquire_owned() else {
            self.metrics.limit_flows.inc();
            return None;
        };
        Some([own, all])
    }

    /// Judges a destination and counts it when it is refused. Sends nothing.
    pub fn permit(&self, to: SocketAddr) -> Result<(), Refusal> {
        let to = SocketAddr::new(to.ip().to_canonical(), to.port());
        let verdict = match self.policy.check(to) {
            Ok(Verdict::Public) if self.dialer.is_own(to.ip()) => Err(Refusal::OwnHost),
            Ok(_) => Ok(()),
            Err(refusal) => Err(refusal),
        };
        if let Err(reason) = verdict {
            self.metrics.refused(reason);
            tracing::debug!(%to, %reason, "destination refused");
        }
        verdict
    }

    /// Whether it makes sense to tell a guest this address of a name. Hosts without IPv6 are many, and programs try that
    /// first; an IPv4 address that cannot be reached has no alternative.
    pub fn reachable(&self, ip: IpAddr) -> bool {
        ip.is_ipv4() || self.dialer.has_route(ip)
    }

    /// Connects to a destination that the policy permits.
    pub async fn tcp(&self, to: SocketAddr) -> Result<Box<dyn Stream>, ConnectError> {
        let to = SocketAddr::new(to.ip().to_canonical(), to.port());
        self.permit(to).map_err(ConnectError::Refused)?;
        let connect = self.dialer.tcp(to);
        Ok(tokio::time::timeout(self.settings.limits.connect(), connect).await.map_err(|_| ConnectError::Timeout)??)
    }

    /// Opens datagrams to a destination that the policy permits.
    pub async fn udp(&self, to: SocketAddr) -> Result<Box<dyn Datagrams>, ConnectError> {
        let to = SocketAddr::new(to.ip().to_canonical(), to.port());
        self.permit(to).map_err(ConnectError::Refused)?;
        let open = self.dialer.udp(to);
        Ok(tokio::time::timeout(self.settings.limits.connect(), open).await.map_err(|_| ConnectError::Timeout)??)
    }

    /// The addresses of a host that the policy could permit. All refused is a refusal; none is `NoSuchHost`.
    pub async fn lookup(&self, host: &str) -> Result<Vec<IpAddr>, ConnectError> {
        let lookup = self.resolver.lookup(host);
        let found = tokio::time::timeout(self.settings.limits.connect(), lookup).await;
        let found = found.map_err(|_| ConnectError::Timeout)??;
        let mut refused = None;
        let mut permitted = Vec::new();
        for ip in found.into_iter().take(16) {
            match self.policy.check_address(ip) {
                Ok(()) => permitted.push(ip.to_canonical()),
                Err(reason) => refused = Some(reason),
            }
        }
        match (permitted.is_empty(), refused) {
            (false, _) => Ok(permitted),
            (true, Some(reason)) => {
                self.metrics.refused(reason);
                tracing::debug!(host, %reason, "name refused");
                Err(ConnectError::Refused(reason))
            }
            (true, None) => Err(ConnectError::NoSuchHost),
        }
    }

    /// Passes a DNS message on.
    pub async fn forward(&self, query: &[u8]) -> Result<Vec<u8>, ConnectError> {
        let forward = self.resolver.forward(query);
        Ok(tokio::time::timeout(self.settings.limits.connect(), forward).await.map_err(|_| ConnectError::Timeout)??)
    }
}

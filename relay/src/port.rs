//! A client's place in a room: its queue, its caps and its rates.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore, mpsc};

use crate::config::Limits;
use crate::rate::Bucket;
use crate::shared::Shared;
use crate::switch::PortId;

/// DNS questions of a client at a time.
const DNS_AT_A_TIME: usize = 16;

/// Locks; a panic elsewhere does not make the data worse.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A client as the room and the gateway see it.
pub struct Port {
    /// Its number in the switch.
    pub id: PortId,
    /// Frames that wait for the client, a bounded number. The queue closes when the client leaves.
    pub queue: mpsc::Sender<Bytes>,
    /// TCP connections left.
    pub tcp: Arc<Semaphore>,
    /// UDP associations left.
    pub udp: Arc<Semaphore>,
    /// Flows left of all clients of its address.
    pub flows: Arc<Semaphore>,
    /// DNS questions left at this moment.
    pub dns: Arc<Semaphore>,
    /// New connections.
    pub connect_rate: Mutex<Bucket>,
    /// DNS questions.
    pub dns_rate: Mutex<Bucket>,
    /// Frames to everybody.
    pub flood_rate: Mutex<Bucket>,
    /// Asks the session for a ping now.
    pub ping: Notify,
}

impl Port {
    /// A port and the receiving end of its queue.
    pub fn new(id: PortId, limits: &Limits, flows: Arc<Semaphore>) -> (Arc<Port>, mpsc::Receiver<Bytes>) {
        let (queue, receiver) = mpsc::channel(limits.queue);
        let places = |n: usize| Arc::new(Semaphore::new(n.min(Semaphore::MAX_PERMITS)));
        let bucket = |rate: u64, burst: u64| Mutex::new(Bucket::new(rate, rate.saturating_mul(burst)));
        let port = Port {
            id,
            queue,
            tcp: places(limits.tcp_per_client),
            udp: places(limits.udp_per_client),
            flows,
            dns: places(DNS_AT_A_TIME),
            connect_rate: bucket(limits.connect_rate, 2),
            dns_rate: bucket(limits.dns_rate, 2),
            flood_rate: bucket(limits.flood_rate, 4),
            ping: Notify::new(),
        };
        (Arc::new(port), receiver)
    }

    /// Queues a frame for the client; a full queue drops it, like any switch.
    pub fn send(&self, frame: Bytes, shared: &Shared) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.queue.try_send(frame) {
            shared.metrics.drop_queue_full.inc();
        }
    }
}

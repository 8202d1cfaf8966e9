//! The relay's gateway in this process: DHCP, DNS and NAT for one machine, without a server. The room, its gateway and
//! the policy are those of `tab86-relay`; only the WebSocket between is missing.

use super::{Cable, QUEUE};
use crate::console::{Input, Notice};
use bytes::Bytes;
use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use tab86_relay::config::Settings;
use tab86_relay::net::{Dialer, Resolver, SystemDialer, SystemResolver};
use tab86_relay::port::lock;
use tab86_relay::room::{Membership, Rooms};
use tab86_relay::shared::Shared;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, Semaphore, mpsc};

/// The only room.
const ROOM: &str = "user";

/// Frames for the machine.
struct Inbox {
    frames: Mutex<VecDeque<Bytes>>,
    room: Notify,
    /// The machine was told that there is something and has not looked yet.
    told: AtomicBool,
    notices: Sender<Input>,
}

/// A network of one machine.
pub struct User {
    /// Always there, but when this is dropped.
    runtime: Option<Runtime>,
    member: Membership,
    inbox: Arc<Inbox>,
    largest: usize,
}

impl User {
    /// A gateway that opens sockets of this host, as far as the settings allow. `notices` gets word of frames.
    ///
    /// # Errors
    /// When there can be no threads for it.
    pub fn start(settings: Settings, notices: Sender<Input>) -> io::Result<Self> {
        let resolver = SystemResolver::from_file(Path::new("/etc/resolv.conf"));
        Self::with(settings, Arc::new(SystemDialer), Arc::new(resolver), notices)
    }

    /// The same with another way out.
    fn with(
        settings: Settings,
        dialer: Arc<dyn Dialer>,
        resolver: Arc<dyn Resolver>,
        notices: Sender<Input>,
    ) -> io::Result<Self> {
        // One thread moves more than a machine can.
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("gateway").enable_all().build()?;
        let largest = settings.max_frame();
        let flows = Arc::new(Semaphore::new(settings.limits.flows_per_ip.min(Semaphore::MAX_PERMITS)));
        let rooms = Rooms::new(Arc::new(Shared::new(settings, dialer, resolver)));
        runtime.spawn(Rooms::advertise(Arc::downgrade(&rooms)));
        let mut member = rooms.join(ROOM, flows).map_err(io::Error::other)?;
        let inbox =
            Arc::new(Inbox { frames: Mutex::default(), room: Notify::new(), told: AtomicBool::new(false), notices });
        if let Some(frames) = member.take_frames() {
            runtime.spawn(Arc::clone(&inbox).fill(frames));
        }
        Ok(Self { runtime: Some(runtime), member, inbox, largest })
    }
}

impl Inbox {
    /// Moves frames to the machine, as many as there is room for; the rest waits and holds the connections back.
    async fn fill(self: Arc<Self>, mut frames: mpsc::Receiver<Bytes>) {
        while let Some(frame) = frames.recv().await {
            while lock(&self.frames).len() >= QUEUE {
                self.room.notified().await;
            }
            lock(&self.frames).push_back(frame);
            if !self.told.swap(true, Ordering::AcqRel) {
                // Nobody listens any more when the run is over.
                let _ = self.notices.send(Input::Network(Notice::Frames));
            }
        }
    }
}

impl Cable for User {
    fn is_up(&self) -> bool {
        self.inbox.told.store(false, Ordering::Release);
        true
    }

    fn receive(&self) -> Option<Vec<u8>> {
        let frame = lock(&self.inbox.frames).pop_front()?;
        self.inbox.room.notify_one();
        Some(frame.into())
    }

    fn unsent(&self) -> usize {
        0
    }

    fn send(&self, frame: Vec<u8>) {
        if let Some(runtime) = &self.runtime
            && frame.len() <= self.largest
        {
            // The gateway starts tasks for connections.
            let _entered = runtime.enter();
            self.member.room.input(&self.member.port, frame.into());
        }
    }
}

impl Drop for User {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Names that are still being looked up must not hold the process.
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests;

//! The guest's network cable: to a relay or to the gateway in this process, with a capture of what passes.

pub mod pcap;
pub mod relay;
pub mod tls;
pub mod user;

use crate::output::OutputError;
use emulator_core::machine::Machine;
use pcap::Capture;

/// Frames that wait in each direction.
pub const QUEUE: usize = 256;

/// Where the cable leads. The other end works in threads of its own.
pub trait Cable {
    /// Whether there is a connection. Asked before the machine looks for frames: word of new ones comes from then on.
    fn is_up(&self) -> bool;
    /// The next frame from the network.
    fn receive(&self) -> Option<Vec<u8>>;
    /// Frames that the other end has not got yet.
    fn unsent(&self) -> usize;
    /// Sends a frame. Without a connection, or when [`QUEUE`] frames wait, it is lost.
    fn send(&self, frame: Vec<u8>);
}

/// The cable and what watches it.
pub struct Network {
    cable: Box<dyn Cable>,
    capture: Option<Capture>,
    link: bool,
}

impl Network {
    /// A cable in the card.
    pub fn new(cable: Box<dyn Cable>, capture: Option<Capture>) -> Self {
        // The card comes up with its cable plugged in.
        Self { cable, capture, link: true }
    }

    /// Hands the guest what has come, as much as it has room for, before it runs: behind a run it might already
    /// be asleep.
    ///
    /// # Errors
    /// When the capture cannot be written.
    pub fn deliver(&mut self, machine: &mut Machine) -> Result<(), OutputError> {
        let link = self.cable.is_up();
        if link != self.link {
            self.link = link;
            machine.network_set_link(link);
        }
        let now = machine.now();
        while machine.network_room() > 0
            && let Some(frame) = self.cable.receive()
        {
            self.record(now, &frame)?;
            machine.network_send(&frame);
        }
        Ok(())
    }

    /// Takes what the guest sent, as much as there is room for. The rest stays in the card, whose transmitter
    /// then waits.
    ///
    /// # Errors
    /// When the capture cannot be written.
    pub fn collect(&mut self, machine: &mut Machine) -> Result<(), OutputError> {
        let now = machine.now();
        let mut room = QUEUE.saturating_sub(self.cable.unsent());
        while room > 0
            && let Some(frame) = machine.network_take()
        {
            self.record(now, &frame)?;
            self.cable.send(frame);
            room -= 1;
        }
        Ok(())
    }

    fn record(&mut self, now: u64, frame: &[u8]) -> Result<(), OutputError> {
        self.capture.as_mut().map_or(Ok(()), |capture| capture.add(now, frame))
    }
}

/// An address of the locally administered kind that hardly anybody else on the network has.
pub fn random_mac() -> [u8; 6] {
    use std::hash::{BuildHasher, RandomState};
    let [a, b, c, d, ..] = RandomState::new().hash_one(std::process::id()).to_le_bytes();
    [0x02, 0x86, a, b, c, d]
}

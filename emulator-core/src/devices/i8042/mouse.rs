//! The PS/2 mouse: two or three buttons, with the wheel and five-button extensions that the driver unlocks by a
//! sequence of sample rates. Spec: IBM PS/2 technical reference, "Auxiliary device"; Microsoft IntelliMouse notes.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

const ACK: u8 = 0xfa;
const RESEND: u8 = 0xfe;
const SELF_TEST_PASSED: u8 = 0xaa;
/// Host events with different buttons that wait for the guest; more are merged.
const PENDING: usize = 16;
/// Motion that one packet carries at most. The format has nine bits, but simple drivers take eight.
const STEP: i32 = 127;
/// Motion kept for a guest that does not read.
const KEPT: i32 = 2048;
const WHEEL_STEP: i32 = 7;

const CMD_SCALING_1: u8 = 0xe6;
const CMD_SCALING_2: u8 = 0xe7;
const CMD_RESOLUTION: u8 = 0xe8;
const CMD_STATUS: u8 = 0xe9;
const CMD_STREAM: u8 = 0xea;
const CMD_READ: u8 = 0xeb;
const CMD_UNWRAP: u8 = 0xec;
const CMD_WRAP: u8 = 0xee;
const CMD_REMOTE: u8 = 0xf0;
const CMD_IDENTIFY: u8 = 0xf2;
const CMD_SAMPLE_RATE: u8 = 0xf3;
const CMD_ENABLE: u8 = 0xf4;
const CMD_DISABLE: u8 = 0xf5;
const CMD_DEFAULTS: u8 = 0xf6;
const CMD_RESEND: u8 = 0xfe;
const CMD_RESET: u8 = 0xff;

const STATUS_REMOTE: u8 = 1 << 6;
const STATUS_ENABLED: u8 = 1 << 5;
const STATUS_SCALING: u8 = 1 << 4;

const ID_PLAIN: u8 = 0;
const ID_WHEEL: u8 = 3;
const ID_FIVE_BUTTONS: u8 = 4;

/// Motion and buttons as the host reported them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Motion {
    dx: i32,
    /// Upwards.
    dy: i32,
    /// Towards the user.
    dz: i32,
    buttons: u8,
}

impl Motion {
    fn still(&self) -> bool {
        (self.dx, self.dy, self.dz) == (0, 0, 0)
    }

    fn add(&mut self, other: Self) {
        let sum = |a: i32, b: i32| a.saturating_add(b).clamp(-KEPT, KEPT);
        self.dx = sum(self.dx, other.dx);
        self.dy = sum(self.dy, other.dy);
        self.dz = sum(self.dz, other.dz);
        self.buttons = other.buttons;
    }
}

/// The mouse.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mouse {
    /// Bytes for the wire: an answer or one packet.
    output: VecDeque<u8>,
    pending: VecDeque<Motion>,
    /// Buttons as last reported to the guest.
    reported: u8,
    argument_of: Option<u8>,
    last_packet: Vec<u8>,
    id: u8,
    /// The last three sample rates: a driver unlocks the extensions by a sequence of them.
    rates: [u8; 3],
    resolution: u8,
    enabled: bool,
    remote: bool,
    wrap: bool,
    scaling: bool,
}

impl Mouse {
    pub fn new() -> Self {
        Self {
            output: VecDeque::new(),
            pending: VecDeque::new(),
            reported: 0,
            argument_of: None,
            last_packet: Vec::new(),
            id: ID_PLAIN,
            rates: [0, 0, 100],
            resolution: 2,
            enabled: false,
            remote: false,
            wrap: false,
            scaling: false,
        }
    }

    /// Whether the guest asked for movement reports.
    pub fn enabled(&self) -> bool {
        self.enabled
    }

    fn streams(&self) -> bool {
        self.enabled && !self.remote && !self.wrap
    }

    /// Whether a byte waits to be sent.
    pub fn ready(&self) -> bool {
        !self.output.is_empty() || (self.streams() && !self.pending.is_empty())
    }

    /// The next byte on the wire.
    pub fn send(&mut self) -> Option<u8> {
        if self.output.is_empty() && self.streams() && !self.pending.is_empty() {
            self.packet(self.scaling);
        }
        self.output.pop_front()
    }

    /// The host moved the mouse. `dy` grows downwards as on a screen, `wheel` towards the user.
    pub fn motion(&mut self, dx: i32, dy: i32, wheel: i32, buttons: u8) {
        if !self.enabled && !self.remote {
            return;
        }
        let motion = Motion { dx, dy: dy.saturating_neg(), dz: wheel, buttons: buttons & 0x1f };
        let full = self.pending.len() >= PENDING;
        let last = self.pending.back().map_or(self.reported, |m| m.buttons);
        match self.pending.back_mut() {
            Some(back) if full || back.buttons == motion.buttons => back.add(motion),
            _ if motion.still() && motion.buttons == last => {}
            _ => {
                let mut first = Motion::default();
                first.add(motion);
                self.pending.push_back(first);
            }
        }
    }

    /// Takes what one packet can carry out of the pending motion.
    fn packet(&mut self, scaled: bool) {
        let mut motion = self.pending.pop_front().unwrap_or(Motion { buttons: self.reported, ..Motion::default() });
        let take = |left: &mut i32, step: i32| {
            let taken = (*left).clamp(-step, step);
            *left -= taken;
            taken
        };
        let mut dx = take(&mut motion.dx, STEP);
        let mut dy = take(&mut motion.dy, STEP);
        let dz = if self.id == ID_PLAIN {
            motion.dz = 0;
            0
        } else {
            take(&mut motion.dz, WHEEL_STEP)
        };
        if scaled {
            dx = double(dx);
            dy = double(dy);
        }
        let buttons = motion.buttons;
        if !motion.still() {
            self.pending.push_front(motion);
        }
        self.reported = buttons;
        let mut packet = vec![0x08 | buttons & 7 | u8::from(dx < 0) << 4 | u8::from(dy < 0) << 5, dx as u8, dy as u8];
        match self.id {
            ID_WHEEL => packet.push(dz as u8),
            ID_FIVE_BUTTONS => packet.push(dz as u8 & 0x0f | (buttons & 0x18) << 1),
            _ => {}
        }
        self.output.extend(&packet);
        self.last_packet = packet;
    }

    /// A byte from the controller.
    pub fn write(&mut self, byte: u8) {
        // The host speaking ends whatever the mouse was sending.
        self.output.clear();
        if self.wrap && byte != CMD_UNWRAP && byte != CMD_RESET {
            self.output.push_back(byte);
            return;
        }
        match self.argument_of.take() {
            Some(command) => self.argument(command, byte),
            None => self.command(byte),
        }
    }

    fn argument(&mut self, command: u8, value: u8) {
        if command == CMD_RESOLUTION {
            self.resolution = value & 3;
        } else {
            self.rates = [self.rates[1], self.rates[2], value];
            match self.rates {
                [200, 100, 80] => self.id = ID_WHEEL,
                [200, 200, 80] => self.id = ID_FIVE_BUTTONS,
                _ => {}
            }
        }
        self.output.push_back(ACK);
    }

    fn command(&mut self, command: u8) {
        self.output.push_back(ACK);
        match command {
            CMD_SCALING_1 | CMD_SCALING_2 => self.scaling = command == CMD_SCALING_2,
            CMD_RESOLUTION | CMD_SAMPLE_RATE => self.argument_of = Some(command),
            CMD_STATUS => {
                let status = self.status();
                self.output.extend(status);
            }
            CMD_STREAM => self.remote = false,
            CMD_REMOTE => {
                self.remote = true;
                self.pending.clear();
            }
            // A poll reports unscaled motion.
            CMD_READ => self.packet(false),
            CMD_UNWRAP | CMD_WRAP => self.wrap = command == CMD_WRAP,
            CMD_IDENTIFY => self.output.push_back(self.id),
            CMD_ENABLE | CMD_DISABLE => {
                self.enabled = command == CMD_ENABLE;
                self.pending.clear();
            }
            CMD_DEFAULTS => self.set_defaults(),
            CMD_RESET => {
                self.set_defaults();
                self.id = ID_PLAIN;
                self.output.extend([SELF_TEST_PASSED, self.id]);
            }
            CMD_RESEND => {
                self.output.clear();
                self.output.extend(&self.last_packet);
            }
            _ => {
                self.output.clear();
                self.output.push_back(RESEND);
            }
        }
    }

    fn set_defaults(&mut self) {
        *self = Self {
            output: std::mem::take(&mut self.output),
            last_packet: std::mem::take(&mut self.last_packet),
            id: self.id,
            reported: self.reported,
            ..Self::new()
        };
    }

    fn status(&self) -> [u8; 3] {
        let flag = |on: bool, bit: u8| if on { bit } else { 0 };
        // Here the right button is bit 0 and the left one bit 2, the other way round than in packets.
        let buttons = (self.reported & 1) << 2 | (self.reported & 4) >> 1 | (self.reported & 2) >> 1;
        [
            flag(self.remote, STATUS_REMOTE)
                | flag(self.enabled, STATUS_ENABLED)
                | flag(self.scaling, STATUS_SCALING)
                | buttons,
            self.resolution,
            self.rates[2],
        ]
    }
}

/// 2:1 scaling of one axis (PS/2 technical reference, "Set scaling 2:1").
fn double(n: i32) -> i32 {
    let scaled = match n.abs() {
        0 => 0,
        1 | 2 => 1,
        3 => 3,
        4 => 6,
        5 => 9,
        n => (2 * n).min(255),
    };
    scaled * n.signum()
}

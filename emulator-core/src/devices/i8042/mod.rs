//! Intel 8042 keyboard controller with PS/2 keyboard and mouse, ports 60h and 64h, IRQ 1 and IRQ 12.
//! Spec: IBM PS/2 technical reference, "Keyboard and auxiliary device controller".

mod keyboard;
mod keys;
mod mouse;
#[cfg(test)]
mod tests;

pub use keys::{Key, us_layout};

use crate::bus::{Device, IoCtx, PortIo};
use crate::time::{EventId, VirtTime};
use bitflags::bitflags;
use keyboard::Keyboard;
use mouse::Mouse;
use serde::{Deserialize, Serialize};

const PORT_DATA: u16 = 0x60;
const PORT_COMMAND: u16 = 0x64;
const IRQ_KEYBOARD: u8 = 1;
const IRQ_MOUSE: u8 = 12;
/// Time for a byte to come over the cable. Real cables take a millisecond; old programs that count loops wait less
/// than that when an I/O instruction costs no more than any other, so bytes travel faster here.
const BYTE_TIME: VirtTime = 100_000;

const CMD_READ_MODE: u8 = 0x20;
const CMD_WRITE_MODE: u8 = 0x60;
const CMD_MOUSE_DISABLE: u8 = 0xa7;
const CMD_MOUSE_ENABLE: u8 = 0xa8;
const CMD_MOUSE_TEST: u8 = 0xa9;
const CMD_SELF_TEST: u8 = 0xaa;
const CMD_KEYBOARD_TEST: u8 = 0xab;
const CMD_KEYBOARD_DISABLE: u8 = 0xad;
const CMD_KEYBOARD_ENABLE: u8 = 0xae;
const CMD_READ_INPUT: u8 = 0xc0;
const CMD_READ_OUTPUT: u8 = 0xd0;
const CMD_WRITE_OUTPUT: u8 = 0xd1;
const CMD_FAKE_KEYBOARD: u8 = 0xd2;
const CMD_FAKE_MOUSE: u8 = 0xd3;
const CMD_TO_MOUSE: u8 = 0xd4;
const CMD_A20_OFF: u8 = 0xdd;
const CMD_A20_ON: u8 = 0xdf;
/// F0h to FFh pulse the output lines whose bits are 0; line 0 resets the processor.
const CMD_PULSE: u8 = 0xf0;

const SELF_TEST_PASSED: u8 = 0x55;
const LINE_OK: u8 = 0x00;
/// Input port: the keyboard is not locked.
const INPUT_UNLOCKED: u8 = 0x80;
const OUTPUT_NOT_RESET: u8 = 0x01;
const OUTPUT_A20: u8 = 0x02;
const OUTPUT_KEYBOARD_FULL: u8 = 0x10;
const OUTPUT_MOUSE_FULL: u8 = 0x20;
/// Output port lines that nothing pulls down.
const OUTPUT_ONES: u8 = 0xcc;

const BREAK: u8 = 0xf0;

bitflags! {
    /// Status register, port 64h.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
    struct Status: u8 {
        /// A byte waits at port 60h.
        const OUTPUT_FULL = 1 << 0;
        /// The controller has not yet taken the byte written to it (it always has).
        const INPUT_FULL = 1 << 1;
        /// The self test passed.
        const SYSTEM = 1 << 2;
        /// The last write went to port 64h.
        const COMMAND = 1 << 3;
        /// The key lock is open.
        const UNLOCKED = 1 << 4;
        /// The byte at port 60h is the mouse's.
        const MOUSE_DATA = 1 << 5;
    }
}

bitflags! {
    /// The command byte (controller RAM byte 0).
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
    struct Mode: u8 {
        /// IRQ 1 when a keyboard byte arrives.
        const KEYBOARD_IRQ = 1 << 0;
        /// IRQ 12 when a mouse byte arrives.
        const MOUSE_IRQ = 1 << 1;
        /// Shown as the system flag.
        const SYSTEM = 1 << 2;
        /// Ignore the key lock.
        const NO_LOCK = 1 << 3;
        /// Hold the keyboard's clock.
        const KEYBOARD_OFF = 1 << 4;
        /// Hold the mouse's clock.
        const MOUSE_OFF = 1 << 5;
        /// Translate scan set 2 to set 1.
        const TRANSLATE = 1 << 6;
        /// Unused, but kept.
        const BIT_7 = 1 << 7;
    }
}

/// The controller with its two devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct I8042 {
    keyboard: Keyboard,
    mouse: Mouse,
    status: Status,
    mode: Mode,
    /// The byte at port 60h.
    data: u8,
    /// The controller's own answer that waits for port 60h to become free, and whether it poses as mouse data.
    answer: Option<(u8, bool)>,
    /// The command that takes the next byte written to port 60h.
    argument_of: Option<u8>,
    /// The translator saw a break prefix.
    breaking: bool,
}

impl Default for I8042 {
    fn default() -> Self {
        Self::new()
    }
}

impl I8042 {
    /// The controller as after power-on.
    #[must_use]
    pub fn new() -> Self {
        Self {
            keyboard: Keyboard::new(),
            mouse: Mouse::new(),
            status: Status::COMMAND | Status::UNLOCKED,
            mode: Mode::KEYBOARD_IRQ | Mode::MOUSE_IRQ,
            data: 0,
            answer: None,
            argument_of: None,
            breaking: false,
        }
    }

    /// A key went down or up. Pressing a key that is down repeats it.
    pub fn key(&mut self, key: Key, pressed: bool, cx: &mut IoCtx) {
        self.keyboard.key(key, pressed);
        self.pump(cx);
    }

    /// The mouse moved by `dx` to the right, `dy` downwards and `wheel` notches towards the user. `buttons`: bit 0
    /// left, 1 right, 2 middle, 3 back, 4 forward.
    pub fn mouse(&mut self, dx: i32, dy: i32, wheel: i32, buttons: u8, cx: &mut IoCtx) {
        self.mouse.motion(dx, dy, wheel, buttons);
        self.pump(cx);
    }

    /// The keyboard's lamps: bit 0 Scroll Lock, 1 Num Lock, 2 Caps Lock.
    #[must_use]
    pub fn leds(&self) -> u8 {
        self.keyboard.leds()
    }

    /// Keyboard bytes that the guest has not read. Whoever types a text waits for 0 between keys.
    #[must_use]
    pub fn keyboard_backlog(&self) -> usize {
        self.keyboard.backlog() + usize::from(self.status.contains(Status::OUTPUT_FULL))
    }

    /// Whether the guest listens to the mouse.
    #[must_use]
    pub fn mouse_enabled(&self) -> bool {
        self.mouse.enabled()
    }

    /// Puts a byte at port 60h.
    fn deliver(&mut self, byte: u8, from_mouse: bool, cx: &mut IoCtx) {
        self.data = byte;
        self.status.insert(Status::OUTPUT_FULL);
        self.status.set(Status::MOUSE_DATA, from_mouse);
        self.drive_irqs(cx);
    }

    fn drive_irqs(&self, cx: &mut IoCtx) {
        let full = self.status.contains(Status::OUTPUT_FULL);
        let mouse = self.status.contains(Status::MOUSE_DATA);
        let keyboard_irq = self.mode.contains(Mode::KEYBOARD_IRQ) && !self.mode.contains(Mode::KEYBOARD_OFF);
        cx.irq.set_isa(IRQ_KEYBOARD, full && !mouse && keyboard_irq);
        cx.irq.set_isa(IRQ_MOUSE, full && mouse && self.mode.contains(Mode::MOUSE_IRQ));
    }

    /// Moves bytes on when port 60h is free: the controller's own answer at once, those of the devices after the
    /// time they take on the cable.
    fn pump(&mut self, cx: &mut IoCtx) {
        if self.status.contains(Status::OUTPUT_FULL) {
            return;
        }
        if let Some((byte, from_mouse)) = self.answer.take() {
            self.deliver(byte, from_mouse, cx);
        } else if (self.keyboard_ready() || self.mouse_ready()) && cx.events.deadline(EventId::Keyboard).is_none() {
            cx.after(EventId::Keyboard, BYTE_TIME);
        }
    }

    fn keyboard_ready(&self) -> bool {
        !self.mode.contains(Mode::KEYBOARD_OFF) && self.keyboard.backlog() > 0
    }

    fn mouse_ready(&self) -> bool {
        !self.mode.contains(Mode::MOUSE_OFF) && self.mouse.ready()
    }

    /// The next byte of the keyboard, translated. A break prefix that translation swallows takes no time.
    fn keyboard_byte(&mut self) -> Option<u8> {
        while let Some(byte) = self.keyboard.send() {
            if !self.mode.contains(Mode::TRANSLATE) {
                return Some(byte);
            }
            if byte == BREAK {
                self.breaking = true;
            } else {
                let released = if std::mem::take(&mut self.breaking) { 0x80 } else { 0 };
                return Some(keys::translate(byte) | released);
            }
        }
        None
    }

    fn answer(&mut self, byte: u8) {
        self.answer = Some((byte, false));
    }

    fn read_data(&mut self, cx: &mut IoCtx) -> u8 {
        let byte = self.data;
        self.status.remove(Status::OUTPUT_FULL | Status::MOUSE_DATA);
        self.drive_irqs(cx);
        self.pump(cx);
        byte
    }

    fn read_status(&self) -> u8 {
        let mut status = self.status;
        if self.mode.contains(Mode::SYSTEM) {
            status.insert(Status::SYSTEM);
        }
        status.bits()
    }

    fn output_port(&self, cx: &IoCtx) -> u8 {
        let mut port = OUTPUT_ONES | OUTPUT_NOT_RESET;
        if cx.mem.a20() {
            port |= OUTPUT_A20;
        }
        if self.status.contains(Status::OUTPUT_FULL) {
            port |= if self.status.contains(Status::MOUSE_DATA) { OUTPUT_MOUSE_FULL } else { OUTPUT_KEYBOARD_FULL };
        }
        port
    }

    fn set_mode(&mut self, mode: Mode, cx: &mut IoCtx) {
        self.mode = mode;
        self.drive_irqs(cx);
    }

    fn command(&mut self, command: u8, cx: &mut IoCtx) {
        self.argument_of = None;
        match command {
            CMD_READ_MODE => self.answer(self.mode.bits()),
            CMD_WRITE_MODE | CMD_WRITE_OUTPUT | CMD_FAKE_KEYBOARD | CMD_FAKE_MOUSE | CMD_TO_MOUSE => {
                self.argument_of = Some(command)
            }
            CMD_MOUSE_DISABLE => self.set_mode(self.mode | Mode::MOUSE_OFF, cx),
            CMD_MOUSE_ENABLE => self.set_mode(self.mode - Mode::MOUSE_OFF, cx),
            CMD_MOUSE_TEST | CMD_KEYBOARD_TEST => self.answer(LINE_OK),
            CMD_SELF_TEST => {
                self.status.insert(Status::SYSTEM);
                self.answer(SELF_TEST_PASSED);
            }
            CMD_KEYBOARD_DISABLE => self.set_mode(self.mode | Mode::KEYBOARD_OFF, cx),
            CMD_KEYBOARD_ENABLE => self.set_mode(self.mode - Mode::KEYBOARD_OFF, cx),
            CMD_READ_INPUT => self.answer(INPUT_UNLOCKED),
            CMD_READ_OUTPUT => self.answer(self.output_port(cx)),
            CMD_A20_OFF | CMD_A20_ON => cx.signals.a20 = Some(command == CMD_A20_ON),
            CMD_PULSE.. if command & 1 == 0 => cx.signals.reset = true,
            _ => {}
        }
        self.pump(cx);
    }

    fn write_data(&mut self, value: u8, cx: &mut IoCtx) {
        match self.argument_of.take() {
            Some(CMD_WRITE_MODE) => self.set_mode(Mode::from_bits_retain(value), cx),
            Some(CMD_WRITE_OUTPUT) => {
                cx.signals.a20 = Some(value & OUTPUT_A20 != 0);
                if value & OUTPUT_NOT_RESET == 0 {
                    cx.signals.reset = true;
                }
            }
            Some(CMD_FAKE_KEYBOARD) => self.answer = Some((value, false)),
            Some(CMD_FAKE_MOUSE) => self.answer = Some((value, true)),
            Some(_) => {
                // Sending lets the device's clock run again.
                self.set_mode(self.mode - Mode::MOUSE_OFF, cx);
                self.mouse.write(value);
            }
            None => {
                self.set_mode(self.mode - Mode::KEYBOARD_OFF, cx);
                self.breaking = false;
                self.keyboard.write(value);
            }
        }
        self.pump(cx);
    }
}

impl PortIo for I8042 {
    fn read_u8(&mut self, port: u16, cx: &mut IoCtx) -> u8 {
        match port {
            PORT_DATA => self.read_data(cx),
            PORT_COMMAND => self.read_status(),
            _ => 0xff,
        }
    }

    fn write_u8(&mut self, port: u16, value: u8, cx: &mut IoCtx) {
        match port {
            PORT_DATA => {
                self.status.remove(Status::COMMAND);
                self.write_data(value, cx);
            }
            PORT_COMMAND => {
                self.status.insert(Status::COMMAND);
                self.command(value, cx);
            }
            _ => {}
        }
    }
}

impl Device for I8042 {
    fn reset(&mut self, cx: &mut IoCtx) {
        *self = Self::new();
        cx.events.cancel(EventId::Keyboard);
        self.drive_irqs(cx);
    }

    fn on_event(&mut self, _event: EventId, cx: &mut IoCtx) {
        if self.status.contains(Status::OUTPUT_FULL) {
            return;
        }
        let from_keyboard = if self.keyboard_ready() { self.keyboard_byte() } else { None };
        if let Some(byte) = from_keyboard {
            self.deliver(byte, false, cx);
        } else if self.mouse_ready()
            && let Some(byte) = self.mouse.send()
        {
            self.deliver(byte, true, cx);
        }
    }
}

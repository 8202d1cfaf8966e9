//! Behaviour of controller, keyboard and mouse as a guest sees it.

use super::*;
use crate::bus::testing::{Bench, conformance};

const NOTHING: [u8; 0] = [];

struct Rig {
    bench: Bench,
    dev: I8042,
}

impl Rig {
    /// Without translation, so that tests see what the keyboard sends.
    fn new() -> Self {
        let mut rig = Self { bench: Bench::new(), dev: I8042::new() };
        rig.dev.reset(&mut rig.bench.cx());
        rig
    }

    fn translating() -> Self {
        let mut rig = Self::new();
        rig.command(0x60);
        rig.data(0x43);
        rig
    }

    fn with_mouse() -> Self {
        let mut rig = Self::new();
        rig.tell_mouse(&[0xf4]);
        assert_eq!(rig.drain(), [0xfa]);
        rig
    }

    fn command(&mut self, value: u8) {
        self.dev.write_u8(PORT_COMMAND, value, &mut self.bench.cx());
    }

    fn data(&mut self, value: u8) {
        self.dev.write_u8(PORT_DATA, value, &mut self.bench.cx());
    }

    fn tell_mouse(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.command(0xd4);
            self.data(byte);
        }
    }

    fn status(&mut self) -> u8 {
        self.dev.read_u8(PORT_COMMAND, &mut self.bench.cx())
    }

    fn read(&mut self) -> u8 {
        self.dev.read_u8(PORT_DATA, &mut self.bench.cx())
    }

    fn wait(&mut self) {
        let until = self.bench.now + BYTE_TIME;
        self.bench.advance(&mut self.dev, until);
    }

    /// Everything that arrives.
    fn drain(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            if self.status() & 1 == 0 {
                self.wait();
            }
            if self.status() & 1 == 0 {
                return bytes;
            }
            bytes.push(self.read());
        }
    }

    /// What a command to the keyboard answers.
    fn ask(&mut self, byte: u8) -> Vec<u8> {
        self.data(byte);
        self.drain()
    }

    fn ask_mouse(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut answer = Vec::new();
        for &byte in bytes {
            self.tell_mouse(&[byte]);
            answer = self.drain();
        }
        answer
    }

    fn key(&mut self, key: Key, pressed: bool) {
        self.dev.key(key, pressed, &mut self.bench.cx());
    }

    /// What pressing (or releasing) sends.
    fn sends(&mut self, key: Key, pressed: bool) -> Vec<u8> {
        self.key(key, pressed);
        self.drain()
    }

    fn mouse(&mut self, dx: i32, dy: i32, wheel: i32, buttons: u8) {
        self.dev.mouse(dx, dy, wheel, buttons, &mut self.bench.cx());
    }

    fn irq(&self, n: u8) -> bool {
        self.bench.irq.isa() & 1 << n != 0
    }
}

#[test]
fn conforms() {
    conformance(I8042::new(), &[0x60, 0x64]);
}

#[test]
fn self_tests_pass_and_set_the_system_flag() {
    let mut rig = Rig::new();
    assert_eq!(rig.status() & 0x04, 0);
    rig.command(0xaa);
    assert_eq!(rig.status() & 0x05, 0x05);
    assert_eq!(rig.read(), 0x55);
    for command in [0xab, 0xa9] {
        rig.command(command);
        assert_eq!(rig.drain(), [0]);
    }
}

#[test]
fn command_byte_reads_back() {
    let mut rig = Rig::new();
    rig.command(0x60);
    rig.data(0x65);
    rig.command(0x20);
    assert_eq!(rig.drain(), [0x65]);
    rig.command(0xad);
    rig.command(0xa8);
    rig.command(0x20);
    assert_eq!(rig.drain(), [0x55]);
}

#[test]
fn status_tells_command_from_data() {
    let mut rig = Rig::new();
    rig.command(0xae);
    assert_eq!(rig.status() & 0x18, 0x18);
    rig.data(0xf4);
    assert_eq!(rig.status() & 0x18, 0x10);
}

#[test]
fn output_port_gates_a20_and_resets() {
    let mut rig = Rig::new();
    rig.command(0xd1);
    rig.data(0xdd);
    assert_eq!(rig.bench.signals.a20, Some(false));
    assert!(!rig.bench.signals.reset);
    rig.bench.mem.set_a20(false);
    rig.command(0xd0);
    assert_eq!(rig.drain(), [0xcd]);
    rig.command(0xdf);
    assert_eq!(rig.bench.signals.a20, Some(true));
    rig.command(0xff);
    assert!(!rig.bench.signals.reset);
    rig.command(0xfe);
    assert!(rig.bench.signals.reset);
}

#[test]
fn keys_raise_irq_1_until_read_and_arrive_one_by_one() {
    let mut rig = Rig::new();
    rig.key(Key::ArrowUp, true);
    assert_eq!(rig.status() & 1, 0, "the byte is on the cable");
    rig.wait();
    assert!(rig.irq(1));
    assert_eq!(rig.read(), 0xe0);
    assert!(!rig.irq(1));
    assert_eq!(rig.status() & 1, 0);
    rig.wait();
    assert!(rig.irq(1) && !rig.irq(12));
    assert_eq!(rig.read(), 0x75);
    assert_eq!(rig.read(), 0x75, "an empty port repeats the last byte");
}

#[test]
fn interrupts_follow_the_command_byte() {
    let mut rig = Rig::new();
    rig.command(0x60);
    rig.data(0x00);
    rig.key(Key::KeyA, true);
    rig.wait();
    assert_eq!(rig.status() & 1, 1);
    assert!(!rig.irq(1));
    rig.command(0x60);
    rig.data(0x01);
    assert!(rig.irq(1));
}

#[test]
fn a_disabled_interface_holds_the_keyboard_back() {
    let mut rig = Rig::new();
    rig.command(0xad);
    rig.key(Key::KeyA, true);
    assert_eq!(rig.drain(), NOTHING);
    rig.command(0xae);
    assert_eq!(rig.drain(), [0x1c]);
}

#[test]
fn translation_gives_set_1() {
    let mut rig = Rig::translating();
    assert_eq!(rig.sends(Key::KeyA, true), [0x1e]);
    assert_eq!(rig.sends(Key::KeyA, false), [0x9e]);
    assert_eq!(rig.sends(Key::ArrowUp, true), [0xe0, 0x48]);
    assert_eq!(rig.sends(Key::ArrowUp, false), [0xe0, 0xc8]);
    assert_eq!(rig.sends(Key::F7, true), [0x41]);
    assert_eq!(rig.sends(Key::F7, false), [0xc1]);
    assert_eq!(rig.sends(Key::Pause, true), [0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5]);
    assert_eq!(rig.sends(Key::Pause, false), NOTHING);
    assert_eq!(rig.sends(Key::PrintScreen, true), [0xe0, 0x2a, 0xe0, 0x37]);
    assert_eq!(rig.sends(Key::PrintScreen, false), [0xe0, 0xb7, 0xe0, 0xaa]);
    assert_eq!(rig.ask(0xf2), [0xfa, 0xab, 0x41]);
    assert_eq!(rig.ask(0xf0), [0xfa]);
    assert_eq!(rig.ask(0x00), [0xfa, 0x41]);
}

#[test]
fn special_keys_in_set_2() {
    let mut rig = Rig::new();
    assert_eq!(rig.sends(Key::Pause, true), [0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77]);
    rig.sends(Key::ControlLeft, true);
    rig.key(Key::Pause, false);
    assert_eq!(rig.sends(Key::Pause, true), [0xe0, 0x7e, 0xe0, 0xf0, 0x7e], "Break");
    assert_eq!(rig.sends(Key::PrintScreen, true), [0xe0, 0x7c]);
    rig.sends(Key::ControlLeft, false);
    assert_eq!(rig.sends(Key::PrintScreen, false), [0xe0, 0xf0, 0x7c]);
    rig.sends(Key::AltLeft, true);
    assert_eq!(rig.sends(Key::PrintScreen, true), [0x84]);
    rig.sends(Key::AltLeft, false);
    assert_eq!(rig.sends(Key::PrintScreen, false), [0xf0, 0x84]);
}

#[test]
fn scan_sets_can_be_chosen_and_asked_for() {
    let mut rig = Rig::new();
    rig.ask(0xf0);
    assert_eq!(rig.ask(0x01), [0xfa]);
    assert_eq!(rig.sends(Key::Delete, true), [0xe0, 0x53]);
    assert_eq!(rig.sends(Key::Delete, false), [0xe0, 0xd3]);
    rig.ask(0xf0);
    rig.ask(0x03);
    rig.ask(0xf0);
    assert_eq!(rig.ask(0x00), [0xfa, 0x03]);
    assert_eq!(rig.sends(Key::Delete, true), [0x64]);
    assert_eq!(rig.sends(Key::Delete, false), NOTHING, "typematic only");
    assert_eq!(rig.sends(Key::ShiftLeft, true), [0x12]);
    assert_eq!(rig.sends(Key::ShiftLeft, false), [0xf0, 0x12]);
    rig.ask(0xf8);
    rig.sends(Key::Delete, true);
    assert_eq!(rig.sends(Key::Delete, false), [0xf0, 0x64]);
    rig.ask(0xf0);
    assert_eq!(rig.ask(0x07), [0xfe]);
}

#[test]
fn keyboard_commands() {
    let mut rig = Rig::new();
    assert_eq!(rig.ask(0xff), [0xfa, 0xaa]);
    assert_eq!(rig.ask(0xee), [0xee]);
    assert_eq!(rig.ask(0xf2), [0xfa, 0xab, 0x83]);
    assert_eq!(rig.ask(0xfe), [0x83], "resend");
    assert_eq!(rig.ask(0xed), [0xfa]);
    assert_eq!(rig.ask(0x05), [0xfa]);
    assert_eq!(rig.dev.leds(), 5);
    assert_eq!(rig.ask(0xf3), [0xfa]);
    assert_eq!(rig.ask(0x20), [0xfa]);
    assert_eq!(rig.ask(0xed), [0xfa]);
    assert_eq!(rig.ask(0xf6), [0xfa], "a command instead of an argument");
    assert_eq!(rig.ask(0xef), [0xfe]);
}

#[test]
fn scanning_can_be_disabled() {
    let mut rig = Rig::new();
    assert_eq!(rig.ask(0xf5), [0xfa]);
    assert_eq!(rig.sends(Key::KeyA, true), NOTHING);
    assert_eq!(rig.ask(0xf4), [0xfa]);
    assert_eq!(rig.sends(Key::KeyA, false), NOTHING, "its press was not seen");
    assert_eq!(rig.sends(Key::KeyA, true), [0x1c]);
}

#[test]
fn host_repeats_repeat_but_never_pile_up() {
    let mut rig = Rig::new();
    for _ in 0..50 {
        rig.key(Key::KeyA, true);
    }
    assert_eq!(rig.drain(), [0x1c]);
    assert_eq!(rig.sends(Key::KeyA, true), [0x1c]);
    assert_eq!(rig.sends(Key::KeyA, false), [0xf0, 0x1c]);
    assert_eq!(rig.sends(Key::KeyA, false), NOTHING);
}

#[test]
fn a_full_buffer_ends_in_an_overrun_mark() {
    let mut rig = Rig::new();
    for _ in 0..20 {
        rig.key(Key::KeyA, true);
        rig.key(Key::KeyA, false);
    }
    let bytes = rig.drain();
    assert_eq!(bytes.len(), 17);
    assert_eq!(bytes[..3], [0x1c, 0xf0, 0x1c]);
    assert_eq!(bytes[16], 0x00);
    assert_eq!(rig.sends(Key::KeyB, true), [0x32]);
}

#[test]
fn answers_overtake_scan_codes() {
    let mut rig = Rig::new();
    rig.command(0xad);
    rig.key(Key::KeyA, true);
    rig.data(0xed);
    assert_eq!(rig.drain(), [0xfa, 0x1c]);
}

#[test]
fn fake_bytes_come_from_keyboard_or_mouse() {
    let mut rig = Rig::translating();
    rig.command(0xd2);
    rig.data(0x1c);
    assert!(rig.irq(1));
    assert_eq!(rig.read(), 0x1c, "not translated");
    rig.command(0xd3);
    rig.data(0x42);
    assert!(rig.irq(12) && !rig.irq(1));
    assert_eq!(rig.status() & 0x21, 0x21);
    assert_eq!(rig.read(), 0x42);
}

#[test]
fn mouse_resets_and_identifies() {
    let mut rig = Rig::new();
    assert_eq!(rig.ask_mouse(&[0xff]), [0xfa, 0xaa, 0x00]);
    assert_eq!(rig.ask_mouse(&[0xf2]), [0xfa, 0x00]);
    assert_eq!(rig.ask_mouse(&[0xe1]), [0xfe]);
}

#[test]
fn mouse_reports_motion_with_irq_12() {
    let mut rig = Rig::with_mouse();
    rig.mouse(5, 3, 0, 1);
    rig.wait();
    assert!(rig.irq(12));
    assert_eq!(rig.status() & 0x21, 0x21);
    assert_eq!(rig.drain(), [0x29, 5, 0xfd], "y grows upwards");
    rig.mouse(0, 0, 0, 1);
    assert_eq!(rig.drain(), NOTHING, "nothing new");
    rig.mouse(0, 0, 0, 0);
    assert_eq!(rig.drain(), [0x08, 0, 0]);
}

#[test]
fn mouse_splits_large_motion_and_keeps_clicks() {
    let mut rig = Rig::with_mouse();
    rig.mouse(300, 0, 0, 0);
    rig.mouse(0, 0, 0, 2);
    rig.mouse(0, 0, 0, 0);
    assert_eq!(rig.drain(), [[0x08, 127, 0], [0x08, 127, 0], [0x08, 46, 0], [0x0a, 0, 0], [0x08, 0, 0]].concat());
}

#[test]
fn wheel_and_five_buttons_unlock_by_knocking() {
    let mut rig = Rig::with_mouse();
    rig.ask_mouse(&[0xf3, 200, 0xf3, 100, 0xf3, 80]);
    assert_eq!(rig.ask_mouse(&[0xf2]), [0xfa, 0x03]);
    rig.mouse(1, 0, -1, 0x10);
    assert_eq!(rig.drain(), [0x08, 1, 0, 0xff]);
    rig.ask_mouse(&[0xf3, 200, 0xf3, 200, 0xf3, 80]);
    assert_eq!(rig.ask_mouse(&[0xf2]), [0xfa, 0x04]);
    rig.mouse(0, 0, 1, 0x08);
    assert_eq!(rig.drain(), [0x08, 0, 0, 0x11]);
    rig.ask_mouse(&[0xff]);
    assert_eq!(rig.ask_mouse(&[0xf2]), [0xfa, 0x00]);
}

#[test]
fn mouse_status_shows_its_settings() {
    let mut rig = Rig::with_mouse();
    rig.ask_mouse(&[0xe8, 3, 0xf3, 40, 0xe7]);
    rig.mouse(0, 0, 0, 1);
    rig.drain();
    assert_eq!(rig.ask_mouse(&[0xe9]), [0xfa, 0x34, 3, 40]);
    rig.ask_mouse(&[0xf6]);
    assert_eq!(rig.ask_mouse(&[0xe9]), [0xfa, 0x04, 2, 100]);
}

#[test]
fn remote_mode_reports_when_polled() {
    let mut rig = Rig::with_mouse();
    rig.ask_mouse(&[0xf0]);
    rig.mouse(7, 0, 0, 0);
    assert_eq!(rig.drain(), NOTHING);
    assert_eq!(rig.ask_mouse(&[0xeb]), [0xfa, 0x08, 7, 0]);
    assert_eq!(rig.ask_mouse(&[0xeb]), [0xfa, 0x08, 0, 0]);
    rig.ask_mouse(&[0xea]);
    rig.mouse(1, 0, 0, 0);
    assert_eq!(rig.drain(), [0x08, 1, 0]);
}

#[test]
fn scaling_doubles_streamed_motion() {
    let mut rig = Rig::with_mouse();
    rig.ask_mouse(&[0xe7]);
    rig.mouse(4, 20, 0, 0);
    assert_eq!(rig.drain(), [0x28, 6, (-40_i8) as u8]);
}

#[test]
fn wrap_mode_echoes() {
    let mut rig = Rig::with_mouse();
    rig.ask_mouse(&[0xee]);
    assert_eq!(rig.ask_mouse(&[0xf2]), [0xf2]);
    assert_eq!(rig.ask_mouse(&[0xec]), [0xfa]);
    assert_eq!(rig.ask_mouse(&[0xf2]), [0xfa, 0x00]);
}

#[test]
fn keyboard_and_mouse_share_the_port_in_turn() {
    let mut rig = Rig::with_mouse();
    rig.mouse(1, 1, 0, 0);
    rig.key(Key::KeyA, true);
    rig.wait();
    assert_eq!((rig.status() & 0x21, rig.read()), (0x01, 0x1c));
    rig.wait();
    assert_eq!((rig.status() & 0x21, rig.read()), (0x21, 0x28));
}

//! The keyboard at the end of the cable: commands, scan sets 1 to 3 and the 16-byte buffer.
//! Spec: IBM PS/2 technical reference, "Keyboard (101/102-key)".

use super::keys::{Key, ScanCode, translate};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Scan code bytes that the keyboard holds before it reports an overrun.
const BUFFER: usize = 16;
const ACK: u8 = 0xfa;
const RESEND: u8 = 0xfe;
const SELF_TEST_PASSED: u8 = 0xaa;
const ECHO: u8 = 0xee;
const IDENTITY: [u8; 2] = [0xab, 0x83];
const EXTENDED: u8 = 0xe0;
const BREAK: u8 = 0xf0;
/// 10.9 characters a second after half a second.
const TYPEMATIC_DEFAULT: u8 = 0x2b;

/// The lowest command; what is below it is an argument.
const FIRST_COMMAND: u8 = 0xed;
const CMD_LEDS: u8 = 0xed;
const CMD_ECHO: u8 = 0xee;
const CMD_SCAN_SET: u8 = 0xf0;
const CMD_IDENTIFY: u8 = 0xf2;
const CMD_TYPEMATIC: u8 = 0xf3;
const CMD_ENABLE: u8 = 0xf4;
const CMD_DISABLE: u8 = 0xf5;
const CMD_DEFAULTS: u8 = 0xf6;
const CMD_ALL_TYPEMATIC: u8 = 0xf7;
const CMD_ALL_MAKE_BREAK: u8 = 0xf8;
const CMD_ALL_MAKE: u8 = 0xf9;
const CMD_ALL_BOTH: u8 = 0xfa;
const CMD_KEY_TYPEMATIC: u8 = 0xfb;
const CMD_KEY_MAKE_BREAK: u8 = 0xfc;
const CMD_KEY_MAKE: u8 = 0xfd;
const CMD_RESEND: u8 = 0xfe;
const CMD_RESET: u8 = 0xff;

/// What a key reports in scan set 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct KeyMode {
    repeats: bool,
    breaks: bool,
}

impl KeyMode {
    const TYPEMATIC: Self = Self::new(true, false);
    const MAKE_BREAK: Self = Self::new(false, true);
    const MAKE: Self = Self::new(false, false);
    const BOTH: Self = Self::new(true, true);

    const fn new(repeats: bool, breaks: bool) -> Self {
        Self { repeats, breaks }
    }

    /// The power-on mode of a key, by its set 3 code.
    fn default_of(code: u8) -> Self {
        match code {
            0x11 | 0x12 | 0x14 | 0x19 | 0x59 => Self::MAKE_BREAK,
            0x07
            | 0x08
            | 0x0f
            | 0x17
            | 0x1f
            | 0x27
            | 0x2f
            | 0x37
            | 0x39
            | 0x3f
            | 0x47
            | 0x4f
            | 0x56..=0x58
            | 0x5e
            | 0x5f
            | 0x62
            | 0x65
            | 0x67
            | 0x69
            | 0x6b..=0x6f
            | 0x70..=0x77
            | 0x79
            | 0x7a
            | 0x7d
            | 0x7e
            | 0x84..=0x8d => Self::MAKE,
            _ => Self::TYPEMATIC,
        }
    }

    fn defaults() -> Vec<Self> {
        (0..=u8::MAX).map(Self::default_of).collect()
    }
}

/// How the PrintScreen key reported its last press, so that its release matches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
enum PrintForm {
    /// With a made-up Shift around it.
    #[default]
    Plain,
    /// With Ctrl or Shift really held.
    Bare,
    /// With Alt: System Request.
    SysRq,
}

/// The keyboard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Keyboard {
    /// Answers to commands; they go out before scan codes.
    replies: VecDeque<u8>,
    codes: VecDeque<u8>,
    /// A command that waits for its argument.
    argument_of: Option<u8>,
    last_sent: u8,
    scanning: bool,
    set: u8,
    leds: u8,
    typematic: u8,
    /// By set 3 code.
    modes: Vec<KeyMode>,
    held: Vec<Key>,
    print: PrintForm,
}

impl Keyboard {
    pub fn new() -> Self {
        Self {
            replies: VecDeque::new(),
            codes: VecDeque::new(),
            argument_of: None,
            last_sent: 0,
            scanning: true,
            set: 2,
            leds: 0,
            typematic: TYPEMATIC_DEFAULT,
            modes: KeyMode::defaults(),
            held: Vec::new(),
            print: PrintForm::Plain,
        }
    }

    /// Bit 0 Scroll Lock, 1 Num Lock, 2 Caps Lock.
    pub fn leds(&self) -> u8 {
        self.leds
    }

    /// Bytes that wait to be sent.
    pub fn backlog(&self) -> usize {
        self.replies.len() + self.codes.len()
    }

    /// The next byte on the wire.
    pub fn send(&mut self) -> Option<u8> {
        let byte = self.replies.pop_front().or_else(|| self.codes.pop_front())?;
        self.last_sent = byte;
        Some(byte)
    }

    /// A byte from the controller.
    pub fn write(&mut self, byte: u8) {
        match self.argument_of.take() {
            Some(command) if byte < FIRST_COMMAND => self.argument(command, byte),
            _ => self.command(byte),
        }
    }

    fn reply(&mut self, bytes: &[u8]) {
        self.replies.extend(bytes);
    }

    fn command(&mut self, command: u8) {
        // A new command ends the answer to the one before.
        self.replies.clear();
        match command {
            CMD_LEDS | CMD_SCAN_SET | CMD_TYPEMATIC | CMD_KEY_TYPEMATIC | CMD_KEY_MAKE_BREAK | CMD_KEY_MAKE => {
                self.argument_of = Some(command);
                self.reply(&[ACK]);
            }
            CMD_ECHO => self.reply(&[ECHO]),
            CMD_IDENTIFY => {
                self.reply(&[ACK]);
                self.reply(&IDENTITY);
            }
            CMD_ENABLE => {
                self.codes.clear();
                self.scanning = true;
                self.reply(&[ACK]);
            }
            CMD_DISABLE | CMD_DEFAULTS => {
                self.set_defaults();
                self.scanning = command == CMD_DEFAULTS;
                self.reply(&[ACK]);
            }
            CMD_ALL_TYPEMATIC => self.set_all(KeyMode::TYPEMATIC),
            CMD_ALL_MAKE_BREAK => self.set_all(KeyMode::MAKE_BREAK),
            CMD_ALL_MAKE => self.set_all(KeyMode::MAKE),
            CMD_ALL_BOTH => self.set_all(KeyMode::BOTH),
            CMD_RESEND => self.reply(&[self.last_sent]),
            CMD_RESET => {
                self.set_defaults();
                self.leds = 0;
                self.scanning = true;
                self.reply(&[ACK, SELF_TEST_PASSED]);
            }
            _ => self.reply(&[RESEND]),
        }
    }

    fn set_all(&mut self, mode: KeyMode) {
        self.codes.clear();
        self.modes.fill(mode);
        self.reply(&[ACK]);
    }

    fn set_defaults(&mut self) {
        self.codes.clear();
        self.set = 2;
        self.typematic = TYPEMATIC_DEFAULT;
        self.modes = KeyMode::defaults();
    }

    fn argument(&mut self, command: u8, value: u8) {
        self.replies.clear();
        let set_key = |modes: &mut Vec<KeyMode>, mode| {
            if let Some(slot) = modes.get_mut(usize::from(value)) {
                *slot = mode;
            }
        };
        match command {
            CMD_LEDS => self.leds = value & 7,
            CMD_TYPEMATIC => self.typematic = value & 0x7f,
            CMD_KEY_TYPEMATIC => set_key(&mut self.modes, KeyMode::TYPEMATIC),
            CMD_KEY_MAKE_BREAK => set_key(&mut self.modes, KeyMode::MAKE_BREAK),
            CMD_KEY_MAKE => set_key(&mut self.modes, KeyMode::MAKE),
            _ => match value {
                0 => return self.reply(&[ACK, self.set]),
                1..=3 => {
                    self.codes.clear();
                    self.set = value;
                }
                _ => return self.reply(&[RESEND]),
            },
        }
        self.reply(&[ACK]);
    }

    /// A key went down or up. A press of a key that is down already is the host's typematic repeat: it sends the
    /// make code again, unless the guest has not yet read what came before (repeats never pile up).
    pub fn key(&mut self, key: Key, pressed: bool) {
        let place = self.held.iter().position(|&k| k == key);
        match (pressed, place) {
            (true, None) if self.scanning => {
                self.held.push(key);
                self.report(key, true);
            }
            (true, Some(_)) if self.scanning && self.codes.is_empty() && self.repeats(key) => {
                self.report(key, true);
            }
            (false, Some(place)) => {
                self.held.swap_remove(place);
                if self.scanning {
                    self.report(key, false);
                }
            }
            _ => {}
        }
    }

    fn repeats(&self, key: Key) -> bool {
        let set3 = usize::from(key.scan_code().set3);
        key != Key::Pause && (self.set != 3 || self.modes.get(set3).is_some_and(|m| m.repeats))
    }

    fn holds(&self, keys: &[Key]) -> bool {
        self.held.iter().any(|k| keys.contains(k))
    }

    /// Queues what the key sends, all of it or, when it does not fit, one overrun mark.
    fn report(&mut self, key: Key, pressed: bool) {
        let bytes = self.sequence(key, pressed);
        let overrun = if self.set == 1 { 0xff } else { 0x00 };
        if self.codes.len() + bytes.len() <= BUFFER {
            self.codes.extend(bytes);
        } else if self.codes.len() <= BUFFER && self.codes.back() != Some(&overrun) {
            self.codes.push_back(overrun);
        }
    }

    fn sequence(&mut self, key: Key, pressed: bool) -> Vec<u8> {
        let scan = key.scan_code();
        if self.set == 3 {
            return self.sequence_3(scan.set3, pressed);
        }
        let mut bytes = Vec::with_capacity(8);
        match key {
            Key::PrintScreen => self.print_screen(pressed, &mut bytes),
            Key::Pause => self.pause(pressed, &mut bytes),
            _ => self.code(scan, pressed, &mut bytes),
        }
        bytes
    }

    fn sequence_3(&self, code: u8, pressed: bool) -> Vec<u8> {
        match (code, pressed) {
            (0, _) => Vec::new(),
            (_, true) => vec![code],
            (_, false) if self.modes[usize::from(code)].breaks => vec![BREAK, code],
            (_, false) => Vec::new(),
        }
    }

    /// One code of set 1 or 2.
    fn code(&self, scan: ScanCode, pressed: bool, out: &mut Vec<u8>) {
        if scan.extended {
            out.push(EXTENDED);
        }
        match (self.set, pressed) {
            (1, true) => out.push(translate(scan.set2)),
            (1, false) => out.push(translate(scan.set2) | 0x80),
            (_, true) => out.push(scan.set2),
            (_, false) => out.extend([BREAK, scan.set2]),
        }
    }

    fn print_screen(&mut self, pressed: bool, out: &mut Vec<u8>) {
        let print = Key::PrintScreen.scan_code();
        if pressed {
            let shifts = [Key::ControlLeft, Key::ControlRight, Key::ShiftLeft, Key::ShiftRight];
            self.print = if self.holds(&[Key::AltLeft, Key::AltRight]) {
                PrintForm::SysRq
            } else if self.holds(&shifts) {
                PrintForm::Bare
            } else {
                PrintForm::Plain
            };
        }
        let made_up_shift = ScanCode { extended: true, ..Key::ShiftLeft.scan_code() };
        let sys_rq = ScanCode { extended: false, set2: 0x84, ..print };
        match (self.print, pressed) {
            (PrintForm::SysRq, _) => self.code(sys_rq, pressed, out),
            (PrintForm::Bare, _) => self.code(print, pressed, out),
            (PrintForm::Plain, true) => {
                self.code(made_up_shift, true, out);
                self.code(print, true, out);
            }
            (PrintForm::Plain, false) => {
                self.code(print, false, out);
                self.code(made_up_shift, false, out);
            }
        }
    }

    /// Pause sends make and break at once and nothing on release; with Ctrl it is Break.
    fn pause(&self, pressed: bool, out: &mut Vec<u8>) {
        if !pressed {
            return;
        }
        if self.holds(&[Key::ControlLeft, Key::ControlRight]) {
            let brk = ScanCode { extended: true, ..Key::ScrollLock.scan_code() };
            self.code(brk, true, out);
            self.code(brk, false, out);
            return;
        }
        for pressed in [true, false] {
            out.push(0xe1);
            self.code(Key::ControlLeft.scan_code(), pressed, out);
            self.code(Key::NumLock.scan_code(), pressed, out);
        }
    }
}

//! Stand-in for the core's `Machine` until it lands: the same calls, a screen that echoes keys.
#![allow(missing_docs, reason = "replaced by emulator_core::machine")]

use emulator_core::devices::block::{BlockBackend, BlockStatus};

pub enum Exit {
    Budget,
    Halted { wake_at: Option<u64> },
    #[allow(dead_code)]
    Blocked,
}

#[derive(Default)]
pub struct Picture {
    pub width: u32,
    pub height: u32,
    pub pixels: Vec<u32>,
    pub text: bool,
    pub dirty: Rect,
}

#[derive(Default, Clone, Copy)]
pub struct Rect {
    pub x: u32,
    pub y: u32,
    pub width: u32,
    pub height: u32,
}

impl Rect {
    pub fn union(self, other: Self) -> Self {
        let (x, y) = (self.x.min(other.x), self.y.min(other.y));
        let right = (self.x + self.width).max(other.x + other.width);
        let bottom = (self.y + self.height).max(other.y + other.height);
        Self { x, y, width: right - x, height: bottom - y }
    }
}

pub struct Machine {
    instructions: u64,
    now: u64,
    text: String,
    serial: Vec<u8>,
    drawn: usize,
    disk: Option<Box<dyn BlockBackend>>,
    pub memory: u64,
}

impl Machine {
    pub fn new(memory: u64, disk: Option<Box<dyn BlockBackend>>) -> Self {
        Self { instructions: 0, now: 0, text: "Mock BIOS\nREADY\n# ".into(), serial: b"READY\r\n# ".to_vec(), drawn: 0, disk, memory }
    }
    pub fn run(&mut self, max: u64, host_now_ns: u64) -> Exit {
        self.now = self.now.max(host_now_ns);
        if self.instructions < 200_000_000 {
            let mut x = 1u64;
            for i in 0..max / 4 {
                x = x.wrapping_mul(6364136223846793005).wrapping_add(i);
            }
            std::hint::black_box(x);
            self.instructions += max;
            return Exit::Budget;
        }
        if let Some(disk) = &mut self.disk {
            let mut sector = [0; 16];
            if let Ok(BlockStatus::Ready) = disk.read(0, &mut sector) {
                self.text.push_str(&format!("disk {:02x?}\n# ", sector));
                self.disk = None;
            }
        }
        Exit::Halted { wake_at: Some(self.now + 4_000_000) }
    }
    pub fn instructions(&self) -> u64 {
        self.instructions
    }
    pub fn now(&self) -> u64 {
        self.now
    }
    pub fn reset(&mut self) {
        self.instructions = 0;
        self.text = "Mock BIOS\nREADY\n# ".into();
    }
    pub fn key(&mut self, code: &str, pressed: bool) {
        if pressed {
            match code {
                "Enter" => {
                    if self.text.ends_with("uname -a") {
                        self.text.push_str("\nLinux mock i686 GNU/Linux");
                    }
                    self.text.push_str("\n# ");
                }
                "Space" => self.text.push(' '),
                "Minus" => self.text.push('-'),
                _ => self.text.push_str(&code.trim_start_matches("Key").to_lowercase()),
            }
        }
    }
    pub fn mouse(&mut self, _dx: i32, _dy: i32, _wheel: i32, _buttons: u8) {}
    pub fn serial_send(&mut self, _port: usize, data: &[u8]) {
        self.serial.extend_from_slice(data);
    }
    pub fn serial_take(&mut self, _port: usize) -> Vec<u8> {
        std::mem::take(&mut self.serial)
    }
    pub fn render(&mut self, picture: &mut Picture) -> bool {
        if self.drawn == self.text.len() {
            return false;
        }
        self.drawn = self.text.len();
        picture.text = true;
        picture.dirty = Rect { x: 0, y: 0, width: 720, height: 400 };
        picture.width = 720;
        picture.height = 400;
        picture.pixels = (0..720 * 400).map(|i| 0xff00_0000 | (i % 720 / 3) << 8 | (i / 720 / 2) << 16).collect();
        true
    }
    pub fn screen_text(&self) -> String {
        self.text.clone()
    }
}

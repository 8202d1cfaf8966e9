//! tab86 for JavaScript: one [`WasmVm`] is one PC. It runs in a worker; the page sees it through the words and rings
//! that `header` and `rings` describe, in the VM's own memory.

mod blocks;
mod config;
mod error;
mod header;
mod rings;

use blocks::Stream;
use emulator_core::devices::i8042::Key;
use emulator_core::devices::vga::render::Picture;
use emulator_core::machine::{Exit, Machine};
use header::{Header, counter, word};
use rings::{InputRing, MAX_PAYLOAD, OutputRing, kind};
use std::collections::VecDeque;
use std::sync::Mutex;
use wasm_bindgen::prelude::*;

/// The last panic's message: the trap that follows it says nothing.
static PANIC: Mutex<String> = Mutex::new(String::new());

/// Why the guest stopped running, the value of [`WasmVm::run_slice`]; `protocol.js` has the same numbers.
mod status {
    pub const BUDGET: u32 = 0;
    pub const HALTED: u32 = 1;
    pub const BLOCKED: u32 = 2;
    pub const SHUTDOWN: u32 = 3;
    pub const POWER_OFF: u32 = 4;
    pub const DEBUG_EXIT: u32 = 5;
    pub const DEAD: u32 = 6;
}

/// Serial ports of a machine.
const SERIAL_PORTS: usize = 1;
/// Key codes that the machine's keyboard may hold before the next key waits here: it has a buffer of 16 bytes.
const KEYBOARD_FULL: usize = 8;
/// Keys that wait for a guest that doesn't read them; older ones are forgotten.
const MAX_KEYS: usize = 4096;
/// Bytes of one `read_memory`; `vm.js` has the same number.
const MAX_READ: usize = 64 << 20;

/// A changed rectangle as [`Picture`] has it: left, top, and right and bottom exclusive.
type Dirty = (u32, u32, u32, u32);

/// The rectangle around two; an empty one adds nothing.
fn union(a: Dirty, b: Dirty) -> Dirty {
    let empty = |r: Dirty| r.0 >= r.2 || r.1 >= r.3;
    match (empty(a), empty(b)) {
        (true, _) => b,
        (_, true) => a,
        _ => (a.0.min(b.0), a.1.min(b.1), a.2.max(b.2), a.3.max(b.3)),
    }
}

/// One PC.
#[wasm_bindgen]
pub struct WasmVm {
    machine: Machine,
    header: Box<Header>,
    input: InputRing,
    output: OutputRing,
    streams: Vec<Stream>,
    picture: Picture,
    text: String,
    /// Serial output that did not fit the ring yet.
    unsent: [Vec<u8>; SERIAL_PORTS],
    /// Serial input that the port has no room for yet.
    serial_input: [VecDeque<u8>; SERIAL_PORTS],
    /// Keys that the keyboard has no room for yet.
    keys: VecDeque<(Key, bool)>,
    /// The dirty rectangle in the header.
    published: Dirty,
    slices: u64,
    sleep_ns: Option<u64>,
    exit_code: u32,
}

#[wasm_bindgen]
impl WasmVm {
    /// Builds the machine from a `MachineSetup` (`protocol.js`).
    ///
    /// # Errors
    /// An `Error` with a `code` when the setup makes no machine.
    #[wasm_bindgen(constructor)]
    pub fn new(setup: &JsValue) -> Result<WasmVm, JsValue> {
        std::panic::set_hook(Box::new(|info| {
            if let Ok(mut message) = PANIC.lock() {
                *message = info.to_string();
            }
            console_error_panic_hook::hook(info);
        }));
        let (config, streams) = config::read(setup, SERIAL_PORTS)?;
        let machine = Machine::new(config).map_err(|error| error::config_error(&error))?;
        let header = Box::<Header>::default();
        Ok(Self {
            machine,
            input: InputRing::new(&header),
            output: OutputRing::new(&header),
            header,
            streams,
            picture: Picture::default(),
            text: String::new(),
            unsent: Default::default(),
            serial_input: Default::default(),
            keys: VecDeque::new(),
            published: Dirty::default(),
            slices: 0,
            sleep_ns: None,
            exit_code: 0,
        })
    }

    /// Address of the header in this instance's memory.
    pub fn header_ptr(&self) -> usize {
        std::ptr::from_ref::<Header>(&self.header) as usize
    }

    /// Takes the input, runs at most `budget` instructions and gives the output away. `now_ms` is the host's clock
    /// without the time in which the VM was paused. Returns a number of `status`.
    pub fn run_slice(&mut self, budget: u32, now_ms: f64) -> u32 {
        self.take_input();
        let exit = self.machine.run(u64::from(budget), (now_ms * 1e6) as u64);
        self.give_output();
        self.slices += 1;
        self.header.count(counter::INSTRUCTIONS, self.machine.instructions());
        self.header.count(counter::VIRTUAL_NS, self.machine.now());
        self.header.count(counter::SLICES, self.slices);
        let disks = self.machine.disk_activity();
        self.header.count(counter::DISK_READS, disks.iter().map(|disk| disk.read).sum());
        self.header.count(counter::DISK_WRITES, disks.iter().map(|disk| disk.written).sum());
        match exit {
            Exit::Budget => status::BUDGET,
            Exit::Halted { dead: true, .. } => status::DEAD,
            Exit::Halted { wake_at, .. } => {
                self.sleep_ns = wake_at.map(|at| at.saturating_sub(self.machine.now()));
                status::HALTED
            }
            Exit::Blocked => status::BLOCKED,
            Exit::Shutdown => status::SHUTDOWN,
            Exit::PowerOff => status::POWER_OFF,
            Exit::DebugExit(value) => {
                self.exit_code = value;
                status::DEBUG_EXIT
            }
        }
    }

    /// After `HALTED`: milliseconds until the guest's next event, or infinity.
    pub fn sleep_ms(&self) -> f64 {
        self.sleep_ns.map_or(f64::INFINITY, |ns| ns as f64 / 1e6)
    }

    /// Draws the screen if it changed, and publishes it with its text. Returns whether it changed.
    pub fn render(&mut self) -> bool {
        let header = &self.header;
        let seq = header.get(word::FRAME_SEQ);
        // Odd before anything is touched: the page drops what it reads meanwhile.
        header.set(word::FRAME_SEQ, seq.wrapping_add(1));
        if !self.machine.render(&mut self.picture) {
            header.set(word::FRAME_SEQ, seq);
            return false;
        }
        let text = self.machine.screen_text();
        let text_mode = text.is_some();
        self.text = text.unwrap_or_default();
        let picture = &self.picture;
        let mut dirty = picture.dirty;
        if header.get(word::FRAME_WIDTH) != picture.width || header.get(word::FRAME_HEIGHT) != picture.height {
            dirty = (0, 0, picture.width, picture.height);
        } else if header.get(word::DRAWN_SEQ) != seq {
            // The page has not drawn the last change yet: it gets both in one.
            dirty = union(dirty, self.published);
        }
        self.published = dirty;
        let (x0, y0, x1, y1) = dirty;
        let (across, down) = picture.aspect;
        for (number, value) in [
            (word::FRAME_PTR, picture.pixels.as_ptr() as usize as u32),
            (word::FRAME_STRIDE, picture.stride),
            (word::ASPECT, across << 16 | down & 0xffff),
            (word::FRAME_WIDTH, picture.width),
            (word::FRAME_HEIGHT, picture.height),
            (word::DIRTY_X, x0),
            (word::DIRTY_Y, y0),
            (word::DIRTY_W, x1 - x0),
            (word::DIRTY_H, y1 - y0),
            (word::TEXT_MODE, u32::from(text_mode)),
            (word::TEXT_PTR, self.text.as_ptr() as usize as u32),
            (word::TEXT_LEN, self.text.len() as u32),
        ] {
            header.set(number, value);
        }
        header.set(word::FRAME_SEQ, seq.wrapping_add(2));
        true
    }

    /// After `DEBUG_EXIT`: the value that the guest wrote.
    pub fn exit_code(&self) -> u32 {
        self.exit_code
    }

    /// A hash of all guest RAM, as `tab86 run --stats` prints it.
    pub fn ram_hash(&self) -> String {
        format!("{:016x}", self.machine.ram_hash())
    }

    /// Reads physical memory, as devices see it: `length` bytes, or `MAX_READ` if that is less.
    pub fn read_memory(&self, address: f64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length.min(MAX_READ)];
        self.machine.read_physical(address as u64, &mut bytes);
        bytes
    }

    /// Presses the reset button.
    pub fn reset(&mut self) {
        self.machine.reset();
    }

    /// What the worker measured: thousand instructions per second, and idle time in 1/1000.
    pub fn set_load(&self, kips: u32, idle: u32) {
        self.header.set(word::KIPS, kips);
        self.header.set(word::IDLE, idle);
    }

    /// Chunks of streamed images that the guest waits for, as pairs of stream and chunk number.
    pub fn take_wanted(&self) -> Vec<u32> {
        let numbered = self.streams.iter().enumerate();
        numbered.flat_map(|(n, s)| s.take_wanted().into_iter().flat_map(move |c| [n as u32, c as u32])).collect()
    }

    /// Brings a chunk.
    pub fn provide(&self, stream: usize, chunk: u32, data: Vec<u8>) {
        if let Some(stream) = self.streams.get(stream) {
            stream.provide(u64::from(chunk), data);
        }
    }

    /// Says that a chunk cannot be had.
    pub fn provide_error(&self, stream: usize, message: String) {
        if let Some(stream) = self.streams.get(stream) {
            stream.fail(message);
        }
    }
}

impl WasmVm {
    fn take_input(&mut self) {
        while let Some((kind, payload)) = self.input.pop(&self.header) {
            match (kind, payload.as_slice()) {
                (kind::KEY, [pressed, code @ ..]) => {
                    let key = std::str::from_utf8(code).ok().and_then(Key::from_code);
                    self.keys.extend(key.map(|key| (key, *pressed != 0)));
                    if self.keys.len() > MAX_KEYS {
                        self.keys.pop_front();
                    }
                }
                (kind::MOUSE, &[x0, x1, y0, y1, w0, w1, buttons]) => {
                    let [dx, dy, wheel] = [[x0, x1], [y0, y1], [w0, w1]].map(|b| i32::from(i16::from_le_bytes(b)));
                    self.machine.mouse(dx, dy, wheel, buttons);
                }
                (kind::SERIAL_IN, [port, data @ ..]) => {
                    if let Some(waiting) = self.serial_input.get_mut(usize::from(*port)) {
                        waiting.extend(data);
                    }
                }
                _ => {}
            }
        }
        while self.machine.keyboard_backlog() < KEYBOARD_FULL
            && let Some((key, pressed)) = self.keys.pop_front()
        {
            self.machine.key(key, pressed);
        }
        for (port, waiting) in self.serial_input.iter_mut().enumerate() {
            let accepted = self.machine.serial_send(port, waiting.make_contiguous());
            waiting.drain(..accepted.min(waiting.len()));
        }
    }

    fn give_output(&mut self) {
        let log = self.machine.firmware_log_take();
        for part in log.chunks(MAX_PAYLOAD) {
            // A log that nobody reads is worth no memory: what doesn't fit is dropped.
            self.output.push(&self.header, kind::FIRMWARE_LOG, &[], part);
        }
        for port in 0..SERIAL_PORTS {
            let unsent = &mut self.unsent[port];
            unsent.extend(self.machine.serial_take(port));
            while !unsent.is_empty() {
                // One byte of a record's room is the port.
                let count = unsent.len().min(self.output.room(&self.header).saturating_sub(1));
                if count == 0 || !self.output.push(&self.header, kind::SERIAL_OUT, &[port as u8], &unsent[..count]) {
                    break;
                }
                unsent.drain(..count);
            }
        }
    }
}

/// The last panic's message, empty when there was none.
#[wasm_bindgen]
pub fn panic_message() -> String {
    PANIC.lock().map(|message| message.clone()).unwrap_or_default()
}

//! tab86 for JavaScript: one [`WasmVm`] is one PC. It runs in a worker; the page sees it through the words and rings
//! that `header` and `rings` describe, in the VM's own memory.

mod blocks;
mod config;
mod error;
mod header;
mod rings;
mod vm;

use blocks::Stream;
use header::{Header, counter, word};
use rings::{InputRing, OutputRing, kind};
use std::sync::Mutex;
use vm::{Exit, Machine, Picture, Rect};
use wasm_bindgen::prelude::*;

/// The last panic's message: the trap that follows it says nothing.
static PANIC: Mutex<String> = Mutex::new(String::new());

/// Why the guest stopped running, the value of [`WasmVm::run_slice`]; `protocol.js` has the same numbers.
mod status {
    pub const BUDGET: u32 = 0;
    pub const HALTED: u32 = 1;
    pub const BLOCKED: u32 = 2;
}

/// Serial ports that JavaScript can reach.
const SERIAL_PORTS: usize = 1;

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
    /// The dirty rectangle in the header.
    published: Rect,
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
        let settings = config::settings(setup)?;
        let mut streams = Vec::new();
        let disk = config::image(setup, "hda", &mut streams);
        let header = Box::<Header>::default();
        Ok(Self {
            machine: Machine::new(settings.memory as u64, disk.map(|d| d.backend)),
            input: InputRing::new(&header),
            output: OutputRing::new(&header),
            header,
            streams,
            picture: Picture::default(),
            text: String::new(),
            unsent: Default::default(),
            published: Rect::default(),
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
        match exit {
            Exit::Budget => status::BUDGET,
            Exit::Halted { wake_at } => {
                self.sleep_ns = wake_at.map(|at| at.saturating_sub(self.machine.now()));
                status::HALTED
            }
            Exit::Blocked => status::BLOCKED,
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
        self.text = self.machine.screen_text();
        let picture = &self.picture;
        let mut dirty = picture.dirty;
        let resized = header.get(word::FRAME_WIDTH) != picture.width || header.get(word::FRAME_HEIGHT) != picture.height;
        if resized {
            dirty = Rect { x: 0, y: 0, width: picture.width, height: picture.height };
        } else if header.get(word::DRAWN_SEQ) != seq {
            // The page has not drawn the last change yet: it gets both in one.
            dirty = dirty.union(self.published);
        }
        self.published = dirty;
        for (number, value) in [
            (word::FRAME_PTR, picture.pixels.as_ptr() as usize as u32),
            (word::FRAME_STRIDE, picture.width),
            (word::ASPECT, 4 << 16 | 3),
            (word::FRAME_WIDTH, picture.width),
            (word::FRAME_HEIGHT, picture.height),
            (word::DIRTY_X, dirty.x),
            (word::DIRTY_Y, dirty.y),
            (word::DIRTY_W, dirty.width),
            (word::DIRTY_H, dirty.height),
            (word::TEXT_MODE, u32::from(picture.text)),
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

    /// Reads physical memory, as devices see it.
    pub fn read_memory(&self, _address: f64, length: usize) -> Vec<u8> {
        vec![0; length]
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
                    if let Ok(code) = std::str::from_utf8(code) {
                        self.machine.key(code, *pressed != 0);
                    }
                }
                (kind::MOUSE, &[x0, x1, y0, y1, w0, w1, buttons]) => {
                    let [dx, dy, wheel] = [[x0, x1], [y0, y1], [w0, w1]].map(|b| i32::from(i16::from_le_bytes(b)));
                    self.machine.mouse(dx, dy, wheel, buttons);
                }
                (kind::SERIAL_IN, [port, data @ ..]) => self.machine.serial_send(usize::from(*port), data),
                _ => {}
            }
        }
    }

    fn give_output(&mut self) {
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

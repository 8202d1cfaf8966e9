//! One machine between the core and the page: input and output rings, pictures, pace. All of its state lies in the
//! machine's own memory, so any worker may run its next slice.

use crate::blocks::{Mailbox, Stream};
use crate::config;
use crate::error;
use crate::header::{Header, counter, word};
use crate::network::Network;
use crate::pace::{End, Looks, Pace, State};
use crate::rings::{InputRing, MAX_PAYLOAD, OutputRing, kind};
use emulator_core::devices::i8042::Key;
use emulator_core::devices::vga::render::Picture;
use emulator_core::machine::{Exit, Machine};
use std::collections::VecDeque;
use wasm_bindgen::JsValue;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen::prelude::wasm_bindgen;

/// What a machine wants after a slice: the value of [`Vm::settle`], with flags; `protocol.js` has the same numbers.
mod after {
    /// To go on.
    pub const READY: u32 = 0;
    /// To sleep until [`wake_at`](super::Vm::wake_at).
    pub const PARKED: u32 = 1;
    /// Nothing any more.
    pub const STOPPED: u32 = 2;
    /// Flag: it drew a picture for the page.
    pub const DREW: u32 = 1 << 4;
    /// Flag: its state is another.
    pub const STATE: u32 = 1 << 5;
}

/// The pool's priority of a machine on the screen.
const VISIBLE: u32 = 2;
/// The length of a chunk record that brings an error.
const FAILED: u32 = u32::MAX;

/// Serial ports of a machine.
const SERIAL_PORTS: usize = 1;
/// Key codes that the machine's keyboard may hold before the next key waits here: it has a buffer of 16 bytes.
const KEYBOARD_FULL: usize = 8;
/// How soon a machine looks again whether its page has taken frames, in milliseconds.
const LOOK_AGAIN_MS: f64 = 4.0;
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
pub struct Vm {
    machine: Machine,
    header: Box<Header>,
    input: InputRing,
    output: OutputRing,
    streams: Vec<Stream>,
    mailbox: Option<Mailbox>,
    /// Records for the page that did not fit the ring yet.
    unsaid: VecDeque<(u8, Vec<u8>)>,
    picture: Picture,
    text: String,
    /// Serial output that did not fit the ring yet.
    unsent: [Vec<u8>; SERIAL_PORTS],
    /// Serial input that the port has no room for yet.
    serial_input: [VecDeque<u8>; SERIAL_PORTS],
    /// Keys that the keyboard has no room for yet.
    keys: VecDeque<(Key, bool)>,
    network: Network,
    /// The dirty rectangle in the header.
    published: Dirty,
    slices: u64,
    pace: Pace,
    /// How the last slice ended, until `settle`.
    end: End,
    wake_at: f64,
    reported: State,
    exit_code: Option<u32>,
    /// Keys, moves of the mouse or bytes for a serial port came.
    disturbed: bool,
}

/// The browser's clock, in nanoseconds.
#[cfg(target_arch = "wasm32")]
fn host_clock() -> u64 {
    #[wasm_bindgen]
    extern "C" {
        #[wasm_bindgen(js_namespace = performance)]
        fn now() -> f64;
    }
    (now() * 1e6) as u64
}

impl Vm {
    /// Builds the machine from a `MachineSetup` (`protocol.js`).
    ///
    /// # Errors
    /// An `Error` with a `code` when the setup makes no machine.
    pub fn new(setup: &JsValue) -> Result<Self, JsValue> {
        let (config, streams, heat) = config::read(setup, SERIAL_PORTS)?;
        let mut machine = Machine::new(config).map_err(|error| error::config_error(&error))?;
        #[cfg(target_arch = "wasm32")]
        machine.set_host_clock(host_clock);
        #[cfg(target_arch = "wasm32")]
        if let Some(heat) = heat {
            machine.enable_jit(Box::new(crate::jit::TableHost::new()), heat);
        }
        #[cfg(not(target_arch = "wasm32"))]
        let _ = heat;
        // The page plugs the cable in.
        machine.network_set_link(false);
        let header = Box::<Header>::default();
        let mailbox = (!streams.is_empty()).then(Mailbox::default);
        header.set(word::MAILBOX_PTR, mailbox.as_ref().map_or(0, Mailbox::address));
        Ok(Self {
            machine,
            input: InputRing::new(&header),
            output: OutputRing::new(&header),
            header,
            streams,
            mailbox,
            unsaid: VecDeque::new(),
            picture: Picture::default(),
            text: String::new(),
            unsent: Default::default(),
            serial_input: Default::default(),
            keys: VecDeque::new(),
            network: Network::default(),
            published: Dirty::default(),
            slices: 0,
            pace: Pace::default(),
            end: End::Budget,
            wake_at: f64::INFINITY,
            reported: State::Stopped,
            exit_code: None,
            disturbed: false,
        })
    }

    /// Address of the header in this instance's memory.
    pub fn header_ptr(&self) -> usize {
        std::ptr::from_ref::<Header>(&self.header) as usize
    }

    /// Runs at most so many instructions, whatever the time and how the machine takes it.
    pub fn run_exactly(&mut self, instructions: u64) {
        let _ = self.machine.run(instructions, 0);
        self.header.count(counter::INSTRUCTIONS, self.machine.instructions());
    }

    /// Takes the input, runs a slice and gives the output away. `now` is the pool's clock in milliseconds. `settle` must
    /// follow with the time at the end.
    pub fn run(&mut self, now: f64) {
        self.take_input();
        self.machine.set_timer_slack(self.pace.slack(now, self.visible()));
        let (budget, guest_now) = self.pace.begin(now);
        let exit = self.machine.run_for(budget, guest_now);
        self.give_output();
        let sent_all = self.network.collect(&mut self.machine, &self.output, &self.header);
        // The slice made room for more.
        let more = self.network.deliver(&mut self.machine);
        if self.network.count(&self.machine, &self.header) {
            self.pace.traffic(now);
        }
        self.slices += 1;
        self.header.count(counter::INSTRUCTIONS, self.machine.instructions());
        self.header.count(counter::VIRTUAL_NS, self.machine.now());
        self.header.count(counter::SLICES, self.slices);
        self.header.count(counter::JIT_BLOCKS, self.machine.jit_counters().regions);
        let disks = self.machine.disk_activity();
        self.header.count(counter::DISK_READS, disks.iter().map(|disk| disk.read).sum());
        self.header.count(counter::DISK_WRITES, disks.iter().map(|disk| disk.written).sum());
        self.exit_code = None;
        self.end = match exit {
            Exit::Budget => End::Budget,
            Exit::Halted { dead: true, .. } => End::Dead,
            Exit::Halted { .. } if more => End::Asleep(Some(now)),
            Exit::Halted { wake_at, .. } => {
                let host = wake_at.and_then(|at| self.machine.host_time(at));
                let wake_at = host.map(|ns| self.pace.pool_ms(ns));
                // Nobody wakes a guest whose transmitter waits for the page.
                let look_at = now + LOOK_AGAIN_MS;
                End::Asleep(if sent_all { wake_at } else { Some(wake_at.map_or(look_at, |at| at.min(look_at))) })
            }
            Exit::Blocked => End::Asleep(None),
            Exit::Shutdown => End::Ended(State::Shutdown),
            Exit::PowerOff => End::Ended(State::Off),
            Exit::DebugExit(value) => {
                self.exit_code = Some(value);
                End::Ended(State::Off)
            }
        };
    }

    /// After `run`: accounts for the slice, draws if it is time, and says what follows (`after`).
    pub fn settle(&mut self, now: f64) -> u32 {
        self.machine.note_slice_end(self.pace.guest_ns(now));
        self.pace.end(now, self.end);
        let mut looks = Looks { wanted: self.header.get(word::FRAME_WANTED) != 0, visible: self.visible() };
        let mut drew = false;
        let touched = self.machine.screen_touched();
        if touched || self.disturbed {
            self.pace.enliven(now);
            self.disturbed = false;
        }
        if self.pace.draws(now, touched, looks) {
            // Before the page sees the picture and wants the next.
            self.header.set(word::FRAME_WANTED, 0);
            drew = self.render(self.pace.rests(now));
            let (x0, y0, x1, y1) = self.published;
            self.pace.drew(now, if drew { u64::from(x1 - x0) * u64::from(y1 - y0) } else { 0 });
            if !drew && looks.wanted {
                self.header.set(word::FRAME_WANTED, 1);
            }
        }
        // Nobody is told of pictures that nobody waits for.
        let announced = drew && (looks.wanted || looks.visible);
        looks.wanted &= !drew;
        if let Some((kips, idle)) = self.pace.measure(now, self.machine.instructions()) {
            self.set_load(kips, idle);
        }
        self.wake_at = self.pace.wake_at(now, self.end, self.machine.screen_touched(), looks);
        let next = match self.end {
            End::Budget => after::READY,
            End::Asleep(_) | End::Dead => after::PARKED,
            End::Ended(_) => after::STOPPED,
        };
        next | if announced { after::DREW } else { 0 } | if self.state() == self.reported { 0 } else { after::STATE }
    }

    /// The pool's time at which a parked machine wants to run, or infinity.
    pub fn wake_at(&self) -> f64 {
        self.wake_at
    }

    /// What the machine is doing.
    pub fn state(&self) -> State {
        self.pace.state()
    }

    /// What the machine is doing, for the page: it knows now.
    pub fn report_state(&mut self) -> u32 {
        self.reported = self.state();
        if !matches!(self.reported, State::Running | State::Halted) {
            self.set_load(0, 0);
        }
        self.reported as u32
    }

    /// The value with which the guest ended the machine, if it did so by the debug exit.
    pub fn exit_code(&self) -> Option<u32> {
        self.exit_code
    }

    /// Starts the machine, or lets it go on after a pause; nothing when it runs or has ended.
    pub fn start(&mut self, now: f64) {
        self.pace.start(now, self.machine.instructions());
    }

    /// Pauses a machine that runs.
    pub fn pause(&mut self, now: f64) {
        self.pace.pause(now);
    }

    /// Presses the reset button; a machine that had ended runs again.
    pub fn reset(&mut self, now: f64) {
        self.machine.reset();
        self.pace.restart(now);
    }

    /// This memory is a copy of a running machine's: what was on its way between the original and its page is not for
    /// the clone's page. The network card keeps its address, which the guest knows (the page gives the clone
    /// another on the network), and the cable as it is.
    pub fn become_clone(&mut self) {
        self.input.clear(&self.header);
        self.output.clear(&self.header);
        self.unsaid.clear();
        self.network.clear();
        self.streams.iter().for_each(Stream::ask_again);
        self.header.set(word::FRAME_WANTED, 1);
        self.header.set(word::WAKE_PAGE, 1);
        self.header.set(word::DRAWN_SEQ, 0);
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

    /// Registers, flags and counts.
    pub fn registers(&self) -> Vec<u64> {
        self.machine.cpu().visible_state()
    }

    /// Figures of the fast tier.
    pub fn jit_counters(&self) -> Vec<u64> {
        let c = self.machine.jit_counters();
        [c.regions, c.translated, c.modules, c.bytes, c.entered, c.instructions]
            .into_iter()
            .chain(c.left)
            .chain(c.known)
            .chain([c.refused])
            .collect()
    }

    fn visible(&self) -> bool {
        self.header.get(word::PRIORITY) == VISIBLE
    }

    fn set_load(&self, kips: u32, idle: u32) {
        self.header.set(word::KIPS, kips);
        self.header.set(word::IDLE, idle);
    }

    /// Draws the screen if it changed, and publishes it with its text. Returns whether it changed.
    fn render(&mut self, still: bool) -> bool {
        let header = &self.header;
        let seq = header.get(word::FRAME_SEQ);
        // Odd before anything is touched: the page drops what it reads meanwhile.
        header.set(word::FRAME_SEQ, seq.wrapping_add(1));
        let (machine, picture) = (&mut self.machine, &mut self.picture);
        let changed = if still { machine.render_still(picture) } else { machine.render(picture) };
        if !changed {
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

    fn take_input(&mut self) {
        while let Some((kind, payload)) = self.input.pop(&self.header) {
            self.disturbed |= matches!(kind, kind::KEY | kind::MOUSE | kind::SERIAL_IN);
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
                (kind::CHUNK, &[slot, stream, c0, c1, c2, c3, l0, l1, l2, l3, ref text @ ..]) => {
                    let [chunk, length] = [[c0, c1, c2, c3], [l0, l1, l2, l3]].map(u32::from_le_bytes);
                    self.take_chunk(slot, stream, chunk, length, text);
                }
                (kind::NET_IN, _) => self.network.receive(payload),
                (kind::NET_LINK, &[up]) => {
                    // What came over the old cable is lost with it.
                    self.network.clear();
                    self.machine.network_set_link(up != 0);
                }
                _ => {}
            }
        }
        self.network.deliver(&mut self.machine);
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

    fn take_chunk(&mut self, slot: u8, stream: u8, chunk: u32, length: u32, text: &[u8]) {
        if let (Some(stream), Some(mailbox)) = (self.streams.get(usize::from(stream)), &self.mailbox) {
            if length == FAILED {
                stream.fail(String::from_utf8_lossy(text).into_owned());
            } else {
                // A length that no slot has counts as a chunk of the wrong size.
                stream.provide(u64::from(chunk), mailbox.take(usize::from(slot), length as usize).unwrap_or_default());
            }
        }
        self.unsaid.push_back((kind::CHUNK_TAKEN, vec![slot]));
    }

    fn give_output(&mut self) {
        for (number, stream) in self.streams.iter().enumerate() {
            let wanted = stream.take_wanted().into_iter();
            let record = |chunk: u64| [&[number as u8][..], &(chunk as u32).to_le_bytes()].concat();
            self.unsaid.extend(wanted.map(|chunk| (kind::CHUNK_WANTED, record(chunk))));
        }
        while let Some((kind, record)) = self.unsaid.front()
            && self.output.push(&self.header, *kind, &[], record)
        {
            self.unsaid.pop_front();
        }
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

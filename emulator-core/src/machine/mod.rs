//! The machine: board, CPUs and clock, behind the interface that hosts use.
//!
//! A host creates a [`Machine`], calls [`run`](Machine::run) in slices, feeds input and takes output
//! between slices. The machine never blocks and never calls the host.

pub mod board;
pub mod clock;
pub mod config;
mod firmware;
pub mod loader;
mod slack;
pub mod snapshot;

pub use crate::devices::ne2000::{Counters as NetworkCounters, Traffic};
pub use clock::ClockMode;
pub use config::{ConfigError, DriveConfig, MachineConfig, NetworkConfig, NetworkKind};
pub use snapshot::StateError;

use crate::bus::CpuBus;
use crate::cpu::Cpu;
use crate::cpu::cache::CodeCache;
use crate::cpu::run::CpuExit;
use crate::cpu::state::{Activity, CpuModel};
use crate::devices::apic_bus::CpuRequest;
use crate::devices::i8042::Key;
use crate::devices::ne2000::Ne2000;
use crate::devices::vga::render::Picture;
use crate::devices::vga::text::TextScreen;
use crate::jit::{Counters, Heat, Jit, JitHost};
use crate::mem::Memory;
use crate::time::{SECOND, VirtTime};
use board::Board;
use clock::Clock;
use slack::TimerSlack;

/// Why [`Machine::run`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// The instruction budget is used up; there is more to do.
    Budget,
    /// The guest is idle (HLT).
    Halted {
        /// Virtual time of the next event; `None` when nothing but host input can wake it.
        wake_at: Option<VirtTime>,
        /// Interrupts are off: nothing can ever wake it but a reset.
        dead: bool,
    },
    /// A drive waits for a streamed image.
    Blocked,
    /// Triple fault: the CPU stopped until a reset.
    Shutdown,
    /// The guest switched the machine off.
    PowerOff,
    /// The guest wrote this value to isa-debug-exit.
    DebugExit(u32),
}

/// Counters for display.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DriveActivity {
    /// Sectors read by the guest since power-on.
    pub read: u64,
    /// Sectors written.
    pub written: u64,
}

/// A monotonic clock of the host in nanoseconds, of any origin and as coarse as it is.
pub type HostClock = fn() -> u64;

/// A whole PC.
#[derive(Debug)]
pub struct Machine {
    board: Board,
    cpus: Vec<Cpu>,
    code: CodeCache,
    resets: u64,
    idle: VirtTime,
    /// Since when the guest sleeps, after [`Exit::Halted`].
    asleep_since: Option<VirtTime>,
    slack: TimerSlack,
    host_clock: Option<HostClock>,
    powered_off: bool,
}

impl Machine {
    /// Puts a machine together and resets it.
    ///
    /// # Errors
    /// When the configuration is impossible; nothing is kept then.
    pub fn new(config: MachineConfig) -> Result<Self, ConfigError> {
        config.check()?;
        let model = config.cpu.unwrap_or(CpuModel::Pentium4);
        let fw_cfg = firmware::fw_cfg(&config)?;
        let mem = Memory::new(config.memory as u32 & !0xfff, &config.bios);
        let mut board =
            Board::new(mem, Clock::new(config.clock), fw_cfg, config.cpus, config.serials, config.debug_exit);
        firmware::attach(&mut board, config);
        let cpus = (0..board.cpu_count()).map(|i| Cpu::new(i, model)).collect();
        let mut machine = Self {
            board,
            cpus,
            code: CodeCache::default(),
            resets: 0,
            idle: 0,
            asleep_since: None,
            slack: TimerSlack::default(),
            host_clock: None,
            powered_off: false,
        };
        machine.board.reset(0);
        Ok(machine)
    }

    /// Switches the fast tier on. The machine must not move in memory from now on but by its owner, who holds it by
    /// pointer: vCPUs and guest memory stay where they are.
    pub fn enable_jit(&mut self, host: Box<dyn JitHost>, heat: Heat) {
        self.code.clear();
        self.code.jit = Some(Box::new(Jit::new(host, heat, &self.cpus[0], &self.board.mem)));
    }

    /// Gives the realtime clock something to look at within a slice. Without it virtual time runs at the pace of the
    /// slices before, which is wrong where the guest turns from slow work to fast.
    pub fn set_host_clock(&mut self, clock: HostClock) {
        self.host_clock = Some(clock).filter(|_| self.board.clock.mode() == ClockMode::Realtime);
    }

    /// Figures of the fast tier; all zero without one.
    #[must_use]
    pub fn jit_counters(&self) -> Counters {
        self.code.jit.as_ref().map(|jit| jit.counters()).unwrap_or_default()
    }

    /// Presses the reset button.
    pub fn reset(&mut self) {
        let now = self.now();
        self.powered_off = false;
        self.board.reset(now);
        self.cpus.iter_mut().for_each(Cpu::reset);
        self.resets += 1;
    }

    /// Runs for at most `instructions`. `host_now` is the host's monotonic time in nanoseconds (ignored by the
    /// deterministic clock). With the deterministic clock idle time is skipped, at most a second of it in one
    /// call; with the realtime clock the host sleeps until `wake_at`.
    pub fn run(&mut self, instructions: u64, host_now: u64) -> Exit {
        self.cpus[0].limit_deliveries(instructions);
        self.run_on(instructions, host_now)
    }

    /// The same, for a host that shares out its time: what takes it longer (device accesses, string instructions, new
    /// code) uses up the budget faster, so that a budget is about as much time for every guest.
    pub fn run_for(&mut self, budget: u64, host_now: u64) -> Exit {
        self.cpus[0].limit_effort(budget);
        self.run_on(budget, host_now)
    }

    fn run_on(&mut self, instructions: u64, host_now: u64) -> Exit {
        if self.powered_off {
            return Exit::PowerOff;
        }
        let end = self.instructions().saturating_add(instructions);
        let began = self.host_clock.map_or(0, |clock| clock());
        let at_once = self.asleep_since.is_some() || self.host_clock.is_none();
        self.board.clock.begin_slice(self.instructions(), host_now, at_once);
        let begun = self.now();
        let mut look_at = self.host_clock.map_or(u64::MAX, |_| self.board.clock.next_look(self.instructions()));
        if let Some(since) = self.asleep_since.take() {
            self.idle += begun - since;
            self.slack.slept(begun, self.cpus[0].icount);
            if self.slack.idles() {
                self.code.calm(self.cpus[0].icount);
            }
        }
        loop {
            if let Some(clock) = self.host_clock
                && self.instructions() >= look_at
            {
                self.board.clock.look(self.instructions(), host_now + clock().saturating_sub(began));
                look_at = self.board.clock.next_look(self.instructions());
            }
            let now = self.now();
            self.board.fire_due(now);
            if let Some(exit) = self.serve_requests() {
                return exit;
            }
            if self.instructions() >= end || self.cpus[0].exhausted() {
                return Exit::Budget;
            }
            if self.board.blocked() && self.board.clock.mode() == ClockMode::Deterministic {
                return Exit::Blocked;
            }
            // A device access may arm an earlier event: the CPU then comes back (`attention`).
            self.board.armed = self.board.events.earliest();
            let deadline = self.board.clock.count_at(self.board.armed);
            let until = end.min(deadline).min(look_at);
            let cpu = &mut self.cpus[0];
            match cpu.run(&mut self.board, &mut self.code, until) {
                CpuExit::Budget | CpuExit::Attention => {}
                CpuExit::Shutdown => return Exit::Shutdown,
                CpuExit::Halted | CpuExit::WaitForSipi => {
                    if let Some(exit) = self.idle(begun) {
                        return exit;
                    }
                }
            }
        }
    }

    /// The CPU is halted: either time passes at once, or the host must wait.
    #[inline(never)]
    fn idle(&mut self, begun: VirtTime) -> Option<Exit> {
        let count = self.instructions();
        let now = self.now();
        let next = self.board.events.earliest();
        if next <= now {
            return None;
        }
        let cpu = &self.cpus[0];
        let dead = !cpu.flag(crate::cpu::flags::IF);
        let realtime = self.board.clock.mode() == ClockMode::Realtime;
        let next = if realtime { self.board.events.earliest_with_slack(self.slack.now()) } else { next };
        let wake_at = Some(next).filter(|&t| t != VirtTime::MAX);
        let exit = Exit::Halted { wake_at, dead };
        match (self.board.clock.mode(), wake_at) {
            (ClockMode::Deterministic, Some(at)) if !dead => {
                if now - begun > SECOND {
                    return Some(Exit::Budget);
                }
                self.idle += at - now;
                self.board.clock.skip_to(count, at);
                None
            }
            _ => {
                self.asleep_since = Some(now);
                Some(exit)
            }
        }
    }

    /// The most, in nanoseconds, that one-shot timers may fire late while the guest has been idle for seconds. They then
    /// share wake-ups, which saves the host's power; 0 (the default) is exact. The deterministic clock ignores it.
    pub fn set_timer_slack(&mut self, nanoseconds: u64) {
        self.slack.set_limit(nanoseconds);
    }

    /// Tells the host's time at the end of a [`run`](Self::run); the realtime clock learns its pace from it.
    pub fn note_slice_end(&mut self, host_now: u64) {
        self.board.clock.end_slice(self.instructions(), host_now);
    }

    /// The host's time, on the scale of [`run`](Self::run), until which to sleep so that virtual time `time` is reached.
    /// `None` with the deterministic clock.
    #[must_use]
    pub fn host_time(&self, time: VirtTime) -> Option<u64> {
        self.board.clock.host_time(time)
    }

    #[inline(never)]
    fn serve_requests(&mut self) -> Option<Exit> {
        for (index, request) in std::mem::take(&mut self.board.cpu_requests) {
            let Some(cpu) = self.cpus.get_mut(index) else { continue };
            match request {
                CpuRequest::Nmi => cpu.nmi_pending = true,
                CpuRequest::Init => {
                    cpu.reset();
                }
                CpuRequest::StartUp(page) if cpu.activity == Activity::WaitForSipi => {
                    cpu.set_segment(crate::cpu::Seg::Cs, crate::cpu::Segment::real(u16::from(page) << 8));
                    cpu.rip = 0;
                    cpu.activity = Activity::Running;
                }
                CpuRequest::StartUp(_) | CpuRequest::Smi | CpuRequest::ExtInt => {}
            }
        }
        let signals = &mut self.board.signals;
        if std::mem::take(&mut signals.nmi) {
            self.cpus[0].nmi_pending = true;
        }
        if let Some(value) = signals.debug_exit.take() {
            return Some(Exit::DebugExit(value));
        }
        if std::mem::take(&mut signals.power_off) {
            self.powered_off = true;
            return Some(Exit::PowerOff);
        }
        if std::mem::take(&mut signals.reset) {
            self.reset();
        }
        None
    }

    /// Retired instructions since power-on.
    #[must_use]
    pub fn instructions(&self) -> u64 {
        self.cpus[0].icount
    }

    /// Virtual time in nanoseconds since power-on.
    #[must_use]
    pub fn now(&self) -> VirtTime {
        self.board.now(self.instructions())
    }

    /// Nanoseconds that the guest was idle.
    #[must_use]
    pub fn idle_time(&self) -> VirtTime {
        self.idle
    }

    /// Resets since power-on, by the guest or the host.
    #[must_use]
    pub fn resets(&self) -> u64 {
        self.resets
    }

    /// The bootstrap CPU, for display and tests.
    #[must_use]
    pub fn cpu(&self) -> &Cpu {
        &self.cpus[0]
    }

    // --- input and output ---

    /// A key went down or up.
    pub fn key(&mut self, key: Key, pressed: bool) {
        self.slack.disturb(self.now());
        self.board.with(self.cpus[0].icount, |parts, cx| parts.i8042.key(key, pressed, cx));
    }

    /// Bytes of key codes that the guest has not fetched yet; a host that types text waits while there are many.
    #[must_use]
    pub fn keyboard_backlog(&self) -> usize {
        self.board.i8042.keyboard_backlog()
    }

    /// Keyboard LEDs: bit 0 scroll lock, 1 num lock, 2 caps lock.
    #[must_use]
    pub fn keyboard_leds(&self) -> u8 {
        self.board.i8042.leds()
    }

    /// The mouse moved (right and down positive), its wheel turned (towards the user positive) or its buttons
    /// (bit 0 left, 1 right, 2 middle, 3 and 4 the side buttons) changed.
    pub fn mouse(&mut self, dx: i32, dy: i32, wheel: i32, buttons: u8) {
        self.slack.disturb(self.now());
        self.board.with(self.cpus[0].icount, |parts, cx| parts.i8042.mouse(dx, dy, wheel, buttons, cx));
    }

    /// Sends bytes to serial port `port` (0 = COM1). Returns how many were accepted.
    pub fn serial_send(&mut self, port: usize, data: &[u8]) -> usize {
        if !data.is_empty() {
            self.slack.disturb(self.now());
        }
        self.board.with(self.cpus[0].icount, |parts, cx| parts.uarts.get_mut(port).map_or(0, |u| u.send(data, cx)))
    }

    /// What the guest sent over serial port `port` since the last call.
    pub fn serial_take(&mut self, port: usize) -> Vec<u8> {
        self.board.uarts.get_mut(port).map(crate::devices::uart::Uart::take_output).unwrap_or_default()
    }

    /// Hands the guest a frame from the network: destination to end of data, no frame check sequence; a short
    /// one is padded. `false` when the frame is lost because the card and its queue are full: a host that would
    /// rather wait looks at [`network_room`](Self::network_room) first. `true` also for frames that the card
    /// does not want: another address, an interface that is down, no 14 to 1518 bytes. Without a card nothing
    /// is lost: `true`.
    pub fn network_send(&mut self, frame: &[u8]) -> bool {
        if self.board.network.is_none() {
            return true;
        }
        self.slack.disturb(self.now());
        self.board.with(self.cpus[0].icount, |parts, cx| parts.network.as_mut().is_none_or(|n| n.offer(frame, cx)))
    }

    /// How many frames [`network_send`](Self::network_send) takes at least.
    #[must_use]
    pub fn network_room(&self) -> usize {
        self.board.network.as_ref().map_or(0, Ne2000::room)
    }

    /// The next frame that the guest sent, without frame check sequence. The guest's transmitter waits while
    /// [`QUEUE`](crate::devices::ne2000::QUEUE) frames have not been taken, so a host that has nowhere to put
    /// them takes and forgets them, or unplugs the cable.
    pub fn network_take(&mut self) -> Option<Vec<u8>> {
        let card = self.board.network.as_mut()?;
        let frame = card.take()?;
        if card.deferring() {
            self.board.with(self.cpus[0].icount, |parts, cx| parts.network.iter_mut().for_each(|n| n.resume(cx)));
        }
        Some(frame)
    }

    /// Plugs the network cable in or out.
    pub fn network_set_link(&mut self, up: bool) {
        self.board.with(self.cpus[0].icount, |parts, cx| parts.network.iter_mut().for_each(|n| n.set_link(up, cx)));
    }

    /// Frames and bytes each way since power-on; `None` without a card.
    #[must_use]
    pub fn network_counters(&self) -> Option<NetworkCounters> {
        self.board.network.as_ref().map(Ne2000::counters)
    }

    /// The network card's address.
    #[must_use]
    pub fn network_mac(&self) -> Option<[u8; 6]> {
        self.board.network.as_ref().map(Ne2000::mac)
    }

    /// What the firmware logged since the last call.
    pub fn firmware_log_take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.board.signals.firmware_log)
    }

    /// Asks the guest to shut down, as a press on the power button does.
    pub fn press_power_button(&mut self) {
        self.board.with(self.cpus[0].icount, |parts, cx| parts.pm.press_power_button(cx));
    }

    /// Draws what changed on the screen since the last call into `picture`; whether anything did.
    pub fn render(&mut self, picture: &mut Picture) -> bool {
        let now = self.now();
        self.board.vga.render(&mut self.board.mem, now, picture)
    }

    /// The same with nothing that blinks: the cursor and blinking characters are shown.
    pub fn render_still(&mut self, picture: &mut Picture) -> bool {
        // All blinking begins with its bright half.
        self.board.vga.render(&mut self.board.mem, 0, picture)
    }

    /// Whether the guest may have changed the picture since the last [`render`](Self::render).
    #[must_use]
    pub fn screen_touched(&self) -> bool {
        self.board.vga.touched(&self.board.mem)
    }

    /// The text screen, one line per row; `None` in graphics modes.
    #[must_use]
    pub fn screen_text(&self) -> Option<String> {
        self.board.vga.screen_text(&self.board.mem)
    }

    /// The text screen with attributes and cursor; `None` in graphics modes.
    #[must_use]
    pub fn text_cells(&self) -> Option<TextScreen> {
        self.board.vga.text_cells(&self.board.mem)
    }

    /// Copies physical memory as a bus master sees it.
    pub fn read_physical(&self, addr: u64, out: &mut [u8]) {
        self.board.mem.dma_read(addr, out);
    }

    /// A hash (64-bit FNV-1a over 8-byte words) of all guest RAM.
    #[must_use]
    pub fn ram_hash(&self) -> u64 {
        let block = self.board.mem.block();
        (0..self.board.mem.ram_size() / 8)
            .fold(0xcbf2_9ce4_8422_2325, |h, i| (h ^ block.read_u64(i * 8)).wrapping_mul(0x0000_0100_0000_01b3))
    }

    /// Use of the hard disks and CD-ROMs (0 to 3) and floppies (4, 5).
    #[must_use]
    pub fn disk_activity(&self) -> [DriveActivity; 6] {
        std::array::from_fn(|n| {
            let a = if n < 4 { self.board.ide.activity(n) } else { self.board.floppy.activity(n - 4) };
            DriveActivity { read: a.sectors_read, written: a.sectors_written }
        })
    }

    /// Whether a drive waits for a streamed image.
    #[must_use]
    pub fn blocked(&self) -> bool {
        self.board.blocked()
    }

    /// The bus, for tools that inspect devices.
    pub fn bus(&mut self) -> &mut impl CpuBus {
        &mut self.board
    }
}

#[cfg(test)]
mod tests;

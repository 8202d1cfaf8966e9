//! What a machine's state consists of: a section for each device and vCPU.

use super::StateError;
use super::container::{Line, Reader, Writer};
use crate::bus::{IrqLines, Signals};
use crate::cpu::Cpu;
use crate::devices::apic_bus::CpuRequest;
use crate::machine::clock::Clock;
use crate::machine::{ClockMode, Machine};
use crate::mem::MapState;
use crate::time::{EventQueue, VirtTime};
use serde::{Deserialize, Serialize};

/// Counts and times beyond these are no machine's: centuries of work.
const MAX_COUNT: u64 = 1 << 60;

/// Of the board and the machine, what is in no device.
#[derive(Serialize, Deserialize)]
struct Rest {
    clock: Clock,
    events: EventQueue,
    irq: IrqLines,
    signals: Signals,
    cpu_requests: Vec<(usize, CpuRequest)>,
    interrupts: Vec<bool>,
    map: MapState,
    fw_cfg: (u16, u32, u32),
    resets: u64,
    idle: VirtTime,
    asleep_since: Option<VirtTime>,
    powered_off: bool,
}

macro_rules! devices {
    ($($tag:literal $field:ident: $type:ty = $version:literal),* $(,)?) => {
        /// Everything but memory and images, read and checked but not yet in place.
        pub(in crate::machine) struct State {
            cpus: Vec<Cpu>,
            rest: Rest,
            $($field: $type,)*
        }

        impl Machine {
            pub(super) fn write_state(&self, out: &mut Writer) {
                out.json(*b"CPUS", 1, &self.cpus);
                out.json(*b"REST", 1, &self.rest());
                $(out.json(*$tag, $version, &self.board.$field);)*
            }

            pub(super) fn read_state(&self, from: &Reader) -> Result<State, StateError> {
                let state = State {
                    cpus: from.json(*b"CPUS", 1)?,
                    rest: from.json(*b"REST", 1)?,
                    $($field: from.json(*$tag, $version)?,)*
                };
                self.check(&state)?;
                Ok(state)
            }

            pub(super) fn apply_state(&mut self, mut state: State) {
                let board = &mut self.board;
                state.floppy.adopt_media(&mut board.floppy);
                state.ide.adopt_media(&mut board.ide);
                $(board.$field = state.$field;)*
                self.apply_rest(state.rest);
                self.cpus = state.cpus;
                self.cpus.iter_mut().for_each(Cpu::restored);
            }
        }
    };
}

use crate::devices::{
    dma::Dma, floppy::Floppy, host_bridge::HostBridge, hpet::Hpet, i8042::I8042, ide::Ide, io_apic::IoApic,
    isa_bridge::IsaBridge, local_apic::LocalApic, ne2000::Ne2000, pci::ConfigAddress, pic::Pic, pit::Pit, pm::Pm,
    port92::Port92, rtc::Rtc, uart::Uart, vga::Vga,
};

devices! {
    b"PIC " pic: Pic = 1,
    b"PIT " pit: Pit = 1,
    b"RTC " rtc: Rtc = 1,
    b"I842" i8042: I8042 = 1,
    b"DMA " dma: Dma = 1,
    b"PT92" port92: Port92 = 1,
    b"UART" uarts: Vec<Uart> = 1,
    b"FDC " floppy: Floppy = 1,
    b"IDE " ide: Ide = 1,
    b"VGA " vga: Vga = 1,
    b"NET " network: Option<Ne2000> = 1,
    b"PCIA" config_address: ConfigAddress = 1,
    b"HOST" host_bridge: HostBridge = 1,
    b"ISA " isa_bridge: IsaBridge = 1,
    b"PM  " pm: Pm = 1,
    b"IOAP" io_apic: IoApic = 1,
    b"HPET" hpet: Hpet = 1,
    b"LAPC" lapics: Vec<LocalApic> = 1,
}

impl Machine {
    /// The options that a machine must share with a snapshot to take it.
    pub(super) fn option_lines(&self) -> Vec<Line> {
        let board = &self.board;
        let mut lines = vec![
            ("memory", board.mem.ram_size().to_string()),
            ("processor", format!("{:?}", self.cpus[0].model)),
            ("processors", self.cpus.len().to_string()),
            ("clock", format!("{:?}", board.clock.mode()).to_lowercase()),
            ("serial ports", board.uarts.len().to_string()),
            ("debug exit", board.debug_exit_port().map_or_else(|| "none".to_owned(), |p| format!("{p:#x}"))),
            (
                "network card",
                self.board.network.as_ref().map_or("none", |n| if n.is_pci() { "PCI" } else { "ISA" }).to_owned(),
            ),
            ("firmware", format!("{:08x}", board.mem.rom_checksum())),
            ("kernel, boot order and video BIOS", format!("{:08x}", board.fw_cfg.checksum())),
        ];
        for (n, name) in ["disk 0", "disk 1", "disk 2", "disk 3"].into_iter().enumerate() {
            lines.push((name, board.ide.description(n)));
        }
        for (n, name) in ["floppy 0", "floppy 1"].into_iter().enumerate() {
            lines.push((name, format!("{} bytes", board.floppy.media(n).map_or(0, |m| m.len()))));
        }
        lines
    }

    /// What the machine was doing, for people.
    pub(super) fn status_lines(&self) -> Vec<Line> {
        let seconds = |ns: VirtTime| format!("{}.{:09} s", ns / 1_000_000_000, ns % 1_000_000_000);
        vec![
            ("instructions", self.instructions().to_string()),
            ("virtual time", seconds(self.now())),
            ("at", format!("{:04x}:{:08x}", self.cpus[0].seg[1].selector, self.cpus[0].rip)),
        ]
    }

    fn rest(&self) -> Rest {
        let board = &self.board;
        Rest {
            clock: board.clock.clone(),
            events: board.events.clone(),
            irq: board.irq.clone(),
            signals: board.signals.clone(),
            cpu_requests: board.cpu_requests.clone(),
            interrupts: board.intr.clone(),
            map: board.mem.map_state(),
            fw_cfg: board.fw_cfg.registers(),
            resets: self.resets,
            idle: self.idle,
            asleep_since: self.asleep_since,
            powered_off: self.powered_off,
        }
    }

    fn apply_rest(&mut self, rest: Rest) {
        let board = &mut self.board;
        board.clock = rest.clock;
        if board.clock.mode() == ClockMode::Realtime {
            // The host's time goes on from a new origin.
            board.clock.forget_host();
        }
        board.events = rest.events;
        board.irq = rest.irq;
        board.signals = rest.signals;
        board.cpu_requests = rest.cpu_requests;
        board.intr = rest.interrupts;
        board.mem.set_map_state(&rest.map);
        board.fw_cfg.set_registers(rest.fw_cfg);
        board.map();
        self.resets = rest.resets;
        self.idle = rest.idle;
        self.asleep_since = rest.asleep_since;
        self.powered_off = rest.powered_off;
    }

    /// What deserialising alone does not guarantee.
    fn check(&self, state: &State) -> Result<(), StateError> {
        let expect = |ok: bool, part: &str, why: &str| if ok { Ok(()) } else { Err(StateError::invalid(part, why)) };
        let (rest, cpus) = (&state.rest, self.cpus.len());
        expect(state.cpus.len() == cpus, "vCPUs", "their number differs")?;
        for (n, cpu) in state.cpus.iter().enumerate() {
            expect(cpu.index == n && cpu.model == self.cpus[n].model, "vCPUs", "they are not those of this machine")?;
            expect(cpu.icount < MAX_COUNT, "vCPUs", "the instruction count is impossible")?;
        }
        expect(state.lapics.len() == cpus && rest.interrupts.len() == cpus, "local APICs", "their number differs")?;
        expect(state.uarts.len() == self.board.uarts.len(), "serial ports", "their number differs")?;
        expect(
            state.uarts.iter().zip(&self.board.uarts).all(|(a, b)| a.base() == b.base()),
            "serial ports",
            "they are at other addresses",
        )?;
        expect(state.network.is_some() == self.board.network.is_some(), "network card", "it is not the same")?;
        let count = state.cpus.iter().map(|cpu| cpu.icount).max().unwrap_or(0);
        expect(rest.clock.is_sound(count), "clock", "its pace or time is impossible")?;
        expect(rest.events.is_sound(), "events", "they are not those of this version")?;
        expect(rest.clock.mode() == self.board.clock.mode(), "clock", "it is another kind")?;
        expect(state.ide.is_sound(), "disks", "a command is impossible")?;
        for n in 0..4 {
            let kind = |ide: &Ide| ide.description(n).split(',').next().map(str::to_owned);
            expect(kind(&state.ide) == kind(&self.board.ide), "disks", "they are of other kinds")?;
        }
        Ok(())
    }
}

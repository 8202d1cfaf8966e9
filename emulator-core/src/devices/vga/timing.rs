//! Where the beam is: retrace and display enable computed from the CRTC and the virtual time.

use super::Vga;
use super::registers::{Clocking, MiscOutput};
use crate::time::{SECOND, VirtTime};

const CLOCK_25: u64 = 25_175_000;
const CLOCK_28: u64 = 28_322_000;
/// A CRTC with fewer lines in its frame is not programmed; it then runs at 60 Hz.
const MIN_LINES: u32 = 64;

/// The raster as the CRTC (or DISPI) programs it, in dots and lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Raster {
    dot_hz: u64,
    line_dots: u64,
    display_dots: u64,
    lines: u64,
    display_lines: u64,
    retrace_start: u64,
    retrace_end: u64,
}

impl Raster {
    fn of(vga: &Vga) -> Self {
        if let Some(mode) = vga.dispi.mode() {
            return Self::of_dispi(u64::from(mode.width), u64::from(mode.height));
        }
        let (crtc, clocking) = (&vga.crtc, vga.seq.clocking());
        if crtc.vertical_total() < MIN_LINES {
            return Self::of_dispi(640, 480);
        }
        let fast = MiscOutput::from_bits_retain(vga.misc).contains(MiscOutput::CLOCK_28);
        let clock = if fast { CLOCK_28 } else { CLOCK_25 };
        let dots = u64::from(vga.seq.char_dots());
        let lines = u64::from(crtc.vertical_total());
        let (start, len) = crtc.vertical_retrace();
        // A retrace that the counter never reaches is taken to be the last lines of the frame, so that
        // a program that waits for one in a half-programmed mode does not wait for ever.
        let (start, end) = if u64::from(start) < lines {
            (u64::from(start), u64::from(start + len).min(lines))
        } else {
            (lines.saturating_sub(2), lines)
        };
        Self {
            dot_hz: if clocking.contains(Clocking::HALF_DOT_CLOCK) { clock / 2 } else { clock },
            line_dots: u64::from(crtc.horizontal_total()) * dots,
            display_dots: u64::from(crtc.horizontal_display()) * dots,
            lines,
            display_lines: u64::from(crtc.vertical_display()),
            retrace_start: start,
            retrace_end: end,
        }
    }

    /// DISPI modes program no timing: 60 Hz with the blanking proportions of 640x480.
    fn of_dispi(width: u64, height: u64) -> Self {
        let (line_dots, lines) = (width * 5 / 4, height + height / 10 + 3);
        Self {
            dot_hz: line_dots * lines * 60,
            line_dots,
            display_dots: width,
            lines,
            display_lines: height,
            retrace_start: height + 1,
            retrace_end: height + 3,
        }
    }

    /// Dots since power-on. Split at the second, where it is exact, to stay in 64 bits.
    fn dots(&self, now: VirtTime) -> u64 {
        let part = u128::from(now % SECOND) * u128::from(self.dot_hz) / u128::from(SECOND);
        (now / SECOND).wrapping_mul(self.dot_hz) + part as u64
    }

    fn retraces(&self, now: VirtTime) -> u64 {
        let frame = self.line_dots * self.lines;
        (self.dots(now) + frame - self.retrace_start * self.line_dots) / frame
    }
}

/// What the status registers tell about the beam.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beam {
    /// Outside the displayed area (status 1 bit 0).
    pub blanked: bool,
    /// In the vertical retrace (status 1 bit 3).
    pub retrace: bool,
}

impl Vga {
    /// Where the beam is at `now`.
    #[must_use]
    pub fn beam(&self, now: VirtTime) -> Beam {
        let r = Raster::of(self);
        let dot = r.dots(now) % (r.line_dots * r.lines);
        let (line, dot) = (dot / r.line_dots, dot % r.line_dots);
        Beam {
            blanked: line >= r.display_lines || dot >= r.display_dots,
            retrace: (r.retrace_start..r.retrace_end).contains(&line),
        }
    }

    /// Whether a vertical retrace began since the guest last cleared the interrupt (CR11 bit 4).
    pub(super) fn retrace_pending(&self, now: VirtTime) -> bool {
        let r = Raster::of(self);
        self.crtc.regs[0x11] & 0x10 != 0 && r.retraces(now) > r.retraces(self.retrace_cleared)
    }
}

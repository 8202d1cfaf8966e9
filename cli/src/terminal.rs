//! The machine's screen in a terminal: text modes cell by cell, graphics modes in half blocks.

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::event::{DisableBracketedPaste, EnableBracketedPaste, KeyCode, KeyEvent, KeyModifiers};
use crossterm::style::{Color, Print, ResetColor, SetBackgroundColor, SetForegroundColor};
use crossterm::terminal::{self, Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen};
use crossterm::{execute, queue};
use emulator_core::devices::vga::render::Picture;
use emulator_core::devices::vga::text::TextScreen;
use emulator_core::machine::Machine;
use std::io::{self, Write};
use std::time::{Duration, Instant};

/// Time between two pictures.
const FRAME: Duration = Duration::from_millis(33);
/// What the status line says while nothing else is to be said.
const HINT: &str = "Ctrl-] for the menu";
/// What it says after Ctrl-].
const MENU: &str = "q quit   r reset   p power button   d Ctrl-Alt-Del   ] send Ctrl-]   any other key: back";

/// The VGA's colours in the order of its attribute bytes.
const COLORS: [Color; 16] = [
    Color::Black,
    Color::DarkBlue,
    Color::DarkGreen,
    Color::DarkCyan,
    Color::DarkRed,
    Color::DarkMagenta,
    Color::DarkYellow,
    Color::Grey,
    Color::DarkGrey,
    Color::Blue,
    Color::Green,
    Color::Cyan,
    Color::Red,
    Color::Magenta,
    Color::Yellow,
    Color::White,
];

/// What a key of the menu asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Leave the emulator.
    Quit,
    /// Press the reset button.
    Reset,
    /// Press the power button.
    PowerButton,
    /// Send Ctrl-Alt-Delete.
    CtrlAltDelete,
    /// Send Ctrl-] itself.
    Literal,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cell {
    char: char,
    fg: Color,
    bg: Color,
}

const BLANK: Cell = Cell { char: ' ', fg: Color::Grey, bg: Color::Black };

/// The terminal while it shows the machine; dropping it gives the terminal back.
pub struct Display {
    size: (u16, u16),
    /// What the terminal shows; empty when that is unknown.
    shown: Vec<Cell>,
    cursor: Option<(u32, u32)>,
    picture: Picture,
    drawn: Option<Instant>,
    menu: bool,
    /// Something to tell the user until the next key.
    notice: Option<String>,
}

impl Display {
    /// Takes the terminal over.
    ///
    /// # Errors
    /// When it cannot be switched.
    pub fn open() -> io::Result<Self> {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            restore();
            previous(info);
        }));
        terminal::enable_raw_mode()?;
        execute!(io::stdout(), EnterAlternateScreen, EnableBracketedPaste, Hide)?;
        Ok(Self {
            size: terminal::size()?,
            shown: Vec::new(),
            cursor: None,
            picture: Picture::default(),
            drawn: None,
            menu: false,
            notice: None,
        })
    }

    /// The terminal has another size.
    pub fn resized(&mut self, columns: u16, rows: u16) {
        self.size = (columns, rows);
        self.shown.clear();
        self.drawn = None;
    }

    /// Shows a message in the status line.
    pub fn notify(&mut self, text: String) {
        self.notice = Some(text);
        self.drawn = None;
    }

    /// Takes a key that is the display's own: Ctrl-] or the one behind it. `Err` gives the key back.
    ///
    /// # Errors
    /// A key for the guest.
    pub fn key(&mut self, key: &KeyEvent) -> Result<Option<Command>, ()> {
        self.drawn = None;
        self.notice = None;
        if std::mem::take(&mut self.menu) {
            return Ok(match key.code {
                KeyCode::Char('q' | 'x') => Some(Command::Quit),
                KeyCode::Char('r') => Some(Command::Reset),
                KeyCode::Char('p') => Some(Command::PowerButton),
                KeyCode::Char('d') => Some(Command::CtrlAltDelete),
                KeyCode::Char(']' | '5') => Some(Command::Literal),
                _ => None,
            });
        }
        // Without the newer keyboard protocols a terminal's Ctrl-] reads as Ctrl-5.
        self.menu = key.modifiers.contains(KeyModifiers::CONTROL) && matches!(key.code, KeyCode::Char(']' | '5'));
        if self.menu { Ok(None) } else { Err(()) }
    }

    /// Time until the next picture is due.
    pub fn due(&self) -> Duration {
        self.drawn.map_or(Duration::ZERO, |at| FRAME.saturating_sub(at.elapsed()))
    }

    /// Draws what changed, if it is time.
    ///
    /// # Errors
    /// When the terminal cannot be written.
    pub fn refresh(&mut self, machine: &mut Machine) -> io::Result<()> {
        if !self.due().is_zero() {
            return Ok(());
        }
        self.drawn = Some(Instant::now());
        let (columns, rows) = (usize::from(self.size.0), usize::from(self.size.1));
        let mut cells = vec![BLANK; columns * rows];
        let screen = machine.text_cells();
        let what = match &screen {
            Some(text) => {
                put_text(text, &mut cells, columns);
                format!("text {}x{}", text.cols, text.rows)
            }
            None => {
                machine.render(&mut self.picture);
                put_picture(&self.picture, &mut cells, columns, rows.saturating_sub(1));
                format!("graphics {}x{}", self.picture.width, self.picture.height)
            }
        };
        let text_rows = screen.as_ref().map_or(0, |s| s.rows as usize);
        self.put_status(&what, &mut cells, columns, rows, text_rows < rows);
        self.write(&cells, columns, screen.and_then(|s| s.cursor).map(|c| (c.col, c.row)))
    }

    /// The last line, when there is room or something to say.
    fn put_status(&self, what: &str, cells: &mut [Cell], columns: usize, rows: usize, room: bool) {
        let text = match (&self.notice, self.menu) {
            (_, true) => MENU.to_owned(),
            (Some(notice), _) => format!("{notice}   ({HINT})"),
            (None, false) if room => format!("tab86   {what}   {HINT}"),
            _ => return,
        };
        let line = cells.get_mut(rows.saturating_sub(1) * columns..).unwrap_or_default();
        for (cell, char) in line.iter_mut().zip(text.chars().chain(std::iter::repeat(' '))) {
            *cell = Cell { char, fg: Color::Black, bg: Color::Grey };
        }
    }

    fn write(&mut self, cells: &[Cell], columns: usize, cursor: Option<(u32, u32)>) -> io::Result<()> {
        if self.shown == cells && self.cursor == cursor {
            return Ok(());
        }
        let mut out = io::BufWriter::new(io::stdout().lock());
        queue!(out, Hide)?;
        let all = self.shown.len() != cells.len();
        if all {
            queue!(out, Clear(ClearType::All))?;
        }
        let mut at = None;
        let mut colors = None;
        for (n, cell) in cells.iter().enumerate() {
            if !all && self.shown.get(n) == Some(cell) {
                continue;
            }
            if at != Some(n) || n % columns == 0 {
                queue!(out, MoveTo((n % columns) as u16, (n / columns) as u16))?;
            }
            if colors != Some((cell.fg, cell.bg)) {
                queue!(out, SetForegroundColor(cell.fg), SetBackgroundColor(cell.bg))?;
                colors = Some((cell.fg, cell.bg));
            }
            queue!(out, Print(cell.char))?;
            at = Some(n + 1);
        }
        self.shown = cells.to_vec();
        self.cursor = cursor;
        if let Some((column, row)) = cursor
            && column < u32::from(self.size.0)
            && row < u32::from(self.size.1)
        {
            queue!(out, MoveTo(column as u16, row as u16), Show)?;
        }
        out.flush()
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        restore();
    }
}

fn restore() {
    // Nothing can be done about a terminal that refuses.
    let _ = execute!(io::stdout(), ResetColor, DisableBracketedPaste, LeaveAlternateScreen, Show);
    let _ = terminal::disable_raw_mode();
}

fn put_text(text: &TextScreen, cells: &mut [Cell], columns: usize) {
    let rows = text.cells.chunks(text.cols as usize);
    for (line, row) in cells.chunks_mut(columns.max(1)).zip(rows) {
        for (cell, &(char, attribute)) in line.iter_mut().zip(row) {
            let color = |bits: u8| COLORS[usize::from(bits & 0x0f)];
            *cell = Cell { char, fg: color(attribute), bg: color(attribute >> 4 & 0x07) };
        }
    }
}

/// Two pixels per cell, one above the other, as large as fits with the monitor's shape.
fn put_picture(picture: &Picture, cells: &mut [Cell], columns: usize, rows: usize) {
    let (Some(width), Some(height)) = (picture.width.checked_sub(1), picture.height.checked_sub(1)) else { return };
    let (across, down) = (picture.aspect.0.max(1) as usize, picture.aspect.1.max(1) as usize);
    let wide = columns.min(rows * 2 * across / down);
    let high = (wide * down / across / 2).min(rows);
    let pixel = |x: usize, y: usize| {
        let (x, y) = (x as u32 * width / wide.max(1) as u32, y as u32 * height / (high.max(1) * 2) as u32);
        let at = y as usize * picture.stride as usize + x as usize;
        let [r, g, b, _] = picture.pixels.get(at).copied().unwrap_or_default().to_le_bytes();
        Color::Rgb { r, g, b }
    };
    for (y, line) in cells.chunks_mut(columns.max(1)).take(high).enumerate() {
        for (x, cell) in line.iter_mut().take(wide).enumerate() {
            *cell = Cell { char: '▀', fg: pixel(x, 2 * y), bg: pixel(x, 2 * y + 1) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_keeps_characters_and_colours_and_is_cut_to_the_terminal() {
        let text = TextScreen {
            cols: 3,
            rows: 2,
            cells: vec![('a', 0x1f), ('b', 0x07), ('c', 0x07), ('d', 0xc4), ('e', 0x07), ('f', 0x07)],
            cursor: None,
        };
        let mut cells = vec![BLANK; 2 * 3];
        put_text(&text, &mut cells, 2);
        assert_eq!(cells[0], Cell { char: 'a', fg: Color::White, bg: Color::DarkBlue });
        assert_eq!(cells[2], Cell { char: 'd', fg: Color::DarkRed, bg: Color::DarkRed });
        assert_eq!((cells[3].char, cells[4]), ('e', BLANK));
    }

    #[test]
    fn pictures_become_half_blocks_of_the_monitors_shape() {
        let picture = Picture {
            width: 4,
            height: 4,
            stride: 4,
            pixels: (0..16).map(|n| 0xff00_0000 | if n < 8 { 0x0000ff } else { 0xff0000 }).collect(),
            aspect: (4, 3),
            ..Picture::default()
        };
        let mut cells = vec![BLANK; 20 * 3];
        put_picture(&picture, &mut cells, 20, 3);
        assert_eq!(cells[0].fg, Color::Rgb { r: 255, g: 0, b: 0 });
        assert_eq!(cells[2 * 20].bg, Color::Rgb { r: 0, g: 0, b: 255 });
        assert_eq!((cells[7].char, cells[8]), ('▀', BLANK));
        put_picture(&Picture::default(), &mut cells, 20, 3);
        put_picture(&picture, &mut [], 0, 0);
    }
}

//! The host's side of the keyboard and standard input: threads that read without blocking the machine.

use crossterm::terminal;
use std::io::{IsTerminal, Read};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

/// Ctrl-A, which begins a command as in QEMU.
const PREFIX: u8 = 0x01;

/// What the host's user did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Bytes for the serial port.
    Serial(Vec<u8>),
    /// A key, a resize: an event of the terminal.
    Terminal(crossterm::event::Event),
    /// Ctrl-A x.
    Quit,
    /// Something about the network.
    Network(Notice),
}

/// News of the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Frames have come, or there is room for more to go.
    Frames,
    /// The relay is connected.
    Up,
    /// The relay cannot be reached, and why.
    Down(String),
}

/// Raw mode of the terminal, for as long as this lives.
pub struct RawMode(());

impl RawMode {
    /// Switches it on when standard input is a terminal.
    pub fn enter() -> Option<Self> {
        (std::io::stdin().is_terminal() && terminal::enable_raw_mode().is_ok()).then_some(Self(()))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // Nothing can be done about a terminal that refuses.
        let _ = terminal::disable_raw_mode();
    }
}

/// Input as it comes.
pub struct Console {
    events: Receiver<Input>,
    // Keeps the channel open when no thread sends: then waiting is plain sleeping.
    sender: Sender<Input>,
}

impl Console {
    /// A console that nothing comes from.
    pub fn silent() -> Self {
        let (sender, events) = mpsc::channel();
        Self { events, sender }
    }

    /// Reads bytes from standard input; with `commands`, Ctrl-A x quits and Ctrl-A Ctrl-A sends Ctrl-A.
    pub fn stdin(commands: bool) -> Self {
        let console = Self::silent();
        let sender = console.sender.clone();
        std::thread::spawn(move || read_bytes(commands, &sender));
        console
    }

    /// Reads events from the terminal.
    pub fn terminal() -> Self {
        let console = Self::silent();
        let sender = console.sender.clone();
        std::thread::spawn(move || {
            while let Ok(event) = crossterm::event::read() {
                if sender.send(Input::Terminal(event)).is_err() {
                    return;
                }
            }
        });
        console
    }

    /// For others who have something to say.
    pub fn sender(&self) -> Sender<Input> {
        self.sender.clone()
    }

    /// What came, without waiting.
    pub fn poll(&self) -> Option<Input> {
        self.events.try_recv().ok()
    }

    /// Waits for input, at most that long.
    pub fn wait(&self, at_most: Duration) -> Option<Input> {
        self.events.recv_timeout(at_most).ok()
    }
}

fn read_bytes(commands: bool, sender: &Sender<Input>) {
    let mut prefixed = false;
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = std::io::stdin().read(&mut buffer) {
        let mut data = Vec::with_capacity(n);
        for &byte in &buffer[..n] {
            match (commands, std::mem::take(&mut prefixed), byte) {
                (true, false, PREFIX) => prefixed = true,
                (true, true, b'x' | b'X') => {
                    let _ = sender.send(Input::Quit);
                    return;
                }
                _ => data.push(byte),
            }
        }
        if sender.send(Input::Serial(data)).is_err() {
            return;
        }
    }
}

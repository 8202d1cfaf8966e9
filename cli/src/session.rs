//! A run: the machine, its script and its input and output, until something ends it.

use crate::args::{NetArg, Options, SerialArg, Sink, Step};
use crate::console::{Console, Input, Notice, RawMode};
use crate::images::{self, ImageError};
use crate::keys::Stroke;
use crate::net::pcap::Capture;
use crate::net::relay::Relay;
use crate::net::tls::{Trust, TrustError};
use crate::net::user::User;
use crate::net::{Cable, Network};
use crate::output::{self, OutputError, Writer};
use crate::terminal::{Command, Display};
use crossterm::event::{Event, KeyEventKind};
use emulator_core::cpu::Seg;
use emulator_core::cpu::state::cr0;
use emulator_core::devices::i8042::Key;
use emulator_core::machine::{Exit, Machine};
use std::collections::VecDeque;
use std::io::IsTerminal;
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use thiserror::Error;

/// Instructions between two looks at input, output and script. Part of what makes a scripted deterministic run
/// repeatable: conditions are met and keys pressed at multiples of it.
const SLICE: u64 = 1_000_000;
/// Virtual time between two key strokes: slow enough for a BIOS with room for 15 keys.
const STROKE_NS: u64 = 20_000_000;
/// The same with a network: frames wait for the end of a slice.
const NETWORK_SLICE: u64 = 200_000;
/// Longest sleep of an idle guest between two looks at the script.
const NAP: Duration = Duration::from_millis(250);
/// Most bytes that wait for the guest's serial port.
const SERIAL_WINDOW: usize = 4096;
/// How late the timers of a guest that idles for long may fire: a kernel's ticks then share wake-ups.
const TIMER_SLACK_NS: u64 = 10_000_000;
const OK: u8 = 0;
const STOPPED: u8 = 1;
const TIMEOUT: u8 = 3;

/// Why there was no run, or no complete one.
#[derive(Debug, Error)]
pub enum RunError {
    /// A file or the configuration.
    #[error("{0}")]
    Image(#[from] ImageError),
    /// A file to write.
    #[error("{0}")]
    Output(#[from] OutputError),
    /// No terminal to show the screen in.
    #[error("--display terminal needs a terminal as standard input and output")]
    NoTerminal,
    /// The network's threads cannot be started.
    #[error("cannot use the network: {0}")]
    Network(std::io::Error),
    /// Nobody whose certificates could be trusted.
    #[error("{0}")]
    Trust(#[from] TrustError),
    /// The terminal fails.
    #[error("cannot use the terminal: {0}")]
    Terminal(#[from] std::io::Error),
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The script is done.
    Done,
    /// `--timeout`.
    Timeout,
    /// `--max-instructions`.
    Limit,
    /// The user asked.
    Quit,
    /// The guest ended it.
    Guest(Exit),
}

/// A machine with its surroundings.
pub struct Session {
    machine: Machine,
    console: Console,
    started: Instant,
    deadline: Option<Instant>,
    limit: Option<u64>,
    script: VecDeque<Step>,
    /// The last step is a condition (or an output behind one): with it the run is over.
    ends_with_script: bool,
    typing: VecDeque<Stroke>,
    next_stroke: u64,
    /// Serial output that no condition has used up, for `--until-serial`.
    heard: Vec<u8>,
    serial_in: VecDeque<u8>,
    serial: Option<Writer>,
    firmware_log: Option<Writer>,
    network: Option<Network>,
    display: Option<Display>,
    /// The guest has stopped for good and the terminal still shows it.
    stopped: bool,
}

/// Runs what the options say; the exit status.
///
/// # Errors
/// When the machine cannot be put together or a file cannot be written.
pub fn run(options: Options) -> Result<u8, RunError> {
    let config = images::machine_config(&options)?;
    let mut machine = Machine::new(config).map_err(|e| images::blame(&options, e))?;
    machine.set_host_clock(|| {
        static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
        ORIGIN.elapsed().as_nanos() as u64
    });
    machine.set_timer_slack(TIMER_SLACK_NS);
    if let Some(path) = &options.load_state {
        images::load_state(&mut machine, path)?;
    }
    options.outputs().try_for_each(|path| output::check_folder(path))?;
    let stdio = options.serial == SerialArg::Stdio;
    let tty = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let interactive = options.interactive(tty);
    if interactive && !tty {
        return Err(RunError::NoTerminal);
    }
    let serial = match &options.serial {
        SerialArg::None => None,
        SerialArg::Stdio => Some(Writer::open(&Sink::Stdout)?),
        SerialArg::File(path) => Some(Writer::open(&Sink::File(path.clone()))?),
    };
    let firmware_log = options.firmware_log.as_ref().map(Writer::open).transpose()?;
    let console = match (interactive, stdio) {
        (true, _) => Console::terminal(),
        // Raw mode follows: it decides whether Ctrl-A is a command.
        (false, true) => Console::stdin(std::io::stdin().is_terminal()),
        (false, false) => Console::silent(),
    };
    let network = network(&options, &console)?;
    let raw = if stdio { RawMode::enter() } else { None };
    let started = Instant::now();
    let mut session = Session {
        machine,
        console,
        network,
        display: if interactive { Some(Display::open()?) } else { None },
        stopped: false,
        started,
        deadline: options.timeout.and_then(|t| started.checked_add(t)),
        limit: options.max_instructions,
        ends_with_script: options.script.iter().rfind(|s| !s.is_output()).is_some_and(Step::is_condition),
        script: options.script.into(),
        typing: VecDeque::new(),
        next_stroke: 0,
        heard: Vec::new(),
        serial_in: VecDeque::new(),
        serial,
        firmware_log,
    };
    let end = session.run();
    let took = started.elapsed();
    drop(raw);
    session.display = None;
    let end = end?;
    let status = session.status(end);
    if let Some(text) = session.report(end, took) {
        eprintln!("tab86: {text}");
    }
    // Outputs that the script did not get to are still wanted.
    let rest: Vec<Step> = session.script.iter().filter(|s| s.is_output()).cloned().collect();
    for step in rest.iter().chain(&options.at_end) {
        session.take(step)?;
    }
    if let Some(path) = &options.stats {
        output::stats(&session.machine, path, took, end.name(), status)?;
    }
    Ok(status)
}

/// The network cable, if there is to be one.
fn network(options: &Options, console: &Console) -> Result<Option<Network>, RunError> {
    let cable: Box<dyn Cable> = match &options.net {
        NetArg::None => return Ok(None),
        NetArg::Relay(url) => {
            let trust = url.is_encrypted().then(|| Trust::new(options.net_ca.as_deref())).transpose()?;
            Box::new(Relay::connect(url.clone(), trust, console.sender()).map_err(RunError::Network)?)
        }
        NetArg::User => {
            let settings = options.gateway.clone();
            Box::new(User::start(settings, console.sender()).map_err(RunError::Network)?)
        }
    };
    let start = images::start_time(options);
    let capture = options.pcap.as_ref().map(|path| Capture::create(path, start)).transpose()?;
    Ok(Some(Network::new(cable, capture)))
}

impl End {
    fn name(self) -> &'static str {
        match self {
            End::Done => "condition",
            End::Timeout => "timeout",
            End::Limit => "max-instructions",
            End::Quit => "quit",
            End::Guest(Exit::Shutdown) => "triple-fault",
            End::Guest(Exit::PowerOff) => "power-off",
            End::Guest(Exit::DebugExit(_)) => "debug-exit",
            End::Guest(_) => "halted",
        }
    }
}

impl Session {
    fn run(&mut self) -> Result<End, RunError> {
        loop {
            if self.advance_script()? {
                return Ok(End::Done);
            }
            if self.deadline.is_some_and(|d| Instant::now() >= d) {
                return Ok(End::Timeout);
            }
            while let Some(input) = self.console.poll() {
                if self.accept(input) {
                    return Ok(End::Quit);
                }
            }
            self.feed()?;
            let count = self.machine.instructions();
            let slice = if self.network.is_some() { NETWORK_SLICE } else { SLICE };
            let left = self.limit.map_or(slice, |n| n.saturating_sub(count));
            if left == 0 {
                return Ok(End::Limit);
            }
            if self.stopped {
                if self.sleep(None) {
                    return Ok(End::Quit);
                }
                continue;
            }
            let exit = self.machine.run(slice.min(left), self.host_now());
            self.machine.note_slice_end(self.host_now());
            self.drain()?;
            if let Some(display) = &mut self.display {
                display.refresh(&mut self.machine)?;
            }
            match exit {
                Exit::Budget => {}
                Exit::Halted { dead: false, wake_at } => {
                    if self.sleep(wake_at) {
                        return Ok(End::Quit);
                    }
                }
                // Files are always there; a little patience for backends that are not.
                Exit::Blocked => {
                    self.console.wait(Duration::from_millis(1));
                }
                end => {
                    if self.advance_script()? {
                        return Ok(End::Done);
                    }
                    let text = self.report(End::Guest(end), self.started.elapsed());
                    match (&mut self.display, text) {
                        // The user decides: quit or reset.
                        (Some(display), Some(text)) => {
                            display.notify(text);
                            display.refresh(&mut self.machine)?;
                            self.stopped = true;
                        }
                        _ => return Ok(End::Guest(end)),
                    }
                }
            }
        }
    }

    fn host_now(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    /// Sleeps until the guest's next event, input or the next look at the script; whether the user quit.
    fn sleep(&mut self, wake_at: Option<u64>) -> bool {
        let now = self.host_now();
        let wake_at = wake_at.map(|at| self.machine.host_time(at).unwrap_or(now));
        let mut nap = wake_at.map_or(NAP, |t| Duration::from_nanos(t.saturating_sub(now))).min(NAP);
        if !self.typing.is_empty() {
            nap = nap.min(Duration::from_nanos(STROKE_NS));
        }
        if let Some(display) = &self.display {
            // A picture that came too early after the last one is still to be drawn.
            let due = display.due();
            nap = if due.is_zero() { nap } else { nap.min(due) };
        }
        if let Some(deadline) = self.deadline {
            nap = nap.min(deadline.saturating_duration_since(Instant::now()));
        }
        let input = self.console.wait(nap);
        input.is_some_and(|input| self.accept(input))
    }

    /// Takes one input; whether it was the wish to quit.
    fn accept(&mut self, input: Input) -> bool {
        match input {
            Input::Serial(data) => self.serial_in.extend(data),
            Input::Quit => return true,
            Input::Terminal(event) => return self.terminal_event(event),
            Input::Network(notice) => self.notice(notice),
        }
        false
    }

    /// Tells the user about the connection to the relay.
    fn notice(&mut self, notice: Notice) {
        let text = match notice {
            Notice::Frames => return,
            Notice::Up => "the relay is connected".to_owned(),
            Notice::Down(why) => format!("no relay ({why}): trying again until it is there"),
        };
        match &mut self.display {
            Some(display) => display.notify(text),
            // The terminal may be in raw mode.
            None => eprint!("tab86: {text}\r\n"),
        }
    }

    /// Takes an event of the terminal; whether it was the wish to quit.
    fn terminal_event(&mut self, event: Event) -> bool {
        let Some(display) = &mut self.display else { return false };
        match event {
            Event::Resize(columns, rows) => display.resized(columns, rows),
            Event::Paste(text) => self.typing.extend(text.chars().filter_map(Stroke::char)),
            Event::Key(key) if key.kind != KeyEventKind::Release => match display.key(&key) {
                Ok(Some(command)) => return self.command(command),
                Ok(None) => {}
                Err(()) => self.typing.extend(Stroke::terminal(&key)),
            },
            _ => {}
        }
        if let (Some(display), true) = (&mut self.display, self.stopped) {
            // A terminal that is gone is noticed when the machine runs again.
            let _ = display.refresh(&mut self.machine);
        }
        false
    }

    /// Does what the menu was asked for; whether that is to quit.
    fn command(&mut self, command: Command) -> bool {
        let chord = |modifiers: &[Key], key| Stroke { modifiers: modifiers.to_vec(), key };
        match command {
            Command::Quit => return true,
            Command::Reset => {
                self.machine.reset();
                self.stopped = false;
            }
            Command::PowerButton => self.machine.press_power_button(),
            Command::CtrlAltDelete => self.typing.push_back(chord(&[Key::ControlLeft, Key::AltLeft], Key::Delete)),
            Command::Literal => self.typing.push_back(chord(&[Key::ControlLeft], Key::BracketRight)),
        }
        false
    }

    /// Hands waiting frames, bytes and key strokes to the guest.
    fn feed(&mut self) -> Result<(), OutputError> {
        if let Some(network) = &mut self.network {
            network.deliver(&mut self.machine)?;
        }
        if !self.serial_in.is_empty() {
            let chunk: Vec<u8> = self.serial_in.iter().copied().take(SERIAL_WINDOW).collect();
            let taken = self.machine.serial_send(0, &chunk);
            self.serial_in.drain(..taken);
        }
        let now = self.machine.now();
        if now >= self.next_stroke
            && self.machine.keyboard_backlog() == 0
            && let Some(stroke) = self.typing.pop_front()
        {
            for (key, pressed) in stroke.events() {
                self.machine.key(key, pressed);
            }
            self.next_stroke = now + STROKE_NS;
        }
        Ok(())
    }

    /// Takes what the guest sent.
    fn drain(&mut self) -> Result<(), OutputError> {
        if let Some(network) = &mut self.network {
            network.collect(&mut self.machine)?;
        }
        let data = self.machine.serial_take(0);
        if let (Some(serial), false) = (&mut self.serial, data.is_empty()) {
            serial.write(&data)?;
        }
        if self.script.iter().any(|s| matches!(s, Step::UntilSerial(_))) {
            self.heard.extend(data);
        }
        let log = self.machine.firmware_log_take();
        if let (Some(writer), false) = (&mut self.firmware_log, log.is_empty()) {
            writer.write(&log)?;
        }
        Ok(())
    }

    /// Runs the steps that can be run now; whether that ends the run.
    fn advance_script(&mut self) -> Result<bool, OutputError> {
        while self.typing.is_empty()
            && let Some(step) = self.script.front().cloned()
        {
            let done = match &step {
                Step::Type(strokes) => {
                    self.typing.extend(strokes.iter().cloned());
                    true
                }
                Step::UntilSerial(text) => self.heard_text(text),
                Step::UntilScreen(text) => self.machine.screen_text().is_some_and(|screen| screen.contains(text)),
                Step::Screenshot(_) | Step::ScreenText(_) | Step::SaveState(_) => {
                    self.take(&step)?;
                    true
                }
            };
            if !done {
                break;
            }
            self.script.pop_front();
        }
        Ok(self.ends_with_script && self.script.is_empty())
    }

    /// Whether the guest has sent `text` since the last match; uses it up.
    fn heard_text(&mut self, text: &str) -> bool {
        let found = self.heard.windows(text.len().max(1)).position(|w| w == text.as_bytes());
        match found {
            Some(at) => {
                self.heard.drain(..at + text.len());
                true
            }
            None => text.is_empty(),
        }
    }

    fn take(&mut self, step: &Step) -> Result<(), OutputError> {
        match step {
            Step::Screenshot(path) => output::screenshot(&mut self.machine, path),
            Step::ScreenText(sink) => output::screen_text(&self.machine, sink),
            Step::SaveState(path) => output::state(&mut self.machine, path),
            _ => Ok(()),
        }
    }

    fn status(&self, end: End) -> u8 {
        let unmet = self.script.iter().any(Step::is_condition);
        match end {
            End::Done | End::Quit => OK,
            End::Timeout => TIMEOUT,
            End::Limit => {
                if unmet {
                    TIMEOUT
                } else {
                    OK
                }
            }
            End::Guest(Exit::DebugExit(value)) => (value << 1) as u8 | 1,
            End::Guest(Exit::PowerOff) if !unmet => OK,
            End::Guest(_) => STOPPED,
        }
    }

    /// What to tell the user about the end.
    fn report(&self, end: End, took: Duration) -> Option<String> {
        let place = self.place();
        let waiting = match self.script.iter().find(|s| s.is_condition()) {
            Some(Step::UntilSerial(text)) => format!("; still waiting for {text:?} on the serial port"),
            Some(Step::UntilScreen(text)) => format!("; still waiting for {text:?} on the screen"),
            _ => String::new(),
        };
        let text = match end {
            End::Done | End::Quit | End::Guest(Exit::DebugExit(_)) => return None,
            End::Limit if waiting.is_empty() => return None,
            End::Timeout => format!("timeout after {:.1} s, {place}", took.as_secs_f64()),
            End::Limit => format!("{} instructions are done, {place}", self.machine.instructions()),
            End::Guest(Exit::Shutdown) => format!("the guest shut down (triple fault) {place}"),
            End::Guest(Exit::PowerOff) => "the guest switched the machine off".to_owned(),
            End::Guest(_) => format!("the guest halted with interrupts off {place}: only a reset can wake it"),
        };
        Some(text + &waiting)
    }

    /// Where the CPU is.
    fn place(&self) -> String {
        let cpu = self.machine.cpu();
        let cs = cpu.segment(Seg::Cs);
        let mut text = format!("at CS:IP {:04x}:{:04x}", cs.selector, cpu.rip);
        let linear = cs.base.wrapping_add(cpu.rip) & 0xffff_ffff;
        if cpu.cr0 & cr0::PG == 0 {
            let mut code = [0; 16];
            self.machine.read_physical(linear, &mut code);
            if code == [0xff; 16] {
                text += &format!(", where there is no memory (physical address {linear:x})");
            }
        }
        text
    }
}

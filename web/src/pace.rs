//! A machine's pace: how long its slices are, which time it sees, when it draws and when it wants to wake.
//!
//! All of it lies in the machine's memory, because the next slice may run on another worker. Times are milliseconds of
//! the pool's clock, which all workers share.

/// What a machine is doing; `protocol.js` has the names in the same order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum State {
    Stopped = 0,
    Running = 1,
    Paused = 2,
    /// For ever, with interrupts off.
    Halted = 3,
    /// Triple fault.
    Shutdown = 4,
    /// Powered off by the guest.
    Off = 5,
}

/// Milliseconds that a slice should take: short enough for smooth input and screen, long enough to cost nothing.
const SLICE_MS: f64 = 6.0;
/// And while frames come and go: they change hands between two slices, and the other end's acknowledgements with them. With
/// shorter slices yet the page and the browser's network process take turns with the machine more often than they gain.
const TRAFFIC_SLICE_MS: f64 = 4.0;
/// How long after a frame the next ones are expected.
const TRAFFIC_MS: f64 = 20.0;
const MIN_BUDGET: f64 = 2_000.0;
const MAX_BUDGET: f64 = 50_000_000.0;
/// No two drawings within this time.
const DRAW_MS: f64 = 15.0;
/// Nor within the time that so many changed pixels in a millisecond give: big pictures cost machine and page more.
const DRAW_PIXELS: f64 = 100_000.0;
/// How soon the machine on the screen draws again although the page has not taken the last picture.
const DRAW_UNTAKEN_MS: f64 = 100.0;
/// How often the screen is drawn although nobody asks, so that waiting for a text works in a hidden tab.
const DRAW_UNASKED_MS: f64 = 250.0;
/// How often a screen that is looked at is drawn although the guest changed nothing: a cursor blinks every 267 ms.
const BLINK_MS: f64 = 133.0;
/// A screen that nothing happened on for so long rests, without blinking: an animation frame of the browser costs more
/// than an idle guest's ticks. Text fields of desktops do the same (GTK's gtk-cursor-blink-timeout).
const REST_MS: f64 = 10_000.0;
/// The window of the load figures.
const LOAD_MS: f64 = 500.0;
/// Most timer slack, in nanoseconds: of a machine on the screen, of one whose screen [rests](Pace::rests), and of one
/// that nobody looks at.
const SLACK_NS: [u64; 3] = [32_000_000, 125_000_000, 250_000_000];

/// How a slice ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum End {
    /// There is more to do.
    Budget,
    /// The guest sleeps, until a time of the pool's clock or, without one, until input.
    Asleep(Option<f64>),
    /// It sleeps for ever.
    Dead,
    /// It ended.
    Ended(State),
}

/// Who looks at a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Looks {
    /// The page has taken the last picture and waits for the next.
    pub wanted: bool,
    /// It is on the screen.
    pub visible: bool,
}

/// Thousand instructions per second, and idle time in 1/1000, over a window that just ended.
pub type Load = (u32, u32);

/// A machine's pace.
#[derive(Debug)]
pub struct Pace {
    state: State,
    /// The pool's time that the guest hasn't seen: it was paused.
    offset: f64,
    paused_at: f64,
    budget: f64,
    began: f64,
    /// When a frame of the network last came or went.
    traffic_at: f64,
    /// What the slice that runs should take.
    goal: f64,
    drawn_at: f64,
    /// Pixels that changed then.
    drawn: f64,
    /// It was drawn without blinking.
    still: bool,
    /// When the guest changed the picture last, or input came.
    active_at: f64,
    asleep_since: Option<f64>,
    window_start: f64,
    window_instructions: u64,
    slept: f64,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            state: State::Stopped,
            offset: 0.0,
            paused_at: 0.0,
            budget: 500_000.0,
            began: 0.0,
            traffic_at: f64::NEG_INFINITY,
            goal: SLICE_MS,
            drawn_at: f64::NEG_INFINITY,
            drawn: 0.0,
            still: false,
            active_at: 0.0,
            asleep_since: None,
            window_start: 0.0,
            window_instructions: 0,
            slept: 0.0,
        }
    }
}

impl Pace {
    pub fn state(&self) -> State {
        self.state
    }

    /// Starts, or goes on after a pause; `false` when the machine runs or has ended.
    pub fn start(&mut self, now: f64, instructions: u64) -> bool {
        match self.state {
            State::Stopped => self.offset = now,
            State::Paused => self.offset += now - self.paused_at,
            _ => return false,
        }
        self.state = State::Running;
        self.asleep_since = None;
        self.window(now, instructions);
        true
    }

    /// Pauses; `false` when it does not run.
    pub fn pause(&mut self, now: f64) -> bool {
        let runs = matches!(self.state, State::Running | State::Halted);
        if runs {
            self.paused_at = now;
            self.state = State::Paused;
        }
        runs
    }

    /// After the machine's reset: runs again if it had ended.
    pub fn restart(&mut self, now: f64) {
        match self.state {
            State::Halted => self.state = State::Running,
            State::Shutdown | State::Off => {
                // The time since then is as lost as in a pause.
                self.state = State::Paused;
                self.start(now, 0);
            }
            _ => {}
        }
        self.window(now, 0);
    }

    /// A slice begins: its budget in instructions, and the guest's host time in nanoseconds.
    pub fn begin(&mut self, now: f64) -> (u64, u64) {
        self.began = now;
        if let Some(since) = self.asleep_since.take() {
            self.slept += (now - since).max(0.0);
        }
        self.goal = if now - self.traffic_at < TRAFFIC_MS { TRAFFIC_SLICE_MS } else { SLICE_MS };
        ((self.budget * self.goal / SLICE_MS).max(MIN_BUDGET) as u64, self.guest_ns(now))
    }

    /// The host time that the guest sees, in nanoseconds.
    pub fn guest_ns(&self, now: f64) -> u64 {
        ((now - self.offset).max(0.0) * 1e6) as u64
    }

    /// The pool's time at which the guest sees the host time `ns`.
    pub fn pool_ms(&self, ns: u64) -> f64 {
        ns as f64 / 1e6 + self.offset
    }

    /// A slice ended.
    pub fn end(&mut self, now: f64, end: End) {
        match end {
            End::Budget => {
                self.adapt(now - self.began);
                self.state = State::Running;
            }
            End::Asleep(_) => {
                self.state = State::Running;
                self.asleep_since = Some(now);
            }
            End::Dead => {
                self.state = State::Halted;
                self.asleep_since = Some(now);
            }
            End::Ended(state) => {
                self.state = state;
                self.paused_at = now;
            }
        }
    }

    /// Frames of the network came or went.
    pub fn traffic(&mut self, now: f64) {
        self.traffic_at = now;
    }

    /// `took`: milliseconds of a slice that used its budget up.
    fn adapt(&mut self, took: f64) {
        let ideal = self.budget * self.goal / took.max(0.05);
        let next = ideal.min(self.budget * 2.0);
        self.budget = ((self.budget + next) / 2.0).clamp(MIN_BUDGET, MAX_BUDGET).round();
    }

    /// Whether to draw now. `touched`: the guest may have changed the picture.
    pub fn draws(&self, now: f64, touched: bool, looks: Looks) -> bool {
        let age = now - self.drawn_at;
        let ended = !matches!(self.state, State::Running | State::Halted);
        ended || age >= self.draw_after(touched, looks)
    }

    fn draw_after(&self, touched: bool, looks: Looks) -> f64 {
        match (touched, looks) {
            (true, Looks { wanted: true, .. }) => DRAW_MS.max(self.drawn / DRAW_PIXELS),
            (true, Looks { visible: true, .. }) => DRAW_UNTAKEN_MS,
            (true, _) => DRAW_UNASKED_MS,
            (false, Looks { wanted: false, visible: false }) => f64::INFINITY,
            (false, _) if self.still => f64::INFINITY,
            (false, _) => BLINK_MS,
        }
    }

    /// Something happens that is looked at: input came, or the picture changed.
    pub fn enliven(&mut self, now: f64) {
        self.active_at = now;
        self.still = false;
    }

    /// Whether the next picture is one without blinking.
    pub fn rests(&self, now: f64) -> bool {
        now - self.active_at >= REST_MS
    }

    /// It drew, and so many pixels changed.
    pub fn drew(&mut self, now: f64, pixels: u64) {
        self.drawn_at = now;
        self.drawn = pixels as f64;
        self.still = self.rests(now);
    }

    /// When a machine that sleeps wants to run again: for its guest or to draw.
    pub fn wake_at(&self, now: f64, end: End, touched: bool, looks: Looks) -> f64 {
        let guest = if let End::Asleep(Some(at)) = end { at } else { f64::INFINITY };
        // A blink alone rather shares the guest's next wake-up.
        let patience = if touched { 0.0 } else { BLINK_MS };
        let picture = (self.drawn_at + self.draw_after(touched, looks) + patience).max(now + 1.0);
        // Nobody wakes it when the page has taken the last picture.
        let look = if touched && looks.visible && !looks.wanted { now + DRAW_MS } else { f64::INFINITY };
        guest.min(picture).min(look)
    }

    /// The load figures when a window is over.
    pub fn measure(&mut self, now: f64, instructions: u64) -> Option<Load> {
        let span = now - self.window_start;
        if span < LOAD_MS {
            return None;
        }
        // A reset does not count backwards.
        let executed = instructions.saturating_sub(self.window_instructions);
        let load = ((executed as f64 / span).round() as u32, (1000.0 * self.slept / span).round().min(1000.0) as u32);
        self.window(now, instructions);
        Some(load)
    }

    fn window(&mut self, now: f64, instructions: u64) {
        (self.window_start, self.window_instructions, self.slept) = (now, instructions, 0.0);
    }

    /// Timer slack, in nanoseconds.
    pub fn slack(&self, now: f64, visible: bool) -> u64 {
        let [seen, rests, unseen] = SLACK_NS;
        match visible {
            false => unseen,
            true if self.rests(now) => rests,
            true => seen,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guest_does_not_see_the_time_of_a_pause() {
        let mut pace = Pace::default();
        assert!(!pace.pause(0.0));
        assert!(pace.start(1000.0, 0));
        assert!(!pace.start(1001.0, 0));
        assert_eq!(pace.begin(1010.0).1, 10_000_000);
        assert!(pace.pause(1020.0));
        assert!(pace.start(5020.0, 0));
        assert_eq!(pace.begin(5025.0).1, 25_000_000);
        assert_eq!(pace.pool_ms(25_000_000), 5025.0);
    }

    #[test]
    fn an_ended_machine_runs_again_after_a_reset_without_the_time_between() {
        let mut pace = Pace::default();
        pace.start(0.0, 0);
        pace.begin(10.0);
        pace.end(20.0, End::Ended(State::Shutdown));
        assert!(!pace.start(30.0, 0));
        pace.restart(1020.0);
        assert_eq!(pace.state(), State::Running);
        assert_eq!(pace.begin(1030.0).1, 30_000_000);
    }

    #[test]
    fn slices_take_the_time_they_should() {
        let mut pace = Pace::default();
        pace.start(0.0, 0);
        let mut now = 0.0;
        for _ in 0..40 {
            let (budget, _) = pace.begin(now);
            // 100 instructions a microsecond.
            now += budget as f64 / 100_000.0;
            pace.end(now, End::Budget);
        }
        let (budget, _) = pace.begin(now);
        assert!((500_000..700_000).contains(&budget), "{budget}");
    }

    #[test]
    fn slices_are_short_while_frames_come_and_go() {
        let mut pace = Pace::default();
        pace.start(0.0, 0);
        let mut now = 0.0;
        let mut budget = 0;
        for _ in 0..200 {
            pace.traffic(now);
            budget = pace.begin(now).0;
            now += budget as f64 / 100_000.0;
            pace.end(now, End::Budget);
        }
        assert!((360_000..440_000).contains(&budget), "{budget}");
        let (budget, _) = pace.begin(now + TRAFFIC_MS);
        assert!((500_000..700_000).contains(&budget), "{budget}");
    }

    #[test]
    fn load_is_instructions_and_sleep_over_a_window() {
        let mut pace = Pace::default();
        pace.start(0.0, 100);
        pace.begin(0.0);
        pace.end(125.0, End::Asleep(None));
        assert_eq!(pace.measure(125.0, 1_000_100), None);
        pace.begin(500.0);
        assert_eq!(pace.measure(500.0, 1_000_100), Some((2000, 750)));
        assert_eq!(pace.measure(501.0, 1_000_100), None);
    }

    #[test]
    fn an_idle_machine_wakes_for_its_guest_and_its_picture_only() {
        let mut pace = Pace::default();
        pace.start(0.0, 0);
        pace.begin(0.0);
        pace.drew(100.0, 0);
        let asleep = End::Asleep(Some(104.0));
        let (seen, nobody) = (Looks { wanted: true, visible: true }, Looks { wanted: false, visible: false });
        assert_eq!(pace.wake_at(101.0, asleep, false, seen), 104.0);
        assert_eq!(pace.wake_at(101.0, End::Asleep(None), true, seen), 100.0 + DRAW_MS);
        assert_eq!(pace.wake_at(101.0, End::Asleep(None), false, seen), 100.0 + 2.0 * BLINK_MS);
        assert_eq!(pace.wake_at(101.0, End::Asleep(None), false, nobody), f64::INFINITY);
        assert!(!pace.draws(101.0, true, seen) && pace.draws(115.0, true, seen) && !pace.draws(115.0, false, seen));
    }

    #[test]
    fn a_screen_on_which_nothing_happens_comes_to_rest() {
        let mut pace = Pace::default();
        pace.start(0.0, 0);
        pace.begin(0.0);
        let seen = Looks { wanted: true, visible: true };
        pace.enliven(1000.0);
        pace.drew(1000.0, 0);
        assert!(!pace.rests(10_999.0) && pace.draws(10_999.0, false, seen));
        assert!(pace.rests(11_000.0));
        pace.drew(11_000.0, 0);
        assert!(!pace.draws(60_000.0, false, seen));
        assert_eq!(pace.wake_at(60_000.0, End::Asleep(None), false, seen), f64::INFINITY);
        assert!(pace.slack(10_999.0, true) < pace.slack(11_000.0, true), "and so may its timers be late");
        assert!(pace.slack(60_000.0, true) < pace.slack(60_000.0, false));
        assert!(pace.draws(60_000.0, true, seen));
        pace.enliven(60_000.0);
        assert!(!pace.rests(60_001.0) && pace.draws(60_001.0, false, seen));
        assert_eq!(pace.slack(60_001.0, true), pace.slack(10_999.0, true));
    }

    #[test]
    fn big_pictures_and_those_that_nobody_takes_are_drawn_less_often() {
        let mut pace = Pace::default();
        pace.start(0.0, 0);
        pace.begin(0.0);
        let seen = Looks { wanted: true, visible: true };
        pace.drew(100.0, 2560 * 1600);
        assert!(!pace.draws(140.0, true, seen) && pace.draws(141.0, true, seen));
        pace.drew(100.0, 720 * 400);
        assert!(pace.draws(115.0, true, seen));
        let busy_page = Looks { wanted: false, visible: true };
        assert!(!pace.draws(199.0, true, busy_page) && pace.draws(200.0, true, busy_page));
    }
}

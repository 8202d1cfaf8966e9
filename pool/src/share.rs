//! Who comes first: shares of CPU time and latency.
//!
//! Every VM has a *virtual time*, the CPU time that it used. The VM with the least goes first, so busy VMs get equal
//! shares. Somebody who looks at a VM wants it to answer at once, not to have more of the machine: a visible VM may
//! therefore *borrow* against its future turns, as in borrowed-virtual-time scheduling (Duda and Cheriton, SOSP 1999).
//! It is taken earlier by its lead, and by more for a moment after input; what it used still counts.

/// How long a slice should take.
pub const SLICE_US: u64 = 6_000;

/// How long after input a visible VM is preferred.
pub const BOOST_FOR_US: u64 = 100_000;
/// What it may run meanwhile until it has its share again: a busy one would borrow all that it can, and its next key would
/// find nothing to borrow.
pub const ANSWER_US: u64 = 12_000;
/// How long an answer has a processor less to share with others, so that the page can show it, and how often at most: a
/// moving mouse must not slow the others down.
pub const ROOM_US: u64 = 25_000;
pub const ROOM_EVERY_US: u64 = 75_000;
/// By how much, in virtual time.
const BOOST_US: u64 = 24_000;
/// What it is worth not to move a VM to another worker: its compiled code is there.
pub const AFFINITY_US: u64 = 300;

/// The most that is taken off a VM's virtual time when the next one is chosen.
pub(crate) const MOST_CREDIT_US: u64 = Priority::Visible.lead() + BOOST_US + AFFINITY_US;

/// The most CPU time that each other VM may get while a ready VM waits, if slices take [`SLICE_US`] at most. (Whoever runs
/// them sees to that: a longer one adds its excess, once for each VM. In the page a slice's budget is work, not time.) The VM
/// that waits may have borrowed all that it can, and two slices (one that it began then and one beside a slice of the
/// VM that was behind it); now it waits until the other has caught up, has borrowed as much, and has ended its slice.
///
/// With `n` VMs on `w` workers a ready VM therefore waits at most `(n - 1) × STARVATION_BOUND_US / w`, plus a slice; while input
/// never ends one of the workers rests a third of the time ([`ROOM_US`]), and counts as much less.
pub const STARVATION_BOUND_US: u64 = 2 * MOST_CREDIT_US + 3 * SLICE_US;

/// Who looks at, or listens to, a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u32)]
pub enum Priority {
    /// Nobody.
    #[default]
    Background = 0,
    /// It may be heard.
    Audible = 1,
    /// It is on the screen.
    Visible = 2,
}

impl Priority {
    /// The priority with this number; unknown ones count as background.
    #[must_use]
    pub const fn from_number(number: u32) -> Self {
        match number {
            2 => Self::Visible,
            1 => Self::Audible,
            _ => Self::Background,
        }
    }

    /// How much virtual time a VM may borrow.
    pub(crate) const fn lead(self) -> u64 {
        match self {
            Self::Visible => 18_000,
            Self::Audible => 9_000,
            Self::Background => 0,
        }
    }

    /// How much it may borrow just after input.
    pub(crate) const fn boost(self) -> u64 {
        match self {
            Self::Visible => BOOST_US,
            Self::Audible | Self::Background => 0,
        }
    }
}

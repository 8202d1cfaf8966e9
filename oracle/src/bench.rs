//! Host and core side by side.

use crate::compare::{differences, landed, mask_of};
use crate::layout::DATA_LEN;
use crate::masks::Mask;
use crate::native::{Host, Unusable};
use crate::ours::Core;
use crate::sample::changes;
use crate::text::{self, FIELDS};
use crate::vector::{DataImage, Outcome, Vector};

/// What came of a vector.
#[derive(Debug)]
pub struct Compared {
    /// What differs.
    pub different: String,
    /// Whether it raised an exception.
    pub raised: bool,
    /// Of what the host made of it; only EIP where a mask applies.
    pub hash: u64,
}

/// FNV-1a over the registers of an outcome.
fn hash(outcome: &Outcome) -> u64 {
    let words = outcome.gpr.iter().chain([&outcome.eip, &outcome.flags]).flat_map(|w| w.to_le_bytes());
    // x87 pointers are left out.
    let fx = outcome.fx[..5].iter().chain(&outcome.fx[24..]).copied();
    words.chain(fx).fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}

/// Both, on the same vectors.
pub struct Bench {
    host: Host,
    core: Core,
    image: DataImage,
    data: Box<[u8; DATA_LEN as usize]>,
}

impl Bench {
    /// Sets both up.
    ///
    /// # Errors
    /// When this host cannot run vectors.
    pub fn new() -> Result<Bench, Unusable> {
        let host = Host::new()?;
        let core = Core::new(&host.exit_page());
        Ok(Bench { host, core, image: DataImage::default(), data: Box::new([0; DATA_LEN as usize]) })
    }

    /// What the host makes of a vector.
    pub fn native(&mut self, vector: &Vector) -> Outcome {
        self.image.prepare(vector.fill);
        vector.fill_data(&mut self.data, &self.image);
        landed(vector, self.host.run(vector, &self.data))
    }

    /// Runs a vector on both; what differs.
    pub fn check(&mut self, vector: &Vector) -> String {
        self.compare(vector).different
    }

    /// Runs a vector on both.
    pub fn compare(&mut self, vector: &Vector) -> Compared {
        let host = self.native(vector);
        let core = self.core.run(vector, &self.data);
        let mask = mask_of(vector, &self.data, &host);
        let different = differences(&mask, &host, self.host.data(), &core, self.core.data());
        // Of what no mask touches.
        let kept = if mask == Mask::default() { hash(&host) } else { u64::from(host.eip) };
        Compared { different, raised: host.exception.is_some(), hash: kept }
    }

    /// A vector and what the host makes of it, as a record.
    pub fn line(&mut self, name: &str, vector: &Vector) -> String {
        let outcome = self.native(vector);
        let changed = changes(vector, &self.data[..], &outcome, &self.host.data()[..]);
        format!("{name}\t{}\t{changed}", text::print(vector))
    }

    /// A vector of the sample: the state that it does not need set back, and what the host made of it.
    pub fn record(&mut self, vector: &Vector) -> Option<String> {
        let mut best = vector.clone();
        let plain = Vector::default();
        let outcome = |bench: &mut Bench, v: &Vector| {
            let outcome = bench.native(v);
            changes(v, &bench.data[..], &outcome, &bench.host.data()[..])
        };
        let expected = outcome(self, &best);
        for (_, at, len) in FIELDS {
            let mut v = best.clone();
            v.fx[at..at + len].copy_from_slice(&plain.fx[at..at + len]);
            if outcome(self, &v) == expected {
                best = v;
            }
        }
        for n in 0..8 {
            let mut v = best.clone();
            v.gpr[n] = 0;
            if outcome(self, &v) == expected {
                best = v;
            }
        }
        let different = self.check(&best);
        different.is_empty().then(|| format!("{}\t{}", text::print(&best), outcome(self, &best)))
    }

    /// The simplest vector that still differs.
    pub fn shrink(&mut self, vector: &Vector) -> Vector {
        let mut best = vector.clone();
        let plain = Vector::default();
        for _ in 0..3 {
            let before = best.clone();
            let mut attempts: Vec<Vector> = Vec::new();
            let mut attempt = |change: &dyn Fn(&mut Vector)| {
                let mut v = best.clone();
                change(&mut v);
                attempts.push(v);
            };
            attempt(&|v| v.at = plain.at);
            attempt(&|v| v.flags = plain.flags);
            attempt(&|v| v.fill = 0);
            attempt(&|v| v.sel[5] = 0);
            for n in 0..8 {
                attempt(&|v| v.gpr[n] = 0);
                attempt(&|v| v.gpr[n] &= 0xff);
                attempt(&|v| v.gpr[n] &= 0xffff);
            }
            for (_, at, len) in FIELDS {
                attempt(&|v| v.fx[at..at + len].copy_from_slice(&plain.fx[at..at + len]));
            }
            for n in 0..best.memory.len() {
                attempt(&|v| v.memory[n].1.clear());
                attempt(&|v| v.memory[n].1.fill(0));
            }
            for tried in &attempts {
                // Each change again on top of those that were kept.
                let mut v = best.clone();
                merge(&mut v, &before, tried);
                if v != best && !self.check(&v).is_empty() {
                    best = v;
                }
            }
            best.memory.retain(|(_, bytes)| !bytes.is_empty());
            if best == before {
                break;
            }
        }
        best
    }
}

/// Takes over what `tried` changed of `from`.
fn merge(to: &mut Vector, from: &Vector, tried: &Vector) {
    if tried.at != from.at {
        to.at = tried.at;
    }
    if tried.flags != from.flags {
        to.flags = tried.flags;
    }
    if tried.fill != from.fill {
        to.fill = tried.fill;
    }
    if tried.sel != from.sel {
        to.sel = tried.sel;
    }
    for n in 0..8 {
        if tried.gpr[n] != from.gpr[n] {
            to.gpr[n] = tried.gpr[n];
        }
    }
    for n in 0..tried.fx.len() {
        if tried.fx[n] != from.fx[n] {
            to.fx[n] = tried.fx[n];
        }
    }
    for (n, (_, bytes)) in tried.memory.iter().enumerate() {
        if from.memory.get(n).is_some_and(|(_, old)| old != bytes)
            && let Some(slot) = to.memory.get_mut(n)
        {
            slot.1.clone_from(bytes);
        }
    }
}

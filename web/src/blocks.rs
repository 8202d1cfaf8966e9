//! Images that stay outside the VM's memory: the page brings 256 KiB chunks (by HTTP Range or from a Blob) when the
//! guest asks for them, into the slots of a mailbox in the machine's memory. Writes stay in the chunks, so the source is never changed (overlay).

use emulator_core::devices::block::{BlockBackend, BlockError, BlockStatus, CLUSTER, OverlayData};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of a chunk; `pkg/lib/streams.js` has the same.
pub const CHUNK: u64 = 256 << 10;
/// Unwritten chunks kept per image (64 MiB); the oldest goes first.
const KEEP: usize = 256;

/// Pieces of a snapshot in a chunk.
const CLUSTERS: u64 = CHUNK / CLUSTER;
const SECTOR: usize = 512;

/// Chunks that may be on their way into the machine at once; `pkg/lib/streams.js` has the same.
pub const SLOTS: usize = 4;

/// Where the page puts chunks: it owns a slot from the machine's "taken" until it says that the slot holds a chunk.
#[derive(Debug)]
pub struct Mailbox(Box<[AtomicU8]>);

impl Default for Mailbox {
    fn default() -> Self {
        Self((0..SLOTS * CHUNK as usize).map(|_| AtomicU8::new(0)).collect())
    }
}

impl Mailbox {
    /// Address of the first slot.
    pub fn address(&self) -> u32 {
        self.0.as_ptr() as usize as u32
    }

    /// The first `len` bytes of a slot; `None` when there is no such slot, or it is not that long.
    pub fn take(&self, slot: usize, len: usize) -> Option<Vec<u8>> {
        let begin = slot.checked_mul(CHUNK as usize)?;
        let bytes = self.0.get(begin..begin.checked_add(CHUNK as usize)?)?.get(..len)?;
        Some(bytes.iter().map(|byte| byte.load(Ordering::Relaxed)).collect())
    }
}

#[derive(Debug, Default)]
struct State {
    chunks: HashMap<u64, Box<[u8]>>,
    /// Unwritten chunks in order of arrival; only these may be dropped.
    clean: VecDeque<u64>,
    /// Chunks the guest waits for and nobody has fetched yet.
    wanted: Vec<u64>,
    /// Chunks being fetched.
    asked: Vec<u64>,
    error: Option<String>,
    /// What a snapshot's guest had written: goes into each chunk as it arrives, and makes it a written one.
    restored: OverlayData,
}

/// The host's end of a streamed image.
#[derive(Debug, Clone)]
pub struct Stream {
    len: u64,
    state: Arc<Mutex<State>>,
}

impl Stream {
    /// A stream of `len` bytes, none of which is there yet.
    pub fn new(len: u64) -> Self {
        Self { len, state: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic ends the whole VM, so nobody sees what it left behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The chunks to fetch now; each is told once.
    pub fn take_wanted(&self) -> Vec<u64> {
        let mut state = self.state();
        let wanted = std::mem::take(&mut state.wanted);
        state.asked.extend(&wanted);
        wanted
    }

    /// In a clone: what is on its way goes to the original, so the clone asks again.
    pub fn ask_again(&self) {
        let mut state = self.state();
        let asked = std::mem::take(&mut state.asked);
        state.wanted.extend(asked);
    }

    /// Brings a chunk. A chunk of the wrong size counts as a failed read.
    pub fn provide(&self, chunk: u64, data: Vec<u8>) {
        let mut state = self.state();
        state.asked.retain(|&asked| asked != chunk);
        if data.len() as u64 != self.chunk_len(chunk) {
            state.error = Some(format!("the source gave {} bytes for chunk {chunk}", data.len()));
            return;
        }
        if state.chunks.contains_key(&chunk) {
            return;
        }
        while state.clean.len() >= KEEP {
            if let Some(oldest) = state.clean.pop_front() {
                state.chunks.remove(&oldest);
            }
        }
        let mut data: Box<[u8]> = data.into();
        if patch(&state.restored, chunk, &mut data) == 0 {
            state.clean.push_back(chunk);
        }
        state.chunks.insert(chunk, data);
        state.error = None;
    }

    /// The source failed for good: reads answer an error from now on, until a chunk arrives.
    pub fn fail(&self, message: String) {
        let mut state = self.state();
        state.asked.clear();
        state.error = Some(message);
    }

    fn chunk_len(&self, chunk: u64) -> u64 {
        self.len.saturating_sub(chunk.saturating_mul(CHUNK)).min(CHUNK)
    }
}

/// Puts the sectors of `written` that lie in a chunk into it; how many there were.
fn patch(written: &OverlayData, chunk: u64, data: &mut [u8]) -> usize {
    let mut count = 0;
    for (n, valid, bytes) in written.clusters().filter(|(n, ..)| n / CLUSTERS == chunk) {
        for sector in (0..8).filter(|s| valid >> s & 1 != 0) {
            let from = sector * SECTOR;
            let at = (n % CLUSTERS * CLUSTER) as usize + from;
            if let (Some(to), Some(new)) = (data.get_mut(at..at + SECTOR), bytes.get(from..from + SECTOR)) {
                to.copy_from_slice(new);
                count += 1;
            }
        }
    }
    count
}

/// The machine's end of a streamed image.
#[derive(Debug)]
pub struct StreamedBlock {
    stream: Stream,
    read_only: bool,
}

impl StreamedBlock {
    /// The machine's end of `stream`.
    pub fn new(stream: &Stream, read_only: bool) -> Self {
        Self { stream: stream.clone(), read_only }
    }

    /// Calls `each` with every chunk that the range touches, once all of them are there: the chunk, the offset in it,
    /// and the range of the request's bytes.
    fn with_chunks(
        &self,
        offset: u64,
        len: usize,
        mut each: impl FnMut(&mut State, u64, usize, std::ops::Range<usize>),
    ) -> Result<BlockStatus, BlockError> {
        let end = offset.checked_add(len as u64).filter(|&end| end <= self.stream.len).ok_or(BlockError::OutOfRange)?;
        if len == 0 {
            return Ok(BlockStatus::Ready);
        }
        let mut state = self.stream.state();
        let chunks = offset / CHUNK..=(end - 1) / CHUNK;
        let missing: Vec<u64> = chunks.clone().filter(|chunk| !state.chunks.contains_key(chunk)).collect();
        if !missing.is_empty() {
            if let Some(message) = state.error.take() {
                // Reported once: the guest's next try asks the source again.
                return Err(BlockError::Host(message));
            }
            for chunk in missing {
                if !state.asked.contains(&chunk) && !state.wanted.contains(&chunk) {
                    state.wanted.push(chunk);
                }
            }
            return Ok(BlockStatus::Pending);
        }
        let mut done = 0;
        for chunk in chunks {
            let at = (offset + done as u64 - chunk * CHUNK) as usize;
            let count = (CHUNK as usize - at).min(len - done);
            each(&mut state, chunk, at, done..done + count);
            done += count;
        }
        Ok(BlockStatus::Ready)
    }
}

impl BlockBackend for StreamedBlock {
    fn len(&self) -> u64 {
        self.stream.len
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    fn read(&mut self, offset: u64, out: &mut [u8]) -> Result<BlockStatus, BlockError> {
        self.with_chunks(offset, out.len(), |state, chunk, at, range| {
            if let Some(data) = state.chunks.get(&chunk) {
                let out = &mut out[range];
                out.copy_from_slice(&data[at..at + out.len()]);
            }
        })
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Result<BlockStatus, BlockError> {
        if self.read_only {
            return Err(BlockError::ReadOnly);
        }
        self.with_chunks(offset, data.len(), |state, chunk, at, range| {
            // A written chunk is the only copy of what the guest wrote: it stays.
            state.clean.retain(|&clean| clean != chunk);
            if let Some(stored) = state.chunks.get_mut(&chunk) {
                let data = &data[range];
                stored[at..at + data.len()].copy_from_slice(data);
            }
        })
    }

    fn written(&self) -> Option<OverlayData> {
        let state = self.stream.state();
        let mut all = state.restored.clone();
        for (chunk, data) in state.chunks.iter().filter(|(chunk, _)| !state.clean.contains(chunk)) {
            for (bytes, n) in data.chunks(CLUSTER as usize).zip(chunk * CLUSTERS..) {
                all.insert(n, 0xff, bytes.to_vec());
            }
        }
        Some(all)
    }

    fn set_written(&mut self, data: OverlayData) {
        let mut state = self.stream.state();
        state.chunks.clear();
        state.clean.clear();
        state.restored = data;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(chunk: u64, len: usize) -> Vec<u8> {
        (0..len).map(|i| (chunk as usize * 7 + i) as u8).collect()
    }

    #[test]
    fn what_was_written_goes_through_a_snapshot() {
        let stream = Stream::new(CHUNK * 2 + 512);
        let mut block = StreamedBlock::new(&stream, false);
        for chunk in 0..3 {
            stream.provide(chunk, pattern(chunk, stream.chunk_len(chunk) as usize));
        }
        assert_eq!(block.write(CHUNK * 2, &[0xaa; 512]), Ok(BlockStatus::Ready));
        assert_eq!(block.write(512, &[0xbb; 512]), Ok(BlockStatus::Ready));
        let saved = block.written().expect("an overlay");
        let stream = Stream::new(CHUNK * 2 + 512);
        let mut copy = StreamedBlock::new(&stream, false);
        copy.set_written(saved.clone());
        assert_eq!(copy.written(), Some(saved), "before any chunk is there");
        for chunk in 0..3 {
            stream.provide(chunk, pattern(chunk, stream.chunk_len(chunk) as usize));
        }
        let (mut a, mut b) = (vec![0; CHUNK as usize * 2 + 512], vec![1; CHUNK as usize * 2 + 512]);
        assert_eq!(block.read(0, &mut a), Ok(BlockStatus::Ready));
        assert_eq!(copy.read(0, &mut b), Ok(BlockStatus::Ready));
        assert!(a == b);
    }

    #[test]
    fn a_read_is_pending_until_all_its_chunks_arrived() {
        let stream = Stream::new(CHUNK * 2 + 512);
        let mut block = StreamedBlock::new(&stream, false);
        let mut out = [0; 1024];
        let at = CHUNK * 2 - 512;
        assert_eq!(block.read(at, &mut out), Ok(BlockStatus::Pending));
        assert_eq!(block.read(at, &mut out), Ok(BlockStatus::Pending));
        assert_eq!(stream.take_wanted(), [1, 2]);
        stream.provide(1, pattern(1, CHUNK as usize));
        assert_eq!(block.read(at, &mut out), Ok(BlockStatus::Pending));
        assert!(stream.take_wanted().is_empty(), "a chunk on its way is not asked for again");
        stream.provide(2, pattern(2, 512));
        assert_eq!(block.read(at, &mut out), Ok(BlockStatus::Ready));
        assert_eq!(out[..512], pattern(1, CHUNK as usize)[CHUNK as usize - 512..]);
        assert_eq!(out[512..], pattern(2, 512));
        assert_eq!(block.read(at + 1, &mut out), Err(BlockError::OutOfRange));
    }

    #[test]
    fn written_chunks_survive_eviction_and_unwritten_ones_go() {
        let stream = Stream::new(CHUNK * (KEEP as u64 + 10));
        let mut block = StreamedBlock::new(&stream, false);
        stream.provide(0, pattern(0, CHUNK as usize));
        assert_eq!(block.write(3, b"kept"), Ok(BlockStatus::Ready));
        for chunk in 1..KEEP as u64 + 5 {
            stream.provide(chunk, pattern(chunk, CHUNK as usize));
        }
        let mut out = [0; 4];
        assert_eq!(block.read(3, &mut out), Ok(BlockStatus::Ready));
        assert_eq!(&out, b"kept");
        assert_eq!(block.read(CHUNK, &mut out), Ok(BlockStatus::Pending));
    }

    #[test]
    fn the_mailbox_has_slots_and_nothing_else() {
        let mailbox = Mailbox::default();
        mailbox.0[CHUNK as usize + 1].store(7, Ordering::Relaxed);
        assert_eq!(mailbox.take(1, 3), Some(vec![0, 7, 0]));
        assert_eq!(mailbox.take(SLOTS - 1, CHUNK as usize).map(|bytes| bytes.len()), Some(CHUNK as usize));
        assert_eq!(mailbox.take(SLOTS, 1), None);
        assert_eq!(mailbox.take(usize::MAX, 1), None);
        assert_eq!(mailbox.take(0, CHUNK as usize + 1), None);
    }

    #[test]
    fn a_clone_asks_again_for_what_was_on_its_way() {
        let stream = Stream::new(CHUNK);
        let mut block = StreamedBlock::new(&stream, true);
        assert_eq!(block.read(0, &mut [0; 4]), Ok(BlockStatus::Pending));
        assert_eq!(stream.take_wanted(), [0]);
        stream.ask_again();
        assert_eq!(stream.take_wanted(), [0]);
    }

    #[test]
    fn a_failed_source_is_a_read_error_once_and_then_asked_again() {
        let stream = Stream::new(CHUNK);
        let mut block = StreamedBlock::new(&stream, true);
        let mut out = [0; 512];
        assert_eq!(block.read(0, &mut out), Ok(BlockStatus::Pending));
        assert_eq!(stream.take_wanted(), [0]);
        stream.fail("the server went away".into());
        assert_eq!(block.read(0, &mut out), Err(BlockError::Host("the server went away".into())));
        assert_eq!(block.read(0, &mut out), Ok(BlockStatus::Pending));
        assert_eq!(stream.take_wanted(), [0]);
        assert_eq!(block.write(0, &out), Err(BlockError::ReadOnly));
    }
}

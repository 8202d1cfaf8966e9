//! Loops of a region that become loops of wasm, so that a jump back is a branch and the engine sees what is carried
//! around. Other jumps back go through the function's table of blocks.

use super::flow::successors;
use super::region::{Block, Region};

/// Orders the blocks so that jumps back go to heads of loops only, and each loop's blocks stand together behind its head,
/// wherever they are in memory: compilers like to put a loop's body in front of the test with which it begins. Loops that
/// are entered elsewhere too stay as they are.
///
/// The order is a reverse postorder in which loops are closed up (Ramsey, Beyond Relooper, ICFP 2022, section 3; dominators
/// by Cooper, Harvey and Kennedy, A Simple, Fast Dominance Algorithm).
#[must_use]
pub fn arrange(region: Region) -> Region {
    let graph = Graph::of(&region);
    let order = graph.in_loops(&graph.order, None);
    let mut blocks: Vec<Option<Block>> = region.blocks.into_iter().map(Some).collect();
    let mut arranged: Vec<Block> = order.into_iter().filter_map(|n| blocks.get_mut(n)?.take()).collect();
    // Blocks that nothing leads to.
    arranged.extend(blocks.into_iter().flatten());
    Region::new(arranged, region.pages)
}

/// The flow between blocks. Entries are led to from a root, whose number is that of blocks.
struct Graph {
    /// Blocks in reverse postorder.
    order: Vec<usize>,
    /// For the head of a loop, whether each block belongs to the loop.
    loops: Vec<Option<Vec<bool>>>,
}

impl Graph {
    fn of(region: &Region) -> Self {
        let n = region.blocks.len();
        let entries = (0..n).rev().filter(|&block| region.blocks[block].entry);
        let mut to: Vec<Vec<usize>> = (0..n).map(|block| successors(region, block).collect()).collect();
        to.push(entries.collect());
        let order = reverse_postorder(&to, n);
        let mut rank = vec![usize::MAX; n + 1];
        order.iter().enumerate().for_each(|(at, &block)| rank[block] = at);
        let mut from = vec![Vec::new(); n + 1];
        for &block in &order {
            to[block].iter().for_each(|&next| from[next].push(block));
        }
        let dominators = dominators(&order, &rank, &from);
        let dominates = |head: usize, mut block: usize| {
            while rank[block] > rank[head] {
                block = dominators[block];
            }
            block == head
        };
        let mut loops: Vec<Option<Vec<bool>>> = vec![None; n];
        for &back in &order {
            for &head in to[back].iter().filter(|&&head| head < n && dominates(head, back)) {
                let members = loops[head].get_or_insert_with(|| (0..n).map(|block| block == head).collect());
                let mut work = vec![back];
                while let Some(block) = work.pop() {
                    if !std::mem::replace(&mut members[block], true) {
                        work.extend(from[block].iter().copied().filter(|&block| block < n));
                    }
                }
            }
        }
        Self { order: order.into_iter().filter(|&block| block < n).collect(), loops }
    }

    /// The blocks of a list, those of each loop together behind its head, but for the loop with the head `within`.
    fn in_loops(&self, blocks: &[usize], within: Option<usize>) -> Vec<usize> {
        let mut placed = vec![false; self.loops.len()];
        let mut order = Vec::new();
        for &block in blocks {
            if std::mem::replace(&mut placed[block], true) {
                continue;
            }
            match &self.loops[block] {
                Some(members) if within != Some(block) => {
                    let inside: Vec<usize> =
                        blocks.iter().copied().filter(|&b| members[b] && (b == block || !placed[b])).collect();
                    inside.iter().for_each(|&b| placed[b] = true);
                    order.extend(self.in_loops(&inside, Some(block)));
                }
                _ => order.push(block),
            }
        }
        order
    }
}

/// Of what `root` leads to. The last successor comes first, as the instruction behind a jump does.
fn reverse_postorder(to: &[Vec<usize>], root: usize) -> Vec<usize> {
    let mut seen = vec![false; to.len()];
    let mut order = Vec::new();
    seen[root] = true;
    let mut work = vec![(root, 0)];
    while let Some((block, next)) = work.pop() {
        match to[block].get(next) {
            Some(&other) => {
                work.push((block, next + 1));
                if !std::mem::replace(&mut seen[other], true) {
                    work.push((other, 0));
                }
            }
            None => order.push(block),
        }
    }
    order.reverse();
    order
}

/// The immediate dominator of each block; the root, which is first in the order, is its own.
fn dominators(order: &[usize], rank: &[usize], from: &[Vec<usize>]) -> Vec<usize> {
    const UNKNOWN: usize = usize::MAX;
    let mut dominators = vec![UNKNOWN; rank.len()];
    let Some((&root, rest)) = order.split_first() else { return dominators };
    dominators[root] = root;
    let mut changed = true;
    while changed {
        changed = false;
        for &block in rest {
            let mut known = from[block].iter().copied().filter(|&p| dominators[p] != UNKNOWN);
            let Some(first) = known.next() else { continue };
            let meet = known.fold(first, |mut a, mut b| {
                while a != b {
                    while rank[a] > rank[b] {
                        a = dominators[a];
                    }
                    while rank[b] > rank[a] {
                        b = dominators[b];
                    }
                }
                a
            });
            changed |= std::mem::replace(&mut dominators[block], meet) != meet;
        }
    }
    dominators
}

/// A loop: its head and its last block.
pub type Loop = (usize, usize);

/// Loops that are entered at their heads only and lie beside or inside one another, the outer ones first.
#[must_use]
pub fn find(region: &Region) -> Vec<Loop> {
    let edges: Vec<(usize, usize)> =
        (0..region.blocks.len()).flat_map(|from| successors(region, from).map(move |to| (from, to))).collect();
    let last =
        |head: usize| edges.iter().filter(|&&(from, to)| to == head && from >= head).map(|&(from, _)| from).max();
    let mut candidates: Vec<Loop> = (0..region.blocks.len()).filter_map(|head| Some((head, last(head)?))).collect();
    // Inner ones first: what they contain decides whether outer ones are possible.
    candidates.sort_by_key(|&(head, last)| (last - head, head));
    let mut found: Vec<Loop> = Vec::new();
    for (head, last) in candidates {
        let inside = |block: usize| (head..=last).contains(&block);
        let entered = region.blocks[head + 1..=last].iter().any(|block| block.entry)
            || edges.iter().any(|&(from, to)| to != head && inside(to) && !inside(from));
        // The table does not lead into a loop.
        let by_table = edges.iter().any(|&(from, to)| {
            to != head && inside(to) && from >= to && !found.iter().any(|&(h, l)| h == to && (h..=l).contains(&from))
        });
        let crosses = found.iter().any(|&(h, l)| inside(h) != inside(l));
        if !entered && !by_table && !crosses {
            found.push((head, last));
        }
    }
    found.sort_by_key(|&(head, last)| (head, std::cmp::Reverse(last)));
    found
}

/// Blocks to which the function's table leads: where code elsewhere enters, and where a jump goes back to that is no head of
/// a loop around it. All lie outside of loops or begin an outermost one.
#[must_use]
pub fn doors(region: &Region) -> Vec<usize> {
    let mut doors: Vec<bool> = region.blocks.iter().map(|block| block.entry).collect();
    for from in 0..region.blocks.len() {
        for to in successors(region, from).filter(|&to| to <= from) {
            doors[to] |= !region.loops.iter().any(|&(head, last)| head == to && from <= last);
        }
    }
    (0..doors.len()).filter(|&block| doors[block]).collect()
}

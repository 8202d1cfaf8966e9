//! Loops of a region that become loops of wasm, so that a jump back is a branch and the engine sees what is carried
//! around. Other jumps back go through the function's table of blocks.

use super::flow::successors;
use super::region::Region;

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

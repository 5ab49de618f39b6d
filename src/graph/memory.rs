//! Memory planner: values whose lifetimes do not overlap share a slot.
//!
//! Slots are separate buffers, not ranges of one arena: wgpu refuses one buffer bound as read
//! and read_write in the same dispatch, and orders dispatches per whole buffer.

/// What needs memory for some steps of a plan.
#[derive(Debug)]
struct Lifetime {
    bytes: u64,
    from: usize,
    /// After all else until it is known.
    until: usize,
}

impl Lifetime {
    fn overlaps(&self, other: &Self) -> bool {
        self.from < other.until && other.from < self.until
    }
}

/// Collects lifetimes over the steps of a plan, first to last, then assigns slots.
#[derive(Debug, Default)]
pub(super) struct SlotPlanner {
    lifetimes: Vec<Lifetime>,
    /// Number of takes and releases so far.
    now: usize,
    held: u64,
    peak: u64,
}

/// Slots for all lifetimes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Slots {
    /// The slot of each lifetime, in the order in which they were taken.
    pub(super) of: Vec<usize>,
    /// Bytes of each slot.
    pub(super) sizes: Vec<u64>,
    /// Most bytes that lifetimes needed at once.
    pub(super) peak: u64,
}

impl SlotPlanner {
    /// Begins a lifetime and returns its number.
    pub(super) fn take(&mut self, bytes: u64) -> usize {
        self.lifetimes.push(Lifetime { bytes, from: self.now, until: usize::MAX });
        self.now += 1;
        self.held += bytes;
        self.peak = self.peak.max(self.held);
        self.lifetimes.len() - 1
    }

    /// Ends a lifetime.
    pub(super) fn release(&mut self, number: usize) {
        let lifetime = &mut self.lifetimes[number];
        debug_assert!(lifetime.until == usize::MAX, "a lifetime ends once");
        lifetime.until = self.now;
        self.now += 1;
        self.held -= lifetime.bytes;
    }

    /// Assigns slots greedily by size (Pisarchyk and Lee 2020, "Efficient Memory Management for
    /// Deep Neural Net Inference"): the largest lifetimes first, each into the smallest slot
    /// that is free all the while, else into a new one.
    pub(super) fn assign(self) -> Slots {
        let lifetimes = self.lifetimes;
        let mut order: Vec<usize> = (0..lifetimes.len()).collect();
        order.sort_by_key(|&number| std::cmp::Reverse(lifetimes[number].bytes));
        let (mut of, mut sizes) = (vec![0; lifetimes.len()], Vec::new());
        let mut holders: Vec<Vec<usize>> = Vec::new();
        for number in order {
            let free = |slot: &usize| {
                holders[*slot].iter().all(|&other| !lifetimes[other].overlaps(&lifetimes[number]))
            };
            // Slots come in falling sizes, so the last is the smallest.
            let slot = (0..sizes.len()).rev().find(free).unwrap_or(sizes.len());
            if slot == sizes.len() {
                sizes.push(lifetimes[number].bytes);
                holders.push(Vec::new());
            }
            holders[slot].push(number);
            of[number] = slot;
        }
        Slots { of, sizes, peak: self.peak }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_share_the_smallest_slot_that_is_free() {
        let mut planner = SlotPlanner::default();
        let small = planner.take(100);
        let large = planner.take(1000);
        planner.release(small);
        // Ends before a large one begins that fits nowhere else.
        let middle = planner.take(500);
        planner.release(large);
        let second = planner.take(1000);
        planner.release(middle);
        let last = planner.take(80);
        let slots = planner.assign();
        assert_eq!(slots, Slots { of: vec![1, 0, 1, 0, 1], sizes: vec![1000, 500], peak: 1500 });
        assert_eq!((second, last), (3, 4));
    }

    /// A chain in which each value is made of the one before it takes two slots.
    #[test]
    fn a_chain_takes_two_slots() {
        let mut planner = SlotPlanner::default();
        let mut before = planner.take(64);
        for bytes in [16, 48, 32, 64, 16] {
            let next = planner.take(bytes);
            planner.release(before);
            before = next;
        }
        let slots = planner.assign();
        assert_eq!((slots.sizes, slots.peak), (vec![64, 32], 96));
    }
}

//! Memory planner: values whose lifetimes do not overlap share a slot.
//!
//! Slots are separate buffers, not ranges of one arena: wgpu refuses one buffer bound as read
//! and read_write in the same dispatch, and orders dispatches per whole buffer.

/// Assigns slots over the steps of a plan, first to last.
#[derive(Debug, Default)]
pub(super) struct SlotPlanner {
    sizes: Vec<u64>,
    free: Vec<usize>,
    /// Bytes that the present holder of each slot needs; 0 for free ones.
    held: Vec<u64>,
    /// Most bytes that were held at once.
    peak: u64,
}

impl SlotPlanner {
    /// A slot of at least `bytes` that nothing else uses until it is released: the smallest
    /// free one that fits, else the largest free one, grown, else a new one.
    pub(super) fn take(&mut self, bytes: u64) -> usize {
        let fitting = self.free.iter().copied().filter(|&slot| self.sizes[slot] >= bytes);
        let chosen = fitting
            .min_by_key(|&slot| self.sizes[slot])
            .or_else(|| self.free.iter().copied().max_by_key(|&slot| self.sizes[slot]));
        let slot = chosen.unwrap_or(self.sizes.len());
        if slot == self.sizes.len() {
            self.sizes.push(0);
            self.held.push(0);
        }
        self.free.retain(|&other| other != slot);
        self.sizes[slot] = self.sizes[slot].max(bytes);
        self.held[slot] = bytes;
        self.peak = self.peak.max(self.held.iter().sum());
        slot
    }

    /// Gives a slot back.
    pub(super) fn release(&mut self, slot: usize) {
        debug_assert!(!self.free.contains(&slot), "a slot is released once");
        self.free.push(slot);
        self.held[slot] = 0;
    }

    /// Most bytes that values needed at once.
    pub(super) fn peak(&self) -> u64 {
        self.peak
    }

    /// Sizes of all slots in bytes.
    pub(super) fn into_sizes(self) -> Vec<u64> {
        self.sizes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_slots_are_reused_by_best_fit() {
        let mut planner = SlotPlanner::default();
        let (small, large) = (planner.take(100), planner.take(1000));
        planner.release(small);
        planner.release(large);
        assert_eq!(planner.take(80), small);
        assert_eq!(planner.take(80), large);
        assert_eq!(planner.take(500), 2);
        planner.release(2);
        assert_eq!(planner.take(600), 2);
        assert_eq!(planner.peak(), 100 + 1000);
        assert_eq!(planner.into_sizes(), [100, 1000, 600]);
    }
}

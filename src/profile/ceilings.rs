//! What a device can do at best, and what bounds a kernel there.

use crate::ops::Cost;
use serde::Serialize;

/// Which ceiling keeps a kernel from being faster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Bound {
    /// Multiply-adds.
    Arithmetic,
    /// Exponentials and the like.
    Functions,
    /// Reading and writing memory.
    Memory,
}

impl Bound {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Arithmetic => "arithmetic",
            Self::Functions => "functions",
            Self::Memory => "memory",
        }
    }
}

/// The best rates that kernels reach on a device.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ceilings {
    /// GFLOP/s of f32 multiply-adds.
    pub multiply_add: f64,
    /// Billions of f32 exponentials per second.
    pub exponential: f64,
    /// GB/s of copying, bytes read and written counted.
    pub copy: f64,
    /// GB/s of reading.
    pub read: f64,
}

impl Ceilings {
    /// The least seconds for reading and writing. What writing takes is what copying takes beyond
    /// reading, but no less than nothing.
    fn memory_seconds(&self, cost: &Cost) -> f64 {
        let (read, copy) = (1e-9 / self.read, 1e-9 / self.copy);
        let (read, written) = (read.min(2.0 * copy), (2.0 * copy - read).max(0.0));
        cost.read as f64 * read + cost.written as f64 * written
    }

    /// Seconds of what kernels issue, one after the other: all loads and stores at the rates of
    /// memory, then all exponentials and the like at theirs. Processors of a software adapter do
    /// one or the other.
    pub fn issued_seconds(&self, issued: &Cost) -> f64 {
        self.memory_seconds(issued) + issued.functions as f64 / self.exponential / 1e9
    }

    /// The least seconds that something of this cost takes, and what bounds it.
    pub fn least_seconds(&self, cost: &Cost) -> (f64, Bound) {
        let seconds = |amount: u64, billions: f64| amount as f64 / billions / 1e9;
        let bounds = [
            (self.memory_seconds(cost), Bound::Memory),
            (seconds(cost.flops, self.multiply_add), Bound::Arithmetic),
            (seconds(cost.functions, self.exponential), Bound::Functions),
        ];
        let longest = bounds.into_iter().max_by(|a, b| a.0.total_cmp(&b.0));
        longest.expect("there are three")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_time_is_that_of_the_tightest_bound() {
        let ceilings = Ceilings { multiply_add: 100.0, exponential: 2.0, copy: 8.0, read: 12.0 };
        let billion = 1_000_000_000;
        let bound = |cost: Cost| {
            let (seconds, bound) = ceilings.least_seconds(&cost);
            ((seconds * 1e6).round() / 1e6, bound)
        };
        let copied = Cost { read: 4 * billion, written: 4 * billion, ..Cost::default() };
        assert_eq!(bound(copied), (1.0, Bound::Memory));
        assert_eq!(bound(Cost { written: 0, ..copied }), (0.333_333, Bound::Memory));
        assert_eq!(bound(Cost { flops: 200 * billion, ..copied }), (2.0, Bound::Arithmetic));
        assert_eq!(bound(Cost { functions: 6 * billion, ..copied }), (3.0, Bound::Functions));
        let twice = Cost { read: 8 * billion, functions: 6 * billion, ..copied };
        assert!((ceilings.issued_seconds(&twice) - (1.0 + 1.0 / 3.0 + 3.0)).abs() < 1e-9);
    }
}

//! Comparison of computed with wanted values.

use super::{DType, Tensor};

/// How far a computed value may lie from the wanted one: |got - want| <= abs + rel * |want|.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// Absolute part.
    pub abs: f64,
    /// Part relative to the wanted value.
    pub rel: f64,
}

impl Tolerance {
    /// Makes a tolerance.
    pub const fn new(abs: f64, rel: f64) -> Self {
        Self { abs, rel }
    }

    /// Bit-for-bit equality.
    pub const EXACT: Self = Self::new(0.0, 0.0);

    /// The default of a dtype.
    pub const fn of(dtype: DType) -> Self {
        match dtype {
            DType::F32 => Self::new(1e-5, 1e-5),
            DType::F16 => Self::new(1e-3, 1e-3),
            DType::BF16 => Self::new(8e-3, 8e-3),
            _ => Self::EXACT,
        }
    }

    /// Whether `got` is close enough to `want`. NaN equals NaN, infinities of one sign are equal.
    pub fn allows(&self, got: f64, want: f64) -> bool {
        got == want
            || (got.is_nan() && want.is_nan())
            || (got - want).abs() <= self.abs + self.rel * want.abs()
    }

    /// Largest deviation of two tensors of one spec as a fraction of what is allowed: at most 1
    /// where all is within the tolerance, infinite where a value must be equal and is not.
    pub fn worst(&self, got: &Tensor, want: &Tensor) -> f64 {
        let fraction = |(got, want): (f64, f64)| {
            if got == want || (got.is_nan() && want.is_nan()) {
                return 0.0;
            }
            let fraction = (got - want).abs() / (self.abs + self.rel * want.abs());
            if fraction.is_nan() { f64::INFINITY } else { fraction }
        };
        got.to_f64().into_iter().zip(want.to_f64()).map(fraction).fold(0.0, f64::max)
    }

    /// Compares two tensors; `None` when all is within the tolerance.
    pub fn mismatch(&self, got: &Tensor, want: &Tensor) -> Option<Mismatch> {
        if got.spec() != want.spec() {
            return Some(Mismatch::Spec(format!("got {}, want {}", got.spec(), want.spec())));
        }
        let (got, want) = (got.to_f64(), want.to_f64());
        let excess = |i: usize| {
            let difference = (got[i] - want[i]).abs() - self.rel * want[i].abs();
            if difference.is_nan() { f64::INFINITY } else { difference }
        };
        let bad: Vec<usize> = (0..got.len()).filter(|&i| !self.allows(got[i], want[i])).collect();
        let worst = bad.iter().copied().max_by(|&a, &b| excess(a).total_cmp(&excess(b)))?;
        Some(Mismatch::Values { bad: bad.len(), total: got.len(), worst, got: got[worst], want: want[worst] })
    }
}

/// What differs between two tensors.
#[derive(Debug, Clone, PartialEq)]
pub enum Mismatch {
    /// Dtype or shape.
    Spec(String),
    /// Values outside the tolerance.
    Values {
        /// Number of values outside.
        bad: usize,
        /// Number of values.
        total: usize,
        /// Flat index of the worst.
        worst: usize,
        /// The computed value there.
        got: f64,
        /// The wanted value there.
        want: f64,
    },
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Spec(text) => f.write_str(text),
            Self::Values { bad, total, worst, got, want } => {
                write!(f, "{bad} of {total} differ, worst at {worst}: got {got:e}, want {want:e}")
            }
        }
    }
}

//! What operators take at least, whatever kernel computes them: what speeds are measured by.

use super::Op;
use crate::tensor::Spec;

/// Arithmetic and traffic of an operator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Multiplications and additions of sums of products, by the definition of the operator.
    pub flops: u64,
    /// Exponentials, logarithms and the like.
    pub functions: u64,
    /// Bytes of what is read, each value once.
    pub read: u64,
    /// Bytes of what is written, each value once.
    pub written: u64,
}

impl Cost {
    /// Reading all inputs and writing all outputs.
    pub fn of_traffic(inputs: &[Spec], outputs: &[Spec]) -> Self {
        let bytes = |specs: &[Spec]| specs.iter().map(Spec::bytes).sum();
        Self { read: bytes(inputs), written: bytes(outputs), ..Self::default() }
    }

    /// Bytes of what is read and written.
    pub fn bytes(&self) -> u64 {
        self.read + self.written
    }

    /// The same with the multiplications and additions of sums of products.
    #[must_use]
    pub fn products(mut self, products: usize) -> Self {
        self.flops = 2 * products as u64;
        self
    }

    /// The same with so many exponentials or the like.
    #[must_use]
    pub fn functions(mut self, functions: usize) -> Self {
        self.functions = functions as u64;
        self
    }
}

/// An operator on values of some specs, with what that takes: what a dispatch is part of.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// Name of the operator.
    pub op: &'static str,
    /// Specs of its inputs.
    pub inputs: Vec<Spec>,
    /// Specs of its outputs.
    pub outputs: Vec<Spec>,
    /// What it takes at least; none where that depends on the values.
    pub cost: Option<Cost>,
}

impl Applied {
    /// An operator on inputs whose specs it accepted.
    pub fn new(op: &dyn Op, inputs: Vec<Spec>, outputs: Vec<Spec>) -> Self {
        let cost = (!op.cost_depends_on_values()).then(|| op.cost(&inputs, &outputs));
        Self { op: op.name(), inputs, outputs, cost }
    }

    /// "f32[1, 64] f32[8, 64] -> f32[1, 8]".
    pub fn shapes(&self) -> String {
        let list = |specs: &[Spec]| specs.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        format!("{} -> {}", list(&self.inputs), list(&self.outputs))
    }
}

/// What kernels of rows issue that load the first input `passes` times, and with each row its other
/// inputs once.
pub(super) fn rows_issued(inputs: &[Spec], outputs: &[Spec], passes: u64) -> Cost {
    let (rows, _) = inputs[0].shape.rows_and_cols();
    let others = inputs[1..].iter().map(|input| {
        let repeats = if input.elements() == inputs[0].elements() { 1 } else { rows as u64 };
        repeats * input.bytes()
    });
    Cost { read: passes * inputs[0].bytes() + others.sum::<u64>(), ..Cost::of_traffic(inputs, outputs) }
}

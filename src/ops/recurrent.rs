//! Recurrent layers: plain, GRU and LSTM cells over all steps of sequences, one dispatch a step
//! (two where a GRU resets its state before the product).

mod cases;

use super::{Cost, Expect, Inputs, Op, UnaryFn};
use crate::kernel::{Caps, Kernel, Launch, Launches, Operand, Spread, count, params};
use crate::tensor::{DType, Spec, Tensor};
use crate::{Error, Result};
pub(super) use cases::cases;

static STEP: Kernel = Kernel::new("recurrent_step", include_str!("../../shaders/recurrent_step.wgsl"));

params!(
    struct Params {
        items: u32,
        per_group: u32,
        steps: u32,
        step: u32,
        batches: u32,
        hidden: u32,
        reverse: u32,
        clip: f32,
        f_alpha: f32,
        f_beta: f32,
        g_alpha: f32,
        g_beta: f32,
        h_alpha: f32,
        h_beta: f32,
    }
);

/// What a unit of a recurrent layer computes from its input x, its state and its gates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Cell {
    /// f(x + R state) (Elman 1990).
    Rnn,
    /// Gates update, reset, hidden (Cho et al. 2014).
    Gru {
        /// The reset gate is applied to the product with the state, not to the state before it.
        reset_after: bool,
    },
    /// Gates input, output, forget, cell (Hochreiter and Schmidhuber 1997).
    Lstm {
        /// The gates see the cell's memory (Gers and Schmidhuber 2000).
        peephole: bool,
        /// The forget gate is one less the input gate.
        coupled: bool,
    },
}

impl Cell {
    /// Number of gates.
    pub const fn gates(self) -> usize {
        match self {
            Self::Rnn => 1,
            Self::Gru { .. } => 3,
            Self::Lstm { .. } => 4,
        }
    }

    /// Vectors of a direction: a bias for each gate, and the peephole weights.
    pub const fn vectors(self) -> usize {
        match self {
            Self::Lstm { peephole: true, .. } => 7,
            _ => self.gates(),
        }
    }

    /// Values that a unit keeps from step to step.
    pub const fn states(self) -> usize {
        if matches!(self, Self::Lstm { .. }) { 2 } else { 1 }
    }
}

/// In which order the steps of a sequence are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Directions {
    /// From the first to the last.
    Forward,
    /// From the last to the first.
    Reverse,
    /// Both, each with weights and states of its own.
    Both,
}

impl Directions {
    /// Number of directions.
    pub const fn count(self) -> usize {
        if matches!(self, Self::Both) { 2 } else { 1 }
    }

    const fn backwards(self, direction: usize) -> bool {
        direction == 1 || matches!(self, Self::Reverse)
    }
}

/// A recurrent layer, its products with the input aside: those of all steps are one
/// [`Linear`](super::Linear). Gates have the order of ONNX.
///
/// Inputs: the input's products f32 `[steps, n, directions * gates * hidden]`; the recurrent weight
/// f32 `[directions, gates * hidden, hidden]`; biases of the recurrent products, and then the
/// peephole weights of the gates input, output and forget, f32 `[directions, vectors * hidden]`; the
/// initial state f32 `[states, directions, n, hidden]`, of LSTM cells first the output, then the
/// memory; lengths u32 `[n]`, the steps that each sequence has.
///
/// Outputs: that of each step f32 `[steps, directions, n, hidden]`, zero after a sequence's end; the
/// state after the last step, like the initial one.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recurrent {
    /// What a unit computes.
    pub cell: Cell,
    /// The order of the steps.
    pub directions: Directions,
    /// The functions of the gates (f), of the hidden gate or the cell gate (g), and of the memory (h).
    pub activations: [UnaryFn; 3],
    /// What the functions are applied to is kept within plus and minus this.
    #[serde(with = "super::float")]
    pub clip: Option<f32>,
}

/// Sizes of a layer.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    steps: usize,
    batches: usize,
    hidden: usize,
}

impl Recurrent {
    /// A cell with the functions that it was published with.
    pub const fn new(cell: Cell, directions: Directions) -> Self {
        let f = if matches!(cell, Cell::Rnn) { UnaryFn::Tanh } else { UnaryFn::Sigmoid };
        Self { cell, directions, activations: [f, UnaryFn::Tanh, UnaryFn::Tanh], clip: None }
    }

    fn sizes(&self, inputs: &[Spec]) -> Result<Sizes> {
        let [products, weight, vectors, initial, lengths] = inputs.exactly(self)?;
        for function in self.activations {
            function.check(self)?;
        }
        if self.clip.is_some_and(|clip| clip.is_nan() || clip <= 0.0) {
            return Err(Error::op(self.name(), "clip must be above zero"));
        }
        let named =
            [(products, "products"), (weight, "weight"), (vectors, "biases"), (initial, "initial state")];
        for (spec, what) in named {
            spec.expect_dtype(self, what, &[DType::F32])?;
        }
        lengths.expect_dtype(self, "lengths", &[DType::U32])?;
        let (&[steps, batches, width], gates) = (products.shape.dims(), self.cell.gates()) else {
            return Err(Error::op(self.name(), format!("products must have 3 axes, got {products}")));
        };
        let directions = self.directions.count();
        let hidden = width / (directions * gates);
        if hidden == 0 {
            return Err(Error::op(
                self.name(),
                format!("the hidden size must be above zero, got {products}"),
            ));
        }
        products.expect_dims(self, "products", &[steps, batches, directions * gates * hidden])?;
        weight.expect_dims(self, "weight", &[directions, gates * hidden, hidden])?;
        vectors.expect_dims(self, "biases", &[directions, self.cell.vectors() * hidden])?;
        initial.expect_dims(self, "initial state", &[self.cell.states(), directions, batches, hidden])?;
        lengths.expect_dims(self, "lengths", &[batches])?;
        Ok(Sizes { steps, batches, hidden })
    }

    /// The dispatch of a step; `cell` names the kernel's form.
    fn step(&self, caps: &Caps, sizes: Sizes, step: usize, cell: &'static str) -> Launch {
        let Sizes { steps, batches, hidden } = sizes;
        let items = self.directions.count() * batches * hidden;
        let spread = Spread::of_loops(items, hidden.div_ceil(4) * 2, caps);
        let [f, g, h] = self.activations.map(UnaryFn::arguments);
        let params = Params {
            items: spread.items,
            per_group: spread.per_group,
            steps: count(steps),
            step: count(step),
            batches: count(batches),
            hidden: count(hidden),
            reverse: self.directions.backwards(0).into(),
            clip: self.clip.unwrap_or(f32::MAX),
            f_alpha: f[0],
            f_beta: f[1],
            g_alpha: g[0],
            g_beta: g[1],
            h_alpha: h[0],
            h_beta: h[1],
        };
        let [f, g, h] = self.activations.map(UnaryFn::wgsl);
        let (peephole, coupled) = match self.cell {
            Cell::Lstm { peephole, coupled } => (peephole, coupled),
            _ => (false, false),
        };
        let scratch = ["gru_reset", "gru_before"].contains(&cell).then_some(Operand::Scratch(0));
        let inputs = (0..5).map(Operand::Input);
        spread
            .launch(&STEP)
            .variant("cell", cell)
            .variant("vectors", hidden.is_multiple_of(4))
            .variant("peephole", peephole)
            .variant("coupled", coupled)
            .variant("f", f.0)
            .variant("f_arguments", f.1)
            .variant("g", g.0)
            .variant("g_arguments", g.1)
            .variant("h", h.0)
            .variant("h_arguments", h.1)
            .params(params)
            .bind(inputs.chain([Operand::Output(0), Operand::Output(1)]).chain(scratch))
            .work((items * self.cell.gates() * hidden) as u64)
    }
}

impl Op for Recurrent {
    fn name(&self) -> &'static str {
        "recurrent"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let Sizes { steps, batches, hidden } = self.sizes(inputs)?;
        let output = Spec::f32([steps, self.directions.count(), batches, hidden]);
        Ok(vec![output, inputs[3].clone()])
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], outputs: &[Spec]) -> Result<Launches> {
        let sizes = self.sizes(inputs)?;
        let cells: &[&'static str] = match self.cell {
            Cell::Rnn => &["rnn"],
            Cell::Lstm { .. } => &["lstm"],
            Cell::Gru { reset_after: true } => &["gru_after"],
            Cell::Gru { reset_after: false } => &["gru_reset", "gru_before"],
        };
        // Without a step, the state is copied by one that no sequence has.
        let steps = 0..sizes.steps.max(1);
        let launches =
            steps.flat_map(|step| cells.iter().map(move |&cell| self.step(caps, sizes, step, cell)));
        let scratch = if cells.len() == 2 { vec![outputs[1].clone()] } else { Vec::new() };
        Ok(Launches { steps: launches.collect(), scratch, ..Launches::default() })
    }

    fn cost(&self, inputs: &[Spec], outputs: &[Spec]) -> Cost {
        Cost::of_traffic(inputs, outputs).products(outputs[0].elements() * inputs[1].shape.dims()[1])
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let specs: Vec<Spec> = inputs.iter().map(|input| input.spec().clone()).collect();
        let sizes = self.sizes(&specs)?;
        let Sizes { steps, batches, hidden } = sizes;
        let values: Vec<Vec<f64>> = inputs[..4].iter().map(Tensor::to_f64).collect();
        let (lengths, directions) = (inputs[4].to_u32(), self.directions.count());
        let items = directions * batches * hidden;
        let (mut output, mut last) = (vec![0.0; steps * items], values[3].clone());
        for sequence in 0..directions * batches {
            let (direction, batch) = (sequence / batches, sequence % batches);
            let length = (lengths[batch] as usize).min(steps);
            for step in 0..length {
                let time = if self.directions.backwards(direction) { length - 1 - step } else { step };
                let width = self.cell.gates() * hidden;
                let products =
                    &values[0][((time * batches + batch) * directions + direction) * width..][..width];
                let weight = &values[1][direction * width * hidden..][..width * hidden];
                let vectors = &values[2][direction * self.cell.vectors() * hidden..];
                let state = last[sequence * hidden..][..hidden].to_vec();
                for unit in 0..hidden {
                    let memory = last.get(items + sequence * hidden + unit).copied().unwrap_or_default();
                    let unit_of =
                        Unit { layer: self, hidden, products, weight, vectors, state: &state, unit };
                    let [new, memory] = unit_of.next(memory);
                    output[time * items + sequence * hidden + unit] = new;
                    last[sequence * hidden + unit] = new;
                    if self.cell.states() == 2 {
                        last[items + sequence * hidden + unit] = memory;
                    }
                }
            }
        }
        let output = Tensor::from_f64(DType::F32, [steps, directions, batches, hidden], &output);
        Ok(vec![output, Tensor::from_f64(DType::F32, specs[3].shape.clone(), &last)])
    }
}

/// A unit in one step of one sequence, with what all units of the direction share.
struct Unit<'a> {
    layer: &'a Recurrent,
    hidden: usize,
    products: &'a [f64],
    weight: &'a [f64],
    vectors: &'a [f64],
    state: &'a [f64],
    unit: usize,
}

impl Unit<'_> {
    fn activate(&self, function: usize, x: f64) -> f64 {
        let clip = self.layer.clip.map_or(f64::INFINITY, f64::from);
        self.layer.activations[function].apply(x.clamp(-clip, clip))
    }

    fn product(&self, gate: usize) -> f64 {
        self.products[gate * self.hidden + self.unit]
    }

    fn vector(&self, index: usize) -> f64 {
        self.vectors[index * self.hidden + self.unit]
    }

    /// The gate's product with a state, and its bias.
    fn recurrent(&self, gate: usize, state: &[f64]) -> f64 {
        let row = &self.weight[(gate * self.hidden + self.unit) * self.hidden..][..self.hidden];
        row.iter().zip(state).map(|(a, b)| a * b).sum::<f64>() + self.vector(gate)
    }

    fn sum(&self, gate: usize) -> f64 {
        self.product(gate) + self.recurrent(gate, self.state)
    }

    /// The new state, and the new memory of LSTM cells.
    fn next(&self, memory: f64) -> [f64; 2] {
        match self.layer.cell {
            Cell::Rnn => [self.activate(0, self.sum(0)), 0.0],
            Cell::Gru { reset_after } => {
                let update = self.activate(0, self.sum(0));
                let reset = |unit| {
                    let other = Unit { unit, ..*self };
                    other.activate(0, other.sum(1))
                };
                let hidden = if reset_after {
                    reset(self.unit) * self.recurrent(2, self.state)
                } else {
                    let state: Vec<f64> =
                        self.state.iter().enumerate().map(|(unit, state)| reset(unit) * state).collect();
                    self.recurrent(2, &state)
                };
                let new = self.activate(1, self.product(2) + hidden);
                [(1.0 - update) * new + update * self.state[self.unit], 0.0]
            }
            Cell::Lstm { peephole, coupled } => {
                let peek =
                    |gate: usize, memory: f64| if peephole { self.vector(4 + gate) * memory } else { 0.0 };
                let admit = self.activate(0, self.sum(0) + peek(0, memory));
                let keep =
                    if coupled { 1.0 - admit } else { self.activate(0, self.sum(2) + peek(2, memory)) };
                let memory = keep * memory + admit * self.activate(1, self.sum(3));
                [self.activate(0, self.sum(1) + peek(1, memory)) * self.activate(2, memory), memory]
            }
        }
    }
}

//! Several functions of single elements, one after the other, in one kernel.
//!
//! The body of the kernel is written out of the steps, all of them functions of
//! shaders/lib/activation.wgsl and shaders/lib/binary.wgsl; arguments of functions are parameters,
//! so that chains of the same functions share a shader. A pass of graphs makes them.

mod cases;
mod image;

use super::binary::Access;
use super::strided::{self, MAX_AXES, broadcast_strides};
use super::{Binary, BinaryFn, ChannelsLast, Op, Select, Unary, UnaryFn, image::is_image};
use crate::kernel::{Caps, Kernel, Launch, Launches, Operand, Spread, count, params};
use crate::tensor::{DType, Shape, Spec, Tensor};
use crate::{Error, Result};
pub(super) use cases::cases;
use image::ImageElementwise;
use std::any::Any;
use std::fmt::Write;

static ELEMENTWISE: Kernel = Kernel::new("elementwise", include_str!("../../shaders/elementwise.wgsl"));

params!(
    struct Params {
        items: u32,
        per_group: u32,
        columns: u32,
        inputs: u32,
        counts_low: [u32; 4],
        counts_high: [u32; 4],
        numbers_low: [u32; 4],
        numbers_high: [u32; 4],
    }
);

/// An operand of a [`ElementStep`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub enum StepSource {
    /// An input of the operator.
    Input(usize),
    /// The result of an earlier step.
    Step(usize),
}

/// One function of a chain; computed in f32.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub enum ElementStep {
    /// A function of one value.
    Unary(UnaryFn, StepSource),
    /// A function of two values: one of [`Elementwise::FUNCTIONS`].
    Binary(BinaryFn, StepSource, StepSource),
    /// The second value where the first, a u32 input, is not 0, else the third.
    Select(StepSource, StepSource, StepSource),
}

impl ElementStep {
    fn sources(&self) -> Vec<StepSource> {
        match *self {
            Self::Unary(_, x) => vec![x],
            Self::Binary(_, a, b) => vec![a, b],
            Self::Select(condition, a, b) => vec![condition, a, b],
        }
    }

    /// The same with other operands.
    fn map(&self, change: impl Fn(StepSource) -> StepSource) -> Self {
        match *self {
            Self::Unary(function, x) => Self::Unary(function, change(x)),
            Self::Binary(function, a, b) => Self::Binary(function, change(a), change(b)),
            Self::Select(condition, a, b) => Self::Select(change(condition), change(a), change(b)),
        }
    }

    /// Arguments of the function besides its operands.
    fn arguments(&self) -> Vec<f32> {
        match self {
            Self::Unary(function, _) => function.arguments()[..function.wgsl().1 as usize].to_vec(),
            _ => Vec::new(),
        }
    }
}

/// Functions of every element, one after the other: the result of the last step.
///
/// Inputs: f32, or u32 where they are conditions, each read by a step; their shapes are broadcast to
/// that of the output by NumPy's rules, rank 8 at most. Output: f32.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Elementwise {
    /// The functions, in an order in which each comes after those that it reads.
    pub steps: Vec<ElementStep>,
}

impl Elementwise {
    /// Most inputs: every device can bind so many buffers and the output.
    pub const MOST_INPUTS: usize = 7;
    /// Most steps.
    pub const MOST_STEPS: usize = 16;
    /// Most arguments of functions in all steps together.
    const MOST_NUMBERS: usize = 8;
    /// The functions of two values that a step can be.
    pub const FUNCTIONS: &'static [BinaryFn] = &[
        BinaryFn::Add,
        BinaryFn::Sub,
        BinaryFn::Mul,
        BinaryFn::Div,
        BinaryFn::Max,
        BinaryFn::Min,
        BinaryFn::Pow,
        BinaryFn::PRelu,
    ];

    /// An operator as a chain of one step, or a chain itself; none of other operators.
    pub fn of(op: &dyn Op) -> Option<Self> {
        let op: &dyn Any = op;
        let [a, b, c] = [0, 1, 2].map(StepSource::Input);
        if let Some(chain) = op.downcast_ref::<Self>() {
            return Some(chain.clone());
        }
        let step = if let Some(Unary(function)) = op.downcast_ref() {
            ElementStep::Unary(*function, a)
        } else if let Some(Binary(function)) = op.downcast_ref() {
            ElementStep::Binary(*Self::FUNCTIONS.iter().find(|known| *known == function)?, a, b)
        } else {
            op.downcast_ref::<Select>()?;
            ElementStep::Select(a, b, c)
        };
        Some(Self { steps: vec![step] })
    }

    /// This chain, with `before` computing those of its inputs for which `inputs` gives none: inputs
    /// are numbered anew, in `before` by `earlier`, in this chain by `inputs`. None where it would
    /// be too long.
    pub fn after(&self, before: &Self, earlier: &[usize], inputs: &[Option<usize>]) -> Option<Self> {
        let made = before.steps.len() - 1;
        let own = |source| match source {
            StepSource::Input(input) => inputs[input].map_or(StepSource::Step(made), StepSource::Input),
            StepSource::Step(step) => StepSource::Step(made + 1 + step),
        };
        let before_own = |source| match source {
            StepSource::Input(input) => StepSource::Input(earlier[input]),
            step => step,
        };
        let mut steps: Vec<ElementStep> = before.steps.iter().map(|step| step.map(before_own)).collect();
        steps.extend(self.steps.iter().map(|step| step.map(own)));
        let numbers: usize = steps.iter().map(|step| step.arguments().len()).sum();
        let highest = earlier.iter().copied().chain(inputs.iter().copied().flatten()).max().unwrap_or(0);
        let fits = steps.len() <= Self::MOST_STEPS && numbers <= Self::MOST_NUMBERS;
        (fits && highest < Self::MOST_INPUTS).then_some(Self { steps })
    }

    fn check(&self, inputs: &[Spec]) -> Result<()> {
        let fail = |message: String| Err(Error::op(self.name(), message));
        let numbers: usize = self.steps.iter().map(|step| step.arguments().len()).sum();
        if !(1..=Self::MOST_STEPS).contains(&self.steps.len()) || numbers > Self::MOST_NUMBERS {
            let (most, numbers) = (Self::MOST_STEPS, Self::MOST_NUMBERS);
            return fail(format!("takes 1 to {most} steps with {numbers} arguments at most"));
        }
        for (index, step) in self.steps.iter().enumerate() {
            for (position, source) in step.sources().into_iter().enumerate() {
                let condition = position == 0 && matches!(step, ElementStep::Select(..));
                let wanted = if condition { DType::U32 } else { DType::F32 };
                let dtype = match source {
                    StepSource::Input(input) => inputs.get(input).map(|spec| spec.dtype),
                    StepSource::Step(step) => (step < index).then_some(DType::F32),
                };
                if dtype != Some(wanted) {
                    return fail(format!("{step:?}: operand {position} must be {}", wanted.name()));
                }
            }
            match step {
                ElementStep::Unary(function, _) => function.check(self)?,
                ElementStep::Binary(function, ..) if !Self::FUNCTIONS.contains(function) => {
                    return fail(format!("{function:?} cannot be a step"));
                }
                _ => {}
            }
        }
        let read = |input| self.steps.iter().any(|step| step.sources().contains(&StepSource::Input(input)));
        match (0..inputs.len()).find(|input| !read(*input)) {
            Some(input) => fail(format!("no step reads input {input}")),
            None if inputs.len() > Self::MOST_INPUTS => {
                fail(format!("takes {} inputs at most, got {}", Self::MOST_INPUTS, inputs.len()))
            }
            None => Ok(()),
        }
    }

    fn shape(&self, inputs: &[Spec]) -> Result<Shape> {
        let broadcast = |all: Option<Shape>, input: &Spec| all?.broadcast(&input.shape);
        let shape = inputs.iter().fold(Some(Shape::from(Vec::new())), broadcast);
        shape.filter(|shape| shape.rank() <= MAX_AXES).ok_or_else(|| {
            let shapes: Vec<String> = inputs.iter().map(|input| input.shape.to_string()).collect();
            let message = format!("shapes do not broadcast to one of rank 8 at most: {}", shapes.join(", "));
            Error::op(self.name(), message)
        })
    }

    /// The dispatches on inputs with these strides along the axes of the output. Inputs that are
    /// broadcast in ways that the kernel does not know are repeated first.
    fn launches(&self, caps: &Caps, inputs: &[Spec], output: &Spec, strides: &[Vec<isize>]) -> Launches {
        let dims = output.shape.dims();
        let accesses: Vec<Option<Access>> = strides.iter().map(|strides| Access::of(dims, strides)).collect();
        let columns = accesses.iter().flatten().find_map(|access| Some(access.in_rows()?.0));
        let mut launches = Launches::default();
        let (mut counts, mut kinds) = ([[0; 4]; 2], Vec::new());
        let mut operands: Vec<Operand> = (0..inputs.len()).map(Operand::Input).collect();
        for (i, access) in accesses.iter().enumerate() {
            let in_rows = access.as_ref().and_then(Access::in_rows);
            let kind = match (access, in_rows) {
                (Some(Access { kind: kind @ ("same" | "scalar"), .. }), _) => *kind,
                (Some(access), Some((rows, kind))) if Some(rows) == columns => {
                    counts[i / 4][i % 4] = count(access.count);
                    kind
                }
                _ => {
                    let repeated = Spec::new(inputs[i].dtype, output.shape.clone());
                    let scratch = Operand::Scratch(launches.scratch.len());
                    let step = strided::launch(caps, &repeated, &strides[i], 0);
                    launches.steps.push(step.bind([Operand::Input(i), scratch]));
                    launches.scratch.push(repeated);
                    operands[i] = scratch;
                    "same"
                }
            };
            kinds.push((inputs[i].dtype, kind));
        }
        operands.push(Operand::Output(0));
        let step = self.launch_kinds(caps, output, &kinds, (columns, counts));
        launches.steps.push(step.bind(operands));
        launches
    }

    fn launch_kinds(
        &self,
        caps: &Caps,
        output: &Spec,
        kinds: &[(DType, &str)],
        (columns, counts): (Option<usize>, [[u32; 4]; 2]),
    ) -> Launch {
        let spread = Spread::of_loops(output.elements().div_ceil(4), 4 * self.steps.len(), caps);
        let mut numbers = [[0; 4]; 2];
        for (i, number) in self.steps.iter().flat_map(ElementStep::arguments).enumerate() {
            numbers[i / 4][i % 4] = number.to_bits();
        }
        let launch = spread.launch(&ELEMENTWISE).variant("dtype", "f32");
        let launch = launch.variant("inputs", count(kinds.len()));
        let launch = launch.variant("bindings", bindings(kinds)).variant("steps", self.body(kinds));
        launch.params(Params {
            items: spread.items,
            per_group: spread.per_group,
            columns: columns.map_or(spread.items, count),
            inputs: count(kinds.len()),
            counts_low: counts[0],
            counts_high: counts[1],
            numbers_low: numbers[0],
            numbers_high: numbers[1],
        })
    }

    /// The statements that load the inputs of an item and compute the steps; `item`, `row` and
    /// `column` are known.
    fn body(&self, kinds: &[(DType, &str)]) -> String {
        let mut text = String::new();
        for (i, (dtype, kind)) in kinds.iter().enumerate() {
            let vector = format!("vec4<{}>", dtype.name());
            let part = ["x", "y", "z", "w"][i % 4];
            let half = if i < 4 { "low" } else { "high" };
            let value = match *kind {
                "column" => format!("input_{i}[column]"),
                "scalar" => format!("{vector}(input_{i}[0])"),
                "each" => format!("{vector}(input_{i}[row % params.counts_{half}.{part}])"),
                _ => format!("input_{i}[item]"),
            };
            writeln!(text, "    let x{i} = {value};").expect("texts take all that is written");
        }
        let mut number = 0;
        for (index, step) in self.steps.iter().enumerate() {
            let name = |source: &StepSource| match source {
                StepSource::Input(input) => format!("x{input}"),
                StepSource::Step(step) => format!("y{step}"),
            };
            let value = match step {
                ElementStep::Unary(function, x) => {
                    let arguments: String = step
                        .arguments()
                        .iter()
                        .map(|_| {
                            number += 1;
                            format!(", number_{}", number - 1)
                        })
                        .collect();
                    let (function, x) = (function.wgsl().0, name(x));
                    let parts = ["x", "y", "z", "w"].map(|part| format!("{function}({x}.{part}{arguments})"));
                    format!("vec4<f32>({})", parts.join(", "))
                }
                ElementStep::Binary(function, a, b) => {
                    format!("{}({}, {})", function.wgsl(), name(a), name(b))
                }
                ElementStep::Select(condition, a, b) => {
                    format!("select({}, {}, {} != vec4<u32>())", name(b), name(a), name(condition))
                }
            };
            writeln!(text, "    let y{index} = {value};").expect("texts take all that is written");
        }
        let load = |i: usize| {
            let (half, part) = (if i < 4 { "low" } else { "high" }, ["x", "y", "z", "w"][i % 4]);
            format!("    let number_{i} = bitcast<f32>(params.numbers_{half}.{part});\n")
        };
        let numbers: String = (0..number).map(load).collect();
        format!("{numbers}{text}    output[item] = y{};", self.steps.len() - 1)
    }
}

/// The declarations of the inputs.
fn bindings(kinds: &[(DType, &str)]) -> String {
    let declare = |(i, (dtype, kind)): (usize, &(DType, &str))| {
        let element = if matches!(*kind, "scalar" | "each") {
            dtype.name().to_owned()
        } else {
            format!("vec4<{}>", dtype.name())
        };
        format!("@group(0) @binding({i}) var<storage, read> input_{i}: array<{element}>;")
    };
    kinds.iter().enumerate().map(declare).collect::<Vec<_>>().join("\n")
}

impl Op for Elementwise {
    fn name(&self) -> &'static str {
        "elementwise"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        self.check(inputs)?;
        Ok(vec![Spec::f32(self.shape(inputs)?)])
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], outputs: &[Spec]) -> Result<Launches> {
        let output = &outputs[0];
        let strides: Vec<Vec<isize>> =
            inputs.iter().map(|input| broadcast_strides(&input.shape, &output.shape)).collect();
        Ok(self.launches(caps, inputs, output, &strides))
    }

    fn channels_last(&self, _: &Caps, inputs: &[Spec]) -> Option<ChannelsLast> {
        let output = Spec::f32(self.shape(inputs).ok()?);
        let is_image_of = |input: &Spec| input.shape.rank() == output.shape.rank() && input.elements() > 1;
        let images: Vec<usize> = (0..inputs.len()).filter(|i| is_image_of(&inputs[*i])).collect();
        let form = ImageElementwise { chain: self.clone(), images: images.clone() };
        (is_image(&output) && !images.is_empty()).then(|| ChannelsLast::following(form, images))
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let specs: Vec<Spec> = inputs.iter().map(|input| input.spec().clone()).collect();
        let shape = self.shape(&specs)?;
        let inputs: Vec<Vec<f64>> =
            inputs.iter().map(|input| super::binary::broadcast(input, &shape)).collect();
        let values: Vec<f64> = (0..shape.elements())
            .map(|element| {
                let mut results: Vec<f64> = Vec::with_capacity(self.steps.len());
                for step in &self.steps {
                    let value = |source: StepSource| match source {
                        StepSource::Input(input) => inputs[input][element],
                        StepSource::Step(step) => results[step],
                    };
                    results.push(match *step {
                        ElementStep::Unary(function, x) => function.apply(value(x)),
                        ElementStep::Binary(function, a, b) => function.apply(value(a), value(b)),
                        ElementStep::Select(condition, a, b) => {
                            value(if value(condition) != 0.0 { a } else { b })
                        }
                    });
                }
                results[self.steps.len() - 1]
            })
            .collect();
        Ok(vec![Tensor::from_f64(DType::F32, shape, &values)])
    }
}

//! Functions of two values, element by element, with NumPy's broadcasting.

use super::cases::{Case, Random};
use super::strided::{Axis, MAX_AXES, axis_values, broadcast_strides, merged_axes};
use super::{Expect, Inputs, Op};
use crate::kernel::{Caps, Kernel, Launch, Launches, Spread, count, params};
use crate::tensor::{DType, Shape, Spec, Tensor};
use crate::{Error, Result};

static BINARY: Kernel = Kernel::new("binary", include_str!("../../shaders/binary.wgsl"));
static BINARY_STRIDED: Kernel =
    Kernel::new("binary_strided", include_str!("../../shaders/binary_strided.wgsl"));

params!(
    struct Params {
        items: u32,
        per_group: u32,
        left_inner: u32,
        left_count: u32,
        right_inner: u32,
        right_count: u32,
    }
);

params!(
    struct StridedParams {
        items: u32,
        per_group: u32,
        elements: u32,
        axes: u32,
        dims_low: [u32; 4],
        dims_high: [u32; 4],
        left_low: [u32; 4],
        left_high: [u32; 4],
        right_low: [u32; 4],
        right_high: [u32; 4],
    }
);

const DTYPES: [DType; 5] = [DType::F32, DType::F16, DType::BF16, DType::I32, DType::U32];

/// A function of two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BinaryFn {
    /// a + b; integers wrap.
    Add,
    /// a - b; integers wrap.
    Sub,
    /// a b; integers wrap.
    Mul,
    /// a / b; of integers without the fraction, and a itself where b is 0 or the quotient overflows.
    Div,
    /// The larger.
    Max,
    /// The smaller.
    Min,
    /// a to the power of b; integers wrap, and lose their fraction where b is negative.
    Pow,
}

impl BinaryFn {
    /// All functions.
    pub const ALL: [Self; 7] = [Self::Add, Self::Sub, Self::Mul, Self::Div, Self::Max, Self::Min, Self::Pow];

    /// Name in lib/binary.wgsl.
    const fn wgsl(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Sub => "subtract",
            Self::Mul => "multiply",
            Self::Div => "divide",
            Self::Max => "maximum",
            Self::Min => "minimum",
            Self::Pow => "power",
        }
    }

    /// The function in f64.
    pub fn apply(self, a: f64, b: f64) -> f64 {
        match self {
            Self::Add => a + b,
            Self::Sub => a - b,
            Self::Mul => a * b,
            Self::Div => a / b,
            Self::Max => a.max(b),
            Self::Min => a.min(b),
            Self::Pow => a.powf(b),
        }
    }

    /// The function of 32-bit integers in i64, whose lower half is the result.
    fn apply_integers(self, a: i64, b: i64) -> i64 {
        match self {
            Self::Add => a + b,
            Self::Sub => a - b,
            Self::Mul => a.wrapping_mul(b),
            Self::Div if b == 0 => a,
            Self::Div => a / b,
            Self::Max => a.max(b),
            Self::Min => a.min(b),
            Self::Pow if b < 0 => match a {
                1 => 1,
                -1 => 1 - 2 * (b & 1),
                _ => 0,
            },
            Self::Pow => a.wrapping_pow(u32::try_from(b).expect("a 32-bit exponent that is not negative")),
        }
    }
}

/// A function of the elements of two tensors of one dtype (f32, f16, bf16, i32 or u32; floats are
/// computed in f32), whose shapes are broadcast to one by NumPy's rules; rank 8 at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binary(pub BinaryFn);

impl Op for Binary {
    fn name(&self) -> &'static str {
        "binary"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [left, right] = inputs.exactly(self)?;
        left.expect_dtype(self, "the left input", &DTYPES)?;
        right.expect_dtype(self, "the right input", &[left.dtype])?;
        let fail = |what: &str| Error::op(self.name(), format!("{what}: {left} and {right}"));
        let shape = left.shape.broadcast(&right.shape).ok_or_else(|| fail("shapes do not broadcast"))?;
        if shape.rank() > MAX_AXES {
            return Err(fail("takes rank 8 at most, got"));
        }
        Ok(vec![Spec::new(left.dtype, shape)])
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], outputs: &[Spec]) -> Result<Launches> {
        let output = &outputs[0];
        let strides = [&inputs[0], &inputs[1]].map(|input| broadcast_strides(&input.shape, &output.shape));
        let dims = output.shape.dims();
        let spread = Spread::new(output.elements().div_ceil(4), caps);
        let launch = match (Access::of(dims, &strides[0]), Access::of(dims, &strides[1])) {
            (Some(left), Some(right)) => vectors(spread, left, right),
            _ => elements(spread, output.elements(), &merged_axes(dims, [&strides[0], &strides[1]])),
        };
        let launch = launch.variant("dtype", output.dtype.name()).variant("function", self.0.wgsl());
        Ok(launch.bind_all(2, 1).into())
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let (left, right) = (&inputs[0], &inputs[1]);
        let shape = left
            .spec()
            .shape
            .broadcast(&right.spec().shape)
            .ok_or_else(|| Error::op(self.name(), "shapes do not broadcast"))?;
        let (a, b) = (broadcast(left, &shape), broadcast(right, &shape));
        let pairs = a.into_iter().zip(b);
        if left.dtype().is_float() {
            let values: Vec<f64> = pairs.map(|(a, b)| self.0.apply(a, b)).collect();
            return Ok(vec![Tensor::from_f64(left.dtype(), shape, &values)]);
        }
        let bytes = pairs.flat_map(|(a, b)| (self.0.apply_integers(a as i64, b as i64) as u32).to_le_bytes());
        Ok(vec![Tensor::from_bytes(Spec::new(left.dtype(), shape), bytes.collect())])
    }
}

/// How an operand is read by whole vectors of the output; see the shader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Access {
    kind: &'static str,
    inner: usize,
    count: usize,
}

impl Access {
    /// Of an operand with these strides; none when it must be read element by element.
    fn of(dims: &[usize], strides: &[isize]) -> Option<Self> {
        let axes = merged_axes(dims, [strides]);
        let axes: Vec<(usize, isize)> = axes.iter().map(|axis| (axis.size, axis.strides[0])).collect();
        match axes.as_slice() {
            [] | [(_, 1)] => Some(Self { kind: "same", inner: 1, count: 1 }),
            [(_, 0)] => Some(Self { kind: "splat", inner: 1, count: 1 }),
            &[(cols, 1), (_, 0)] if cols.is_multiple_of(4) => {
                Some(Self { kind: "row", inner: 1, count: cols / 4 })
            }
            &[(inner, 0), (count, 1)] | &[(inner, 0), (count, 1), (_, 0)] if inner.is_multiple_of(4) => {
                Some(Self { kind: "splat", inner: inner / 4, count })
            }
            _ => None,
        }
    }
}

fn vectors(spread: Spread, left: Access, right: Access) -> Launch {
    let params = Params {
        items: spread.items,
        per_group: spread.per_group,
        left_inner: count(left.inner),
        left_count: count(left.count),
        right_inner: count(right.inner),
        right_count: count(right.count),
    };
    spread.launch(&BINARY).variant("left", left.kind).variant("right", right.kind).params(params)
}

fn elements(spread: Spread, elements: usize, axes: &[Axis<2>]) -> Launch {
    let dims = axis_values(axes, |axis| count(axis.size));
    let left = axis_values(axes, |axis| axis.strides[0] as u32);
    let right = axis_values(axes, |axis| axis.strides[1] as u32);
    spread.launch(&BINARY_STRIDED).params(StridedParams {
        items: spread.items,
        per_group: spread.per_group,
        elements: count(elements),
        axes: count(axes.len()),
        dims_low: dims[0],
        dims_high: dims[1],
        left_low: left[0],
        left_high: left[1],
        right_low: right[0],
        right_high: right[1],
    })
}

/// The values of a tensor repeated to a shape.
fn broadcast(tensor: &Tensor, shape: &Shape) -> Vec<f64> {
    let values = tensor.to_f64();
    let strides = broadcast_strides(&tensor.spec().shape, shape);
    super::strided::places(shape, &strides, 0).map(|place| values[place]).collect()
}

pub(super) fn cases() -> Vec<Case> {
    let mut random = Random::new(3);
    let mut cases = function_cases(&mut random);
    cases.extend(shape_cases(&mut random));
    cases.extend(edge_cases());
    cases
}

/// Every function of every dtype.
fn function_cases(random: &mut Random) -> Vec<Case> {
    // Divisors and bases that keep away from zero and are positive.
    let positive: Vec<f64> = (0..1_021).map(|i| 0.5 + f64::from(i) / 500.0).collect();
    let mut cases = Vec::new();
    for function in BinaryFn::ALL {
        for dtype in DTYPES {
            let positive = Tensor::from_f64(dtype, [1_021], &positive);
            let mut random = |scale| random.tensor(dtype, [1_021], scale);
            let inputs = match function {
                BinaryFn::Pow if dtype.is_float() => vec![positive, random(3.0)],
                BinaryFn::Pow => vec![random(9.0), random(4.0)],
                BinaryFn::Div if dtype.is_float() => vec![random(4.0), positive],
                _ => vec![random(1e3), random(4.0)],
            };
            cases.push(Case::new(format!("{function:?} {dtype}"), Binary(function), inputs));
        }
    }
    cases
}

/// Every way of reading an operand.
fn shape_cases(random: &mut Random) -> Vec<Case> {
    let shapes: [(&[usize], &[usize]); 16] = [
        (&[1], &[1]),
        (&[], &[7]),
        (&[5, 3], &[1]),
        (&[3, 64], &[64]),
        (&[3, 63], &[63]),
        (&[2, 5, 8], &[5, 1]),
        (&[2, 3, 4, 4], &[3, 1, 1]),
        (&[2, 3, 3, 3], &[1, 3, 1, 1]),
        (&[7, 1], &[1, 5]),
        (&[4, 1, 12], &[3, 12]),
        (&[6, 8], &[6, 1]),
        (&[8, 1, 6, 1], &[7, 1, 5]),
        (&[2, 1, 2, 1, 2, 1, 2, 1], &[3, 1, 3, 1, 3, 1, 3]),
        (&[64], &[3, 64]),
        (&[33, 97], &[33, 97]),
        (&[1, 4_096], &[1, 4_096]),
    ];
    let mut cases = Vec::new();
    for (left, right) in shapes {
        for dtype in [DType::F32, DType::F16, DType::I32] {
            let inputs = vec![random.tensor(dtype, left, 9.0), random.tensor(dtype, right, 9.0)];
            cases.push(Case::new(format!("{left:?} and {right:?} {dtype}"), Binary(BinaryFn::Sub), inputs));
        }
    }
    cases
}

fn edge_cases() -> Vec<Case> {
    let integers = |left: &[i32], right: &[i32]| {
        vec![Tensor::from_i32([left.len()], left), Tensor::from_i32([right.len()], right)]
    };
    let floats = |left: &[f32], right: &[f32]| {
        vec![Tensor::from_f32([left.len()], left), Tensor::from_f32([right.len()], right)]
    };
    let case = |name: &str, function, inputs| Case::new(name, Binary(function), inputs);
    vec![
        case(
            "division by zero and overflow",
            BinaryFn::Div,
            integers(&[7, -7, i32::MIN, 0, i32::MIN], &[0, 2, -1, 0, 0]),
        ),
        case(
            "unsigned division by zero",
            BinaryFn::Div,
            vec![Tensor::from_u32([3], &[7, u32::MAX, 0]), Tensor::from_u32([3], &[0, 2, 0])],
        ),
        case(
            "products that wrap",
            BinaryFn::Mul,
            integers(&[i32::MAX, 65_537, -3], &[i32::MAX, 65_537, 1 << 30]),
        ),
        case(
            "integer powers",
            BinaryFn::Pow,
            integers(&[-2, -1, -1, 1, 0, 3, 2, -3], &[3, -3, -2, -9, 0, 21, -1, 0]),
        ),
        case(
            "powers of negative numbers and zero",
            BinaryFn::Pow,
            floats(&[-2.0, -2.0, -3.0, 0.0, 0.0, -1.5, 0.0], &[2.0, 3.0, -1.0, 0.0, 2.0, 0.0, 0.5]),
        ),
        case("a root of a negative number", BinaryFn::Pow, floats(&[-2.0], &[0.5])),
    ]
}

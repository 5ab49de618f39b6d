//! Functions of two values, element by element, with NumPy's broadcasting.

mod cases;
mod image;

use super::strided::{Axis, MAX_AXES, axis_values, broadcast_strides, merged_axes};
use super::{ChannelsLast, Expect, Inputs, Op, image::is_image};
use crate::kernel::{Caps, Kernel, Launch, Launches, Spread, count, params};
use crate::tensor::{DType, Shape, Spec, Tensor};
use crate::{Error, Result};
pub(super) use cases::cases;
use image::ImageBinary;

static BINARY: Kernel = Kernel::new("binary", include_str!("../../shaders/binary.wgsl"));
static BINARY_STRIDED: Kernel =
    Kernel::new("binary_strided", include_str!("../../shaders/binary_strided.wgsl"));

params!(
    struct Params {
        items: u32,
        per_group: u32,
        columns: u32,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum BinaryFn {
    /// a + b; integers wrap.
    Add,
    /// a - b; integers wrap.
    Sub,
    /// a b; integers wrap.
    Mul,
    /// a / b; of integers without the fraction, and a itself where b is 0 or the quotient overflows.
    Div,
    /// a / b of f32, correctly rounded (IEEE 754): division in WGSL may be off by 2.5 units in the
    /// last place.
    ExactDiv,
    /// The larger.
    Max,
    /// The smaller.
    Min,
    /// a to the power of b; integers wrap, and lose their fraction where b is negative.
    Pow,
    /// a, or a b where a is negative (He et al. 2015, "Delving Deep into Rectifiers"); integers wrap.
    PRelu,
    /// The remainder of a / b with the sign of a (C's fmod); of integers 0 where b is 0.
    Remainder,
    /// The remainder of a / b with the sign of b (Python's %); of integers 0 where b is 0.
    Modulo,
    /// The bits that both integers have; of truth values (0 or 1) the conjunction.
    BitAnd,
    /// The bits that either integer has; of truth values the disjunction.
    BitOr,
    /// The bits in which the integers differ; of truth values the exclusive disjunction.
    BitXor,
    /// The integer a shifted by b bits to the left, 0 where b is not in 0..32.
    ShiftLeft,
    /// The integer a shifted by b bits to the right, 0 where b is not in 0..32.
    ShiftRight,
    /// 1 where a = b, else 0 (u32, as of all comparisons).
    Equal,
    /// 1 where a < b, else 0.
    Less,
    /// 1 where a <= b, else 0.
    LessOrEqual,
    /// 1 where a > b, else 0.
    Greater,
    /// 1 where a >= b, else 0.
    GreaterOrEqual,
}

impl BinaryFn {
    /// All functions.
    pub const ALL: [Self; 21] = [
        Self::Add,
        Self::Sub,
        Self::Mul,
        Self::Div,
        Self::ExactDiv,
        Self::Max,
        Self::Min,
        Self::Pow,
        Self::PRelu,
        Self::Remainder,
        Self::Modulo,
        Self::BitAnd,
        Self::BitOr,
        Self::BitXor,
        Self::ShiftLeft,
        Self::ShiftRight,
        Self::Equal,
        Self::Less,
        Self::LessOrEqual,
        Self::Greater,
        Self::GreaterOrEqual,
    ];

    /// Whether the result is a truth value.
    const fn compares(self) -> bool {
        matches!(self, Self::Equal | Self::Less | Self::LessOrEqual | Self::Greater | Self::GreaterOrEqual)
    }

    /// Dtypes of the inputs.
    const fn dtypes(self) -> &'static [DType] {
        match self {
            Self::BitAnd | Self::BitOr | Self::BitXor | Self::ShiftLeft | Self::ShiftRight => {
                &[DType::I32, DType::U32]
            }
            Self::ExactDiv => &[DType::F32],
            _ => &DTYPES,
        }
    }

    /// Iterations of loops that four elements take at most.
    const fn iterations(self) -> usize {
        match self {
            Self::ExactDiv => 4 * 4,
            Self::Pow => 4 * 32,
            Self::Remainder | Self::Modulo => 4 * 560,
            _ => 4,
        }
    }

    /// Name in lib/binary.wgsl or lib/compare.wgsl.
    pub(super) const fn wgsl(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Sub => "subtract",
            Self::Mul => "multiply",
            Self::Div => "divide",
            Self::ExactDiv => "divide_exactly",
            Self::Max => "maximum",
            Self::Min => "minimum",
            Self::Pow => "power",
            Self::PRelu => "prelu",
            Self::Remainder => "remainder",
            Self::Modulo => "modulo",
            Self::BitAnd => "bit_and",
            Self::BitOr => "bit_or",
            Self::BitXor => "bit_xor",
            Self::ShiftLeft => "shift_left",
            Self::ShiftRight => "shift_right",
            Self::Equal => "equal",
            Self::Less => "less",
            Self::LessOrEqual => "less_or_equal",
            Self::Greater => "greater",
            Self::GreaterOrEqual => "greater_or_equal",
        }
    }

    /// The dispatch on operands of a dtype with these strides along the axes of the output.
    fn launch(self, caps: &Caps, dtype: DType, output: &Spec, strides: [&[isize]; 2]) -> Launch {
        let dims = output.shape.dims();
        let spread = Spread::of_loops(output.elements().div_ceil(4), self.iterations(), caps);
        let launch = match strides.map(|strides| Access::of(dims, strides)) {
            [Some(left), Some(right)] => vectors(spread, left, right),
            _ => elements(spread, output.elements(), &merged_axes(dims, strides)),
        };
        let launch = launch.variant("dtype", dtype.name()).variant("function", self.wgsl());
        launch.variant("compares", self.compares()).bind_all(2, 1)
    }

    /// The function in f64; NaN where it is for integers only.
    pub fn apply(self, a: f64, b: f64) -> f64 {
        match self {
            Self::Add => a + b,
            Self::Sub => a - b,
            Self::Mul => a * b,
            Self::Div => a / b,
            Self::ExactDiv => f64::from(a as f32 / b as f32),
            Self::Max => a.max(b),
            Self::Min => a.min(b),
            Self::Pow => a.powf(b),
            Self::PRelu => a.max(0.0) + b * a.min(0.0),
            Self::Remainder => a % b,
            Self::Modulo => {
                let rest = a % b;
                if rest != 0.0 && (rest < 0.0) != (b < 0.0) { rest + b } else { rest }
            }
            Self::Equal => f64::from(a == b),
            Self::Less => f64::from(a < b),
            Self::LessOrEqual => f64::from(a <= b),
            Self::Greater => f64::from(a > b),
            Self::GreaterOrEqual => f64::from(a >= b),
            Self::BitAnd | Self::BitOr | Self::BitXor | Self::ShiftLeft | Self::ShiftRight => f64::NAN,
        }
    }

    /// The function of 32-bit integers in i64, whose lower half is the result.
    fn apply_integers(self, a: i64, b: i64) -> i64 {
        match self {
            Self::Add => a + b,
            Self::Sub => a - b,
            Self::Mul => a.wrapping_mul(b),
            Self::Div | Self::ExactDiv if b == 0 => a,
            Self::Div | Self::ExactDiv => a / b,
            Self::Max => a.max(b),
            Self::Min => a.min(b),
            Self::PRelu => a.max(0) + b.wrapping_mul(a.min(0)),
            Self::Remainder | Self::Modulo if b == 0 => 0,
            Self::Remainder => a % b,
            Self::Modulo => {
                let rest = a % b;
                if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }
            }
            Self::BitAnd => a & b,
            Self::BitOr => a | b,
            Self::BitXor => a ^ b,
            Self::ShiftLeft | Self::ShiftRight if !(0..32).contains(&b) => 0,
            Self::ShiftLeft => a << b,
            Self::ShiftRight => a >> b,
            Self::Equal => i64::from(a == b),
            Self::Less => i64::from(a < b),
            Self::LessOrEqual => i64::from(a <= b),
            Self::Greater => i64::from(a > b),
            Self::GreaterOrEqual => i64::from(a >= b),
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
/// computed in f32), whose shapes are broadcast to one by NumPy's rules; rank 8 at most. The
/// output has that dtype, of comparisons u32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Binary(pub BinaryFn);

impl Op for Binary {
    fn name(&self) -> &'static str {
        "binary"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [left, right] = inputs.exactly(self)?;
        left.expect_dtype(self, "the left input", self.0.dtypes())?;
        right.expect_dtype(self, "the right input", &[left.dtype])?;
        let fail = |what: &str| Error::op(self.name(), format!("{what}: {left} and {right}"));
        let shape = left.shape.broadcast(&right.shape).ok_or_else(|| fail("shapes do not broadcast"))?;
        if shape.rank() > MAX_AXES {
            return Err(fail("takes rank 8 at most, got"));
        }
        Ok(vec![Spec::new(if self.0.compares() { DType::U32 } else { left.dtype }, shape)])
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], outputs: &[Spec]) -> Result<Launches> {
        let output = &outputs[0];
        let strides = [&inputs[0], &inputs[1]].map(|input| broadcast_strides(&input.shape, &output.shape));
        Ok(self.0.launch(caps, inputs[0].dtype, output, [&strides[0], &strides[1]]).into())
    }

    fn channels_last(&self, _: &Caps, inputs: &[Spec]) -> Option<ChannelsLast> {
        let ranks = [inputs[0].shape.rank(), inputs[1].shape.rank()];
        if ranks[0] == ranks[1] {
            return is_image(&inputs[0]).then(|| ChannelsLast::following(*self, [0, 1]));
        }
        let image = usize::from(ranks[1] > ranks[0]);
        let form = ImageBinary { function: self.0, image };
        is_image(&inputs[image]).then(|| ChannelsLast::following(form, [image]))
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
        let dtype = if self.0.compares() { DType::U32 } else { left.dtype() };
        if left.dtype().is_float() {
            let values: Vec<f64> = pairs.map(|(a, b)| self.0.apply(a, b)).collect();
            return Ok(vec![Tensor::from_f64(dtype, shape, &values)]);
        }
        let bytes = pairs.flat_map(|(a, b)| (self.0.apply_integers(a as i64, b as i64) as u32).to_le_bytes());
        Ok(vec![Tensor::from_bytes(Spec::new(dtype, shape), bytes.collect())])
    }
}

/// How an operand is read by whole vectors of the output; see the shader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Access {
    pub(super) kind: &'static str,
    inner: usize,
    pub(super) count: usize,
}

impl Access {
    /// Of an operand with these strides; none when it must be read element by element.
    pub(super) fn of(dims: &[usize], strides: &[isize]) -> Option<Self> {
        let axes = merged_axes(dims, [strides]);
        let axes: Vec<(usize, isize)> = axes.iter().map(|axis| (axis.size, axis.strides[0])).collect();
        match axes.as_slice() {
            [] | [(_, 1)] => Some(Self { kind: "same", inner: 1, count: 1 }),
            [(_, 0)] => Some(Self { kind: "scalar", inner: 1, count: 1 }),
            &[(cols, 1), (_, 0)] if cols.is_multiple_of(4) => {
                Some(Self { kind: "row", inner: 1, count: cols / 4 })
            }
            &[(cols, 1), (repeats, 0), (_, stride)] if cols.is_multiple_of(4) && stride == cols as isize => {
                Some(Self { kind: "rows", inner: cols / 4 * repeats, count: cols / 4 })
            }
            &[(inner, 0), (count, 1)] | &[(inner, 0), (count, 1), (_, 0)] if inner.is_multiple_of(4) => {
                Some(Self { kind: "splat", inner: inner / 4, count })
            }
            _ => None,
        }
    }
}

impl Access {
    /// The length of rows in which it needs no division, and how it is read then.
    pub(super) fn in_rows(&self) -> Option<(usize, &'static str)> {
        match self.kind {
            "row" => Some((self.count, "column")),
            "splat" => Some((self.inner, "each")),
            _ => None,
        }
    }
}

fn vectors(spread: Spread, mut left: Access, mut right: Access) -> Launch {
    let rows = left.in_rows().or(right.in_rows()).map(|(columns, _)| columns);
    for access in [&mut left, &mut right] {
        let fitting = access.in_rows().filter(|(columns, _)| Some(*columns) == rows);
        access.kind = fitting.map_or(access.kind, |(_, kind)| kind);
    }
    let params = Params {
        items: spread.items,
        per_group: spread.per_group,
        columns: rows.map_or(spread.items, count),
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
pub(super) fn broadcast(tensor: &Tensor, shape: &Shape) -> Vec<f64> {
    let values = tensor.to_f64();
    let strides = broadcast_strides(&tensor.spec().shape, shape);
    super::strided::places(shape, &strides, 0).map(|place| values[place]).collect()
}

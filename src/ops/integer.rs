//! Functions of one value that are computed in integers, element by element: of integers, of truth
//! values (u32 0 or 1), and of the bits of floats.

use super::cases::{Case, Random};
use super::{ChannelsLast, Expect, Inputs, Op, image};
use crate::Result;
use crate::kernel::{Caps, Kernel, Launches, Spread, params};
use crate::tensor::{DType, Spec, Tensor};

static INTEGER: Kernel = Kernel::new("integer", include_str!("../../shaders/integer.wgsl"));

params!(
    struct Params {
        items: u32,
        per_group: u32,
    }
);

/// A function of one value that is computed in integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum IntegerFn {
    /// |x| of i32; the smallest stays.
    Abs,
    /// -x of i32; wraps.
    Neg,
    /// -1, 0 or 1 of i32.
    Sign,
    /// All bits of i32 or u32 inverted.
    Not,
    /// Of u32: 1 where it is 0, else 0.
    LogicalNot,
    /// The lowest byte: of i32 as a signed number (-128..127), of u32 as an unsigned (0..255).
    Wrap8,
    /// The lowest two bytes: of i32 as a signed number, of u32 as an unsigned.
    Wrap16,
    /// Of f32, i32 or u32 to u32: 1 where it is not 0 (NaN is not), else 0.
    IsNonzero,
    /// Of f32 to u32: 1 where it is NaN, else 0.
    IsNan,
    /// Of f32 to u32: 1 where it is an infinity, else 0.
    IsInfinite,
    /// Of f32 to u32: 1 where it is plus infinity, else 0.
    IsPlusInfinity,
    /// Of f32 to u32: 1 where it is minus infinity, else 0.
    IsMinusInfinity,
}

impl IntegerFn {
    /// All functions.
    pub const ALL: [Self; 12] = [
        Self::Abs,
        Self::Neg,
        Self::Sign,
        Self::Not,
        Self::LogicalNot,
        Self::Wrap8,
        Self::Wrap16,
        Self::IsNonzero,
        Self::IsNan,
        Self::IsInfinite,
        Self::IsPlusInfinity,
        Self::IsMinusInfinity,
    ];

    /// Dtypes of the input.
    const fn dtypes(self) -> &'static [DType] {
        match self {
            Self::Abs | Self::Neg | Self::Sign => &[DType::I32],
            Self::LogicalNot => &[DType::U32],
            Self::Not | Self::Wrap8 | Self::Wrap16 => &[DType::I32, DType::U32],
            Self::IsNonzero => &[DType::F32, DType::I32, DType::U32],
            Self::IsNan | Self::IsInfinite | Self::IsPlusInfinity | Self::IsMinusInfinity => &[DType::F32],
        }
    }

    /// Dtype of the output.
    const fn output(self, input: DType) -> DType {
        match self {
            Self::Abs | Self::Neg | Self::Sign | Self::Not | Self::Wrap8 | Self::Wrap16 => input,
            _ => DType::U32,
        }
    }

    /// In WGSL, of `x` and its `bits`: drivers may compute with floats as if there were neither NaN
    /// nor infinities.
    const fn wgsl(self, input: DType) -> &'static str {
        match self {
            Self::Abs => "abs(x)",
            Self::Neg => "-x",
            Self::Sign => "sign(x)",
            Self::Not => "~x",
            Self::LogicalNot => "bits == vec4<u32>()",
            // Shifts to the right keep the sign of signed numbers.
            Self::Wrap8 => "(x << vec4<u32>(24u)) >> vec4<u32>(24u)",
            Self::Wrap16 => "(x << vec4<u32>(16u)) >> vec4<u32>(16u)",
            Self::IsNonzero if input.is_float() => "(bits << vec4<u32>(1u)) != vec4<u32>()",
            Self::IsNonzero => "bits != vec4<u32>()",
            Self::IsNan => "(bits << vec4<u32>(1u)) > vec4<u32>(0xff000000u)",
            Self::IsInfinite => "(bits << vec4<u32>(1u)) == vec4<u32>(0xff000000u)",
            Self::IsPlusInfinity => "bits == vec4<u32>(0x7f800000u)",
            Self::IsMinusInfinity => "bits == vec4<u32>(0xff800000u)",
        }
    }

    /// The function of the bits of a value to those of the result.
    fn apply(self, dtype: DType, bits: u32) -> u32 {
        let (signed, float) = (bits.cast_signed(), f32::from_bits(bits));
        match self {
            Self::Abs => signed.wrapping_abs().cast_unsigned(),
            Self::Neg => signed.wrapping_neg().cast_unsigned(),
            Self::Sign => signed.signum().cast_unsigned(),
            Self::Not => !bits,
            Self::LogicalNot => u32::from(bits == 0),
            Self::Wrap8 if dtype == DType::I32 => i32::from(signed as i8).cast_unsigned(),
            Self::Wrap8 => bits & 0xff,
            Self::Wrap16 if dtype == DType::I32 => i32::from(signed as i16).cast_unsigned(),
            Self::Wrap16 => bits & 0xffff,
            Self::IsNonzero if dtype == DType::F32 => u32::from(float != 0.0),
            Self::IsNonzero => u32::from(bits != 0),
            Self::IsNan => u32::from(float.is_nan()),
            Self::IsInfinite => u32::from(float.is_infinite()),
            Self::IsPlusInfinity => u32::from(float == f32::INFINITY),
            Self::IsMinusInfinity => u32::from(float == f32::NEG_INFINITY),
        }
    }
}

/// A function of every element that is computed in integers; its dtypes are the function's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Integer(pub IntegerFn);

impl Op for Integer {
    fn name(&self) -> &'static str {
        "integer"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [input] = inputs.exactly(self)?;
        input.expect_dtype(self, "the input", self.0.dtypes())?;
        Ok(vec![Spec::new(self.0.output(input.dtype), input.shape.clone())])
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], outputs: &[Spec]) -> Result<Launches> {
        let spread = Spread::new(inputs[0].elements().div_ceil(4), caps);
        let launch = spread
            .launch(&INTEGER)
            .variant("from", inputs[0].dtype.name())
            .variant("to", outputs[0].dtype.name())
            .variant("expression", self.0.wgsl(inputs[0].dtype))
            .params(Params { items: spread.items, per_group: spread.per_group });
        Ok(launch.bind_all(1, 1).into())
    }

    fn channels_last(&self, _: &Caps, inputs: &[Spec]) -> Option<ChannelsLast> {
        image::is_image(&inputs[0]).then(|| ChannelsLast::following(*self, [0]))
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let dtype = inputs[0].dtype();
        let words = inputs[0].bytes().as_chunks::<4>().0.iter().map(|&word| u32::from_le_bytes(word));
        let bytes = words.flat_map(|bits| self.0.apply(dtype, bits).to_le_bytes()).collect();
        let spec = Spec::new(self.0.output(dtype), inputs[0].spec().shape.clone());
        Ok(vec![Tensor::from_bytes(spec, bytes)])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut random = Random::new(32);
    let mut cases = Vec::new();
    let edges =
        [0, 1, 127, 128, 255, 256, 32_767, 32_768, 65_535, 65_536, 0x7fff_ffff, 0x8000_0000, u32::MAX];
    let floats = [0.0, -0.0, 1e-30, 1.0, f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX];
    for function in IntegerFn::ALL {
        for &dtype in function.dtypes() {
            let edges = if dtype == DType::F32 {
                Tensor::from_f32([floats.len()], &floats)
            } else {
                let bytes = edges.iter().flat_map(|word: &u32| word.to_le_bytes()).collect();
                Tensor::from_bytes(Spec::new(dtype, [edges.len()]), bytes)
            };
            cases.push(Case::new(format!("{function:?} {dtype}, edges"), Integer(function), vec![edges]));
            let input = random.tensor(dtype, [1_021], 1e5);
            cases.push(Case::new(format!("{function:?} {dtype}"), Integer(function), vec![input]));
        }
    }
    for shape in [vec![1], vec![3, 5, 7], vec![2, 3, 4, 5]] {
        let input = random.tensor(DType::I32, shape, 9.0);
        cases.push(Case::new("shapes", Integer(IntegerFn::Sign), vec![input]));
    }
    cases
}

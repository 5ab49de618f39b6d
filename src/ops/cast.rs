//! Conversion between dtypes.

use super::cases::{Case, Random};
use super::{Expect, Inputs, Op};
use crate::Result;
use crate::kernel::{Caps, Kernel, Launches, Spread, params};
use crate::tensor::{DType, Spec, Tensor};

static CAST: Kernel = Kernel::new("cast", include_str!("../../shaders/cast.wgsl"));

params!(
    struct Params {
        items: u32,
        per_group: u32,
    }
);

const DTYPES: [DType; 5] = [DType::F32, DType::F16, DType::BF16, DType::I32, DType::U32];

/// Converts every element to `to`: f32, f16, bf16, i32 or u32 of any shape, each way.
///
/// Floats become integers by dropping the fraction, and saturate at the last integer that an f32
/// holds; integers become each other
/// bit for bit. How f16 is rounded, and what becomes of values beyond it, is the device's choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cast {
    /// Dtype of the output.
    pub to: DType,
}

impl Op for Cast {
    fn name(&self) -> &'static str {
        "cast"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [input] = inputs.exactly(self)?;
        input.expect_dtype(self, "the input", &DTYPES)?;
        let output = Spec::new(self.to, input.shape.clone());
        output.expect_dtype(self, "the output", &DTYPES)?;
        Ok(vec![output])
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], _: &[Spec]) -> Result<Launches> {
        let spread = Spread::new(inputs[0].elements().div_ceil(4), caps);
        let launch = spread
            .launch(&CAST)
            .variant("from", inputs[0].dtype.name())
            .variant("dtype", self.to.name())
            .params(Params { items: spread.items, per_group: spread.per_group })
            .bind_all(1, 1);
        Ok(launch.into())
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let input = &inputs[0];
        if !input.dtype().is_float() && !self.to.is_float() {
            let spec = Spec::new(self.to, input.spec().shape.clone());
            return Ok(vec![Tensor::from_bytes(spec, input.bytes().to_vec())]);
        }
        let mut values = input.to_f64();
        let (lowest, highest) = match self.to {
            DType::I32 => (f64::from(i32::MIN), 2_147_483_520.0),
            DType::U32 => (0.0, 4_294_967_040.0),
            _ => (f64::NEG_INFINITY, f64::INFINITY),
        };
        values.iter_mut().for_each(|value| *value = value.clamp(lowest, highest));
        Ok(vec![Tensor::from_f64(self.to, input.dims(), &values)])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut random = Random::new(2);
    let mut cases = Vec::new();
    for from in DTYPES {
        for to in DTYPES {
            for elements in [1, 6, 1_031] {
                let input = random.tensor(from, [elements], 1_000.0);
                cases.push(Case::new(format!("{from} to {to}"), Cast { to }, vec![input]));
            }
        }
    }
    let large = Tensor::from_f32([6], &[-1e20, -1.99, -0.5, 0.5, 1.99, 1e20]);
    for to in [DType::I32, DType::U32] {
        cases.push(Case::new(format!("saturation to {to}"), Cast { to }, vec![large.clone()]));
    }
    cases
}

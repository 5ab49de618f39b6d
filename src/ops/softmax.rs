//! Softmax over the last axis.

use super::cases::{Case, ROW_SHAPES, Random};
use super::{Cost, Expect, Inputs, Op};
use crate::Result;
use crate::kernel::{Caps, Kernel, Launches, RowSpread, params};
use crate::tensor::{DType, Spec, Tensor};

static SOFTMAX: Kernel = Kernel::new("softmax", include_str!("../../shaders/softmax.wgsl"));

params!(
    struct Params {
        rows: u32,
        rows_per_group: u32,
        chunks: u32,
    }
);

/// e^(x - max) / sum e^(x - max) over the last axis: f32 `[.., cols]` to the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Softmax {
    /// Whether to return the natural logarithm of it.
    pub logarithm: bool,
}

impl Op for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [input] = inputs.exactly(self)?;
        input.expect_dtype(self, "the input", &[DType::F32])?;
        Ok(vec![input.clone()])
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], _: &[Spec]) -> Result<Launches> {
        let (rows, cols) = inputs[0].shape.rows_and_cols();
        let spread = RowSpread::new(rows, cols, caps);
        let params =
            Params { rows: spread.rows, rows_per_group: spread.rows_per_group, chunks: spread.chunks };
        let launch = spread.launch(&SOFTMAX).variant("logarithm", self.logarithm).params(params);
        Ok(launch.bind_all(1, 1).into())
    }

    fn cost(&self, inputs: &[Spec], outputs: &[Spec]) -> Cost {
        Cost::of_traffic(inputs, outputs).functions(inputs[0].elements())
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let (_, cols) = inputs[0].spec().shape.rows_and_cols();
        let mut values = inputs[0].to_f64();
        for row in values.chunks_exact_mut(cols.max(1)) {
            let highest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let total: f64 = row.iter().map(|x| (x - highest).exp()).sum();
            for x in row {
                *x = if self.logarithm { *x - highest - total.ln() } else { (*x - highest).exp() / total };
            }
        }
        Ok(vec![Tensor::from_f64(DType::F32, inputs[0].dims(), &values)])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut random = Random::new(8);
    let mut cases = Vec::new();
    for dims in ROW_SHAPES {
        for logarithm in [false, true] {
            let input = random.tensor(DType::F32, dims, 8.0);
            let name = format!("{dims:?}{}", if logarithm { " logarithm" } else { "" });
            cases.push(Case::new(name, Softmax { logarithm }, vec![input]));
        }
    }
    for dims in [[1, 200_000], [2, 200_001], [40, 30_001]] {
        let input = random.tensor(DType::F32, dims, 8.0);
        cases.push(Case::new(format!("{dims:?}"), Softmax { logarithm: true }, vec![input]));
    }
    let large = Tensor::from_f32([2, 3], &[1e4, 1e4, -1e4, f32::NEG_INFINITY, 0.0, -200.0]);
    cases.push(Case::new("large values and minus infinity", Softmax { logarithm: false }, vec![large]));
    let scalar = Tensor::from_f32(vec![], &[3.0]);
    cases.push(Case::new("scalar", Softmax { logarithm: false }, vec![scalar]));
    cases
}

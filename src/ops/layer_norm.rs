//! Layer normalisation of rows (Ba et al. 2016).

use super::cases::{Case, Random};
use super::{Expect, Op};
use crate::kernel::{Caps, Kernel, Launches, Operand, RowSpread, params};
use crate::tensor::{DType, Spec, Tensor};
use crate::{Error, Result};

static LAYER_NORM: Kernel = Kernel::new("layer_norm", include_str!("../../shaders/layer_norm.wgsl"));

params!(
    struct Params {
        rows: u32,
        rows_per_group: u32,
        chunks: u32,
        cols: f32,
        eps: f32,
    }
);

/// (x - mean) / sqrt(variance + eps) * weight + bias.
///
/// Inputs: x f32 `[.., cols]`, weight f32 `[cols]`, and with `bias` an f32 `[cols]`.
/// Output: f32 of x's shape.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerNorm {
    /// Added to the variance.
    #[serde(with = "super::float")]
    pub eps: f32,
    /// Whether a bias is added.
    pub bias: bool,
}

impl Op for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let wanted = 2 + usize::from(self.bias);
        if inputs.len() != wanted {
            return Err(Error::op(self.name(), format!("takes {wanted} inputs, got {}", inputs.len())));
        }
        let (_, cols) = inputs[0].shape.rows_and_cols();
        inputs[0].expect_dtype(self, "x", &[DType::F32])?;
        for (input, what) in inputs[1..].iter().zip(["the weight", "the bias"]) {
            input.expect_dtype(self, what, &[DType::F32])?;
            input.expect_dims(self, what, &[cols])?;
        }
        Ok(vec![inputs[0].clone()])
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], _: &[Spec]) -> Result<Launches> {
        let (rows, cols) = inputs[0].shape.rows_and_cols();
        let spread = RowSpread::new(rows, cols, caps);
        let params = Params {
            rows: spread.rows,
            rows_per_group: spread.rows_per_group,
            chunks: spread.chunks,
            cols: cols as f32,
            eps: self.eps,
        };
        let bindings = (0..inputs.len()).map(Operand::Input).chain([Operand::Output(0)]);
        Ok(spread.launch(&LAYER_NORM).variant("bias", self.bias).params(params).bind(bindings).into())
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let (_, cols) = inputs[0].spec().shape.rows_and_cols();
        let weight = inputs[1].to_f64();
        let bias = inputs.get(2).map_or_else(|| vec![0.0; cols], Tensor::to_f64);
        let mut values = Vec::with_capacity(inputs[0].spec().elements());
        for row in inputs[0].to_f64().chunks_exact(cols.max(1)) {
            let mean = row.iter().sum::<f64>() / cols as f64;
            let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / cols as f64;
            let scale = 1.0 / (variance + f64::from(self.eps)).sqrt();
            values.extend((0..cols).map(|i| (row[i] - mean) * scale * weight[i] + bias[i]));
        }
        Ok(vec![Tensor::from_f64(DType::F32, inputs[0].dims(), &values)])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut random = Random::new(22);
    let mut cases = Vec::new();
    for (rows, cols) in [(1, 1), (1, 768), (1, 1021), (3, 4), (17, 64), (33, 36), (5, 2050), (130, 8)] {
        for bias in [false, true] {
            let mut inputs = vec![random.f32([rows, cols]), random.f32([cols])];
            if bias {
                inputs.push(random.f32([cols]));
            }
            cases.push(Case::new(
                format!("{rows} x {cols}, bias {bias}"),
                LayerNorm { eps: 1e-5, bias },
                inputs,
            ));
        }
    }
    cases
}

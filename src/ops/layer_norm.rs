//! Layer normalisation of rows (Ba et al. 2016).

use super::cases::{Case, Random};
use super::cost::rows_issued;
use super::{Cost, Expect, Op};
use crate::kernel::{Caps, Kernel, Launches, Operand, RowSpread, params};
use crate::tensor::{DType, Spec, Tensor};
use crate::{Error, Result};
use std::sync::Arc;

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

/// (x - mean) / sqrt(variance + eps) * weight + bias, plus a residual.
///
/// Inputs: x f32 `[.., cols]`, weight f32 `[cols]`, with `bias` an f32 `[cols]`, and with
/// `residual` an f32 of x's shape. Output: f32 of x's shape.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerNorm {
    /// Added to the variance.
    #[serde(with = "super::float")]
    pub eps: f32,
    /// Whether a bias is added.
    pub bias: bool,
    /// Whether a last input is added to the result.
    #[serde(default)]
    pub residual: bool,
}

impl LayerNorm {
    /// A norm without residual.
    pub const fn new(eps: f32, bias: bool) -> Self {
        Self { eps, bias, residual: false }
    }
}

impl Op for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let wanted = 2 + usize::from(self.bias) + usize::from(self.residual);
        if inputs.len() != wanted {
            return Err(Error::op(self.name(), format!("takes {wanted} inputs, got {}", inputs.len())));
        }
        let (_, cols) = inputs[0].shape.rows_and_cols();
        inputs[0].expect_dtype(self, "x", &[DType::F32])?;
        let (vectors, residual) = inputs[1..].split_at(1 + usize::from(self.bias));
        for (input, what) in vectors.iter().zip(["the weight", "the bias"]) {
            input.expect_dtype(self, what, &[DType::F32])?;
            input.expect_dims(self, what, &[cols])?;
        }
        for residual in residual {
            residual.expect_dtype(self, "the residual", &[DType::F32])?;
            residual.expect_dims(self, "the residual", inputs[0].shape.dims())?;
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
        let launch = spread.launch(&LAYER_NORM).variant("bias", self.bias).variant("residual", self.residual);
        Ok(launch.params(params).bind(bindings).into())
    }

    fn issued(&self, inputs: &[Spec], outputs: &[Spec]) -> Cost {
        rows_issued(inputs, outputs, 2)
    }

    fn with_residual(&self) -> Option<Arc<dyn Op>> {
        (!self.residual).then(|| Arc::new(Self { residual: true, ..*self }) as Arc<dyn Op>)
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let (_, cols) = inputs[0].spec().shape.rows_and_cols();
        let weight = inputs[1].to_f64();
        let bias = if self.bias { inputs[2].to_f64() } else { vec![0.0; cols] };
        let mut values = Vec::with_capacity(inputs[0].spec().elements());
        for row in inputs[0].to_f64().chunks_exact(cols.max(1)) {
            let mean = row.iter().sum::<f64>() / cols as f64;
            let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / cols as f64;
            let scale = 1.0 / (variance + f64::from(self.eps)).sqrt();
            values.extend((0..cols).map(|i| (row[i] - mean) * scale * weight[i] + bias[i]));
        }
        if self.residual {
            let residual = inputs[inputs.len() - 1].to_f64();
            values.iter_mut().zip(residual).for_each(|(value, residual)| *value += residual);
        }
        Ok(vec![Tensor::from_f64(DType::F32, inputs[0].dims(), &values)])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut random = Random::new(22);
    let mut cases = Vec::new();
    for (rows, cols) in
        [(1, 1), (1, 768), (1, 1021), (3, 4), (17, 64), (33, 36), (5, 2050), (130, 8), (3, 70_004)]
    {
        for (bias, residual) in [(false, false), (true, false), (false, true), (true, true)] {
            let mut inputs = vec![random.f32([rows, cols]), random.f32([cols])];
            inputs.extend(bias.then(|| random.f32([cols])));
            inputs.extend(residual.then(|| random.f32([rows, cols])));
            let op = LayerNorm { eps: 1e-5, bias, residual };
            cases.push(Case::new(format!("{rows} x {cols}, bias {bias}, residual {residual}"), op, inputs));
        }
    }
    // Where the mean is large, the mean of squares would be of no use; nor would differences from
    // the first element where that one is far away.
    for cols in [97, 256] {
        let mut values: Vec<f64> = (0..2 * cols).map(|_| 50.0 + random.unit()).collect();
        values[0] = -2000.0;
        let x = Tensor::from_f64(DType::F32, [2, cols], &values);
        let inputs = vec![x, random.f32([cols])];
        cases.push(Case::new(format!("far from 0, {cols}"), LayerNorm::new(1e-5, false), inputs));
    }
    cases
}

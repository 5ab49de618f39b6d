//! Root-mean-square normalisation of rows (Zhang and Sennrich 2019).

use super::cases::{Case, Random};
use super::cost::rows_issued;
use super::{Cost, Expect, Op};
use crate::kernel::{Caps, Kernel, Launches, Operand, RowSpread, params};
use crate::tensor::{DType, Spec, Tensor};
use crate::{Error, Result};
use std::sync::Arc;

static RMS_NORM: Kernel = Kernel::new("rms_norm", include_str!("../../shaders/rms_norm.wgsl"));

params!(
    struct Params {
        rows: u32,
        rows_per_group: u32,
        chunks: u32,
        cols: f32,
        eps: f32,
        offset: f32,
    }
);

/// x / sqrt(mean(x²) + eps) * (weight + offset), plus a residual.
///
/// Inputs: x f32 `[.., cols]`, weight f32 `[cols]`, and with `residual` an f32 of x's shape.
/// Output: f32 of x's shape.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RmsNorm {
    /// Added to the mean of the squares.
    #[serde(with = "super::float")]
    pub eps: f32,
    /// Added to the weight: 1 for Gemma.
    #[serde(with = "super::float")]
    pub offset: f32,
    /// Whether a last input is added to the result.
    pub residual: bool,
}

impl Op for RmsNorm {
    fn name(&self) -> &'static str {
        "rms_norm"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let wanted = 2 + usize::from(self.residual);
        if inputs.len() != wanted {
            return Err(Error::op(self.name(), format!("takes {wanted} inputs, got {}", inputs.len())));
        }
        let (_, cols) = inputs[0].shape.rows_and_cols();
        inputs[0].expect_dtype(self, "x", &[DType::F32])?;
        inputs[1].expect_dtype(self, "the weight", &[DType::F32])?;
        inputs[1].expect_dims(self, "the weight", &[cols])?;
        if let Some(residual) = inputs.get(2) {
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
            offset: self.offset,
        };
        let bindings = (0..inputs.len()).map(Operand::Input).chain([Operand::Output(0)]);
        Ok(spread.launch(&RMS_NORM).variant("residual", self.residual).params(params).bind(bindings).into())
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
        let mut values = Vec::with_capacity(inputs[0].spec().elements());
        for row in inputs[0].to_f64().chunks_exact(cols.max(1)) {
            values.extend(normalised(row, &weight, self.eps, self.offset));
        }
        if let Some(residual) = inputs.get(2) {
            values.iter_mut().zip(residual.to_f64()).for_each(|(value, residual)| *value += residual);
        }
        Ok(vec![Tensor::from_f64(DType::F32, inputs[0].dims(), &values)])
    }
}

/// One row by the definition.
pub(super) fn normalised<'a>(
    row: &'a [f64],
    weight: &'a [f64],
    eps: f32,
    offset: f32,
) -> impl Iterator<Item = f64> + 'a {
    let mean = row.iter().map(|x| x * x).sum::<f64>() / row.len() as f64;
    let scale = 1.0 / (mean + f64::from(eps)).sqrt();
    row.iter().zip(weight).map(move |(x, weight)| x * scale * (weight + f64::from(offset)))
}

pub(super) fn cases() -> Vec<Case> {
    let mut random = Random::new(21);
    let mut cases = Vec::new();
    for (rows, cols) in
        [(1, 1), (1, 768), (1, 1021), (3, 4), (17, 64), (33, 36), (5, 2050), (130, 8), (3, 70_004)]
    {
        for residual in [false, true] {
            let mut inputs = vec![random.f32([rows, cols]), random.f32([cols])];
            if residual {
                inputs.push(random.f32([rows, cols]));
            }
            let offset = if rows % 2 == 1 { 1.0 } else { 0.0 };
            let op = RmsNorm { eps: 1e-5, offset, residual };
            cases.push(Case::new(format!("{rows} x {cols}, residual {residual}"), op, inputs));
        }
    }
    cases
}

//! One triangle of matrices (ONNX Trilu).

use super::cases::{Case, Random};
use super::{Expect, Inputs, Op};
use crate::kernel::{Caps, Kernel, Launches, Spread, count, params};
use crate::tensor::{DType, Spec, Tensor};
use crate::{Error, Result};

static TRIANGLE: Kernel = Kernel::new("triangle", include_str!("../../shaders/triangle.wgsl"));

params!(
    struct Params {
        items: u32,
        per_group: u32,
        rows: u32,
        cols: u32,
        diagonal: i32,
        upper: u32,
    }
);

/// Keeps the upper or lower triangle of matrices `[.., rows, cols]` of f32, i32 or u32, with its
/// diagonal; the rest becomes zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Triangle {
    /// Whether the upper is kept, not the lower.
    pub upper: bool,
    /// The diagonal at which it ends: 0 is the main one, those above have positive numbers.
    pub diagonal: i64,
}

impl Triangle {
    /// The diagonal; all that lie outside of any matrix are the same.
    fn bounded(&self) -> i32 {
        i32::try_from(self.diagonal.clamp(-(1 << 29), 1 << 29)).expect("clamped")
    }
}

impl Op for Triangle {
    fn name(&self) -> &'static str {
        "triangle"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [input] = inputs.exactly(self)?;
        input.expect_dtype(self, "the input", &[DType::F32, DType::I32, DType::U32])?;
        if input.shape.rank() < 2 || input.shape.dims().iter().rev().take(2).any(|&dim| dim >= 1 << 29) {
            return Err(Error::op(
                self.name(),
                format!("takes matrices below 2^29 rows and columns, got {input}"),
            ));
        }
        Ok(vec![input.clone()])
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], _: &[Spec]) -> Result<Launches> {
        let dims = inputs[0].shape.dims();
        let spread = Spread::new(inputs[0].elements(), caps);
        let params = Params {
            items: spread.items,
            per_group: spread.per_group,
            rows: count(dims[dims.len() - 2]),
            cols: count(dims[dims.len() - 1]),
            diagonal: self.bounded(),
            upper: self.upper.into(),
        };
        Ok(spread.launch(&TRIANGLE).params(params).bind_all(1, 1).into())
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let dims = inputs[0].dims();
        let (rows, cols) = (dims[dims.len() - 2], dims[dims.len() - 1]);
        let mut values = inputs[0].to_f64();
        for (i, value) in values.iter_mut().enumerate() {
            let distance = (i % cols) as i64 - (i / cols % rows) as i64 - i64::from(self.bounded());
            if (self.upper && distance < 0) || (!self.upper && distance > 0) {
                *value = 0.0;
            }
        }
        Ok(vec![Tensor::from_f64(inputs[0].dtype(), dims, &values)])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut random = Random::new(43);
    let mut cases = Vec::new();
    let shapes: [&[usize]; 5] = [&[1, 1], &[4, 5], &[3, 7, 4], &[2, 1, 33, 67], &[3, 1, 5]];
    for dims in shapes {
        for upper in [false, true] {
            for diagonal in [0, 1, -2, 6, -7, i64::MAX, i64::MIN] {
                let op = Triangle { upper, diagonal };
                let name = format!("{dims:?} from {diagonal}, upper {upper}");
                let dtype = if diagonal % 2 == 0 { DType::F32 } else { DType::I32 };
                cases.push(Case::new(name, op, vec![random.tensor(dtype, dims, 99.0)]));
            }
        }
    }
    cases
}

//! Indices as vectors (ONNX OneHot).

use super::cases::{Case, Random};
use super::{Expect, Inputs, Op};
use crate::kernel::{Caps, Kernel, Launches, Spread, count, params};
use crate::tensor::{DType, Spec, Tensor};
use crate::{Error, Result};

static ONE_HOT: Kernel = Kernel::new("one_hot", include_str!("../../shaders/one_hot.wgsl"));

params!(
    struct Params {
        items: u32,
        per_group: u32,
        depth: u32,
        inner: u32,
        from_end: u32,
    }
);

/// For each index a vector along a new axis, with one value at the index and another elsewhere.
///
/// Inputs: indices u32, or i32 where negative ones count from the end; values `[2]` of f32, i32 or
/// u32: elsewhere, at the index. Output: the values' dtype. An index outside is nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OneHot {
    /// Elements of a vector.
    pub depth: usize,
    /// Place of the new axis in the output.
    pub axis: usize,
}

impl Op for OneHot {
    fn name(&self) -> &'static str {
        "one_hot"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [indices, values] = inputs.exactly(self)?;
        indices.expect_dtype(self, "indices", &[DType::U32, DType::I32])?;
        values.expect_dtype(self, "values", &[DType::F32, DType::I32, DType::U32])?;
        values.expect_dims(self, "values", &[2])?;
        let mut dims = indices.shape.dims().to_vec();
        if self.axis > dims.len() {
            return Err(Error::op(self.name(), format!("no axis {} can be put into {indices}", self.axis)));
        }
        dims.insert(self.axis, self.depth);
        Ok(vec![Spec::new(values.dtype, dims)])
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], outputs: &[Spec]) -> Result<Launches> {
        let spread = Spread::new(outputs[0].elements(), caps);
        let params = Params {
            items: spread.items,
            per_group: spread.per_group,
            depth: count(self.depth),
            inner: count(inputs[0].shape.dims()[self.axis..].iter().product()),
            from_end: u32::from(inputs[0].dtype == DType::I32),
        };
        Ok(spread.launch(&ONE_HOT).params(params).bind_all(2, 1).into())
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let spec = self.infer(&[inputs[0].spec().clone(), inputs[1].spec().clone()])?.remove(0);
        let inner: usize = inputs[0].dims()[self.axis..].iter().product();
        let (indices, values) = (inputs[0].to_f64(), inputs[1].to_f64());
        let element = |i: usize| {
            let index = indices[i / inner / self.depth * inner + i % inner];
            let index = if index < 0.0 { index + self.depth as f64 } else { index };
            values[usize::from(index == (i / inner % self.depth) as f64)]
        };
        let output: Vec<f64> = (0..spec.elements()).map(element).collect();
        Ok(vec![Tensor::from_f64(spec.dtype, spec.shape, &output)])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut random = Random::new(42);
    let mut cases = Vec::new();
    let shapes: [(&[usize], usize, usize); 6] =
        [(&[], 0, 5), (&[1], 0, 1), (&[7], 1, 12), (&[3, 5], 0, 4), (&[3, 5], 1, 10), (&[2, 3, 67], 3, 31)];
    for (dims, axis, depth) in shapes {
        let op = OneHot { depth, axis };
        let values = Tensor::from_f32([2], &[0.25, -3.0]);
        let name = format!("{dims:?} axis {axis} depth {depth}");
        cases.push(Case::new(name.clone(), op, vec![random.u32(dims, 12), values]));
        let values = Tensor::from_i32([2], &[0, 1]);
        let signed = random.tensor(DType::I32, dims, 12.0);
        cases.push(Case::new(format!("{name}, from the end"), op, vec![signed, values]));
    }
    cases
}

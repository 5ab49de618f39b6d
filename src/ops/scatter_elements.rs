//! Elements written to places that differ from their own along one axis (ONNX ScatterElements).

use super::cases::{Case, Random};
use super::nd_index::index_within;
use super::scatter::{self, Scatter, ScatterFn};
use super::{Expect, Inputs, Op, gather_elements, strided};
use crate::Result;
use crate::kernel::{Caps, Launches, Operand};
use crate::tensor::{DType, Spec, Tensor};

/// The data with updates at the places of their indices, but along `axis` at the index itself.
/// Updates of one place are applied in the order of the axis.
///
/// Inputs: data of f32, i32 or u32; indices u32, or i32 where negative ones count from the end, of
/// the data's rank (8 at most), along other axes no longer than the data; updates of the data's
/// dtype and the indices' shape. Output: the data's spec. An index outside is passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScatterElements {
    /// The axis.
    pub axis: usize,
    /// What becomes of an update and the value at its place.
    pub function: ScatterFn,
}

impl Op for ScatterElements {
    fn name(&self) -> &'static str {
        "scatter_elements"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [data, indices, updates] = inputs.exactly(self)?;
        data.expect_dtype(self, "the data", scatter::DTYPES)?;
        gather_elements::check(self, self.axis, data, indices)?;
        updates.expect_dtype(self, "updates", &[data.dtype])?;
        updates.expect_dims(self, "updates", indices.shape.dims())?;
        Ok(vec![data.clone()])
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], outputs: &[Spec]) -> Result<Launches> {
        let dims = inputs[1].shape.dims();
        let (mut strides, axis_stride) = gather_elements::strides_around(self.axis, &inputs[0]);
        let mut lines = dims.to_vec();
        lines.remove(self.axis);
        strides.remove(self.axis);
        let scatter = Scatter {
            function: self.function,
            lines,
            strides,
            length: dims[self.axis],
            inner: dims[self.axis + 1..].iter().product(),
            axis_size: inputs[0].shape.dims()[self.axis],
            axis_stride,
            from_end: inputs[1].dtype == DType::I32,
            same_indices: false,
        };
        Ok(scatter.launches(caps, &outputs[0], Operand::Input(1)).into())
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let (data, indices) = (&inputs[0], &inputs[1]);
        let (around, axis_stride) = gather_elements::strides_around(self.axis, data.spec());
        let places = strided::places(&indices.spec().shape, &around, 0).zip(indices.to_f64());
        let size = data.dims()[self.axis];
        let places: Result<Vec<usize>> =
            places.map(|(place, index)| Ok(place + axis_stride * index_within(self, index, size)?)).collect();
        Ok(vec![scatter::reference(self.function, data, &inputs[2], places?.into_iter())])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut random = Random::new(40);
    let mut cases = Vec::new();
    let shapes: [(&[usize], &[usize], usize); 8] = [
        (&[1], &[1], 0),
        (&[7], &[33], 0),
        (&[50], &[33_001], 0),
        (&[5, 7], &[5, 3], 1),
        (&[5, 7], &[9, 6], 0),
        (&[3, 4, 5], &[2, 6, 5], 1),
        (&[300, 67], &[40, 67], 0),
        (&[2, 1, 2, 3, 2, 1, 2, 3], &[2, 1, 4, 3, 1, 1, 2, 2], 2),
    ];
    for (dims, indices, axis) in shapes {
        let limit = u32::try_from(dims[axis]).expect("small");
        for function in ScatterFn::ALL {
            let op = ScatterElements { axis, function };
            for dtype in [DType::F32, DType::I32] {
                let name = format!("{function:?} {dtype} {indices:?} to {dims:?} axis {axis}");
                let (data, updates) = (random.tensor(dtype, dims, 1.5), random.tensor(dtype, indices, 1.5));
                let forward = random.u32(indices, limit);
                let inputs = vec![data.clone(), forward, updates.clone()];
                // Sums of hundreds of numbers in -1.5..1.5, in order.
                cases.push(Case::new(name.clone(), op, inputs).tolerance(1e-4, 1e-5));
                let signed: Vec<f64> = (0..indices.iter().product())
                    .map(|_: usize| (random.unit() * f64::from(limit)).floor())
                    .collect();
                let inputs = vec![data, Tensor::from_f64(DType::I32, indices, &signed), updates];
                cases.push(Case::new(format!("{name}, from the end"), op, inputs).tolerance(1e-4, 1e-5));
            }
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_that_do_not_fit_are_refused() {
        let op = ScatterElements { axis: 1, function: ScatterFn::Add };
        let infer = |data: &[usize], indices: &[usize], updates: Spec| {
            op.infer(&[Spec::f32(data), Spec::u32(indices), updates]).is_ok()
        };
        assert!(infer(&[2, 3], &[2, 9], Spec::f32([2, 9])));
        assert!(infer(&[2, 3], &[0, 9], Spec::f32([0, 9])));
        assert!(!infer(&[2, 3], &[3, 3], Spec::f32([3, 3])));
        assert!(!infer(&[2, 3], &[2], Spec::f32([2])));
        assert!(!infer(&[2, 3], &[2, 9], Spec::f32([2, 8])));
        assert!(!infer(&[2, 3], &[2, 9], Spec::u32([2, 9])));
        assert!(!infer(&[2, 0], &[2, 9], Spec::f32([2, 9])));
        assert!(!infer(&[2], &[2], Spec::f32([2])));
    }
}

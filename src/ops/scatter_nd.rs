//! Slices written to places that tuples of indices name (ONNX ScatterND).

use super::cases::{Case, Random};
use super::nd_index::Slices;
use super::scatter::{self, Scatter, ScatterFn};
use super::{Expect, Inputs, Op};
use crate::Result;
use crate::kernel::{Caps, Launches, Operand};
use crate::tensor::{DType, Spec, Tensor};

/// The data with updates at the slices that tuples of indices name. Updates of one slice are
/// applied in the order of their tuples.
///
/// Inputs: data of f32, i32 or u32, `[indexed axes.., inner..]`; indices u32, or i32 where negative
/// ones count from the end, `[tuples.., indexed axes]`, 8 at most; updates of the data's dtype,
/// `[tuples.., inner..]`. Output: the data's spec. A tuple outside is passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScatterNd {
    /// What becomes of an update and the value at its place.
    pub function: ScatterFn,
}

impl Op for ScatterNd {
    fn name(&self) -> &'static str {
        "scatter_nd"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [data, indices, updates] = inputs.exactly(self)?;
        data.expect_dtype(self, "the data", scatter::DTYPES)?;
        Slices::of(self, data, indices, 0)?;
        let (length, tuples) = indices.shape.dims().split_last().expect("checked by Slices");
        let mut dims = tuples.to_vec();
        dims.extend_from_slice(&data.shape.dims()[*length..]);
        updates.expect_dtype(self, "updates", &[data.dtype])?;
        updates.expect_dims(self, "updates", &dims)?;
        Ok(vec![data.clone()])
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], outputs: &[Spec]) -> Result<Launches> {
        let slices = Slices::of(self, &inputs[0], &inputs[1], 0)?;
        let scatter = Scatter {
            function: self.function,
            lines: vec![slices.inner],
            strides: vec![1],
            length: slices.tuples,
            inner: slices.inner,
            axis_size: slices.count,
            axis_stride: slices.inner,
            from_end: false,
            same_indices: true,
        };
        let places = Operand::Scratch(0);
        let mut steps = vec![slices.launch(caps).bind([Operand::Input(1), places])];
        steps.extend(scatter.launches(caps, &outputs[0], places));
        Ok(Launches { steps, scratch: vec![Spec::u32([slices.tuples])], ..Launches::default() })
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let slices = Slices::of(self, inputs[0].spec(), inputs[1].spec(), 0)?;
        let places = slices.reference(self, &inputs[1])?.into_iter();
        let places = places.flat_map(|slice| (0..slices.inner).map(move |i| (slice, i)));
        let places = places.map(|(slice, i)| slice * slices.inner + i);
        Ok(vec![scatter::reference(self.function, &inputs[0], &inputs[2], places)])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut random = Random::new(41);
    let mut cases = Vec::new();
    let shapes: [(&[usize], &[usize], &[usize]); 7] = [
        (&[1], &[1, 1], &[1]),
        (&[8], &[4, 1], &[4]),
        (&[5, 7], &[11, 2], &[11]),
        (&[5, 7], &[3, 4, 1], &[3, 4, 7]),
        (&[40, 3], &[33_000, 1], &[33_000, 3]),
        (&[2, 3, 4, 65], &[19, 3], &[19, 65]),
        (&[30, 31], &[501, 2], &[501]),
    ];
    for (dims, indices, updates) in shapes {
        let length = indices[indices.len() - 1];
        let tuples = indices.iter().product::<usize>() / length;
        for function in ScatterFn::ALL {
            let op = ScatterNd { function };
            for dtype in [DType::F32, DType::U32] {
                let name = format!("{function:?} {dtype} {updates:?} to {dims:?}");
                let places: Vec<f64> = (0..tuples)
                    .flat_map(|_| {
                        dims[..length].iter().map(|&size| random.unit() * size as f64).collect::<Vec<_>>()
                    })
                    .map(f64::floor)
                    .collect();
                let inputs = vec![
                    random.tensor(dtype, dims, 1.5),
                    Tensor::from_f64(DType::I32, indices, &places),
                    random.tensor(dtype, updates, 1.5),
                ];
                // Sums of hundreds of numbers in -1.5..1.5, in order.
                cases.push(Case::new(name, op, inputs).tolerance(1e-4, 1e-5));
            }
        }
    }
    cases
}

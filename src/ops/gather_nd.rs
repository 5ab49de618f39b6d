//! Slices of a tensor by tuples of indices (ONNX GatherND).

use super::cases::{Case, Random};
use super::nd_index::Slices;
use super::strided::DTYPES;
use super::{Expect, Inputs, Op, gather};
use crate::Result;
use crate::kernel::{Caps, Launches, Operand};
use crate::tensor::{DType, Spec, Tensor};

/// The slices of a tensor that tuples of indices name.
///
/// Inputs: x of any device dtype, `[batch.., indexed axes.., inner..]`; indices u32, or i32 where
/// negative ones count from the end, `[batch.., tuples.., indexed axes]`, 8 at most. Output:
/// `[batch.., tuples.., inner..]`. A tuple outside gives the last slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatherNd {
    /// Number of batch axes, each of which goes with its own tuples.
    pub batch_dims: usize,
}

impl Op for GatherNd {
    fn name(&self) -> &'static str {
        "gather_nd"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [x, indices] = inputs.exactly(self)?;
        x.expect_dtype(self, "x", DTYPES)?;
        Slices::of(self, x, indices, self.batch_dims)?;
        let (length, tuples) = indices.shape.dims().split_last().expect("checked by Slices");
        let mut dims = tuples.to_vec();
        dims.extend_from_slice(&x.shape.dims()[self.batch_dims + length..]);
        Ok(vec![Spec::new(x.dtype, dims)])
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], outputs: &[Spec]) -> Result<Launches> {
        let slices = Slices::of(self, &inputs[0], &inputs[1], self.batch_dims)?;
        let [x, indices, places] = [Operand::Input(0), Operand::Input(1), Operand::Scratch(0)];
        let copy = gather::launch(caps, &outputs[0], [slices.count, slices.tuples, slices.inner], false);
        let steps =
            vec![slices.launch(caps).bind([indices, places]), copy.bind([x, places, Operand::Output(0)])];
        Ok(Launches { steps, scratch: vec![Spec::u32([slices.tuples])], ..Launches::default() })
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let specs = [inputs[0].spec().clone(), inputs[1].spec().clone()];
        let slices = Slices::of(self, &specs[0], &specs[1], self.batch_dims)?;
        let size = slices.inner * inputs[0].dtype().size();
        let mut bytes = Vec::new();
        for place in slices.reference(self, &inputs[1])? {
            bytes.extend_from_slice(&inputs[0].bytes()[place * size..][..size]);
        }
        Ok(vec![Tensor::from_bytes(self.infer(&specs)?.remove(0), bytes)])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut random = Random::new(38);
    let mut cases = Vec::new();
    let shapes: [(&[usize], &[usize], usize); 7] = [
        (&[1], &[1, 1], 0),
        (&[5, 7], &[11, 2], 0),
        (&[5, 7], &[3, 4, 1], 0),
        (&[3, 5, 7], &[3, 4, 1], 1),
        (&[2, 3, 4, 5], &[2, 3, 6, 1], 2),
        (&[2, 3, 4, 5], &[2, 9, 3], 1),
        (&[2, 1, 2, 3, 2, 1, 2, 3], &[13, 7], 0),
    ];
    for (dims, indices, batch_dims) in shapes {
        let op = GatherNd { batch_dims };
        let length = indices[indices.len() - 1];
        let sizes = &dims[batch_dims..batch_dims + length];
        let tuples = indices.iter().product::<usize>() / length;
        for dtype in [DType::F32, DType::F16, DType::I32] {
            let x = random.tensor(dtype, dims, 99.0);
            let places: Vec<f64> = (0..tuples)
                .flat_map(|_| sizes.iter().map(|&size| random.unit() * size as f64).collect::<Vec<_>>())
                .map(f64::floor)
                .collect();
            let signed = Tensor::from_f64(DType::I32, indices, &places);
            let name = format!("{dtype} {dims:?} by {indices:?}, {batch_dims} batch axes");
            cases.push(Case::new(format!("{name}, from the end"), op, vec![x.clone(), signed]));
            let places: Vec<f64> = places
                .iter()
                .zip(sizes.iter().cycle())
                .map(|(place, &size)| place.rem_euclid(size as f64))
                .collect();
            cases.push(Case::new(name, op, vec![x, Tensor::from_f64(DType::U32, indices, &places)]));
        }
    }
    cases
}

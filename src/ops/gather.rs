//! Slices of a tensor along an axis, by their indices (ONNX Gather).

use super::cases::{Case, Random};
use super::nd_index::index_within;
use super::strided::DTYPES;
use super::{Expect, Inputs, Op};
use crate::kernel::{Caps, Kernel, Launch, Launches, Spread, count, params};
use crate::tensor::{DType, Shape, Spec, Tensor};
use crate::{Error, Result};

static GATHER: Kernel = Kernel::new("gather", include_str!("../../shaders/gather.wgsl"));

params!(
    struct Params {
        items: u32,
        per_group: u32,
        elements: u32,
        axis_size: u32,
        indices: u32,
        inner: u32,
        from_end: u32,
    }
);

/// The slices of a tensor along `axis` that the indices name.
///
/// Inputs: x of any device dtype; indices u32, or i32 where negative ones count from the end.
/// Output: x's shape with the axis replaced by the indices' shape. An index outside is clamped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gather {
    /// The axis.
    pub axis: usize,
}

impl Gather {
    /// Elements before and behind the axis, and its size.
    fn around(&self, x: &Shape) -> (usize, usize, usize) {
        let dims = x.dims();
        let outer = dims[..self.axis].iter().product();
        (outer, dims[self.axis], dims[self.axis + 1..].iter().product())
    }
}

impl Op for Gather {
    fn name(&self) -> &'static str {
        "gather"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [x, indices] = inputs.exactly(self)?;
        x.expect_dtype(self, "x", DTYPES)?;
        indices.expect_dtype(self, "indices", &[DType::U32, DType::I32])?;
        if self.axis >= x.shape.rank() {
            return Err(Error::op(self.name(), format!("axis {} is outside of {x}", self.axis)));
        }
        if x.shape.dims()[self.axis] == 0 && indices.elements() > 0 {
            return Err(Error::op(self.name(), format!("axis {} of {x} is empty", self.axis)));
        }
        let mut dims = x.shape.dims()[..self.axis].to_vec();
        dims.extend_from_slice(indices.shape.dims());
        dims.extend_from_slice(&x.shape.dims()[self.axis + 1..]);
        Ok(vec![Spec::new(x.dtype, dims)])
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], outputs: &[Spec]) -> Result<Launches> {
        let (_, axis_size, inner) = self.around(&inputs[0].shape);
        let from_end = inputs[1].dtype == DType::I32;
        let launch = launch(caps, &outputs[0], [axis_size, inputs[1].elements(), inner], from_end);
        Ok(launch.bind_all(2, 1).into())
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let (outer, axis_size, inner) = self.around(&inputs[0].spec().shape);
        let size = inputs[0].dtype().size();
        let mut bytes = Vec::new();
        for before in 0..outer {
            for index in inputs[1].to_f64() {
                let place = index_within(self, index, axis_size)?;
                let start = (before * axis_size + place) * inner * size;
                bytes.extend_from_slice(&inputs[0].bytes()[start..start + inner * size]);
            }
        }
        let specs: Vec<Spec> = inputs.iter().map(|input| input.spec().clone()).collect();
        Ok(vec![Tensor::from_bytes(self.infer(&specs)?.remove(0), bytes)])
    }
}

/// The dispatch that fills `output`, `[outer, indices, inner]`, from slices of x `[outer, axis_size,
/// inner]`; indices are u32, or with `from_end` i32.
pub(super) fn launch(
    caps: &Caps,
    output: &Spec,
    [axis_size, indices, inner]: [usize; 3],
    from_end: bool,
) -> Launch {
    let elements = output.elements();
    let spread = Spread::new(elements.div_ceil(4), caps);
    let params = Params {
        items: spread.items,
        per_group: spread.per_group,
        elements: count(elements),
        axis_size: count(axis_size),
        indices: count(indices),
        inner: count(inner),
        from_end: from_end.into(),
    };
    spread.launch(&GATHER).variant("bytes", count(output.dtype.size())).params(params)
}

pub(super) fn cases() -> Vec<Case> {
    let mut random = Random::new(25);
    let mut cases = Vec::new();
    for dtype in [DType::F32, DType::F16, DType::I32] {
        for (dims, axis, indices) in [
            (vec![1], 0, vec![1]),
            (vec![33, 36], 0, vec![1]),
            (vec![3, 5, 7], 1, vec![2, 3]),
            (vec![4, 17], 1, vec![9]),
            (vec![130, 3], 0, vec![257]),
        ] {
            let limit = u32::try_from(dims[axis]).expect("small");
            let x = random.tensor(dtype, dims.clone(), 100.0);
            let name = format!("{dtype} {dims:?} axis {axis} by {indices:?}");
            let forward = random.u32(indices.clone(), limit);
            cases.push(Case::new(name.clone(), Gather { axis }, vec![x.clone(), forward]));
            let count: usize = indices.iter().product();
            let signed: Vec<i32> = (0..count)
                .map(|_| i32::try_from(random.below(2 * limit)).expect("small") - limit.cast_signed())
                .collect();
            let signed = Tensor::from_i32(indices, &signed);
            cases.push(Case::new(format!("{name}, from the end"), Gather { axis }, vec![x, signed]));
        }
    }
    cases
}

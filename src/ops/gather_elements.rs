//! Elements of a tensor by an index of one axis each (ONNX GatherElements, torch.gather).

use super::cases::{Case, Random};
use super::nd_index::index_within;
use super::strided::{self, DTYPES, MAX_AXES, axis_values, merged_axes};
use super::{Expect, Inputs, Op};
use crate::kernel::{Caps, Kernel, Launches, Spread, count, params};
use crate::tensor::{DType, Spec, Tensor};
use crate::{Error, Result};

static GATHER_ELEMENTS: Kernel =
    Kernel::new("gather_elements", include_str!("../../shaders/gather_elements.wgsl"));

params!(
    struct Params {
        items: u32,
        per_group: u32,
        elements: u32,
        axes: u32,
        dims_low: [u32; 4],
        dims_high: [u32; 4],
        strides_low: [u32; 4],
        strides_high: [u32; 4],
        axis_size: u32,
        axis_stride: u32,
        from_end: u32,
    }
);

/// For each element of the indices the element of x at the same place, but for the index along
/// `axis`, which is that element.
///
/// Inputs: x of any device dtype; indices u32, or i32 where negative ones count from the end, of
/// x's rank (8 at most), along other axes no longer than x. Output: x's dtype, the indices' shape.
/// An index outside is clamped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatherElements {
    /// The axis.
    pub axis: usize,
}

/// Fails unless `indices` are of x's rank and along other axes than `axis` no longer than x.
pub(super) fn check(op: &dyn Op, axis: usize, x: &Spec, indices: &Spec) -> Result<()> {
    indices.expect_dtype(op, "indices", &[DType::U32, DType::I32])?;
    let (dims, own) = (x.shape.dims(), indices.shape.dims());
    let fits = (0..dims.len()).all(|other| other == axis || own.get(other) <= dims.get(other));
    if axis >= dims.len() || dims.len() != own.len() || dims.len() > MAX_AXES || !fits {
        return Err(Error::op(op.name(), format!("{x} has no elements of {indices} along axis {axis}")));
    }
    if dims[axis] == 0 && indices.elements() > 0 {
        return Err(Error::op(op.name(), format!("axis {axis} of {x} is empty")));
    }
    Ok(())
}

/// Strides of x along its axes, 0 along `axis`; and that axis's.
pub(super) fn strides_around(axis: usize, x: &Spec) -> (Vec<isize>, usize) {
    let strides = x.shape.strides();
    let mut around: Vec<isize> = strides.iter().map(|&stride| stride as isize).collect();
    around[axis] = 0;
    (around, strides[axis])
}

impl Op for GatherElements {
    fn name(&self) -> &'static str {
        "gather_elements"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [x, indices] = inputs.exactly(self)?;
        x.expect_dtype(self, "x", DTYPES)?;
        check(self, self.axis, x, indices)?;
        Ok(vec![Spec::new(x.dtype, indices.shape.clone())])
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], outputs: &[Spec]) -> Result<Launches> {
        let (around, axis_stride) = strides_around(self.axis, &inputs[0]);
        let axes = merged_axes(outputs[0].shape.dims(), [&around]);
        let dims = axis_values(&axes, |axis| count(axis.size));
        let strides = axis_values(&axes, |axis| axis.strides[0] as u32);
        let elements = outputs[0].elements();
        let spread = Spread::of_loops(elements.div_ceil(4), 4 * MAX_AXES, caps);
        let params = Params {
            items: spread.items,
            per_group: spread.per_group,
            elements: count(elements),
            axes: count(axes.len()),
            dims_low: dims[0],
            dims_high: dims[1],
            strides_low: strides[0],
            strides_high: strides[1],
            axis_size: count(inputs[0].shape.dims()[self.axis]),
            axis_stride: count(axis_stride),
            from_end: u32::from(inputs[1].dtype == DType::I32),
        };
        let launch = spread.launch(&GATHER_ELEMENTS).variant("bytes", count(inputs[0].dtype.size()));
        Ok(launch.params(params).bind_all(2, 1).into())
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let (x, indices) = (&inputs[0], &inputs[1]);
        let (around, axis_stride) = strides_around(self.axis, x.spec());
        let size = x.dtype().size();
        let mut bytes = Vec::new();
        let places = strided::places(&indices.spec().shape, &around, 0);
        for (place, index) in places.zip(indices.to_f64()) {
            let place = place + axis_stride * index_within(self, index, x.dims()[self.axis])?;
            bytes.extend_from_slice(&x.bytes()[place * size..][..size]);
        }
        Ok(vec![Tensor::from_bytes(Spec::new(x.dtype(), indices.spec().shape.clone()), bytes)])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut random = Random::new(39);
    let mut cases = Vec::new();
    let shapes: [(&[usize], &[usize], usize); 7] = [
        (&[1], &[1], 0),
        (&[7], &[33], 0),
        (&[5, 7], &[5, 3], 1),
        (&[5, 7], &[9, 6], 0),
        (&[3, 4, 5], &[2, 6, 5], 1),
        (&[2, 3, 67], &[2, 3, 67], 2),
        (&[2, 1, 2, 3, 2, 1, 2, 3], &[2, 1, 4, 3, 1, 1, 2, 2], 2),
    ];
    for (dims, indices, axis) in shapes {
        let op = GatherElements { axis };
        let limit = u32::try_from(dims[axis]).expect("small");
        for dtype in [DType::F32, DType::F16, DType::I32] {
            let x = random.tensor(dtype, dims, 99.0);
            let name = format!("{dtype} {dims:?} axis {axis} by {indices:?}");
            let forward = random.u32(indices, limit);
            cases.push(Case::new(name.clone(), op, vec![x.clone(), forward]));
            let signed: Vec<f64> = (0..indices.iter().product())
                .map(|_: usize| (random.unit() * f64::from(limit)).floor())
                .collect();
            let signed = Tensor::from_f64(DType::I32, indices, &signed);
            cases.push(Case::new(format!("{name}, from the end"), op, vec![x, signed]));
        }
    }
    cases
}

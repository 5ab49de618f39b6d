//! Concatenation along an axis.

use super::cases::{Case, Random};
use super::{ChannelsLast, Expect, Op, image, strided};
use crate::kernel::{Caps, Kernel, Launch, Launches, Operand, Spread, count, params};
use crate::tensor::{DType, Spec, Tensor};
use crate::{Error, Result};

static CONCAT: Kernel = Kernel::new("concat", include_str!("../../shaders/concat.wgsl"));

params!(
    struct Params {
        items: u32,
        per_group: u32,
        columns: u32,
        output_columns: u32,
        offset: u32,
        elements: u32,
    }
);

/// Joins one or more tensors along `axis`; the other axes and the dtype (two or four bytes) are
/// the same. One dispatch for each input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Concat {
    /// Along which axis.
    pub axis: usize,
}

impl Concat {
    /// Elements of a tensor from `axis` inwards.
    fn inner(&self, spec: &Spec) -> usize {
        spec.shape.dims()[self.axis..].iter().product()
    }

    /// The dispatch that writes an input to the elements from `offset` of each row of the output.
    fn part(&self, caps: &Caps, input: &Spec, output: &Spec, offset: usize) -> Launch {
        let (inner, output_inner, size) = (self.inner(input), self.inner(output), input.dtype.size());
        let fits =
            |unit: usize| [inner, output_inner, offset].iter().all(|n| (n * size).is_multiple_of(unit));
        let (unit, bytes) = match size {
            _ if fits(16) => ("vec4<u32>", 16),
            _ if fits(4) => ("u32", 4),
            _ => ("half", 2),
        };
        let units = |elements: usize| count(elements * size / bytes);
        let items =
            if unit == "half" { output.elements().div_ceil(2) } else { input.elements() * size / bytes };
        let spread = Spread::new(items, caps);
        let params = Params {
            items: spread.items,
            per_group: spread.per_group,
            columns: units(inner),
            output_columns: units(output_inner),
            offset: units(offset),
            elements: count(output.elements()),
        };
        spread.launch(&CONCAT).variant("unit", unit).params(params)
    }
}

impl Op for Concat {
    fn name(&self) -> &'static str {
        "concat"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let first = inputs.first().ok_or_else(|| Error::op(self.name(), "takes 1 input or more, got 0"))?;
        first.expect_dtype(self, "the input", strided::DTYPES)?;
        let mut dims = first.shape.dims().to_vec();
        if self.axis >= dims.len() {
            return Err(Error::op(self.name(), format!("there is no axis {} in {first}", self.axis)));
        }
        for input in &inputs[1..] {
            input.expect_dtype(self, "each input", &[first.dtype])?;
            let own = input.shape.dims().get(self.axis).copied().unwrap_or(0);
            dims[self.axis] = own;
            input.expect_dims(self, "each input", &dims)?;
        }
        dims[self.axis] = inputs.iter().map(|input| input.shape.dims()[self.axis]).sum();
        Ok(vec![Spec::new(first.dtype, dims)])
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], outputs: &[Spec]) -> Result<Launches> {
        let mut steps = Vec::with_capacity(inputs.len());
        let mut offset = 0;
        for (i, input) in inputs.iter().enumerate() {
            if input.elements() > 0 {
                let launch = self.part(caps, input, &outputs[0], offset);
                steps.push(launch.bind([Operand::Input(i), Operand::Output(0)]));
            }
            offset += self.inner(input);
        }
        Ok(steps.into())
    }

    fn channels_last(&self, _: &Caps, inputs: &[Spec]) -> Option<ChannelsLast> {
        let last = Self { axis: image::axis_to_last(self.axis, inputs[0].shape.rank()) };
        let images: Vec<usize> = (0..inputs.len()).collect();
        image::is_image(&inputs[0]).then(|| ChannelsLast::following(last, images))
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let specs: Vec<Spec> = inputs.iter().map(|input| input.spec().clone()).collect();
        let output = self.infer(&specs)?.remove(0);
        let mut bytes = Vec::with_capacity(inputs.iter().map(|input| input.bytes().len()).sum());
        let outer: usize = output.shape.dims()[..self.axis].iter().product();
        for row in 0..outer {
            for input in inputs {
                let length = input.bytes().len() / outer;
                bytes.extend_from_slice(&input.bytes()[row * length..][..length]);
            }
        }
        Ok(vec![Tensor::from_bytes(output, bytes)])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut random = Random::new(15);
    let shapes: [(&[&[usize]], usize); 8] = [
        (&[&[1]], 0),
        (&[&[3], &[1], &[5]], 0),
        (&[&[2, 3], &[5, 3]], 0),
        (&[&[2, 3], &[2, 1], &[2, 7]], 1),
        (&[&[3, 8], &[3, 16]], 1),
        (&[&[33, 32], &[33, 64], &[33, 32]], 1),
        (&[&[2, 3, 5], &[2, 4, 5]], 1),
        (&[&[7, 1, 3], &[7, 1, 3], &[7, 1, 2], &[7, 1, 1]], 2),
    ];
    let mut cases = Vec::new();
    for (dims, axis) in shapes {
        for dtype in [DType::F32, DType::F16, DType::I32] {
            let inputs = dims.iter().map(|&dims| random.tensor(dtype, dims, 99.0)).collect();
            cases.push(Case::new(format!("{dims:?} axis {axis} {dtype}"), Concat { axis }, inputs));
        }
    }
    cases
}

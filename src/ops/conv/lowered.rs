//! What the forms of convolutions with channels last have in common: they keep the graph's form,
//! which knows their shapes and their reference.

use super::super::image::{to_first, to_last, transposed_to};
use super::super::{ImageOrder, Op};
use crate::tensor::{Spec, Tensor};
use crate::{Error, Result};

/// The error of launching the graph's form.
pub(in super::super) fn not_lowered(op: &dyn Op) -> Error {
    Error::op(op.name(), "is lowered to channels last before it is launched")
}

/// Whether an input of a convolution is an image: x and the residual, not bias and slope.
fn is_image(index: usize, spec: &Spec, x: &Spec) -> bool {
    index != 1 && spec.shape.rank() == x.shape.rank()
}

/// Specs of a lowered operator's outputs: those of the graph's form `of` on the same inputs with
/// channels first and with its weight as `weight`.
pub(super) fn infer(of: &dyn Op, weight: &Spec, inputs: &[Spec]) -> Result<Vec<Spec>> {
    let form = |(index, spec): (usize, &Spec)| match index {
        1 => weight.clone(),
        _ if is_image(index, spec, &inputs[0]) => Spec::new(spec.dtype, to_first(&spec.shape)),
        _ => spec.clone(),
    };
    let outputs = of.infer(&inputs.iter().enumerate().map(form).collect::<Vec<_>>())?;
    Ok(outputs.into_iter().map(|spec| Spec::new(spec.dtype, to_last(&spec.shape))).collect())
}

/// Outputs of a lowered operator by the reference of its graph's form.
pub(super) fn reference(of: &dyn Op, weight: &Tensor, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
    let mut first = Vec::with_capacity(inputs.len());
    for (index, tensor) in inputs.iter().enumerate() {
        first.push(match index {
            1 => weight.clone(),
            _ if is_image(index, tensor.spec(), inputs[0].spec()) => {
                transposed_to(ImageOrder::ChannelsFirst, tensor)?
            }
            _ => tensor.clone(),
        });
    }
    let outputs = of.reference(&first)?;
    outputs.iter().map(|tensor| transposed_to(ImageOrder::ChannelsLast, tensor)).collect()
}

//! What the forms of convolutions with channels last have in common: they keep the graph's form,
//! which knows their shapes and their reference.

use super::super::image::to_last;
use super::super::{Op, Transpose};
use crate::tensor::{Shape, Spec, Tensor};
use crate::{Error, Result};

/// The error of launching the graph's form.
pub(in super::super) fn not_lowered(op: &dyn Op) -> Error {
    Error::op(op.name(), "is lowered to channels last before it is launched")
}

/// A shape `[n, spatial.., c]` as `[n, c, spatial..]`.
fn to_first(shape: &Shape) -> Shape {
    let mut dims = shape.dims().to_vec();
    if dims.len() > 2 {
        dims[1..].rotate_right(1);
    }
    dims.into()
}

/// Whether an input of a convolution is an image: x and the residual, not bias and slope.
fn is_image(index: usize, spec: &Spec) -> bool {
    index != 1 && spec.shape.rank() > 1
}

/// Specs of a lowered operator's outputs: those of the graph's form `of` on the same inputs with
/// channels first and with its weight as `weight`.
pub(super) fn infer(of: &dyn Op, weight: &Spec, inputs: &[Spec]) -> Result<Vec<Spec>> {
    let form = |(index, spec): (usize, &Spec)| match index {
        1 => weight.clone(),
        _ if is_image(index, spec) => Spec::new(spec.dtype, to_first(&spec.shape)),
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
            _ if is_image(index, tensor.spec()) => transposed(tensor, |axes| axes.rotate_right(1))?,
            _ => tensor.clone(),
        });
    }
    let outputs = of.reference(&first)?;
    outputs.iter().map(|tensor| transposed(tensor, |axes| axes.rotate_left(1))).collect()
}

/// The tensor with its axes but the first rotated.
fn transposed(tensor: &Tensor, rotate: impl Fn(&mut [usize])) -> Result<Tensor> {
    let mut permutation: Vec<usize> = (0..tensor.dims().len()).collect();
    rotate(&mut permutation[1..]);
    let mut outputs = Transpose { permutation }.reference(std::slice::from_ref(tensor))?;
    Ok(outputs.swap_remove(0))
}

//! The form for an image whose channels come last and an operand of lower rank.

use super::super::image::{ImageOrder, to_first, to_last, to_last_order, transposed_to};
use super::super::strided::broadcast_strides;
use super::super::{Inputs, Op};
use super::{Binary, BinaryFn};
use crate::Result;
use crate::kernel::{Caps, Launches};
use crate::tensor::{Spec, Tensor};

/// A function of an image `[n, spatial.., c]` and an operand of lower rank, which keeps the
/// graph's order of axes (`[c, 1, 1]`, a number) and is read where it lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct ImageBinary {
    pub(super) function: BinaryFn,
    /// Which input is the image.
    pub(super) image: usize,
}

impl Op for ImageBinary {
    fn name(&self) -> &'static str {
        Binary(self.function).name()
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let mut inputs = inputs.exactly::<2>(self)?.clone();
        inputs[self.image].shape = to_first(&inputs[self.image].shape);
        let outputs = Binary(self.function).infer(&inputs)?;
        Ok(outputs.iter().map(|spec| Spec::new(spec.dtype, to_last(&spec.shape))).collect())
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], outputs: &[Spec]) -> Result<Launches> {
        let shape = &outputs[0].shape;
        let image = broadcast_strides(&inputs[self.image].shape, shape);
        let other = to_last_order(&broadcast_strides(&inputs[1 - self.image].shape, &to_first(shape)));
        let strides = if self.image == 0 { [&image[..], &other] } else { [&other[..], &image] };
        Ok(self.function.launch(caps, inputs[0].dtype, &outputs[0], strides).into())
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let mut inputs = inputs.to_vec();
        inputs[self.image] = transposed_to(ImageOrder::ChannelsFirst, &inputs[self.image])?;
        let outputs = Binary(self.function).reference(&inputs)?;
        outputs.iter().map(|tensor| transposed_to(ImageOrder::ChannelsLast, tensor)).collect()
    }
}

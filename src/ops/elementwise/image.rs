//! The form for images whose channels come last.

use super::super::image::{ImageOrder, to_first, to_last, to_last_order, transposed_to};
use super::super::strided::broadcast_strides;
use super::{Elementwise, Op};
use crate::Result;
use crate::kernel::{Caps, Launches};
use crate::tensor::{Spec, Tensor};

/// A chain over images `[n, spatial.., c]` and operands of lower rank, which keep the graph's order
/// of axes (`[c, 1, 1]`, a number) and are read where they lie.
#[derive(Debug, Clone)]
pub(super) struct ImageElementwise {
    pub(super) chain: Elementwise,
    /// Which inputs are images.
    pub(super) images: Vec<usize>,
}

impl Op for ImageElementwise {
    fn name(&self) -> &'static str {
        self.chain.name()
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let mut inputs = inputs.to_vec();
        for (_, image) in inputs.iter_mut().enumerate().filter(|(i, _)| self.images.contains(i)) {
            image.shape = to_first(&image.shape);
        }
        let outputs = self.chain.infer(&inputs)?;
        Ok(outputs.iter().map(|spec| Spec::new(spec.dtype, to_last(&spec.shape))).collect())
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], outputs: &[Spec]) -> Result<Launches> {
        let shape = &outputs[0].shape;
        let strides = inputs.iter().enumerate().map(|(i, input)| match self.images.contains(&i) {
            true => broadcast_strides(&input.shape, shape),
            false => to_last_order(&broadcast_strides(&input.shape, &to_first(shape))),
        });
        Ok(self.chain.launches(caps, inputs, &outputs[0], &strides.collect::<Vec<_>>()))
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let mut inputs = inputs.to_vec();
        for &image in &self.images {
            inputs[image] = transposed_to(ImageOrder::ChannelsFirst, &inputs[image])?;
        }
        let outputs = self.chain.reference(&inputs)?;
        outputs.iter().map(|tensor| transposed_to(ImageOrder::ChannelsLast, tensor)).collect()
    }
}

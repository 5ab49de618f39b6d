//! Blocks of pixels as channels, and back: DepthToSpace and SpaceToDepth of ONNX, pixel shuffle
//! (Shi et al. 2016) of torch.

use super::cases::{Case, Random};
use super::image::{ImageDims, ImageOrder, is_image};
use super::{ChannelsLast, Expect, Inputs, Op, strided};
use crate::kernel::{Caps, Launches};
use crate::tensor::{DType, Shape, Spec, Tensor};
use crate::{Error, Result};

/// How the channels of the deep image are numbered; named as in ONNX.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum DepthMode {
    /// `[row in the block, column in the block, channel]`.
    Dcr,
    /// `[channel, row in the block, column in the block]`: pixel shuffle of torch.
    Crd,
}

/// Makes of the block^2 * c channels of each pixel a block of pixels of c channels: `[n, block^2 c,
/// h, w]` to `[n, c, h block, w block]`. Any dtype of two or four bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DepthToSpace {
    /// Side of a block.
    pub block: usize,
    /// Order of the input's channels.
    pub mode: DepthMode,
    /// Where the channels lie.
    pub order: ImageOrder,
}

/// Makes of each block of pixels one pixel: `[n, c, h block, w block]` to `[n, block^2 c, h, w]`.
/// Any dtype of two or four bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpaceToDepth {
    /// Side of a block.
    pub block: usize,
    /// Order of the output's channels.
    pub mode: DepthMode,
    /// Where the channels lie.
    pub order: ImageOrder,
}

/// The axes of a block of channels or pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Axis {
    N,
    Channel,
    Row,
    Column,
    BlockRow,
    BlockColumn,
}

/// An image in which a block's pixels are channels.
const fn deep_axes(mode: DepthMode, order: ImageOrder) -> [Axis; 6] {
    use Axis::{BlockColumn, BlockRow, Channel, Column, N, Row};
    match (order, mode) {
        (ImageOrder::ChannelsFirst, DepthMode::Dcr) => [N, BlockRow, BlockColumn, Channel, Row, Column],
        (ImageOrder::ChannelsFirst, DepthMode::Crd) => [N, Channel, BlockRow, BlockColumn, Row, Column],
        (ImageOrder::ChannelsLast, DepthMode::Dcr) => [N, Row, Column, BlockRow, BlockColumn, Channel],
        (ImageOrder::ChannelsLast, DepthMode::Crd) => [N, Row, Column, Channel, BlockRow, BlockColumn],
    }
}

/// An image in which they are pixels.
const fn wide_axes(order: ImageOrder) -> [Axis; 6] {
    use Axis::{BlockColumn, BlockRow, Channel, Column, N, Row};
    match order {
        ImageOrder::ChannelsFirst => [N, Channel, Row, BlockRow, Column, BlockColumn],
        ImageOrder::ChannelsLast => [N, Row, BlockRow, Column, BlockColumn, Channel],
    }
}

/// Moves elements from one order of axes to another.
struct Move {
    output: Shape,
    strides: Vec<isize>,
}

impl Move {
    /// For a wide image of these sizes.
    fn new(wide: &ImageDims, block: usize, [from, to]: [[Axis; 6]; 2]) -> Self {
        let size = |axis: &Axis| match axis {
            Axis::N => wide.n,
            Axis::Channel => wide.channels,
            Axis::Row => wide.spatial[0] / block,
            Axis::Column => wide.spatial[1] / block,
            Axis::BlockRow | Axis::BlockColumn => block,
        };
        let input: Shape = from.iter().map(size).collect::<Vec<_>>().into();
        let stride = |axis: &Axis| {
            let among = from.iter().zip(input.strides()).find(|(other, _)| *other == axis);
            among.map_or(0, |(_, stride)| stride as isize)
        };
        Self {
            output: to.iter().map(size).collect::<Vec<_>>().into(),
            strides: to.iter().map(stride).collect(),
        }
    }

    fn launch(&self, caps: &Caps, dtype: DType) -> Launches {
        strided::launch(caps, &Spec::new(dtype, self.output.clone()), &self.strides, 0).into()
    }

    fn reference(&self, input: &Tensor, output: &Spec) -> Vec<Tensor> {
        let moved = strided::reference(input, &self.output, &self.strides, 0);
        vec![moved.reshaped(output.shape.clone())]
    }
}

/// The sizes of an image with two spatial axes.
fn plane(op: &dyn Op, order: ImageOrder, block: usize, inputs: &[Spec]) -> Result<ImageDims> {
    let [input] = inputs.exactly(op)?;
    input.expect_dtype(op, "the image", strided::DTYPES)?;
    let image = order.dims(op, input)?;
    if image.spatial.len() != 2 || !(1..=65_535).contains(&block) {
        let message =
            format!("takes images with 2 spatial axes and blocks of 1 to 65535, got {block} of {input}");
        return Err(Error::op(op.name(), message));
    }
    Ok(image)
}

impl DepthToSpace {
    /// Pixel shuffle of torch.
    pub const fn pixel_shuffle(block: usize) -> Self {
        Self { block, mode: DepthMode::Crd, order: ImageOrder::ChannelsFirst }
    }

    fn wide(&self, inputs: &[Spec]) -> Result<ImageDims> {
        let mut image = plane(self, self.order, self.block, inputs)?;
        if !image.channels.is_multiple_of(self.block * self.block) {
            let (block, input) = (self.block, &inputs[0]);
            let message = format!("channels must be a multiple of {block} x {block}, got {input}");
            return Err(Error::op(self.name(), message));
        }
        image.channels /= self.block * self.block;
        image.spatial.iter_mut().for_each(|side| *side *= self.block);
        Ok(image)
    }

    fn moved(&self, inputs: &[Spec]) -> Result<Move> {
        let axes = [deep_axes(self.mode, self.order), wide_axes(self.order)];
        Ok(Move::new(&self.wide(inputs)?, self.block, axes))
    }
}

impl Op for DepthToSpace {
    fn name(&self) -> &'static str {
        "depth_to_space"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        Ok(vec![Spec::new(inputs.exactly::<1>(self)?[0].dtype, self.order.shape(&self.wide(inputs)?))])
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], _: &[Spec]) -> Result<Launches> {
        Ok(self.moved(inputs)?.launch(caps, inputs[0].dtype))
    }

    fn channels_last(&self, _: &Caps, inputs: &[Spec]) -> Option<ChannelsLast> {
        let first = self.order == ImageOrder::ChannelsFirst && is_image(&inputs[0]);
        first.then(|| ChannelsLast::following(Self { order: ImageOrder::ChannelsLast, ..*self }, [0]))
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let spec = [inputs[0].spec().clone()];
        Ok(self.moved(&spec)?.reference(&inputs[0], &self.infer(&spec)?[0]))
    }
}

impl SpaceToDepth {
    /// Pixel unshuffle of torch.
    pub const fn pixel_unshuffle(block: usize) -> Self {
        Self { block, mode: DepthMode::Crd, order: ImageOrder::ChannelsFirst }
    }

    fn wide(&self, inputs: &[Spec]) -> Result<ImageDims> {
        let image = plane(self, self.order, self.block, inputs)?;
        if image.spatial.iter().any(|side| !side.is_multiple_of(self.block)) {
            let message = format!("sides must be multiples of {}, got {}", self.block, inputs[0]);
            return Err(Error::op(self.name(), message));
        }
        Ok(image)
    }

    fn moved(&self, inputs: &[Spec]) -> Result<Move> {
        let axes = [wide_axes(self.order), deep_axes(self.mode, self.order)];
        Ok(Move::new(&self.wide(inputs)?, self.block, axes))
    }
}

impl Op for SpaceToDepth {
    fn name(&self) -> &'static str {
        "space_to_depth"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let mut image = self.wide(inputs)?;
        image.channels *= self.block * self.block;
        image.spatial.iter_mut().for_each(|side| *side /= self.block);
        Ok(vec![Spec::new(inputs[0].dtype, self.order.shape(&image))])
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], _: &[Spec]) -> Result<Launches> {
        Ok(self.moved(inputs)?.launch(caps, inputs[0].dtype))
    }

    fn channels_last(&self, _: &Caps, inputs: &[Spec]) -> Option<ChannelsLast> {
        let first = self.order == ImageOrder::ChannelsFirst && is_image(&inputs[0]);
        first.then(|| ChannelsLast::following(Self { order: ImageOrder::ChannelsLast, ..*self }, [0]))
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let spec = [inputs[0].spec().clone()];
        Ok(self.moved(&spec)?.reference(&inputs[0], &self.infer(&spec)?[0]))
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut random = Random::new(72);
    let mut cases = Vec::new();
    let sizes =
        [(1, 1, 1, [1, 1]), (2, 3, 2, [3, 5]), (1, 8, 2, [7, 4]), (2, 1, 3, [5, 2]), (1, 4, 4, [3, 9])];
    for (n, channels, block, [h, w]) in sizes {
        let deep = ImageDims { n, channels: channels * block * block, spatial: vec![h, w] };
        let wide = ImageDims { n, channels, spatial: vec![h * block, w * block] };
        for mode in [DepthMode::Dcr, DepthMode::Crd] {
            for (order, dtype) in [
                (ImageOrder::ChannelsFirst, DType::F32),
                (ImageOrder::ChannelsLast, DType::F32),
                (ImageOrder::ChannelsLast, DType::F16),
            ] {
                let name = format!("{wide:?} by {block}, {mode:?} {order:?} {dtype}");
                let input = random.tensor(dtype, order.shape(&deep), 9.0);
                cases.push(Case::new(name.clone(), DepthToSpace { block, mode, order }, vec![input]));
                let input = random.tensor(dtype, order.shape(&wide), 9.0);
                cases.push(Case::new(name, SpaceToDepth { block, mode, order }, vec![input]));
            }
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the ONNX specification of DepthToSpace: 8 channels of `[2, 3]` pixels whose
    /// channel c starts at 9 c; and torch.pixel_shuffle of the same.
    #[test]
    fn modes_follow_onnx_and_torch() {
        let values: Vec<f32> =
            (0..8u8).flat_map(|c| [0, 1, 2, 3, 4, 5].map(|pixel| f32::from(9 * c + pixel))).collect();
        let deep = Tensor::from_f32([1, 8, 2, 3], &values);
        let order = ImageOrder::ChannelsFirst;
        let rows = |mode| {
            let op = DepthToSpace { block: 2, mode, order };
            let wide = op.reference(std::slice::from_ref(&deep)).unwrap().remove(0);
            assert_eq!(wide.dims(), [1, 2, 4, 6]);
            let back = SpaceToDepth { block: 2, mode, order }.reference(std::slice::from_ref(&wide)).unwrap();
            assert!(back[0] == deep);
            wide.to_f32()[..12].to_vec()
        };
        let want = [0.0, 18.0, 1.0, 19.0, 2.0, 20.0, 36.0, 54.0, 37.0, 55.0, 38.0, 56.0];
        assert_eq!(rows(DepthMode::Dcr), want);
        let want = [0.0, 9.0, 1.0, 10.0, 2.0, 11.0, 18.0, 27.0, 19.0, 28.0, 20.0, 29.0];
        assert_eq!(rows(DepthMode::Crd), want);
    }

    #[test]
    fn blocks_that_do_not_fit_are_refused() {
        let deep = |dims: &[usize], block| DepthToSpace::pixel_shuffle(block).infer(&[Spec::f32(dims)]);
        let wide = |dims: &[usize], block| SpaceToDepth::pixel_unshuffle(block).infer(&[Spec::f32(dims)]);
        assert_eq!(deep(&[1, 8, 2, 3], 2).unwrap()[0].shape.dims(), [1, 2, 4, 6]);
        assert_eq!(wide(&[1, 2, 4, 6], 2).unwrap()[0].shape.dims(), [1, 8, 2, 3]);
        assert!(deep(&[1, 6, 2, 3], 2).is_err());
        assert!(deep(&[1, 8, 2], 2).is_err());
        assert!(deep(&[1, 8, 2, 3], 0).is_err());
        assert!(wide(&[1, 2, 5, 6], 2).is_err());
    }
}

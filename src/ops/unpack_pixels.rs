//! Bytes of pixels as the numbers that a network takes.

use super::cases::{Case, Random};
use super::{Expect, Inputs, Op};
use crate::kernel::{Caps, Kernel, Launches, Spread, count, params};
use crate::tensor::{DType, Spec, Tensor};
use crate::{Error, Result};

static UNPACK_PIXELS: Kernel = Kernel::new("unpack_pixels", include_str!("../../shaders/unpack_pixels.wgsl"));

params!(
    struct Params {
        items: u32,
        per_group: u32,
        elements: u32,
        channels: u32,
        shifts: [u32; 4],
        scales: [u32; 4],
        offsets: [u32; 4],
    }
);

/// One channel of the result: byte * scale + offset.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PixelChannel {
    /// Which byte of a pixel's word, 0 the lowest.
    pub byte: u8,
    /// Factor.
    #[serde(with = "super::float")]
    pub scale: f32,
    /// Summand.
    #[serde(with = "super::float")]
    pub offset: f32,
}

/// Pixels, u32 words of four bytes in any shape, as f32 with the channels as a last dimension.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnpackPixels {
    /// The channels, one to four.
    pub channels: Vec<PixelChannel>,
}

impl Op for UnpackPixels {
    fn name(&self) -> &'static str {
        "unpack_pixels"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [pixels] = inputs.exactly(self)?;
        pixels.expect_dtype(self, "the pixels", &[DType::U32])?;
        let channels = self.channels.len();
        if !(1..=4).contains(&channels) || self.channels.iter().any(|channel| channel.byte > 3) {
            let message = format!("expected 1 to 4 channels of bytes 0 to 3, got {:?}", self.channels);
            return Err(Error::op(self.name(), message));
        }
        let mut dims = pixels.shape.dims().to_vec();
        dims.push(channels);
        Ok(vec![Spec::f32(dims)])
    }

    fn launch(&self, caps: &Caps, _: &[Spec], outputs: &[Spec]) -> Result<Launches> {
        let elements = outputs[0].elements();
        let spread = Spread::new(elements.div_ceil(4), caps);
        let each = |value: &dyn Fn(&PixelChannel) -> u32| {
            let mut values = [0; 4];
            values.iter_mut().zip(&self.channels).for_each(|(slot, channel)| *slot = value(channel));
            values
        };
        let params = Params {
            items: spread.items,
            per_group: spread.per_group,
            elements: count(elements),
            channels: count(self.channels.len()),
            shifts: each(&|channel| 8 * u32::from(channel.byte)),
            scales: each(&|channel| channel.scale.to_bits()),
            offsets: each(&|channel| channel.offset.to_bits()),
        };
        Ok(spread.launch(&UNPACK_PIXELS).params(params).bind_all(1, 1).into())
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let spec = self.infer(&[inputs[0].spec().clone()])?.remove(0);
        let value = |pixel: u32, channel: &PixelChannel| {
            let byte = pixel.to_le_bytes()[usize::from(channel.byte)];
            f64::from(byte) * f64::from(channel.scale) + f64::from(channel.offset)
        };
        let pixels = inputs[0].to_u32();
        let values: Vec<f64> = pixels
            .into_iter()
            .flat_map(|pixel| self.channels.iter().map(move |channel| value(pixel, channel)))
            .collect();
        Ok(vec![Tensor::from_f64(DType::F32, spec.shape, &values)])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut random = Random::new(61);
    let channel = |byte, scale, offset| PixelChannel { byte, scale, offset };
    let all = [
        channel(2, 1.0, -104.0),
        channel(1, 0.0078125, -1.0),
        channel(0, 0.01712475, -2.117904),
        channel(3, -0.5, 7.0),
    ];
    let mut cases = Vec::new();
    for channels in 1..=4 {
        for dims in [vec![1], vec![5, 7], vec![2, 17, 31]] {
            let op = UnpackPixels { channels: all[4 - channels..].to_vec() };
            let name = format!("{dims:?} to {channels} channels");
            cases.push(Case::new(name, op, vec![random.u32(dims, u32::MAX)]));
        }
    }
    cases
}

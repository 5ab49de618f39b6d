//! Group normalisation (Wu and He 2018) and instance normalisation (Ulyanov et al. 2016).

use super::cases::{Case, Random};
use super::conv::not_lowered;
use super::{ChannelsLast, Cost, Expect, ImageDims, ImageOrder, Inputs, Op, UnaryFn};
use crate::kernel::{Caps, Kernel, Launch, Launches, Operand, RowSpread, Split, Spread, count, params};
use crate::tensor::{DType, Spec, Tensor};
use crate::{Error, Result};
use std::sync::Arc;

static STATISTICS: Kernel =
    Kernel::new("group_norm_statistics", include_str!("../../shaders/group_norm_statistics.wgsl"));
static MERGE: Kernel = Kernel::new("group_norm_merge", include_str!("../../shaders/group_norm_merge.wgsl"));
static GROUP_NORM: Kernel = Kernel::new("group_norm", include_str!("../../shaders/group_norm.wgsl"));

params!(
    struct StatisticsParams {
        items: u32,
        per_group: u32,
        pixel: u32,
        pixels: u32,
        parts: u32,
        part: u32,
    }
);
params!(
    struct MergeParams {
        rows: u32,
        rows_per_group: u32,
        groups: u32,
        group_channels: u32,
        pixels: u32,
        parts: u32,
        part: u32,
        eps: f32,
    }
);
params!(
    struct Params {
        items: u32,
        per_group: u32,
        columns: u32,
        pixels: u32,
        alpha: f32,
        beta: f32,
    }
);

/// Most pixels of a part: a sum of more would lose digits.
const MOST_PART: usize = 4_096;

/// activation((x - mean) / sqrt(variance + eps) * weight + bias), with the mean and the variance
/// (of the population) of each image over all pixels of each group of neighbouring channels
/// (GroupNormalization and InstanceNormalization of ONNX, GroupNorm and InstanceNormNd of torch).
///
/// Inputs: x f32 `[n, c, spatial..]` with one to three spatial axes; weight and bias f32 `[c]`.
/// Output: f32 of x's shape.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupNorm {
    /// Number of groups, of c / groups channels each.
    pub groups: usize,
    /// Added to the variance.
    #[serde(with = "super::float")]
    pub eps: f32,
    /// The function of each output.
    pub activation: UnaryFn,
    /// Order of x's axes.
    pub order: ImageOrder,
}

impl GroupNorm {
    /// A group norm of `[n, c, spatial..]` without activation.
    pub const fn new(groups: usize, eps: f32) -> Self {
        Self { groups, eps, activation: UnaryFn::Identity, order: ImageOrder::ChannelsFirst }
    }

    /// An instance norm: each of the channels is a group.
    pub const fn instance(channels: usize, eps: f32) -> Self {
        Self::new(channels, eps)
    }
}

impl Op for GroupNorm {
    fn name(&self) -> &'static str {
        "group_norm"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [x, weight, bias] = inputs.exactly(self)?;
        x.expect_dtype(self, "x", &[DType::F32])?;
        self.activation.check(self)?;
        let image = self.order.dims(self, x)?;
        if self.groups == 0 || !image.channels.is_multiple_of(self.groups) {
            let message = format!("{} channels are not divided by {} groups", image.channels, self.groups);
            return Err(Error::op(self.name(), message));
        }
        for (input, what) in [(weight, "the weight"), (bias, "the bias")] {
            input.expect_dtype(self, what, &[DType::F32])?;
            input.expect_dims(self, what, &[image.channels])?;
        }
        Ok(vec![x.clone()])
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], _: &[Spec]) -> Result<Launches> {
        if self.order == ImageOrder::ChannelsFirst {
            return Err(not_lowered(self));
        }
        let layout = Layout::new(&self.order.dims(self, &inputs[0])?, caps);
        let [x, weight, bias] = [0, 1, 2].map(Operand::Input);
        let [statistics, merged] = [0, 1].map(Operand::Scratch);
        let (n, channels) = (layout.n, layout.channels);
        Ok(Launches {
            steps: vec![
                layout.statistics(caps).bind([x, statistics]),
                layout.merge(self, caps).bind([statistics, weight, merged]),
                layout.normalise(self, caps).bind([x, merged, bias, Operand::Output(0)]),
            ],
            scratch: vec![Spec::f32([n, layout.split.parts, 2, channels]), Spec::f32([n, 2, channels])],
            ..Launches::default()
        })
    }

    fn issued(&self, inputs: &[Spec], outputs: &[Spec]) -> Cost {
        // Statistics load x once; the last step loads it again, and the mean, the factor and the
        // bias of its channel.
        let traffic = Cost::of_traffic(inputs, outputs);
        Cost { read: 5 * inputs[0].bytes(), ..traffic }
    }

    fn channels_last(&self, _: &Caps, _: &[Spec]) -> Option<ChannelsLast> {
        let op = Self { order: ImageOrder::ChannelsLast, ..*self };
        let form = || ChannelsLast { required: true, ..ChannelsLast::following(op, [0]) };
        (self.order == ImageOrder::ChannelsFirst).then(form)
    }

    fn with_activation(&self, activation: UnaryFn) -> Option<Arc<dyn Op>> {
        let free = self.activation == UnaryFn::Identity;
        free.then(|| Arc::new(Self { activation, ..*self }) as Arc<dyn Op>)
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let image = self.order.dims(self, inputs[0].spec())?;
        let (n_stride, channel_stride, _) = self.order.strides(&image);
        let group_channels = image.channels / self.groups;
        let [x, weight, bias] = [0, 1, 2].map(|input: usize| inputs[input].to_f64());
        let channel_of = |index: usize| index / channel_stride % image.channels;
        let group_of = |index: usize| index / n_stride * self.groups + channel_of(index) / group_channels;
        let groups = image.n * self.groups;
        let length = (x.len() / groups.max(1)) as f64;
        let mut means = vec![0.0; groups];
        x.iter().enumerate().for_each(|(index, x)| means[group_of(index)] += x / length);
        let mut variances = vec![0.0; groups];
        for (index, x) in x.iter().enumerate() {
            let group = group_of(index);
            variances[group] += (x - means[group]).powi(2) / length;
        }
        let norm = |(index, x): (usize, &f64)| {
            let (group, channel) = (group_of(index), channel_of(index));
            let normed = (x - means[group]) / (variances[group] + f64::from(self.eps)).sqrt();
            self.activation.apply(normed * weight[channel] + bias[channel])
        };
        let values: Vec<f64> = x.iter().enumerate().map(norm).collect();
        Ok(vec![Tensor::from_f64(DType::F32, inputs[0].dims(), &values)])
    }
}

/// Sizes of an image batch with channels last, as the kernels walk over it.
#[derive(Debug)]
struct Layout {
    n: usize,
    channels: usize,
    pixels: usize,
    /// Vectors of four channels, where their number allows, else channels.
    pixel: usize,
    value: &'static str,
    split: Split,
}

impl Layout {
    fn new(image: &ImageDims, caps: &Caps) -> Self {
        let (n, channels, pixels) = (image.n, image.channels, image.spatial.iter().product());
        let vectors = channels.is_multiple_of(4);
        let (pixel, value) = if vectors { (channels / 4, "vec4<f32>") } else { (channels, "f32") };
        Self { n, channels, pixels, pixel, value, split: Split::new(pixels, n * pixel, MOST_PART, caps) }
    }

    /// Mean and sum of squared differences from it, of each channel over each part of the pixels.
    fn statistics(&self, caps: &Caps) -> Launch {
        let Split { parts, length } = self.split;
        let spread = Spread::of_loops(self.n * parts * self.pixel, length, caps);
        let params = StatisticsParams {
            items: spread.items,
            per_group: spread.per_group,
            pixel: count(self.pixel),
            pixels: count(self.pixels),
            parts: count(parts),
            part: count(length),
        };
        let work = (self.n * self.pixels * self.channels) as u64;
        spread.launch(&STATISTICS).variant("value", self.value).params(params).work(work)
    }

    /// Mean of each group, and what its differences from it are multiplied with, by channel.
    fn merge(&self, op: &GroupNorm, caps: &Caps) -> Launch {
        let group_channels = self.channels / op.groups;
        let chunks = self.split.parts * group_channels;
        let spread = RowSpread::of_chunks(self.n * op.groups, chunks, false, caps);
        let params = MergeParams {
            rows: spread.rows,
            rows_per_group: spread.rows_per_group,
            groups: count(op.groups),
            group_channels: count(group_channels),
            pixels: count(self.pixels),
            parts: count(self.split.parts),
            part: count(self.split.length),
            eps: op.eps,
        };
        spread.launch(&MERGE).params(params)
    }

    fn normalise(&self, op: &GroupNorm, caps: &Caps) -> Launch {
        let spread = Spread::new(self.n * self.pixels * self.pixel, caps);
        let [alpha, beta] = op.activation.arguments();
        let params = Params {
            items: spread.items,
            per_group: spread.per_group,
            columns: count(self.pixel),
            pixels: count(self.pixels),
            alpha,
            beta,
        };
        spread.launch(&GROUP_NORM).variant("value", self.value).activation(op.activation).params(params)
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut random = Random::new(73);
    let mut cases = Vec::new();
    let mut case = |op: GroupNorm, dims: &[usize], offset: f64| {
        let channels = dims[op.order.channel_axis(dims.len())];
        let values: Vec<f64> = (0..dims.iter().product()).map(|_: usize| offset + random.unit()).collect();
        let x = Tensor::from_f64(DType::F32, dims, &values);
        let inputs = vec![x, random.f32([channels]), random.f32([channels])];
        cases.push(Case::new(format!("{dims:?} in {} groups {:?}", op.groups, op.order), op, inputs));
    };
    let shapes: [(&[usize], usize); 12] = [
        (&[1, 2, 3], 1),
        (&[2, 6, 5], 3),
        (&[1, 8, 4, 5], 2),
        (&[2, 12, 7, 9], 12),
        (&[1, 32, 8, 8], 8),
        (&[1, 10, 33, 31], 5),
        (&[3, 64, 5, 5], 1),
        (&[1, 260, 2, 2], 65),
        (&[1, 4, 130, 70], 2),
        (&[1, 3, 200, 301], 3),
        (&[2, 6, 3, 4, 5], 2),
        (&[1, 2_052, 1, 3], 2),
    ];
    for (dims, groups) in shapes {
        case(GroupNorm::new(groups, 1e-5), dims, 0.0);
    }
    case(GroupNorm::instance(8, 1e-5), &[2, 8, 15, 16], 0.5);
    // Where the mean is large, the mean of squares would be of no use.
    case(GroupNorm::new(2, 1e-5), &[1, 4, 90, 91], 20.0);
    // More pixels than all loops of an invocation may walk over on some adapters.
    case(GroupNorm::new(1, 1e-5), &[1, 3, 90_001], 0.0);
    case(GroupNorm { activation: UnaryFn::Silu, ..GroupNorm::new(4, 1e-6) }, &[1, 16, 6, 7], 0.0);
    case(GroupNorm { order: ImageOrder::ChannelsLast, ..GroupNorm::new(3, 1e-5) }, &[2, 5, 7, 12], 0.0);
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let infer = |groups, x: &[usize], weight: usize| {
            GroupNorm::new(groups, 1e-5).infer(&[Spec::f32(x), Spec::f32([weight]), Spec::f32([weight])])
        };
        assert!(infer(2, &[1, 4, 3, 3], 4).is_ok());
        assert!(infer(3, &[1, 4, 3, 3], 4).is_err());
        assert!(infer(0, &[1, 4, 3, 3], 4).is_err());
        assert!(infer(2, &[1, 4, 3, 3], 2).is_err());
        assert!(infer(2, &[1, 4], 4).is_err());
    }
}

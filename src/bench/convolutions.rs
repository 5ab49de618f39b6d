//! The convolutions of three published networks at batch 1, each shape with how often it occurs.

use super::Family;
use super::sample::{SampledAxis, Subject};
use crate::ops::cases::Random;
use crate::ops::{Conv, UnaryFn, Window};
use crate::tensor::DType;

/// Channels of the output that are compared with the reference.
const SAMPLED: usize = 4;

/// A convolution with bias and ReLU over a square image, padded so that a stride of 1 keeps its size.
#[derive(Clone, Copy)]
struct Layer {
    times: usize,
    kernel: usize,
    stride: usize,
    size: usize,
    channels: usize,
    /// Output channels; 0 where each channel is by itself (depthwise).
    outputs: usize,
}

/// The layers as [times, kernel, stride, size, channels, outputs].
const NETWORKS: [(&str, &[[usize; 6]]); 3] = [
    (
        "squeezenet1.1",
        &[
            [1, 3, 2, 227, 3, 64],
            [1, 1, 1, 56, 64, 16],
            [2, 1, 1, 56, 16, 64],
            [2, 3, 1, 56, 16, 64],
            [1, 1, 1, 56, 128, 16],
            [1, 1, 1, 28, 128, 32],
            [2, 1, 1, 28, 32, 128],
            [2, 3, 1, 28, 32, 128],
            [1, 1, 1, 28, 256, 32],
            [1, 1, 1, 14, 256, 48],
            [2, 1, 1, 14, 48, 192],
            [2, 3, 1, 14, 48, 192],
            [1, 1, 1, 14, 384, 48],
            [1, 1, 1, 14, 384, 64],
            [2, 1, 1, 14, 64, 256],
            [2, 3, 1, 14, 64, 256],
            [1, 1, 1, 14, 512, 64],
            [1, 1, 1, 14, 512, 1000],
        ],
    ),
    (
        "mobilenet_v2",
        &[
            [1, 3, 2, 224, 3, 32],
            [1, 3, 1, 112, 32, 0],
            [1, 1, 1, 112, 32, 16],
            [1, 1, 1, 112, 16, 96],
            [1, 3, 2, 112, 96, 0],
            [1, 1, 1, 56, 96, 24],
            [2, 1, 1, 56, 24, 144],
            [1, 3, 1, 56, 144, 0],
            [1, 1, 1, 56, 144, 24],
            [1, 3, 2, 56, 144, 0],
            [1, 1, 1, 28, 144, 32],
            [3, 1, 1, 28, 32, 192],
            [2, 3, 1, 28, 192, 0],
            [2, 1, 1, 28, 192, 32],
            [1, 3, 2, 28, 192, 0],
            [1, 1, 1, 14, 192, 64],
            [4, 1, 1, 14, 64, 384],
            [4, 3, 1, 14, 384, 0],
            [3, 1, 1, 14, 384, 64],
            [1, 1, 1, 14, 384, 96],
            [3, 1, 1, 14, 96, 576],
            [2, 3, 1, 14, 576, 0],
            [2, 1, 1, 14, 576, 96],
            [1, 3, 2, 14, 576, 0],
            [1, 1, 1, 7, 576, 160],
            [3, 1, 1, 7, 160, 960],
            [3, 3, 1, 7, 960, 0],
            [2, 1, 1, 7, 960, 160],
            [1, 1, 1, 7, 960, 320],
            [1, 1, 1, 7, 320, 1280],
        ],
    ),
    (
        "resnet50",
        &[
            [1, 7, 2, 224, 3, 64],
            [1, 1, 1, 56, 64, 64],
            [2, 1, 1, 56, 256, 64],
            [3, 3, 1, 56, 64, 64],
            [4, 1, 1, 56, 64, 256],
            [1, 1, 1, 56, 256, 128],
            [1, 3, 2, 56, 128, 128],
            [1, 1, 2, 56, 256, 512],
            [4, 1, 1, 28, 128, 512],
            [3, 1, 1, 28, 512, 128],
            [3, 3, 1, 28, 128, 128],
            [1, 1, 1, 28, 512, 256],
            [1, 3, 2, 28, 256, 256],
            [1, 1, 2, 28, 512, 1024],
            [6, 1, 1, 14, 256, 1024],
            [5, 1, 1, 14, 1024, 256],
            [5, 3, 1, 14, 256, 256],
            [1, 1, 1, 14, 1024, 512],
            [1, 3, 2, 14, 512, 512],
            [1, 1, 2, 14, 1024, 2048],
            [3, 1, 1, 7, 512, 2048],
            [2, 1, 1, 7, 2048, 512],
            [2, 3, 1, 7, 512, 512],
        ],
    ),
];

/// One row for each layer.
pub(super) fn subjects() -> Vec<Subject> {
    let layer = |network: &str, [times, kernel, stride, size, channels, outputs]: [usize; 6]| {
        Layer { times, kernel, stride, size, channels, outputs }.subject(network)
    };
    let network = |&(name, layers): &(&'static str, &'static [[usize; 6]])| {
        layers.iter().map(move |&numbers| layer(name, numbers))
    };
    NETWORKS.iter().flat_map(network).collect()
}

impl Layer {
    fn subject(self, network: &str) -> Subject {
        let Self { times, kernel, stride, size, channels, outputs } = self;
        let depthwise = outputs == 0;
        let (outputs, groups) = if depthwise { (channels, channels) } else { (outputs, 1) };
        let kind = if depthwise { " depthwise".to_owned() } else { format!(" to {outputs}") };
        let step = if stride == 1 { String::new() } else { format!(" step {stride}") };
        let name = format!("{times}x {network} {kernel}x{kernel}{step} {size}x{size}x{channels}{kind}");
        let window = Window::new([kernel; 2]).stride([stride; 2]).padding([kernel / 2; 2]);
        let conv = Conv { bias: true, activation: UnaryFn::Relu, ..Conv::new(window) };
        let group_channels = channels / groups;
        let inputs = move || {
            let mut random = Random::new(6);
            let scale = 1.5 / ((group_channels * kernel * kernel) as f64).sqrt();
            vec![
                random.f32([1, channels, size, size]),
                random.tensor(DType::F32, [outputs, group_channels, kernel, kernel], scale),
                random.f32([outputs]),
            ]
        };
        if depthwise {
            let sampled = SampledAxis::new(1, SAMPLED, &[(0, 1), (1, 0), (2, 0)]);
            let part = conv.clone().groups(SAMPLED.min(groups));
            let subject = Subject::new(Family::Depthwise, name, conv.groups(groups), inputs);
            return subject.sampled(vec![sampled]).part(part);
        }
        let sampled = SampledAxis::new(1, SAMPLED, &[(1, 0), (2, 0)]);
        Subject::new(Family::Conv, name, conv, inputs).sampled(vec![sampled])
    }
}

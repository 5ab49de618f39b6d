//! YOLOv8 (Jocher et al. 2023), with the names of its published checkpoints; boxes as
//! distributions after Li et al. 2020 (generalized focal loss).

use super::{Architecture, Family, Network, Settings, Task, TensorShapes};
use crate::Result;
use crate::graph::{Graph, ValueId};
use crate::models::preprocess::{Channels, Preprocess, Resize};
use crate::nn::{self, Conv2d, Scope};
use crate::ops::{UnaryFn, Window};
use crate::tensor::Tensor;
use std::sync::Arc;

const EPS: f32 = 0.001;
/// Pixels per cell of the three images that the head reads.
const STRIDES: [usize; 3] = [8, 16, 32];
/// Indices of the layers whose outputs the head reads.
const READ: [usize; 3] = [15, 18, 21];
/// Value of the border around photos.
const FILL: u8 = 114;
/// The classes of COCO (Lin et al. 2014).
#[rustfmt::skip]
const COCO: [&str; 80] = [
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train",
    "truck", "boat", "traffic light", "fire hydrant", "stop sign", "parking meter", "bench",
    "bird", "cat", "dog", "horse", "sheep", "cow", "elephant",
    "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie",
    "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite", "baseball bat",
    "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle", "wine glass", "cup",
    "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich",
    "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake",
    "chair", "couch", "potted plant", "bed", "dining table", "toilet", "tv",
    "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven",
    "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors",
    "teddy bear", "hair drier", "toothbrush",
];

/// YOLOv8: f32 `[n, 3, height, width]` to `[n, candidates, 4 + classes]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Yolo {
    /// Layers 0 to 21.
    pub layers: Vec<YoloLayer>,
    /// Channels of the convolutions of the box and of the score branch.
    pub head: [usize; 2],
    /// Steps of a box side's distribution.
    pub bins: usize,
    /// Number of classes.
    pub classes: usize,
}

/// A layer of the backbone or the neck; it reads the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum YoloLayer {
    /// A 3x3 convolution of stride 2 with so many channels.
    Conv(usize),
    /// Two 1x1 convolutions around a chain of bottlenecks, all of whose outputs are kept.
    C2f {
        /// Channels of the chain.
        inner: usize,
        /// Number of bottlenecks.
        count: usize,
        /// Channels of the output.
        width: usize,
        /// Bottlenecks add their input.
        shortcut: bool,
    },
    /// Three 5x5 pools in a row, all of whose outputs are kept, between two 1x1 convolutions.
    Sppf {
        /// Channels that are pooled.
        inner: usize,
        /// Channels of the output.
        width: usize,
    },
    /// Each pixel becomes four.
    Upsample,
    /// Joined with the output of an earlier layer.
    Concat(usize),
}

/// Kinds of the layers 0 to 21, without sizes.
const KINDS: [YoloLayer; 22] = {
    use YoloLayer::{C2f, Concat, Conv, Sppf, Upsample};
    let conv = Conv(0);
    let deep = C2f { inner: 0, count: 0, width: 0, shortcut: true };
    let flat = C2f { inner: 0, count: 0, width: 0, shortcut: false };
    let sppf = Sppf { inner: 0, width: 0 };
    [
        conv,
        conv,
        deep,
        conv,
        deep,
        conv,
        deep,
        conv,
        deep,
        sppf,
        Upsample,
        Concat(6),
        flat,
        Upsample,
        Concat(4),
        flat,
        conv,
        Concat(12),
        flat,
        conv,
        Concat(9),
        flat,
    ]
};

impl Family for Yolo {
    const ARCHITECTURE: Architecture = Architecture::Yolo;
    const NAME: &'static str = "yolov8";

    fn matches(tensors: &TensorShapes) -> bool {
        tensors.has("model.0.conv.weight") && tensors.has("model.22.cv2.0.0.conv.weight")
    }

    fn read(tensors: &TensorShapes, _: &Settings<'_>) -> Result<Self> {
        let width = |path: String| -> Result<usize> {
            let [channels, ..] = tensors.dims::<4>(&format!("model.{path}.weight"))?;
            Ok(channels)
        };
        let layer = |(index, kind): (usize, &YoloLayer)| {
            Ok(match *kind {
                YoloLayer::Conv(_) => YoloLayer::Conv(width(format!("{index}.conv"))?),
                YoloLayer::C2f { shortcut, .. } => YoloLayer::C2f {
                    inner: width(format!("{index}.cv1.conv"))? / 2,
                    count: tensors.count(|block| format!("model.{index}.m.{block}.cv1.conv.weight"))?,
                    width: width(format!("{index}.cv2.conv"))?,
                    shortcut,
                },
                YoloLayer::Sppf { .. } => YoloLayer::Sppf {
                    inner: width(format!("{index}.cv1.conv"))?,
                    width: width(format!("{index}.cv2.conv"))?,
                },
                other => other,
            })
        };
        let sides = width("22.cv2.0.2".into())?;
        if sides == 0 || !sides.is_multiple_of(4) {
            let message = format!("`model.22.cv2.0.2.weight`: expected outputs for four sides, got {sides}");
            return Err(tensors.error(message));
        }
        Ok(Self {
            layers: KINDS.iter().enumerate().map(layer).collect::<Result<_>>()?,
            head: [width("22.cv2.0.0.conv".into())?, width("22.cv3.0.0.conv".into())?],
            bins: sides / 4,
            classes: width("22.cv3.0.2".into())?,
        })
    }
}

impl Yolo {
    /// The head at one stride: `[n, cells, 4, bins]` and `[n, cells, classes]`.
    fn branch(&self, graph: &mut Graph, scope: &Scope<'_>, level: usize, x: ValueId) -> Result<[ValueId; 2]> {
        let &[n, _, height, width] = graph.spec(x).shape.dims() else {
            unreachable!("images have four axes")
        };
        let mut head = |name: &str, channels: usize, outputs: usize, dims: &[usize]| {
            scope.at(graph, &format!("{name}.{level}"), |graph, scope| {
                let y = conv(graph, scope, "0", x, &Conv2d::new(channels, 3).padding(1))?;
                let y = conv(graph, scope, "1", y, &Conv2d::new(channels, 3).padding(1))?;
                let y = nn::conv2d(graph, scope, "2", y, &Conv2d::new(outputs, 1).bias(true))?;
                let y = nn::channels_last(graph, y)?;
                nn::reshape(graph, y, dims)
            })
        };
        let cells = height * width;
        let boxes = head("cv2", self.head[0], 4 * self.bins, &[n, cells, 4, self.bins])?;
        let scores = head("cv3", self.head[1], self.classes, &[n, cells, self.classes])?;
        Ok([boxes, scores])
    }

    /// Corners in pixels from the distributions of the distances to the four sides.
    fn corners(
        &self,
        graph: &mut Graph,
        distributions: ValueId,
        [height, width]: [usize; 2],
    ) -> Result<ValueId> {
        let shares = nn::softmax(graph, distributions)?;
        let steps: Vec<f32> = (0..self.bins).map(|step| step as f32).collect();
        let steps = Arc::new(Tensor::from_f32([self.bins], &steps));
        let steps = graph.constant(format!("steps {}", self.bins), steps);
        let weighted = nn::mul(graph, shares, steps)?;
        let sides = nn::sum_last(graph, weighted)?;
        let (mut centers, mut scales) = (Vec::new(), Vec::new());
        for stride in STRIDES {
            let size = stride as f32;
            for cell in 0..(height / stride) * (width / stride) {
                let (row, col) = (cell / (width / stride), cell % (width / stride));
                let center = [(col as f32 + 0.5) * size, (row as f32 + 0.5) * size];
                centers.extend(center.iter().chain(&center).copied());
                scales.extend([-size, -size, size, size]);
            }
        }
        let mut constant = |name: &str, values: &[f32]| {
            let tensor = Arc::new(Tensor::from_f32([values.len() / 4, 4], values));
            graph.constant(format!("{name} {height}x{width}"), tensor)
        };
        let (scales, centers) = (constant("cell scales", &scales), constant("cell centers", &centers));
        let offsets = nn::mul(graph, sides, scales)?;
        nn::add(graph, offsets, centers)
    }
}

/// Convolution, batch norm, silu.
fn conv(graph: &mut Graph, scope: &Scope<'_>, path: &str, x: ValueId, conv: &Conv2d) -> Result<ValueId> {
    let names = ["conv", "bn"];
    scope.at(graph, path, |graph, scope| nn::conv_norm_act(graph, scope, names, x, conv, EPS, UnaryFn::Silu))
}

impl YoloLayer {
    fn build(
        &self,
        graph: &mut Graph,
        scope: &Scope<'_>,
        x: ValueId,
        earlier: &[ValueId],
    ) -> Result<ValueId> {
        match *self {
            Self::Conv(channels) => {
                let settings = Conv2d::new(channels, 3).stride(2).padding(1);
                nn::conv_norm_act(graph, scope, ["conv", "bn"], x, &settings, EPS, UnaryFn::Silu)
            }
            Self::C2f { inner, count, width, shortcut } => {
                let both = conv(graph, scope, "cv1", x, &Conv2d::new(2 * inner, 1))?;
                let mut parts = nn::split(graph, both, 1, 2)?;
                let mut last = parts[1];
                for block in 0..count {
                    let y = scope.at(graph, &format!("m.{block}"), |graph, scope| {
                        let three = Conv2d::new(inner, 3).padding(1);
                        let y = conv(graph, scope, "cv1", last, &three)?;
                        let y = conv(graph, scope, "cv2", y, &three)?;
                        if shortcut { nn::add(graph, y, last) } else { Ok(y) }
                    })?;
                    parts.push(y);
                    last = y;
                }
                let all = nn::concat_channels(graph, &parts)?;
                conv(graph, scope, "cv2", all, &Conv2d::new(width, 1))
            }
            Self::Sppf { inner, width } => {
                let mut parts = vec![conv(graph, scope, "cv1", x, &Conv2d::new(inner, 1))?];
                for pool in 0..3 {
                    let window = Window::new([5, 5]).padding([2, 2]);
                    parts.push(nn::max_pool(graph, parts[pool], window)?);
                }
                let all = nn::concat_channels(graph, &parts)?;
                conv(graph, scope, "cv2", all, &Conv2d::new(width, 1))
            }
            Self::Upsample => nn::upsample_nearest(graph, x, 2),
            Self::Concat(other) => nn::concat_channels(graph, &[x, earlier[other]]),
        }
    }
}

impl Network for Yolo {
    fn task(&self) -> Task {
        Task::Detect { classes: self.classes }
    }

    fn multiple(&self) -> usize {
        32
    }

    fn preprocess(&self, side: Option<usize>) -> Preprocess {
        let resize = Resize::Letterbox { size: [side.unwrap_or(640); 2], fill: FILL };
        let square = Preprocess::square(640, Channels::Rgb, 1.0 / 255.0, [0.0; 3], [1.0; 3]);
        Preprocess { square: false, resize, ..square }
    }

    fn labels(&self) -> Option<&'static [&'static str]> {
        Some(&COCO)
    }

    fn build(&self, graph: &mut Graph, scope: &Scope<'_>, pixels: ValueId) -> Result<ValueId> {
        let dims = graph.spec(pixels).shape.dims();
        let size = [dims[2], dims[3]];
        let mut outputs: Vec<ValueId> = Vec::with_capacity(self.layers.len());
        for (index, layer) in self.layers.iter().enumerate() {
            let x = outputs.last().copied().unwrap_or(pixels);
            let path = format!("model.{index}");
            let y = scope.at(graph, &path, |graph, scope| layer.build(graph, scope, x, &outputs))?;
            outputs.push(y);
        }
        scope.at(graph, "model.22", |graph, scope| {
            let (mut boxes, mut scores) = (Vec::new(), Vec::new());
            for (level, layer) in READ.into_iter().enumerate() {
                let [b, s] = self.branch(graph, scope, level, outputs[layer])?;
                boxes.push(b);
                scores.push(s);
            }
            let boxes = nn::concat(graph, &boxes, 1)?;
            let boxes = self.corners(graph, boxes, size)?;
            let scores = nn::concat(graph, &scores, 1)?;
            let scores = nn::activation(graph, scores, UnaryFn::Sigmoid)?;
            nn::concat(graph, &[boxes, scores], 2)
        })
    }
}

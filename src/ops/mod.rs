//! The operators: one file for each, with its shape rules, its launch and its reference.
//!
//! Pure: no device, no I/O. [`Op::launch`] is a function of [`Caps`] and specs alone, and
//! [`Op::reference`] is the oracle that tests and `wginfer doctor` compare every kernel with.

mod adaptive_pool;
mod arg_extreme;
mod argmax;
mod attention;
mod batch_norm;
mod binary;
mod cached_attention;
pub mod cases;
mod cast;
mod concat;
mod conv;
mod conv_transpose;
mod cost;
mod count_tokens;
mod cumsum;
mod depth_space;
mod elementwise;
mod embedding;
mod expand;
mod float;
mod gather;
mod gather_elements;
mod gather_nd;
mod grid_sample;
mod group_norm;
mod head_norm;
pub mod image;
mod integer;
mod layer_norm;
mod linear;
mod lrn;
mod matmul;
mod nd_index;
mod one_hot;
mod pad;
mod pool;
mod recurrent;
mod reduce;
mod resample;
mod reshape;
mod resize;
mod reverse_sequence;
mod rms_norm;
mod rope;
mod rope_cache;
pub mod sample;
mod saved;
mod scatter;
mod scatter_elements;
mod scatter_nd;
mod select;
mod slice;
mod softmax;
mod strided;
mod tile;
mod tiles;
mod top_k;
mod transpose;
mod triangle;
mod unary;
mod unpack_pixels;
mod write_rows;

pub use adaptive_pool::AdaptivePool;
pub use arg_extreme::ArgExtreme;
pub use argmax::ArgMax;
pub use attention::{Attention, HeadLayout};
pub use batch_norm::BatchNorm;
pub use binary::{Binary, BinaryFn};
pub use cached_attention::{CachedAttention, INACTIVE, head_pitch};
pub use cast::Cast;
pub use concat::Concat;
pub use conv::Conv;
pub use conv_transpose::ConvTranspose;
pub use cost::{Applied, Cost};
pub use count_tokens::CountTokens;
pub use cumsum::CumSum;
pub use depth_space::{DepthMode, DepthToSpace, SpaceToDepth};
pub use elementwise::{ElementStep, Elementwise, StepSource};
pub use embedding::Embedding;
pub use expand::Expand;
pub use gather::Gather;
pub use gather_elements::GatherElements;
pub use gather_nd::GatherNd;
pub use grid_sample::{GridFilter, GridPadding, GridSample};
pub use group_norm::GroupNorm;
pub use head_norm::HeadNorm;
pub use image::{ImageDims, ImageOrder, Window};
pub use integer::{Integer, IntegerFn};
pub use layer_norm::LayerNorm;
pub use linear::{InputNorm, Linear, ResidualPlace};
pub use lrn::Lrn;
pub use matmul::MatMul;
pub use one_hot::OneHot;
pub use pad::{Pad, PadMode};
pub use pool::{Pool, PoolFn};
pub use recurrent::{Cell, Directions, Recurrent};
pub use reduce::{Reduce, ReduceFn};
pub use resample::{Resample, ResampleFilter, Taps};
pub use reshape::Reshape;
pub use resize::{Coordinates, NearestRounding, Resize, ResizeFilter};
pub use reverse_sequence::ReverseSequence;
pub use rms_norm::RmsNorm;
pub use rope::Rope;
pub use rope_cache::RopeCache;
pub use sample::{FLAG_EMPTY, FLAG_INVALID, NO_TOKEN, ROW_WORDS, Sample, SampleRow};
pub use saved::{read_op, write_op};
pub use scatter::ScatterFn;
pub use scatter_elements::ScatterElements;
pub use scatter_nd::ScatterNd;
pub use select::Select;
pub use slice::{Slice, SliceRange};
pub use softmax::Softmax;
pub use tile::Tile;
pub use top_k::TopK;
pub use transpose::Transpose;
pub use triangle::Triangle;
pub use unary::{Unary, UnaryFn};
pub use unpack_pixels::{PixelChannel, UnpackPixels};
pub use write_rows::WriteRows;

use crate::kernel::{Caps, Launches, Layout, Selected};
use crate::tensor::{Spec, Tensor};
use crate::{Error, Result};

/// A rule by which a weight is computed from others once, on the host, when they are loaded:
/// packed for a kernel, scaled by a batch norm that follows.
pub trait Preparation: std::fmt::Debug + Send + Sync {
    /// Dtype and shape of the result.
    ///
    /// # Errors
    /// [`Error::Op`] with what was expected and what was got.
    fn infer(&self, inputs: &[Spec]) -> Result<Spec>;

    /// The result.
    ///
    /// # Errors
    /// When the values (not the specs) are not allowed.
    fn prepare(&self, inputs: &[Tensor]) -> Result<Tensor>;
}

/// How an operator on images is computed when their channels come last.
///
/// Graphs hold images as `[n, channels, spatial..]`, the order of published models. Kernels
/// want `[n, spatial.., channels]`; [`lower`](crate::graph::lower) rewrites the graph.
#[derive(Debug)]
pub struct ChannelsLast {
    /// The operator that computes it.
    pub op: std::sync::Arc<dyn Op>,
    /// Inputs that are images, to be given with their channels last.
    pub images: Vec<usize>,
    /// Inputs that are weights, and the form in which the operator wants them.
    pub prepared: Vec<(usize, std::sync::Arc<dyn Preparation>)>,
    /// Whether the outputs are images with their channels last; else they are as before.
    pub image_outputs: bool,
    /// Whether this is the only form that has kernels; else it is used where the images come
    /// with their channels last anyway.
    pub required: bool,
    /// What was picked where there was a choice.
    pub selected: Vec<Selected>,
}

impl ChannelsLast {
    /// An operator for images with their channels last that is used where they come so; its
    /// output is such an image.
    pub(crate) fn following(op: impl Op, images: impl Into<Vec<usize>>) -> Self {
        let op = std::sync::Arc::new(op);
        Self {
            op,
            images: images.into(),
            prepared: Vec::new(),
            image_outputs: true,
            required: false,
            selected: Vec::new(),
        }
    }
}

/// An operator with its attributes.
pub trait Op: std::fmt::Debug + Send + Sync + std::any::Any {
    /// Name in the field's terms, also that of the shader, the bench line and the profile label.
    fn name(&self) -> &'static str;

    /// Specs of the outputs.
    ///
    /// # Errors
    /// [`Error::Op`] with what was expected and what was got.
    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>>;

    /// The dispatches that compute the outputs on a device. Called only with specs that
    /// [`infer`](Self::infer) accepted, none of them empty.
    ///
    /// # Errors
    /// When this device cannot run it, with the limit that is exceeded.
    fn launch(&self, caps: &Caps, inputs: &[Spec], outputs: &[Spec]) -> Result<Launches>;

    /// What it takes at least; called only with specs that [`infer`](Self::infer) accepted.
    /// Where it depends on the values (the part of a cache that is read), that is the most. What
    /// stays in its buffer ([`aliases`](Self::aliases)) is neither read nor written as a whole.
    fn cost(&self, inputs: &[Spec], outputs: &[Spec]) -> Cost {
        let moved = |specs: &[Spec], stays: &dyn Fn(usize) -> bool| -> Vec<Spec> {
            let moved = specs.iter().enumerate().filter(|(index, _)| !stays(*index));
            moved.map(|(_, spec)| spec.clone()).collect()
        };
        let inputs = moved(inputs, &|index| self.aliases().iter().any(|&(_, input)| input == index));
        let outputs = moved(outputs, &|index| self.aliases().iter().any(|&(output, _)| output == index));
        Cost::of_traffic(&inputs, &outputs)
    }

    /// Whether what it takes depends on the values, so that [`cost`](Self::cost) is an upper bound.
    fn cost_depends_on_values(&self) -> bool {
        false
    }

    /// What its kernels issue: what they load or compute more than once counts each time.
    fn issued(&self, inputs: &[Spec], outputs: &[Spec]) -> Cost {
        self.cost(inputs, outputs)
    }

    /// How this operator wants an input to lie in memory.
    fn layout(&self, _input: usize) -> Layout {
        Layout::Plain
    }

    /// How it is computed on images whose channels come last, where it can be.
    fn channels_last(&self, _caps: &Caps, _inputs: &[Spec]) -> Option<ChannelsLast> {
        None
    }

    /// Pairs of (output, input) that share their buffer: the output is the input's next version.
    fn aliases(&self) -> &'static [(usize, usize)] {
        &[]
    }

    /// The same operator with a function of each output after all that it does, where its
    /// kernels can do that.
    fn with_activation(&self, _activation: UnaryFn) -> Option<std::sync::Arc<dyn Op>> {
        None
    }

    /// The same operator with a factor for negative results, f32 `[c, 1..]` for images
    /// `[n, c, spatial..]`, after all that it does (PReLU), where its kernels can do that; and the
    /// position of that factor among its inputs.
    fn with_slope(&self) -> Option<(std::sync::Arc<dyn Op>, usize)> {
        None
    }

    /// The same operator that also adds a last input, of the output's spec, after all that it
    /// does, where its kernels can do that.
    fn with_residual(&self) -> Option<std::sync::Arc<dyn Op>> {
        None
    }

    /// Whether the output is the input under another shape: the same elements in the same order.
    fn is_view(&self) -> bool {
        false
    }

    /// The same computation in plain Rust with f64 sums, on host tensors in plain layout.
    ///
    /// # Errors
    /// When the values (not the specs) are not allowed, for example an index out of range.
    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>>;
}

/// Checks on an operator's inputs whose errors say what was expected and got.
pub(crate) trait Inputs {
    /// The inputs as an array of exactly `N`.
    fn exactly<const N: usize>(&self, op: &dyn Op) -> Result<&[Spec; N]>;
}

impl Inputs for [Spec] {
    fn exactly<const N: usize>(&self, op: &dyn Op) -> Result<&[Spec; N]> {
        self.try_into().map_err(|_| {
            let plural = if N == 1 { "" } else { "s" };
            Error::op(op.name(), format!("takes {N} input{plural}, got {}", self.len()))
        })
    }
}

/// Checks on one input.
pub(crate) trait Expect {
    /// Fails unless the dtype is one of `dtypes`.
    fn expect_dtype(&self, op: &dyn Op, what: &str, dtypes: &[crate::tensor::DType]) -> Result<()>;
    /// Fails unless the shape is `dims`.
    fn expect_dims(&self, op: &dyn Op, what: &str, dims: &[usize]) -> Result<()>;
}

impl Expect for Spec {
    fn expect_dtype(&self, op: &dyn Op, what: &str, dtypes: &[crate::tensor::DType]) -> Result<()> {
        if dtypes.contains(&self.dtype) {
            return Ok(());
        }
        let names: Vec<&str> = dtypes.iter().map(|dtype| dtype.name()).collect();
        Err(Error::op(op.name(), format!("{what} must be {}, got {self}", names.join(" or "))))
    }

    fn expect_dims(&self, op: &dyn Op, what: &str, dims: &[usize]) -> Result<()> {
        if self.shape.dims() == dims {
            return Ok(());
        }
        Err(Error::op(op.name(), format!("{what} must have shape {dims:?}, got {self}")))
    }
}

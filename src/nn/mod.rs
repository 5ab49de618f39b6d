//! Blocks over [`Graph`](crate::graph::Graph): what the architectures in `models/` are built of.
//! Blocks say what is computed; how it is fused and dispatched is the graph's and the operators'.

mod attention;
mod embedding;
mod image;
mod linear;
mod norm;
mod sampling;
mod self_attention;
mod shape;
mod weights;

pub use attention::{Attention, Cache, Rotary, Rows, rotary_table};
pub use embedding::{add, embedding, scale, select_rows, softcap};
pub use image::{
    Conv2d, Padding, SqueezeExcite, activation, adaptive_avg_pool, avg_pool, batch_norm, channels,
    conv_norm_act, conv_transpose2d, conv2d, conv2d_act, dense, global_avg_pool, max_pool, norm_channels,
    upsample_bilinear, upsample_nearest,
};
pub use linear::{Projection, linear, project};
pub use norm::{Norm, NormKind};
pub use sampling::{count_tokens, sample};
pub use self_attention::SelfAttention;
pub use shape::{
    channels_first, channels_last, concat, concat_channels, every_nth_pixel, expand, flatten, mul,
    pad_channels, pad_to, reshape, select, softmax, split, sum_last, transpose,
};
pub use weights::{Scope, WeightTypes};

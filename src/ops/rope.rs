//! Rotary position embedding (Su et al. 2021, RoFormer) of heads, without a cache.

use super::cases::{Case, Random};
use super::{Expect, Inputs, Op};
use crate::kernel::{Caps, Kernel, Launches, groups, params};
use crate::tensor::{DType, Spec, Tensor};
use crate::{Error, Result};

static ROPE: Kernel = Kernel::new("rope", include_str!("../../shaders/rope.wgsl"));

params!(struct Params {
    elements: u32,
    row_elements: u32,
    head_dim: u32,
    rotary_dim: u32,
    table_rows: u32,
    row_groups: u32,
});

/// Which dimensions of a head turn together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopePairs {
    /// Dimension i with i + rotary_dim / 2 (NeoX, Llama as published on the hub).
    Halves,
    /// Dimension 2 i with 2 i + 1 (GPT-J).
    Interleaved,
}

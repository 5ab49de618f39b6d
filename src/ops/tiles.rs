//! Tiles of outputs in which GPUs compute matrix products, for linear layers, convolutions and
//! products of activations: their sizes, and the inner dimension in parts.

use super::UnaryFn;
use crate::kernel::{Backend, Caps, DeviceKind, Kernel, Launch, Spread, count, params};

static MERGE: Kernel = Kernel::new("merge_parts", include_str!("../../shaders/merge_parts.wgsl"));

params!(
    struct MergeParams {
        items: u32,
        per_group: u32,
        parts: u32,
        cols: u32,
        pitch: u32,
        part: u32,
        alpha: f32,
        beta: f32,
    }
);

/// Most workgroups along the row tiles and along the batches of a product; FOLD in the shaders.
pub(super) const FOLD: u32 = 32_768;

/// Tiles of outputs with their sums in the registers of invocations, see lib/tile.wgsl.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tiles {
    pub(super) rows: u32,
    pub(super) columns: u32,
    /// Vectors of four elements along the inner dimension.
    depth: u32,
    /// Invocations of a workgroup.
    width: u32,
    /// Lanes along the rows; the others lie along the columns.
    row_lanes: u32,
}

impl Tiles {
    /// 8 rows by 8 columns of an invocation: as many products for a load as registers allow.
    pub(super) const T128X128: Self = Self { rows: 128, columns: 128, depth: 2, width: 256, row_lanes: 16 };
    /// 8 by 4.
    pub(super) const T64X64: Self = Self { rows: 64, columns: 64, depth: 4, width: 128, row_lanes: 8 };
    /// 8 by 4, for few rows: most of the time goes into reading the other operand.
    pub(super) const T32X128: Self = Self { rows: 32, columns: 128, depth: 4, width: 128, row_lanes: 4 };
    /// 8 by 4.
    pub(super) const T32X64: Self = Self { rows: 32, columns: 64, depth: 4, width: 64, row_lanes: 4 };
    /// 4 by 4.
    pub(super) const T16X128: Self = Self { rows: 16, columns: 128, depth: 4, width: 128, row_lanes: 4 };

    /// Starts the launch of a kernel that includes lib/tile.wgsl.
    pub(super) fn launch(self, kernel: &Kernel) -> Launch {
        kernel
            .launch()
            .variant("tile_rows", self.rows)
            .variant("tile_columns", self.columns)
            .variant("depth", self.depth)
            .variant("width", self.width)
            .variant("row_lanes", self.row_lanes)
    }
}

/// Tiles of outputs that the subgroups of a workgroup compute by matrix units, see
/// lib/matrix_tile.wgsl.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Matrices {
    pub(super) rows: u32,
    pub(super) columns: u32,
    /// Subgroups along the rows and along the columns.
    teams: [u32; 2],
}

impl Matrices {
    /// Each subgroup has 64 by 32.
    pub(super) const T128X128: Self = Self { rows: 128, columns: 128, teams: [2, 4] };
    /// Each subgroup has 32 by 32.
    pub(super) const T64X64: Self = Self { rows: 64, columns: 64, teams: [2, 2] };
    /// Each subgroup has 32 by 32; for few rows.
    pub(super) const T32X128: Self = Self { rows: 32, columns: 128, teams: [1, 4] };
    /// Each subgroup has 16 by 32.
    pub(super) const T16X128: Self = Self { rows: 16, columns: 128, teams: [1, 4] };

    /// Vectors of four elements along the inner dimension.
    const DEPTH: u32 = 8;

    /// Whether a device has the matrix units, and room for the tiles, and may round a factor of
    /// the products to f16. Kernels count on subgroups of one size.
    pub(super) fn fit(self, caps: &Caps, gated: bool) -> bool {
        let Some(side) = caps.cooperative_matrix else { return false };
        let teams = self.teams[0] * self.teams[1];
        // Elements of a row of a tile, eight of which keep rows in different banks.
        let row = Self::DEPTH * 4 + 8;
        let bytes = 2 * (self.rows + self.columns) * row + 4 * side * side * teams * Self::staged(gated);
        caps.half_products
            && caps.f16
            && caps.subgroups
            && caps.subgroup_min == caps.subgroup_max
            && (!emulated(caps) || (caps.subgroup_max == side && self != Self::T128X128))
            && teams * caps.subgroup_max <= caps.max_workgroup_invocations
            && bytes <= caps.max_workgroup_bytes
    }

    /// Matrices of sums that a subgroup puts into workgroup memory at a time.
    const fn staged(gated: bool) -> u32 {
        if gated { 2 } else { 1 }
    }

    /// Starts the launch of a kernel that includes lib/matrix_tile.wgsl on a device where it
    /// fits.
    pub(super) fn launch(self, kernel: &Kernel, caps: &Caps, gated: bool) -> Launch {
        let side = caps.cooperative_matrix.expect("the device has matrix units");
        // naga's writer for Metal passes a pointer to vectors on as one to scalars.
        let vectors = caps.backend != Backend::Metal;
        kernel
            .launch()
            .variant("side", side)
            .variant("tile_rows", self.rows)
            .variant("tile_columns", self.columns)
            .variant("depth", Self::DEPTH)
            .variant("subgroup", caps.subgroup_max)
            .variant("row_teams", self.teams[0])
            .variant("column_teams", self.teams[1])
            .variant("emulated", emulated(caps))
            .variant("staged", Self::staged(gated))
            .variant("tile_element", if vectors { "vec4<f16>" } else { "f16" })
    }
}

/// Whether shaders do what matrix units would do: on software adapters, which have none, where a
/// test says that they have. The largest tiles, the same with more of everything, would take
/// their compilers minutes.
fn emulated(caps: &Caps) -> bool {
    caps.kind == DeviceKind::Software
}

/// An inner dimension in parts, whose sums different workgroups make, because there are too few
/// tiles to keep a device busy. They are added up in order afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) count: usize,
    /// Blocks of a part; the last may have fewer.
    pub(super) blocks: usize,
}

/// Most parts: more cost more to add up than they gain.
const MOST_PARTS: usize = 16;

impl Parts {
    /// One part.
    pub(super) const fn whole(blocks: usize) -> Self {
        Self { count: 1, blocks }
    }

    /// Two parts or more of `blocks` for so many tiles of all, whole steps of `step` blocks each,
    /// whose `sums` fit one binding; one part where that is not possible.
    pub(super) fn of_tiles(caps: &Caps, tiles: usize, blocks: usize, step: usize, sums: usize) -> Self {
        let fit = usize::try_from(caps.max_binding_bytes / 4).unwrap_or(usize::MAX) / sums.max(1);
        let wanted = (caps.busy_workgroups() / tiles.max(1)).clamp(2, MOST_PARTS).min(fit);
        let of_part = blocks.div_ceil(wanted.max(1)).next_multiple_of(step);
        Self { count: blocks.div_ceil(of_part), blocks: of_part }
    }

    /// Whether so few tiles of an inner dimension of so many elements gain from parts.
    pub(super) fn pay(caps: &Caps, tiles: usize, inner: usize) -> bool {
        2 * tiles <= caps.busy_workgroups() && inner >= 1024
    }

    /// Starts the launch that adds up the sums `[parts, rows, cols]`, gated
    /// `[parts, rows, 2, cols]`, and finishes the outputs `[rows, cols]`. Takes the variants
    /// `bias`, `slope` and `residual` and binds the sums before the operands of these.
    pub(super) fn merge(
        self,
        caps: &Caps,
        [rows, cols]: [usize; 2],
        gated: bool,
        activation: UnaryFn,
    ) -> Launch {
        let value = if cols.is_multiple_of(4) { 4 } else { 1 };
        let cols = cols / value;
        let pitch = if gated { 2 * cols } else { cols };
        let spread = Spread::of_loops(rows * cols, self.count, caps);
        let [alpha, beta] = activation.arguments();
        spread
            .launch(&MERGE)
            .variant("value", if value == 4 { "vec4<f32>" } else { "f32" })
            .variant("gated", gated)
            .activation(activation)
            .params(MergeParams {
                items: spread.items,
                per_group: spread.per_group,
                parts: count(self.count),
                cols: count(cols),
                pitch: count(pitch),
                part: count(rows * pitch),
                alpha,
                beta,
            })
            .work((rows * pitch * value * self.count) as u64)
    }
}

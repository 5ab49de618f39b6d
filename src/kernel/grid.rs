//! How the work of a kernel is spread over workgroups, by the kind of device.
//!
//! [`Spread`] goes with lib/items.wgsl (independent items), [`RowSpread`] with lib/rows.wgsl
//! (rows with sums or maxima over them).

use super::{Caps, Form, Kernel, Launch};

/// Independent items, of which each workgroup takes `per_group` neighbouring ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spread {
    /// Number of items.
    pub items: u32,
    /// Items of a workgroup, a multiple of its width.
    pub per_group: u32,
    groups: u32,
    width: u32,
}

/// Most iterations of all loops of one invocation together; llvmpipe ends them silently after
/// 65,535.
pub const MAX_ITERATIONS: u32 = 60_000;

impl Spread {
    /// Spreads `items` over workgroups.
    pub fn new(items: usize, caps: &Caps) -> Self {
        Self::of_loops(items, 4, caps)
    }

    /// Spreads `items` over workgroups, each of which takes so many iterations of a loop.
    pub fn of_loops(items: usize, iterations: usize, caps: &Caps) -> Self {
        let width = caps.elementwise_width();
        let items = count(items);
        let most = (MAX_ITERATIONS / (count(iterations) + 1)).max(1).saturating_mul(width);
        let wanted = match caps.form() {
            // A workgroup costs about as much as ten items a lane, and a few cores must get equal shares.
            Form::Software => items.div_ceil(16).clamp(width, 1024).min(most),
            Form::Subgroup | Form::Plain => width,
        };
        let per_group = wanted.max(items.div_ceil(caps.max_workgroups)).next_multiple_of(width);
        Self { items, per_group, groups: items.div_ceil(per_group), width }
    }

    /// Starts the launch of a kernel that includes lib/items.wgsl.
    pub fn launch(self, kernel: &Kernel) -> Launch {
        kernel
            .launch()
            .variant("width", self.width)
            .workgroups([self.groups, 1, 1])
            .work(u64::from(self.items) * 4)
    }
}

/// A long axis in parts, each computed by itself and merged by another dispatch: so that sums keep
/// a whole device busy although they are few, and no loop is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split {
    /// Number of parts.
    pub parts: usize,
    /// Elements of a part; the last may have fewer.
    pub length: usize,
}

impl Split {
    /// Splits each of `sums` axes of `length` elements into parts of at most `most` elements.
    pub fn new(length: usize, sums: usize, most: usize, caps: &Caps) -> Self {
        let invocations = match caps.form() {
            Form::Software => 128,
            Form::Subgroup | Form::Plain => 16_384,
        };
        // Shorter parts, or only a few, are not worth another dispatch.
        let wanted = (invocations / sums.max(1)).min(length / 64);
        let parts = if wanted < 4 { 1 } else { wanted };
        let length_of_part = length.div_ceil(parts.max(length.div_ceil(most))).max(1);
        Self { parts: length.div_ceil(length_of_part).max(1), length: length_of_part }
    }
}

/// Most iterations of a loop over a row; kernels have up to four such loops.
const LONG_ROW: u32 = MAX_ITERATIONS / 4;

/// Rows with sums over them, of which each workgroup takes `rows_per_group` neighbouring ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowSpread {
    /// Number of rows.
    pub rows: u32,
    /// Chunks of a row: vectors of four elements where the row's length allows, else elements.
    pub chunks: u32,
    /// Whether chunks are vectors.
    pub vectors: bool,
    /// Rows of a workgroup.
    pub rows_per_group: u32,
    groups: u32,
    width: u32,
    by: &'static str,
}

impl RowSpread {
    /// Spreads rows of `cols` elements over workgroups.
    pub fn new(rows: usize, cols: usize, caps: &Caps) -> Self {
        let vectors = cols.is_multiple_of(4);
        Self::of_chunks(rows, if vectors { cols / 4 } else { cols }, vectors, caps)
    }

    /// Spreads rows of `chunks` vectors or elements over workgroups.
    pub fn of_chunks(rows: usize, chunks: usize, vectors: bool, caps: &Caps) -> Self {
        let (rows, chunks) = (count(rows), count(chunks));
        let by_lanes = chunks.div_ceil(caps.subgroup_min.clamp(1, 8));
        let (by, width, wanted, iterations) = match caps.form() {
            // Eight lanes share a row: as many loads as with a row each, and one row is not left to one lane.
            Form::Software if caps.subgroups && by_lanes <= LONG_ROW => {
                ("subgroup", 8, rows.div_ceil(16).min(16), by_lanes)
            }
            Form::Software if !caps.subgroups && chunks <= LONG_ROW => {
                ("lane", 8, rows.div_ceil(16).next_multiple_of(8).min(64), chunks.div_ceil(8))
            }
            Form::Subgroup if chunks <= 128 => {
                ("subgroup", caps.elementwise_width(), (64 / caps.subgroup_max).max(1), 1)
            }
            _ => {
                let plain = !caps.subgroups || caps.form() == Form::Plain;
                let width = row_width(chunks, caps);
                (if plain { "plain" } else { "workgroup" }, width, 1, chunks.div_ceil(width))
            }
        };
        let most = (LONG_ROW / iterations.max(1)).max(1);
        let rows_per_group = wanted.min(most).max(rows.div_ceil(caps.max_workgroups));
        Self { rows, chunks, vectors, rows_per_group, groups: rows.div_ceil(rows_per_group), width, by }
    }

    /// How a kernel that can do so splits these rows, in chunks.
    pub fn split(&self, caps: &Caps) -> Split {
        let width = self.width as usize;
        let lanes =
            Split::new((self.chunks as usize).div_ceil(width), self.rows as usize * width, usize::MAX, caps);
        Split { length: lanes.length * width, ..lanes }
    }

    /// Starts the launch of a kernel that includes lib/rows.wgsl.
    pub fn launch(self, kernel: &Kernel) -> Launch {
        kernel
            .launch()
            .variant("row_by", self.by)
            .variant("width", self.width)
            .variant("vectors", self.vectors)
            .workgroups([self.groups, 1, 1])
            .work(u64::from(self.rows) * u64::from(self.chunks) * if self.vectors { 4 } else { 1 })
    }
}

/// Invocations of a workgroup that computes a row: two classes, to have few shaders.
fn row_width(chunks: u32, caps: &Caps) -> u32 {
    let wanted = match chunks {
        0..=64 => 64,
        65..=4096 => 256,
        _ => 1024,
    };
    let limit = caps.max_workgroup_invocations;
    wanted.min(if limit.is_power_of_two() { limit } else { limit.next_power_of_two() / 2 })
}

/// A number of elements as the kernels count them.
///
/// # Panics
/// When it is 2^32 or more: no binding holds so many.
pub fn count(elements: usize) -> u32 {
    u32::try_from(elements).expect("a binding holds less than 2^32 elements")
}

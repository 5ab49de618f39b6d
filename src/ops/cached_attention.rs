//! Attention of decoder rows over the key-value cache, with online softmax: no matrix of scores
//! is ever stored. Knows where keys and values lie only through `shaders/lib/kv.wgsl`; rotation
//! and writing of the cache are [`RopeCache`](super::RopeCache).

use super::attention::{TILES, scale_and_cap};
use super::cases::{Case, Random};
use super::{Cost, Expect, Inputs, Op};
use crate::kernel::{Candidate, Caps, Family, Form, Kernel, Launch, Launches, Operand, Rule};
use crate::kernel::{groups, params, size_class};
use crate::tensor::{DType, Spec, Tensor};
use crate::{Error, Result};

static ATTENTION: Kernel = Kernel::new("attention", include_str!("../../shaders/attention.wgsl"));
static ATTENTION_MERGE: Kernel =
    Kernel::new("attention_merge", include_str!("../../shaders/attention_merge.wgsl"));

params!(
    struct Params {
        rows: u32,
        heads: u32,
        kv_heads: u32,
        head_dim: u32,
        head_vectors: u32,
        slots: u32,
        context: u32,
        window: u32,
        row_step: u32,
        head_step: u32,
        head_groups: u32,
        splits: u32,
        scale: f32,
        softcap: f32,
    }
);

params!(
    struct TileParams {
        rows: u32,
        heads: u32,
        kv_heads: u32,
        head_dim: u32,
        head_vectors: u32,
        slots: u32,
        context: u32,
        window: u32,
        scale: f32,
        softcap: f32,
    }
);

params!(
    struct MergeParams {
        items: u32,
        head_dim: u32,
        head_vectors: u32,
        splits: u32,
        row_groups: u32,
    }
);

/// Largest head that the kernels hold in registers.
const MAX_HEAD_DIM: usize = 256;

/// Rows of one sequence from which on the tiled kernel of GPUs is used.
const TILE_FROM_ROWS: usize = 9;

/// Workgroups that keep a GPU busy; the keys of a query are split between several until there are so many.
const BUSY_WORKGROUPS: usize = 256;

/// Slot of a row that belongs to no sequence.
pub const INACTIVE: u32 = u32::MAX;

/// Elements from one head to the next in queries, keys and values: `head_dim` rounded up to whole
/// vectors of four. The padding is zero.
pub const fn head_pitch(head_dim: usize) -> usize {
    head_dim.div_ceil(4) * 4
}

/// Causal attention over the cache of keys and values (grouped-query, Ainslie et al. 2023).
///
/// Inputs: queries f32 `[rows, heads, head_pitch]`; keys and values f32
/// `[slots, kv_heads, context, head_pitch]`; positions u32 `[rows]`; slots u32 `[rows]`.
/// Output: f32 `[rows, heads * head_dim]`. A row at position p of slot s attends to the keys 0..=p
/// of slot s; a row whose slot is [`INACTIVE`] gives zeros.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CachedAttention {
    /// Heads of the queries, a multiple of `kv_heads`.
    pub heads: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Elements of a head, at most 256.
    pub head_dim: usize,
    /// Factor of the scores, mostly 1 / sqrt(head_dim).
    #[serde(with = "super::float")]
    pub scale: f32,
    /// Limits scores to `cap * tanh(score / cap)` (Gemma 2).
    #[serde(with = "super::float")]
    pub softcap: Option<f32>,
    /// Number of keys that a row sees, its own included (sliding window, Mistral).
    pub window: Option<u32>,
    /// All active rows belong to one slot, have consecutive positions, and come first.
    pub one_sequence: bool,
}

/// How the invocations of `attention.wgsl` share the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sharing {
    /// Invocations of a workgroup.
    width: u32,
    /// Invocations that share a key.
    cluster: usize,
    /// Vectors of a head in one invocation.
    vectors: usize,
    /// Queries of a workgroup.
    queries: usize,
    /// Whether these are rows of one sequence, not heads of one row.
    across_rows: bool,
}

impl CachedAttention {
    fn head_vectors(&self) -> usize {
        head_pitch(self.head_dim) / 4
    }

    fn heads_per_kv(&self) -> usize {
        self.heads / self.kv_heads
    }

    fn sharing(&self, caps: &Caps, rows: usize) -> Sharing {
        let head_vectors = self.head_vectors();
        let software = caps.form() == Form::Software;
        // Two vectors in an invocation while the cluster allows.
        let cluster = (head_vectors.next_power_of_two() / 2).clamp(1, 8);
        let vectors = smallest_class(head_vectors.div_ceil(cluster), &[1, 2, 3, 4, 6, 8]);
        let width = match head_vectors {
            _ if software => 8,
            ..=32 => 128,
            _ => 64,
        };
        let across_rows = software && self.one_sequence && rows >= TILE_FROM_ROWS;
        let most = if across_rows { rows } else { self.heads_per_kv() };
        // Queries share the loads of keys and values. Sixteen of their vectors in an invocation:
        // twice as many compile three times as long on lavapipe and run 1.4 times as fast.
        let mut queries = most.next_power_of_two().min(8).min((16 / vectors).max(1));
        // At least four workgroups, so that two cores get two each.
        while queries > 1 && !across_rows && rows * self.kv_heads * self.heads_per_kv().div_ceil(queries) < 4
        {
            queries /= 2;
        }
        Sharing { width, cluster, vectors, queries, across_rows }
    }

    /// In that many parts of the keys, or as many as keep the device busy.
    fn launch_shared(
        &self,
        caps: &Caps,
        rows: usize,
        slots: usize,
        context: usize,
        splits: Option<usize>,
    ) -> Launches {
        let sharing = self.sharing(caps, rows);
        let software = caps.form() == Form::Software;
        let (row_groups, head_groups) = if sharing.across_rows {
            (rows.div_ceil(sharing.queries), self.heads_per_kv())
        } else {
            (rows, self.heads_per_kv().div_ceil(sharing.queries))
        };
        let workgroups = row_groups * self.kv_heads * head_groups;
        let busy = if software { 1 } else { BUSY_WORKGROUPS / workgroups };
        let splits = splits.unwrap_or(busy).min(context / sharing.width as usize).max(1);
        let subgroup =
            caps.subgroups && caps.form() != Form::Plain && caps.subgroup_min as usize >= sharing.cluster;
        let (scale, softcap) = scale_and_cap(self.scale, self.softcap);
        let attention = ATTENTION
            .launch()
            .variant("form", if subgroup { "subgroup" } else { "plain" })
            .variant("width", sharing.width)
            .variant("cluster", number(sharing.cluster))
            .variant("vectors", number(sharing.vectors))
            .variant("queries", number(sharing.queries))
            .variant("split", splits > 1)
            .variant("softcap", self.softcap.is_some())
            .params(Params {
                rows: number(rows),
                heads: number(self.heads),
                kv_heads: number(self.kv_heads),
                head_dim: number(self.head_dim),
                head_vectors: number(self.head_vectors()),
                slots: number(slots),
                context: number(context),
                window: self.window.unwrap_or(u32::MAX),
                row_step: sharing.across_rows.into(),
                head_step: (!sharing.across_rows).into(),
                head_groups: number(head_groups),
                splits: number(splits),
                scale,
                softcap,
            })
            .workgroups([number(self.kv_heads * head_groups), number(row_groups), number(splits)])
            .work(self.work(rows, context));
        if splits == 1 {
            return attention.bind_all(5, 1).into();
        }
        let inputs = (0..5).map(Operand::Input);
        let partial = Spec::f32([splits, rows, self.heads, head_pitch(self.head_dim) + 4]);
        Launches {
            steps: vec![attention.bind(inputs.chain([Operand::Scratch(0)])), self.merge(caps, rows, splits)],
            scratch: vec![partial],
            ..Launches::default()
        }
    }

    fn merge(&self, caps: &Caps, rows: usize, splits: usize) -> Launch {
        let width = caps.elementwise_width();
        let count = groups(rows * self.heads * self.head_vectors(), width);
        let row_groups = count.min(caps.max_workgroups);
        ATTENTION_MERGE
            .launch()
            .variant("width", width)
            .params(MergeParams {
                items: number(rows * self.heads),
                head_dim: number(self.head_dim),
                head_vectors: number(self.head_vectors()),
                splits: number(splits),
                row_groups,
            })
            .bind([Operand::Scratch(0), Operand::Output(0)])
            .workgroups([row_groups, count.div_ceil(row_groups), 1])
            .work((splits * rows * self.heads * self.head_dim) as u64)
    }

    fn launch_tiles(&self, rows: usize, slots: usize, context: usize) -> Launch {
        let (scale, softcap) = scale_and_cap(self.scale, self.softcap);
        TILES
            .launch()
            .variant("operands", "cached")
            .variant("vectors", true)
            .variant("mask", false)
            .variant("slices", number(smallest_class(self.head_vectors().div_ceil(8), &[1, 2, 3, 4, 8])))
            .variant("softcap", self.softcap.is_some())
            .params(TileParams {
                rows: number(rows),
                heads: number(self.heads),
                kv_heads: number(self.kv_heads),
                head_dim: number(self.head_dim),
                head_vectors: number(self.head_vectors()),
                slots: number(slots),
                context: number(context),
                window: self.window.unwrap_or(u32::MAX),
                scale,
                softcap,
            })
            .bind_all(5, 1)
            .workgroups([number(self.heads), groups(rows, 32), 1])
            .work(self.work(rows, context))
    }

    /// Multiply-adds at half the capacity.
    fn work(&self, rows: usize, context: usize) -> u64 {
        let keys = self.window.map_or(context, |window| context.min(window as usize));
        (rows * self.heads * self.head_dim) as u64 * keys as u64
    }
}

/// How attention over a cache is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    /// In tiles of rows of one sequence.
    Tiles,
    /// By queries that share the loads of keys and values, in that many parts of the keys, or as
    /// many as keep the device busy.
    Shared(Option<usize>),
}

/// What is known of a shape when a choice is made.
#[derive(Debug)]
struct Sizes {
    rows: usize,
    context: usize,
    /// Heads, key heads, elements of a head.
    heads: [usize; 3],
    one_sequence: bool,
}

impl std::fmt::Display for Sizes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [heads, kv_heads, head_dim] = self.heads;
        let (rows, context) = (size_class(self.rows), self.context.next_power_of_two());
        let of = if self.one_sequence { "of one" } else { "of any" };
        write!(f, "{rows} rows {of}, {heads}/{kv_heads}x{head_dim}, {context} keys")
    }
}

static FAMILY: Family<Sizes, Choice> = Family {
    name: "cached_attention",
    choices: &[
        Candidate::new("tiles", Choice::Tiles, |caps, it| it.one_sequence && caps.form() != Form::Software),
        Candidate::new("shared", Choice::Shared(None), |_, _| true),
        Candidate::new("split1", Choice::Shared(Some(1)), |caps, _| caps.form() != Form::Software),
        Candidate::new("split4", Choice::Shared(Some(4)), |caps, _| caps.form() != Form::Software),
        Candidate::new("split16", Choice::Shared(Some(16)), |caps, _| caps.form() != Form::Software),
    ],
    rules: &[
        Rule::new(Choice::Tiles, |_, it| it.rows >= TILE_FROM_ROWS, "many rows of one sequence share keys"),
        Rule::new(Choice::Shared(None), |_, _| true, "parts of the keys keep the device busy"),
    ],
};

fn number(value: usize) -> u32 {
    u32::try_from(value).expect("sizes of a validated operator fit in 32 bits")
}

fn smallest_class(need: usize, classes: &[usize]) -> usize {
    classes.iter().copied().find(|&class| class >= need).expect("the head size was checked")
}

impl Op for CachedAttention {
    fn name(&self) -> &'static str {
        "cached_attention"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [q, keys, values, positions, slots] = inputs.exactly(self)?;
        if self.head_dim == 0 || self.head_dim > MAX_HEAD_DIM {
            return Err(Error::op(self.name(), format!("head size must be 1 to 256, got {}", self.head_dim)));
        }
        if self.kv_heads == 0 || self.heads == 0 || !self.heads.is_multiple_of(self.kv_heads) {
            let message = format!("{} heads are no multiple of {} key heads", self.heads, self.kv_heads);
            return Err(Error::op(self.name(), message));
        }
        if self.window == Some(0) || self.softcap.is_some_and(|cap| cap <= 0.0) {
            return Err(Error::op(self.name(), "window and softcap must be above zero"));
        }
        for (what, spec) in [("queries", q), ("keys", keys), ("values", values)] {
            spec.expect_dtype(self, what, &[DType::F32])?;
        }
        let (rows, pitch) = (*q.shape.dims().first().unwrap_or(&0), head_pitch(self.head_dim));
        q.expect_dims(self, "queries", &[rows, self.heads, pitch])?;
        let dims = keys.shape.dims();
        let (slot_count, context) = if dims.len() == 4 { (dims[0], dims[2]) } else { (0, 0) };
        keys.expect_dims(self, "keys", &[slot_count, self.kv_heads, context, pitch])?;
        values.expect_dims(self, "values", keys.shape.dims())?;
        for (what, spec) in [("positions", positions), ("slots", slots)] {
            spec.expect_dtype(self, what, &[DType::U32])?;
            spec.expect_dims(self, what, &[rows])?;
        }
        Ok(vec![Spec::f32([rows, self.heads * self.head_dim])])
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], _: &[Spec]) -> Result<Launches> {
        let (rows, dims) = (inputs[0].shape.dims()[0], inputs[1].shape.dims());
        if rows > caps.max_workgroups as usize {
            let message = format!("takes at most {} rows on this device, got {rows}", caps.max_workgroups);
            return Err(Error::op(self.name(), message));
        }
        let sizes = Sizes {
            rows,
            context: dims[2],
            heads: [self.heads, self.kv_heads, self.head_dim],
            one_sequence: self.one_sequence,
        };
        let (choice, selected) = FAMILY.select(caps, &sizes);
        let launches = match choice {
            Choice::Tiles => self.launch_tiles(rows, dims[0], dims[2]).into(),
            Choice::Shared(splits) => self.launch_shared(caps, rows, dims[0], dims[2], splits),
        };
        Ok(launches.selected(selected))
    }

    fn cost(&self, inputs: &[Spec], outputs: &[Spec]) -> Cost {
        let (q, keys) = (&inputs[0].shape, &inputs[1].shape.dims());
        let (rows, context) = (q.dims()[0], keys[2]);
        let window = self.window.map_or(context, |window| context.min(window as usize));
        // The rows of a prompt are the last ones of their sequence, others the last of one each.
        let seen = |row: usize| {
            let before = if self.one_sequence { rows - 1 - row.min(rows - 1) } else { 0 };
            window.min(context.saturating_sub(before))
        };
        let pairs = self.heads * (0..rows).map(seen).sum::<usize>();
        let read = if self.one_sequence { context.min(window + rows) } else { rows * window };
        let cached = 2 * 4 * self.kv_heads * read * head_pitch(self.head_dim);
        let queries = Cost::of_traffic(&inputs[..1], outputs);
        Cost { read: queries.read + cached as u64, ..queries }
            .products(2 * pairs * self.head_dim)
            .functions(pairs)
    }

    fn cost_depends_on_values(&self) -> bool {
        true
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let (q, keys, values) = (inputs[0].to_f64(), inputs[1].to_f64(), inputs[2].to_f64());
        let (positions, slots) = (inputs[3].to_u32(), inputs[4].to_u32());
        let (slot_count, context) = (inputs[1].dims()[0], inputs[1].dims()[2]);
        let pitch = head_pitch(self.head_dim);
        let mut output = Vec::with_capacity(positions.len() * self.heads * self.head_dim);
        for (row, (&position, &slot)) in positions.iter().zip(&slots).enumerate() {
            for head in 0..self.heads {
                if slot as usize >= slot_count {
                    output.extend(std::iter::repeat_n(0.0, self.head_dim));
                    continue;
                }
                let q = &q[(row * self.heads + head) * pitch..][..self.head_dim];
                let base = (slot as usize * self.kv_heads + head / self.heads_per_kv()) * context * pitch;
                let end = (position as usize + 1).min(context);
                let begin = end.saturating_sub(self.window.map_or(end, |window| window as usize));
                output.extend(self.attend(q, &keys[base..], &values[base..], begin..end));
            }
        }
        Ok(vec![Tensor::from_f64(DType::F32, [positions.len(), self.heads * self.head_dim], &output)])
    }
}

impl CachedAttention {
    /// One query over a range of keys, by the definition.
    fn attend(&self, q: &[f64], keys: &[f64], values: &[f64], range: std::ops::Range<usize>) -> Vec<f64> {
        let pitch = head_pitch(self.head_dim);
        let score = |key: usize| {
            let dot: f64 = q.iter().zip(&keys[key * pitch..]).map(|(q, k)| q * k).sum();
            let score = dot * f64::from(self.scale);
            self.softcap.map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh())
        };
        let scores: Vec<f64> = range.clone().map(score).collect();
        let highest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|score| (score - highest).exp()).collect();
        let total: f64 = weights.iter().sum();
        let mut sums = vec![0.0; self.head_dim];
        for (weight, key) in weights.iter().zip(range) {
            for (sum, value) in sums.iter_mut().zip(&values[key * pitch..]) {
                *sum += weight / total * value;
            }
        }
        sums
    }
}

/// Shapes of one case.
struct Shapes {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    rows: usize,
    context: usize,
    /// Position of the first row where all rows are of one sequence.
    start: Option<usize>,
    window: Option<u32>,
    softcap: Option<f32>,
}

/// Multi-head, grouped and multi-query attention; mixed and inactive slots; prompt chunks that
/// start at and after the beginning; windows below, at and above the length; heads of odd sizes.
pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut random = Random::new(41);
    let mut add = |dims: [usize; 5], start: Option<usize>, window: Option<u32>, softcap: Option<f32>| {
        let [heads, kv_heads, head_dim, rows, context] = dims;
        let shapes = Shapes { heads, kv_heads, head_dim, rows, context, start, window, softcap };
        cases.push(case(&mut random, &shapes));
    };
    // Heads, key heads, size of a head, rows, context.
    for (dims, window) in [
        ([1, 1, 8, 1, 1], None),
        ([2, 2, 10, 3, 7], None),
        ([6, 2, 20, 8, 64], Some(5)),
        ([8, 1, 64, 3, 130], None),
        ([3, 3, 80, 2, 300], Some(300)),
        ([4, 4, 128, 1, 64], Some(400)),
        ([14, 2, 16, 5, 33], None),
        ([2, 1, 256, 3, 70], None),
        ([4, 2, 12, 33, 50], Some(1)),
        ([2, 2, 64, 1, 2100], None),
    ] {
        add(dims, None, window, None);
    }
    for (dims, start, window) in [
        ([2, 2, 64, 8, 64], 3, None),
        ([4, 2, 8, 9, 9], 0, None),
        ([3, 1, 10, 33, 40], 0, Some(6)),
        ([2, 1, 20, 65, 130], 50, Some(33)),
        ([2, 2, 64, 65, 64], 0, None),
        ([4, 1, 80, 33, 64], 20, Some(64)),
        ([2, 1, 128, 33, 300], 250, None),
        ([1, 1, 256, 9, 64], 40, Some(100)),
    ] {
        add(dims, Some(start), window, None);
    }
    add([4, 2, 16, 3, 40], None, None, Some(2.0));
    add([2, 1, 16, 33, 40], Some(1), None, Some(2.0));
    cases
}

/// Random heads with zeros as padding; the last of `dims` is the size of a head.
pub(super) fn padded(random: &mut Random, dims: &[usize], scale: f64) -> Tensor {
    let heads = random.tensor(DType::F32, dims, scale);
    let (_, head_dim) = heads.spec().shape.rows_and_cols();
    let pitch = head_pitch(head_dim);
    let pad = |head: &[f64]| [head, &vec![0.0; pitch - head_dim]].concat();
    let values: Vec<f64> = heads.to_f64().chunks(head_dim).flat_map(pad).collect();
    let mut dims = dims.to_vec();
    *dims.last_mut().expect("heads have dimensions") = pitch;
    Tensor::from_f64(DType::F32, dims, &values)
}

fn case(random: &mut Random, shapes: &Shapes) -> Case {
    let &Shapes { heads, kv_heads, head_dim, rows, context, start, window, softcap } = shapes;
    let slot_count = if start.is_some() { 2 } else { 3 };
    let op = CachedAttention {
        heads,
        kv_heads,
        head_dim,
        scale: 1.0 / (head_dim as f32).sqrt(),
        softcap,
        window,
        one_sequence: start.is_some(),
    };
    let (mut positions, mut slots) = (vec![0; rows], vec![INACTIVE; rows]);
    // The last row of a prompt chunk, and one row in the middle of mixed ones, are inactive.
    for row in 0..rows {
        match start {
            Some(start) if row == 0 || (row + 1 < rows && start + row < context) => {
                (positions[row], slots[row]) = (number(start + row), 1);
            }
            None if rows == 1 || row != rows / 2 => {
                let position = if row == 0 { number(context) - 1 } else { random.below(number(context)) };
                (positions[row], slots[row]) = (position, random.below(number(slot_count)));
            }
            _ => {}
        }
    }
    let cache = [slot_count, kv_heads, context, head_dim];
    let inputs = vec![
        // Large enough for weights that differ.
        padded(random, &[rows, heads, head_dim], 3.0),
        padded(random, &cache, 1.0),
        padded(random, &cache, 1.0),
        Tensor::from_u32([rows], &positions),
        Tensor::from_u32([rows], &slots),
    ];
    let kind = if start.is_some() { "chunk" } else { "mixed" };
    let name =
        format!("{kind}, {rows} rows, {heads}/{kv_heads} heads of {head_dim}, context {context}, {window:?}");
    Case::new(name, op, inputs)
}

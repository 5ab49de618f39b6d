//! Attention over keys and values that are given as a whole, with online softmax: no matrix of
//! scores is ever stored. Attention over a cache is [`CachedAttention`](super::CachedAttention).

mod cases;

use super::strided::broadcast_strides;
use super::{Cost, Expect, Op};
use crate::kernel::{Candidate, Caps, Family, Form, Kernel, Launches, MAX_ITERATIONS, Operand, Rule};
use crate::kernel::{count, groups, params, size_class};
use crate::tensor::{DType, Shape, Spec, Tensor};
use crate::{Error, Result};
pub(super) use cases::cases;
use std::f32::consts::LOG2_E;

static ROWS: Kernel = Kernel::new("attention_rows", include_str!("../../shaders/attention_rows.wgsl"));
/// Also that of [`CachedAttention`](super::CachedAttention) on prompts.
pub(super) static TILES: Kernel =
    Kernel::new("attention_tile", include_str!("../../shaders/attention_tile.wgsl"));

params!(
    struct Params {
        q: [u32; 4],
        k: [u32; 4],
        v: [u32; 4],
        output: [u32; 4],
        mask: [u32; 4],
        tokens: u32,
        keys: u32,
        kv_heads: u32,
        group_heads: u32,
        pairs: u32,
        head_dim: u32,
        value_dim: u32,
        lead: i32,
        window: i32,
        scale: f32,
        softcap: f32,
    }
);

/// Most workgroups along batches and key heads; FOLD in the shaders.
const FOLD: u32 = 32_768;

/// Keys of a step of the kernels.
const STEP: usize = 32;

/// Most tokens and keys, so that positions are i32.
const MAX_TOKENS: usize = 1 << 29;

/// Scale and cap of scores for exponentials to the base two.
pub(super) fn scale_and_cap(scale: f32, softcap: Option<f32>) -> (f32, f32) {
    match softcap {
        Some(cap) => (scale / cap, cap * LOG2_E),
        None => (scale * LOG2_E, 0.0),
    }
}

/// How queries, keys, values and the output lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum HeadLayout {
    /// q `[n, heads, t, d]`, k `[n, kv_heads, s, d]`, v `[n, kv_heads, s, dv]`; the output is
    /// `[n, heads, t, dv]`.
    HeadsFirst,
    /// As projections give them: q `[n, t, heads * d]`, k `[n, s, kv_heads * d]`,
    /// v `[n, s, kv_heads * dv]`; the output is `[n, t, heads * dv]`.
    TokensFirst,
    /// One input `[n, t, (heads + 2 kv_heads) * d]`: of each token its queries, then its keys,
    /// then its values; the output is `[n, t, heads * d]`.
    Packed,
}

/// softmax(scale q kᵀ + mask) v for each head (Vaswani et al. 2017); several heads may share one
/// head of keys and values (grouped-query, Ainslie et al. 2023).
///
/// Inputs, all f32: q, k and v as the [`HeadLayout`] says; with `mask` one that broadcasts to
/// `[n, heads, t, s]` and is added to the scores, where minus infinity hides a key; values below
/// -1e29 count as that. Output: f32, as the layout says. A token that sees no key gives zeros.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attention {
    /// Heads of the queries, a multiple of `kv_heads`.
    pub heads: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Factor of the scores, mostly 1 / sqrt(d).
    #[serde(with = "super::float")]
    pub scale: f32,
    /// Limits scores, before the mask, to `cap * tanh(score / cap)` (Gemma 2).
    #[serde(with = "super::float")]
    pub softcap: Option<f32>,
    /// Token i sees the keys 0..=i + this; all where there is none. Where the tokens are the last
    /// of the keys, it is s - t.
    pub causal: Option<i32>,
    /// Number of keys that a token sees, those after it not counted (sliding window, Mistral);
    /// needs `causal`.
    pub window: Option<u32>,
    /// Whether there is a mask.
    pub mask: bool,
    /// How the inputs lie.
    pub layout: HeadLayout,
}

/// Lower finite numbers of a mask count as this.
const LOWEST: f64 = -1e29;

/// First element, and elements from one batch, head and token to the next.
type View = [usize; 4];

/// What an operator computes, by sizes and strides.
#[derive(Debug)]
struct Problem {
    batches: usize,
    tokens: usize,
    keys: usize,
    head_dim: usize,
    value_dim: usize,
    q: View,
    k: View,
    v: View,
    output: View,
    /// Elements of the mask from one batch, head, token and key to the next.
    mask: [usize; 4],
    output_dims: Vec<usize>,
}

fn heads_first(heads: usize, tokens: usize, dim: usize) -> View {
    [0, heads * tokens * dim, tokens * dim, dim]
}

/// Heads of a token side by side, from element `first` of `width` on.
fn tokens_first(first: usize, width: usize, tokens: usize, dim: usize) -> View {
    [first, tokens * width, dim, width]
}

impl Attention {
    fn fail<T>(&self, message: String) -> Result<T> {
        Err(Error::op(self.name(), message))
    }

    fn check(&self) -> Result<()> {
        if self.kv_heads == 0 || self.heads == 0 || !self.heads.is_multiple_of(self.kv_heads) {
            return self.fail(format!("{} heads are no multiple of {} key heads", self.heads, self.kv_heads));
        }
        if self.softcap.is_some_and(|cap| cap <= 0.0) || self.window == Some(0) {
            return self.fail("window and softcap must be above zero".into());
        }
        if self.window.is_some() && self.causal.is_none() {
            return self.fail("a window needs causal attention".into());
        }
        Ok(())
    }

    fn problem(&self, inputs: &[Spec]) -> Result<Problem> {
        self.check()?;
        let views = if self.layout == HeadLayout::Packed { 1 } else { 3 };
        let expected = views + usize::from(self.mask);
        if inputs.len() != expected {
            return self.fail(format!("takes {expected} inputs, got {}", inputs.len()));
        }
        for (input, what) in inputs.iter().zip(["q", "k", "v", "the mask"]) {
            let what = if inputs.len() < 3 { "an input" } else { what };
            input.expect_dtype(self, what, &[DType::F32])?;
        }
        let mut problem = match self.layout {
            HeadLayout::HeadsFirst => self.heads_first(inputs)?,
            HeadLayout::TokensFirst => self.tokens_first(inputs)?,
            HeadLayout::Packed => self.packed(&inputs[0])?,
        };
        if problem.head_dim == 0 {
            return self.fail("heads must have at least one element".into());
        }
        if problem.tokens > MAX_TOKENS || problem.keys > MAX_TOKENS {
            return self.fail(format!("takes at most {MAX_TOKENS} tokens and keys"));
        }
        if self.mask {
            let scores = Shape::from([problem.batches, self.heads, problem.tokens, problem.keys]);
            let mask = &inputs[inputs.len() - 1];
            if mask.shape.broadcast(&scores).as_ref() != Some(&scores) {
                return self.fail(format!("the mask must broadcast to {scores}, got {mask}"));
            }
            let strides = broadcast_strides(&mask.shape, &scores);
            problem.mask = std::array::from_fn(|axis| strides[axis].unsigned_abs());
        }
        Ok(problem)
    }

    fn heads_first(&self, inputs: &[Spec]) -> Result<Problem> {
        let [q, k, v] = [0, 1, 2].map(|i| inputs[i].shape.dims());
        let (&[batches, _, tokens, head_dim], &[_, _, keys, _], &[.., value_dim]) = (q, k, v) else {
            return self.fail(format!("q, k and v must have 4 axes, got {q:?}, {k:?} and {v:?}"));
        };
        let (heads, kv_heads) = (self.heads, self.kv_heads);
        inputs[0].expect_dims(self, "q", &[batches, heads, tokens, head_dim])?;
        inputs[1].expect_dims(self, "k", &[batches, kv_heads, keys, head_dim])?;
        inputs[2].expect_dims(self, "v", &[batches, kv_heads, keys, value_dim])?;
        Ok(Problem {
            batches,
            tokens,
            keys,
            head_dim,
            value_dim,
            q: heads_first(heads, tokens, head_dim),
            k: heads_first(kv_heads, keys, head_dim),
            v: heads_first(kv_heads, keys, value_dim),
            output: heads_first(heads, tokens, value_dim),
            mask: [0; 4],
            output_dims: vec![batches, heads, tokens, value_dim],
        })
    }

    fn tokens_first(&self, inputs: &[Spec]) -> Result<Problem> {
        let [q, k, v] = [0, 1, 2].map(|i| inputs[i].shape.dims());
        let (&[batches, tokens, q_width], &[_, keys, _], &[.., v_width]) = (q, k, v) else {
            return self.fail(format!("q, k and v must have 3 axes, got {q:?}, {k:?} and {v:?}"));
        };
        let (heads, kv_heads) = (self.heads, self.kv_heads);
        let (head_dim, value_dim) = (q_width / heads, v_width / kv_heads);
        let k_width = kv_heads * head_dim;
        inputs[0].expect_dims(self, "q", &[batches, tokens, heads * head_dim])?;
        inputs[1].expect_dims(self, "k", &[batches, keys, k_width])?;
        inputs[2].expect_dims(self, "v", &[batches, keys, kv_heads * value_dim])?;
        Ok(Problem {
            batches,
            tokens,
            keys,
            head_dim,
            value_dim,
            q: tokens_first(0, q_width, tokens, head_dim),
            k: tokens_first(0, k_width, keys, head_dim),
            v: tokens_first(0, v_width, keys, value_dim),
            output: tokens_first(0, heads * value_dim, tokens, value_dim),
            mask: [0; 4],
            output_dims: vec![batches, tokens, heads * value_dim],
        })
    }

    fn packed(&self, qkv: &Spec) -> Result<Problem> {
        let (heads, kv_heads) = (self.heads, self.kv_heads);
        let &[batches, tokens, width] = qkv.shape.dims() else {
            return self.fail(format!("queries, keys and values must have 3 axes, got {qkv}"));
        };
        let all_heads = kv_heads.saturating_mul(2).saturating_add(heads);
        let dim = width / all_heads;
        qkv.expect_dims(self, "queries, keys and values", &[batches, tokens, all_heads * dim])?;
        let view = |first| tokens_first(first * dim, width, tokens, dim);
        Ok(Problem {
            batches,
            tokens,
            keys: tokens,
            head_dim: dim,
            value_dim: dim,
            q: view(0),
            k: view(heads),
            v: view(heads + kv_heads),
            output: tokens_first(0, heads * dim, tokens, dim),
            mask: [0; 4],
            output_dims: vec![batches, tokens, heads * dim],
        })
    }

    /// The keys that a token sees, the mask aside.
    fn visible(&self, token: usize, keys: usize) -> std::ops::Range<usize> {
        let Some(lead) = self.causal else { return 0..keys };
        let end = token as i64 + i64::from(lead) + 1;
        let begin = self.window.map_or(0, |window| end - i64::from(window));
        let inside = |position: i64| usize::try_from(position).unwrap_or(0).min(keys);
        inside(begin)..inside(end)
    }
}

impl Problem {
    fn params(&self, op: &Attention, vectors: bool) -> Params {
        let unit = if vectors { 4 } else { 1 };
        let view = |view: View| view.map(|step| count(step / unit));
        let clamped = |value: usize| i32::try_from(value).unwrap_or(i32::MAX);
        let (scale, softcap) = scale_and_cap(op.scale, op.softcap);
        // Sums with positions stay below 2^31.
        let most = MAX_TOKENS as i32;
        Params {
            q: view(self.q),
            k: view(self.k),
            v: view(self.v),
            output: self.output.map(count),
            mask: self.mask.map(count),
            tokens: count(self.tokens),
            keys: count(self.keys),
            kv_heads: count(op.kv_heads),
            group_heads: count(op.heads / op.kv_heads),
            pairs: count(self.batches * op.kv_heads),
            head_dim: count(self.head_dim),
            value_dim: count(self.value_dim),
            lead: op.causal.map_or(clamped(self.keys), |lead| lead.clamp(-most, most)),
            window: op.window.map_or(i32::MAX / 2, |window| clamped(window as usize).min(i32::MAX / 2)),
            scale,
            softcap,
        }
    }
}

/// How attention is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    /// Software adapters, blocks of this many rows.
    Rows(u32),
    /// GPUs, tiles of 32 rows.
    Tiles,
}

/// What is known of a shape when a choice is made.
#[derive(Debug)]
struct Sizes {
    /// Batches times key heads.
    pairs: usize,
    /// Queries of one of them.
    rows: usize,
    keys: usize,
    /// Elements of a query, and of a value.
    dims: [usize; 2],
}

impl std::fmt::Display for Sizes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { pairs, rows, keys, dims: [head, value] } = self;
        write!(f, "{pairs}x{}x{} keys, heads {head} and {value}", size_class(*rows), size_class(*keys))
    }
}

static FAMILY: Family<Sizes, Choice> = Family {
    name: "attention",
    choices: &[
        Candidate::new("rows1", Choice::Rows(1), |caps, _| caps.form() == Form::Software),
        Candidate::new("rows8", Choice::Rows(8), |caps, _| caps.form() == Form::Software),
        Candidate::new("tiles32", Choice::Tiles, |caps, _| caps.form() != Form::Software),
    ],
    rules: &[
        Rule::new(Choice::Rows(1), |_, it| it.rows <= 2, "one or two rows on a software adapter"),
        Rule::new(Choice::Rows(8), |_, _| true, "several rows on a software adapter"),
        Rule::new(Choice::Tiles, |_, _| true, "a GPU"),
    ],
};

impl Op for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        Ok(vec![Spec::f32(self.problem(inputs)?.output_dims)])
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], _: &[Spec]) -> Result<Launches> {
        let problem = self.problem(inputs)?;
        let rows = problem.tokens * (self.heads / self.kv_heads);
        let vectors = problem.head_dim.is_multiple_of(4) && problem.value_dim.is_multiple_of(4);
        // More values are computed by several workgroups, each of which computes the scores.
        let slices = count(problem.value_dim.div_ceil(STEP)).min(4);
        let sizes = Sizes {
            pairs: problem.batches * self.kv_heads,
            rows,
            keys: problem.keys,
            dims: [problem.head_dim, problem.value_dim],
        };
        let (choice, selected) = FAMILY.select(caps, &sizes);
        let (launch, tile) = match choice {
            Choice::Rows(tile) => {
                let steps = problem.keys.div_ceil(STEP);
                let iterations = steps.saturating_mul(problem.head_dim.div_ceil(4) + 60);
                if iterations > MAX_ITERATIONS as usize {
                    return self.fail(format!("software adapters take fewer keys, got {}", problem.keys));
                }
                let share = tile == 8 && caps.subgroups && caps.subgroup_min >= 8;
                (ROWS.launch().variant("rows", tile).variant("share", share), tile)
            }
            Choice::Tiles => (TILES.launch().variant("operands", "views"), 32),
        };
        let tiles = groups(rows, tile);
        let chunks = groups(problem.value_dim, slices * 32);
        if tiles.saturating_mul(chunks) > caps.max_workgroups {
            return self.fail(format!("{} tokens are too many for this device", problem.tokens));
        }
        let pairs = count(problem.batches * self.kv_heads);
        let packed = self.layout == HeadLayout::Packed;
        let views = if packed { [0; 3] } else { [0, 1, 2] };
        let mask = self.mask.then_some(Operand::Input(inputs.len() - 1));
        let bindings = views.map(Operand::Input).into_iter().chain([Operand::Output(0)]).chain(mask);
        let work = problem.batches * self.heads * problem.tokens * problem.keys;
        let launch = launch
            .variant("slices", slices)
            .variant("vectors", vectors)
            .variant("mask", self.mask)
            .variant("softcap", self.softcap.is_some())
            .params(problem.params(self, vectors))
            .bind(bindings)
            .workgroups([tiles * chunks, pairs.min(FOLD), pairs.div_ceil(FOLD)])
            .work(work.saturating_mul(problem.head_dim + problem.value_dim) as u64);
        Ok(Launches::from(launch).selected(selected))
    }

    fn cost(&self, inputs: &[Spec], outputs: &[Spec]) -> Cost {
        let Ok(problem) = self.problem(inputs) else { return Cost::default() };
        let pairs = problem.batches * self.heads * problem.tokens * problem.keys;
        let products = pairs.saturating_mul(problem.head_dim + problem.value_dim);
        Cost::of_traffic(inputs, outputs).products(products).functions(pairs)
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let specs: Vec<Spec> = inputs.iter().map(|input| input.spec().clone()).collect();
        let problem = self.problem(&specs)?;
        let values: Vec<Vec<f64>> = inputs.iter().map(Tensor::to_f64).collect();
        let packed = self.layout == HeadLayout::Packed;
        let [q, k, v] = if packed { [0; 3] } else { [0, 1, 2] }.map(|input| &values[input]);
        let mask = self.mask.then(|| &values[values.len() - 1]);
        let mut output = vec![0.0; problem.output_dims.iter().product()];
        for batch in 0..problem.batches {
            for head in 0..self.heads {
                let at = |view: View, head: usize, token: usize| {
                    view[0] + batch * view[1] + head * view[2] + token * view[3]
                };
                let kv_head = head / (self.heads / self.kv_heads);
                for token in 0..problem.tokens {
                    let query = &q[at(problem.q, head, token)..][..problem.head_dim];
                    let score = |key: usize| {
                        let keys = &k[at(problem.k, kv_head, key)..];
                        let dot: f64 = query.iter().zip(keys).map(|(a, b)| a * b).sum();
                        let steps = problem.mask;
                        let place = batch * steps[0] + head * steps[1] + token * steps[2] + key * steps[3];
                        self.score(dot, mask.map_or(0.0, |mask| mask[place]))
                    };
                    let visible = self.visible(token, problem.keys);
                    let scores: Vec<(usize, f64)> =
                        visible.filter_map(|key| Some((key, score(key)?))).collect();
                    let sums = &mut output[at(problem.output, head, token)..][..problem.value_dim];
                    for (key, share) in softmax(&scores) {
                        let values = &v[at(problem.v, kv_head, key)..];
                        sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += share * value);
                    }
                }
            }
        }
        Ok(vec![Tensor::from_f64(DType::F32, problem.output_dims, &output)])
    }
}

impl Attention {
    /// The score of a key, none where the mask hides it.
    fn score(&self, dot: f64, mask: f64) -> Option<f64> {
        let score = dot * f64::from(self.scale);
        let capped = self.softcap.map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh());
        (mask > f64::NEG_INFINITY).then_some(capped + mask.max(LOWEST))
    }
}

/// Scores as shares that sum to 1.
fn softmax(scores: &[(usize, f64)]) -> impl Iterator<Item = (usize, f64)> {
    let highest = scores.iter().fold(f64::NEG_INFINITY, |highest, (_, score)| highest.max(*score));
    let total: f64 = scores.iter().map(|(_, score)| (score - highest).exp()).sum();
    scores.iter().map(move |&(key, score)| (key, (score - highest).exp() / total))
}

//! The kernels that are measured, at shapes of real models.

use super::convolutions;
use super::sample::{SampledAxis, Subject};
use crate::kernel::DeviceKind;
use crate::ops::cases::Random;
use crate::ops::{
    Attention, Binary, BinaryFn, CachedAttention, Cast, Concat, ElementStep, Elementwise, Embedding,
    GroupNorm, HeadLayout, LayerNorm, Linear, MatMul, Op, Pool, PoolFn, Reduce, ReduceFn, RmsNorm, Sample,
    SampleRow, Slice, SliceRange, Softmax, StepSource, Transpose, Unary, UnaryFn, Window,
};
use crate::tensor::{DType, Tensor};
use serde::Serialize;
use std::sync::Arc;

/// Kernels of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// Products of matrices.
    Gemm,
    /// Products of matrices with one row.
    Gemv,
    /// Attention, over a cache of keys and values or within a tensor.
    Attention,
    /// Convolutions that mix channels.
    Conv,
    /// Convolutions of each channel by itself.
    Depthwise,
    /// Softmax.
    Softmax,
    /// Layer norm and its kin.
    Norm,
    /// Functions of every element.
    Elementwise,
    /// Copies into another order, place or dtype.
    Movement,
    /// Sums and the like over an axis or windows.
    Reduction,
    /// Drawing tokens.
    Sampling,
}

impl Family {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Gemm,
        Self::Gemv,
        Self::Attention,
        Self::Conv,
        Self::Depthwise,
        Self::Softmax,
        Self::Norm,
        Self::Elementwise,
        Self::Movement,
        Self::Reduction,
        Self::Sampling,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gemm => "gemm",
            Self::Gemv => "gemv",
            Self::Attention => "attention",
            Self::Conv => "conv",
            Self::Depthwise => "depthwise",
            Self::Softmax => "softmax",
            Self::Norm => "norm",
            Self::Elementwise => "elementwise",
            Self::Movement => "movement",
            Self::Reduction => "reduction",
            Self::Sampling => "sampling",
        }
    }
}

/// All that is measured on a device of this kind.
pub(super) fn subjects(kind: DeviceKind) -> Vec<Subject> {
    let mut subjects = products();
    subjects.extend(attentions());
    subjects.extend(row_wise());
    if kind != DeviceKind::Software {
        subjects.extend(large());
    }
    subjects.extend(elementwise());
    subjects.extend(movements());
    subjects.extend(reductions());
    for vocab in [32_000, 151_936] {
        subjects.extend([sample(vocab, false), sample(vocab, true)]);
    }
    subjects.extend(convolutions::subjects());
    subjects
}

/// Squares, a large layer for few rows, and the projections of decoders of 15 and 124 million
/// parameters: queries, keys and values; gate and up; down; the head.
fn products() -> Vec<Subject> {
    let both = [[256, 256, 256], [512, 512, 512], [1024, 1024, 1024], [16, 4096, 4096], [1, 4096, 4096]];
    let projections = [
        [1, 288, 864],
        [1, 288, 1536],
        [1, 768, 288],
        [1, 288, 32_000],
        [128, 288, 864],
        [1, 768, 2304],
        [1, 768, 4096],
        [1, 2048, 768],
        [1, 768, 50_257],
        [8, 768, 2048],
        [128, 768, 2304],
        [512, 768, 2048],
    ];
    let mut subjects: Vec<Subject> =
        both.iter().flat_map(|&dims| [DType::F32, DType::F16].map(|dtype| linear(dtype, dims))).collect();
    subjects.extend(projections.map(|dims| linear(DType::F32, dims)));
    subjects.push(matmul([12, 197, 64, 197]));
    subjects
}

/// What fills a GPU, and would keep a processor busy for minutes: squares, layers of decoders of one
/// and eight thousand million parameters, rows of 64 MB.
fn large() -> Vec<Subject> {
    let shapes = [[4096, 4096, 4096], [1, 4096, 14_336], [4, 4096, 14_336], [64, 4096, 14_336]];
    let mut subjects: Vec<Subject> =
        shapes.iter().flat_map(|&dims| [DType::F32, DType::F16].map(|dtype| linear(dtype, dims))).collect();
    subjects.extend([attention(1, 4096), attention(2048, 2048)]);
    subjects.extend([softmax([16_384, 1024]), softmax([256, 65_536]), rms_norm([4096, 4096])]);
    subjects
}

/// x `[rows, inner]` by a weight `[cols, inner]`.
fn linear(dtype: DType, [rows, inner, cols]: [usize; 3]) -> Subject {
    let name = format!("linear {rows}x{inner}x{cols} {}", dtype.name());
    let family = if rows == 1 { Family::Gemv } else { Family::Gemm };
    let subject = Subject::new(family, name, Linear::PLAIN, move || {
        let mut random = Random::new(1);
        vec![random.f32([rows, inner]), random.tensor(dtype, [cols, inner], 1.5 / (inner as f64).sqrt())]
    });
    subject.sampled(vec![SampledAxis::new(0, 4, &[(0, 0)]), SampledAxis::new(1, 64, &[(1, 0)])])
}

/// Batches of a `[m, k]` by b `[k, n]`.
fn matmul([batches, m, k, n]: [usize; 4]) -> Subject {
    let name = format!("matmul {batches}x{m}x{k}x{n} f32");
    let subject = Subject::new(Family::Gemm, name, MatMul::PLAIN, move || {
        let mut random = Random::new(7);
        vec![random.f32([batches, m, k]), random.tensor(DType::F32, [batches, k, n], 1.5 / (k as f64).sqrt())]
    });
    subject.sampled(vec![SampledAxis::new(1, 16, &[(0, 1)])])
}

fn attentions() -> Vec<Subject> {
    vec![
        attention(1, 512),
        attention(1, 2048),
        attention(128, 128),
        attention(512, 512),
        encoder_attention(197),
        encoder_attention(512),
    ]
}

/// The last `rows` tokens of a text of `context` tokens, 12 heads of 64.
fn attention(rows: usize, context: usize) -> Subject {
    let (heads, head_dim) = (12, 64);
    let op = CachedAttention {
        heads,
        kv_heads: heads,
        head_dim,
        scale: 0.125,
        softcap: None,
        window: None,
        one_sequence: rows > 1,
    };
    let name = format!("attention of {rows} tokens at {context}, {heads} heads of {head_dim}");
    let subject = Subject::new(Family::Attention, name, op, move || {
        let mut random = Random::new(2);
        let positions: Vec<u32> =
            (context - rows..context).map(|position| u32::try_from(position).expect("small")).collect();
        let cache = [1, heads, context, head_dim];
        vec![
            random.f32([rows, heads, head_dim]),
            random.f32(cache),
            random.f32(cache),
            Tensor::from_u32([rows], &positions),
            Tensor::from_u32([rows], &vec![0; rows]),
        ]
    });
    subject.sampled(vec![SampledAxis::new(0, 16, &[(0, 0), (3, 0), (4, 0)])])
}

/// Tokens that see all others, 12 heads of 64, in one tensor as a projection gives them.
fn encoder_attention(tokens: usize) -> Subject {
    let (heads, head_dim) = (12, 64);
    let op = Attention {
        heads,
        kv_heads: heads,
        scale: 0.125,
        softcap: None,
        causal: None,
        window: None,
        mask: false,
        layout: HeadLayout::Packed,
    };
    let name = format!("attention of {tokens} tokens, {heads} heads of {head_dim}");
    Subject::new(Family::Attention, name, op, move || {
        vec![Random::new(6).f32([1, tokens, 3 * heads * head_dim])]
    })
}

/// Softmax and norms of decoders, of encoders and of networks for images.
fn row_wise() -> Vec<Subject> {
    let layer_norm = LayerNorm::new(1e-5, true);
    vec![
        softmax([512, 1024]),
        softmax([2364, 197]),
        softmax([8, 50_257]),
        softmax([1, 50_257]),
        rms_norm([1, 768]),
        rms_norm([512, 768]),
        Subject::new(Family::Norm, "layer_norm 197x768".into(), layer_norm, || {
            let mut random = Random::new(8);
            vec![random.f32([197, 768]), random.f32([768]), random.f32([768])]
        }),
        Subject::new(
            Family::Norm,
            "group_norm 64x64x320, 32 groups".into(),
            GroupNorm::new(32, 1e-5),
            || {
                let mut random = Random::new(9);
                vec![random.f32([1, 320, 64, 64]), random.f32([320]), random.f32([320])]
            },
        ),
    ]
}

fn softmax([rows, cols]: [usize; 2]) -> Subject {
    let op = Softmax { logarithm: false };
    Subject::new(Family::Softmax, format!("softmax {rows}x{cols}"), op, move || {
        vec![Random::new(4).tensor(DType::F32, [rows, cols], 4.0)]
    })
}

fn rms_norm([rows, cols]: [usize; 2]) -> Subject {
    let op = RmsNorm { eps: 1e-5, offset: 0.0, residual: false };
    Subject::new(Family::Norm, format!("rms_norm {rows}x{cols}"), op, move || {
        let mut random = Random::new(3);
        vec![random.f32([rows, cols]), random.f32([cols])]
    })
}

fn elementwise() -> Vec<Subject> {
    let unary = |name: &str, function| {
        Subject::new(Family::Elementwise, format!("{name} 512x3072"), Unary(function), || {
            vec![Random::new(10).tensor(DType::F32, [512, 3072], 4.0)]
        })
    };
    let binary = |name: &str, right: [usize; 2]| {
        Subject::new(Family::Elementwise, name.to_owned(), Binary(BinaryFn::Add), move || {
            let mut random = Random::new(11);
            vec![random.f32([512, 3072]), random.f32(right)]
        })
    };
    vec![
        unary("relu", UnaryFn::Relu),
        unary("gelu", UnaryFn::Gelu),
        binary("add 512x3072", [512, 3072]),
        binary("add a row to 512x3072", [1, 3072]),
        chain(),
    ]
}

/// A product, a sum with a row and a function in one kernel.
fn chain() -> Subject {
    let [x, factor, row] = [0, 1, 2].map(StepSource::Input);
    let steps = vec![
        ElementStep::Binary(BinaryFn::Mul, x, factor),
        ElementStep::Binary(BinaryFn::Add, StepSource::Step(0), row),
        ElementStep::Unary(UnaryFn::Tanh, StepSource::Step(1)),
    ];
    let name = "multiply, add a row, tanh 512x3072";
    Subject::new(Family::Elementwise, name.into(), Elementwise { steps }, || {
        let mut random = Random::new(17);
        vec![random.f32([512, 3072]), random.f32([512, 3072]), random.f32([3072])]
    })
}

/// Nothing computed: reordered, joined, cut, looked up, converted.
fn movements() -> Vec<Subject> {
    let moving = |name: &str, op: Arc<dyn Op>, inputs: Box<dyn Fn() -> Vec<Tensor>>| {
        Subject::of(Family::Movement, name.to_owned(), op, inputs)
    };
    let one = |dims: Vec<usize>| Box::new(move || vec![Random::new(12).f32(dims.clone())]);
    let every_other = SliceRange { start: 0, count: 1024, step: 2 };
    vec![
        moving("cast 1024x2048 f32 to f16", Arc::new(Cast { to: DType::F16 }), one(vec![1024, 2048])),
        moving("transpose 1024x2048", Arc::new(Transpose { permutation: vec![1, 0] }), one(vec![1024, 2048])),
        moving(
            "channels of 56x56x256 to the front",
            Arc::new(Transpose { permutation: vec![0, 3, 1, 2] }),
            one(vec![1, 56, 56, 256]),
        ),
        moving(
            "slice every other row of 2048x1024",
            Arc::new(Slice { ranges: vec![every_other, SliceRange::full(1024)] }),
            one(vec![2048, 1024]),
        ),
        moving(
            "concat two of 1024x1024",
            Arc::new(Concat { axis: 1 }),
            Box::new(|| {
                let mut random = Random::new(13);
                vec![random.f32([1024, 1024]), random.f32([1024, 1024])]
            }),
        ),
        moving(
            "embedding 512 rows of 32000x288",
            Arc::new(Embedding { scale: 1.0 }),
            Box::new(|| {
                let mut random = Random::new(14);
                vec![random.f32([32_000, 288]), random.u32([512], 32_000)]
            }),
        ),
    ]
}

fn reductions() -> Vec<Subject> {
    let sum = |name: &str, axis: usize| {
        let op = Reduce { function: ReduceFn::Sum, axes: vec![axis], keep_dims: false };
        // Around 1, so that the sum of many is not near 0.
        Subject::new(Family::Reduction, name.to_owned(), op, || {
            let values = Random::new(15).f32([1024, 2048]).to_f64();
            let values: Vec<f64> = values.into_iter().map(|value| 1.0 + value).collect();
            vec![Tensor::from_f64(DType::F32, [1024, 2048], &values)]
        })
    };
    let pool = |name: &str, function, window: Window, dims: [usize; 4]| {
        Subject::new(Family::Reduction, name.to_owned(), Pool::new(function, window), move || {
            vec![Random::new(16).f32(dims)]
        })
    };
    let overlapping = Window::new([3, 3]).stride([2, 2]).padding([1, 1]);
    vec![
        sum("sum of rows 1024x2048", 1),
        sum("sum of columns 1024x2048", 0),
        pool("max pool 3x3 step 2 112x112x64", PoolFn::Max, overlapping, [1, 64, 112, 112]),
        pool("mean of 7x7x1280", PoolFn::Average, Window::new([7, 7]), [1, 1280, 7, 7]),
    ]
}

/// One row of logits: the most probable token, or a draw with top-k and top-p.
fn sample(vocab: usize, drawn: bool) -> Subject {
    let settings = SampleRow { temperature: 0.8, top_k: 40, top_p: 0.9, ..SampleRow::plain(5, 0) };
    let settings = if drawn { settings } else { SampleRow::GREEDY };
    let name = format!("sample {} of {vocab}", if drawn { "top-k, top-p" } else { "greedy" });
    Subject::new(Family::Sampling, name, Sample { feeds: false }, move || {
        vec![
            Random::new(5).tensor(DType::F32, [1, vocab], 8.0),
            Tensor::from_u32([1], &[0]),
            Tensor::from_u32([1, settings.to_words().len()], &settings.to_words()),
            Tensor::from_u32([1, vocab], &vec![0; vocab]),
        ]
    })
}

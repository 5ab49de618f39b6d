//! The speed of single kernels at shapes of real models, after a comparison with the reference.

use super::{Spread, Surroundings, convolutions, timed};
use crate::Result;
use crate::gpu::Gpu;
use crate::graph::Graph;
use crate::kernel::Layout;
use crate::ops::cases::Random;
use crate::ops::{
    Attention, CachedAttention, HeadLayout, Linear, Op, RmsNorm, Sample, SampleRow, Softmax, image,
};
use crate::session::{PlanId, Session, run_op};
use crate::tensor::{DType, Spec, Tensor, Tolerance};
use serde::Serialize;
use std::sync::Arc;

/// Seconds that a measured run should take at least, so that the submit hardly counts.
const RUN_SECONDS: f64 = 0.05;

/// Most dispatches in a run.
const MOST_DISPATCHES: f64 = 256.0;

/// Speed of one kernel.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KernelRow {
    /// Operator and shape.
    pub name: String,
    /// What differs from the reference at a small shape; nothing is timed then.
    pub mismatch: Option<String>,
    /// Microseconds of one dispatch.
    pub microseconds: Spread,
    /// GFLOP/s at the median time, where multiplications and additions are what it does.
    pub gigaflops: Option<f64>,
    /// GB/s of inputs and outputs at the median time.
    pub gigabytes: f64,
    /// That, as a part of the copy bandwidth of the same run.
    pub part_of_copy: f64,
}

/// Speeds of kernels on one adapter.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KernelReport {
    /// Where it ran.
    pub surroundings: Surroundings,
    /// The kernels.
    pub rows: Vec<KernelRow>,
}

/// An operator at a real shape, and at a small one for the comparison.
pub(super) struct Subject {
    pub(super) name: String,
    pub(super) op: Arc<dyn Op>,
    /// Makes the inputs: at the real shape, or at the small one.
    pub(super) inputs: Box<dyn Fn(bool) -> Vec<Tensor>>,
    /// Additions and multiplications at the real shape.
    pub(super) operations: Option<usize>,
    /// Bytes read and written at the real shape.
    pub(super) bytes: usize,
}

/// Measures the kernels whose names contain `only`, `runs` times each.
///
/// # Errors
/// What the device says.
pub fn measure_kernels(gpu: &Gpu, runs: usize, only: &str) -> Result<KernelReport> {
    let surroundings = Surroundings::measure(gpu, runs)?;
    let copy = surroundings.bandwidth.copy.median;
    let chosen = subjects().into_iter().filter(|subject| subject.name.contains(only));
    let rows = chosen.map(|subject| measure(gpu, &subject, runs, copy)).collect::<Result<_>>()?;
    Ok(KernelReport { surroundings, rows })
}

fn measure(gpu: &Gpu, subject: &Subject, runs: usize, copy: f64) -> Result<KernelRow> {
    let mismatch = compare(gpu, subject)?;
    let seconds = if mismatch.is_none() { time(gpu, subject, runs)? } else { Spread::of(&[]) };
    let rate = |count: usize| if seconds.median > 0.0 { count as f64 / seconds.median / 1e9 } else { 0.0 };
    let gigabytes = rate(subject.bytes);
    Ok(KernelRow {
        name: subject.name.clone(),
        mismatch,
        microseconds: seconds.scaled(1e6),
        gigaflops: subject.operations.map(rate),
        gigabytes,
        part_of_copy: gigabytes / copy,
    })
}

/// What differs from the reference at the small shape.
fn compare(gpu: &Gpu, subject: &Subject) -> Result<Option<String>> {
    let inputs = (subject.inputs)(true);
    let (got, want) = (run_op(gpu, subject.op.clone(), &inputs)?, subject.op.reference(&inputs)?);
    let mismatch = |(got, want): (&Tensor, &Tensor)| Tolerance::of(want.dtype()).mismatch(got, want);
    Ok(got.iter().zip(&want).find_map(mismatch).map(|mismatch| mismatch.to_string()))
}

/// Seconds of one dispatch.
fn time(gpu: &Gpu, subject: &Subject, runs: usize) -> Result<Spread> {
    let (op, inputs) = as_launched(gpu, &subject.op, (subject.inputs)(false))?;
    let mut once = Repeated::new(gpu, &op, &inputs, 1)?;
    once.run()?;
    let (_, first, _) = timed(|| once.run())?;
    let count = (RUN_SECONDS / first.as_secs_f64()).clamp(1.0, MOST_DISPATCHES) as usize;
    drop(once);
    let mut repeated = Repeated::new(gpu, &op, &inputs, count)?;
    repeated.run()?;
    let mut seconds = Vec::with_capacity(runs);
    for _ in 0..runs {
        let (_, wall, _) = timed(|| repeated.run())?;
        seconds.push(wall.as_secs_f64() / count as f64);
    }
    Ok(Spread::of(&seconds))
}

/// The operator that is launched and its inputs: operators on images take theirs with the channels
/// last. Their elements stay in the old order, as times do not depend on values.
fn as_launched(gpu: &Gpu, op: &Arc<dyn Op>, mut inputs: Vec<Tensor>) -> Result<(Arc<dyn Op>, Vec<Tensor>)> {
    let specs: Vec<Spec> = inputs.iter().map(|input| input.spec().clone()).collect();
    let Some(form) = op.channels_last(gpu.caps(), &specs) else { return Ok((op.clone(), inputs)) };
    for index in form.images {
        let spec = Spec::new(specs[index].dtype, image::to_last(&specs[index].shape));
        inputs[index] = Tensor::from_bytes(spec, inputs[index].bytes().to_vec());
    }
    for (index, rule) in form.prepared {
        inputs[index] = rule.prepare(&inputs[index..=index])?;
    }
    Ok((form.op, inputs))
}

/// A plan that computes an operator several times over the same inputs.
struct Repeated {
    session: Session,
    plan: PlanId,
}

impl Repeated {
    fn new(gpu: &Gpu, op: &Arc<dyn Op>, inputs: &[Tensor], count: usize) -> Result<Self> {
        let mut graph = Graph::new();
        let name = |index: usize| format!("input {index}");
        let mut ids = Vec::with_capacity(inputs.len());
        for (index, tensor) in inputs.iter().enumerate() {
            ids.push(match op.layout(index) {
                Layout::Rows => graph.constant(name(index), Arc::new(tensor.clone())),
                Layout::Plain => graph.state(name(index), tensor.spec().clone()),
            });
        }
        for _ in 0..count {
            let outputs = graph.add_shared(op.clone(), &ids)?;
            for &(output, input) in op.aliases() {
                ids[input] = outputs[output];
            }
        }
        let mut session = Session::new(gpu, None);
        let plan = session.add_as_is(graph)?;
        for (index, tensor) in inputs.iter().enumerate() {
            if op.layout(index) == Layout::Plain {
                session.write_state(&name(index), tensor)?;
            }
        }
        Ok(Self { session, plan })
    }

    fn run(&mut self) -> Result<()> {
        self.session.run(self.plan, &[], &[], &|| false).map(drop)
    }
}

fn subjects() -> Vec<Subject> {
    let mut subjects = vec![
        linear(DType::F32, [1, 4096, 4096]),
        linear(DType::F16, [1, 4096, 4096]),
        linear(DType::F32, [8, 768, 2048]),
        linear(DType::F32, [512, 768, 2048]),
        attention(1, 512),
        attention(512, 512),
        encoder_attention(197),
        encoder_attention(512),
        rms_norm([1, 768]),
        rms_norm([512, 768]),
        softmax([512, 1024]),
        sample(32_000, false),
        sample(32_000, true),
        sample(151_936, false),
        sample(151_936, true),
    ];
    subjects.extend(convolutions::subjects());
    subjects
}

fn subject(
    name: String,
    op: impl Op,
    operations: Option<usize>,
    bytes: usize,
    inputs: impl Fn(bool) -> Vec<Tensor> + 'static,
) -> Subject {
    Subject { name, op: Arc::new(op), inputs: Box::new(inputs), operations, bytes }
}

/// x `[rows, inner]` by a weight `[cols, inner]`.
fn linear(dtype: DType, [rows, inner, cols]: [usize; 3]) -> Subject {
    let name = format!("linear {rows}x{inner}x{cols} {}", dtype.name());
    let bytes = inner * cols * dtype.size() + 4 * rows * (inner + cols);
    subject(name, Linear::PLAIN, Some(2 * rows * inner * cols), bytes, move |small| {
        let [rows, inner, cols] = if small { [rows.min(40), 64, 72] } else { [rows, inner, cols] };
        let mut random = Random::new(1);
        vec![random.f32([rows, inner]), random.tensor(dtype, [cols, inner], 0.1)]
    })
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
    let seen: usize = (context - rows..context).map(|position| position + 1).sum();
    let bytes = 4 * heads * head_dim * 2 * (context + rows);
    let name = format!("attention of {rows} tokens at {context}, {heads} heads of {head_dim}");
    subject(name, op, Some(4 * heads * head_dim * seen), bytes, move |small| {
        let (rows, context) = if small { (rows.min(20), 40) } else { (rows, context) };
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
    })
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
    let operations = 4 * heads * head_dim * tokens * tokens;
    subject(name, op, Some(operations), 16 * heads * head_dim * tokens, move |small| {
        let tokens = if small { 40 } else { tokens };
        vec![Random::new(6).f32([1, tokens, 3 * heads * head_dim])]
    })
}

fn rms_norm([rows, cols]: [usize; 2]) -> Subject {
    let op = RmsNorm { eps: 1e-5, offset: 0.0, residual: false };
    subject(format!("rms_norm {rows}x{cols}"), op, None, 4 * (2 * rows + 1) * cols, move |small| {
        let rows = if small { rows.min(5) } else { rows };
        let mut random = Random::new(3);
        vec![random.f32([rows, cols]), random.f32([cols])]
    })
}

fn softmax([rows, cols]: [usize; 2]) -> Subject {
    let op = Softmax { logarithm: false };
    subject(format!("softmax {rows}x{cols}"), op, None, 8 * rows * cols, move |small| {
        let rows = if small { 5 } else { rows };
        vec![Random::new(4).f32([rows, cols])]
    })
}

/// One row of logits: the most probable token, or a draw with top-k and top-p.
fn sample(vocab: usize, drawn: bool) -> Subject {
    let settings = SampleRow { temperature: 0.8, top_k: 40, top_p: 0.9, ..SampleRow::plain(5, 0) };
    let settings = if drawn { settings } else { SampleRow::GREEDY };
    let name = format!("sample {} of {vocab}", if drawn { "top-k, top-p" } else { "greedy" });
    subject(name, Sample, None, 4 * vocab, move |small| {
        let vocab = if small { 3000 } else { vocab };
        vec![
            Random::new(5).tensor(DType::F32, [1, vocab], 8.0),
            Tensor::from_u32([1], &[0]),
            Tensor::from_u32([1, settings.to_words().len()], &settings.to_words()),
            Tensor::from_u32([1, vocab], &vec![0; vocab]),
        ]
    })
}

impl std::fmt::Display for KernelReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.surroundings)?;
        writeln!(f, "{:48}{:26}{:>9}{:>9}  of copy", "", "microseconds", "GFLOP/s", "GB/s")?;
        for row in &self.rows {
            if let Some(mismatch) = &row.mismatch {
                writeln!(f, "{:48}wrong: {mismatch}", row.name)?;
                continue;
            }
            let flops = row.gigaflops.map_or("-".to_owned(), |rate| format!("{rate:.1}"));
            let (time, bytes, part) = (row.microseconds.to_string(), row.gigabytes, 100.0 * row.part_of_copy);
            writeln!(f, "{:48}{time:26}{flops:>9}{bytes:>9.2}  {part:.0}%", row.name)?;
        }
        Ok(())
    }
}

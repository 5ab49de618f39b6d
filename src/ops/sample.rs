//! Sampling of the next token of each row: penalties, temperature, top-k, top-p, min-p, draw.
//!
//! Exact over the whole vocabulary, and the same token for the same seed and logits whatever
//! the width of the workgroup: see the head of `shaders/sample.wgsl`.

mod distribution;
mod row;

pub(crate) use distribution::draw;
pub use distribution::{IN_PROMPT, distribution};
pub use row::{LEAST_TEMPERATURE, ROW_WORDS, STEP_WORD, SampleRow, random_bits};

use super::cases::{Case, Random};
use super::{Expect, Inputs, Op};
use crate::kernel::{Caps, Form, Kernel, Launches, Operand, groups, params};
use crate::tensor::{DType, Spec, Tensor};
use crate::{Error, Result};

static SAMPLE: Kernel = Kernel::new("sample", include_str!("../../shaders/sample.wgsl"));

params!(
    struct Params {
        vocab: u32,
        slots: u32,
    }
);

/// The slot of a row that is not sampled.
pub const NO_SLOT: u32 = u32::MAX;
/// The token of a row that was not sampled.
pub const NO_TOKEN: u32 = u32::MAX;
/// Bit of a sampled word in whose row of logits NaN or plus infinity was seen; its token means nothing.
pub const FLAG_INVALID: u32 = 1 << 30;
/// Bit of a sampled word whose row of logits is all excluded; its token is 0.
pub const FLAG_EMPTY: u32 = 1 << 31;

/// Most candidates that are listed; more are left in the whole vocabulary.
const LIST: u32 = 1024;

/// Most tokens that an invocation visits in a pass on software adapters.
const SOFTWARE_TOKENS: u32 = 4096;

/// Samples a token of each row and counts it.
///
/// Inputs: logits f32 `[rows, vocab]`, slots u32 `[rows]` ([`NO_SLOT`]: inactive; each slot at most
/// once), settings u32 `[rows, 16]` (see [`SampleRow`]), counts u32 `[slots, vocab]` (a state), and
/// with `feeds` tokens and positions u32 `[rows]`. Outputs: u32 `[rows]`, each a token and the flag
/// bits ([`NO_TOKEN`] for inactive rows), the counts with the tokens of active rows counted that
/// have no flag, and with `feeds` settings and positions.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// Whether what the next step starts from is left where this one found it: the sampled words
    /// take the place of the tokens, and steps and positions of active rows grow by one. A row
    /// whose token has a flag keeps [`FLAG_INVALID`].
    pub feeds: bool,
}

impl Sample {
    /// Invocations in a workgroup. Elsewhere than on software adapters a row is read by as many
    /// as the device has, as the time is that of waiting for memory.
    ///
    /// llvmpipe ends every loop of an invocation after 65,535 iterations of all its loops
    /// together. Thirteen passes of at most 4,096 tokens an invocation stay below that.
    fn width(caps: &Caps, vocab: usize) -> u32 {
        let most = 1 << caps.max_workgroup_invocations.clamp(1, 1024).ilog2();
        match caps.form() {
            Form::Software => groups(vocab, SOFTWARE_TOKENS).next_power_of_two().clamp(8, most),
            Form::Subgroup | Form::Plain => most,
        }
    }
}

impl Op for Sample {
    fn name(&self) -> &'static str {
        "sample"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let (first, rest) = inputs.split_at(inputs.len().min(4));
        let [logits, slots, settings, counts] = first.exactly(self)?;
        logits.expect_dtype(self, "logits", &[DType::F32])?;
        slots.expect_dtype(self, "slots", &[DType::U32])?;
        settings.expect_dtype(self, "settings", &[DType::U32])?;
        counts.expect_dtype(self, "counts", &[DType::U32])?;
        let &[rows, vocab] = logits.shape.dims() else {
            return Err(Error::op(self.name(), format!("logits must be [rows, vocab], got {logits}")));
        };
        slots.expect_dims(self, "slots", &[rows])?;
        settings.expect_dims(self, "settings", &[rows, ROW_WORDS])?;
        expect_counts(self, counts, vocab)?;
        if !self.feeds && rest.is_empty() {
            return Ok(vec![Spec::u32([rows]), counts.clone()]);
        }
        let [tokens, positions] = rest else {
            let wanted = if self.feeds { 6 } else { 4 };
            return Err(Error::op(self.name(), format!("takes {wanted} inputs, got {}", inputs.len())));
        };
        for (what, spec) in [("tokens", tokens), ("positions", positions)] {
            spec.expect_dtype(self, what, &[DType::U32])?;
            spec.expect_dims(self, what, &[rows])?;
        }
        Ok(vec![tokens.clone(), counts.clone(), settings.clone(), positions.clone()])
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], _: &[Spec]) -> Result<Launches> {
        let (rows, vocab) = inputs[0].shape.rows_and_cols();
        let rows = u32::try_from(rows).ok().filter(|&rows| rows <= caps.max_workgroups).ok_or_else(|| {
            let message =
                format!("{rows} rows are more than the device's {} workgroups", caps.max_workgroups);
            Error::op(self.name(), message)
        })?;
        let settings = if self.feeds { Operand::Output(2) } else { Operand::Input(2) };
        let outputs = [Operand::Output(0), Operand::Output(1), Operand::Scratch(0)];
        let bindings = [Operand::Input(0), Operand::Input(1), settings].into_iter().chain(outputs);
        let bindings = bindings.chain(self.feeds.then_some(Operand::Output(3)));
        let launch = SAMPLE
            .launch()
            .variant("list", LIST)
            .variant("width", Self::width(caps, vocab))
            .variant("feeds", self.feeds)
            .params(Params { vocab: fit(self, vocab)?, slots: fit(self, inputs[3].shape.dims()[0])? })
            .bind(bindings)
            .workgroups([rows, 1, 1])
            .work(10 * inputs[0].elements() as u64);
        let keys = Spec::u32([inputs[0].shape.dims()[0], vocab + 2 * LIST as usize]);
        if keys.bytes() > caps.max_binding_bytes {
            let (needed, limit) = (keys.bytes(), caps.max_binding_bytes);
            let message = format!("{rows} rows need {needed} bytes, a binding has at most {limit}");
            return Err(Error::op(self.name(), message));
        }
        Ok(Launches { steps: vec![launch], scratch: vec![keys], ..Launches::default() })
    }

    fn aliases(&self) -> &'static [(usize, usize)] {
        if self.feeds { &[(0, 4), (1, 3), (2, 2), (3, 5)] } else { &[(1, 3)] }
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let (rows, vocab) = inputs[0].spec().shape.rows_and_cols();
        let (logits, slots, mut settings) = (inputs[0].to_f32(), inputs[1].to_u32(), inputs[2].to_u32());
        let fed = |input: usize| if self.feeds { inputs[input].to_u32() } else { vec![0; rows] };
        let (tokens, mut positions) = (fed(4), fed(5));
        let mut counts = inputs[3].to_u32();
        let mut sampled = vec![];
        for index in 0..rows {
            let slot = slots[index] as usize;
            if slot >= inputs[3].dims()[0] {
                sampled.push(NO_TOKEN);
                continue;
            }
            let row = SampleRow::from_words(&settings[index * ROW_WORDS..][..ROW_WORDS]);
            let seen = &mut counts[slot * vocab..][..vocab];
            let (token, mut flags) = draw(&logits[index * vocab..][..vocab], seen, &row);
            if tokens[index] & (FLAG_INVALID | FLAG_EMPTY) != 0 {
                flags |= FLAG_INVALID;
            }
            if flags == 0 {
                seen[token as usize] += 1;
            }
            sampled.push(token | flags);
            settings[index * ROW_WORDS + STEP_WORD] += 1;
            positions[index] += 1;
        }
        let mut outputs = vec![
            Tensor::from_u32([rows], &sampled),
            Tensor::from_u32(inputs[3].spec().shape.clone(), &counts),
        ];
        if self.feeds {
            outputs.push(Tensor::from_u32([rows, ROW_WORDS], &settings));
            outputs.push(Tensor::from_u32([rows], &positions));
        }
        Ok(outputs)
    }
}

/// Fails unless `counts` is `[slots, vocab]`.
pub(super) fn expect_counts(op: &dyn Op, counts: &Spec, vocab: usize) -> Result<()> {
    match counts.shape.dims() {
        &[_, cols] if cols == vocab => Ok(()),
        _ => Err(Error::op(op.name(), format!("counts must be [slots, {vocab}], got {counts}"))),
    }
}

/// A size as u32.
pub(super) fn fit(op: &dyn Op, size: usize) -> Result<u32> {
    u32::try_from(size).map_err(|_| Error::op(op.name(), format!("{size} does not fit in 32 bits")))
}

/// Cases for the comparison with the reference. Logits are random, so that no threshold and no
/// draw falls within the rounding of an exponential, or exactly equal.
pub(super) fn cases() -> Vec<Case> {
    let plain = SampleRow::plain(7, 0);
    let settings: &[(&str, SampleRow)] = &[
        ("greedy", SampleRow::GREEDY),
        ("plain", plain),
        ("cool", SampleRow { temperature: 0.7, ..plain }),
        ("top-k", SampleRow { top_k: 20, ..plain }),
        ("top-k above the vocabulary", SampleRow { top_k: 100_000, ..plain }),
        ("top-p", SampleRow { top_p: 0.9, ..plain }),
        ("top-p of zero", SampleRow { top_p: 0.0, ..plain }),
        ("min-p", SampleRow { min_p: 0.05, ..plain }),
        ("top-k and top-p", SampleRow { top_k: 50, top_p: 0.6, temperature: 1.5, ..plain }),
    ];
    let mut cases = vec![];
    for (name, row) in settings {
        for vocab in [1, 7, 257, 1500] {
            cases.push(random_case(format!("sample {name}, {vocab} tokens"), *row, vocab));
        }
        cases.push(flat_case(format!("sample {name}, flat"), *row));
    }
    let penalties = SampleRow {
        repetition_penalty: 1.3,
        frequency_penalty: 0.4,
        presence_penalty: 0.3,
        top_p: 0.95,
        ..plain
    };
    cases.push(random_case("sample with penalties".into(), penalties, 300));
    cases.push(random_case(
        "sample greedy with penalties".into(),
        SampleRow { temperature: 0.0, ..penalties },
        300,
    ));
    cases.push(excluded_case());
    let feeding: Vec<Case> = cases.iter().filter_map(feeding_case).collect();
    cases.extend(feeding);
    cases
}

/// Some of the cases with tokens and positions that are moved on, one of them of a row that failed.
fn feeding_case(case: &Case) -> Option<Case> {
    let few = ["greedy, 7", "top-p, 1500", "plain, 257", "penalties", "excluded"];
    few.iter().any(|part| case.name.contains(part)).then_some(())?;
    let rows = case.inputs[0].dims()[0];
    let mut tokens = vec![3; rows];
    tokens[rows - 1] |= FLAG_INVALID;
    let mut inputs = case.inputs.clone();
    inputs.push(Tensor::from_u32([rows], &tokens));
    inputs.push(Tensor::from_u32([rows], &vec![17; rows]));
    Some(Case::new(format!("{}, feeding", case.name), Sample { feeds: true }, inputs))
}

fn row_words(rows: usize, row: SampleRow) -> Tensor {
    let words: Vec<u32> = (0..rows as u32).flat_map(|step| SampleRow { step, ..row }.to_words()).collect();
    Tensor::from_u32([rows, ROW_WORDS], &words)
}

fn random_case(name: String, row: SampleRow, vocab: usize) -> Case {
    let mut random = Random::new(11 + vocab as u64);
    let logits = random.tensor(DType::F32, [3, vocab], 6.0);
    let mut counts = random.u32([4, vocab], 3).to_u32();
    counts.iter_mut().step_by(3).for_each(|count| *count |= IN_PROMPT);
    let counts = Tensor::from_u32([4, vocab], &counts);
    let slots = Tensor::from_u32([3], &[2, NO_SLOT, 0]);
    Case::new(name, Sample { feeds: false }, vec![logits, slots, row_words(3, row), counts])
}

/// Equal logits: exact masses, so that even the boundary must agree.
fn flat_case(name: String, row: SampleRow) -> Case {
    let (rows, vocab) = (4, 1030);
    let logits = Tensor::from_f32([rows, vocab], &vec![-1.25; rows * vocab]);
    let counts = Tensor::zeros(Spec::u32([rows, vocab]));
    let slots = Tensor::from_u32([rows], &[0, 1, 2, 3]);
    Case::new(name, Sample { feeds: false }, vec![logits, slots, row_words(rows, row), counts])
}

/// Rows with infinities, NaN, and nothing but minus infinity.
fn excluded_case() -> Case {
    const INF: f32 = f32::INFINITY;
    let logits =
        Tensor::from_f32([4, 3], &[-INF, 1.0, -INF, f32::NAN, -INF, -2.0, -INF, INF, 0.5, -INF, -INF, -INF]);
    let row = SampleRow { top_k: 2, top_p: 0.9, ..SampleRow::plain(3, 0) };
    let counts = Tensor::zeros(Spec::u32([4, 3]));
    let slots = Tensor::from_u32([4], &[3, 2, 1, 0]);
    Case::new(
        "sample of excluded logits",
        Sample { feeds: false },
        vec![logits, slots, row_words(4, row), counts],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::ShaderInfo;

    #[test]
    fn the_shader_validates_on_all_profiles() {
        let specs = [Spec::f32([2, 100]), Spec::u32([2]), Spec::u32([2, ROW_WORDS]), Spec::u32([2, 100])];
        let op = Sample { feeds: false };
        let outputs = op.infer(&specs).unwrap();
        for (_, caps) in Caps::profiles() {
            let launches = op.launch(&caps, &specs, &outputs).unwrap();
            let launch = &launches.steps[0];
            let wgsl = launch.render(&caps).unwrap();
            let (info, _) = ShaderInfo::reflect(launch.kernel, &wgsl, &caps, launch.params.fields).unwrap();
            assert_eq!(info.bindings.len(), launch.bindings.len());
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let specs = [Spec::f32([2, 100]), Spec::u32([2]), Spec::u32([2, 8]), Spec::u32([2, 100])];
        let error = Sample { feeds: false }.infer(&specs).unwrap_err().to_string();
        assert_eq!(error, "sample: settings must have shape [2, 16], got u32[2, 8]");
    }
}

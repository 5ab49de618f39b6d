//! Sampling on the GPU: exact over large vocabularies, the right distribution, the same token
//! in every form and width, and what transformers keeps.
#![cfg(feature = "text")]

mod common;

use std::sync::Arc;
use wginfer::gpu::Gpu;
use wginfer::kernel::{Caps, Form, Kernel, Launches};
use wginfer::ops::cases::Random;
use wginfer::ops::sample::{IN_PROMPT, NO_TOKEN, ROW_WORDS, SampleRow, random_bits};
use wginfer::ops::{Op, Sample};
use wginfer::session::run_op;
use wginfer::tensor::{Spec, Tensor};
use wginfer::text::sampling::{SamplingSettings, distribution};

const LARGE: usize = 151_936;

/// Draws one token for each row; every row has the same logits and counts.
fn draw(gpu: &Gpu, logits: &[f32], counts: &[u32], rows: &[SampleRow]) -> Vec<u32> {
    let (count, vocab) = (rows.len(), logits.len());
    let words: Vec<u32> = rows.iter().flat_map(SampleRow::to_words).collect();
    let slots: Vec<u32> = (0..count as u32).collect();
    let counts = if counts.is_empty() { vec![0; vocab] } else { counts.to_vec() };
    let inputs = [
        Tensor::from_f32([count, vocab], &logits.repeat(count)),
        Tensor::from_u32([count], &slots),
        Tensor::from_u32([count, ROW_WORDS], &words),
        Tensor::from_u32([count, vocab], &counts.repeat(count)),
    ];
    let outputs = run_op(gpu, Arc::new(Sample { feeds: false }), &inputs).unwrap();
    let sampled = outputs[0].to_u32();
    let after = outputs[1].to_u32();
    for (row, token) in sampled.iter().enumerate() {
        let token = *token as usize;
        assert!(token < vocab, "token {token} of {vocab}");
        assert_eq!(after[row * vocab + token], counts[token] + 1, "the drawn token is counted");
    }
    sampled
}

fn steps(settings: &SamplingSettings, count: u32) -> Vec<SampleRow> {
    (0..count).map(|step| settings.row(step)).collect()
}

/// Normally distributed numbers (Box and Muller).
fn normal(random: &mut Random) -> f64 {
    let radius = (-2.0 * (0.5 + 0.5 * random.unit()).max(1e-300).ln()).sqrt();
    radius * (std::f64::consts::PI * random.unit()).cos()
}

/// Logits of several shapes over a large vocabulary.
fn large_logits() -> Vec<(&'static str, Vec<f32>)> {
    let mut random = Random::new(5);
    let normal_logits: Vec<f32> = (0..LARGE).map(|_| (2.0 * normal(&mut random)) as f32).collect();
    let mut peaks: Vec<f32> = normal_logits.iter().map(|x| 0.5 * x - 10.0).collect();
    for (peak, token) in [17, 70_001, 70_002, LARGE - 1].into_iter().enumerate() {
        peaks[token] = 8.0 - 0.7 * peak as f32;
    }
    // Zipf's law: the n-th has probability 1 / n.
    let tail: Vec<f32> = (0..LARGE).map(|i| -((1 + i * 7919 % LARGE) as f32).ln()).collect();
    vec![("normal", normal_logits), ("flat", vec![0.75; LARGE]), ("peaks", peaks), ("tail", tail)]
}

#[test]
fn tokens_of_a_large_vocabulary_are_in_the_kept_set() {
    let Some(gpu) = common::gpu() else { return };
    let base = SamplingSettings::default();
    let settings = [
        SamplingSettings { top_p: 0.9, ..base },
        SamplingSettings { top_k: 50, top_p: 0.8, temperature: 0.7, ..base },
        SamplingSettings { top_k: 1000, min_p: 0.01, temperature: 1.3, ..base },
        SamplingSettings { top_p: 0.5, ..base },
    ];
    for (name, logits) in large_logits() {
        for settings in settings {
            let kept = distribution(&logits, &[], &settings);
            for token in draw(gpu, &logits, &[], &steps(&settings, 8)) {
                assert!(kept[token as usize] > 0.0, "{name}, {settings:?}: drew {token}");
            }
        }
        let best = distribution(&logits, &[], &SamplingSettings::greedy());
        let token = draw(gpu, &logits, &[], &[SampleRow::GREEDY])[0];
        assert_eq!(best[token as usize], 1.0, "{name}: greedy took {token}");
    }
}

/// With equal logits everything is exact: top-p of a half keeps the first half, top-k keeps all,
/// and the drawn token is that fraction of the kept ones that the random bits are.
#[test]
fn flat_logits_draw_exactly_the_expected_token() {
    let Some(gpu) = common::gpu() else { return };
    let logits = vec![-3.5; LARGE];
    let base = SamplingSettings { seed: 99, ..SamplingSettings::default() };
    for (settings, kept) in [
        (base, LARGE),
        (SamplingSettings { top_p: 0.5, ..base }, LARGE / 2),
        (SamplingSettings { top_k: 10, ..base }, LARGE),
        (SamplingSettings { top_p: 0.0, ..base }, 1),
        (SamplingSettings { top_k: 10, top_p: 0.25, min_p: 1.0, ..base }, LARGE / 4),
    ] {
        let rows = steps(&settings, 16);
        for (row, token) in rows.iter().zip(draw(gpu, &logits, &[], &rows)) {
            let want = (u128::from(random_bits(row.seed, row.step)) * kept as u128) >> 64;
            assert_eq!(u128::from(token), want, "{settings:?}, step {}", row.step);
        }
    }
}

/// Chi-square of 4,096 draws; the bound is four standard deviations above the mean.
#[test]
fn draws_follow_the_distribution() {
    let Some(gpu) = common::gpu() else { return };
    let mut random = Random::new(2);
    let logits: Vec<f32> = (0..64).map(|_| (1.5 * normal(&mut random)) as f32).collect();
    let counts: Vec<u32> = (0..64).map(|i| if i % 7 == 0 { IN_PROMPT } else { i % 3 }).collect();
    let base = SamplingSettings { seed: 4, ..SamplingSettings::default() };
    for settings in [
        base,
        SamplingSettings { temperature: 0.6, top_k: 12, ..base },
        SamplingSettings { top_p: 0.8, ..base },
        SamplingSettings { min_p: 0.1, temperature: 1.5, ..base },
        SamplingSettings { repetition_penalty: 1.4, frequency_penalty: 0.3, presence_penalty: -0.2, ..base },
    ] {
        let wanted = distribution(&logits, &counts, &settings);
        let mut drawn = vec![0u32; 64];
        for batch in 0..64 {
            let rows: Vec<SampleRow> = (0..64).map(|step| settings.row(batch * 64 + step)).collect();
            draw(gpu, &logits, &counts, &rows).into_iter().for_each(|token| drawn[token as usize] += 1);
        }
        let (mut chi_square, mut cells) = (0.0, 0.0);
        for (&count, probability) in drawn.iter().zip(wanted) {
            if probability == 0.0 {
                assert_eq!(count, 0, "{settings:?}: drew an excluded token");
                continue;
            }
            let expected = 4096.0 * probability;
            chi_square += (f64::from(count) - expected).powi(2) / expected;
            cells += 1.0;
        }
        let freedom: f64 = cells - 1.0;
        assert!(
            chi_square < freedom + 4.0 * (2.0 * freedom).sqrt(),
            "{settings:?}: {chi_square} of {freedom}"
        );
    }
}

#[test]
fn all_forms_and_widths_draw_the_same_tokens() {
    let Some(gpu) = common::gpu() else { return };
    let most = gpu.caps().max_workgroup_invocations;
    let mut random = Random::new(8);
    let base = SamplingSettings { seed: 12, temperature: 0.9, ..SamplingSettings::default() };
    for (vocab, settings) in [
        (5000, SamplingSettings { top_k: 300, top_p: 0.9, ..base }),
        (5000, SamplingSettings { top_p: 0.7, min_p: 0.01, ..base }),
        (9, base),
    ] {
        // Steps of a half make ties at every boundary.
        let logits: Vec<f32> = (0..vocab).map(|_| (4.0 * normal(&mut random)).round() as f32 / 2.0).collect();
        let rows = steps(&settings, 8);
        let want = draw(&gpu.with_caps(gpu.caps().clone().with_form(Form::Software)), &logits, &[], &rows);
        for width in [4, 64, 256, 1024].into_iter().filter(|&width| width <= most) {
            let caps = Caps { max_workgroup_invocations: width, ..gpu.caps().clone().with_form(Form::Plain) };
            assert_eq!(draw(&gpu.with_caps(caps), &logits, &[], &rows), want, "width {width}, {settings:?}");
        }
    }
}

/// What transformers' own processors keep, with their probabilities; the GPU draws from it.
#[test]
fn settings_keep_what_transformers_keeps() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/sampling");
    let listing: Vec<serde_json::Value> =
        serde_json::from_slice(&std::fs::read(folder.join("cases.json")).unwrap()).unwrap();
    let bytes = std::fs::read(folder.join("cases.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let words = |name: String| -> Vec<u32> {
        let (chunks, _) = file.tensor(&name).unwrap().data().as_chunks::<4>();
        chunks.iter().map(|&chunk| u32::from_le_bytes(chunk)).collect()
    };
    for (index, case) in listing.iter().enumerate() {
        let number = |key: &str, neutral: f32| case[key].as_f64().map_or(neutral, |value| value as f32);
        let settings = SamplingSettings {
            temperature: number("temperature", 1.0),
            top_k: case["top_k"].as_u64().map_or(0, |value| value as u32),
            top_p: number("top_p", 1.0),
            min_p: number("min_p", 0.0),
            repetition_penalty: number("repetition_penalty", 1.0),
            ..SamplingSettings::default()
        };
        settings.validate().unwrap();
        let logits: Vec<f32> = words(format!("{index}.logits")).into_iter().map(f32::from_bits).collect();
        let mut counts = vec![0; logits.len()];
        words(format!("{index}.previous_ids")).into_iter().for_each(|id| counts[id as usize] = IN_PROMPT);
        let got = distribution(&logits, &counts, &settings);
        for (token, want) in words(format!("{index}.probabilities")).into_iter().enumerate() {
            let want = f64::from(f32::from_bits(want));
            assert_eq!(got[token] > 0.0, want > 0.0, "{}: token {token}", case["name"]);
            assert!((got[token] - want).abs() < 1e-6, "{}: token {token}", case["name"]);
        }
        let Some(gpu) = common::gpu() else { continue };
        for token in draw(gpu, &logits, &counts, &steps(&settings, 32)) {
            assert!(got[token as usize] > 0.0, "{}: drew {token}", case["name"]);
        }
    }
}

/// The 64-bit functions of `lib/u64.wgsl` on the operands [a low, a high, b low, b high].
#[derive(Debug)]
struct U64Functions;

static U64_FUNCTIONS: Kernel = Kernel::new(
    "u64_functions",
    "
//# include \"lib/u64.wgsl\"
@group(0) @binding(0) var<storage, read> operands: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> results: array<vec2<u32>>;

@compute @workgroup_size(1)
fn main(@builtin(workgroup_id) group: vec3<u32>) {
    let a = operands[group.x].xy;
    let b = operands[group.x].zw;
    results[group.x * 6u] = u64_add(a, b);
    results[group.x * 6u + 1u] = u64_sub(a, b);
    results[group.x * 6u + 2u] = vec2<u32>(select(0u, 1u, u64_less(a, b)), 0u);
    results[group.x * 6u + 3u] = u64_product(a.x, b.x);
    results[group.x * 6u + 4u] = u64_scale(a, b.x);
    results[group.x * 6u + 5u] = u64_high_product(a, b);
}
",
);

impl Op for U64Functions {
    fn name(&self) -> &'static str {
        "u64_functions"
    }

    fn infer(&self, inputs: &[Spec]) -> wginfer::Result<Vec<Spec>> {
        Ok(vec![Spec::u32([inputs[0].shape.dims()[0], 12])])
    }

    fn launch(&self, _: &Caps, inputs: &[Spec], _: &[Spec]) -> wginfer::Result<Launches> {
        let rows = inputs[0].shape.dims()[0] as u32;
        Ok(U64_FUNCTIONS.launch().bind_all(1, 1).workgroups([rows, 1, 1]).work(1).into())
    }

    fn reference(&self, inputs: &[Tensor]) -> wginfer::Result<Vec<Tensor>> {
        let operands = inputs[0].to_u32();
        let mut results = vec![];
        for words in operands.chunks(4) {
            let wide = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
            let (a, b) = (wide(words[0], words[1]), wide(words[2], words[3]));
            let numbers = [
                a.wrapping_add(b),
                a.wrapping_sub(b),
                u64::from(a < b),
                u64::from(words[0]) * u64::from(words[2]),
                ((u128::from(a) * u128::from(words[2])) >> 32) as u64,
                ((u128::from(a) * u128::from(b)) >> 64) as u64,
            ];
            results.extend(numbers.into_iter().flat_map(|number| [number as u32, (number >> 32) as u32]));
        }
        Ok(vec![Tensor::from_u32([operands.len() / 4, 12], &results)])
    }
}

#[test]
fn words_of_64_bits_compute_as_on_the_host() {
    let Some(gpu) = common::gpu() else { return };
    let edges = [0, 1, 2, 0xffff, 0x1_0000, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff];
    let mut random = Random::new(1);
    let operands: Vec<u32> = (0..4 * 2000)
        .map(|i| if i % 3 == 0 { random.bits() as u32 } else { edges[random.below(9) as usize] })
        .collect();
    let inputs = [Tensor::from_u32([2000, 4], &operands)];
    let want = U64Functions.reference(&inputs).unwrap();
    assert_eq!(run_op(gpu, Arc::new(U64Functions), &inputs).unwrap()[0].to_u32(), want[0].to_u32());
}

#[test]
fn rows_without_a_slot_draw_nothing() {
    let Some(gpu) = common::gpu() else { return };
    let inputs = [
        Tensor::from_f32([2, 3], &[0.0; 6]),
        Tensor::from_u32([2], &[u32::MAX, 5]),
        Tensor::from_u32(
            [2, ROW_WORDS],
            &[SampleRow::GREEDY.to_words(), SampleRow::GREEDY.to_words()].concat(),
        ),
        Tensor::zeros(Spec::u32([2, 3])),
    ];
    let outputs = run_op(gpu, Arc::new(Sample { feeds: false }), &inputs).unwrap();
    assert_eq!(outputs[0].to_u32(), [NO_TOKEN, NO_TOKEN]);
    assert_eq!(outputs[1].to_u32(), [0; 6]);
}

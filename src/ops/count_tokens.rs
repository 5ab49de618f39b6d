//! Marks the tokens of prompts in the count state that the repetition penalty reads.

use super::cases::Case;
use super::sample::{IN_PROMPT, NO_SLOT, expect_counts, fit};
use super::{Expect, Inputs, Op};
use crate::kernel::{Caps, Kernel, Launches, groups, params};
use crate::tensor::{DType, Spec, Tensor};
use crate::{Error, Result};

static COUNT_TOKENS: Kernel = Kernel::new("count_tokens", include_str!("../../shaders/count_tokens.wgsl"));

params!(
    struct Params {
        rows: u32,
        vocab: u32,
        slots: u32,
    }
);

/// Sets bit 31 of the counts of prompt tokens.
///
/// Inputs: tokens u32 `[rows]`, slots u32 `[rows]` (not a slot: the row is inactive), counts u32
/// `[slots, vocab]` (a state). Output: the counts. Tokens outside the vocabulary are ignored.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CountTokens {
    /// Tokens in the vocabulary.
    pub vocab: usize,
}

impl Op for CountTokens {
    fn name(&self) -> &'static str {
        "count_tokens"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [tokens, slots, counts] = inputs.exactly(self)?;
        tokens.expect_dtype(self, "tokens", &[DType::U32])?;
        slots.expect_dtype(self, "slots", &[DType::U32])?;
        counts.expect_dtype(self, "counts", &[DType::U32])?;
        let &[rows] = tokens.shape.dims() else {
            return Err(Error::op(self.name(), format!("tokens must be [rows], got {tokens}")));
        };
        slots.expect_dims(self, "slots", &[rows])?;
        expect_counts(self, counts, self.vocab)?;
        Ok(vec![counts.clone()])
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], _: &[Spec]) -> Result<Launches> {
        let rows = inputs[0].elements();
        let width = caps.elementwise_width();
        let workgroups = groups(rows, width);
        if workgroups > caps.max_workgroups {
            let limit = u64::from(width) * u64::from(caps.max_workgroups);
            return Err(Error::op(self.name(), format!("takes at most {limit} tokens at once, got {rows}")));
        }
        let launch = COUNT_TOKENS
            .launch()
            .variant("width", width)
            .params(Params {
                rows: fit(self, rows)?,
                vocab: fit(self, self.vocab)?,
                slots: fit(self, inputs[2].shape.dims()[0])?,
            })
            .bind_all(2, 1)
            .workgroups([workgroups, 1, 1])
            .work(rows as u64);
        Ok(launch.into())
    }

    fn aliases(&self) -> &'static [(usize, usize)] {
        &[(0, 2)]
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let slots = inputs[2].dims()[0];
        let mut counts = inputs[2].to_u32();
        for (token, slot) in inputs[0].to_u32().into_iter().zip(inputs[1].to_u32()) {
            let (token, slot) = (token as usize, slot as usize);
            if token < self.vocab && slot < slots {
                counts[slot * self.vocab + token] |= IN_PROMPT;
            }
        }
        Ok(vec![Tensor::from_u32(inputs[2].spec().shape.clone(), &counts)])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let case = |name: &str, tokens: &[u32], slots: &[u32]| {
        let mut counts = vec![0; 3 * 21];
        counts[4] = 2;
        counts[25] = IN_PROMPT | 1;
        let inputs = vec![
            Tensor::from_u32([tokens.len()], tokens),
            Tensor::from_u32([slots.len()], slots),
            Tensor::from_u32([3, 21], &counts),
        ];
        Case::new(format!("count_tokens {name}"), CountTokens { vocab: 21 }, inputs)
    };
    let many: Vec<u32> = (0..131).map(|i| i * 7 % 23).collect();
    let slots: Vec<u32> = (0..131).map(|i| if i % 5 == 0 { NO_SLOT } else { i % 4 }).collect();
    vec![
        case("one", &[4], &[0]),
        case("repeats and rows without a slot", &[4, 4, 20, 3], &[0, 0, 1, NO_SLOT]),
        case("tokens outside the vocabulary", &many, &slots),
    ]
}

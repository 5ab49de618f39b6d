//! Choosing the next token on the device.

use crate::Result;
use crate::graph::{Graph, ValueId};
use crate::ops::{CountTokens, Sample};
use crate::tensor::{DType, Spec};

/// State that counts the tokens of each slot, for penalties.
fn counts(graph: &mut Graph, slots: usize, vocab: usize) -> ValueId {
    graph.state("counts", Spec::new(DType::U32, [slots, vocab]))
}

/// Marks prompt tokens u32 `[rows]` in the counts of their slots.
///
/// # Errors
/// When the shapes do not fit.
pub fn count_tokens(
    graph: &mut Graph,
    tokens: ValueId,
    rows: ValueId,
    slots: usize,
    vocab: usize,
) -> Result<ValueId> {
    let counts = counts(graph, slots, vocab);
    graph.add_one(CountTokens { vocab }, &[tokens, rows, counts])
}

/// The next token of each row of logits f32 `[rows, vocab]`: u32 `[rows]`. `rows` says which
/// slot each belongs to; `settings` are packed [`SampleRow`](crate::ops::SampleRow)s. `counts` is
/// the state's version if this run has changed it already. `fed` are the states of tokens and
/// positions u32 `[rows]` that, like `settings` then, are left as the next step needs them.
///
/// # Errors
/// When the shapes do not fit.
pub fn sample(
    graph: &mut Graph,
    logits: ValueId,
    rows: ValueId,
    settings: ValueId,
    counted: Option<ValueId>,
    slots: usize,
    fed: Option<[ValueId; 2]>,
) -> Result<ValueId> {
    let (_, vocab) = graph.spec(logits).shape.rows_and_cols();
    let counts = counted.unwrap_or_else(|| counts(graph, slots, vocab));
    let inputs: Vec<ValueId> =
        [logits, rows, settings, counts].into_iter().chain(fed.into_iter().flatten()).collect();
    Ok(graph.add(Sample { feeds: fed.is_some() }, &inputs)?[0])
}

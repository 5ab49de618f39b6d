//! Log-likelihood and perplexity of a text.

use super::generate::Prompt;
use super::model::TextModel;
use crate::cancel::CancelToken;
use crate::{Error, Result};

/// How a text longer than the context is scored.
#[derive(Debug, Clone, Default)]
pub struct ScoreOptions {
    /// Tokens from the start of one window to the next; half the context without it.
    pub stride: Option<usize>,
    /// Stops the scoring from another thread.
    pub cancel: CancelToken,
}

/// Log-likelihood of a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// The text's tokens.
    pub ids: Vec<u32>,
    /// Negative log-likelihood in nats of each token but the first, given those before it.
    pub nll: Vec<f64>,
}

impl Score {
    /// Mean negative log-likelihood in nats a token.
    pub fn mean_nll(&self) -> f64 {
        self.nll.iter().sum::<f64>() / self.nll.len() as f64
    }

    /// exp of the mean.
    pub fn perplexity(&self) -> f64 {
        self.mean_nll().exp()
    }
}

impl TextModel {
    /// Scores a text. One that is longer than the context goes through overlapping windows,
    /// each token counted once, in the first window that reaches it.
    ///
    /// # Errors
    /// [`Error::Request`] for fewer than two tokens or a stride that is 0 or above the context.
    pub fn score(&self, text: impl Into<Prompt>, options: &ScoreOptions) -> Result<Score> {
        let ids = self.prompt_ids(&text.into())?;
        let context = self.context();
        if ids.len() < 2 {
            return Err(Error::Request(format!("scoring needs at least 2 tokens, got {}", ids.len())));
        }
        let stride = options.stride.unwrap_or(context.div_ceil(2));
        if stride == 0 || (stride >= context && ids.len() > context) {
            let most = context - 1;
            return Err(Error::Request(format!("the stride must be 1 to {most} tokens, got {stride}")));
        }
        let slot = self.take_slot(&[])?;
        slot.cached(&[]);
        let mut nll = Vec::with_capacity(ids.len() - 1);
        let mut start = 0;
        while nll.len() + 1 < ids.len() {
            let window = &ids[start..(start + context).min(ids.len())];
            let mut engine = self.engine();
            engine.logits(slot.index(), window, 0, &options.cancel, |row, logits| {
                let target = start + row + 1;
                // The row after the last token counted so far, or one that an earlier window had.
                if target == nll.len() + 1 && row + 1 < window.len() {
                    nll.push(negative_log_likelihood(logits, window[row + 1])?);
                }
                Ok(())
            })?;
            start += stride;
        }
        Ok(Score { ids, nll })
    }
}

/// -ln softmax(logits)`[target]`.
fn negative_log_likelihood(logits: &[f32], target: u32) -> Result<f64> {
    if logits.iter().any(|logit| logit.is_nan() || *logit == f32::INFINITY) {
        return Err(Error::Request("the logits contain NaN or infinity: the weights are broken".into()));
    }
    let highest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - highest).exp()).sum();
    Ok(highest + sum.ln() - f64::from(logits[target as usize]))
}

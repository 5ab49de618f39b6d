//! Settings of sampling as users give them: names, ranges, defaults; the kernel's row of words;
//! and the distribution that they keep, computed on the host.

use crate::ops::sample::{self, FLAG_EMPTY, FLAG_INVALID, NO_TOKEN, ROW_WORDS, SampleRow};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// How the next token is chosen. The default draws from the model's own distribution.
///
/// They work in the order of Hugging Face transformers: penalties, temperature, top-k, top-p,
/// min-p.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplingSettings {
    /// Divides the logits: lower is more certain. 0 (or below 0.00001) takes the most probable
    /// token, the first of equal ones.
    pub temperature: f32,
    /// Keeps this many of the most probable tokens, and those that tie with the last; 0 is off.
    pub top_k: u32,
    /// Keeps the fewest most probable tokens whose probabilities reach this; 1 is off. Of equal
    /// ones at the boundary the first are kept.
    pub top_p: f32,
    /// Keeps tokens at least this fraction as probable as the most probable one; 0 is off.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of tokens in prompt or output; 1 is off.
    pub repetition_penalty: f32,
    /// Subtracted from the logit for each time the token was generated; 0 is off.
    pub frequency_penalty: f32,
    /// Subtracted from the logit if the token was generated; 0 is off.
    pub presence_penalty: f32,
    /// Same seed, same text on one device.
    pub seed: u64,
}

impl Default for SamplingSettings {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            seed: 0,
        }
    }
}

impl SamplingSettings {
    /// The most probable token at each step.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, ..Self::default() }
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// [`Error::Request`] that names the setting, what it must be and what it is.
    pub fn validate(&self) -> Result<()> {
        let check = |name: &str, value: f32, allowed: bool, range: &str| {
            if allowed && value.is_finite() {
                return Ok(());
            }
            Err(Error::Request(format!("sampling setting `{name}` must be {range}, got {value}")))
        };
        let fraction = |value: f32| (0.0..=1.0).contains(&value);
        check("temperature", self.temperature, self.temperature >= 0.0, "a finite number of at least 0")?;
        check("top_p", self.top_p, fraction(self.top_p), "from 0 to 1")?;
        check("min_p", self.min_p, fraction(self.min_p), "from 0 to 1")?;
        let repetition = self.repetition_penalty;
        check("repetition_penalty", repetition, repetition > 0.0, "a finite number above 0")?;
        for (name, value) in
            [("frequency_penalty", self.frequency_penalty), ("presence_penalty", self.presence_penalty)]
        {
            check(name, value, (-2.0..=2.0).contains(&value), "from -2 to 2")?;
        }
        Ok(())
    }

    /// Whether tokens of the prompt or the text are penalised.
    pub fn has_penalties(&self) -> bool {
        self.repetition_penalty != 1.0 || self.frequency_penalty != 0.0 || self.presence_penalty != 0.0
    }

    /// The settings for the token at `step`, which the seed's random numbers are counted by.
    pub const fn row(&self, step: u32) -> SampleRow {
        SampleRow {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            frequency_penalty: self.frequency_penalty,
            presence_penalty: self.presence_penalty,
            seed: self.seed,
            step,
        }
    }

    /// One row of the settings input of the `sample` operator.
    pub fn to_words(&self, step: u32) -> [u32; ROW_WORDS] {
        self.row(step).to_words()
    }
}

/// Probability of each token that the settings keep, others 0; in f64 on the host.
///
/// `counts` is empty or as long as `logits`: bit 31 = in the prompt, the rest = times generated.
/// All zero when every logit is excluded (minus infinity, NaN, plus infinity).
pub fn distribution(logits: &[f32], counts: &[u32], settings: &SamplingSettings) -> Vec<f64> {
    sample::distribution(logits, counts, &settings.row(0))
}

/// The token of a word of the sampler's output; a flag there means that the logits were no numbers.
pub(super) fn sampled_token(word: u32) -> Result<u32> {
    match word {
        NO_TOKEN => Ok(NO_TOKEN),
        word if word & FLAG_INVALID != 0 => Err(Error::Request(
            "the logits contain NaN or infinity: the weights are broken, or overflow in this dtype".into(),
        )),
        word if word & FLAG_EMPTY != 0 => {
            Err(Error::Request("all logits are minus infinity: the weights are broken".into()))
        }
        word => Ok(word),
    }
}

/// Draws a token on the host and counts it: the same token as the sampler's for the same logits.
/// `counts` is as in [`distribution`].
#[cfg(feature = "onnx")]
pub(super) fn draw(logits: &[f32], counts: &mut [u32], row: &SampleRow) -> Result<u32> {
    let (token, flags) = sample::draw(logits, counts, row);
    let token = sampled_token(token | flags)?;
    counts[token as usize] += 1;
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_outside_their_range_are_named() {
        let base = SamplingSettings::default();
        base.validate().unwrap();
        SamplingSettings::greedy().validate().unwrap();
        let cases = [
            (
                SamplingSettings { temperature: f32::NAN, ..base },
                "`temperature` must be a finite number of at least 0, got NaN",
            ),
            (
                SamplingSettings { temperature: -0.5, ..base },
                "`temperature` must be a finite number of at least 0, got -0.5",
            ),
            (
                SamplingSettings { temperature: f32::INFINITY, ..base },
                "`temperature` must be a finite number of at least 0, got inf",
            ),
            (SamplingSettings { top_p: 1.5, ..base }, "`top_p` must be from 0 to 1, got 1.5"),
            (SamplingSettings { min_p: f32::NAN, ..base }, "`min_p` must be from 0 to 1, got NaN"),
            (
                SamplingSettings { repetition_penalty: 0.0, ..base },
                "`repetition_penalty` must be a finite number above 0, got 0",
            ),
            (
                SamplingSettings { frequency_penalty: 3.0, ..base },
                "`frequency_penalty` must be from -2 to 2, got 3",
            ),
            (
                SamplingSettings { presence_penalty: f32::NAN, ..base },
                "`presence_penalty` must be from -2 to 2, got NaN",
            ),
        ];
        for (settings, message) in cases {
            assert_eq!(settings.validate().unwrap_err().to_string(), format!("sampling setting {message}"));
        }
    }

    #[test]
    fn missing_fields_have_neutral_defaults() {
        let settings: SamplingSettings = serde_json::from_str(r#"{"top_k": 5, "temperature": 0.5}"#).unwrap();
        assert_eq!(settings, SamplingSettings { top_k: 5, temperature: 0.5, ..SamplingSettings::default() });
        assert!(serde_json::from_str::<SamplingSettings>(r#"{"topk": 5}"#).is_err());
    }
}

//! The row of settings that the sampling kernel reads, and its random bits.
//!
//! `shaders/sample.wgsl` reads the words by the same numbers.

/// Words of a row of settings.
pub const ROW_WORDS: usize = 16;

/// The word that holds the step.
pub const STEP_WORD: usize = 10;

/// Temperatures below this are greedy: the quotients would leave the range of f32.
pub const LEAST_TEMPERATURE: f32 = 1e-5;

const GREEDY: u32 = 1;
const PENALTIES: u32 = 2;
const TOP_K: u32 = 4;
const TOP_P: u32 = 8;

/// How one row of logits is sampled, in valid values (see `SamplingSettings::validate`).
///
/// As words: 0 mode bits (1 greedy, 2 penalties, 4 top-k, 8 top-p), 1 reciprocal of the
/// temperature, 2 top-k, 3 top-p in units of 2^-32, 4 min-p in units of 2^-31, 5 repetition,
/// 6 frequency, 7 presence penalty, 8 and 9 seed (low, high), 10 step, the rest zero.
/// Words 1, 5, 6 and 7 are bits of an f32.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SampleRow {
    /// Divides the logits; below [`LEAST_TEMPERATURE`] the most probable token is taken.
    pub temperature: f32,
    /// Keeps this many of the most probable tokens and what ties with the last; 0 keeps all.
    pub top_k: u32,
    /// Keeps the fewest most probable tokens whose probabilities reach this; 1 keeps all.
    pub top_p: f32,
    /// Keeps tokens of at least this fraction of the highest probability; 0 keeps all.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of tokens seen; 1 changes nothing.
    pub repetition_penalty: f32,
    /// Subtracted for each time the token was generated.
    pub frequency_penalty: f32,
    /// Subtracted once if the token was generated.
    pub presence_penalty: f32,
    /// Chooses the sequence of random numbers.
    pub seed: u64,
    /// Position in that sequence: one for each token of a text.
    pub step: u32,
}

impl SampleRow {
    /// The most probable token, without penalties.
    pub const GREEDY: Self = Self {
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        repetition_penalty: 1.0,
        frequency_penalty: 0.0,
        presence_penalty: 0.0,
        seed: 0,
        step: 0,
    };

    /// Draws from the model's own distribution.
    pub const fn plain(seed: u64, step: u32) -> Self {
        Self { temperature: 1.0, seed, step, ..Self::GREEDY }
    }

    /// Whether no random number is drawn.
    pub fn is_greedy(&self) -> bool {
        self.temperature < LEAST_TEMPERATURE
    }

    /// The words that the kernel reads.
    pub fn to_words(&self) -> [u32; ROW_WORDS] {
        let penalties =
            self.repetition_penalty != 1.0 || self.frequency_penalty != 0.0 || self.presence_penalty != 0.0;
        let mut mode = if penalties { PENALTIES } else { 0 };
        if self.is_greedy() {
            mode |= GREEDY;
        } else {
            mode |= if self.top_k > 0 { TOP_K } else { 0 };
            mode |= if self.top_p < 1.0 { TOP_P } else { 0 };
        }
        let inverse = (1.0 / f64::from(self.temperature.max(LEAST_TEMPERATURE))) as f32;
        let least = (f64::from(self.min_p) * 2f64.powi(31)).round() as u32;
        let mut words = [0; ROW_WORDS];
        words[0] = mode;
        words[1] = inverse.to_bits();
        words[2] = self.top_k;
        words[3] = (f64::from(self.top_p) * 2f64.powi(32)).floor() as u32;
        words[4] = least.max(u32::from(self.min_p > 0.0));
        words[5] = self.repetition_penalty.to_bits();
        words[6] = self.frequency_penalty.to_bits();
        words[7] = self.presence_penalty.to_bits();
        words[8] = self.seed as u32;
        words[9] = (self.seed >> 32) as u32;
        words[10] = self.step;
        words
    }

    /// The settings of a row of words.
    ///
    /// # Panics
    /// When there are fewer than [`ROW_WORDS`].
    pub fn from_words(words: &[u32]) -> Self {
        let has = |bit: u32| words[0] & bit != 0;
        let float = |index: usize, neutral: f32| {
            if has(PENALTIES) { f32::from_bits(words[index]) } else { neutral }
        };
        Self {
            temperature: if has(GREEDY) { 0.0 } else { 1.0 / f32::from_bits(words[1]) },
            top_k: if has(TOP_K) { words[2] } else { 0 },
            top_p: if has(TOP_P) { (f64::from(words[3]) / 2f64.powi(32)) as f32 } else { 1.0 },
            min_p: (f64::from(words[4]) / 2f64.powi(31)) as f32,
            repetition_penalty: float(5, 1.0),
            frequency_penalty: float(6, 0.0),
            presence_penalty: float(7, 0.0),
            seed: u64::from(words[8]) | u64::from(words[9]) << 32,
            step: words[10],
        }
    }
}

/// The 64 random bits of a step: the first two words of Philox 4x32-10 (Salmon et al., SC 2011)
/// with the step as counter and the seed as key.
pub fn random_bits(seed: u64, step: u32) -> u64 {
    let bits = philox([step, 0, 0, 0], [seed as u32, (seed >> 32) as u32]);
    u64::from(bits[0]) | u64::from(bits[1]) << 32
}

fn philox(mut bits: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let first = 0xD251_1F53 * u64::from(bits[0]);
        let second = 0xCD9E_8D57 * u64::from(bits[2]);
        bits = [
            (second >> 32) as u32 ^ bits[1] ^ key[0],
            second as u32,
            (first >> 32) as u32 ^ bits[3] ^ key[1],
            first as u32,
        ];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers published with the Random123 library.
    #[test]
    fn philox_gives_the_published_bits() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox([!0; 4], [!0; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
    }

    #[test]
    fn words_keep_the_settings() {
        let row = SampleRow {
            temperature: 0.5,
            top_k: 40,
            top_p: 0.9,
            min_p: 0.25,
            repetition_penalty: 1.25,
            frequency_penalty: -0.5,
            presence_penalty: 0.75,
            seed: 0x0123_4567_89ab_cdef,
            step: 17,
        };
        assert_eq!(SampleRow::from_words(&row.to_words()), row);
        assert_eq!(SampleRow::from_words(&SampleRow::GREEDY.to_words()), SampleRow::GREEDY);
    }
}

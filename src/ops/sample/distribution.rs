//! The distribution that a row of settings keeps, on the host in f64: what the sampling kernel
//! is compared with.

use super::row::{SampleRow, random_bits};

/// Bit of a count that says that the token occurred in the prompt; the others count how often
/// it was generated.
pub const IN_PROMPT: u32 = 1 << 31;

/// Logits after penalties; NaN and infinite ones become minus infinity.
/// `counts` is empty or as long as `logits`.
fn penalised(logits: &[f32], counts: &[u32], row: &SampleRow) -> Vec<f64> {
    let value = |token: usize| {
        let x = f64::from(logits[token]);
        let seen = counts.get(token).copied().unwrap_or(0);
        if !x.is_finite() {
            return f64::NEG_INFINITY;
        }
        if seen == 0 {
            return x;
        }
        let times = seen & !IN_PROMPT;
        let repetition = f64::from(row.repetition_penalty);
        let x = if x > 0.0 { x / repetition } else { x * repetition };
        let presence = if times > 0 { f64::from(row.presence_penalty) } else { 0.0 };
        x - f64::from(row.frequency_penalty) * f64::from(times) - presence
    };
    (0..logits.len()).map(value).collect()
}

/// Probability of each token after penalties, temperature, top-k, top-p and min-p, in the order
/// of Hugging Face transformers. Zeros when every logit is excluded.
///
/// `counts` is empty or as long as `logits` (bit 31: in the prompt; else times generated).
pub fn distribution(logits: &[f32], counts: &[u32], row: &SampleRow) -> Vec<f64> {
    let values = penalised(logits, counts, row);
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
    let mut kept = vec![0.0; values.len()];
    let Some(&best) = order.first() else { return kept };
    if values[best] == f64::NEG_INFINITY {
        return kept;
    }
    if row.is_greedy() {
        // Equal values are equal as numbers: the first of 0 and -0 is the best too.
        let first = values.iter().position(|&value| value == values[best]).unwrap_or(best);
        kept[first] = 1.0;
        return kept;
    }
    if row.top_k > 0 && (row.top_k as usize) < order.len() {
        let least = values[order[row.top_k as usize - 1]];
        order.retain(|&token| values[token] >= least);
    }
    let mass = |token: usize| ((values[token] - values[best]) / f64::from(row.temperature)).exp();
    let wanted = f64::from(row.top_p) * order.iter().map(|&token| mass(token)).sum::<f64>();
    let mut before = 0.0;
    for &token in &order {
        if row.top_p < 1.0 && before >= wanted && before > 0.0 {
            break;
        }
        before += mass(token);
        if mass(token) >= f64::from(row.min_p) {
            kept[token] = mass(token);
        }
    }
    let total: f64 = kept.iter().sum();
    kept.iter_mut().for_each(|value| *value /= total);
    kept
}

/// The token that the row's seed and step draw, and the flags: the kernel's output for a row.
pub(crate) fn draw(logits: &[f32], counts: &[u32], row: &SampleRow) -> (u32, u32) {
    let invalid = logits.iter().any(|&x| x.is_nan() || x == f32::INFINITY);
    let kept = distribution(logits, counts, row);
    let wanted = random_bits(row.seed, row.step) as f64 / 2f64.powi(64);
    let mut sum = 0.0;
    let mut token = None;
    for (index, &probability) in kept.iter().enumerate().filter(|&(_, &probability)| probability > 0.0) {
        token = Some(index);
        sum += probability;
        if sum > wanted {
            break;
        }
    }
    let flags = if invalid { super::FLAG_INVALID } else { 0 };
    match token {
        Some(token) => (u32::try_from(token).expect("a vocabulary fits in u32"), flags),
        None => (0, flags | super::FLAG_EMPTY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(logits: &[f32], row: SampleRow) -> Vec<usize> {
        let probabilities = distribution(logits, &[], &row);
        assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        (0..logits.len()).filter(|&token| probabilities[token] > 0.0).collect()
    }

    #[test]
    fn each_setting_keeps_its_tokens() {
        let plain = SampleRow::plain(0, 0);
        let logits = [1.0, 3.0, 2.0, 3.0, f32::NEG_INFINITY, 0.0];
        assert_eq!(kept(&logits, plain), [0, 1, 2, 3, 5]);
        assert_eq!(kept(&logits, SampleRow { top_k: 1, ..plain }), [1, 3]);
        assert_eq!(kept(&logits, SampleRow { top_k: 3, ..plain }), [1, 2, 3]);
        assert_eq!(kept(&logits, SampleRow { top_p: 0.0, ..plain }), [1]);
        assert_eq!(kept(&logits, SampleRow { min_p: 0.3, ..plain }), [1, 2, 3]);
        assert_eq!(kept(&[1.5; 10], SampleRow { top_p: 0.5, ..plain }), [0, 1, 2, 3, 4]);
        assert_eq!(kept(&[-0.0, 0.0], SampleRow::GREEDY), [0]);
    }
}

//! Models without files: the shapes that peers were measured on, with random weights.

use crate::graph::WeightSource;
use crate::models::config::DecoderConfig;
use crate::ops::cases::Random;
use crate::session::WeightRows;
use crate::tensor::{DType, Shape, Spec};
use crate::{Error, Result};
use half::{bf16, f16};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::path::Path;

/// A decoder of Llama's form with a tied head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelShape {
    /// Name, as it is given on the command line.
    pub name: &'static str,
    /// Width of the residual stream.
    pub hidden: u32,
    /// Width of the feed-forward part.
    pub intermediate: u32,
    /// Number of layers.
    pub layers: u32,
    /// Heads of a layer for queries.
    pub heads: u32,
    /// Heads of a layer for keys and values.
    pub kv_heads: u32,
    /// Rows of the embedding.
    pub vocab_size: u32,
    /// Positions.
    pub context: u32,
}

impl ModelShape {
    /// The shapes that have a name: 15 and 124 million parameters, and those of Llama 3.2 1B.
    pub const ALL: [Self; 3] = [
        Self {
            name: "15m",
            hidden: 288,
            intermediate: 768,
            layers: 6,
            heads: 6,
            kv_heads: 6,
            vocab_size: 32_000,
            context: 1024,
        },
        Self {
            name: "124m",
            hidden: 768,
            intermediate: 2048,
            layers: 12,
            heads: 12,
            kv_heads: 12,
            vocab_size: 50_257,
            context: 1024,
        },
        Self {
            name: "1b",
            hidden: 2048,
            intermediate: 8192,
            layers: 16,
            heads: 32,
            kv_heads: 8,
            vocab_size: 128_256,
            context: 4096,
        },
    ];

    /// The shape of this name.
    ///
    /// # Errors
    /// [`Error::Request`] that lists the names.
    pub fn named(name: &str) -> Result<Self> {
        let names = || Self::ALL.map(|shape| shape.name).join(", ");
        let found = Self::ALL.into_iter().find(|shape| shape.name == name);
        found.ok_or_else(|| Error::Request(format!("expected a shape out of {}, got `{name}`", names())))
    }

    /// Its configuration, as a published model's.
    ///
    /// # Errors
    /// When the sizes do not fit each other.
    pub fn config(&self) -> Result<DecoderConfig> {
        let text = serde_json::json!({
            "model_type": "llama",
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "vocab_size": self.vocab_size,
            "max_position_embeddings": self.context,
            "tie_word_embeddings": true,
            "rms_norm_eps": 1e-5,
            "hidden_act": "silu",
        });
        DecoderConfig::from_bytes(Path::new(self.name), text.to_string().as_bytes())
    }
}

/// Weights made up while they are uploaded, the same at each start: vectors of ones; matrices
/// uniform around 0 with a deviation of 0.02; kernels of convolutions with one that keeps values
/// at their size (He et al. 2015), so that no deep network ends in denormal numbers.
#[derive(Debug, Clone, Copy)]
pub struct RandomWeights;

/// Bound of the elements of a weight: the uniform deviation times the root of 3.
fn limit(shape: &Shape) -> f32 {
    match shape.dims() {
        [_, inner @ ..] if inner.len() > 1 => (6.0 / inner.iter().product::<usize>() as f32).sqrt(),
        _ => 0.034_641,
    }
}

impl WeightRows for RandomWeights {
    fn rows(&self, source: &WeightSource, spec: &Spec, rows: Range<usize>, pitch: usize) -> Result<Vec<u8>> {
        if spec.shape.rank() == 1 {
            return Ok(pack(spec.dtype, std::iter::repeat_n(1.0, pitch)));
        }
        let ((_, cols), limit) = (spec.shape.rows_and_cols(), limit(&spec.shape));
        let mut hasher = DefaultHasher::new();
        source.hash(&mut hasher);
        let seed = hasher.finish();
        let mut bytes = Vec::with_capacity(rows.len() * pitch * spec.dtype.size());
        for row in rows {
            let mut random = Random::new(seed ^ (row as u64) << 32);
            let row = (0..pitch).map(|col| if col < cols { limit * unit(&mut random) } else { 0.0 });
            bytes.extend(pack(spec.dtype, row));
        }
        Ok(bytes)
    }
}

/// A number from -1 to 1.
fn unit(random: &mut Random) -> f32 {
    (random.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0
}

fn pack(dtype: DType, values: impl Iterator<Item = f32>) -> Vec<u8> {
    match dtype {
        DType::F16 => values.flat_map(|value| f16::from_f32(value).to_le_bytes()).collect(),
        DType::BF16 => values.flat_map(|value| bf16::from_f32(value).to_le_bytes()).collect(),
        _ => values.flat_map(f32::to_le_bytes).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::decoder::Decoder;
    use crate::nn::Cache;
    use crate::text::Engine;

    #[test]
    fn shapes_have_the_parameters_of_their_names() {
        for (name, millions) in [("15m", 15.2), ("124m", 123.6)] {
            let shape = ModelShape::named(name).unwrap();
            let decoder = Decoder::new(shape.config().unwrap(), "model", Cache { slots: 1, context: 8 });
            let graphs = Engine::first_graphs(&decoder, &DType::F32, 8).unwrap();
            let (_, graph) = &graphs[0];
            let weight =
                |value: &crate::graph::Value| matches!(value.source, crate::graph::Source::Weight(_));
            let weights = graph.values().filter(|(_, value)| weight(value));
            let parameters: usize = weights.map(|(_, value)| value.spec.elements()).sum();
            assert!((parameters as f64 / 1e6 - millions).abs() < 0.1, "{name}: {parameters}");
        }
        assert!(ModelShape::named("7b").unwrap_err().to_string().contains("15m, 124m"));
    }

    #[test]
    fn random_rows_do_not_depend_on_the_piece() {
        let spec = Spec::new(DType::F16, [5, 3]);
        let source = WeightSource { segments: Vec::new(), transposed: false };
        let whole = RandomWeights.rows(&source, &spec, 0..5, 8).unwrap();
        let piece = RandomWeights.rows(&source, &spec, 2..4, 8).unwrap();
        assert_eq!(whole[2 * 16..4 * 16], piece);
        assert_eq!(&whole[6..16], [0; 10]);
    }
}

//! Rotary position parameters: reading of both published forms, and the inverse frequencies.
//! Formulas: `modeling_rope_utils.py` of huggingface/transformers (version 5), named per variant.

use crate::error::{Error, Result};
use crate::json::Fields;

/// Which of a model's rotary parameters a layer uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LayerKind {
    /// The layer sees the whole sequence.
    Full,
    /// The layer sees a sliding window.
    Sliding,
}

/// Rotary positions of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Elements of each head that are rotated: even, at most head_dim.
    pub rotary_dim: u32,
    /// Parameters of full layers, and of sliding ones that have none of their own.
    pub full: RopeParameters,
    /// Parameters of sliding layers where they differ (Gemma 3).
    pub sliding: Option<RopeParameters>,
}

/// Base and scaling of a rotation.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeParameters {
    /// Base of the wavelengths.
    pub theta: f64,
    /// What is done to the plain frequencies.
    pub scaling: RopeScaling,
}

/// How the frequencies f_i = theta^(-2i / rotary_dim) are changed.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// Not at all. `dynamic` is read as this: it changes nothing up to `max_position_embeddings`.
    Default,
    /// f_i / factor (`_compute_linear_scaling_rope_parameters`).
    Linear {
        /// Divisor of all frequencies.
        factor: f64,
    },
    /// Long waves divided, short ones kept, in between blended (`_compute_llama3_parameters`).
    Llama3 {
        /// Divisor of the long waves.
        factor: f64,
        /// Waves longer than original_context / low_frequency are long.
        low_frequency: f64,
        /// Waves shorter than original_context / high_frequency are short.
        high_frequency: f64,
        /// Context of the first training.
        original_context: u32,
    },
    /// f_i / short_i or, beyond the original context, f_i / long_i (`_compute_longrope_parameters`).
    LongRope {
        /// Divisors [rotary_dim / 2] up to the original context.
        short: Vec<f64>,
        /// Divisors [rotary_dim / 2] for longer sequences.
        long: Vec<f64>,
        /// Context of the first training.
        original_context: u32,
        /// Factor of cosine and sine, at any length.
        attention_factor: f64,
    },
}

impl Rope {
    /// Inverse frequencies [rotary_dim / 2] for a sequence of `length` tokens, and the factor of cosine and sine.
    pub fn inverse_frequencies(&self, kind: LayerKind, length: u32) -> (Vec<f64>, f64) {
        let parameters = match kind {
            LayerKind::Full => &self.full,
            LayerKind::Sliding => self.sliding.as_ref().unwrap_or(&self.full),
        };
        parameters.inverse_frequencies(self.rotary_dim, length)
    }
}

impl RopeParameters {
    /// Inverse frequencies [rotary_dim / 2] for a sequence of `length` tokens, and the factor of cosine and sine.
    pub fn inverse_frequencies(&self, rotary_dim: u32, length: u32) -> (Vec<f64>, f64) {
        let dim = f64::from(rotary_dim);
        let plain = (0..rotary_dim / 2).map(|i| self.theta.powf(-2.0 * f64::from(i) / dim));
        match &self.scaling {
            RopeScaling::Default => (plain.collect(), 1.0),
            RopeScaling::Linear { factor } => (plain.map(|f| f / factor).collect(), 1.0),
            RopeScaling::Llama3 { factor, low_frequency, high_frequency, original_context } => {
                let context = f64::from(*original_context);
                let scale = |f: f64| {
                    let wavelength = 2.0 * std::f64::consts::PI / f;
                    if wavelength > context / low_frequency {
                        f / factor
                    } else if wavelength < context / high_frequency {
                        f
                    } else {
                        let smooth =
                            (context / wavelength - low_frequency) / (high_frequency - low_frequency);
                        (1.0 - smooth) * f / factor + smooth * f
                    }
                };
                (plain.map(scale).collect(), 1.0)
            }
            RopeScaling::LongRope { short, long, original_context, attention_factor } => {
                let divisors = if length > *original_context { long } else { short };
                (plain.zip(divisors).map(|(f, divisor)| f / divisor).collect(), *attention_factor)
            }
        }
    }
}

/// The keys and defaults of a family's rotary parameters.
pub(super) struct RopeKeys {
    /// Key of the base in the classic form.
    pub(super) theta: &'static str,
    /// Base where none is given.
    pub(super) default_theta: f64,
    /// Key of the rotated part of a head in the classic form.
    pub(super) partial: &'static str,
    /// Rotated part where none is given.
    pub(super) default_partial: f64,
    /// `original_max_position_embeddings` where none is given; `None` means `max_position_embeddings`.
    pub(super) default_original: Option<u32>,
    /// `yarn` is an older name of longrope (Phi 3).
    pub(super) yarn_is_longrope: bool,
}

impl Default for RopeKeys {
    fn default() -> Self {
        Self {
            theta: "rope_theta",
            default_theta: 10_000.0,
            partial: "partial_rotary_factor",
            default_partial: 1.0,
            default_original: None,
            yarn_is_longrope: false,
        }
    }
}

/// Reads the rotary positions of a family with one set of parameters.
pub(super) fn read(fields: &Fields<'_>, keys: &RopeKeys, head_dim: u32, context: u32) -> Result<Rope> {
    let newest = fields.object("rope_parameters")?;
    let scaling = match fields.object("rope_scaling")? {
        Some(scaling) => Some(scaling),
        None => newest.clone(),
    };
    let rotary_dim = read_rotary_dim(fields, newest.as_ref(), keys, head_dim)?;
    let theta = [scaling.as_ref(), newest.as_ref()].into_iter().flatten();
    let mut theta =
        theta.map(|fields| fields.positive("rope_theta")).find_map(Result::transpose).transpose()?;
    if theta.is_none() {
        theta = fields.positive(keys.theta)?;
    }
    let theta = theta.unwrap_or(keys.default_theta);
    let scaling = read_scaling(fields, scaling.as_ref(), keys, rotary_dim, context)?;
    Ok(Rope { rotary_dim, full: RopeParameters { theta, scaling }, sliding: None })
}

/// Reads Gemma 3's two sets of parameters: scaling on full layers, an own base on sliding ones.
pub(super) fn read_by_layer_kind(fields: &Fields<'_>, head_dim: u32, context: u32) -> Result<Rope> {
    let keys = RopeKeys::default();
    let newest = fields.object("rope_parameters")?;
    let part = |name: &str| newest.as_ref().map_or(Ok(None), |fields| fields.object(name));
    let one = |part: Option<&Fields<'_>>, key: &str, default: f64, scaling: Option<&Fields<'_>>| {
        let theta = match part.map_or(Ok(None), |part| part.positive("rope_theta"))? {
            Some(theta) => theta,
            None => fields.positive(key)?.unwrap_or(default),
        };
        let scaling = read_scaling(fields, scaling.or(part), &keys, head_dim, context)?;
        Ok::<_, Error>(RopeParameters { theta, scaling })
    };
    let scaling = fields.object("rope_scaling")?;
    let full = one(part("full_attention")?.as_ref(), "rope_theta", 1_000_000.0, scaling.as_ref())?;
    let sliding = one(part("sliding_attention")?.as_ref(), "rope_local_base_freq", 10_000.0, None)?;
    even(fields, "head_dim", head_dim, head_dim)?;
    Ok(Rope { rotary_dim: head_dim, full, sliding: Some(sliding) })
}

fn read_rotary_dim(
    fields: &Fields<'_>,
    newest: Option<&Fields<'_>>,
    keys: &RopeKeys,
    head_dim: u32,
) -> Result<u32> {
    let inner = newest.map_or(Ok(None), |newest| newest.positive("partial_rotary_factor"))?;
    let partial = match inner {
        Some(partial) => partial,
        None => fields.positive(keys.partial)?.unwrap_or(keys.default_partial),
    };
    if partial > 1.0 {
        return Err(fields.error(keys.partial, "a number above 0 and at most 1", partial));
    }
    let rotated = (1..=head_dim).rev().find(|dim| f64::from(*dim) <= f64::from(head_dim) * partial);
    even(fields, keys.partial, rotated.unwrap_or(0), head_dim)
}

fn even(fields: &Fields<'_>, key: &str, rotary_dim: u32, head_dim: u32) -> Result<u32> {
    if rotary_dim == 0 || !rotary_dim.is_multiple_of(2) {
        let got = format!("{rotary_dim} of {head_dim}");
        return Err(fields.error(key, "an even number of rotated elements per head", got));
    }
    Ok(rotary_dim)
}

fn read_scaling(
    fields: &Fields<'_>,
    scaling: Option<&Fields<'_>>,
    keys: &RopeKeys,
    rotary_dim: u32,
    context: u32,
) -> Result<RopeScaling> {
    let Some(scaling) = scaling else { return Ok(RopeScaling::Default) };
    let kind = match scaling.string("rope_type")? {
        Some(kind) => Some(kind),
        None => scaling.string("type")?,
    };
    match kind {
        None | Some("default" | "dynamic") => Ok(RopeScaling::Default),
        Some("linear") => Ok(RopeScaling::Linear { factor: required(scaling, "factor")? }),
        Some("llama3") => read_llama3(fields, scaling, context),
        Some("longrope" | "su") => read_longrope(fields, scaling, keys, rotary_dim, context),
        Some("yarn") if keys.yarn_is_longrope => read_longrope(fields, scaling, keys, rotary_dim, context),
        Some(other) => Err(Error::Unsupported(format!(
            "{}: rotary scaling of type `{other}`; supported are default, dynamic, linear, llama3, longrope",
            fields.path().display()
        ))),
    }
}

fn required(fields: &Fields<'_>, key: &str) -> Result<f64> {
    fields.positive(key)?.ok_or_else(|| fields.error(key, "a number above 0", fields.absence(key)))
}

/// Context of the first training: in the scaling, else beside it, else the default.
fn original_context(fields: &Fields<'_>, scaling: &Fields<'_>, default: u32) -> Result<u32> {
    let key = "original_max_position_embeddings";
    let range = 2..=super::families::MAX_CONTEXT;
    match scaling.size(key, range.clone())? {
        Some(original) => Ok(original),
        None => Ok(fields.size(key, range)?.unwrap_or(default)),
    }
}

fn read_llama3(fields: &Fields<'_>, scaling: &Fields<'_>, context: u32) -> Result<RopeScaling> {
    let low_frequency = required(scaling, "low_freq_factor")?;
    let high_frequency = required(scaling, "high_freq_factor")?;
    if high_frequency <= low_frequency {
        let expected = format!("a number above low_freq_factor = {low_frequency}");
        return Err(scaling.error("high_freq_factor", &expected, high_frequency));
    }
    Ok(RopeScaling::Llama3 {
        factor: required(scaling, "factor")?,
        low_frequency,
        high_frequency,
        original_context: original_context(fields, scaling, context)?,
    })
}

fn read_longrope(
    fields: &Fields<'_>,
    scaling: &Fields<'_>,
    keys: &RopeKeys,
    rotary_dim: u32,
    context: u32,
) -> Result<RopeScaling> {
    let divisors = |key: &str| {
        let expected = format!("a list of {} numbers above 0", rotary_dim / 2);
        match scaling.positive_list(key)? {
            Some(list) if list.len() as u64 == u64::from(rotary_dim / 2) => Ok(list),
            Some(list) => Err(scaling.error(key, &expected, format!("a list of {}", list.len()))),
            None => Err(scaling.error(key, &expected, scaling.absence(key))),
        }
    };
    let (short, long) = (divisors("short_factor")?, divisors("long_factor")?);
    let default = keys.default_original.unwrap_or(context).max(2);
    let original_context = original_context(fields, scaling, default)?;
    let original = f64::from(original_context);
    let factor = scaling.positive("factor")?.unwrap_or(f64::from(context) / original);
    let attention_factor = match scaling.positive("attention_factor")? {
        Some(given) => given,
        None if factor <= 1.0 => 1.0,
        None => (1.0 + factor.ln() / original.ln()).sqrt(),
    };
    Ok(RopeScaling::LongRope { short, long, original_context, attention_factor })
}

//! What `config.json` says of a network beyond its tensors' shapes.

use crate::Result;
use crate::json::Fields;
use crate::ops::UnaryFn;

/// The settings of `config.json`; all are optional.
#[derive(Debug)]
pub struct Settings<'a>(Fields<'a>);

impl<'a> Settings<'a> {
    pub(super) fn new(fields: Fields<'a>) -> Self {
        Self(fields)
    }

    /// A number above 0, such as an epsilon.
    pub(super) fn positive(&self, key: &str, default: f32) -> Result<f32> {
        Ok(self.0.positive(key)?.map_or(default, |value| value as f32))
    }

    /// True or false.
    pub(super) fn boolean(&self, key: &str, default: bool) -> Result<bool> {
        Ok(self.0.boolean(key)?.unwrap_or(default))
    }

    /// A size of at least 1.
    pub(super) fn size(&self, key: &str) -> Result<Option<usize>> {
        Ok(self.0.size(key, 1..=1 << 20)?.map(|size| size as usize))
    }

    /// A list of indices.
    pub(super) fn indices(&self, key: &str) -> Result<Vec<usize>> {
        Ok(self.0.token_ids(key)?.into_iter().map(|index| index as usize).collect())
    }

    /// An activation function by the names of transformers.
    pub(super) fn activation(&self, key: &str, default: UnaryFn) -> Result<UnaryFn> {
        let names: [(&str, UnaryFn); 12] = [
            ("relu", UnaryFn::Relu),
            ("relu6", UnaryFn::Relu6),
            ("silu", UnaryFn::Silu),
            ("swish", UnaryFn::Silu),
            ("gelu", UnaryFn::Gelu),
            ("gelu_new", UnaryFn::GeluTanh),
            ("gelu_pytorch_tanh", UnaryFn::GeluTanh),
            ("tanh", UnaryFn::Tanh),
            ("sigmoid", UnaryFn::Sigmoid),
            ("hardswish", UnaryFn::HardSwish),
            ("mish", UnaryFn::Mish),
            ("linear", UnaryFn::Identity),
        ];
        let Some(name) = self.0.string(key)? else { return Ok(default) };
        let found = names.iter().find(|(known, _)| *known == name);
        found.map(|(_, function)| *function).ok_or_else(|| {
            let known: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
            self.0.error(key, &format!("one of {}", known.join(", ")), format!("{name:?}"))
        })
    }

    /// Fails unless a setting is absent or has the only value that is supported.
    pub(super) fn only<T: PartialEq + std::fmt::Display>(
        &self,
        key: &str,
        got: Option<T>,
        supported: T,
    ) -> Result<()> {
        match got {
            Some(got) if got != supported => {
                Err(self.0.error(key, &format!("{supported} (others are not supported)"), got))
            }
            _ => Ok(()),
        }
    }

    /// The error of a setting that does not fit the tensors.
    pub(super) fn error(&self, key: &str, expected: &str, got: impl std::fmt::Display) -> crate::Error {
        self.0.error(key, expected, got)
    }
}

//! Names and shapes of a checkpoint's tensors, from which networks read their sizes.

use crate::tensor::Shape;
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Names and shapes of a checkpoint's tensors.
#[derive(Debug, Clone, Default)]
pub struct TensorShapes {
    path: PathBuf,
    shapes: BTreeMap<String, Shape>,
}

impl TensorShapes {
    /// Takes names and shapes; `path` is named in errors.
    pub fn new(path: impl Into<PathBuf>, shapes: impl IntoIterator<Item = (String, Shape)>) -> Self {
        Self { path: path.into(), shapes: shapes.into_iter().collect() }
    }

    /// Where they come from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.shapes.contains_key(name)
    }

    /// Whether a tensor's name starts so.
    pub fn has_prefix(&self, prefix: &str) -> bool {
        self.shapes.range(prefix.to_owned()..).next().is_some_and(|(name, _)| name.starts_with(prefix))
    }

    /// Sizes of a tensor of `N` dimensions.
    ///
    /// # Errors
    /// [`Error::File`] when it is missing or has another number of dimensions.
    pub fn dims<const N: usize>(&self, name: &str) -> Result<[usize; N]> {
        let shape = self.shapes.get(name).ok_or_else(|| self.error(format!("no tensor `{name}`")))?;
        shape
            .dims()
            .try_into()
            .map_err(|_| self.error(format!("tensor `{name}`: expected {N} dimensions, got shape {shape}")))
    }

    /// How many of the names that `name` makes of 0, 1, ... are there, up to the first missing one.
    ///
    /// # Errors
    /// [`Error::File`] when there is not even the first.
    pub fn count(&self, name: impl Fn(usize) -> String) -> Result<usize> {
        let count = (0..).take_while(|&index| self.has(&name(index))).count();
        if count == 0 { Err(self.error(format!("no tensor `{}`", name(0)))) } else { Ok(count) }
    }

    /// Makes an error that names the file.
    pub(super) fn error(&self, message: impl Into<String>) -> Error {
        Error::file(&self.path, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_and_misshapen_tensors_are_named() {
        let shapes = [("a.0", vec![2, 3]), ("a.1", vec![4])];
        let named = shapes.map(|(name, dims)| (name.to_owned(), Shape::from(dims)));
        let tensors = TensorShapes::new("x.safetensors", named);
        assert_eq!(tensors.dims::<2>("a.0").unwrap(), [2, 3]);
        let text = tensors.dims::<2>("a.1").unwrap_err().to_string();
        assert_eq!(text, "x.safetensors: tensor `a.1`: expected 2 dimensions, got shape [4]");
        assert_eq!(tensors.dims::<1>("b").unwrap_err().to_string(), "x.safetensors: no tensor `b`");
        assert_eq!(tensors.count(|index| format!("a.{index}")).unwrap(), 2);
        assert!(tensors.count(|index| format!("b.{index}")).is_err());
        assert!(tensors.has_prefix("a.") && !tensors.has_prefix("a.2") && !tensors.has_prefix("b"));
    }
}

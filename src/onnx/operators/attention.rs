//! Attention and rotary embeddings.

use super::Table;

pub(super) const OPERATORS: Table = &[];

//! Recurrent layers.

use super::Table;

pub(super) const OPERATORS: Table = &[];

//! Operators of the domain com.microsoft that published exports use.

use super::Table;

pub(super) const OPERATORS: Table = &[];

//! How numbers of operators are written where a graph is stored: bit for bit.
//!
//! JSON has neither infinities nor NaN. These are texts of their bits as IEEE 754 binary32 in
//! hexadecimal: `"0xff800000"` is minus infinity. All others are plain numbers.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What fields with `#[serde(with = "super::float")]` may be: `f32` and `Option<f32>`.
pub(super) trait Number: Sized {
    fn to_written(&self) -> Option<Written>;
    fn of_written(written: Option<Written>) -> Result<Self, String>;
}

/// A number as it is written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Written {
    Finite(f64),
    Bits(String),
}

impl Number for f32 {
    fn to_written(&self) -> Option<Written> {
        Some(match self.is_finite() {
            true => Written::Finite(f64::from(*self)),
            false => Written::Bits(format!("{:#010x}", self.to_bits())),
        })
    }

    fn of_written(written: Option<Written>) -> Result<Self, String> {
        match written {
            Some(Written::Finite(number)) if (number as Self).is_finite() => Ok(number as Self),
            Some(Written::Finite(number)) => Err(format!("{number:e} is beyond the largest f32")),
            Some(Written::Bits(text)) => {
                let bits = text.strip_prefix("0x").filter(|digits| digits.len() == 8);
                let bits = bits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
                bits.map(Self::from_bits).ok_or_else(|| format!("expected a number, got `{text}`"))
            }
            None => Err("expected a number, got null".to_owned()),
        }
    }
}

impl Number for Option<f32> {
    fn to_written(&self) -> Option<Written> {
        self.as_ref().and_then(Number::to_written)
    }

    fn of_written(written: Option<Written>) -> Result<Self, String> {
        written.map(|written| Number::of_written(Some(written))).transpose()
    }
}

pub(super) fn serialize<N: Number, S: Serializer>(number: &N, serializer: S) -> Result<S::Ok, S::Error> {
    number.to_written().serialize(serializer)
}

pub(super) fn deserialize<'de, N: Number, D: Deserializer<'de>>(deserializer: D) -> Result<N, D::Error> {
    N::of_written(Option::deserialize(deserializer)?).map_err(D::Error::custom)
}

//! Guarded reading of JSON files: a size limit before reading, the parser's own depth limit, and typed
//! access to fields whose errors name the file, the key, what was expected and what was found.

use std::fs::File;
use std::io::Read;
use std::ops::RangeInclusive;
use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// Largest configuration file that is read, in bytes.
pub(crate) const CONFIG_LIMIT: u64 = 16 << 20;

/// Reads a whole file of at most `limit` bytes; `None` where there is no such file.
pub(crate) fn read_bytes(path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io(path, error)),
    };
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|error| Error::io(path, error))?;
    if bytes.len() as u64 > limit {
        return Err(Error::file(path, format!("expected a file of at most {limit} bytes, got a larger one")));
    }
    Ok(Some(bytes))
}

/// Reads a JSON object from a file; `None` where there is no such file.
pub(crate) fn read_object(path: &Path) -> Result<Option<Map<String, Value>>> {
    read_bytes(path, CONFIG_LIMIT)?.map(|bytes| parse_object(path, &bytes)).transpose()
}

/// Parses a JSON object; `path` is only named in errors.
pub(crate) fn parse_object(path: &Path, bytes: &[u8]) -> Result<Map<String, Value>> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(other) => Err(Error::file(path, format!("expected a JSON object, got {}", describe(&other)))),
        Err(error) => Err(Error::file(path, format!("not valid JSON: {error}"))),
    }
}

/// Says in a few words what a value is, for the "got" of an error.
pub(crate) fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(value) => value.to_string(),
        Value::String(text) if text.chars().count() <= 40 => format!("{text:?}"),
        Value::String(text) => format!("a string of {} bytes", text.len()),
        Value::Array(items) => format!("a list of {}", items.len()),
        Value::Object(_) => "an object".to_owned(),
    }
}

/// The fields of one JSON object of a file. A field that is absent or null reads as `None`.
#[derive(Debug, Clone)]
pub(crate) struct Fields<'a> {
    path: &'a Path,
    prefix: String,
    map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    /// Looks at the outermost object of a file.
    pub(crate) fn new(path: &'a Path, map: &'a Map<String, Value>) -> Self {
        Self { path, prefix: String::new(), map }
    }

    /// Makes the error for a key of this object.
    pub(crate) fn error(&self, key: &str, expected: &str, got: impl std::fmt::Display) -> Error {
        Error::file(self.path, format!("`{}{key}`: expected {expected}, got {got}", self.prefix))
    }

    /// Tells whether the key is there, be it null.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// All keys with their raw values.
    #[cfg_attr(not(feature = "vision"), allow(dead_code, reason = "only labels are such objects"))]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'a str, &'a Value)> {
        self.map.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Returns the raw value, or `None` where it is absent or null.
    pub(crate) fn value(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    fn typed<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        match self.value(key) {
            None => Ok(None),
            Some(value) => read(value).map(Some).ok_or_else(|| self.error(key, expected, describe(value))),
        }
    }

    /// Reads true or false.
    pub(crate) fn boolean(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "true or false", Value::as_bool)
    }

    /// Reads a string.
    pub(crate) fn string(&self, key: &str) -> Result<Option<&'a str>> {
        self.typed(key, "a string", Value::as_str)
    }

    /// Reads a number, whole or not.
    #[cfg_attr(not(feature = "text"), allow(dead_code, reason = "only generation settings have such fields"))]
    pub(crate) fn number(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a number", |value| value.as_f64().filter(|number| number.is_finite()))
    }

    /// Reads a number above 0.
    pub(crate) fn positive(&self, key: &str) -> Result<Option<f64>> {
        let expected = "a number above 0";
        self.typed(key, expected, |value| value.as_f64().filter(|number| number.is_finite() && *number > 0.0))
    }

    /// Reads an integer that may be negative.
    #[cfg_attr(not(feature = "text"), allow(dead_code, reason = "only generation settings have such fields"))]
    pub(crate) fn integer(&self, key: &str) -> Result<Option<i64>> {
        self.typed(key, "an integer", Value::as_i64)
    }

    /// Reads an integer within a range.
    pub(crate) fn size(&self, key: &str, range: RangeInclusive<u32>) -> Result<Option<u32>> {
        let expected = format!("an integer from {} to {}", range.start(), range.end());
        self.typed(key, &expected, |value| {
            let number = u32::try_from(value.as_u64()?).ok()?;
            range.contains(&number).then_some(number)
        })
    }

    /// Reads an integer within a range that has to be there.
    pub(crate) fn required_size(&self, key: &str, range: RangeInclusive<u32>) -> Result<u32> {
        let expected = format!("an integer from {} to {}", range.start(), range.end());
        self.size(key, range)?.ok_or_else(|| self.error(key, &expected, self.absence(key)))
    }

    /// Reads a list of numbers above 0.
    pub(crate) fn positive_list(&self, key: &str) -> Result<Option<Vec<f64>>> {
        self.typed(key, "a list of numbers above 0", |value| {
            let number = |item: &Value| item.as_f64().filter(|number| number.is_finite() && *number > 0.0);
            value.as_array()?.iter().map(number).collect()
        })
    }

    /// Reads a number or a list of numbers.
    pub(crate) fn numbers(&self, key: &str) -> Result<Option<Vec<f64>>> {
        let number = |item: &Value| item.as_f64().filter(|number| number.is_finite());
        self.typed(key, "a number or a list of numbers", |value| match value {
            Value::Array(items) => items.iter().map(number).collect(),
            other => Some(vec![number(other)?]),
        })
    }

    /// Reads a string or a list of strings.
    pub(crate) fn strings(&self, key: &str) -> Result<Option<Vec<&'a str>>> {
        self.typed(key, "a string or a list of strings", |value| match value {
            Value::String(text) => Some(vec![text.as_str()]),
            Value::Array(items) => items.iter().map(Value::as_str).collect(),
            _ => None,
        })
    }

    /// Reads one token id or a list of them. A negative id means none.
    pub(crate) fn token_ids(&self, key: &str) -> Result<Vec<u32>> {
        let one = |value: &Value| match value.as_i64() {
            Some(id) if id < 0 => Some(None),
            Some(id) => u32::try_from(id).ok().map(Some),
            None => None,
        };
        let read = self.typed(key, "a token id or a list of token ids", |value| match value {
            Value::Array(items) => items.iter().map(one).collect::<Option<Vec<_>>>(),
            other => Some(vec![one(other)?]),
        })?;
        Ok(read.into_iter().flatten().flatten().collect())
    }

    /// Reads an object.
    pub(crate) fn object(&self, key: &str) -> Result<Option<Self>> {
        let map = self.typed(key, "an object", Value::as_object)?;
        Ok(map.map(|map| Self { path: self.path, prefix: format!("{}{key}.", self.prefix), map }))
    }

    /// Says how a missing key is missing: "nothing" or "null".
    pub(crate) fn absence(&self, key: &str) -> &'static str {
        if self.has(key) { "null" } else { "nothing" }
    }

    /// The file, for errors that concern it as a whole.
    pub(crate) fn path(&self) -> &'a Path {
        self.path
    }
}

/// Keeps the token ids that are inside the vocabulary; the others are logged and dropped, because published
/// files keep stale ids of a parent model.
pub(crate) fn ids_in_vocabulary(path: &Path, key: &str, ids: Vec<u32>, vocabulary: u32) -> Vec<u32> {
    let keep = |id: &u32| {
        let inside = *id < vocabulary;
        if !inside {
            log::warn!(
                "{}: `{key}`: {id} is outside the vocabulary of {vocabulary}, ignored",
                path.display()
            );
        }
        inside
    };
    ids.into_iter().filter(keep).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_file_key_expected_and_got() {
        let path = Path::new("model/config.json");
        let map = parse_object(path, br#"{"a": {"b": "x"}, "n": -1, "ids": [1, -1, 7]}"#).unwrap();
        let fields = Fields::new(path, &map);
        let inner = fields.object("a").unwrap().unwrap();
        let text = inner.number("b").unwrap_err().to_string();
        assert_eq!(text, "model/config.json: `a.b`: expected a number, got \"x\"");
        let text = fields.required_size("n", 1..=9).unwrap_err().to_string();
        assert_eq!(text, "model/config.json: `n`: expected an integer from 1 to 9, got -1");
        let text = fields.required_size("m", 1..=9).unwrap_err().to_string();
        assert!(text.ends_with("got nothing"), "{text}");
        assert_eq!(fields.token_ids("ids").unwrap(), [1, 7]);
    }

    #[test]
    fn deep_nesting_is_an_error() {
        let text = "[".repeat(100_000);
        assert!(parse_object(Path::new("x"), text.as_bytes()).is_err());
    }
}

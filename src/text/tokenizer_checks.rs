//! What a `tokenizer.json` has to satisfy before the tokenizers crate sees it. The crate panics, or allocates what
//! a header asks for, on files that break these rules, so they are errors here, with the field's name.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;

use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::json::describe;

/// Largest id of a token.
const MAX_ID: u64 = 1 << 24;

/// The outermost object of a file, whose keys occur once: the checks see the last of equal keys, the crate all.
struct UniqueKeys(Map<String, Value>);

impl<'de> de::Deserialize<'de> for UniqueKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = UniqueKeys;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<UniqueKeys, A::Error> {
                let mut map = Map::new();
                while let Some((key, value)) = access.next_entry::<String, Value>()? {
                    if map.contains_key(&key) {
                        return Err(de::Error::custom(format!("expected each key once, got `{key}` twice")));
                    }
                    map.insert(key, value);
                }
                Ok(UniqueKeys(map))
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

/// Parses and checks the text of a `tokenizer.json`.
///
/// # Errors
/// Anything that the crate would panic on ([`Error::File`] naming the field).
pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Map<String, Value>> {
    let UniqueKeys(map) = serde_json::from_slice(bytes)
        .map_err(|error| Error::file(path, format!("not a valid tokenizer.json: {error}")))?;
    let checks = Checks { path };
    checks.model(&map)?;
    checks.added_tokens(&map)?;
    for key in ["normalizer", "pre_tokenizer", "post_processor", "decoder"] {
        if let Some(part) = map.get(key) {
            checks.part(key, part)?;
        }
    }
    Ok(map)
}

struct Checks<'a> {
    path: &'a Path,
}

impl Checks<'_> {
    fn error(&self, field: &str, expected: &str, got: impl fmt::Display) -> Error {
        Error::file(self.path, format!("`{field}`: expected {expected}, got {got}"))
    }

    fn found(&self, field: &str, expected: &str, value: Option<&Value>) -> Error {
        self.error(field, expected, value.map_or_else(|| "nothing".to_owned(), describe))
    }

    fn model(&self, map: &Map<String, Value>) -> Result<()> {
        let Some(Value::Object(model)) = map.get("model") else {
            return Err(self.found("model", "an object", map.get("model")));
        };
        match model.get("vocab") {
            Some(Value::Object(vocab)) => {
                self.vocabulary(vocab)?;
                match model.get("merges") {
                    None => Ok(()),
                    Some(Value::Array(merges)) => self.merges(model, vocab, merges),
                    other => Err(self.found("model.merges", "a list", other)),
                }
            }
            Some(Value::Array(pieces)) => self.pieces(model, pieces),
            other => Err(self.found("model.vocab", "an object or a list", other)),
        }
    }

    fn vocabulary(&self, vocab: &Map<String, Value>) -> Result<()> {
        let mut seen = HashSet::with_capacity(vocab.len());
        for (token, id) in vocab {
            let field = || format!("model.vocab.{}", token.chars().take(40).collect::<String>());
            let valid = id.as_u64().filter(|id| *id < MAX_ID);
            let valid = valid.ok_or_else(|| self.found(&field(), "an id below 16777216", Some(id)))?;
            if !seen.insert(valid) {
                return Err(self.error(&field(), "an id of its own", format!("{valid} again")));
            }
        }
        Ok(())
    }

    /// Both parts of a merge and its result have to be in the vocabulary; the crate copies them into a buffer of
    /// the longest token's size.
    fn merges(&self, model: &Map<String, Value>, vocab: &Map<String, Value>, merges: &[Value]) -> Result<()> {
        let prefix = match model.get("continuing_subword_prefix") {
            None | Some(Value::Null) => "",
            Some(Value::String(prefix)) => prefix,
            other => return Err(self.found("model.continuing_subword_prefix", "a string", other)),
        };
        for (index, merge) in merges.iter().enumerate() {
            let field = format!("model.merges[{index}]");
            let parts = match merge {
                Value::String(text) if text.starts_with("#version") => continue,
                Value::String(text) => text.split_once(' ').filter(|(_, right)| !right.contains(' ')),
                Value::Array(parts) => match parts.as_slice() {
                    [Value::String(left), Value::String(right)] => Some((left.as_str(), right.as_str())),
                    _ => None,
                },
                _ => None,
            };
            let (left, right) = parts.ok_or_else(|| self.found(&field, "a pair of tokens", Some(merge)))?;
            let rest = right.strip_prefix(prefix).ok_or_else(|| {
                self.error(
                    &field,
                    &format!("a second token with the prefix {prefix:?}"),
                    format!("{right:?}"),
                )
            })?;
            for token in [left, right, &format!("{left}{rest}")] {
                if !vocab.contains_key(token) {
                    return Err(self.error(&field, "tokens of the vocabulary", format!("{token:?}")));
                }
            }
        }
        Ok(())
    }

    /// The vocabulary of a unigram model: pairs of text and score.
    fn pieces(&self, model: &Map<String, Value>, pieces: &[Value]) -> Result<()> {
        for (index, piece) in pieces.iter().enumerate() {
            let pair = piece.as_array().map(Vec::as_slice);
            let valid = matches!(pair, Some([Value::String(_), score]) if score.is_number());
            if !valid {
                let field = format!("model.vocab[{index}]");
                return Err(self.found(&field, "a token and its score", Some(piece)));
            }
        }
        match model.get("unk_id") {
            None | Some(Value::Null) => Ok(()),
            Some(id) if id.as_u64().is_some_and(|id| id < pieces.len() as u64) => Ok(()),
            other => Err(self.found("model.unk_id", &format!("an id below {}", pieces.len()), other)),
        }
    }

    fn added_tokens(&self, map: &Map<String, Value>) -> Result<()> {
        let tokens = match map.get("added_tokens") {
            None => return Ok(()),
            Some(Value::Array(tokens)) => tokens,
            other => return Err(self.found("added_tokens", "a list", other)),
        };
        for (index, token) in tokens.iter().enumerate() {
            let field = |key: &str| format!("added_tokens[{index}].{key}");
            if token.get("id").and_then(Value::as_u64).is_none_or(|id| id >= MAX_ID) {
                return Err(self.found(&field("id"), "an id below 16777216", token.get("id")));
            }
            if !token.get("content").is_some_and(Value::is_string) {
                return Err(self.found(&field("content"), "a string", token.get("content")));
            }
        }
        Ok(())
    }

    /// Checks a normaliser, splitter, processor or decoder and those inside a sequence of them.
    fn part(&self, field: &str, part: &Value) -> Result<()> {
        for key in ["normalizers", "pretokenizers", "processors", "decoders"] {
            if let Some(Value::Array(inner)) = part.get(key) {
                for (index, inner) in inner.iter().enumerate() {
                    self.part(&format!("{field}.{key}[{index}]"), inner)?;
                }
            }
        }
        let whole = |key: &str| part.get(key).and_then(Value::as_u64);
        match part.get("type").and_then(Value::as_str) {
            Some("FixedLength") if whole("length") == Some(0) => {
                Err(self.error(&format!("{field}.length"), "at least 1", 0))
            }
            Some("Strip") if field.starts_with("decoder") && whole("stop") != Some(0) => {
                Err(self.found(&format!("{field}.stop"), "0", part.get("stop")))
            }
            Some("Precompiled") => self.charsmap(field, part),
            Some("TemplateProcessing") => self.template(field, part),
            _ => Ok(()),
        }
    }

    /// Sentencepiece's map of characters: base64 of a length in bytes, a trie of that length, and UTF-8 text.
    fn charsmap(&self, field: &str, part: &Value) -> Result<()> {
        let key = "precompiled_charsmap";
        let field = format!("{field}.{key}");
        let expected = "base64 of a trie with its length and UTF-8 text";
        let text = part.get(key).and_then(Value::as_str);
        let bytes = text.and_then(from_base64).ok_or_else(|| self.found(&field, expected, part.get(key)))?;
        let valid = bytes.split_first_chunk::<4>().and_then(|(length, rest)| {
            let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
            let text = rest.get(length..)?;
            Some(length >= 4 && length.is_multiple_of(4) && std::str::from_utf8(text).is_ok())
        });
        if valid == Some(true) {
            return Ok(());
        }
        Err(self.error(&field, expected, format!("{} bytes that are not", bytes.len())))
    }

    /// Special tokens of a template have to be listed, and a single text has no second sequence.
    fn template(&self, field: &str, part: &Value) -> Result<()> {
        let listed = part.get("special_tokens").and_then(Value::as_object);
        for key in ["single", "pair"] {
            let pieces = part.get(key).and_then(Value::as_array);
            let pieces =
                pieces.ok_or_else(|| self.found(&format!("{field}.{key}"), "a list", part.get(key)))?;
            for (index, piece) in pieces.iter().enumerate() {
                let field = format!("{field}.{key}[{index}]");
                let id =
                    |kind: &str| piece.get(kind).and_then(|piece| piece.get("id")).and_then(Value::as_str);
                if let Some(token) = id("SpecialToken") {
                    let entry = listed.and_then(|listed| listed.get(token));
                    let length = |key: &str| entry?.get(key)?.as_array().map(Vec::len);
                    if length("ids").is_none() || length("ids") != length("tokens") {
                        let expected = "a token of special_tokens with as many ids as tokens";
                        return Err(self.error(&field, expected, format!("{token:?}")));
                    }
                } else if id("Sequence").is_none_or(|id| key == "single" && id != "A") {
                    return Err(self.error(
                        &field,
                        "a special token or a sequence of the input",
                        describe(piece),
                    ));
                }
            }
        }
        Ok(())
    }
}

/// Decodes base64 with padding; `None` if it is none.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    if !text.len().is_multiple_of(4) || text.len() - digits.len() > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut buffer, mut bits) = (0u32, 0);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        buffer = buffer << 6 | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((buffer >> bits) as u8);
            buffer &= (1 << bits) - 1;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_all_lengths() {
        let table = [("", ""), ("TQ==", "M"), ("TWE=", "Ma"), ("TWFu", "Man"), ("bGlnaHQgdw==", "light w")];
        for (text, want) in table {
            assert_eq!(from_base64(text).unwrap(), want.as_bytes());
        }
        assert!(
            from_base64("TQ=").is_none() && from_base64("T!==").is_none() && from_base64("====").is_none()
        );
    }
}

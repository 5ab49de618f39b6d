//! The small files beside a text model: `generation_config.json`, `tokenizer_config.json` and
//! `special_tokens_map.json`. Unknown keys are ignored; a wrong type is an error that names file and key.

use std::path::Path;

use serde_json::{Map, Value};

use super::generate::GenerateOptions;
use super::sampling::SamplingSettings;
use crate::error::{Error, Result};
use crate::json::{self, Fields};

/// Defaults of generation that a model's author chose. `None` means that the file says nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GenerationConfig {
    /// Ids of the tokens that end a text, those within the vocabulary.
    pub eos_ids: Vec<u32>,
    /// Id of the token that begins a text, if within the vocabulary.
    pub bos_id: Option<u32>,
    /// Id of the token that fills up, if within the vocabulary.
    pub pad_id: Option<u32>,
    /// Draw tokens at random; false or nothing takes the likeliest.
    pub do_sample: Option<bool>,
    /// Divisor of the logits, at least 0.
    pub temperature: Option<f32>,
    /// Number of likeliest tokens to draw from; 0 is no limit.
    pub top_k: Option<u32>,
    /// Probability mass of the likeliest tokens to draw from, 0 to 1.
    pub top_p: Option<f32>,
    /// Least probability relative to the likeliest token, 0 to 1.
    pub min_p: Option<f32>,
    /// Divisor of the logits of tokens that occurred, above 0.
    pub repetition_penalty: Option<f32>,
    /// Number of tokens to generate at most.
    pub max_new_tokens: Option<u32>,
    /// Texts that end an answer.
    pub stop_strings: Vec<String>,
}

impl GenerationConfig {
    /// Reads `generation_config.json` of a model folder; all empty where there is none. Token ids outside the
    /// vocabulary are logged and dropped.
    ///
    /// # Errors
    /// A broken file, a wrong type or a value out of range ([`Error::File`] naming the key).
    pub fn load(folder: &Path, vocab_size: u32) -> Result<Self> {
        let path = folder.join("generation_config.json");
        match json::read_object(&path)? {
            Some(map) => Self::from_fields(&Fields::new(&path, &map), vocab_size),
            None => Ok(Self::default()),
        }
    }

    /// Reads the text of a `generation_config.json`; `path` is named in errors. Errors as in
    /// [`GenerationConfig::load`].
    pub fn from_bytes(path: &Path, bytes: &[u8], vocab_size: u32) -> Result<Self> {
        let map = json::parse_object(path, bytes)?;
        Self::from_fields(&Fields::new(path, &map), vocab_size)
    }

    fn from_fields(fields: &Fields<'_>, vocab_size: u32) -> Result<Self> {
        let ids = |key: &str| {
            Ok::<_, Error>(json::ids_in_vocabulary(fields.path(), key, fields.token_ids(key)?, vocab_size))
        };
        let between = |key: &str, least: f64, most: f64| match fields.number(key)? {
            Some(value) if !(least..=most).contains(&value) => {
                Err(fields.error(key, &format!("a number from {least} to {most}"), value))
            }
            value => Ok(value.map(|value| value as f32)),
        };
        let strings = fields.strings("stop_strings")?.unwrap_or_default();
        Ok(Self {
            eos_ids: ids("eos_token_id")?,
            bos_id: ids("bos_token_id")?.first().copied(),
            pad_id: ids("pad_token_id")?.first().copied(),
            do_sample: fields.boolean("do_sample")?,
            temperature: between("temperature", 0.0, 1e6)?,
            top_k: count(fields, "top_k")?,
            top_p: between("top_p", 0.0, 1.0)?,
            min_p: between("min_p", 0.0, 1.0)?,
            repetition_penalty: fields.positive("repetition_penalty")?.map(|value| value as f32),
            max_new_tokens: count(fields, "max_new_tokens")?,
            stop_strings: strings.into_iter().map(str::to_owned).collect(),
        })
    }
}

impl GenerationConfig {
    /// The sampling settings that it recommends.
    pub(super) fn sampling(&self) -> SamplingSettings {
        let default = SamplingSettings::default();
        if self.do_sample == Some(false) {
            return SamplingSettings::greedy();
        }
        SamplingSettings {
            temperature: self.temperature.unwrap_or(default.temperature),
            top_k: self.top_k.unwrap_or(default.top_k),
            top_p: self.top_p.unwrap_or(default.top_p),
            min_p: self.min_p.unwrap_or(default.min_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(default.repetition_penalty),
            ..default
        }
    }

    /// Most tokens of a text that it recommends.
    pub(super) fn max_tokens(&self) -> Option<usize> {
        self.max_new_tokens.filter(|&count| count > 0).map(|count| count as usize)
    }

    /// All that it recommends.
    pub(super) fn options(&self) -> GenerateOptions {
        let default = GenerateOptions::default();
        GenerateOptions {
            sampling: self.sampling(),
            max_tokens: self.max_tokens().unwrap_or(default.max_tokens),
            stop: self.stop_strings.clone(),
            ..default
        }
    }
}

/// Reads a count; published files write -1 for none.
fn count(fields: &Fields<'_>, key: &str) -> Result<Option<u32>> {
    match fields.integer(key)? {
        None | Some(..=-1) => Ok(None),
        Some(value) => Ok(Some(u32::try_from(value).unwrap_or(u32::MAX))),
    }
}

/// What `tokenizer_config.json` and `special_tokens_map.json` say about a tokenizer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenizerConfig {
    /// Text of the token that begins a sequence.
    pub bos_token: Option<String>,
    /// Text of the token that ends a sequence.
    pub eos_token: Option<String>,
    /// Text of the token for what the vocabulary cannot say.
    pub unk_token: Option<String>,
    /// Text of the token that fills up.
    pub pad_token: Option<String>,
    /// BOS goes in front of a prompt.
    pub add_bos_token: Option<bool>,
    /// The chat template; of several the one called "default".
    pub chat_template: Option<String>,
}

impl TokenizerConfig {
    /// Reads both files of a model folder; all empty where there are none. A special token that
    /// `tokenizer_config.json` does not name is taken from `special_tokens_map.json`.
    ///
    /// # Errors
    /// A broken file or a wrong type ([`Error::File`] naming the key).
    pub fn load(folder: &Path) -> Result<Self> {
        let path = folder.join("tokenizer_config.json");
        let mut config = match json::read_object(&path)? {
            Some(map) => Self::from_fields(&path, &map)?,
            None => Self::default(),
        };
        let path = folder.join("special_tokens_map.json");
        if let Some(map) = json::read_object(&path)? {
            let tokens = Self::from_fields(&path, &map)?;
            config.bos_token = config.bos_token.or(tokens.bos_token);
            config.eos_token = config.eos_token.or(tokens.eos_token);
            config.unk_token = config.unk_token.or(tokens.unk_token);
            config.pad_token = config.pad_token.or(tokens.pad_token);
        }
        Ok(config)
    }

    /// Reads the text of a `tokenizer_config.json`; `path` is named in errors. Errors as in
    /// [`TokenizerConfig::load`].
    pub fn from_bytes(path: &Path, bytes: &[u8]) -> Result<Self> {
        Self::from_fields(path, &json::parse_object(path, bytes)?)
    }

    fn from_fields(path: &Path, map: &Map<String, Value>) -> Result<Self> {
        let fields = Fields::new(path, map);
        Ok(Self {
            bos_token: token(&fields, "bos_token")?,
            eos_token: token(&fields, "eos_token")?,
            unk_token: token(&fields, "unk_token")?,
            pad_token: token(&fields, "pad_token")?,
            add_bos_token: fields.boolean("add_bos_token")?,
            chat_template: chat_template(&fields)?,
        })
    }
}

/// Reads a special token: a string, or an object with `content`.
fn token(fields: &Fields<'_>, key: &str) -> Result<Option<String>> {
    let text = match fields.value(key) {
        Some(Value::Object(object)) => object.get("content").and_then(Value::as_str),
        Some(other) => other.as_str(),
        None => return Ok(None),
    };
    let expected = "a string, or an object with the string `content`";
    let got = || fields.value(key).map_or_else(String::new, json::describe);
    text.map(|text| Some(text.to_owned())).ok_or_else(|| fields.error(key, expected, got()))
}

/// Reads `chat_template`: a string, or a list of named templates.
fn chat_template(fields: &Fields<'_>) -> Result<Option<String>> {
    let key = "chat_template";
    let expected = "a string, or a list of objects with the strings `name` and `template`";
    let items = match fields.value(key) {
        None => return Ok(None),
        Some(Value::String(template)) => return Ok(Some(template.clone())),
        Some(Value::Array(items)) => items,
        Some(other) => return Err(fields.error(key, expected, json::describe(other))),
    };
    let mut default = None;
    for item in items {
        let text = |key: &str| item.get(key).and_then(Value::as_str);
        match (text("name"), text("template")) {
            (Some("default"), Some(template)) => default = Some(template.to_owned()),
            (Some(_), Some(_)) => {}
            _ => return Err(fields.error(key, expected, json::describe(item))),
        }
    }
    Ok(default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_files_publish() {
        let text = br#"{"eos_token_id": [2, 900], "bos_token_id": 1, "pad_token_id": -1, "temperature": 0.6,
            "top_k": -1, "top_p": 1, "max_new_tokens": 7, "unknown": {}, "stop_strings": "x"}"#;
        let config = GenerationConfig::from_bytes(Path::new("g"), text, 100).unwrap();
        assert_eq!((config.eos_ids, config.bos_id, config.pad_id), (vec![2], Some(1), None));
        assert_eq!((config.temperature, config.top_k, config.top_p), (Some(0.6), None, Some(1.0)));
        assert_eq!((config.max_new_tokens, config.stop_strings), (Some(7), vec!["x".to_owned()]));
        let text =
            br#"{"bos_token": {"content": "<s>", "lstrip": false}, "eos_token": "</s>", "pad_token": null,
            "add_bos_token": true, "model_max_length": 1000000000000000019884624838656}"#;
        let config = TokenizerConfig::from_bytes(Path::new("t"), text).unwrap();
        assert_eq!(config.bos_token.as_deref(), Some("<s>"));
        assert_eq!(config.eos_token.as_deref(), Some("</s>"));
        assert_eq!((config.pad_token, config.add_bos_token), (None, Some(true)));
    }

    #[test]
    fn bad_files_give_errors_that_name_the_key() {
        let table = [
            (r#"{"eos_token_id": "2"}"#, "eos_token_id"),
            (r#"{"eos_token_id": [1, null]}"#, "eos_token_id"),
            (r#"{"eos_token_id": 99999999999}"#, "eos_token_id"),
            (r#"{"temperature": "hot"}"#, "temperature"),
            (r#"{"temperature": -1}"#, "temperature"),
            (r#"{"top_p": 1.5}"#, "top_p"),
            (r#"{"top_k": 1.5}"#, "top_k"),
            (r#"{"top_k": 1e300}"#, "top_k"),
            (r#"{"do_sample": 1}"#, "do_sample"),
            (r#"{"repetition_penalty": 0}"#, "repetition_penalty"),
            (r#"{"stop_strings": [1]}"#, "stop_strings"),
            (r#"{"top_p": 1e999}"#, "not valid JSON"),
            (r#"[]"#, "object"),
            (r#"{"a":"#, "not valid JSON"),
            ("", "not valid JSON"),
        ];
        for (text, word) in table {
            let error = GenerationConfig::from_bytes(Path::new("g.json"), text.as_bytes(), 100).unwrap_err();
            let error = error.to_string();
            assert!(error.starts_with("g.json: ") && error.contains(word), "{text}: {error}");
        }
        let table = [
            (r#"{"bos_token": 5}"#, "bos_token"),
            (r#"{"bos_token": {"text": "x"}}"#, "bos_token"),
            (r#"{"add_bos_token": "yes"}"#, "add_bos_token"),
            (r#"{"chat_template": 5}"#, "chat_template"),
            (r#"{"chat_template": ["x"]}"#, "chat_template"),
        ];
        for (text, word) in table {
            let error =
                TokenizerConfig::from_bytes(Path::new("t.json"), text.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("t.json: ") && error.contains(word), "{text}: {error}");
        }
    }
}

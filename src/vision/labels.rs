//! Names of classes: `id2label` of config.json, or the lines of synset_words.txt.

use crate::json::{self, Fields, describe};
use crate::{Error, Result};
use std::path::{Path, PathBuf};

/// Largest file of labels that is read, in bytes.
const MAX_BYTES: u64 = 16 << 20;

/// Names of classes, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    /// Where they were read.
    path: PathBuf,
    names: Vec<String>,
}

impl Labels {
    /// Reads the labels of a model's folder; `None` where it has none.
    ///
    /// # Errors
    /// [`Error::File`] with what is wrong: a class without label, a label twice, no text.
    pub fn load(folder: &Path) -> Result<Option<Self>> {
        match Self::from_config(&folder.join("config.json"))? {
            None => Self::from_lines(&folder.join("synset_words.txt")),
            labels => Ok(labels),
        }
    }

    /// Reads a file of labels: a JSON file with `id2label`, or lines as those of synset_words.txt.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::File`] with what is wrong.
    pub fn open(path: &Path) -> Result<Self> {
        let is_json = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("json"));
        let labels = if is_json { Self::from_config(path)? } else { Self::from_lines(path)? };
        labels.ok_or_else(|| match path.exists() {
            true => Error::file(path, "`id2label`: expected labels, got nothing"),
            false => Error::file(path, "no such file"),
        })
    }

    /// The names that a family of networks was published with.
    pub(super) fn of_family(folder: &Path, names: &[&str]) -> Self {
        Self { path: folder.to_owned(), names: names.iter().map(|&name| name.to_owned()).collect() }
    }

    /// Reads `id2label` of a JSON file, where it has any.
    fn from_config(path: &Path) -> Result<Option<Self>> {
        let Some(map) = json::read_object(path)? else { return Ok(None) };
        let fields = Fields::new(path, &map).object("id2label")?;
        fields.map(|fields| Self::from_object(&fields)).transpose()
    }

    /// Reads an object of class numbers and names.
    fn from_object(fields: &Fields<'_>) -> Result<Self> {
        let count = fields.iter().count();
        let mut names = vec![None; count];
        for (key, value) in fields.iter() {
            let slot = key.parse().ok().and_then(|class: usize| names.get_mut(class));
            let Some(slot @ None) = slot else {
                let expected = format!("each of 0 to {} once", count.saturating_sub(1));
                return Err(fields.error(key, &expected, format!("`{key}`")));
            };
            let name = value.as_str().ok_or_else(|| fields.error(key, "a string", describe(value)))?;
            *slot = Some(name.to_owned());
        }
        let names: Vec<String> = names.into_iter().flatten().collect();
        if names.is_empty() {
            return Err(Error::file(fields.path(), "`id2label`: expected labels, got none"));
        }
        Ok(Self { path: fields.path().to_owned(), names })
    }

    /// Reads lines such as "n01440764 tench, Tinca tinca"; the synset's number is left out.
    fn from_lines(path: &Path) -> Result<Option<Self>> {
        let Some(bytes) = json::read_bytes(path, MAX_BYTES)? else { return Ok(None) };
        let text = String::from_utf8(bytes).map_err(|error| Error::file(path, error.to_string()))?;
        let is_synset = |word: &str| {
            word.len() == 9 && word.starts_with('n') && word[1..].bytes().all(|byte| byte.is_ascii_digit())
        };
        let name = |line: &str| match line.split_once(' ') {
            Some((synset, name)) if is_synset(synset) => name.trim().to_owned(),
            _ => line.trim().to_owned(),
        };
        let names: Vec<String> = text.lines().map(name).collect();
        match names.iter().position(String::is_empty) {
            Some(line) => {
                Err(Error::file(path, format!("line {}: expected a label, got an empty line", line + 1)))
            }
            None if names.is_empty() => Err(Error::file(path, "expected a label a line, got an empty file")),
            None => Ok(Some(Self { path: path.to_owned(), names })),
        }
    }

    /// The names, in the order of the classes.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Checks that there is a label for each class.
    ///
    /// # Errors
    /// [`Error::File`] with both numbers.
    pub fn check(&self, classes: usize) -> Result<()> {
        let labels = self.names.len();
        if labels == classes {
            return Ok(());
        }
        Err(Error::file(&self.path, format!("has {labels} labels, the model has {classes} classes")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(file: &str, text: &str) -> Result<Option<Labels>> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(file), text).unwrap();
        Labels::load(folder.path())
    }

    #[test]
    fn labels_are_read_in_order() {
        let labels = load("config.json", r#"{"id2label": {"1": "dog", "0": "cat"}}"#).unwrap().unwrap();
        assert_eq!(labels.names(), ["cat", "dog"]);
        assert!(labels.check(2).is_ok());
        let text = labels.check(3).unwrap_err().to_string();
        assert!(text.contains("config.json: has 2 labels, the model has 3 classes"), "{text}");
        let lines = "n01440764 tench, Tinca tinca\nn01443537 goldfish\nplain name\n";
        let labels = load("synset_words.txt", lines).unwrap().unwrap();
        assert_eq!(labels.names(), ["tench, Tinca tinca", "goldfish", "plain name"]);
        assert_eq!(load("config.json", r#"{"id2label": null}"#).unwrap(), None);
    }

    #[test]
    fn files_of_labels_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let open = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            Labels::open(&path).map(|labels| labels.names().join(", ")).map_err(|error| error.to_string())
        };
        assert_eq!(open("labels.txt", "cat\r\ndog").unwrap(), "cat, dog");
        assert_eq!(open("labels.json", r#"{"id2label": {"0": "cat", "1": "dog"}}"#).unwrap(), "cat, dog");
        assert!(open("labels.json", "{}").unwrap_err().contains("`id2label`: expected labels"));
        let missing = Labels::open(&folder.path().join("no.txt")).unwrap_err().to_string();
        assert!(missing.contains("no.txt"), "{missing}");
    }

    #[test]
    fn broken_labels_are_named() {
        let table = [
            (
                "config.json",
                r#"{"id2label": {"0": "cat", "2": "dog"}}"#,
                "`id2label.2`: expected each of 0 to 1",
            ),
            ("config.json", r#"{"id2label": {"0": "cat", "00": "dog"}}"#, "`id2label.00`"),
            ("config.json", r#"{"id2label": {"zero": "cat"}}"#, "`id2label.zero`"),
            ("config.json", r#"{"id2label": {"0": 7}}"#, "`id2label.0`: expected a string, got 7"),
            ("config.json", r#"{"id2label": {}}"#, "expected labels, got none"),
            ("config.json", r#"{"id2label": ["cat"]}"#, "`id2label`: expected an object"),
            ("synset_words.txt", "", "got an empty file"),
            ("synset_words.txt", "cat\n\ndog\n", "line 2"),
        ];
        for (file, text, want) in table {
            let got = load(file, text).unwrap_err().to_string();
            assert!(got.contains(want), "{text}: {got}");
        }
    }
}

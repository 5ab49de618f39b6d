//! Files of measured choices: one for each adapter with its driver, and version of this crate.
//!
//! What a file says is only ever a preference (see [`Family::select`](crate::kernel::Family::select)):
//! results are the same without it. A file that is broken, or of something else, is refused whole.

use crate::folders::{adapter_file, replace_file};
use crate::json::read_bytes;
use crate::kernel::{Tuned, Tuning};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Largest file, in bytes.
const LARGEST: u64 = 16 << 20;

/// Most letters of a name.
const LONGEST_NAME: usize = 300;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: String,
    adapter: String,
    choices: Vec<Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    family: String,
    class: String,
    choice: String,
    than: String,
    ratio: f64,
}

impl Entry {
    fn is_sound(&self) -> bool {
        let names = [&self.family, &self.class, &self.choice, &self.than];
        let named = names.iter().all(|name| (1..=LONGEST_NAME).contains(&name.len()));
        named && self.choice != self.than && self.ratio.is_finite() && self.ratio >= 1.0
    }
}

/// The file for an adapter, named with its driver, in the user's cache folder; none without one.
pub fn tuning_path(adapter: &str) -> Option<PathBuf> {
    adapter_file("tuning", adapter)
}

/// Reads the choices of a file; `None` where there is no such file.
///
/// # Errors
/// [`Error::File`] or [`Error::Io`] for a file that is broken, of another adapter or driver, or of
/// another version of this crate.
pub fn read_tuning(path: &Path, adapter: &str) -> Result<Option<Tuning>> {
    let Some(bytes) = read_bytes(path, LARGEST)? else { return Ok(None) };
    let fail = |message: String| Error::file(path, message);
    let document: Document = serde_json::from_slice(&bytes)
        .map_err(|error| fail(format!("expected JSON as `wginfer tune` writes it: {error}")))?;
    for (what, got, want) in [
        ("version", document.version.as_str(), env!("CARGO_PKG_VERSION")),
        ("adapter", document.adapter.as_str(), adapter),
    ] {
        if got != want {
            return Err(fail(format!("expected measurements of {what} `{want}`, got `{got}`")));
        }
    }
    let mut tuning = Tuning::new();
    for entry in document.choices {
        if !entry.is_sound() {
            return Err(fail(format!("expected names and a ratio of at least 1, got {entry:?}")));
        }
        let Entry { family, class, choice, than, ratio } = entry;
        if tuning.insert((family, class), Tuned { choice, than, ratio }).is_some() {
            return Err(fail("expected one choice for each class of shapes, got two".into()));
        }
    }
    Ok(Some(tuning))
}

/// Writes choices to a file, in place of what it held.
///
/// # Errors
/// [`Error::Io`].
pub fn write_tuning(path: &Path, adapter: &str, tuning: &Tuning) -> Result<()> {
    let entry = |((family, class), tuned): (&(String, String), &Tuned)| Entry {
        family: family.clone(),
        class: class.clone(),
        choice: tuned.choice.clone(),
        than: tuned.than.clone(),
        ratio: tuned.ratio,
    };
    let document = Document {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        adapter: adapter.to_owned(),
        choices: tuning.iter().map(entry).collect(),
    };
    let text = serde_json::to_string_pretty(&document)
        .map_err(|error| Error::Request(format!("writing JSON: {error}")))?;
    replace_file(path, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Tuning {
        let tuned = |choice: &str| Tuned { choice: choice.into(), than: "rows16".into(), ratio: 1.25 };
        let key = |class: &str| ("linear".to_owned(), class.to_owned());
        Tuning::from([(key("1x2x3 f32"), tuned("rows1")), (key("8x2x3 f16"), tuned("rows8"))])
    }

    #[test]
    fn choices_come_back_from_their_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/folder").join("tuning.json");
        assert_eq!(read_tuning(&path, "An adapter (1.2)").unwrap(), None);
        write_tuning(&path, "An adapter (1.2)", &some()).unwrap();
        assert_eq!(read_tuning(&path, "An adapter (1.2)").unwrap(), Some(some()));
        write_tuning(&path, "An adapter (1.2)", &Tuning::new()).unwrap();
        assert_eq!(read_tuning(&path, "An adapter (1.2)").unwrap(), Some(Tuning::new()));
    }

    #[test]
    fn broken_and_foreign_files_are_refused_with_reasons() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tuning.json");
        write_tuning(&path, "here", &some()).unwrap();
        let good = std::fs::read_to_string(&path).unwrap();
        let refused = |text: &str, part: &str| {
            std::fs::write(&path, text).unwrap();
            let message = read_tuning(&path, "here").unwrap_err().to_string();
            assert!(message.contains(part) && message.contains("tuning.json"), "{text}: {message}");
        };
        refused("", "expected JSON as `wginfer tune` writes it");
        refused(&good[..good.len() / 2], "expected JSON as `wginfer tune` writes it");
        refused(
            &good.replace("\"here\"", "\"there\""),
            "expected measurements of adapter `here`, got `there`",
        );
        refused(&good.replace(env!("CARGO_PKG_VERSION"), "0.0.0"), "expected measurements of version");
        refused(&good.replace("1.25", "0.5"), "a ratio of at least 1");
        refused(&good.replace("1.25", "1e999"), "expected JSON");
        refused(&good.replace("rows1\"", "\""), "expected names");
        refused(&good.replace("\"ratio\"", "\"speed\""), "unknown field");
        refused(&good.replace("8x2x3 f16", "1x2x3 f32"), "got two");
    }
}

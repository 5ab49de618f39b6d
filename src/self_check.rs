//! What the self-check of kernels found on an adapter with its driver: which classes of kernels agree
//! with their references there, and which are demoted. Kept in the user's cache folder, so that each
//! class is checked once; see [`Session::add`](crate::session::Session::add).

use crate::Error;
use crate::folders::{adapter_file, replace_file};
use crate::json::read_bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Largest file, in bytes.
const LARGEST: u64 = 16 << 20;

/// A way to compute something that gave a wrong result.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Demotion {
    /// The family of choices, or the operator.
    pub family: String,
    /// The choice, or the form of kernels.
    pub choice: String,
    /// Operator, kernels and variants that were compared.
    pub class: String,
    /// The case that failed.
    pub case: String,
    /// What was expected and got there.
    pub message: String,
}

/// What was found, as it is stored.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Found {
    /// Of this crate.
    version: String,
    /// With its driver.
    adapter: String,
    /// Classes that agree.
    passed: BTreeSet<String>,
    demoted: BTreeSet<Demotion>,
}

impl Found {
    fn nothing(adapter: &str) -> Self {
        Self { version: env!("CARGO_PKG_VERSION").into(), adapter: adapter.into(), ..Self::default() }
    }

    /// What a file holds; nothing where there is none, or it is of another adapter, driver or version.
    fn read(path: &Path, adapter: &str) -> Self {
        let nothing = Self::nothing(adapter);
        let bytes = match read_bytes(path, LARGEST) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return nothing,
            Err(error) => {
                log::warn!("kernels are checked anew: {error}");
                return nothing;
            }
        };
        match serde_json::from_slice::<Self>(&bytes) {
            Ok(found) if (&found.version, &found.adapter) == (&nothing.version, &nothing.adapter) => found,
            Ok(_) => nothing,
            Err(error) => {
                log::warn!("{}: kernels are checked anew: {error}", path.display());
                nothing
            }
        }
    }

    fn write(&self, path: &Path) -> Result<(), Error> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| Error::Request(format!("writing JSON: {error}")))?;
        replace_file(path, &text)
    }
}

/// The findings on one adapter with its driver. Cheap to clone; clones share all.
#[derive(Debug, Clone)]
pub struct SelfChecks(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Where they are kept, where they are.
    path: Option<PathBuf>,
    found: Mutex<Found>,
}

impl SelfChecks {
    /// What was found on an adapter, named with its driver, by this version of the crate; kept in a
    /// file, where there is one. A file that is broken, or of something else, counts as empty.
    pub fn load(path: Option<PathBuf>, adapter: &str) -> Self {
        let found =
            path.as_deref().map_or_else(|| Found::nothing(adapter), |path| Found::read(path, adapter));
        Self(Arc::new(Shared { path, found: Mutex::new(found) }))
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.0.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a class was compared.
    pub(crate) fn knows(&self, class: &str) -> bool {
        let found = self.found();
        found.passed.contains(class) || found.demoted.iter().any(|demotion| demotion.class == class)
    }

    /// What must not be used.
    pub fn demotions(&self) -> Vec<Demotion> {
        self.found().demoted.iter().cloned().collect()
    }

    /// Adds findings and stores them, with those that other processes stored meanwhile.
    pub(crate) fn add(&self, passed: Vec<String>, demoted: Vec<Demotion>) {
        let mut found = self.found();
        found.passed.extend(passed);
        found.demoted.extend(demoted);
        let Some(path) = &self.0.path else { return };
        let others = Found::read(path, &found.adapter);
        found.passed.extend(others.passed);
        found.demoted.extend(others.demoted);
        if let Err(error) = found.write(path) {
            log::info!("what the self-check found is not kept: {error}");
        }
    }
}

/// The file for an adapter, named with its driver, in the user's cache folder; none without one.
pub fn self_check_path(adapter: &str) -> Option<PathBuf> {
    adapter_file("self-check", adapter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_kept_for_one_adapter_and_version() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/found.json");
        let load = |adapter: &str| SelfChecks::load(Some(path.clone()), adapter);
        let [first, second] = [load("here"), load("here")];
        let text = |text: &str| text.to_owned();
        let demotion = Demotion {
            family: text("linear"),
            choice: text("rows16"),
            class: text("linear: wrong"),
            case: text("1 x 3"),
            message: text("expected 1, got 2"),
        };
        first.add(vec![text("softmax: right")], vec![demotion.clone()]);
        second.add(vec![text("add: right")], Vec::new());
        for class in ["softmax: right", "add: right", "linear: wrong"] {
            assert!(load("here").knows(class), "{class}");
            assert!(!load("there").knows(class), "{class}");
        }
        assert_eq!(load("here").demotions(), [demotion]);
        std::fs::write(&path, "{").unwrap();
        assert!(!load("here").knows("add: right"));
    }
}

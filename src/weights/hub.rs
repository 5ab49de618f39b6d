//! The local Hugging Face hub cache: where a model named `ORG/NAME` lies on this disk.
//!
//! Layout: `models--ORG--NAME/{blobs, refs/REVISION, snapshots/COMMIT/FILE}`, as written by the
//! hub's own clients (<https://huggingface.co/docs/huggingface_hub/guides/manage-cache>).
//! Nothing here uses the network.

use super::folder::{INDEX, SINGLE, check_shard_name, has_pickle_ending, read_index};
use super::header::pickle;
use crate::folders::{folder_variable, home};
use crate::{Error, Result};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The revision that is meant when none is named.
const DEFAULT_REVISION: &str = "main";

/// A repository of models and one of its revisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoId {
    name: String,
    revision: String,
}

impl RepoId {
    /// Parses `ORG/NAME`, `ORG/NAME@REVISION`, or an old name without organisation.
    ///
    /// # Errors
    /// [`Error::Request`] with what is not allowed in it.
    pub fn parse(text: &str) -> Result<Self> {
        let (name, revision) = text.split_once('@').unwrap_or((text, DEFAULT_REVISION));
        let expected = |problem: &str| {
            Error::Request(format!(
                "`{text}` is not a repository id: {problem}, expected ORG/NAME or ORG/NAME@REVISION"
            ))
        };
        let parts: Vec<&str> = name.split('/').collect();
        if parts.len() > 2 {
            return Err(expected("it has more than one slash"));
        }
        let plain = |part: &str, more: &[char]| {
            part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c) || more.contains(&c))
        };
        for part in parts {
            let ends = ['-', '.'];
            if part.is_empty() || part.len() > 96 {
                return Err(expected("a name has 1 to 96 characters"));
            }
            if !plain(part, &[]) || part.starts_with(ends) || part.ends_with(ends) {
                return Err(expected("a name has letters, digits, and -, _ or . inside"));
            }
            if part.contains("--") || part.contains("..") {
                return Err(expected("`--` and `..` are not allowed in a name"));
            }
        }
        let components_ok = revision.split('/').all(|part| !part.is_empty() && !part.starts_with('.'));
        if !components_ok || !plain(revision, &['/']) || revision.contains("..") || revision.len() > 200 {
            return Err(expected("the revision is not a branch, tag or commit"));
        }
        Ok(Self { name: name.to_owned(), revision: revision.to_owned() })
    }

    /// `ORG/NAME`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Branch, tag or commit.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// Name of the repository's folder in the cache.
    pub(super) fn folder_name(&self) -> String {
        format!("models--{}", self.name.replace('/', "--"))
    }
}

impl std::fmt::Display for RepoId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)?;
        if self.revision == DEFAULT_REVISION { Ok(()) } else { write!(f, "@{}", self.revision) }
    }
}

/// A hub cache folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubCache {
    folder: PathBuf,
}

impl HubCache {
    /// The cache in a folder.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The user's cache: `HF_HUB_CACHE`, else `HF_HOME/hub`, else
    /// `XDG_CACHE_HOME/huggingface/hub`, else `~/.cache/huggingface/hub`.
    ///
    /// # Errors
    /// [`Error::Request`] when none of these is set and there is no home folder.
    pub fn from_env() -> Result<Self> {
        Self::from_variables(&|name| std::env::var_os(name))
    }

    /// [`from_env`](Self::from_env) with given variables.
    ///
    /// # Errors
    /// As there.
    pub fn from_variables(variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Self> {
        if let Some(folder) = folder_variable(variable, "HF_HUB_CACHE") {
            return Ok(Self::at(folder));
        }
        hugging_face_home(variable).map(|home| Self::at(home.join("hub"))).ok_or_else(|| {
            Error::Request(
                "no hub cache: set HF_HUB_CACHE, HF_HOME or HOME to find downloaded models".to_owned(),
            )
        })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder of a repository.
    pub fn repo_folder(&self, repo: &RepoId) -> PathBuf {
        self.folder.join(repo.folder_name())
    }

    /// The snapshot of a repository's revision, if it is there.
    pub fn snapshot(&self, repo: &RepoId) -> Option<PathBuf> {
        let folder = self.repo_folder(repo);
        let snapshot = |commit: &str| {
            let path = folder.join("snapshots").join(commit);
            (is_commit(commit) && path.is_dir()).then_some(path)
        };
        let reference = std::fs::read_to_string(folder.join("refs").join(&repo.revision)).ok();
        reference.and_then(|commit| snapshot(commit.trim())).or_else(|| snapshot(&repo.revision))
    }
}

/// Whether this can be the name of a snapshot: no separators, no dots.
pub(super) fn is_commit(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// `HF_HOME` or its default; the hub's cache and token lie in it.
pub(super) fn hugging_face_home(variable: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    folder_variable(variable, "HF_HOME")
        .or_else(|| Some(folder_variable(variable, "XDG_CACHE_HOME")?.join("huggingface")))
        .or_else(|| Some(home(variable)?.join(".cache/huggingface")))
}

/// Files of a model folder without which it cannot be run, and which are not there.
pub fn missing_files(folder: &Path) -> Vec<String> {
    let mut missing = Vec::new();
    if !folder.join("config.json").exists() {
        missing.push("config.json".to_owned());
    }
    if folder.join(SINGLE).exists() {
        return missing;
    }
    match read_index(&folder.join(INDEX)) {
        Ok(weight_map) => {
            let shards: BTreeSet<String> = weight_map.into_values().collect();
            let absent = |shard: &String| check_shard_name(shard).is_err() || !folder.join(shard).exists();
            missing.extend(shards.into_iter().filter(absent));
        }
        Err(_) => missing.push(SINGLE.to_owned()),
    }
    missing
}

/// Finds the folder or file of a model: an existing path wins, else the argument is a repository
/// id, `ORG/NAME` or `ORG/NAME@REVISION`, that is looked up in the user's hub cache.
///
/// # Errors
/// [`Error::Request`] that says where was looked and how to get the model.
pub fn resolve_model(argument: &str) -> Result<PathBuf> {
    let path = Path::new(argument);
    if path.exists() {
        return Ok(path.to_owned());
    }
    resolve_in(&HubCache::from_env()?, argument)
}

/// Finds the snapshot of a repository id in a cache.
///
/// # Errors
/// [`Error::Request`] that says where was looked and how to get the model.
pub fn resolve_in(cache: &HubCache, argument: &str) -> Result<PathBuf> {
    let repo = RepoId::parse(argument)
        .map_err(|error| Error::Request(format!("no such file or folder: `{argument}`; and {error}")))?;
    let how = format!("fetch it with `hf download {}`{BY_FEATURE}", repo.name);
    let Some(snapshot) = cache.snapshot(&repo) else {
        let (revision, folder) = (&repo.revision, cache.repo_folder(&repo));
        return Err(Error::Request(format!(
            "no such file or folder: `{argument}`; and its revision `{revision}` is not in the hub cache: looked in \
             {}; {how}",
            folder.display()
        )));
    };
    let missing = missing_files(&snapshot);
    if missing.is_empty() {
        return Ok(snapshot);
    }
    let files = snapshot.read_dir().map_err(|error| Error::io(&snapshot, error))?;
    let mut files = files.filter_map(|entry| Some(entry.ok()?.path()));
    match files.find(|file| missing.iter().any(|name| name == SINGLE) && has_pickle_ending(file)) {
        Some(file) => Err(pickle(&file)),
        None => {
            Err(Error::file(snapshot, format!("the cached model lacks {}; {how}", super::list(&missing))))
        }
    }
}

/// How else a model can be fetched, in messages.
const BY_FEATURE: &str = if cfg!(feature = "hub") {
    ""
} else {
    ", or use a build with the feature `hub`, which downloads models"
};

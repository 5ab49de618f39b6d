//! Folders of the user, by the environment variables of the platform.

use crate::{Error, Result};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The folder in a variable, with `~/` expanded; an empty variable counts as unset.
pub(crate) fn folder_variable(variable: &dyn Fn(&str) -> Option<OsString>, name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(variable(name).filter(|value| !value.is_empty())?);
    match path.strip_prefix("~") {
        Ok(rest) => Some(home(variable)?.join(rest)),
        Err(_) => Some(path),
    }
}

/// The user's home.
pub(crate) fn home(variable: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let name = if cfg!(windows) { "USERPROFILE" } else { "HOME" };
    variable(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Where this crate keeps what it can make again: `WGINFER_CACHE`, else `wginfer` in the platform's
/// cache folder (`XDG_CACHE_HOME` or `~/.cache`; `~/Library/Caches` on macOS; `LOCALAPPDATA` on
/// Windows). None where nothing of these is set.
pub(crate) fn cache_folder() -> Option<PathBuf> {
    cache_folder_of(&|name| std::env::var_os(name))
}

fn cache_folder_of(variable: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let platform = || {
        if cfg!(windows) {
            folder_variable(variable, "LOCALAPPDATA")
        } else if cfg!(target_os = "macos") {
            Some(home(variable)?.join("Library/Caches"))
        } else {
            folder_variable(variable, "XDG_CACHE_HOME").or_else(|| Some(home(variable)?.join(".cache")))
        }
    };
    folder_variable(variable, "WGINFER_CACHE").or_else(|| Some(platform()?.join("wginfer")))
}

/// The file in a folder of the cache for an adapter, named with its driver, and this version of the
/// crate; none without a cache folder.
pub(crate) fn adapter_file(folder: &str, adapter: &str) -> Option<PathBuf> {
    Some(cache_folder()?.join(folder).join(adapter_file_name(adapter)))
}

/// Letters of the adapter's name and the version of this crate.
fn adapter_file_name(adapter: &str) -> String {
    let plain: Vec<&str> = adapter.split(|letter: char| !letter.is_ascii_alphanumeric()).collect();
    let mut name: String = plain.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-");
    name.truncate(150);
    format!("{}-{}.json", name.to_lowercase(), env!("CARGO_PKG_VERSION"))
}

/// Writes a file, in place of what it held, in a folder that is made where it is missing. Other
/// processes see the old file or the new one, never a part.
///
/// # Errors
/// [`Error::Io`].
pub(crate) fn replace_file(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| Error::io(folder, error))?;
    }
    let part = path.with_extension(format!("{}.part", std::process::id()));
    std::fs::write(&part, text).map_err(|error| Error::io(&part, error))?;
    std::fs::rename(&part, path).map_err(|error| Error::io(path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(variables: &[(&str, &str)]) -> Option<PathBuf> {
        cache_folder_of(&|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
        })
    }

    #[test]
    fn the_variable_of_this_crate_goes_before_the_platform() {
        let both =
            [("WGINFER_CACHE", "/a"), ("XDG_CACHE_HOME", "/b"), ("LOCALAPPDATA", "/b"), ("HOME", "/c")];
        assert_eq!(found(&both), Some("/a".into()));
        assert_eq!(found(&[]), None);
        if cfg!(target_os = "linux") {
            assert_eq!(found(&both[1..]), Some("/b/wginfer".into()));
            assert_eq!(found(&[("WGINFER_CACHE", ""), ("HOME", "/c")]), Some("/c/.cache/wginfer".into()));
            assert_eq!(found(&[("WGINFER_CACHE", "~/d"), ("HOME", "/c")]), Some("/c/d".into()));
        }
    }

    #[test]
    fn files_are_named_for_adapters() {
        let name = adapter_file_name("An adapter (1.2)");
        assert_eq!(name, format!("an-adapter-1-2-{}.json", env!("CARGO_PKG_VERSION")));
    }
}

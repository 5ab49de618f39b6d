//! Downloads models from a Hugging Face hub into the local hub cache.
//!
//! Offline first: nothing is requested when the cache has the model. Files arrive as
//! `blobs/ETAG.incomplete`, are resumed from there, checked (size, and SHA-256 where the hub
//! states it), renamed, and linked from `snapshots/COMMIT`; the revision's `refs` file is
//! written last. Locks are those of the hub's own clients, so that both can run side by side.

use super::folder::{INDEX, SINGLE, check_shard_name, has_pickle_ending, read_index};
use super::http::{Client, download_error, escape_path};
use super::hub::{HubCache, RepoId, hugging_face_home, is_commit, missing_files};
use super::{header, list};
use crate::{Error, Result};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The hub that is asked when `HF_ENDPOINT` names no other.
const DEFAULT_ENDPOINT: &str = "https://huggingface.co";
/// How often the transfer of a file is tried.
const ATTEMPTS: u32 = 5;
/// Files besides the weights that are fetched where a repository has them.
const SMALL_FILES: [&str; 8] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "preprocessor_config.json",
    "processor_config.json",
];

/// How far a download is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The file that is being fetched.
    pub file: &'a str,
    /// Bytes that are there, of all files.
    pub done: u64,
    /// Bytes of all files.
    pub total: u64,
}

/// Is told about progress; `Break` ends the download with [`Error::Cancelled`].
pub type OnProgress<'a> = &'a mut dyn FnMut(Progress<'_>) -> ControlFlow<()>;

/// A hub and the cache to which it is downloaded.
#[derive(Debug)]
pub struct Hub {
    client: Client,
    cache: HubCache,
    offline: bool,
    attempts: u32,
}

/// Finds a model, and downloads it where needed: an existing path wins, then the user's cache,
/// then the hub; settings are those of [`Hub::from_env`].
///
/// # Errors
/// Those of [`Hub::fetch`]; [`Error::Request`] for an argument that is no path and no repository id.
pub fn fetch_model(argument: &str, on_progress: OnProgress<'_>) -> Result<PathBuf> {
    let path = Path::new(argument);
    if path.exists() {
        return Ok(path.to_owned());
    }
    let repo = RepoId::parse(argument)
        .map_err(|error| Error::Request(format!("no such file or folder: `{argument}`; and {error}")))?;
    Hub::from_env()?.fetch(&repo, on_progress)
}

impl Hub {
    /// The hub at an address. The token goes to its host only.
    ///
    /// # Errors
    /// [`Error::Request`] for an address or a token that cannot be one.
    pub fn new(endpoint: &str, cache: HubCache, token: Option<String>) -> Result<Self> {
        Ok(Self { client: Client::new(endpoint, token)?, cache, offline: false, attempts: ATTEMPTS })
    }

    /// The hub of the environment: `HF_ENDPOINT`, `HF_HUB_OFFLINE`, the cache of
    /// [`HubCache::from_env`], and the token in `HF_TOKEN`, in the file `HF_TOKEN_PATH` or in
    /// `HF_HOME/token`, unless `HF_HUB_DISABLE_IMPLICIT_TOKEN` is set.
    ///
    /// # Errors
    /// [`Error::Request`] for settings that cannot be meant.
    pub fn from_env() -> Result<Self> {
        Self::from_variables(&|name| std::env::var_os(name))
    }

    /// [`from_env`](Self::from_env) with given variables.
    ///
    /// # Errors
    /// As there.
    pub fn from_variables(variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Self> {
        let text = |name: &str| variable(name)?.into_string().ok().filter(|value| !value.is_empty());
        let is_set = |name: &str| {
            text(name).is_some_and(|value| {
                matches!(value.to_ascii_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE")
            })
        };
        let token = if is_set("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
            None
        } else {
            let file = variable("HF_TOKEN_PATH").filter(|path| !path.is_empty()).map(PathBuf::from);
            let file = file.or_else(|| Some(hugging_face_home(variable)?.join("token")));
            text("HF_TOKEN").or_else(|| fs::read_to_string(file?).ok())
        };
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
        let hub = Self::new(&endpoint, HubCache::from_variables(variable)?, token)?;
        Ok(hub.with_offline(is_set("HF_HUB_OFFLINE")))
    }

    /// Whether requests are forbidden.
    #[must_use]
    pub fn with_offline(mut self, offline: bool) -> Self {
        self.offline = offline;
        self
    }

    /// How often the transfer of a file is tried, at least once.
    #[must_use]
    pub fn with_attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// The folder of a model: from the cache if all is there, else downloaded.
    ///
    /// # Errors
    /// [`Error::Download`] with address and reason; what arrived is kept and resumed by the next
    /// call. [`Error::Request`] when offline. [`Error::Io`] when the cache cannot be written.
    /// [`Error::Cancelled`] when `on_progress` said so.
    pub fn fetch(&self, repo: &RepoId, on_progress: OnProgress<'_>) -> Result<PathBuf> {
        let cached = self.cache.snapshot(repo);
        match cached {
            Some(snapshot) if missing_files(&snapshot).is_empty() => Ok(snapshot),
            _ => self.refresh(repo, on_progress),
        }
    }

    /// Asks the hub for the revision's newest commit and downloads what the cache lacks of it.
    ///
    /// # Errors
    /// Those of [`fetch`](Self::fetch).
    pub fn refresh(&self, repo: &RepoId, on_progress: OnProgress<'_>) -> Result<PathBuf> {
        if self.offline {
            let folder = self.cache.repo_folder(repo);
            let message = "is not complete in the hub cache, and HF_HUB_OFFLINE forbids to download it";
            return Err(Error::Request(format!("`{repo}` {message}: looked in {}", folder.display())));
        }
        let listing = self.listing(repo)?;
        let download =
            Download { hub: self, repo, commit: &listing.sha, folder: self.cache.repo_folder(repo) };
        let names = download.choose(&listing, on_progress)?;
        let mut files = Vec::with_capacity(names.len());
        for name in names {
            files.push(download.ask(name)?);
        }
        let total = files.iter().map(|file| file.size).sum();
        let mut meter = Meter { on_progress, done: 0, total };
        for file in &files {
            download.store(file, &mut meter)?;
        }
        download.write_reference()?;
        Ok(download.snapshot())
    }

    fn listing(&self, repo: &RepoId) -> Result<Listing> {
        let (endpoint, name) = (self.client.endpoint(), repo.name());
        let revision = escape_path(repo.revision()).replace('/', "%2F");
        let url = format!("{endpoint}/api/models/{name}/revision/{revision}");
        let text = self.client.get_text(&url)?;
        let listing: Listing =
            serde_json::from_str(&text).map_err(|error| download_error(&url, error.to_string()))?;
        if !is_commit(&listing.sha) {
            return Err(download_error(&url, format!("sha is {:?}, expected a commit", listing.sha)));
        }
        Ok(listing)
    }
}

/// The hub's answer about a repository.
#[derive(serde::Deserialize)]
struct Listing {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(serde::Deserialize)]
struct Sibling {
    rfilename: String,
}

impl Listing {
    fn has(&self, name: &str) -> bool {
        self.siblings.iter().any(|sibling| sibling.rfilename == name)
    }
}

/// A file at the hub.
struct RemoteFile {
    name: String,
    url: String,
    etag: String,
    size: u64,
}

impl RemoteFile {
    /// The checksum, where the etag is one: that of a large file is its SHA-256.
    fn sha256(&self) -> Option<&str> {
        (self.etag.len() == 64 && self.etag.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .then_some(&self.etag)
    }
}

/// Adds up the bytes of all files.
struct Meter<'a> {
    on_progress: OnProgress<'a>,
    /// Bytes of the files before the current one.
    done: u64,
    total: u64,
}

impl Meter<'_> {
    fn report(&mut self, file: &str, bytes: u64) -> Result<()> {
        match (self.on_progress)(Progress { file, done: self.done + bytes, total: self.total }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Cancelled),
        }
    }
}

/// Why a transfer stopped.
enum Failure {
    /// The connection; another attempt can help.
    Interrupted(Error),
    /// Anything else.
    Fatal(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Fatal(error)
    }
}

/// The download of one commit.
struct Download<'a> {
    hub: &'a Hub,
    repo: &'a RepoId,
    commit: &'a str,
    folder: PathBuf,
}

impl Download<'_> {
    fn snapshot(&self) -> PathBuf {
        self.folder.join("snapshots").join(self.commit)
    }

    /// Names of the files to fetch, small ones first; fetches the index of a sharded model.
    fn choose(&self, listing: &Listing, on_progress: OnProgress<'_>) -> Result<Vec<String>> {
        let mut names: Vec<String> =
            SMALL_FILES.iter().filter(|name| listing.has(name)).map(|&name| name.to_owned()).collect();
        let repo = format!("{}/{}", self.hub.client.endpoint(), self.repo);
        if listing.has(SINGLE) {
            names.push(SINGLE.to_owned());
        } else if listing.has(INDEX) {
            let index = self.ask(INDEX.to_owned())?;
            let total = index.size;
            self.store(&index, &mut Meter { on_progress, done: 0, total })?;
            let path = self.snapshot().join(INDEX);
            let shards: BTreeSet<String> = read_index(&path)?.into_values().collect();
            for shard in &shards {
                check_shard_name(shard).map_err(|message| Error::file(&path, message))?;
            }
            let missing: Vec<&String> = shards.iter().filter(|shard| !listing.has(shard)).collect();
            if !missing.is_empty() {
                return Err(download_error(
                    &repo,
                    format!("{INDEX} names missing shards: {}", list(&missing)),
                ));
            }
            names.extend(shards);
        } else {
            let pickle =
                listing.siblings.iter().find(|sibling| has_pickle_ending(Path::new(&sibling.rfilename)));
            return Err(match pickle {
                Some(sibling) => header::pickle(Path::new(&format!("{repo}/{}", sibling.rfilename))),
                None => download_error(&repo, format!("the repository has neither {SINGLE} nor {INDEX}")),
            });
        }
        Ok(names)
    }

    /// Asks for size and etag of a file.
    fn ask(&self, name: String) -> Result<RemoteFile> {
        let (endpoint, repo, commit) = (self.hub.client.endpoint(), self.repo.name(), self.commit);
        let url = format!("{endpoint}/{repo}/resolve/{commit}/{}", escape_path(&name));
        let response = self.hub.client.head(&url)?;
        if !response.status().is_redirection() {
            self.hub.client.expect_success(&url, &response)?;
        }
        let field = |names: [&str; 2]| {
            names.iter().find_map(|name| response.headers().get(*name)?.to_str().ok().map(str::to_owned))
        };
        let etag = field(["x-linked-etag", "etag"]).unwrap_or_default();
        let etag = etag.trim_start_matches("W/").trim_matches('"').to_owned();
        let is_plain = etag.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        if !(1..=128).contains(&etag.len()) || !is_plain {
            return Err(download_error(&url, format!("etag is {etag:?}, expected a checksum")));
        }
        let size = field(["x-linked-size", "content-length"]).and_then(|size| size.parse().ok());
        let size = size.ok_or_else(|| download_error(&url, "the hub does not state the size"))?;
        Ok(RemoteFile { name, url, etag, size })
    }

    /// Brings a file into the cache, if it is not there, and links it.
    fn store(&self, file: &RemoteFile, meter: &mut Meter<'_>) -> Result<()> {
        let blobs = self.folder.join("blobs");
        create_folder(&blobs)?;
        let blob = blobs.join(&file.etag);
        let is_there = || fs::metadata(&blob).is_ok_and(|metadata| metadata.len() == file.size);
        let lock = self.lock(&file.etag)?;
        if !is_there() {
            self.transfer(file, &blob, meter)?;
        }
        link(&self.folder, &file.etag, &self.snapshot(), &file.name)?;
        drop(lock);
        meter.report(&file.name, file.size)?;
        meter.done += file.size;
        Ok(())
    }

    /// Waits for the lock of a blob; it is held until the file is dropped.
    fn lock(&self, etag: &str) -> Result<File> {
        let folder = self.hub.cache.folder().join(".locks").join(self.repo.folder_name());
        create_folder(&folder)?;
        let path = folder.join(format!("{etag}.lock"));
        let io = |error| Error::io(&path, error);
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(io)?;
        match file.lock() {
            // Some network file systems have no locks; the rename is atomic there as well.
            Err(error) if error.kind() != ErrorKind::Unsupported => Err(io(error)),
            _ => Ok(file),
        }
    }

    /// Fetches a blob, in several attempts if the connection breaks.
    fn transfer(&self, file: &RemoteFile, blob: &Path, meter: &mut Meter<'_>) -> Result<()> {
        let partial = blob.with_file_name(format!("{}.incomplete", file.etag));
        let mut attempt = 1;
        loop {
            match self.transfer_once(file, &partial, meter) {
                Ok(()) => break,
                Err(Failure::Fatal(error)) => return Err(error),
                Err(Failure::Interrupted(error)) if attempt >= self.hub.attempts => return Err(error),
                Err(Failure::Interrupted(error)) => {
                    log::warn!("{error}; attempt {} follows", attempt + 1);
                    std::thread::sleep(Duration::from_millis(250 << attempt.min(5)));
                    attempt += 1;
                }
            }
        }
        fs::rename(&partial, blob).map_err(|error| Error::io(blob, error))
    }

    /// Fetches what the incomplete file lacks, and checks it.
    fn transfer_once(&self, file: &RemoteFile, partial: &Path, meter: &mut Meter<'_>) -> Result<(), Failure> {
        let io = |error| Error::io(partial, error);
        let mut target = Partial::open(partial, file.size).map_err(io)?;
        if target.bytes < file.size {
            self.continue_transfer(file, partial, &mut target, meter)?;
        }
        target.file.sync_all().map_err(io)?;
        let got = hex(&target.checksum.finalize());
        if let Some(want) = file.sha256().filter(|want| !want.eq_ignore_ascii_case(&got)) {
            drop(target.file);
            fs::remove_file(partial).map_err(io)?;
            let message = format!("sha256 is {got}, expected {want}; the next call fetches it anew");
            return Err(Failure::Fatal(download_error(&file.url, message)));
        }
        Ok(())
    }

    fn continue_transfer(
        &self,
        file: &RemoteFile,
        path: &Path,
        target: &mut Partial,
        meter: &mut Meter<'_>,
    ) -> Result<(), Failure> {
        let io = |error| Error::io(path, error);
        let client = &self.hub.client;
        let mut response = client.get(&file.url, target.bytes).map_err(Failure::Interrupted)?;
        let status = response.status().as_u16();
        if status == 206 && range_start(&response) != Some(target.bytes) || status == 416 {
            target.restart().map_err(io)?;
            return Err(Failure::Interrupted(download_error(
                &file.url,
                "the hub sent another range than asked for",
            )));
        }
        if let Err(error) = client.expect_success(&file.url, &response) {
            let may_pass = status == 429 || status >= 500;
            return Err(if may_pass { Failure::Interrupted(error) } else { Failure::Fatal(error) });
        }
        if status != 206 {
            target.restart().map_err(io)?;
        }
        let mut body = response.body_mut().as_reader();
        let mut buffer = vec![0; 1 << 17];
        loop {
            meter.report(&file.name, target.bytes)?;
            let count = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(Failure::Interrupted(download_error(&file.url, error.to_string()))),
            };
            if target.bytes + count as u64 > file.size {
                target.restart().map_err(io)?;
                let message = format!("more than the stated {} bytes arrived", file.size);
                return Err(Failure::Fatal(download_error(&file.url, message)));
            }
            target.append(&buffer[..count]).map_err(io)?;
        }
        if target.bytes < file.size {
            let message = format!("the connection ended after {} of {} bytes", target.bytes, file.size);
            return Err(Failure::Interrupted(download_error(&file.url, message)));
        }
        Ok(())
    }

    /// Notes that the revision is at this commit.
    fn write_reference(&self) -> Result<()> {
        if self.repo.revision() == self.commit {
            return Ok(());
        }
        let path = self.folder.join("refs").join(self.repo.revision());
        create_folder(path.parent().expect("the path has a folder"))?;
        let _lock = self.lock("refs")?;
        let temporary = temporary_beside(&path);
        fs::write(&temporary, self.commit).map_err(|error| Error::io(&temporary, error))?;
        fs::rename(&temporary, &path).map_err(|error| Error::io(&path, error))
    }
}

/// A file that is not complete yet, and the checksum of what is there.
struct Partial {
    file: File,
    bytes: u64,
    checksum: Sha256,
}

impl Partial {
    /// Opens the file at its end; one that is too long is emptied.
    fn open(path: &Path, size: u64) -> std::io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut partial = Self { file, bytes: 0, checksum: Sha256::new() };
        if partial.file.metadata()?.len() > size {
            partial.restart()?;
        }
        let mut buffer = vec![0; 1 << 17];
        loop {
            let count = partial.file.read(&mut buffer)?;
            if count == 0 {
                return Ok(partial);
            }
            partial.checksum.update(&buffer[..count]);
            partial.bytes += count as u64;
        }
    }

    fn append(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.file.write_all(bytes)?;
        self.checksum.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    fn restart(&mut self) -> std::io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.bytes = 0;
        self.checksum = Sha256::new();
        Ok(())
    }
}

/// First byte of a partial answer: 5 of `bytes 5-9/10`.
fn range_start(response: &ureq::http::Response<ureq::Body>) -> Option<u64> {
    let range = response.headers().get("content-range")?.to_str().ok()?;
    range.trim().strip_prefix("bytes")?.trim_start().split('-').next()?.parse().ok()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn create_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|error| Error::io(path, error))
}

/// A name for a file that is renamed to `path` when it is complete.
fn temporary_beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    path.with_file_name(name)
}

/// Makes `snapshot/name` stand for a blob: a relative link, or a copy where there are no links.
fn link(repo_folder: &Path, etag: &str, snapshot: &Path, name: &str) -> Result<()> {
    let blob = repo_folder.join("blobs").join(etag);
    let pointer = snapshot.join(name);
    let io = |error| Error::io(&pointer, error);
    create_folder(pointer.parent().expect("the path has a folder"))?;
    let temporary = temporary_beside(&pointer);
    #[cfg(unix)]
    {
        if pointer.canonicalize().is_ok_and(|real| blob.canonicalize().is_ok_and(|blob| blob == real)) {
            return Ok(());
        }
        // From the pointer's folder up to the repository's: `snapshots`, the commit, and any folders of the name.
        let up = "../".repeat(2 + name.matches('/').count());
        // A link that a killed process left behind would be in the way.
        let _ = fs::remove_file(&temporary);
        std::os::unix::fs::symlink(format!("{up}blobs/{etag}"), &temporary).map_err(io)?;
    }
    #[cfg(not(unix))]
    fs::copy(&blob, &temporary).map_err(io)?;
    fs::rename(&temporary, &pointer).map_err(io)
}

//! The weights of a model: one safetensors file, or a folder with one file or with shards.

use super::header::{self, Header, READABLE, TensorHeader, UniqueMap};
use super::safetensors::{self, Access, FileBytes};
use super::{TensorView, Weights, list};
use crate::tensor::Spec;
use crate::{Error, Result};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

/// File of an unsharded model.
pub(super) const SINGLE: &str = "model.safetensors";
/// File that names the shards of a model.
pub(super) const INDEX: &str = "model.safetensors.index.json";
/// Endings of files with pickled weights.
pub(super) const PICKLES: [&str; 5] = ["bin", "pt", "pth", "ckpt", "pkl"];
/// An index larger than this is not one.
const MAX_INDEX_BYTES: u64 = 100_000_000;

/// Tensors of one dtype in the files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct StoredDtype {
    /// The dtype as the files name it.
    pub dtype: String,
    /// Number of tensors.
    pub tensors: usize,
    /// Number of elements.
    pub elements: u64,
    /// Bytes of data.
    pub bytes: u64,
}

/// The checked headers of a model's files, without their data.
#[derive(Debug, Clone)]
pub struct ModelHeader {
    /// The headers: one, or one for each shard.
    pub files: Vec<Header>,
    /// Where each tensor is: its file and its number there.
    places: BTreeMap<String, (usize, usize)>,
}

impl ModelHeader {
    /// Reads the headers of a model: of a .safetensors file, or of a folder with
    /// `model.safetensors` or `model.safetensors.index.json` and its shards.
    ///
    /// # Errors
    /// [`Error::File`] and [`Error::Io`] with the file, the field, expected and got; everything
    /// that is missing from a sharded model is named at once.
    pub fn read(path: &Path) -> Result<Self> {
        let source = Source::find(path)?;
        let files = source.files.iter().map(|file| header::read_header(file)).collect::<Result<_>>()?;
        Self::new(&source, files)
    }

    /// The tensors, sorted by name.
    pub fn tensors(&self) -> impl Iterator<Item = &TensorHeader> {
        self.places.values().map(|&(file, tensor)| &self.files[file].tensors[tensor])
    }

    /// A tensor's header.
    pub fn tensor(&self, name: &str) -> Option<&TensorHeader> {
        self.places.get(name).map(|&(file, tensor)| &self.files[file].tensors[tensor])
    }

    fn new(source: &Source, files: Vec<Header>) -> Result<Self> {
        let mut found = BTreeMap::new();
        let mut problems = Vec::new();
        for (file, header) in files.iter().enumerate() {
            for (number, tensor) in header.tensors.iter().enumerate() {
                if let Some((first, _)) = found.insert(tensor.name.clone(), (file, number)) {
                    let (first, second) = (files[first].path.display(), header.path.display());
                    problems.push(format!("tensor `{}` is in {first} and in {second}", tensor.name));
                }
            }
        }
        let mut places = BTreeMap::new();
        let Some(index) = &source.index else { return Ok(Self { files, places: found }) };
        for (name, file) in &index.tensors {
            match found.get(name) {
                Some(&place) if place.0 == *file => {
                    places.insert(name.clone(), place);
                }
                Some(&(other, _)) => {
                    let (want, got) = (files[*file].path.display(), files[other].path.display());
                    problems.push(format!("tensor `{name}` is in {got}, expected in {want}"));
                }
                None => {
                    problems.push(format!("tensor `{name}` is not in {}", files[*file].path.display()));
                }
            }
        }
        if problems.is_empty() {
            Ok(Self { files, places })
        } else {
            Err(Error::file(&index.path, list(&problems)))
        }
    }
}

/// The folder of a model that is given as a folder or as the file of weights in it.
pub fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if path.is_file() && parent.as_os_str().is_empty() => PathBuf::from("."),
        Some(parent) if path.is_file() => parent.to_owned(),
        _ => path.to_owned(),
    }
}

/// The weights in a model's files.
#[derive(Debug)]
pub struct FileWeights {
    header: ModelHeader,
    data: Vec<FileBytes>,
}

impl FileWeights {
    /// Opens and maps the files of a model; see [`ModelHeader::read`] for what they are.
    ///
    /// # Errors
    /// Those of [`ModelHeader::read`].
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_with(path, Access::Map)
    }

    /// Opens the files of a model.
    ///
    /// # Errors
    /// Those of [`ModelHeader::read`].
    pub fn open_with(path: &Path, access: Access) -> Result<Self> {
        let source = Source::find(path)?;
        let opened: Vec<(Header, FileBytes)> =
            source.files.iter().map(|file| safetensors::open(file, access)).collect::<Result<_>>()?;
        let (headers, data) = opened.into_iter().unzip();
        Ok(Self { header: ModelHeader::new(&source, headers)?, data })
    }

    /// The headers.
    pub fn header(&self) -> &ModelHeader {
        &self.header
    }

    /// The dtypes of the tensors, by name.
    pub fn stored_dtypes(&self) -> Vec<StoredDtype> {
        let mut dtypes: BTreeMap<&str, StoredDtype> = BTreeMap::new();
        for tensor in self.header.tensors() {
            let stored = dtypes.entry(&tensor.dtype_name).or_default();
            stored.dtype.clone_from(&tensor.dtype_name);
            stored.tensors += 1;
            stored.elements += tensor.elements();
            stored.bytes += tensor.range.end - tensor.range.start;
        }
        dtypes.into_values().collect()
    }

    /// Data of the file, and the tensor's range in it.
    fn locate(&self, name: &str) -> Option<(&FileBytes, &TensorHeader, std::ops::Range<usize>)> {
        let &(file, number) = self.header.places.get(name)?;
        let tensor = &self.header.files[file].tensors[number];
        let offset = |value: u64| usize::try_from(value).expect("the file is in the address space");
        Some((&self.data[file], tensor, offset(tensor.range.start)..offset(tensor.range.end)))
    }
}

impl Weights for FileWeights {
    fn names(&self) -> Vec<&str> {
        self.header.places.keys().map(String::as_str).collect()
    }

    fn spec(&self, name: &str) -> Option<&Spec> {
        self.header.tensor(name)?.spec.as_ref()
    }

    fn get(&self, name: &str) -> Option<TensorView<'_>> {
        let (data, tensor, range) = self.locate(name)?;
        Some(TensorView { spec: tensor.spec.as_ref()?, bytes: &data.bytes()[range] })
    }

    fn absent(&self, name: &str) -> Error {
        if let Some(&(file, number)) = self.header.places.get(name) {
            let header = &self.header.files[file];
            let dtype = &header.tensors[number].dtype_name;
            return Error::file(
                &header.path,
                format!("tensor `{name}` has dtype {dtype}, expected {READABLE}"),
            );
        }
        let paths: Vec<String> =
            self.header.files.iter().map(|file| file.path.display().to_string()).collect();
        let count = self.header.places.len();
        Error::file(list(&paths), format!("no tensor `{name}` among the {count} there"))
    }

    fn release(&self, name: &str) {
        if let Some((data, _, range)) = self.locate(name) {
            data.release(range);
        }
    }
}

/// Which files make up a model.
struct Source {
    files: Vec<PathBuf>,
    index: Option<Index>,
}

/// What the index of a sharded model says.
struct Index {
    path: PathBuf,
    /// Name of a tensor, number of its file.
    tensors: Vec<(String, usize)>,
}

impl Source {
    fn find(path: &Path) -> Result<Self> {
        let metadata = path.metadata().map_err(|error| Error::io(path, error))?;
        if metadata.is_dir() {
            return Self::find_in_folder(path);
        }
        if has_pickle_ending(path) {
            return Err(header::pickle(path));
        }
        if path.extension().is_some_and(|ending| ending == "json") {
            return Self::sharded(path);
        }
        Ok(Self { files: vec![path.to_owned()], index: None })
    }

    fn find_in_folder(folder: &Path) -> Result<Self> {
        let (single, index) = (folder.join(SINGLE), folder.join(INDEX));
        if single.exists() {
            return Ok(Self { files: vec![single], index: None });
        }
        if index.exists() {
            return Self::sharded(&index);
        }
        let entries = folder.read_dir().map_err(|error| Error::io(folder, error))?;
        let files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        if let Some(file) = files.iter().find(|file| has_pickle_ending(file)) {
            return Err(header::pickle(file));
        }
        let mut others: Vec<String> = files
            .iter()
            .filter(|file| file.extension().is_some_and(|ending| ending == "safetensors"))
            .filter_map(|file| Some(file.file_name()?.to_string_lossy().into_owned()))
            .collect();
        others.sort();
        let found = if others.is_empty() {
            "no .safetensors file at all".to_owned()
        } else {
            format!("{} (a file can be named itself)", list(&others))
        };
        Err(Error::file(folder, format!("expected {SINGLE} or {INDEX} in this folder, found {found}")))
    }

    fn sharded(path: &Path) -> Result<Self> {
        let weight_map = read_index(path)?;
        let folder = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let roots = allowed_roots(folder)?;
        let shards: BTreeSet<&String> = weight_map.values().collect();
        let (mut files, mut missing, mut numbers) = (Vec::new(), Vec::new(), BTreeMap::new());
        for shard in shards {
            check_shard_name(shard).map_err(|message| Error::file(path, message))?;
            let file = folder.join(shard);
            match file.canonicalize() {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => missing.push(shard.as_str()),
                Err(error) => return Err(Error::io(file, error)),
                Ok(real) if !roots.iter().any(|root| real.starts_with(root)) => {
                    let real = real.display();
                    return Err(Error::file(
                        path,
                        format!("shard `{shard}` leaves the model's folder: it is {real}"),
                    ));
                }
                Ok(_) => {
                    numbers.insert(shard.clone(), files.len());
                    files.push(file);
                }
            }
        }
        if !missing.is_empty() {
            return Err(Error::file(path, format!("missing shards: {}", list(&missing))));
        }
        let tensors = weight_map.into_iter().map(|(name, shard)| (name, numbers[&shard])).collect();
        Ok(Self { files, index: Some(Index { path: path.to_owned(), tensors }) })
    }
}

/// Whether a file is called like pickled weights.
pub(super) fn has_pickle_ending(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or("");
    PICKLES.iter().any(|pickle| ending.eq_ignore_ascii_case(pickle))
}

/// Reads the `weight_map` of an index: name of a tensor, name of its shard.
pub(super) fn read_index(path: &Path) -> Result<BTreeMap<String, String>> {
    #[derive(serde::Deserialize)]
    struct RawIndex {
        weight_map: UniqueMap,
    }
    let size = path.metadata().map_err(|error| Error::io(path, error))?.len();
    if size > MAX_INDEX_BYTES {
        return Err(Error::file(
            path,
            format!("has {size} bytes, expected at most {MAX_INDEX_BYTES} for an index"),
        ));
    }
    let text = std::fs::read(path).map_err(|error| Error::io(path, error))?;
    let index: RawIndex =
        serde_json::from_slice(&text).map_err(|error| Error::file(path, error.to_string()))?;
    if index.weight_map.0.is_empty() {
        return Err(Error::file(path, "weight_map names no tensor"));
    }
    Ok(index.weight_map.0)
}

/// Checks that a shard is named by a plain relative path to a safetensors file.
pub(super) fn check_shard_name(shard: &str) -> Result<(), String> {
    let path = Path::new(shard);
    let plain = path.components().all(|component| matches!(component, Component::Normal(_)));
    // The other platform's separators and drive letters are refused too.
    if shard.is_empty() || !plain || shard.contains(['\\', ':', '\0']) {
        return Err(format!("shard `{shard}` leaves the model's folder, expected a plain file name"));
    }
    if path.extension().is_none_or(|ending| ending != "safetensors") {
        return Err(format!("shard `{shard}` is not a .safetensors file"));
    }
    Ok(())
}

/// Where the files of a model may really lie: in its folder and, for a snapshot in a hub cache,
/// in the blobs of the same repository, which the snapshot links to.
fn allowed_roots(folder: &Path) -> Result<Vec<PathBuf>> {
    let folder = folder.canonicalize().map_err(|error| Error::io(folder, error))?;
    let mut roots = Vec::new();
    for ancestor in folder.ancestors() {
        let Some(repo) = ancestor.parent() else { continue };
        let is_repo = repo.file_name().is_some_and(|name| name.to_string_lossy().starts_with("models--"));
        if ancestor.ends_with("snapshots") && is_repo {
            roots.push(repo.join("blobs"));
        }
    }
    roots.push(folder);
    Ok(roots)
}

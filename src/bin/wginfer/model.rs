//! From the command line's words to a device and a loaded model.

use crate::args::{GlobalFlags, ModelFlags};
use crate::failure::Failure;
use crate::profile::Profiling;
use crate::terminal::{byte_bar, note};
use std::path::{Path, PathBuf};
use std::time::Instant;
use wginfer::gpu::Gpu;
use wginfer::kernel::DeviceKind;
use wginfer::text::{Prompt, TextModel};
use wginfer::weights::{self, ModelHeader};

/// Where the bundled language model lies in the project's tree.
const BUNDLED: &str = "models/pretrained/fairy-tales";

/// Splits "[MODEL] WHAT" into its two parts: one word is WHAT, unless `has_what` says that it
/// is given by a flag.
pub(crate) fn split_words(
    words: &[String],
    has_what: Option<&str>,
    what: &str,
) -> Result<(Option<String>, Option<String>), Failure> {
    match (words, has_what) {
        ([], None) => Err(Failure::Usage(format!("{what} is missing"))),
        ([], Some(_)) => Ok((None, None)),
        ([model], Some(_)) => Ok((Some(model.clone()), None)),
        ([model], None) if Path::new(model).join("config.json").exists() || is_onnx(Path::new(model)) => {
            Err(Failure::Usage(format!("`{model}` is a model: {what} is missing after it")))
        }
        ([only], None) => Ok((None, Some(only.clone()))),
        ([model, what], None) => Ok((Some(model.clone()), Some(what.clone()))),
        (_, Some(flag)) => Err(Failure::Usage(format!("{what} is given twice: as text and by {flag}"))),
        (_, None) => Err(Failure::Usage(format!("expected [MODEL] and {what}, got {} words", words.len()))),
    }
}

/// The folder or file of the model that is meant: what is named, else WGINFER_MODEL, else the
/// bundled language model.
pub(crate) fn find(name: Option<&str>, global: &GlobalFlags) -> Result<PathBuf, Failure> {
    let from_environment = std::env::var("WGINFER_MODEL").ok().filter(|name| !name.is_empty());
    match name.map(str::to_owned).or(from_environment) {
        Some(name) => resolve(&name, global),
        None => bundled(BUNDLED),
    }
}

/// The folder of the language model that is meant; see [`find`].
pub(crate) fn find_folder(name: Option<&str>, global: &GlobalFlags) -> Result<PathBuf, Failure> {
    folder_of(find(name, global)?)
}

/// Whether this is a file in the ONNX format, by its name.
fn is_onnx(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "onnx") && path.is_file()
}

/// The .onnx file that is meant: a file, or that of a folder without other weights.
pub(crate) fn onnx_file(path: &Path) -> Option<PathBuf> {
    if is_onnx(path) {
        return Some(path.to_owned());
    }
    let file = path.join("model.onnx");
    let others = ["model.safetensors", "model.safetensors.index.json"];
    let alone = others.iter().all(|name| !path.join(name).exists());
    (alone && file.is_file()).then_some(file)
}

/// The folder of a language model that is given as a folder or as the weights in it.
pub(crate) fn folder_of(path: PathBuf) -> Result<PathBuf, Failure> {
    if !path.is_file() {
        return Ok(path);
    }
    // The file's own error is the better one: pickled, truncated, no weights at all.
    ModelHeader::read(&path)?;
    if path.file_name().is_some_and(|name| name == "model.safetensors") {
        return Ok(weights::folder_of(&path));
    }
    Err(Failure::Other(format!(
        "{}: a model is a folder with config.json and model.safetensors, got a file",
        path.display()
    )))
}

#[cfg(not(feature = "hub"))]
pub(crate) fn resolve(name: &str, _: &GlobalFlags) -> Result<PathBuf, Failure> {
    Ok(weights::hub::resolve_model(name)?)
}

#[cfg(feature = "hub")]
pub(crate) fn resolve(name: &str, global: &GlobalFlags) -> Result<PathBuf, Failure> {
    let bar = byte_bar("downloading", global.quiet);
    let fetched = weights::download::fetch_model(name, &mut |progress| {
        bar.set_length(progress.total);
        bar.set_position(progress.done);
        std::ops::ControlFlow::Continue(())
    });
    bar.finish_and_clear();
    Ok(fetched?)
}

/// A model that comes with the project, by its place in the tree: beside a build in its target folder, in the current
/// folder, or where the program was compiled.
pub(crate) fn bundled(place_in_tree: &str) -> Result<PathBuf, Failure> {
    let beside = |program: PathBuf| program.ancestors().nth(3).map(Path::to_owned);
    let places = [
        std::env::current_exe().ok().and_then(beside),
        Some(PathBuf::from(".")),
        Some(PathBuf::from(env!("CARGO_MANIFEST_DIR"))),
    ];
    let folders = places.into_iter().flatten().map(|place| place.join(place_in_tree));
    let found = folders.into_iter().find(|folder| folder.join("config.json").exists());
    found.ok_or_else(|| {
        Failure::Other(format!("the bundled model ({place_in_tree}) is not here: name a model"))
    })
}

/// Opens the adapter that is asked for and says which it is.
pub(crate) fn open_gpu(global: &GlobalFlags, checked: bool, json: bool) -> Result<Gpu, Failure> {
    let gpu = Gpu::open(&global.gpu_options(checked))?;
    if !global.quiet && !json {
        let adapter = gpu.adapter();
        note(&format!("adapter: {adapter}"));
        if adapter.kind == DeviceKind::Software {
            note("note: this adapter computes on the processor; with a GPU and its driver it is much faster");
        }
    }
    Ok(gpu)
}

/// The same, recorded where a profile is asked for.
pub(crate) fn open_recorded(
    global: &GlobalFlags,
    checked: bool,
    json: bool,
    profiling: &mut Profiling,
) -> Result<Gpu, Failure> {
    let begin = Instant::now();
    let gpu = open_gpu(global, checked, json)?;
    profiling.attach(&gpu, begin);
    Ok(gpu)
}

/// Loads a model with a progress bar.
pub(crate) fn load(
    folder: &Path,
    gpu: &Gpu,
    flags: &ModelFlags,
    first_prompt: Option<&Prompt>,
    global: &GlobalFlags,
) -> Result<TextModel, Failure> {
    let bar = byte_bar("loading", global.quiet);
    let shown = bar.clone();
    let mut builder = TextModel::builder().gpu(gpu).progress(move |done, total| {
        shown.set_length(total);
        shown.set_position(done);
    });
    if let Some(prompt) = first_prompt {
        builder = builder.first_prompt(prompt.clone());
    }
    if let Some(dtype) = flags.dtype {
        builder = builder.dtype(dtype.into());
    }
    if let Some(context) = flags.ctx {
        builder = builder.context(context);
    }
    if let Some(bytes) = flags.memory_budget {
        builder = builder.memory_budget(bytes);
    }
    let name = folder
        .to_str()
        .ok_or_else(|| Failure::Other(format!("{}: the path of a model must be UTF-8", folder.display())))?;
    let loaded = builder.load(name);
    bar.finish_and_clear();
    Ok(loaded?)
}

//! What the commands for images share: their flags, which words are photos, loading.

use crate::args::{DTypeName, GlobalFlags, parse_bytes};
use crate::failure::Failure;
use crate::model;
use crate::terminal::{byte_bar, note};
use clap::Args;
use std::path::{Path, PathBuf};
use wginfer::Error;
use wginfer::gpu::Gpu;
use wginfer::vision::{Architecture, Channels, ModelBuilder, PreprocessChanges, ResampleFilter, Resize};

/// What MODEL may be, at the end of help texts.
pub(crate) const MODEL_HELP: &str = "\
MODEL is a folder with model.safetensors and, where they are there, config.json,
preprocessor_config.json and synset_words.txt; a .safetensors file; or ORG/NAME[@REVISION] in
the local hub cache.";

/// Value of the border around photos that are fitted in a size, as YOLO was trained with.
const FILL: u8 = 114;

/// How a network for images is read and loaded.
#[derive(Debug, Args)]
pub(crate) struct NetworkFlags {
    /// Architecture, for example resnet, where config.json does not say and the tensors fit several
    #[arg(long, value_name = "NAME", value_parser = parse_architecture)]
    arch: Option<Architecture>,
    /// File of labels, one a line, or a JSON file with id2label [default: the model's own]
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Dtype of the matrices and windows on the GPU [default: that of the files]
    #[arg(long, value_enum)]
    dtype: Option<DTypeName>,
    /// Run shaders with all run-time checks on (slower)
    #[arg(long)]
    pub(crate) checked: bool,
    /// Most bytes to use on the GPU, for example 512M or 4G [default: physical memory where the
    /// GPU shares it]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    memory_budget: Option<u64>,
    #[command(flatten)]
    preprocess: PreprocessFlags,
}

impl NetworkFlags {
    /// Settings of loading, with a progress bar; `batch` photos are computed together.
    pub(crate) fn builder(&self, gpu: &Gpu, batch: usize, global: &GlobalFlags) -> ModelBuilder {
        let bar = byte_bar("loading", global.quiet);
        let mut builder =
            ModelBuilder::default().gpu(gpu).batch(batch).preprocess(self.preprocess.changes()).progress(
                move |done, total| {
                    bar.set_length(total);
                    bar.set_position(done);
                    if done == total {
                        bar.finish_and_clear();
                    }
                },
            );
        if let Some(architecture) = self.arch {
            builder = builder.architecture(architecture);
        }
        if let Some(labels) = &self.labels {
            builder = builder.labels(labels);
        }
        if let Some(dtype) = self.dtype {
            builder = builder.dtype(dtype.into());
        }
        if let Some(bytes) = self.memory_budget {
            builder = builder.memory_budget(bytes);
        }
        builder
    }
}

/// Changes of a model's preprocessing.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Preprocessing (left out: as the model's files or its architecture say)")]
pub(crate) struct PreprocessFlags {
    /// Resize the shorter side to SIDE; or to WIDTHxHEIGHT whatever the proportions are; or so
    /// that it fits in WIDTHxHEIGHT, on grey; or not at all
    #[arg(long, value_name = "SIDE|WxH|fit:WxH|none", value_parser = parse_resize)]
    resize: Option<Resize>,
    /// Cut this out of the middle then
    #[arg(long, value_name = "SIDE|WxH|none", value_parser = parse_crop)]
    crop: Option<Crop>,
    /// Whether the centred square is cut out before all that
    #[arg(long, value_name = "true|false")]
    square: Option<bool>,
    /// How pixels between pixels are computed: nearest, box, bilinear, hamming, bicubic, lanczos
    #[arg(long, value_name = "NAME", value_parser = parse_filter)]
    filter: Option<ResampleFilter>,
    /// Which channels the network takes: rgb, bgr or gray
    #[arg(long, value_name = "NAME", value_parser = parse_channels)]
    channels: Option<Channels>,
    /// Factor of the pixels' bytes, for example 1/255
    #[arg(long, value_name = "NUMBER", value_parser = parse_scale)]
    scale: Option<f64>,
    /// Subtracted then: a number, or one for each channel
    #[arg(long, value_name = "N[,N,N]", allow_hyphen_values = true, value_parser = parse_mean)]
    mean: Option<[f64; 3]>,
    /// Divided by then: a number, or one for each channel
    #[arg(long, value_name = "N[,N,N]", value_parser = parse_std)]
    std: Option<[f64; 3]>,
}

impl PreprocessFlags {
    pub(crate) fn changes(&self) -> PreprocessChanges {
        PreprocessChanges {
            resize: self.resize,
            crop: self.crop.map(|crop| crop.0),
            square: self.square,
            filter: self.filter,
            channels: self.channels,
            scale: self.scale,
            mean: self.mean,
            std: self.std,
        }
    }
}

/// Height and width of a crop, or none.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Crop(Option<[usize; 2]>);

pub(crate) fn parse_architecture(text: &str) -> Result<Architecture, String> {
    Architecture::from_name(text).map_err(|error| error.to_string())
}

/// Height and width of "WIDTHxHEIGHT", each from 1 to 16384.
fn parse_size(text: &str) -> Option<[usize; 2]> {
    let (width, height) = text.split_once('x')?;
    Some([parse_side(height)?, parse_side(width)?])
}

fn parse_side(text: &str) -> Option<usize> {
    text.parse().ok().filter(|side| (1..=16_384).contains(side))
}

fn parse_resize(text: &str) -> Result<Resize, String> {
    let parsed = match text.split_once(':') {
        Some(("fit", size)) => parse_size(size).map(|size| Resize::Letterbox { size, fill: FILL }),
        Some(_) => None,
        None if text == "none" => Some(Resize::Keep),
        None => parse_side(text).map(Resize::ShortestEdge).or_else(|| parse_size(text).map(Resize::Exact)),
    };
    parsed.ok_or_else(|| "expected 256, 320x240, fit:640x640 or none, sizes from 1 to 16384".to_owned())
}

fn parse_crop(text: &str) -> Result<Crop, String> {
    let parsed = match text {
        "none" => Some(None),
        _ => parse_side(text).map(|side| [side, side]).or_else(|| parse_size(text)).map(Some),
    };
    parsed.map(Crop).ok_or_else(|| "expected 224, 320x240 or none, sizes from 1 to 16384".to_owned())
}

fn parse_filter(text: &str) -> Result<ResampleFilter, String> {
    let names = ResampleFilter::ALL.map(ResampleFilter::name);
    let found = ResampleFilter::ALL.into_iter().find(|filter| filter.name() == text);
    found.ok_or_else(|| format!("expected one of {}", names.join(", ")))
}

fn parse_channels(text: &str) -> Result<Channels, String> {
    let all = [Channels::Rgb, Channels::Bgr, Channels::Gray];
    all.into_iter().find(|channels| channels.name() == text).ok_or_else(|| "expected rgb, bgr or gray".into())
}

fn parse_scale(text: &str) -> Result<f64, String> {
    let number = |text: &str| text.trim().parse::<f64>().ok();
    let scale = match text.split_once('/') {
        Some((over, under)) => number(over).zip(number(under)).map(|(over, under)| over / under),
        None => number(text),
    };
    let usable = scale.filter(|scale| scale.is_finite() && *scale > 0.0);
    usable.ok_or_else(|| "expected a number above 0, for example 1/255".to_owned())
}

fn parse_mean(text: &str) -> Result<[f64; 3], String> {
    parse_channel_values(text, |value| value.is_finite())
        .ok_or_else(|| "expected a number, or three".to_owned())
}

fn parse_std(text: &str) -> Result<[f64; 3], String> {
    parse_channel_values(text, |value| value.is_finite() && value > 0.0)
        .ok_or_else(|| "expected a number above 0, or three".to_owned())
}

fn parse_channel_values(text: &str, is_good: impl Fn(f64) -> bool) -> Option<[f64; 3]> {
    let values = text.split(',').map(|value| value.trim().parse().ok().filter(|&value| is_good(value)));
    match values.collect::<Option<Vec<f64>>>()?[..] {
        [value] => Some([value; 3]),
        [first, second, third] => Some([first, second, third]),
        _ => None,
    }
}

/// Splits "[MODEL] PHOTO..." into its parts: the first word is MODEL where it is a model's folder
/// or file, or nothing that is here and no name of a photo.
pub(crate) fn split_words(words: &[String]) -> Result<(Option<String>, Vec<PathBuf>), Failure> {
    let [first, rest @ ..] = words else {
        return Err(Failure::Usage("the photo is missing".into()));
    };
    let is_model = is_model(Path::new(first)) || (!rest.is_empty() && is_absent_model(Path::new(first)));
    match (is_model, rest) {
        (true, []) => Err(Failure::Usage(format!("`{first}` is a model: the photo is missing after it"))),
        (true, photos) => {
            Ok((Some(first.clone()), photos.iter().flat_map(|photo| files_of(photo)).collect()))
        }
        (false, _) => Ok((None, words.iter().flat_map(|photo| files_of(photo)).collect())),
    }
}

fn is_model(path: &Path) -> bool {
    let Ok(entries) = path.read_dir() else { return path.exists() && is_weights_name(path) };
    let files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    let named = ["config.json", "model.safetensors", "model.safetensors.index.json"];
    let has = |is: fn(&Path) -> bool| files.iter().any(|file| is(file));
    // Weights under another name or in another form: to be refused as a model, not as photos.
    named.iter().any(|file| path.join(file).exists()) || (has(is_weights_name) && !has(is_photo_name))
}

fn is_weights_name(path: &Path) -> bool {
    let ending = path.extension().unwrap_or_default();
    ["safetensors", "bin", "pt", "pth", "ckpt", "pkl", "onnx"].iter().any(|known| ending == *known)
}

/// Not here, and not named as a photo: a repository, or a model that is missing.
fn is_absent_model(path: &Path) -> bool {
    !path.exists() && !is_photo_name(path)
}

fn is_photo_name(path: &Path) -> bool {
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    ["png", "jpg", "jpeg", "webp"].contains(&ending.as_str())
}

/// A photo; a folder stands for the photos in it, in the order of their names.
fn files_of(word: &str) -> Vec<PathBuf> {
    let path = PathBuf::from(word);
    let Ok(entries) = path.read_dir() else { return vec![path] };
    let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut photos: Vec<PathBuf> = files.filter(|file| is_photo_name(file)).collect();
    photos.sort();
    // A folder without photos is reported as a photo that cannot be read.
    if photos.is_empty() { vec![path] } else { photos }
}

/// The model that is meant: what is named, or the bundled one.
pub(crate) fn find(name: Option<&str>, bundled: &str, global: &GlobalFlags) -> Result<String, Failure> {
    let path = match name {
        Some(name) => model::resolve(name, global)?,
        None => model::bundled(bundled)?,
    };
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| Failure::Other(format!("{}: the path of a model must be UTF-8", path.display())))
}

/// Why a photo could not be used.
pub(crate) fn photo_error(path: &Path, error: &Error) -> String {
    if path.is_dir() {
        return format!("{}: a folder without PNG, JPEG or WebP files", path.display());
    }
    error.to_string()
}

/// Lists the photos that failed, and says how many they are of how many.
pub(crate) fn report_failures(failures: &[(PathBuf, String)], photos: usize) {
    if failures.is_empty() {
        return;
    }
    note(&format!("error: {} of {photos} photos could not be used", failures.len()));
    for (path, message) in failures {
        let path = path.display().to_string();
        let named = message.starts_with(&path);
        note(&if named { format!("  {message}") } else { format!("  {path}: {message}") });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preprocessing_is_parsed() {
        let exact = |height, width| Ok(Resize::Exact([height, width]));
        assert_eq!(parse_resize("256"), Ok(Resize::ShortestEdge(256)));
        assert_eq!(parse_resize("320x240"), exact(240, 320));
        assert_eq!(parse_resize("fit:64x32"), Ok(Resize::Letterbox { size: [32, 64], fill: FILL }));
        assert_eq!(parse_resize("none"), Ok(Resize::Keep));
        for text in ["", "0", "x", "3x", "0x4", "16385", "fit:3", "fill:3x4", "-1", "3x4x5"] {
            assert!(parse_resize(text).is_err(), "{text}");
        }
        assert_eq!(parse_crop("224"), Ok(Crop(Some([224, 224]))));
        assert_eq!(parse_crop("20x30"), Ok(Crop(Some([30, 20]))));
        assert_eq!(parse_crop("none"), Ok(Crop(None)));
        assert!(parse_crop("fit:3x3").is_err());
        assert_eq!(parse_scale("1/255"), Ok(1.0 / 255.0));
        assert!(["0", "-1", "1/0", "a", "1/2/3", "nan"].iter().all(|text| parse_scale(text).is_err()));
        assert_eq!(parse_mean("-1"), Ok([-1.0; 3]));
        assert_eq!(parse_std("1, 2,3.5"), Ok([1.0, 2.0, 3.5]));
        assert!(["", "0", "1,2", "1,2,3,4", "inf"].iter().all(|text| parse_std(text).is_err()));
        assert_eq!(parse_filter("bicubic"), Ok(ResampleFilter::Bicubic));
        assert!(parse_filter("cubic").unwrap_err().contains("bicubic"));
        assert_eq!(parse_channels("gray"), Ok(Channels::Gray));
        assert!(parse_channels("grey").is_err());
    }

    #[test]
    fn the_first_word_may_be_a_model() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        for (name, file) in
            [("model", "config.json"), ("photos", "b.PNG"), ("photos", "a.jpg"), ("photos", "c.txt")]
        {
            std::fs::create_dir_all(path(name)).unwrap();
            std::fs::write(Path::new(&path(name)).join(file), "").unwrap();
        }
        let split = |words: &[String]| {
            let (model, photos) = split_words(words).map_err(|_| ())?;
            Ok((model, photos.iter().map(|photo| photo.to_str().unwrap().to_owned()).collect::<Vec<_>>()))
        };
        let all = vec![path("photos/a.jpg"), path("photos/b.PNG")];
        assert_eq!(split(&[path("photos")]), Ok((None, all.clone())));
        assert_eq!(split(&[path("model"), path("photos")]), Ok((Some(path("model")), all)));
        assert_eq!(split(&["org/name".into(), "x".into()]), Ok((Some("org/name".into()), vec!["x".into()])));
        assert_eq!(split(&["x.png".into(), "y".into()]), Ok((None, vec!["x.png".into(), "y".into()])));
        // Weights without config.json are a model; photos beside them, or nothing at all, are none.
        std::fs::create_dir(path("pickled")).unwrap();
        std::fs::write(path("pickled/pytorch_model.bin"), "").unwrap();
        let pickled = split(&[path("pickled"), path("photos/a.jpg")]);
        assert_eq!(pickled, Ok((Some(path("pickled")), vec![path("photos/a.jpg")])));
        std::fs::write(path("photos/index.bin"), "").unwrap();
        assert_eq!(split(&[path("photos")]).unwrap().0, None);
        assert_eq!(split(&[path("model")]), Err(()));
        assert_eq!(split(&[]), Err(()));
    }
}

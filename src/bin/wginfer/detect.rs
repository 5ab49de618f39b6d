//! `wginfer detect`: a photo in, boxes around objects out.

use crate::args::{GlobalFlags, parse_count};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::model;
use crate::network::{self, MODEL_HELP, NetworkFlags, photo_error};
use crate::profile::{ProfileFlags, Profiling};
use crate::terminal::{self, bytes, note, printable, table};
use clap::Args;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use wginfer::CancelToken;
use wginfer::vision::{BoundingBox, DetectOptions, Detection, Detector, Image, Photo, draw_detections};

/// The bundled model.
const DIGITS: &str = "models/pretrained/digit-boxes";
const DIGITS_NOTE: &str = "the bundled model finds handwritten digits, and knows nothing else";

const EXAMPLES: &str = "\
Examples:
  wginfer detect models/pretrained/digit-boxes/scene.png
  wginfer detect ./yolov8n street.jpg --out boxes.png
  wginfer detect ./yolov8n street.jpg --score 0.5 --resize fit:320x320 --json";

#[derive(Debug, Args)]
#[command(override_usage = "wginfer detect [OPTIONS] [MODEL] PHOTO")]
#[command(after_help = format!(
    "{EXAMPLES}\n\n{MODEL_HELP}\nLeft out, it is the bundled model of handwritten digits."
))]
pub(crate) struct DetectArgs {
    /// A PNG, JPEG or WebP file, with the model before it if it is not the bundled one
    #[arg(value_name = "MODEL PHOTO", num_args = 0..=2)]
    model_and_photo: Vec<String>,
    /// Write the photo with boxes and labels drawn to this PNG file
    #[arg(long, value_name = "FILE.png", value_parser = parse_png)]
    out: Option<PathBuf>,
    /// Least score of an object
    #[arg(long, value_name = "0..1", default_value_t = 0.25, value_parser = parse_share)]
    score: f32,
    /// Most overlap of two objects of a class, as intersection over union
    #[arg(long, value_name = "0..1", default_value_t = 0.45, value_parser = parse_share)]
    overlap: f32,
    /// Most objects
    #[arg(long, value_name = "COUNT", default_value_t = 300, value_parser = parse_count)]
    limit: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    network: NetworkFlags,
    #[command(flatten)]
    pub(crate) profile: ProfileFlags,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    model: String,
    adapter: String,
    architecture: &'static str,
    preprocessing: String,
    /// What the user should know of the model.
    notes: Vec<String>,
    file: String,
    width: u32,
    height: u32,
    /// The objects, the surest first.
    detections: Vec<Object>,
    out: Option<PathBuf>,
    load_s: f64,
    detect_s: f64,
    gpu_bytes: u64,
}

#[derive(Serialize)]
struct Object {
    index: usize,
    label: Option<String>,
    score: f32,
    left: f32,
    top: f32,
    right: f32,
    bottom: f32,
}

fn parse_share(text: &str) -> Result<f32, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "expected a number from 0 to 1".to_owned())
}

fn parse_png(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    let is_png = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("png"));
    if is_png { Ok(path) } else { Err("expected a name that ends in .png".to_owned()) }
}

impl DetectArgs {
    fn options(&self, cancel: CancelToken) -> DetectOptions {
        DetectOptions { score: self.score, overlap: self.overlap, limit: self.limit, cancel }
    }
}

/// Runs the command.
pub(crate) fn run(
    args: &DetectArgs,
    global: &GlobalFlags,
    profiling: &mut Profiling,
) -> Result<ExitCode, Failure> {
    let (name, photos) = network::split_words(&args.model_and_photo)?;
    let [photo] = photos.as_slice() else {
        return Err(Failure::Usage(format!("expected one photo, got {}", photos.len())));
    };
    args.out.as_deref().map_or(Ok(()), terminal::expect_folder_of)?;
    let path = network::find(name.as_deref(), DIGITS, global)?;
    let notes: Vec<String> = name.is_none().then(|| DIGITS_NOTE.to_owned()).into_iter().collect();
    let interrupt = Interrupt::install()?;
    let mut image = Image::open(photo).map_err(|error| Failure::Other(photo_error(photo, &error)))?;
    let loading = Instant::now();
    let gpu = model::open_recorded(global, args.network.checked, args.json, profiling)?;
    let model = args.network.builder(&gpu, 1, global).detector(&path)?;
    let load_s = loading.elapsed().as_secs_f64();
    log::info!("{}: {}", model.architecture().name(), model.preprocess());
    let options = args.options(interrupt.working());
    let detecting = Instant::now();
    let found = model.detect(&[Photo::Image(image.clone())], &options)?.remove(0)?;
    let detect_s = detecting.elapsed().as_secs_f64();
    // What was found is told before the file that cannot be written.
    let drawn = args.out.as_deref().map_or(Ok(()), |out| {
        draw_detections(&mut image, &found, |it| format!("{} {:.2}", model.label(it.class), it.score));
        image.write_png(out)
    });
    let out = args.out.as_ref().filter(|_| drawn.is_ok());
    if args.json {
        terminal::write_json(&Report {
            model: path,
            adapter: gpu.adapter().to_string(),
            architecture: model.architecture().name(),
            preprocessing: model.preprocess().to_string(),
            notes,
            file: photo.display().to_string(),
            width: image.width(),
            height: image.height(),
            detections: found.iter().map(|it| object(it, &model)).collect(),
            out: out.cloned(),
            load_s,
            detect_s,
            gpu_bytes: gpu.allocated_bytes(),
        })?;
        drawn?;
        return Ok(ExitCode::SUCCESS);
    }
    let lines: String = notes.iter().map(|line| format!("{line}\n")).collect();
    terminal::write(&format!("{lines}{}", describe(photo, &image, &found, &model)))?;
    if !global.quiet {
        if let Some(out) = out {
            note(&format!("boxes drawn: {}", out.display()));
        }
        let gpu_bytes = bytes(gpu.allocated_bytes());
        note(&format!("loaded in {load_s:.2} s; found in {detect_s:.2} s; {gpu_bytes} on the GPU"));
    }
    drawn?;
    Ok(ExitCode::SUCCESS)
}

fn object(found: &Detection, model: &Detector) -> Object {
    let BoundingBox { left, top, right, bottom } = found.bounds;
    let label = model.labels().map(|_| model.label(found.class));
    Object { index: found.class, label, score: found.score, left, top, right, bottom }
}

fn describe(photo: &Path, image: &Image, found: &[Detection], model: &Detector) -> String {
    let (path, width, height) = (photo.display(), image.width(), image.height());
    if found.is_empty() {
        return format!("{path} ({width}x{height}): nothing was found\n");
    }
    let header = ["score", "label", "left", "top", "right", "bottom"].map(str::to_owned).to_vec();
    let row = |it: &Detection| {
        let BoundingBox { left, top, right, bottom } = it.bounds;
        let places = [left, top, right, bottom].map(|place| format!("{place:.1}"));
        [vec![format!("{:.3}", it.score), printable(&model.label(it.class))], places.to_vec()].concat()
    };
    let rows: Vec<Vec<String>> = std::iter::once(header).chain(found.iter().map(row)).collect();
    format!("{path} ({width}x{height})\n{}", table(&rows))
}

//! `wginfer classify`: photos in, their most probable classes out.

use crate::args::{GlobalFlags, parse_count};
use crate::failure::{Failure, INTERRUPTED};
use crate::interrupt::Interrupt;
use crate::network::{self, MODEL_HELP, NetworkFlags, photo_error, report_failures};
use crate::profile::{ProfileFlags, Profiling};
use crate::terminal::{self, count_bar, note, printable};
use crate::{model, npy, terminal::bytes};
use clap::Args;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use wginfer::vision::{ClassEntry, Classification, Classifier, ClassifyOptions, Photo};
use wginfer::{CancelToken, Error};

/// The bundled model.
const DIGITS: &str = "models/pretrained/digits";
const DIGITS_NOTE: &str = "the bundled model reads handwritten digits, and knows nothing else";

/// Side of a photo above which the bundled model is hardly what is wanted.
const DIGIT_SIDE: u32 = 128;

/// Photos that are computed together where nothing else is asked for.
const DEFAULT_BATCH: usize = 8;

/// Letters of the longest bar.
const BAR: usize = 24;

const EXAMPLES: &str = "\
Examples:
  wginfer classify models/pretrained/digits/samples/digit_7.png
  wginfer classify ./mobilenet_v2 parrot.jpg
  wginfer classify ./mobilenet_v2 holiday/ --batch 16 --top 3 --json
  wginfer classify ./resnet50.safetensors cat.jpg --arch resnet --labels synset_words.txt
  wginfer classify ./my-model photo.png --resize 256 --crop 224 --logits logits.npy";

#[derive(Debug, Args)]
#[command(override_usage = "wginfer classify [OPTIONS] [MODEL] PHOTO...")]
#[command(after_help = format!(
    "{EXAMPLES}\n\n{MODEL_HELP}\nLeft out, it is the bundled model of handwritten digits."
))]
pub(crate) struct ClassifyArgs {
    /// PNG, JPEG or WebP files, or folders of such, with the model before them if it is not the
    /// bundled one
    #[arg(value_name = "MODEL PHOTO...", num_args = 0..)]
    model_and_photos: Vec<String>,
    /// How many of the most probable classes are shown
    #[arg(long, value_name = "COUNT", default_value_t = 5, value_parser = parse_count)]
    top: usize,
    /// Photos that are computed together [default: 8, or as many as there are]
    #[arg(long, value_name = "COUNT", value_parser = parse_count)]
    batch: Option<usize>,
    /// Write the outputs for all classes to a NumPy file: a row a photo, NaN where one failed
    #[arg(long, value_name = "FILE.npy")]
    logits: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    network: NetworkFlags,
    /// Write when everything ran, on the host and on the GPU, to a file of trace events for
    /// Perfetto (ui.perfetto.dev) or chrome://tracing
    #[arg(long, value_name = "TRACE.json")]
    profile: Option<PathBuf>,
    /// Print the N kernels that took longest to standard error [N left out: 10]; --top counts
    /// classes here
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = true, default_missing_value = "10", value_parser = parse_count)]
    top_kernels: Option<usize>,
    /// Print which kernel computes each operator, and why, to standard error
    #[arg(long)]
    explain: bool,
}

impl ClassifyArgs {
    pub(crate) fn profile(&self) -> ProfileFlags {
        ProfileFlags { profile: self.profile.clone(), top: self.top_kernels, explain: self.explain }
    }
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    model: String,
    adapter: String,
    architecture: &'static str,
    preprocessing: String,
    classes: usize,
    /// What the user should know of the model and the photos.
    notes: Vec<String>,
    /// The most probable classes of each photo, the best first.
    entries: Vec<Entry>,
    /// Photos that could not be used.
    failures: Vec<FailedPhoto>,
    load_s: f64,
    classify_s: f64,
    images_per_s: f64,
    gpu_bytes: u64,
}

#[derive(Serialize)]
struct Entry {
    file: String,
    index: usize,
    label: Option<String>,
    probability: f32,
    logit: f32,
}

#[derive(Serialize)]
struct FailedPhoto {
    file: String,
    error: String,
}

/// What became of the photos.
#[derive(Default)]
struct Done {
    entries: Vec<Entry>,
    notes: Vec<String>,
    /// Outputs for all classes, where they are asked for.
    logits: Option<Vec<Vec<f32>>>,
    failures: Vec<(PathBuf, String)>,
    photos: usize,
    cancelled: bool,
}

/// Runs the command.
pub(crate) fn run(
    args: &ClassifyArgs,
    global: &GlobalFlags,
    profiling: &mut Profiling,
) -> Result<ExitCode, Failure> {
    let (name, photos) = network::split_words(&args.model_and_photos)?;
    args.logits.as_deref().map_or(Ok(()), terminal::expect_folder_of)?;
    let path = network::find(name.as_deref(), DIGITS, global)?;
    let interrupt = Interrupt::install()?;
    let loading = Instant::now();
    let gpu = model::open_recorded(global, args.network.checked, args.json, profiling)?;
    let batch = args.batch.unwrap_or(DEFAULT_BATCH).min(photos.len());
    let model = args.network.builder(&gpu, batch, global).classifier(&path)?;
    let load_s = loading.elapsed().as_secs_f64();
    log::info!("{}: {}", model.architecture().name(), model.preprocess());
    let mut done = Done { logits: args.logits.is_some().then(Vec::new), ..Done::default() };
    if name.is_none() {
        done.notes.push(DIGITS_NOTE.to_owned());
    }
    if model.labels().is_none() {
        done.notes.push(format!("{path} has no labels: classes are numbered (--labels FILE names them)"));
    }
    if !args.json {
        done.notes.iter().try_for_each(|line| terminal::write(&format!("{line}\n")))?;
    }
    let classifying = Instant::now();
    classify(&model, &photos, (args, batch, global), (name.is_none(), interrupt.working()), &mut done)?;
    let classify_s = classifying.elapsed().as_secs_f64();
    let exit = match (done.cancelled, done.failures.is_empty()) {
        (true, _) => ExitCode::from(INTERRUPTED),
        (false, false) => ExitCode::FAILURE,
        (false, true) => ExitCode::SUCCESS,
    };
    // What was found is told before the file that cannot be written.
    let rows = done.logits.take().unwrap_or_default();
    let written = args.logits.as_deref().map_or(Ok(()), |file| write_logits(file, model.classes(), &rows));
    if args.json {
        terminal::write_json(&done.into_report(path, &model, load_s, classify_s))?;
        return written.map(|()| exit);
    }
    report_failures(&done.failures, photos.len());
    if !global.quiet {
        let (count, gpu_bytes) = (done.photos, bytes(gpu.allocated_bytes()));
        let (photos, speed) = (if count == 1 { "photo" } else { "photos" }, done.speed(classify_s));
        note(&format!(
            "loaded in {load_s:.2} s; {count} {photos} in {classify_s:.2} s, {speed:.1} a second; \
             {gpu_bytes} on the GPU"
        ));
    }
    written.map(|()| exit)
}

fn write_logits(file: &Path, classes: usize, rows: &[Vec<f32>]) -> Result<(), Failure> {
    let bytes = npy::rows(classes, rows);
    Ok(std::fs::write(file, bytes).map_err(|error| Error::io(file, error))?)
}

/// Classifies photos a batch at a time, and shows each batch as it is done.
fn classify(
    model: &Classifier,
    photos: &[PathBuf],
    (args, batch, global): (&ClassifyArgs, usize, &GlobalFlags),
    (is_bundled, cancel): (bool, CancelToken),
    done: &mut Done,
) -> Result<(), Failure> {
    let options = ClassifyOptions { top: args.top, cancel };
    let bar = count_bar("photos", photos.len(), global.quiet);
    for part in photos.chunks(batch) {
        let given: Vec<Photo> = part.iter().map(|path| path.as_path().into()).collect();
        let results = match model.classify(&given, &options) {
            Err(Error::Cancelled) => {
                done.cancelled = true;
                break;
            }
            results => results?,
        };
        let mut text = String::new();
        for (path, result) in part.iter().zip(results) {
            let hint = result.as_ref().ok().and_then(|found| digit_hint(path, found.photo, is_bundled));
            match result {
                Ok(found) => {
                    text += &describe(path, &found);
                    text.extend(hint.iter().map(|hint| format!("  {hint}\n")));
                    done.notes.extend(hint);
                    done.add(path, found);
                }
                Err(error) => {
                    done.failures.push((path.clone(), photo_error(path, &error)));
                    done.logits.iter_mut().for_each(|rows| rows.push(vec![f32::NAN; model.classes()]));
                }
            }
        }
        if !args.json {
            bar.suspend(|| terminal::write(&text))?;
        }
        bar.inc(part.len() as u64);
    }
    bar.finish_and_clear();
    Ok(())
}

impl Done {
    /// Photos a second.
    fn speed(&self, seconds: f64) -> f64 {
        self.photos as f64 / seconds.max(1e-9)
    }

    fn into_report(self, path: String, model: &Classifier, load_s: f64, classify_s: f64) -> Report {
        let images_per_s = self.speed(classify_s);
        let failed =
            |(file, error): (PathBuf, String)| FailedPhoto { file: file.display().to_string(), error };
        Report {
            model: path,
            adapter: model.gpu().adapter().to_string(),
            architecture: model.architecture().name(),
            preprocessing: model.preprocess().to_string(),
            classes: model.classes(),
            notes: self.notes,
            entries: self.entries,
            failures: self.failures.into_iter().map(failed).collect(),
            load_s,
            classify_s,
            images_per_s,
            gpu_bytes: model.gpu().allocated_bytes(),
        }
    }

    fn add(&mut self, path: &Path, found: Classification) {
        let entry = |entry: ClassEntry| Entry {
            file: path.display().to_string(),
            index: entry.index,
            label: entry.label,
            probability: entry.probability,
            logit: entry.logit,
        };
        self.entries.extend(found.top.into_iter().map(entry));
        if let Some(rows) = &mut self.logits {
            rows.push(found.logits);
        }
        self.photos += 1;
    }
}

/// What to do about a photo that is too large to show a single digit.
fn digit_hint(path: &Path, [height, width]: [u32; 2], is_bundled: bool) -> Option<String> {
    (is_bundled && height.max(width) > DIGIT_SIDE).then(|| {
        let path = path.display();
        format!(
            "hint: {width}x{height} pixels are much for a digit; for what photos show name a model: \
             wginfer classify MODEL {path}"
        )
    })
}

/// A photo's classes as a table with bars.
fn describe(path: &Path, found: &Classification) -> String {
    let [height, width] = found.photo;
    let mut text = format!("{} ({width}x{height})\n", path.display());
    for entry in &found.top {
        let (percent, bar) = (100.0 * entry.probability, bar(entry.probability));
        let label = entry.label.as_deref().map_or("(no label)".to_owned(), printable);
        text += &format!("  {percent:6.2} %  {bar}  {:4}  {label}\n", entry.index);
    }
    text
}

/// A bar of blocks, in eighths of a letter, padded to its full length.
fn bar(share: f32) -> String {
    let eighths = (share.clamp(0.0, 1.0) * (8 * BAR) as f32).round() as usize;
    let mut bar = "\u{2588}".repeat(eighths / 8);
    if !eighths.is_multiple_of(8) {
        // Left blocks of one to seven eighths stand in this order, the largest first.
        bar.extend(char::from_u32(0x2590 - (eighths % 8) as u32));
    }
    format!("{bar:BAR$}")
}

#[cfg(test)]
mod tests {
    #[test]
    fn bars_grow_by_eighths() {
        let table = [(1.0, "\u{2588}".repeat(24)), (0.0, String::new()), (1.0 / 192.0, "\u{258f}".into())];
        for (share, blocks) in table {
            assert_eq!(super::bar(share), format!("{blocks:24}"), "{share}");
        }
        assert_eq!(super::bar(15.0 / 192.0).trim_end(), "\u{2588}\u{2589}");
    }
}

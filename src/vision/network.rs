//! A network for images on a device: its files, its plans, and running it on photos.

use super::photo::{Photo, read_all};
use super::preprocessor::{Pixels, Preprocessor, network_input};
use super::{ImageLimits, Labels, PreprocessChanges};
use crate::checkpoint::Checkpoint;
use crate::gpu::Gpu;
use crate::graph::Graph;
use crate::json::{self, Fields};
use crate::models::preprocess::Preprocess;
use crate::models::vision::{Architecture, TensorShapes, VisionModel};
use crate::session::{PlanId, Progress, Session};
use crate::tensor::DType;
use crate::weights::{FileWeights, Weights, folder_of};
use crate::{CancelToken, Error, Result};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Name of the graph's output.
const OUTPUT: &str = "output";

/// Side of the images that a network without a size of its own is planned for when it is loaded.
const ANY_SIDE: usize = 224;

/// Plans that are kept, for numbers and sizes of photos; more start a session anew.
const KEPT_PLANS: usize = 16;

/// How the files of a network are read.
#[derive(Debug, Clone, Default)]
pub(super) struct FileSettings {
    /// The family; without it what config.json says, or the only one that the tensors fit.
    pub(super) architecture: Option<Architecture>,
    /// Changes of the model's own preprocessing.
    pub(super) changes: PreprocessChanges,
    /// A file of labels in place of the model's own.
    pub(super) labels: Option<PathBuf>,
}

/// The files of a network, checked against each other.
#[derive(Debug)]
pub(super) struct NetworkFiles {
    pub(super) folder: PathBuf,
    pub(super) weights: FileWeights,
    pub(super) model: VisionModel,
    pub(super) preprocess: Preprocess,
    pub(super) labels: Option<Labels>,
}

impl NetworkFiles {
    /// Opens a folder, or a file of weights in one.
    pub(super) fn open(path: &Path, settings: &FileSettings) -> Result<Self> {
        let weights = FileWeights::open(path)?;
        let (folder, tensors) = (folder_of(path), TensorShapes::new(path, weights.shapes()));
        let model = VisionModel::load(&folder, &tensors, settings.architecture)
            .map_err(|error| with_fitting(error, &tensors))?;
        let preprocess = Preprocess::load(&folder, &model.default_preprocess())?;
        let preprocess = settings.changes.apply(preprocess);
        preprocess.check()?;
        let labels = match &settings.labels {
            Some(path) => Some(Labels::open(path)?),
            None => match Labels::load(&folder)? {
                None => model.default_labels().map(|names| Labels::of_family(&folder, names)),
                labels => labels,
            },
        };
        if let Some(labels) = &labels {
            labels.check(model.task().classes())?;
        }
        Ok(Self { folder, weights, model, preprocess, labels })
    }

    /// Height and width of the images that it is planned for at first.
    pub(super) fn first_size(&self) -> [usize; 2] {
        self.preprocess.fixed_size().unwrap_or([ANY_SIDE; 2])
    }

    /// The network on `n` photos of this height and width.
    pub(super) fn graph(&self, checkpoint: &Checkpoint<'_>, n: usize, size: [usize; 2]) -> Result<Graph> {
        let mut graph = Graph::new();
        let pixels = network_input(&mut graph, &self.preprocess, n, size)?;
        let output = self.model.build(&mut graph, checkpoint, pixels)?;
        graph.output(OUTPUT, output);
        Ok(graph)
    }

    /// The weights as a session reads them.
    pub(super) fn checkpoint(&self, dtype: Option<DType>) -> Checkpoint<'_> {
        Checkpoint::new(&self.weights, &self.folder, dtype)
    }
}

/// Whether the weights of a folder, or of a file in one, are those of a network for images: by
/// `model_type` in config.json, or by the names of the tensors.
///
/// # Errors
/// [`Error::File`] or [`Error::Io`] for files that cannot be read.
pub fn is_network(path: &Path) -> Result<bool> {
    let config = folder_of(path).join("config.json");
    let map = json::read_object(&config)?.unwrap_or_default();
    let model_type = Fields::new(&config, &map).string("model_type")?;
    if model_type.and_then(Architecture::of_model_type).is_some() {
        return Ok(true);
    }
    Ok(!Architecture::recognise(&TensorShapes::new(path, FileWeights::open(path)?.shapes())).is_empty())
}

/// Adds to the error of tensors that do not fit a family which ones their names do fit.
fn with_fitting(error: Error, tensors: &TensorShapes) -> Error {
    match error {
        Error::File { path, message } if path == tensors.path() => {
            let names: Vec<&str> =
                Architecture::recognise(tensors).into_iter().map(Architecture::name).collect();
            let fitting = if names.is_empty() { "no known architecture".into() } else { names.join(" and ") };
            Error::File { path, message: format!("{message} (the tensors' names fit {fitting})") }
        }
        other => other,
    }
}

/// A network on a device.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) files: NetworkFiles,
    pub(super) gpu: Gpu,
    limits: ImageLimits,
    dtype: Option<DType>,
    batch: usize,
    budget: Option<u64>,
    running: Mutex<Running>,
}

/// What a run changes.
#[derive(Debug)]
struct Running {
    session: Session,
    preprocessor: Preprocessor,
    /// Plans by number, height and width of photos.
    plans: Vec<((usize, [usize; 2]), PlanId)>,
}

/// The network's output for one photo.
#[derive(Debug)]
pub(super) struct Output {
    /// The values, without the axis of photos.
    pub(super) values: Vec<f32>,
    /// Height and width of the photo.
    pub(super) photo: [u32; 2],
}

impl Network {
    /// Uploads the weights, and plans `batch` photos of the network's own size.
    pub(super) fn new(
        files: NetworkFiles,
        gpu: &Gpu,
        (limits, dtype, batch): (ImageLimits, Option<DType>, usize),
        budget: Option<u64>,
        progress: &mut Progress<'_>,
    ) -> Result<Self> {
        let _span = gpu.span("load");
        let checkpoint = files.checkpoint(dtype);
        let (n, size) = (batch.max(1), files.first_size());
        let graph = files.graph(&checkpoint, n, size)?;
        checkpoint.check([&graph], "", "")?;
        let mut session = Session::new(gpu, budget);
        let plan = session.add(vec![graph], &checkpoint, progress)?[0];
        let report = checkpoint.report();
        let folder = files.folder.display();
        if report.nan_or_inf > 0 {
            let message = format!("{} weights are NaN or infinite: the file is broken", report.nan_or_inf);
            return Err(Error::file(&files.folder, message));
        }
        if report.overflowed > 0 {
            log::warn!("{folder}: {} weights overflow in this dtype", report.overflowed);
        }
        let preprocessor = Preprocessor::new(gpu, files.preprocess.clone(), budget);
        let running = Running { session, preprocessor, plans: vec![((n, size), plan)] };
        Ok(Self { files, gpu: gpu.clone(), limits, dtype, batch: n, budget, running: Mutex::new(running) })
    }

    /// Runs the network on photos, some at a time. A photo that cannot be read or is not of a
    /// size that the network takes does not stop the others.
    ///
    /// # Errors
    /// [`Error::Cancelled`], or what the device says.
    pub(super) fn run(&self, photos: &[Photo], cancel: &CancelToken) -> Result<Vec<Result<Output>>> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let _span = self.gpu.span("photos").with("count", photos.len());
        let mut outputs = Vec::with_capacity(photos.len());
        for part in photos.chunks(self.batch) {
            let mut prepared = Vec::with_capacity(part.len());
            let span = self.gpu.span("read photos").with("count", part.len());
            let images = read_all(part, self.limits);
            drop(span);
            for image in images {
                if cancel.is_cancelled() {
                    return Err(Error::Cancelled);
                }
                let _span = self.gpu.span("preprocess");
                let pixels = image.and_then(|image| {
                    let pixels = running.preprocessor.run(&image, &|| cancel.is_cancelled())?;
                    Ok((pixels, [image.height(), image.width()]))
                });
                prepared.push(per_photo(pixels)?);
            }
            outputs.extend(self.run_part(&mut running, prepared, cancel)?);
        }
        Ok(outputs)
    }

    /// Runs photos that are ready, all of one size together.
    fn run_part(
        &self,
        running: &mut Running,
        mut prepared: Vec<Result<(Pixels, [u32; 2])>>,
        cancel: &CancelToken,
    ) -> Result<Vec<Result<Output>>> {
        let mut outputs: Vec<Option<Result<Output>>> = prepared.iter().map(|_| None).collect();
        while let Some(first) = outputs.iter().position(Option::is_none) {
            let size = |photo: &Result<(Pixels, [u32; 2])>| {
                photo.as_ref().ok().map(|(pixels, _)| [pixels.height, pixels.width])
            };
            let Some(wanted) = size(&prepared[first]) else {
                let failed = std::mem::replace(&mut prepared[first], Err(Error::Cancelled));
                outputs[first] = Some(failed.map(|(_, photo)| Output { values: Vec::new(), photo }));
                continue;
            };
            let group: Vec<usize> = (first..prepared.len())
                .filter(|&index| outputs[index].is_none() && size(&prepared[index]) == Some(wanted))
                .collect();
            let ready = group.iter().filter_map(|&index| prepared[index].as_ref().ok());
            let (bytes, photos): (Vec<&[u8]>, Vec<[u32; 2]>) =
                ready.map(|(pixels, photo)| (pixels.bytes.as_slice(), *photo)).unzip();
            match per_photo(self.run_pixels(running, wanted, &bytes, cancel))? {
                Ok(values) => {
                    for (place, (values, photo)) in group.iter().zip(values.into_iter().zip(photos)) {
                        outputs[*place] = Some(Ok(Output { values, photo }));
                    }
                }
                Err(error) => {
                    let message = error.to_string();
                    group
                        .iter()
                        .for_each(|&place| outputs[place] = Some(Err(Error::Request(message.clone()))));
                }
            }
        }
        Ok(outputs.into_iter().flatten().collect())
    }

    /// The outputs for photos of one size.
    fn run_pixels(
        &self,
        running: &mut Running,
        size: [usize; 2],
        photos: &[&[u8]],
        cancel: &CancelToken,
    ) -> Result<Vec<Vec<f32>>> {
        let key = (photos.len(), size);
        let known = running.plans.iter().find(|(known, _)| *known == key).map(|(_, plan)| *plan);
        let plan = match known {
            Some(plan) => plan,
            None => {
                if running.plans.len() == KEPT_PLANS {
                    running.plans.clear();
                    running.session = Session::new(&self.gpu, self.budget);
                }
                let checkpoint = self.files.checkpoint(self.dtype);
                let graph = self.files.graph(&checkpoint, photos.len(), size)?;
                let plan = running.session.add(vec![graph], &checkpoint, &mut |_, _| {})?[0];
                running.plans.push((key, plan));
                plan
            }
        };
        let _span = self.gpu.span("network").with("count", photos.len());
        let inputs = [("pixels", &photos.concat()[..])];
        let output = running.session.run(plan, &inputs, &[OUTPUT], &|| cancel.is_cancelled())?.remove(0);
        let values = output.to_f32();
        Ok(values.chunks(values.len() / photos.len()).map(<[f32]>::to_vec).collect())
    }
}

/// Whether a failure is one photo's (`Ok(Err)`), or that of everything (`Err`).
fn per_photo<T>(result: Result<T>) -> Result<Result<T>> {
    match result {
        Err(
            error @ (Error::File { .. }
            | Error::Io { .. }
            | Error::Request(_)
            | Error::Op { .. }
            | Error::Budget { .. }
            | Error::OutOfMemory { .. }
            | Error::Unsupported(_)),
        ) => Ok(Err(error)),
        Err(error) => Err(error),
        Ok(value) => Ok(Ok(value)),
    }
}

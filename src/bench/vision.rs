//! The speed of a network for images: one image, a batch, each layer, the memory between layers.

use super::{Measurement, RandomWeights, Report, Spread, Surroundings, timed};
use crate::checkpoint::Checkpoint;
use crate::gpu::Gpu;
use crate::graph::{Graph, ValueId};
use crate::models::vision::{MobileNetV2, Network, ResNet, SqueezeNet, TensorShapes, VisionModel};
use crate::nn::{Scope, WeightTypes};
use crate::ops::cases::Random;
use crate::profile::Dispatched;
use crate::session::{PlanId, Session, WeightRows, default_budget};
use crate::tensor::{DType, Spec};
use crate::weights::{FileWeights, Weights, folder_of};
use crate::{Error, Result};
use serde::Serialize;
use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// Images of the measured batch.
const BATCH: usize = 8;

/// Side of the images where a network takes any.
const SIDE: usize = 224;

/// A network without files, with random weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageShape {
    /// SqueezeNet 1.1: 1.2 million parameters.
    SqueezeNet1_1,
    /// MobileNet v2 of width 1: 3.5 million parameters.
    MobileNetV2,
    /// ResNet-50: 25.6 million parameters.
    ResNet50,
}

impl ImageShape {
    /// The networks that peers were measured on.
    pub const ALL: [Self; 3] = [Self::SqueezeNet1_1, Self::MobileNetV2, Self::ResNet50];

    /// Name, as it is given on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::SqueezeNet1_1 => "squeezenet1_1",
            Self::MobileNetV2 => "mobilenet_v2",
            Self::ResNet50 => "resnet50",
        }
    }

    /// The network of this name.
    ///
    /// # Errors
    /// [`Error::Request`] that lists the names.
    pub fn named(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|shape| shape.name() == name);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Error::Request(format!("expected a network out of {names}, got `{name}`"))
        })
    }

    /// The network, for 1000 classes.
    pub fn network(self) -> Box<dyn Network> {
        match self {
            Self::SqueezeNet1_1 => Box::new(SqueezeNet::squeezenet1_1(1000)),
            Self::MobileNetV2 => Box::new(MobileNetV2::width_1(1000)),
            Self::ResNet50 => Box::new(ResNet::resnet50(1000)),
        }
    }
}

/// The time of a layer on the device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerRow {
    /// Path of the layer in the network.
    pub name: String,
    /// Its kernels, in order.
    pub kernels: Vec<&'static str>,
    /// Milliseconds of all its dispatches; medians of the runs.
    pub milliseconds: f64,
    /// GFLOP/s, where multiplications and additions are what it does.
    pub gigaflops: Option<f64>,
}

/// What was measured of a network.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VisionReport {
    /// The network.
    pub model: String,
    /// Where it ran.
    pub surroundings: Surroundings,
    /// Height and width of the images.
    pub side: usize,
    /// Seconds to plan it and upload the weights, from an open device on.
    pub load_seconds: f64,
    /// Seconds from the start of the process, as the caller gave it, to the first output: with
    /// the compilation of its shaders, unless the driver has kept them.
    pub first_output_seconds: f64,
    /// Milliseconds of one image, from pixels on the host to the output there.
    pub single: Spread,
    /// Images of a batch.
    pub batch: usize,
    /// Images per second in batches.
    pub batched: Spread,
    /// Multiplications and additions of one image, in billions.
    pub gigaflop: f64,
    /// Dispatches of one image.
    pub dispatches: usize,
    /// Distinct shaders of all runs.
    pub pipelines: u64,
    /// Bytes of weights on the device.
    pub weight_bytes: u64,
    /// Bytes for values between the layers, for one image.
    pub activation_bytes: u64,
    /// Most bytes of such values that are needed at the same time.
    pub live_bytes: u64,
    /// The layers; none where the device has no timestamps.
    pub layers: Vec<LayerRow>,
}

/// A network with its weights.
struct Subject<'a> {
    name: String,
    network: &'a dyn Network,
    side: usize,
    types: &'a dyn WeightTypes,
    weights: &'a dyn WeightRows,
}

/// Measures a network with random weights in `dtype`. `started` is when the process began.
///
/// # Errors
/// [`Error::Budget`], or what the device says.
pub fn measure_image_shape(
    gpu: &Gpu,
    shape: ImageShape,
    dtype: DType,
    runs: usize,
    started: Instant,
) -> Result<VisionReport> {
    let name = format!("{} {} (random weights)", shape.name(), dtype.name());
    let network = shape.network();
    let subject =
        Subject { name, network: network.as_ref(), side: SIDE, types: &dtype, weights: &RandomWeights };
    measure(gpu, &subject, runs, started)
}

/// Measures a network with the weights of a folder or file, in `dtype` or as they are stored.
///
/// # Errors
/// Those of loading, [`Error::Budget`], or what the device says.
pub fn measure_image_model(
    gpu: &Gpu,
    path: &Path,
    dtype: Option<DType>,
    runs: usize,
    started: Instant,
) -> Result<VisionReport> {
    with_image_model(path, dtype, |subject| measure(gpu, subject, runs, started))
}

/// The graph of a shape on one image, with weights in `dtype`.
///
/// # Errors
/// When the network cannot be built.
pub fn image_shape_graph(shape: ImageShape, dtype: DType) -> Result<Graph> {
    let (name, network) = (String::new(), shape.network());
    let weights = &RandomWeights;
    Subject { name, network: network.as_ref(), side: SIDE, types: &dtype, weights }.graph(1)
}

/// The graph of the network of a folder or file on one image, with weights in `dtype` or as they
/// are stored.
///
/// # Errors
/// Those of reading the files.
pub fn image_model_graph(path: &Path, dtype: Option<DType>) -> Result<Graph> {
    with_image_model(path, dtype, |subject| subject.graph(1))
}

/// Reads the files of a network as far as it takes to plan it.
fn with_image_model<T>(
    path: &Path,
    dtype: Option<DType>,
    body: impl FnOnce(&Subject<'_>) -> Result<T>,
) -> Result<T> {
    let weights = FileWeights::open(path)?;
    let (folder, tensors) = (folder_of(path), TensorShapes::new(path, weights.shapes()));
    let model = VisionModel::load(&folder, &tensors, None)?;
    let side = model.default_preprocess().fixed_size().map_or(SIDE, |[height, _]| height);
    let checkpoint = Checkpoint::new(&weights, &folder, dtype);
    let (name, network) = (path.display().to_string(), model.network());
    body(&Subject { name, network, side, types: &checkpoint, weights: &checkpoint })
}

impl Subject<'_> {
    fn graph(&self, images: usize) -> Result<Graph> {
        let mut graph = Graph::new();
        let dims = [images, self.network.channels(), self.side, self.side];
        let pixels = graph.input("pixels", Spec::f32(dims));
        let output = self.network.build(&mut graph, &Scope::new(self.types, ""), pixels)?;
        graph.output("output", output);
        Ok(graph)
    }

    /// Random pixels of some images.
    fn pixels(&self, images: usize) -> Vec<u8> {
        let dims = [images, self.network.channels(), self.side, self.side];
        Random::new(1).f32(dims).bytes().to_vec()
    }
}

fn measure(gpu: &Gpu, subject: &Subject<'_>, runs: usize, started: Instant) -> Result<VisionReport> {
    let loading = Instant::now();
    let mut session = Session::new(gpu, default_budget(gpu));
    let graph = subject.graph(1)?;
    let operations = operations(&graph);
    let plans = session.plan(vec![graph.clone()])?;
    let planned = session.planned_memory(&plans);
    let single = session.add(vec![graph], subject.weights, &mut |_, _| {})?[0];
    let load_seconds = loading.elapsed().as_secs_f64();
    let pixels = subject.pixels(1);
    run(&mut session, single, &pixels)?;
    let first_output_seconds = started.elapsed().as_secs_f64();
    let surroundings = Surroundings::measure(gpu, runs)?;
    let seconds = repeat(runs, || run(&mut session, single, &pixels))?;
    let layers = layers(&session, single, &operations, runs)?;
    let batch = session.add(vec![subject.graph(BATCH)?], subject.weights, &mut |_, _| {})?[0];
    let pixels = subject.pixels(BATCH);
    run(&mut session, batch, &pixels)?;
    let batched: Vec<f64> =
        repeat(runs, || run(&mut session, batch, &pixels))?.iter().map(|time| BATCH as f64 / time).collect();
    Ok(VisionReport {
        model: subject.name.clone(),
        surroundings,
        side: subject.side,
        load_seconds,
        first_output_seconds,
        single: Spread::of(&seconds).scaled(1e3),
        batch: BATCH,
        batched: Spread::of(&batched),
        gigaflop: operations.values().sum::<u64>() as f64 / 1e9,
        dispatches: session.dispatches(single),
        pipelines: gpu.counts().pipelines,
        weight_bytes: planned.weights,
        activation_bytes: plans[0].slots.iter().sum(),
        live_bytes: plans[0].live_bytes,
        layers,
    })
}

fn run(session: &mut Session, plan: PlanId, pixels: &[u8]) -> Result<()> {
    session.run(plan, &[("pixels", pixels)], &["output"], &|| false).map(drop)
}

/// Seconds of each of `runs` runs, after one that is not measured.
fn repeat(runs: usize, mut body: impl FnMut() -> Result<()>) -> Result<Vec<f64>> {
    body()?;
    (0..runs).map(|_| Ok(timed(&mut body)?.1.as_secs_f64())).collect()
}

/// Multiplications and additions by the name of the node.
fn operations(graph: &Graph) -> HashMap<String, u64> {
    let mut operations = HashMap::new();
    for node in graph.nodes() {
        let specs = |ids: &[ValueId]| ids.iter().map(|&id| graph.spec(id).clone()).collect::<Vec<_>>();
        let flops = node.op.cost(&specs(&node.inputs), &specs(&node.outputs)).flops;
        if flops > 0 {
            *operations.entry(node.name.clone()).or_default() += flops;
        }
    }
    operations
}

/// The times of the layers, medians over the runs; none where the device cannot tell.
fn layers(
    session: &Session,
    plan: PlanId,
    operations: &HashMap<String, u64>,
    runs: usize,
) -> Result<Vec<LayerRow>> {
    if !session.gpu().has_timestamps() {
        return Ok(Vec::new());
    }
    let profiles: Vec<Vec<Dispatched>> = (0..runs).map(|_| session.profile(plan)).collect::<Result<_>>()?;
    let mut rows: Vec<LayerRow> = Vec::new();
    for (index, step) in profiles[0].iter().enumerate() {
        let times: Vec<f64> = profiles.iter().map(|profile| milliseconds(profile[index].duration)).collect();
        let time = Spread::of(&times).median;
        match rows.last_mut().filter(|row| row.name == step.node.name) {
            Some(row) => {
                row.kernels.push(step.kernel().kernel);
                row.milliseconds += time;
            }
            None => rows.push(LayerRow {
                name: step.node.name.clone(),
                kernels: vec![step.kernel().kernel],
                milliseconds: time,
                gigaflops: None,
            }),
        }
    }
    for row in &mut rows {
        let rate = |count: &u64| *count as f64 / row.milliseconds / 1e6;
        row.gigaflops = operations.get(&row.name).filter(|_| row.milliseconds > 0.0).map(rate);
    }
    Ok(rows)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

impl Report for VisionReport {
    const WHAT: &'static str = "vision";

    fn adapter(&self) -> &str {
        &self.surroundings.adapter
    }

    fn measurements(&self) -> Vec<Measurement> {
        let name = |what: &str| format!("{}: {what}", self.model);
        let once = |what: &str, seconds: f64| Measurement::time(name(what), "s", Spread::of(&[seconds]));
        vec![
            once("load", self.load_seconds),
            once("first output", self.first_output_seconds),
            Measurement::time(name("one image"), "ms", self.single),
            Measurement::rate(name(&format!("batches of {}", self.batch)), "images/s", self.batched),
        ]
    }
}

impl std::fmt::Display for VisionReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        let (side, gigaflop) = (self.side, self.gigaflop);
        writeln!(f, "model             {}, {side} x {side} pixels, {gigaflop:.2} GFLOP", self.model)?;
        write!(f, "{}", self.surroundings)?;
        writeln!(f, "load              {:.2} s", self.load_seconds)?;
        writeln!(f, "first output      {:.2} s from the start of the process", self.first_output_seconds)?;
        let rate = gigaflop / self.single.median * 1e3;
        writeln!(f, "one image         {} ms, {rate:.1} GFLOP/s", self.single)?;
        writeln!(f, "batches of {:<7}{} images/s", self.batch, self.batched)?;
        writeln!(f, "dispatches        {} with {} shaders", self.dispatches, self.pipelines)?;
        writeln!(f, "weights           {:.1} MB", megabytes(self.weight_bytes))?;
        let part = self.activation_bytes as f64 / self.live_bytes.max(1) as f64;
        let (taken, live) = (megabytes(self.activation_bytes), megabytes(self.live_bytes));
        writeln!(f, "activations       {taken:.2} MB, {part:.2} x the {live:.2} MB that live at once")?;
        if self.layers.is_empty() {
            return writeln!(f, "layers            this device has no timestamps");
        }
        let total: f64 = self.layers.iter().map(|row| row.milliseconds).sum();
        writeln!(f, "{:44}{:>8}{:>7}{:>9}  kernels", "layer", "ms", "part", "GFLOP/s")?;
        for row in &self.layers {
            let (time, part) = (row.milliseconds, 100.0 * row.milliseconds / total);
            let rate = row.gigaflops.map_or("-".to_owned(), |rate| format!("{rate:.1}"));
            writeln!(f, "{:44}{time:>8.3}{part:>6.1}%{rate:>9}  {}", row.name, row.kernels.join(", "))?;
        }
        writeln!(f, "{:44}{total:>8.3}", "all layers")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parameters and multiply-adds as published with the networks (torchvision's table).
    #[test]
    fn networks_have_the_sizes_of_their_names() {
        let published = [
            (ImageShape::SqueezeNet1_1, 1.235, 0.35),
            (ImageShape::MobileNetV2, 3.505, 0.30),
            (ImageShape::ResNet50, 25.557, 4.09),
        ];
        for (shape, millions, billions) in published {
            let network = shape.network();
            let subject = Subject {
                name: shape.name().to_owned(),
                network: network.as_ref(),
                side: SIDE,
                types: &DType::F32,
                weights: &RandomWeights,
            };
            let graph = subject.graph(1).unwrap();
            let parameters: usize = graph
                .values()
                .filter(|(_, value)| matches!(value.source, crate::graph::Source::Weight(_)))
                .filter(|(_, value)| !value.name.contains("running"))
                .map(|(_, value)| value.spec.elements())
                .sum();
            let name = shape.name();
            assert!((parameters as f64 / 1e6 - millions).abs() < 0.001, "{name}: {parameters}");
            let products = operations(&graph).values().sum::<u64>() as f64 / 2e9;
            assert!((products - billions).abs() < 0.01, "{name}: {products}");
        }
        assert!(ImageShape::named("alexnet").unwrap_err().to_string().contains("resnet50"));
    }
}

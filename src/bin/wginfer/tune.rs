//! `wginfer tune`: measures which kernels are fastest for a model on this adapter, and keeps that in
//! the cache folder, where all commands find it.

use crate::args::{DTypeName, GlobalFlags};
use crate::failure::{Failure, INTERRUPTED};
use crate::interrupt::Interrupt;
use crate::model;
use crate::onnx_inputs::{InputFlags, collect_or_random, parse_shape};
use crate::terminal::{self, count_bar, note, table};
use clap::Args;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use wginfer::bench::{ImageShape, ModelShape, TunedRow, tune};
use wginfer::bench::{image_model_graph, image_shape_graph, shape_graphs};
use wginfer::gpu::{Gpu, GpuOptions};
use wginfer::graph::{Graph, PlannedGraphs};
use wginfer::kernel::Tuning;
use wginfer::onnx::{OnnxModel, OnnxOptions, OnnxTensor};
use wginfer::tensor::DType;
use wginfer::text::{InfoOptions, model_graphs};
use wginfer::tuning::{read_tuning, tuning_path, write_tuning};
use wginfer::vision;

const EXAMPLES: &str = "\
Examples:
  wginfer tune
  wginfer tune ./my-model --dtype f16
  wginfer tune ./mobilenet_v2
  wginfer tune model.onnx --shape x=1x3x224x224
  wginfer tune --shape 15m --shape resnet50

What is found is kept for this adapter with its driver, in WGINFER_CACHE, else in `wginfer` in the
user's cache folder. Results do not depend on it. --no-tuning or WGINFER_TUNING=off leave it alone.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TuneArgs {
    /// Folder or file of a language model, a network for images or an ONNX model; left out, it is
    /// WGINFER_MODEL or the bundled one
    model: Option<String>,
    /// A shape without weights in place of a model: 15m, 124m, squeezenet1_1, mobilenet_v2 or
    /// resnet50; or the shape of an input of an ONNX model (may be given several times)
    #[arg(long, value_name = "NAME|INPUT=1x3x224x224")]
    shape: Vec<String>,
    /// Dtype of the weights on the GPU [default: that of the files; f32 for a shape]
    #[arg(long, value_enum)]
    dtype: Option<DTypeName>,
    /// Context of a language model: tokens of prompt and text together
    #[arg(long, value_name = "TOKENS")]
    ctx: Option<usize>,
    /// Runs of each kernel that are timed
    #[arg(long, value_name = "COUNT", default_value_t = 7, value_parser = crate::args::parse_count)]
    runs: usize,
}

/// Runs the command.
pub(crate) fn run(args: &TuneArgs, global: &GlobalFlags) -> Result<ExitCode, Failure> {
    let (inputs, shapes): (Vec<&String>, Vec<&String>) = args.shape.iter().partition(|it| it.contains('='));
    let inputs: Result<Vec<_>, String> = inputs.into_iter().map(|text| parse_shape(text)).collect();
    let inputs = InputFlags::of_shapes(inputs.map_err(Failure::Usage)?);
    if args.model.is_some() && !shapes.is_empty() {
        return Err(Failure::Usage("a model and a shape without weights are given: expected one".into()));
    }
    let interrupt = Interrupt::install()?;
    let gpu = Gpu::open(&GpuOptions { untuned: true, ..global.gpu_options(false) })?;
    let adapter = gpu.adapter().to_string();
    if !global.quiet {
        note(&format!("adapter: {adapter}"));
    }
    let Some(path) = tuning_path(&adapter) else {
        return Err(Failure::Other("there is no cache folder: set WGINFER_CACHE or HOME".into()));
    };
    let graphs = if shapes.is_empty() {
        of_model(args, &inputs, &gpu, global)?
    } else {
        let dtype = args.dtype.map_or(DType::F32, DType::from);
        let graphs: Result<Vec<_>, Failure> = shapes.into_iter().map(|name| of_shape(name, dtype)).collect();
        graphs?.concat()
    };
    let cancel = interrupt.working();
    // What cannot be used is replaced.
    let mut tuning = read_tuning(&path, &adapter).ok().flatten().unwrap_or_default();
    let (mut rows, mut failed) = (Vec::new(), None);
    let bar = count_bar("measuring", 2, global.quiet);
    tune(&gpu, graphs, args.runs, &cancel, &mut |row, done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
        row.apply(&mut tuning);
        // Kept row by row, so that nothing is lost where this ends early.
        failed = write_tuning(&path, &adapter, &tuning).err();
        rows.push(row.clone());
    })?;
    bar.finish_and_clear();
    if let Some(error) = failed {
        return Err(error.into());
    }
    terminal::write(&describe(&rows))?;
    if !global.quiet {
        say_what_is_kept(&rows, &tuning, &path);
    }
    Ok(if cancel.is_cancelled() { ExitCode::from(INTERRUPTED) } else { ExitCode::SUCCESS })
}

fn of_shape(name: &str, dtype: DType) -> Result<Vec<Graph>, Failure> {
    if let Ok(shape) = ImageShape::named(name) {
        return Ok(vec![image_shape_graph(shape, dtype)?]);
    }
    let texts = ModelShape::ALL.map(|shape| shape.name);
    let images = ImageShape::ALL.map(ImageShape::name);
    let names = || [&texts[..], &images[..]].concat().join(", ");
    let shape = ModelShape::named(name)
        .map_err(|_| Failure::Usage(format!("expected a shape out of {}, got `{name}`", names())))?;
    Ok(shape_graphs(shape, dtype)?)
}

/// The graphs of a model; those of one in the ONNX format are known only by running it.
fn of_model(
    args: &TuneArgs,
    inputs: &InputFlags,
    gpu: &Gpu,
    global: &GlobalFlags,
) -> Result<Vec<Graph>, Failure> {
    let found = model::find(args.model.as_deref(), global)?;
    let dtype = args.dtype.map(DType::from);
    if let Some(file) = model::onnx_file(&found) {
        let planned = PlannedGraphs::new();
        let model = OnnxModel::load_with(&file, gpu, &OnnxOptions::default())?;
        let inputs = collect_or_random(&model.inputs(), inputs, "")?;
        let given: Vec<(&str, OnnxTensor)> =
            inputs.iter().map(|(name, tensor)| (name.as_str(), tensor.clone())).collect();
        gpu.list_graphs(Some(&planned));
        model.run(&given)?;
        gpu.list_graphs(None);
        return Ok(planned.take());
    }
    if vision::is_network(&found)? {
        return Ok(vec![image_model_graph(&found, dtype)?]);
    }
    let folder: PathBuf = model::folder_of(found)?;
    Ok(model_graphs(&folder, InfoOptions { context: args.ctx, dtype, slots: None })?)
}

fn describe(rows: &[TunedRow]) -> String {
    let titles = ["operator", "shape", "by rule", "fastest", "us by rule", "us fastest", "ratio", ""];
    let mut cells = vec![titles.map(str::to_owned).to_vec()];
    for row in rows {
        let [default, fastest] = row.microseconds;
        let time = |time: f64| if time > 0.0 { format!("{time:.1}") } else { "-".to_owned() };
        cells.push(vec![
            row.family.to_owned(),
            row.class.clone(),
            row.default.to_owned(),
            row.fastest.to_owned(),
            time(default.median),
            time(fastest.median),
            format!("{:.2}", row.ratio),
            if row.kept { "kept".to_owned() } else { String::new() },
        ]);
    }
    let mut text = table(&cells);
    for row in rows {
        for (choice, mismatch) in &row.wrong {
            text += &format!("{} {}: {choice} is left out: {mismatch}\n", row.family, row.class);
        }
    }
    text
}

fn say_what_is_kept(rows: &[TunedRow], tuning: &Tuning, path: &Path) {
    let kept = rows.iter().filter(|row| row.kept).count();
    let (measured, all) = (rows.len(), tuning.len());
    note(&format!(
        "{measured} shapes measured; {kept} have a faster choice than the rules'; {all} are kept in {}",
        path.display()
    ));
}

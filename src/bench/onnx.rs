//! The speed of an ONNX model, from arrays on the host to arrays there.

use super::{Measurement, Report, Spread, timed};
use crate::Result;
use crate::gpu::Gpu;
use crate::onnx::{OnnxModel, OnnxTensor, difference};
use crate::tensor::Tolerance;
use serde::Serialize;
use std::time::Instant;

/// A loaded model with the arrays it is run on.
#[derive(Debug)]
pub struct OnnxSubject<'a> {
    /// Name of the model in the report.
    pub name: String,
    /// The model.
    pub model: &'a OnnxModel,
    /// Its inputs.
    pub inputs: Vec<(String, OnnxTensor)>,
    /// Outputs that it must give, by their names; others are not looked at.
    pub wanted: Vec<(String, OnnxTensor)>,
    /// How far they may be off.
    pub tolerance: Tolerance,
    /// Seconds it took to open the device and to read the file.
    pub load_seconds: f64,
}

/// What was measured of an ONNX model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OnnxSpeed {
    /// The model.
    pub model: String,
    /// Adapter with its driver's version.
    pub adapter: String,
    /// Mean number of running processes in the last minute, where the system tells.
    pub load: Option<f64>,
    /// Names, types and dimensions of the inputs.
    pub inputs: Vec<String>,
    /// Outputs that were compared with wanted ones before anything was timed.
    pub compared: usize,
    /// What is wrong with them.
    pub mismatches: Vec<String>,
    /// Seconds to open the device and to read the file.
    pub load_seconds: f64,
    /// Seconds from the start of the process, as the caller gave it, to the first result: with
    /// planning, the upload of weights, and the compilation of shaders, unless the driver has
    /// kept them.
    pub first_result_seconds: f64,
    /// Milliseconds of a run, from arrays on the host to arrays there.
    pub run: Spread,
    /// Graphs that a run submits: one, and one more for each value that it must look at.
    pub graphs: usize,
    /// Dispatches of a run.
    pub dispatches: usize,
    /// Distinct shaders.
    pub pipelines: u64,
    /// Bytes on the device.
    pub gpu_bytes: u64,
}

/// Compares a model's outputs with the wanted ones, then measures `runs` runs after the first.
/// `started` is when the process began.
///
/// # Errors
/// Those of [`OnnxModel::run`].
pub fn measure_onnx(
    gpu: &Gpu,
    subject: &OnnxSubject<'_>,
    runs: usize,
    started: Instant,
) -> Result<OnnxSpeed> {
    let model = subject.model;
    let inputs: Vec<(&str, OnnxTensor)> =
        subject.inputs.iter().map(|(name, tensor)| (name.as_str(), tensor.clone())).collect();
    let outputs = model.run(&inputs)?;
    let first_result_seconds = started.elapsed().as_secs_f64();
    let (mut compared, mut mismatches) = (0, Vec::new());
    for (name, got) in &outputs {
        let Some((_, want)) = subject.wanted.iter().find(|(wanted, _)| wanted == name) else { continue };
        compared += 1;
        let mismatch = difference(got, want, subject.tolerance);
        mismatches.extend(mismatch.map(|mismatch| format!("{name}: {mismatch}")));
    }
    let seconds: Result<Vec<f64>> =
        (0..runs).map(|_| Ok(timed(|| model.run(&inputs))?.1.as_secs_f64())).collect();
    Ok(OnnxSpeed {
        model: subject.name.clone(),
        adapter: gpu.adapter().to_string(),
        load: super::system_load(),
        inputs: subject.inputs.iter().map(|(name, tensor)| format!("{name} {tensor}")).collect(),
        compared,
        mismatches,
        load_seconds: subject.load_seconds,
        first_result_seconds,
        run: Spread::of(&seconds?).scaled(1e3),
        graphs: model.graphs(),
        dispatches: model.dispatches(),
        pipelines: gpu.counts().pipelines,
        gpu_bytes: gpu.allocated_bytes(),
    })
}

impl Report for OnnxSpeed {
    const WHAT: &'static str = "onnx";

    fn adapter(&self) -> &str {
        &self.adapter
    }

    fn measurements(&self) -> Vec<Measurement> {
        let first = Spread::of(&[self.first_result_seconds]);
        vec![
            Measurement::time(format!("{}: run", self.model), "ms", self.run),
            Measurement::time(format!("{}: first result", self.model), "s", first),
        ]
    }
}

impl std::fmt::Display for OnnxSpeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "model             {}", self.model)?;
        for input in &self.inputs {
            writeln!(f, "input             {input}")?;
        }
        writeln!(f, "adapter           {}", self.adapter)?;
        if let Some(load) = self.load {
            writeln!(f, "load              {load:.1}")?;
        }
        let wrong = self.mismatches.len();
        writeln!(f, "outputs           {} compared, {wrong} wrong", self.compared)?;
        for mismatch in &self.mismatches {
            writeln!(f, "wrong             {mismatch}")?;
        }
        writeln!(f, "device and file   {:.2} s", self.load_seconds)?;
        writeln!(f, "first result      {:.2} s from the start of the process", self.first_result_seconds)?;
        writeln!(f, "run               {} ms", self.run)?;
        let (graphs, dispatches, pipelines) = (self.graphs, self.dispatches, self.pipelines);
        writeln!(f, "dispatches        {dispatches} of {pipelines} shaders, in {graphs} graphs")?;
        writeln!(f, "on the device     {:.1} MB", self.gpu_bytes as f64 / 1e6)
    }
}

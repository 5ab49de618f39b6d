//! burn on its wgpu back end: prints one JSON line.
//!
//! usage: `peer-burn gemm M K N RUNS`
//!        `peer-burn network FOLDER RUNS TOLERANCE`
//!
//! FOLDER is one that networks.py wrote.

use burn::tensor::activation::relu;
use burn::tensor::module::{adaptive_avg_pool2d, conv2d, max_pool2d};
use burn::tensor::ops::{ConvOptions, MaxPoolOptions};
use burn::tensor::{Device, DeviceKind, Distribution, Tensor, TensorData};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::error::Error;
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

const ABOUT: &str = "burn 0.22.1 (wgpu, WGSL, fusion, autotune)";

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let report = run(&arguments).unwrap_or_else(|error| json!({ "error": error.to_string() }));
    println!("{report}");
}

fn run(arguments: &[String]) -> Result<Value> {
    let device = Device::wgpu(DeviceKind::DefaultDevice);
    match arguments {
        [what, m, k, n, runs] if what == "gemm" => {
            gemm(&device, [m.parse()?, k.parse()?, n.parse()?], runs.parse()?)
        }
        [what, folder, runs, tolerance] if what == "network" => {
            network(&device, Path::new(folder), runs.parse()?, tolerance.parse()?)
        }
        _ => Err("expected gemm M K N RUNS or network FOLDER RUNS TOLERANCE".into()),
    }
}

/// Milliseconds since `start`.
fn milliseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

/// Seconds since the caller started this process.
fn since_start() -> Result<f64> {
    let started: f64 = std::env::var("PEER_STARTED")?.parse()?;
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64() - started)
}

fn floats<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    tensor.into_data().try_to_vec().map_err(|error| format!("{error:?}").into())
}

fn sync(device: &Device) -> Result<()> {
    device.sync().map_err(|error| format!("{error:?}").into())
}

fn gemm(device: &Device, [m, k, n]: [usize; 3], runs: usize) -> Result<Value> {
    let a = Tensor::<2>::random([m, k], Distribution::Default, device);
    let b = Tensor::<2>::random([k, n], Distribution::Default, device);
    let (left, right, product) =
        (floats(a.clone())?, floats(b.clone())?, floats(a.clone().matmul(b.clone()))?);
    let first_s = since_start()?;
    let want: f64 =
        (0..k).map(|index| f64::from(left[(m - 1) * k + index]) * f64::from(right[index * n + n - 1])).sum();
    let got = f64::from(product[m * n - 1]);
    let mismatch =
        ((got - want).abs() > 1e-3 * (1.0 + want.abs())).then(|| format!("{got}, expected {want}"));
    let mut ms = Vec::with_capacity(runs);
    for run in 0..=runs {
        let start = Instant::now();
        let product = a.clone().matmul(b.clone());
        sync(device)?;
        // The first of these only warms up.
        if run > 0 {
            ms.push(milliseconds(start));
        }
        drop(product);
    }
    Ok(json!({ "about": ABOUT, "first_s": first_s, "ms": ms, "mismatch": mismatch }))
}

#[derive(Deserialize)]
struct Network {
    layers: Vec<Layer>,
    arrays: HashMap<String, Place>,
}

#[derive(Deserialize)]
struct Place {
    at: usize,
    dims: Vec<usize>,
}

#[derive(Deserialize)]
struct Layer {
    op: String,
    inputs: Vec<String>,
    output: String,
    #[serde(default)]
    kernel: usize,
    #[serde(default)]
    stride: usize,
    #[serde(default)]
    pad: usize,
    #[serde(default)]
    groups: usize,
}

/// A layer with its weights on the device.
struct Loaded {
    layer: Layer,
    weight: Option<Tensor<4>>,
    bias: Option<Tensor<1>>,
}

impl Loaded {
    fn apply(&self, inputs: Vec<Tensor<4>>) -> Result<Tensor<4>> {
        let Layer { kernel, stride, pad, groups, .. } = self.layer;
        let first = inputs.first().ok_or("a layer has no input")?.clone();
        let convolved = |groups, [stride, pad]: [usize; 2]| {
            let weight = self.weight.clone().ok_or("a convolution has no weight")?;
            let options = ConvOptions::new([stride; 2], [pad; 2], [1; 2], groups);
            Ok::<_, Box<dyn Error>>(conv2d(first.clone(), weight, self.bias.clone(), options))
        };
        Ok(match self.layer.op.as_str() {
            "conv" => convolved(groups, [stride, pad])?,
            // On one pixel, a convolution.
            "linear" => convolved(1, [1, 0])?,
            "relu" => relu(first),
            "relu6" => first.clamp(0.0, 6.0),
            "add" => inputs[1].clone() + first,
            "concat" => Tensor::cat(inputs, 1),
            "mean" => adaptive_avg_pool2d(first, [1, 1]),
            "max_pool" => max_pool2d(
                first,
                MaxPoolOptions {
                    kernel_size: [kernel; 2],
                    stride: [stride; 2],
                    padding: [(pad, pad); 2],
                    dilation: [1; 2],
                    ceil_mode: false,
                },
            ),
            other => return Err(format!("unknown layer {other}").into()),
        })
    }
}

fn network(device: &Device, folder: &Path, runs: usize, tolerance: f32) -> Result<Value> {
    let Network { layers, arrays } = serde_json::from_slice(&std::fs::read(folder.join("layers.json"))?)?;
    let bytes = std::fs::read(folder.join("values.bin"))?;
    let values: Vec<f32> =
        bytes.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect();
    let array = |name: &str| {
        let place = arrays.get(name)?;
        Some((values[place.at..][..place.dims.iter().product()].to_vec(), place.dims.clone()))
    };
    let image = |name: &str| {
        array(name).map(|(values, mut dims)| {
            dims.resize(4, 1);
            Tensor::<4>::from_data(TensorData::new(values, dims), device)
        })
    };
    let layers: Vec<Loaded> = layers
        .into_iter()
        .map(|layer| Loaded {
            weight: image(&format!("{}.weight", layer.output)),
            bias: array(&format!("{}.bias", layer.output))
                .map(|(values, dims)| Tensor::from_data(TensorData::new(values, dims), device)),
            layer,
        })
        .collect();
    let input = image("image").ok_or("there is no image")?;
    let forward = || -> Result<Vec<f32>> {
        let mut found = HashMap::from([("image", input.clone())]);
        let mut last = input.clone();
        for loaded in &layers {
            let inputs = loaded.layer.inputs.iter().map(|name| found.get(name.as_str()).cloned());
            last = loaded.apply(inputs.collect::<Option<_>>().ok_or("an input is not there yet")?)?;
            found.insert(&loaded.layer.output, last.clone());
        }
        floats(last)
    };
    let got = forward()?;
    let first_s = since_start()?;
    let (want, _) = array("output").ok_or("there is no output")?;
    let wrong = |(got, want): (&f32, &f32)| !((got - want).abs() <= tolerance + tolerance * want.abs());
    let mismatch = got.iter().zip(&want).any(wrong).then_some("the output differs");
    let mut ms = Vec::with_capacity(runs);
    for _ in 0..runs {
        let start = Instant::now();
        forward()?;
        ms.push(milliseconds(start));
    }
    Ok(json!({ "about": ABOUT, "first_s": first_s, "ms": ms, "mismatch": mismatch }))
}

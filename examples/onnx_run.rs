//! Runs an ONNX model on inputs of ones and shows its outputs.
//!
//! `cargo run --release --example onnx_run -- model.onnx 224`
//!
//! The number is the size of dimensions that the file leaves open.

use std::time::Instant;
use wginfer::onnx::{DeclaredDim, ElementType, OnnxModel, OnnxTensor, OnnxValueInfo};
use wginfer::tensor::Tensor;
use wginfer::{Error, Result};

/// A tensor of ones of the type and shape that an input declares.
fn ones(input: &OnnxValueInfo, open: usize) -> Result<OnnxTensor> {
    let missing = || Error::Request(format!("input `{}` has no declared shape", input.name));
    let size = |dim: &DeclaredDim| match dim {
        DeclaredDim::Size(size) => *size,
        DeclaredDim::Named(_) | DeclaredDim::Any => open,
    };
    let dims: Vec<usize> = input.dims.as_ref().ok_or_else(missing)?.iter().map(size).collect();
    let count = dims.iter().product();
    OnnxTensor::new(input.element.unwrap_or(ElementType::Float), &Tensor::from_f32(dims, &vec![1.0; count]))
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or_else(|| Error::Request("expected MODEL.onnx [SIZE]".into()))?;
    let open = arguments.next().and_then(|size| size.parse().ok()).unwrap_or(1);

    let model = OnnxModel::load(&path)?;
    let declared = model.inputs();
    let mut inputs = Vec::new();
    for input in &declared {
        let tensor = ones(input, open)?;
        println!("input  {} {tensor}", input.name);
        inputs.push((input.name.as_str(), tensor));
    }
    // The first run with these shapes plans and uploads, later ones only compute.
    for run in ["first", "second"] {
        let started = Instant::now();
        let outputs = model.run(&inputs)?;
        eprintln!("{run} run: {:.1} ms", 1e3 * started.elapsed().as_secs_f64());
        for (name, tensor) in outputs.iter().filter(|_| run == "second") {
            let values = tensor.to_f32();
            println!("output {name} {tensor}: {:?} ...", &values[..values.len().min(4)]);
        }
    }
    Ok(())
}

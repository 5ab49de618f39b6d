//! candle on the CPU: prints one JSON line.
//!
//! usage: `peer-candle gemm M K N RUNS`
//!        `peer-candle decoder MODEL.gguf PROMPT STEPS RUNS`

use candle_core::quantized::gguf_file::Content;
use candle_core::{DType, Device, Tensor};
use candle_transformers::models::quantized_llama::ModelWeights;
use serde_json::{Value, json};
use std::error::Error;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

const ABOUT: &str = "candle 0.11.1";

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let report = run(&arguments).unwrap_or_else(|error| json!({ "error": error.to_string() }));
    println!("{report}");
}

fn run(arguments: &[String]) -> Result<Value> {
    let numbers = |texts: &[String]| {
        texts.iter().map(|text| text.parse()).collect::<std::result::Result<Vec<usize>, _>>()
    };
    match arguments {
        [what, sizes @ ..] if what == "gemm" => match numbers(sizes)?[..] {
            [m, k, n, runs] => gemm([m, k, n], runs),
            _ => Err("expected M K N RUNS".into()),
        },
        [what, model, sizes @ ..] if what == "decoder" => match numbers(sizes)?[..] {
            [prompt, steps, runs] => decoder(model, prompt, steps, runs),
            _ => Err("expected MODEL PROMPT STEPS RUNS".into()),
        },
        _ => Err("expected gemm or decoder".into()),
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

fn gemm([m, k, n]: [usize; 3], runs: usize) -> Result<Value> {
    let a = Tensor::randn(0f32, 1.0, (m, k), &Device::Cpu)?;
    let b = Tensor::randn(0f32, 1.0, (k, n), &Device::Cpu)?;
    let product = a.matmul(&b)?;
    let (row, column) =
        (a.get(m - 1)?.to_vec1::<f32>()?, b.narrow(1, n - 1, 1)?.flatten_all()?.to_vec1::<f32>()?);
    let want: f64 = row.iter().zip(&column).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum();
    let got = f64::from(product.get(m - 1)?.get(n - 1)?.to_scalar::<f32>()?);
    let wrong = (got - want).abs() > 1e-3 * (1.0 + want.abs());
    let mut ms = Vec::with_capacity(runs);
    for _ in 0..runs {
        let start = Instant::now();
        let _product = a.matmul(&b)?;
        ms.push(milliseconds(start));
    }
    Ok(json!({ "about": ABOUT, "ms": ms, "mismatch": wrong.then(|| format!("{got}, expected {want}")) }))
}

fn decoder(file: &str, prompt: usize, steps: usize, runs: usize) -> Result<Value> {
    let mut reader = std::fs::File::open(file)?;
    let content = Content::read(&mut reader)?;
    let vocab =
        content.metadata.get("llama.vocab_size").ok_or("the file has no llama.vocab_size")?.to_u32()?;
    let mut model = ModelWeights::from_gguf(content, &mut reader, &Device::Cpu)?;
    let ids: Vec<u32> = (0..prompt as u32).map(|index| index * 7919 % vocab).collect();
    let mut next = |ids: &[u32], position: usize| -> Result<u32> {
        let logits = model.forward(&Tensor::new(ids, &Device::Cpu)?.unsqueeze(0)?, position)?;
        Ok(logits.squeeze(0)?.to_dtype(DType::F32)?.argmax(0)?.to_scalar()?)
    };
    let mut tokens = vec![next(&ids, 0)?];
    let first_s = since_start()?;
    let (mut prompts, mut decodes) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let start = Instant::now();
        tokens = vec![next(&ids, 0)?];
        prompts.push(milliseconds(start));
        let (start, mut token) = (Instant::now(), 1);
        for step in 0..steps {
            token = next(&[token], prompt + step)?;
            tokens.push(token);
        }
        decodes.push(milliseconds(start) / steps as f64);
    }
    Ok(
        json!({ "about": ABOUT, "first_s": first_s, "ms": { "prompt": prompts, "decode": decodes }, "tokens": tokens }),
    )
}

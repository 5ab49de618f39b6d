//! Generates text with a model folder or a repository in the local hub cache.
//!
//! `cargo run --release --example text_generation -- models/pretrained/fairy-tales "Once upon a time"`

use std::io::Write;
use wginfer::text::{GenerateOptions, SamplingSettings, TextModel};

fn main() -> wginfer::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().unwrap_or_else(|| "models/pretrained/fairy-tales".into());
    let prompt = arguments.next().unwrap_or_else(|| "Once upon a time".into());

    let model = TextModel::builder().load(&model)?;
    eprintln!("{} ({} MB)", model.gpu().adapter(), model.gpu().allocated_bytes() / 1_000_000);

    let sampling = SamplingSettings { seed: 7, ..model.default_sampling() };
    let options = GenerateOptions { sampling, max_tokens: 100, ..model.default_options() };
    print!("{prompt}");
    let mut text = model.generate(prompt, &options)?;
    for piece in &mut text {
        print!("{}", piece?.text);
        std::io::stdout().flush().map_err(|error| wginfer::Error::io("standard output", error))?;
    }
    let done = text.into_generation();
    println!();
    eprintln!(
        "{:?}: prompt {:.0} tokens/s, decode {:.1} tokens/s",
        done.finish_reason,
        done.timing.prompt_speed(),
        done.timing.decode_speed()
    );
    Ok(())
}

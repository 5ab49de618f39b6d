//! Says what photos show, with a classifier's folder or a repository in the local hub cache.
//!
//! `cargo run --release --example image_classification -- models/pretrained/digits models/pretrained/digits/samples/digit_7.png`

use std::time::Instant;
use wginfer::vision::{Classifier, ClassifyOptions, Photo};

fn main() -> wginfer::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().unwrap_or_else(|| "models/pretrained/digits".into());
    let mut photos: Vec<String> = arguments.collect();
    if photos.is_empty() {
        photos.push("models/pretrained/digits/samples/digit_7.png".into());
    }

    let model = Classifier::builder().batch(photos.len().min(8)).classifier(&model)?;
    eprintln!("{}: {} on {}", model.architecture().name(), model.preprocess(), model.gpu().adapter());

    let started = Instant::now();
    let files: Vec<Photo> = photos.iter().map(|path| path.as_str().into()).collect();
    let results = model.classify(&files, &ClassifyOptions { top: 3, ..ClassifyOptions::default() })?;
    let seconds = started.elapsed().as_secs_f64();
    for (path, result) in photos.iter().zip(results) {
        // A photo that cannot be read does not stop the others.
        let found = match result {
            Ok(found) => found,
            Err(error) => {
                println!("{error}");
                continue;
            }
        };
        println!("{path}");
        for entry in found.top {
            let label = entry.label.unwrap_or_else(|| format!("class {}", entry.index));
            println!("  {:6.2} %  {label}", 100.0 * entry.probability);
        }
    }
    eprintln!("{:.1} photos a second", files.len() as f64 / seconds);
    Ok(())
}

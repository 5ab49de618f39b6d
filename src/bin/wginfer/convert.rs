//! `wginfer convert`: an ONNX model as graphs and weights that load without importing it.

use crate::args::GlobalFlags;
use crate::failure::Failure;
use crate::onnx_inputs::parse_shape;
use crate::terminal::{self, bytes, note, printable};
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;
use wginfer::onnx::{Conversion, InputShapes, OnnxLimits, convert};

const EXAMPLES: &str = "\
OUT.safetensors gets the weights, OUT.graph.json beside it one graph for each set of input shapes.
A --shape of an input that has one already begins the next set. Inputs without --shape have the sizes
that the file declares, or those of dimensions of the same name.

Examples:
  wginfer convert model.onnx out.safetensors --shape x=1x3x224x224
  wginfer convert model.onnx out.safetensors --shape ids=1x16 --shape ids=1x64
  wginfer run out.safetensors --input x=x.npy --output results";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ConvertArgs {
    /// The .onnx file
    #[arg(value_name = "MODEL.onnx")]
    model: PathBuf,
    /// The file of weights that is written; that of graphs lies beside it
    #[arg(value_name = "OUT.safetensors")]
    to: PathBuf,
    /// Shape of an input (may be given several times) [default: as the file declares it]
    #[arg(long, value_name = "NAME=1x3x224x224", value_parser = parse_shape)]
    shape: Vec<(String, Vec<usize>)>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(args: &ConvertArgs, global: &GlobalFlags) -> Result<ExitCode, Failure> {
    terminal::expect_folder(&args.to)?;
    let started = Instant::now();
    let done = convert(&args.model, &args.to, &sets(&args.shape), OnnxLimits::default())?;
    if args.json {
        terminal::write_json(&done)?;
    } else {
        terminal::write(&describe(&done))?;
    }
    if !global.quiet {
        note(&format!("converted in {:.2} s", started.elapsed().as_secs_f64()));
    }
    Ok(ExitCode::SUCCESS)
}

/// Shapes by graph: the name of an input that comes again begins the next one.
fn sets(shapes: &[(String, Vec<usize>)]) -> Vec<InputShapes> {
    let mut sets: Vec<InputShapes> = Vec::new();
    for (name, dims) in shapes {
        match sets.last_mut().filter(|set| !set.contains_key(name)) {
            Some(set) => drop(set.insert(name.clone(), dims.clone())),
            None => sets.push(InputShapes::from([(name.clone(), dims.clone())])),
        }
    }
    sets
}

fn describe(done: &Conversion) -> String {
    let size = bytes(done.tensor_bytes);
    let mut text = format!("{}: {} tensors, {size}\n", done.tensors.display(), done.tensor_count);
    text += &format!("{}: {} graphs\n", done.graph.display(), done.graphs.len());
    for (number, inputs) in done.graphs.iter().enumerate() {
        let inputs: Vec<String> = inputs.iter().map(ToString::to_string).collect();
        text += &printable(&format!("graph {number}: {}", inputs.join(", ")));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_comes_again_begins_the_next_set() {
        let shape = |name: &str, size: usize| (name.to_owned(), vec![size]);
        let got = sets(&[shape("a", 1), shape("b", 2), shape("b", 3), shape("a", 4), shape("a", 5)]);
        let want =
            [vec![shape("a", 1), shape("b", 2)], vec![shape("b", 3), shape("a", 4)], vec![shape("a", 5)]];
        assert_eq!(got, want.map(|set| set.into_iter().collect::<InputShapes>()));
        assert!(sets(&[]).is_empty());
    }
}

//! Backend cases as the standard's tests are stored: folders with a model, inputs and the outputs
//! that are wanted (<https://github.com/onnx/onnx/blob/main/onnx/backend/test/README.md>).

use super::element::OnnxTensor;
use super::file::read_tensor;
use super::model::{OnnxModel, OnnxOptions};
use super::proto;
use crate::gpu::Gpu;
use crate::kernel::Form;
use crate::tensor::Tolerance;
use crate::{Error, Result};
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The tolerance of cases that do not say theirs, as in the standard's own runner.
const TOLERANCE: Tolerance = Tolerance::new(1e-7, 1e-3);

/// Most folders between the one that is named and a case.
const DEEPEST: usize = 8;

/// Operators in a row of a Markdown table.
const TABLE_COLUMNS: usize = 3;

/// A case.
#[derive(Debug, Clone, PartialEq)]
pub struct ConformanceCase {
    /// Name of its folder.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// The operator that it is about; several with `+` between them.
    pub operator: String,
    /// How far outputs may lie from those that are wanted.
    pub tolerance: Tolerance,
}

/// What became of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// All outputs are within the tolerance, also when the plan is used again.
    Passed,
    /// The reason.
    Failed(String),
    /// The operator, element type or form of it that this version does not do.
    Unsupported(String),
}

impl ConformanceCase {
    /// The cases of a folder: itself, or folders in it. A file `index.json` with an array of
    /// `{"name", "ops", "atol", "rtol"}` gives order, operators and tolerances.
    ///
    /// # Errors
    /// [`Error::File`] or [`Error::Io`] when the folder cannot be read or has no case.
    pub fn find(folder: &Path) -> Result<Vec<Self>> {
        let index = folder.join("index.json");
        let cases = if index.is_file() { indexed(folder, &index)? } else { found(folder)? };
        if cases.is_empty() {
            return Err(Error::file(folder, "has no cases: folders with model.onnx and input_0.pb"));
        }
        Ok(cases)
    }

    /// Runs all its data sets, each twice: the second run repeats the plan of the first.
    pub fn run(&self, gpu: &Gpu, options: &OnnxOptions) -> Outcome {
        match self.mismatch(gpu, options) {
            Ok(None) => Outcome::Passed,
            Ok(Some(message)) => Outcome::Failed(message),
            Err(Error::Unsupported(message)) => Outcome::Unsupported(message),
            Err(error) => Outcome::Failed(error.to_string()),
        }
    }

    fn mismatch(&self, gpu: &Gpu, options: &OnnxOptions) -> Result<Option<String>> {
        let model = OnnxModel::load_with(self.folder.join("model.onnx"), gpu, options)?;
        let inputs = model.inputs();
        for folder in data_sets(&self.folder) {
            let given = tensors(&folder, "input")?;
            let wanted = tensors(&folder, "output")?;
            let names = inputs.iter().map(|input| input.name.as_str());
            let given: Vec<(&str, OnnxTensor)> = names.zip(given).collect();
            for run in ["first", "second"] {
                let outputs = model.run(&given)?;
                if outputs.len() != wanted.len() {
                    let message = format!("has {} outputs, {} are wanted", outputs.len(), wanted.len());
                    return Ok(Some(message));
                }
                for ((name, got), want) in outputs.iter().zip(&wanted) {
                    if let Some(difference) = difference(got, want, self.tolerance) {
                        return Ok(Some(format!("{run} run, output `{name}`: {difference}")));
                    }
                }
            }
        }
        Ok(None)
    }
}

/// In what two tensors differ, if they do by more than the tolerance.
pub fn difference(got: &OnnxTensor, want: &OnnxTensor, tolerance: Tolerance) -> Option<String> {
    if got.element() != want.element() {
        return Some(format!("got {got}, want {want}"));
    }
    let mismatch = tolerance.mismatch(got.tensor(), want.tensor())?;
    Some(format!("{}: {mismatch}", got.element()))
}

/// The cases that an index lists.
fn indexed(folder: &Path, index: &Path) -> Result<Vec<ConformanceCase>> {
    let text = std::fs::read_to_string(index).map_err(|error| Error::io(index, error))?;
    let entries: Vec<serde_json::Value> = serde_json::from_str(&text)
        .map_err(|error| Error::file(index, format!("is no array of cases: {error}")))?;
    let case = |entry: &serde_json::Value| {
        let name = entry["name"].as_str().ok_or_else(|| Error::file(index, "a case has no name"))?;
        let folder = folder.join(name);
        let operator = entry["ops"].as_str().map_or_else(|| operators(&folder), str::to_owned);
        let tolerance = Tolerance::new(
            entry["atol"].as_f64().unwrap_or(TOLERANCE.abs),
            entry["rtol"].as_f64().unwrap_or(TOLERANCE.rel),
        );
        Ok(ConformanceCase { name: name.to_owned(), folder, operator, tolerance })
    };
    entries.iter().map(case).collect()
}

/// The cases below a folder, by name.
fn found(root: &Path) -> Result<Vec<ConformanceCase>> {
    let mut cases = Vec::new();
    let mut waiting = vec![(root.to_owned(), 0)];
    while let Some((folder, depth)) = waiting.pop() {
        if folder.join("model.onnx").is_file() {
            let name = folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy().into_owned();
            let operator = operators(&folder);
            cases.push(ConformanceCase { name, folder, operator, tolerance: TOLERANCE });
            continue;
        }
        let entries = std::fs::read_dir(&folder).map_err(|error| Error::io(&folder, error))?;
        let folders = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir());
        if depth < DEEPEST {
            waiting.extend(folders.map(|path| (path, depth + 1)));
        }
    }
    cases.sort_by(|a, b| a.folder.cmp(&b.folder));
    Ok(cases)
}

/// The operators of a case's model, also where this version cannot run it.
fn operators(folder: &Path) -> String {
    let bytes = std::fs::read(folder.join("model.onnx")).unwrap_or_default();
    let graph = proto::Model::decode(bytes.as_slice()).ok().and_then(|model| model.graph);
    let nodes = graph.map(|graph| graph.node).unwrap_or_default();
    let names: BTreeSet<&str> = nodes.iter().map(|node| node.op_type.as_str()).collect();
    match names.len() {
        0 => "(unreadable)".to_owned(),
        1..=3 => names.into_iter().collect::<Vec<_>>().join("+"),
        _ => "(whole models)".to_owned(),
    }
}

/// The folders with a case's inputs and outputs.
fn data_sets(folder: &Path) -> Vec<PathBuf> {
    let set = |index: usize| Some(folder.join(format!("test_data_set_{index}"))).filter(|set| set.is_dir());
    let sets: Vec<PathBuf> = (0..).map_while(set).collect();
    if sets.is_empty() { vec![folder.to_owned()] } else { sets }
}

/// The tensors `PREFIX_0.pb`, `PREFIX_1.pb` and so on.
fn tensors(folder: &Path, prefix: &str) -> Result<Vec<OnnxTensor>> {
    let path = |index: usize| folder.join(format!("{prefix}_{index}.pb"));
    let read = |index: usize| Some((path(index), std::fs::read(path(index)).ok()?));
    let tensors = (0..).map_while(read).map(|(path, bytes)| Ok(read_tensor(&path, bytes)?.1));
    tensors.collect()
}

/// How many cases of an operator came out how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Score {
    /// Cases that passed.
    pub passed: usize,
    /// Cases that did not.
    pub failed: usize,
    /// Cases of what this version does not do.
    pub unsupported: usize,
}

impl Score {
    /// All cases.
    pub fn total(&self) -> usize {
        self.passed + self.failed + self.unsupported
    }

    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.unsupported += other.unsupported;
    }
}

/// The score of each operator.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scores(BTreeMap<String, Score>);

impl Scores {
    /// Counts a case.
    pub fn count(&mut self, case: &ConformanceCase, outcome: &Outcome) {
        let one = match outcome {
            Outcome::Passed => Score { passed: 1, ..Score::default() },
            Outcome::Failed(_) => Score { failed: 1, ..Score::default() },
            Outcome::Unsupported(_) => Score { unsupported: 1, ..Score::default() },
        };
        self.0.entry(case.operator.clone()).or_default().add(one);
    }

    /// Operators in the order of their names.
    pub fn operators(&self) -> impl Iterator<Item = (&str, Score)> {
        self.0.iter().map(|(operator, score)| (operator.as_str(), *score))
    }

    /// All operators together.
    pub fn sum(&self) -> Score {
        let mut sum = Score::default();
        self.0.values().for_each(|score| sum.add(*score));
        sum
    }
}

/// A table in Markdown, several operators a row: the number of cases, and how many of them pass in
/// each form of kernels that was run.
pub fn score_table(forms: &[(Form, Scores)]) -> String {
    let Some((_, first)) = forms.first() else { return String::new() };
    let names: Vec<&str> = forms.iter().map(|(form, _)| form.name()).collect();
    let header = format!("| operator | cases | {} ", names.join(" | ")).repeat(TABLE_COLUMNS);
    let line = "|---".repeat((names.len() + 2) * TABLE_COLUMNS);
    let mut text = format!("{header}|\n{line}|\n");
    let passed = |scores: &Scores, operator: &str| scores.0.get(operator).map_or(0, |score| score.passed);
    let cell = |(operator, score): (&str, Score)| {
        let forms = forms.iter().map(|(_, scores)| format!("| {} ", passed(scores, operator)));
        format!("| {operator} | {} {}", score.total(), forms.collect::<String>())
    };
    let cells: Vec<String> = first.operators().map(cell).collect();
    for row in cells.chunks(TABLE_COLUMNS) {
        let empty = "| ".repeat((names.len() + 2) * (TABLE_COLUMNS - row.len()));
        text += &format!("{}{empty}|\n", row.concat());
    }
    let (operators, total) = (first.0.len(), first.sum().total());
    let sums = forms.iter().map(|(form, scores)| format!("{} {}", form.name(), scores.sum().passed));
    let sums: Vec<String> = sums.collect();
    text + &format!("\nOf {total} cases of {operators} operators pass: {}.\n", sums.join(", "))
}

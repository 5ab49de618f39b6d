//! `wginfer conformance`: how many backend cases of ONNX operators pass on this adapter.

use crate::args::{FormName, GlobalFlags};
use crate::failure::{Failure, INTERRUPTED};
use crate::interrupt::Interrupt;
use crate::model;
use crate::terminal::{self, count_bar, printable};
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;
use wginfer::doctor::caps_with_form;
use wginfer::gpu::Gpu;
use wginfer::kernel::Form;
use wginfer::onnx::{ConformanceCase, OnnxOptions, Outcome, Scores, score_table};

const EXAMPLES: &str = "\
DIR holds folders with model.onnx and input_N.pb, output_N.pb (also in test_data_set_N/), as the
ONNX project's backend tests are stored. An index.json in it may give order and tolerances:
[{\"name\": \"test_abs\", \"ops\": \"Abs\", \"atol\": 1e-7, \"rtol\": 1e-3}, ...].

The exit code is 1 if a case failed; cases of what this version does not do are counted apart.

Examples:
  wginfer conformance onnx/backend/test/data/node --only Conv
  wginfer conformance ./cases --form plain --json";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ConformanceArgs {
    /// Folder of cases, or of one case
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Run only the cases of this operator, or whose name contains this
    #[arg(long, value_name = "OP")]
    only: Option<String>,
    /// Form of kernels [default: the adapter's own]
    #[arg(long, value_enum)]
    form: Option<FormName>,
    /// Run shaders with all run-time checks on (slower)
    #[arg(long)]
    checked: bool,
    /// Print one JSON object
    #[arg(long, conflicts_with = "table")]
    json: bool,
    /// Print a table of operators in Markdown, in every form of kernels unless one is named, and
    /// nothing else
    #[arg(long)]
    table: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    adapter: String,
    passed: usize,
    failed: usize,
    unsupported: usize,
    operators: Vec<OperatorRow>,
    /// The cases that did not pass.
    problems: Vec<Problem>,
}

#[derive(Serialize)]
struct OperatorRow {
    operator: String,
    passed: usize,
    failed: usize,
    unsupported: usize,
}

#[derive(Serialize)]
struct Problem {
    case: String,
    operator: String,
    /// "failed" or "unsupported".
    outcome: &'static str,
    reason: String,
}

/// Runs the command.
pub(crate) fn run(args: &ConformanceArgs, global: &GlobalFlags) -> Result<ExitCode, Failure> {
    let cases = chosen(args)?;
    let gpu = model::open_gpu(global, args.checked, args.json || args.table)?;
    let cancel = Interrupt::install()?.working();
    let forms = forms(args, &gpu)?;
    let mut columns = Vec::with_capacity(forms.len());
    let mut problems = Vec::new();
    let bar = count_bar("cases", cases.len() * forms.len(), global.quiet);
    for gpu in &forms {
        let mut scores = Scores::default();
        for case in &cases {
            if cancel.is_cancelled() {
                break;
            }
            let outcome = case.run(gpu, &OnnxOptions::default());
            scores.count(case, &outcome);
            problems.extend(Problem::of(case, outcome));
            bar.inc(1);
        }
        columns.push((gpu.caps().form(), scores));
    }
    bar.finish_and_clear();
    let failed = columns.iter().any(|(_, scores)| scores.sum().failed > 0);
    let scores = &columns[0].1;
    if args.table {
        terminal::write(&score_table(&columns))?;
    } else if args.json {
        terminal::write_json(&Report::new(&gpu, scores, problems))?;
    } else {
        terminal::write(&describe(scores, &problems))?;
    }
    Ok(match (cancel.is_cancelled(), failed) {
        (true, _) => ExitCode::from(INTERRUPTED),
        (false, true) => ExitCode::FAILURE,
        (false, false) => ExitCode::SUCCESS,
    })
}

/// The device in the forms to be run: the one that is named, of tables all that it has, else its own.
fn forms(args: &ConformanceArgs, gpu: &Gpu) -> Result<Vec<Gpu>, Failure> {
    let with = |form| caps_with_form(gpu.caps(), form).map(|caps| gpu.with_caps(caps));
    match args.form {
        Some(form) => {
            let gpu = with(form.into());
            Ok(vec![gpu.ok_or_else(|| Failure::Other("this adapter has no subgroup operations".into()))?])
        }
        None if args.table => Ok(Form::ALL.into_iter().filter_map(with).collect()),
        None => Ok(vec![gpu.clone()]),
    }
}

/// The cases that are asked for: those of an operator, else those whose names contain the word.
fn chosen(args: &ConformanceArgs) -> Result<Vec<ConformanceCase>, Failure> {
    let mut cases = ConformanceCase::find(&args.folder)?;
    let Some(only) = &args.only else { return Ok(cases) };
    let is_operator = cases.iter().any(|case| case.operator == *only);
    cases.retain(|case| if is_operator { case.operator == *only } else { case.name.contains(only) });
    if cases.is_empty() {
        let folder = args.folder.display();
        return Err(Failure::Other(format!("{folder}: no case is of operator `{only}` or named so")));
    }
    Ok(cases)
}

impl Problem {
    fn of(case: &ConformanceCase, outcome: Outcome) -> Option<Self> {
        let (outcome, reason) = match outcome {
            Outcome::Passed => return None,
            Outcome::Failed(reason) => ("failed", reason),
            Outcome::Unsupported(reason) => ("unsupported", reason),
        };
        Some(Self { case: case.name.clone(), operator: case.operator.clone(), outcome, reason })
    }
}

impl Report {
    fn new(gpu: &Gpu, scores: &Scores, problems: Vec<Problem>) -> Self {
        let sum = scores.sum();
        let row = |(operator, score): (&str, wginfer::onnx::Score)| OperatorRow {
            operator: operator.to_owned(),
            passed: score.passed,
            failed: score.failed,
            unsupported: score.unsupported,
        };
        Self {
            adapter: gpu.adapter().to_string(),
            passed: sum.passed,
            failed: sum.failed,
            unsupported: sum.unsupported,
            operators: scores.operators().map(row).collect(),
            problems,
        }
    }
}

fn describe(scores: &Scores, problems: &[Problem]) -> String {
    let header = ["operator", "passed", "failed", "unsupported"].map(str::to_owned).to_vec();
    let line = |(operator, score): (&str, wginfer::onnx::Score)| {
        let counts = [score.passed, score.failed, score.unsupported];
        [printable(operator)].into_iter().chain(counts.map(|count| count.to_string())).collect()
    };
    let rows: Vec<Vec<String>> = std::iter::once(header).chain(scores.operators().map(line)).collect();
    let mut text = terminal::table(&rows);
    for Problem { case, operator, outcome, reason } in problems {
        text += &printable(&format!("{outcome}: {case} ({operator}): {reason}"));
        text.push('\n');
    }
    let sum = scores.sum();
    let (passed, failed, unsupported, total) = (sum.passed, sum.failed, sum.unsupported, sum.total());
    text + &format!("{passed} of {total} cases passed, {failed} failed, {unsupported} unsupported\n")
}

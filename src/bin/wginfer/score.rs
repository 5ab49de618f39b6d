//! `wginfer score`: log-likelihood and perplexity of a text.

use crate::args::{GlobalFlags, ScoreArgs};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::model;
use crate::profile::Profiling;
use crate::terminal::{self, note, table};
use serde::Serialize;
use std::process::ExitCode;
use std::time::Instant;
use wginfer::text::{Prompt, Score, ScoreOptions, TextModel};

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    model: String,
    adapter: String,
    /// Tokens of the text.
    tokens: usize,
    /// Tokens that were scored: all but the first, each once.
    scored_tokens: usize,
    mean_nll: f64,
    perplexity: f64,
    context: usize,
    stride: usize,
    load_s: f64,
    score_s: f64,
    tokens_per_s: f64,
    gpu_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ids: Option<&'a [u32]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nll: Option<&'a [f64]>,
}

/// Runs the command.
pub(crate) fn run(
    args: &ScoreArgs,
    global: &GlobalFlags,
    profiling: &mut Profiling,
) -> Result<ExitCode, Failure> {
    let by_flag = args.prompt_ids.is_some().then_some("--prompt-ids");
    let (name, file) = model::split_words(&args.model_and_file, by_flag, "the file")?;
    let text = match (&args.prompt_ids, file) {
        (Some(ids), _) => Prompt::Ids(ids.clone()),
        (None, file) => Prompt::Text(terminal::read_text(&file.unwrap_or_default())?),
    };
    let folder = model::find_folder(name.as_deref(), global)?;
    let interrupt = Interrupt::install()?;
    let loading = Instant::now();
    let gpu = model::open_recorded(global, args.model.checked, args.json, profiling)?;
    let model = model::load(&folder, &gpu, &args.model, None, global)?;
    let load_s = loading.elapsed().as_secs_f64();
    let scoring = Instant::now();
    let options = ScoreOptions { stride: args.stride, cancel: interrupt.working() };
    let score = model.score(text, &options)?;
    let score_s = scoring.elapsed().as_secs_f64();
    let report = Report {
        model: folder.display().to_string(),
        adapter: gpu.adapter().to_string(),
        tokens: score.ids.len(),
        scored_tokens: score.nll.len(),
        mean_nll: score.mean_nll(),
        perplexity: score.perplexity(),
        context: model.context(),
        stride: args.stride.unwrap_or(model.context().div_ceil(2)),
        load_s,
        score_s,
        tokens_per_s: score.nll.len() as f64 / score_s.max(1e-9),
        gpu_bytes: gpu.allocated_bytes(),
        ids: args.tokens.then_some(&score.ids),
        nll: args.tokens.then_some(&score.nll),
    };
    if args.json {
        terminal::write_json(&report)?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.tokens {
        terminal::write(&token_table(&score, &model))?;
    }
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    terminal::write(&table(&[
        row("tokens", format!("{} ({} scored)", report.tokens, report.scored_tokens)),
        row("mean NLL", format!("{:.6}", report.mean_nll)),
        row("perplexity", format!("{:.4}", report.perplexity)),
    ]))?;
    if !global.quiet {
        let gpu_bytes = terminal::bytes(report.gpu_bytes);
        note(&format!(
            "loaded in {load_s:.2} s; scored in {score_s:.2} s, {:.1} tokens/s; {gpu_bytes} on the GPU",
            report.tokens_per_s
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// One line a token: its index, id, negative log-likelihood and text.
fn token_table(score: &Score, model: &TextModel) -> String {
    let text = |id: u32| model.tokenizer().and_then(|known| known.id_to_token(id)).unwrap_or_default();
    let header = ["index", "id", "nll", "token"].map(str::to_owned).to_vec();
    let line = |(index, (&id, &nll)): (usize, (&u32, &f64))| {
        vec![(index + 1).to_string(), id.to_string(), format!("{nll:.6}"), format!("{:?}", text(id))]
    };
    let lines = score.ids.iter().skip(1).zip(&score.nll).enumerate().map(line);
    table(&std::iter::once(header).chain(lines).collect::<Vec<_>>())
}

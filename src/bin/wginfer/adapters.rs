//! `wginfer adapters`: what there is to compute on.

use crate::args::AdaptersArgs;
use crate::failure::Failure;
use crate::terminal;
use serde::Serialize;
use std::process::ExitCode;
use wginfer::gpu::{AdapterSummary, Gpu, GpuOptions};

/// What `--json` lists.
#[derive(Serialize)]
struct Row<'a> {
    index: usize,
    name: &'a str,
    kind: String,
    backend: &'a str,
    driver: &'a str,
}

/// Runs the command.
pub(crate) fn run(args: &AdaptersArgs) -> Result<ExitCode, Failure> {
    let adapters = Gpu::adapters();
    let row = |(index, adapter): (usize, &AdapterSummary)| {
        [
            index.to_string(),
            adapter.name.clone(),
            kind(adapter),
            adapter.backend.clone(),
            adapter.driver.clone(),
        ]
        .to_vec()
    };
    if args.json {
        let rows = adapters.iter().enumerate().map(|(index, adapter)| Row {
            index,
            name: &adapter.name,
            kind: kind(adapter),
            backend: &adapter.backend,
            driver: &adapter.driver,
        });
        terminal::write_json(&rows.collect::<Vec<_>>())?;
    } else if !adapters.is_empty() {
        let header = ["index", "name", "kind", "backend", "driver"].map(str::to_owned).to_vec();
        let rows: Vec<_> = std::iter::once(header).chain(adapters.iter().enumerate().map(row)).collect();
        terminal::write(&terminal::table(&rows))?;
    }
    if adapters.is_empty() {
        // Opening one fails with the sentence that says what to install.
        Gpu::open(&GpuOptions::default())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn kind(adapter: &AdapterSummary) -> String {
    format!("{:?}", adapter.kind).to_lowercase()
}

//! The `wginfer` command line, on the library's public API.
//!
//! Results go to standard output, everything else to standard error. Exit codes: 0 success,
//! 1 failure, 2 wrong usage, 130 stopped by Ctrl-C.

mod adapters;
mod args;
mod bench;
mod bench_onnx;
mod bench_output;
mod bench_start;
mod chat;
mod check;
mod classify;
mod conformance;
mod convert;
mod detect;
mod doctor;
mod failure;
mod generate;
mod graph;
mod info;
mod interrupt;
mod model;
mod network;
mod npy;
mod onnx_inputs;
mod profile;
mod run;
mod runnable;
mod score;
mod terminal;
mod tune;

use args::{Cli, Command, GlobalFlags};
use clap::Parser;
use failure::Failure;
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let started = Instant::now();
    let cli = Cli::parse();
    start_log(&cli.global);
    let global = &cli.global;
    let done = match &cli.command {
        Command::Generate(args) => {
            args.profile.around(started, |it| generate::run(args, global, started, it))
        }
        Command::Chat(args) => args.profile.around(started, |it| chat::run(args, global, it)),
        Command::Score(args) => args.profile.around(started, |it| score::run(args, global, it)),
        Command::Classify(args) => args.profile().around(started, |it| classify::run(args, global, it)),
        Command::Detect(args) => args.profile.around(started, |it| detect::run(args, global, it)),
        Command::Run(args) => args.profile.around(started, |it| run::run(args, global, started, it)),
        Command::Check(args) => check::run(args, global),
        Command::Convert(args) => convert::run(args, global),
        Command::Graph(args) => graph::run(args),
        Command::Conformance(args) => conformance::run(args, global),
        Command::Info(args) => info::run(args, global),
        Command::Adapters(args) => adapters::run(args),
        Command::Bench(args) => bench::run(args, global, started),
        Command::Tune(args) => tune::run(args, global),
        Command::Doctor(args) => doctor::run(args, global),
    };
    done.unwrap_or_else(Failure::report)
}

/// Starts logging to standard error; RUST_LOG wins over -v and -q.
fn start_log(global: &GlobalFlags) {
    let default = match (global.quiet, global.verbose) {
        (true, _) => "error,wgpu_hal::vulkan::instance=off",
        // Where there is no driver the loader says so too; our own sentence says what to install.
        (false, 0) => "warn,wgpu_hal::gles=off,wgpu_hal::vulkan::instance=off",
        // The commands name the adapter themselves.
        (false, 1) => "warn,wginfer=info,wginfer::gpu::adapter=warn,wgpu_hal::gles=off",
        (false, 2) => "info,wginfer=debug,wgpu_hal::gles=off",
        (false, _) => "debug,wgpu_hal::gles=off",
    };
    let environment = env_logger::Env::default().default_filter_or(default);
    // Fails only where a logger is set already, which nothing here does.
    let _ = env_logger::Builder::from_env(environment).format_timestamp(None).try_init();
}

//! What `--profile` and `--top` write, and what a recorder holds: every dispatch of every step, with
//! what it computed.

mod common;
#[path = "common/onnx_file.rs"]
mod onnx_file;
#[path = "common/program.rs"]
mod program;

use program::{expect_failure, run_with, succeed, text, wginfer};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use wginfer::gpu::Gpu;
use wginfer::graph::Graph;
use wginfer::ops::cases::Random;
use wginfer::ops::{Linear, Softmax};
use wginfer::profile::{Ceilings, Recorder};
use wginfer::session::{NoWeights, Session};
use wginfer::tensor::Spec;

/// The complete events of a trace by their process: host, device.
struct Trace {
    host: Vec<Value>,
    device: Vec<Value>,
}

impl Trace {
    fn read(path: &str) -> Self {
        let trace: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let events = trace["traceEvents"].as_array().unwrap();
        let named = |name: &str| {
            events.iter().any(|event| event["args"]["name"].as_str().is_some_and(|it| it.starts_with(name)))
        };
        assert!(["host", "device: ", "main", "dispatches"].iter().all(|name| named(name)), "{events:?}");
        let of = |process: u32| {
            let is = |event: &&Value| event["ph"] == "X" && event["pid"] == process;
            events.iter().filter(is).cloned().collect::<Vec<_>>()
        };
        let trace = Self { host: of(1), device: of(2) };
        trace.check();
        trace
    }

    fn spans<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Value> {
        self.host.iter().filter(move |event| event["name"] == name)
    }

    /// Events are in order and last some time, dispatches do not overlap and say what they computed,
    /// and those of a run are within it.
    fn check(&self) {
        for events in [&self.host, &self.device] {
            assert!(events.windows(2).all(|pair| start(&pair[0]) <= start(&pair[1])));
            assert!(events.iter().all(|event| duration(event) > 0.0 && start(event) >= 0.0), "{events:?}");
        }
        assert!(self.device.windows(2).all(|pair| end(&pair[0]) <= start(&pair[1]) + 0.01));
        for event in &self.device {
            for key in ["node", "op", "inputs", "outputs", "kernel", "variant", "dispatch", "first"] {
                assert!(!event["args"][key].is_null(), "no {key}: {event}");
            }
            let args = &event["args"];
            if !args["flops"].is_null() {
                assert!(args["bytes_read"].as_u64().unwrap() + args["bytes_written"].as_u64().unwrap() > 0);
                assert!(args["gb_per_s"].as_f64().unwrap() > 0.0, "{event}");
                assert!(args["percent_of_ceiling"].as_f64().unwrap() > 0.0, "{event}");
            }
        }
        let mut within = 0;
        for run in self.spans("run") {
            let inside = |event: &&Value| start(event) >= start(run) && start(event) < end(run);
            let dispatches: Vec<&Value> = self.device.iter().filter(inside).collect();
            let sum: f64 = dispatches.iter().map(|event| duration(event)).sum();
            assert_eq!(run["args"]["dispatches"].as_u64(), Some(dispatches.len() as u64));
            assert!(sum <= duration(run), "{sum} in {run}");
            within += dispatches.len();
        }
        assert_eq!(within, self.device.len(), "every dispatch belongs to a run");
    }
}

fn start(event: &Value) -> f64 {
    event["ts"].as_f64().unwrap()
}

fn duration(event: &Value) -> f64 {
    event["dur"].as_f64().unwrap()
}

fn end(event: &Value) -> f64 {
    start(event) + duration(event)
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().unwrap().to_owned()
}

/// The small random Llama of the goldens.
const LLAMA: &str = "tests/goldens/llama2";

#[test]
fn a_generation_is_recorded_step_by_step_and_stays_the_same() {
    if common::gpu().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let trace = path(folder.path(), "trace.json");
    let plain = ["generate", LLAMA, "--prompt-ids", "1,9,14", "--max-tokens", "5", "--temperature", "0"];
    let output = wginfer(&[&plain[..], &["--profile", &trace, "--top=3"]].concat()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), succeed(&plain));
    let shown = text(&output.stderr);
    let table: Vec<&str> = shown.lines().skip_while(|line| !line.contains(" dispatches, ")).collect();
    assert_eq!(table.len(), 2 + 3, "{shown}");
    assert!(table[1].contains("GFLOP/s") && table[2].contains(" %"), "{shown}");
    let trace = Trace::read(&trace);
    assert_eq!([trace.spans("prompt").count(), trace.spans("decode").count()], [1, 4]);
    for name in ["open the adapter", "load", "plan", "upload", "prepare", "compile", "read results"] {
        assert!(trace.spans(name).next().is_some(), "no {name}");
    }
    assert!(trace.device.iter().any(|event| event["args"]["op"] == "linear"));
}

#[test]
fn scores_and_conversations_are_recorded() {
    if common::gpu().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let trace = path(folder.path(), "trace.json");
    let output =
        wginfer(&["score", LLAMA, "--prompt-ids", "1,9,14,3", "--profile", &trace]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(Trace::read(&trace).spans("logits").next().is_some());
    let chat = ["chat", "--fallback", "plain", "--max-tokens", "2", "--profile", &trace];
    let output = run_with(&chat, b"Hello\n");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(Trace::read(&trace).spans("prompt").count(), 1);
}

#[test]
fn photos_and_arrays_are_recorded() {
    if common::gpu().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (trace, model) = (path(folder.path(), "trace.json"), path(folder.path(), "small.onnx"));
    let digit = "models/pretrained/digits/samples/digit_7.png";
    let output = wginfer(&["classify", digit, "--top", "2", "--top-kernels", "--profile", &trace]).output();
    let output = output.unwrap();
    assert!(text(&output.stderr).contains(" dispatches, "), "{}", text(&output.stderr));
    let photo = Trace::read(&trace);
    for name in ["read photos", "preprocess", "network"] {
        assert!(photo.spans(name).next().is_some(), "no {name}");
    }
    std::fs::write(&model, onnx_file::small_model()).unwrap();
    let run = ["run", &model, "--shape", "x=2x3", "--runs", "3", "--json", "--profile", &trace, "--top"];
    let report: Value = serde_json::from_str(&succeed(&run)).unwrap();
    assert!(report["gpu_s"].as_f64().unwrap() > 0.0, "{report}");
    let runs = Trace::read(&trace);
    assert_eq!([runs.spans("run").count(), runs.spans("import").count()], [3, 1]);
}

#[test]
fn files_that_cannot_be_written_are_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (nowhere, here) = (path(folder.path(), "no/trace.json"), folder.path().to_str().unwrap());
    let run = |arguments: &[&str], code, parts: &[&str]| {
        expect_failure(arguments, &wginfer(arguments).output().unwrap(), code, parts)
    };
    let failures: Vec<String> = [
        run(&["generate", "no-model", "x", "--profile", &nowhere], 1, &["no such folder"]),
        run(&["score", "no-model", "x", "--profile", here], 1, &["expected a file, got a folder"]),
        run(&["chat", "no-model", "--profile", "/proc/no-trace.json"], 1, &["/proc/no-trace.json"]),
        run(&["bench", "text", "--profile", &nowhere], 1, &["no such folder"]),
        run(&["detect", "x.png", "--top=0"], 2, &["--top", "at least 1"]),
    ]
    .into_iter()
    .flatten()
    .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    // A file that was not there before is not left behind by the check.
    let trace = path(folder.path(), "trace.json");
    assert!(!wginfer(&["generate", "no-model", "x", "--profile", &trace]).output().unwrap().status.success());
    assert!(!Path::new(&trace).exists());
}

/// A session that multiplies and takes a softmax, its plan run `runs` times; the last result.
fn run_recorded(gpu: &Gpu, runs: usize) -> Vec<u8> {
    let mut graph = Graph::new();
    let x = graph.input("x", Spec::f32([5, 64]));
    let weight = graph.constant("weight", Arc::new(Random::new(1).f32([32, 64])));
    let y = graph.add_one(Linear::PLAIN, &[x, weight]).unwrap();
    let y = graph.add_one(Softmax { logarithm: false }, &[y]).unwrap();
    graph.output("y", y);
    let mut session = Session::new(gpu, None);
    let plan = session.add(vec![graph], &NoWeights, &mut |_, _| {}).unwrap()[0];
    let given = vec![0x3c; 5 * 64 * 4];
    let mut last = Vec::new();
    for _ in 0..runs {
        let outputs = session.run(plan, &[("x", &given)], &["y"], &|| false).unwrap();
        last = outputs[0].bytes().to_vec();
    }
    last
}

#[test]
fn a_recorder_sums_kernels_and_knows_first_dispatches() {
    for timestamps in [true, false] {
        if common::gpu().is_none() {
            return;
        }
        let gpu = common::own_gpu();
        if !timestamps {
            gpu.ignore_timestamps();
        }
        let recorder = Recorder::new();
        gpu.record(Some(&recorder));
        let recorded = run_recorded(&gpu, 3);
        gpu.record(None);
        assert_eq!(recorded, run_recorded(&gpu, 1), "recording changes no result");
        let ceilings = Ceilings { multiply_add: 100.0, exponential: 1.0, copy: 10.0, read: 10.0 };
        let profile = recorder.profile().with_ceilings(ceilings);
        assert_eq!(profile.dispatches.len(), 6, "the run after the record is not in it");
        assert!(!profile.adapter.is_empty() && (timestamps || !profile.timestamps));
        let totals = profile.costliest(10);
        let mut ops: Vec<&str> = totals.iter().map(|total| total.op).collect();
        ops.sort_unstable();
        assert_eq!(ops, ["linear", "softmax"]);
        assert!((totals.iter().map(|total| total.share).sum::<f64>() - 1.0).abs() < 1e-6);
        for total in &totals {
            assert_eq!(total.count, 3);
            assert!(total.first > std::time::Duration::ZERO && total.first < total.time, "{total:?}");
            assert!(total.rates.unwrap().part_of_ceiling.unwrap().0 > 0.0, "{total:?}");
        }
        let linear = totals.iter().find(|total| total.op == "linear").unwrap();
        assert_eq!(linear.shapes, "f32[5, 64] f32[32, 64] -> f32[5, 32]");
        assert_eq!(profile.to_string().lines().count(), 2 + 2);
    }
}

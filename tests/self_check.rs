//! Kernels that compute wrong results on an adapter are found before a model uses them, and are not
//! used: results stay right.

mod common;
#[path = "common/program.rs"]
mod program;

use program::{text, wginfer};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use wginfer::gpu::Gpu;
use wginfer::graph::Graph;
use wginfer::kernel::DeviceKind;
use wginfer::ops::cases::Random;
use wginfer::ops::{Linear, Softmax};
use wginfer::self_check::{SelfChecks, self_check_path};
use wginfer::session::{NoWeights, Session};
use wginfer::tensor::Spec;

/// A folder where the findings on the adapter are kept, and their file in it.
fn store(gpu: &Gpu) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let usual = self_check_path(&gpu.adapter().to_string());
    let name = usual.as_deref().and_then(|path| path.file_name()).unwrap_or("found.json".as_ref());
    let path = folder.path().join("self-check").join(name);
    (folder, path)
}

/// A device of its own as if of this kind, with kernels that compute nothing.
fn own_gpu(kind: Option<DeviceKind>, broken: Option<&str>, store: &Path) -> Gpu {
    let gpu = common::own_gpu();
    if let Some(part) = broken {
        gpu.break_kernels(part);
    }
    let mut caps = gpu.caps().clone();
    caps.kind = kind.unwrap_or(caps.kind);
    let checks = SelfChecks::load(Some(store.to_path_buf()), &gpu.adapter().to_string());
    gpu.with_caps(caps).with_self_checks(checks)
}

/// The output of a small graph, and its kernels with their variants: a linear layer, a softmax.
fn run(gpu: &Gpu) -> (Vec<f32>, Vec<String>) {
    let mut graph = Graph::new();
    let x = graph.input("x", Spec::f32([3, 64]));
    let weight = graph.constant("weight", Arc::new(Random::new(1).f32([32, 64])));
    let y = graph.add_one(Linear::PLAIN, &[x, weight]).unwrap();
    let y = graph.add_one(Softmax { logarithm: false }, &[y]).unwrap();
    graph.output("y", y);
    let mut session = Session::new(gpu, None);
    let plan = session.add(vec![graph], &NoWeights, &mut |_, _| {}).unwrap()[0];
    let given = Random::new(2).f32([3, 64]);
    let outputs = session.run(plan, &[("x", given.bytes())], &["y"], &|| false).unwrap();
    let steps = session.profile(plan).unwrap();
    let kernel =
        |step: &wginfer::profile::Dispatched| format!("{} {}", step.kernel().kernel, step.kernel().variant);
    (outputs[0].to_f32(), steps.iter().map(kernel).collect())
}

#[test]
fn what_fails_is_demoted_and_remembered_and_results_stay_right() {
    let Some(gpu) = common::gpu() else { return };
    let (want, _) = run(gpu);
    let assert_right = |got: &[f32]| {
        let close = got.iter().zip(&want).all(|(got, want)| (got - want).abs() < 1e-5);
        assert!(close, "got {got:?}, want {want:?}");
    };
    // A software adapter as it is, where a choice is demoted; and as if it were a card, where the
    // form of an operator without choices is.
    for (kind, broken, family) in [(None, 0, "linear"), (Some(DeviceKind::Discrete), 1, "softmax")] {
        let (_good_folder, good) = store(gpu);
        let (got, usual) = run(&own_gpu(kind, None, &good));
        assert_right(&got);
        assert!(SelfChecks::load(Some(good), &gpu.adapter().to_string()).demotions().is_empty());
        let (folder, path) = store(gpu);
        let broken_gpu = own_gpu(kind, Some(&usual[broken]), &path);
        let (got, others) = run(&broken_gpu);
        assert_right(&got);
        assert_ne!(others[broken], usual[broken]);
        let demotions = broken_gpu.self_checks().unwrap().demotions();
        assert_eq!(demotions.len(), 1, "{demotions:?}");
        let found = &demotions[0];
        assert_eq!(found.family, family);
        assert!(found.class.contains(&usual[broken]) && found.message.contains("want"), "{found:?}");
        // Another device of the adapter knows, though nothing is broken in it.
        let next = own_gpu(kind, None, &path);
        assert_eq!(next.caps().overrides.demoted.len(), 1);
        assert_eq!(run(&next).1, others);
        let mut doctor = wginfer(&["doctor", "--only", "softmax"]);
        doctor.env("WGINFER_CACHE", folder.path()).env_remove("WGINFER_SELF_CHECK");
        let output = doctor.output().unwrap();
        let (shown, choice) = (text(&output.stdout), &found.choice);
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(shown.contains(&format!("out of use on this adapter: {family} {choice}")), "{shown}");
    }
}

#[test]
fn a_device_that_is_trusted_checks_nothing() {
    let Some(gpu) = common::gpu() else { return };
    assert!(gpu.self_checks().is_none());
    let pipelines = gpu.counts().pipelines;
    run(gpu);
    assert!(gpu.counts().pipelines <= pipelines + 2);
}

//! `wginfer bench`: what it measures on this adapter, its files, and how it fails.

mod common;
#[path = "common/program.rs"]
mod program;

use program::{expect_failure, succeed, succeed_json, text, wginfer};
use wginfer::bench::{Measurement, Record, Report, measure_kernels, measure_limits, roofline};

fn all_positive(measurements: &[Measurement]) {
    for Measurement { name, spread, .. } in measurements {
        let ordered = 0.0 < spread.least && spread.least <= spread.median && spread.median <= spread.most;
        assert!(ordered && spread.most.is_finite(), "{name}: {spread}");
    }
}

#[test]
fn limits_are_found() {
    let Some(gpu) = common::gpu() else { return };
    let limits = measure_limits(gpu, 1).unwrap();
    let measurements = limits.measurements();
    all_positive(&measurements);
    assert_eq!(limits.multiply_add_f16.is_some(), gpu.caps().f16);
    let table = limits.to_string();
    assert!(measurements.iter().all(|it| table.contains(&it.name)), "{table}");
}

#[test]
fn kernels_are_compared_timed_and_drawn() {
    let Some(gpu) = common::gpu() else { return };
    let report = measure_kernels(gpu, 1, "linear 1x288x864").unwrap();
    let [row] = report.rows.as_slice() else { panic!("{report}") };
    assert_eq!((row.mismatch.as_ref(), row.flops), (None, 2 * 288 * 864));
    assert!(row.kernels.iter().all(|kernel| kernel.starts_with("linear")), "{:?}", row.kernels);
    assert!(row.part_of_ceiling > 0.0 && row.part_of_ceiling.is_finite());
    all_positive(&report.measurements());
    let svg = roofline(&report);
    assert!(svg.starts_with("<svg") && svg.contains("linear 1x288x864 f32: "), "{svg}");
    let error = measure_kernels(gpu, 1, "nonesuch").unwrap_err().to_string();
    assert!(error.contains("`nonesuch`") && error.contains("gemm, gemv, attention"), "{error}");
}

/// Every form of kernel can be asked for; a draw of tokens is short in each.
#[test]
fn forms_can_be_forced() {
    if common::gpu().is_none() {
        return;
    }
    let bench = ["bench", "kernels", "--only", "rms_norm 1x768", "--runs", "1", "--json", "--form", "plain"];
    let report = succeed_json(&bench);
    assert_eq!(report["form"], "plain");
    assert_eq!(report["benchmark"], "kernels");
    assert_eq!(report["rows"][0]["mismatch"], serde_json::Value::Null);
}

#[test]
fn runs_are_stored_and_compared() {
    if common::gpu().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (old, svg) = (path("old.json"), path("out.svg"));
    let kernel = ["bench", "kernels", "--only", "rms_norm 1x768", "--runs", "2"];
    let table = succeed(&[&kernel[..], &[&format!("--json={old}"), "--plot", &svg]].concat());
    assert!(table.contains("rms_norm 1x768") && table.contains("of ceiling"), "{table}");
    assert!(std::fs::read_to_string(&svg).unwrap().ends_with("</svg>\n"));
    let mut record = Record::read(old.as_ref()).unwrap();
    assert_eq!(record.measurements.len(), 1);
    let table = succeed(&[&kernel[..], &["--compare", &old]].concat());
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("rms_norm 1x768")).collect();
    assert!(rows.len() == 1 && rows[0].contains("us ") && rows[0].contains('x'), "{table}");
    assert!(!table.contains("another adapter"), "{table}");

    record.measured_on = "a card of another time".into();
    std::fs::write(&old, serde_json::to_vec(&record).unwrap()).unwrap();
    let table = succeed(&[&kernel[..], &["--compare", &old]].concat());
    assert!(table.contains("another adapter or driver: a card of another time"), "{table}");
}

#[test]
fn wrong_files_and_flags_are_refused_before_anything_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (absent, other, broken) = (path("absent.json"), path("text.json"), path("broken.json"));
    let record = r#"{"benchmark": "text", "version": "0", "measured_on": "x", "measurements": []}"#;
    std::fs::write(&other, record).unwrap();
    std::fs::write(&broken, "{").unwrap();
    let nowhere = format!("--json={}", path("no/such/out.json"));
    let is_folder = folder.path().to_str().unwrap();
    let cases: &[(&[&str], i32, &[&str])] = &[
        (&["limits", "--compare", &absent], 1, &["absent.json: there is no such file"]),
        (&["limits", "--compare", &broken], 1, &["broken.json: expected JSON as"]),
        (&["limits", "--compare", &other], 1, &["of `bench text`, these of `bench limits`"]),
        (&["vision", "--compare", &other], 1, &["of `bench text`, these of `bench vision`"]),
        (&["limits", &nowhere], 1, &["no such folder"]),
        (&["kernels", "--plot", is_folder], 1, &["expected a file, got a folder"]),
        (&["kernels", "--runs", "0"], 2, &["from 1 to 1000"]),
        (&["kernels", "--form", "fast"], 2, &["software, subgroup, plain"]),
        (&["text", "--shape", "7b"], 2, &["15m, 124m, 1b"]),
        (&["limits", "--plot", "out.svg"], 2, &["--plot"]),
    ];
    let mut failures = Vec::new();
    for (arguments, code, parts) in cases {
        let arguments = [&["bench"], *arguments].concat();
        let output = wginfer(&arguments).output().unwrap();
        failures.extend(expect_failure(&arguments, &output, *code, parts));
    }
    if common::gpu().is_some() {
        let arguments = ["bench", "kernels", "--only", "nonesuch"];
        let output = wginfer(&arguments).output().unwrap();
        failures.extend(expect_failure(&arguments, &output, 1, &["there are the families gemm"]));
        assert!(!text(&output.stderr).contains("panicked"));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Medians, ratios and goals of the tables that `scripts/bench` prints.
#[test]
fn arithmetic_of_the_tables_beside_peers_holds() {
    let peers = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers");
    let tests = std::process::Command::new("python3").args(["-m", "unittest", "discover", peers]).output();
    let Ok(tests) = tests else {
        println!("skipped: no python3");
        return;
    };
    assert!(tests.status.success(), "{}", String::from_utf8_lossy(&tests.stderr));
}

//! `wginfer detect` as its users see it.
#![cfg(feature = "cli")]

mod common;
#[path = "common/program.rs"]
mod program;

use program::{expect_failure, succeed, succeed_json, wginfer};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use wginfer::vision::Image;

/// The bundled detector of handwritten digits.
fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/pretrained/digit-boxes")
}

fn scene() -> String {
    model().join("scene.png").to_str().unwrap().to_owned()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

/// What torch finds in the scene, and boxes drawn where it is.
#[test]
fn the_scene_gives_its_golden_boxes() {
    if common::gpu().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("boxes.PNG");
    let report = succeed_json(&["detect", &scene(), "--json", "--out", out.to_str().unwrap()]);
    let golden: Value = serde_json::from_slice(&std::fs::read(model().join("golden.json")).unwrap()).unwrap();
    let (found, wanted) = (report["detections"].as_array().unwrap(), golden["found"].as_array().unwrap());
    assert_eq!(found.len(), wanted.len(), "{report}");
    for (got, want) in found.iter().zip(wanted) {
        assert_eq!((&got["index"], &got["label"]), (&want["digit"], &json!(want["digit"].to_string())));
        assert!((number(&got["score"]) - number(&want["score"])).abs() < 1e-3, "{got} {want}");
        for (side, index) in [("left", 0), ("top", 1), ("right", 2), ("bottom", 3)] {
            assert!((number(&got[side]) - number(&want["box"][index])).abs() < 0.01, "{side}: {got} {want}");
        }
    }
    assert!(report["notes"][0].as_str().unwrap().contains("handwritten digits"), "{report}");
    // The drawn photo differs from the photo at the border of each box.
    let (before, after) = (Image::open(Path::new(&scene())).unwrap(), Image::open(&out).unwrap());
    assert_eq!((before.width(), before.height()), (after.width(), after.height()));
    for it in found {
        let col = number(&it["left"]).floor() as usize;
        let row = ((number(&it["top"]) + number(&it["bottom"])) / 2.0) as usize;
        let place = (row * before.width() as usize + col) * 3;
        assert_ne!(before.pixels()[place..place + 3], after.pixels()[place..place + 3], "{it}");
    }
}

#[test]
fn thresholds_and_a_table() {
    if common::gpu().is_none() {
        return;
    }
    let model = model();
    let model = model.to_str().unwrap();
    let shown = succeed(&["detect", model, &scene(), "--score", "0.8"]);
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines.len() == 5 && lines[0].ends_with("scene.png (160x160)"), "{shown}");
    assert!(lines[1].starts_with("score  label  left") && lines[2].starts_with("0.960  1 "), "{shown}");
    let count = |flags: &[&str]| {
        let report = succeed_json(&[&["detect", model, &scene(), "--json"], flags].concat());
        report["detections"].as_array().unwrap().len()
    };
    assert_eq!(count(&["--limit", "2"]), 2);
    assert!(count(&["--score", "0.01"]) > count(&["--score", "0.3"]));
    assert!(count(&["--overlap", "1"]) > count(&["--overlap", "0.5"]));
    let nothing = succeed(&["detect", model, &scene(), "--score", "1"]);
    assert!(nothing.ends_with("nothing was found\n"), "{nothing}");
    // Fitted in another size, boxes are still in the photo's pixels.
    let report = succeed_json(&["detect", model, &scene(), "--resize", "fit:320x192", "--json"]);
    for it in report["detections"].as_array().unwrap() {
        let inside = |side: &str| (0.0..=160.0).contains(&number(&it[side]));
        assert!(["left", "top", "right", "bottom"].into_iter().all(inside), "{it}");
    }
}

#[test]
fn what_cannot_be_is_refused() {
    if common::gpu().is_none() {
        return;
    }
    let (model, scene) = (model(), scene());
    let (model, digits) = (model.to_str().unwrap(), model.parent().unwrap().join("digits"));
    let digits = digits.to_str().unwrap();
    let one = ["detect", model, scene.as_str()];
    let empty = tempfile::tempdir().unwrap();
    let table: [(&[&str], i32, &[&str]); 11] = [
        (&["detect"], 2, &["the photo is missing"]),
        (&["detect", model], 2, &["is a model", "the photo is missing"]),
        (&["detect", model, &format!("{digits}/samples")], 2, &["expected one photo, got 10"]),
        (&["detect", model, "no-such-photo.png"], 1, &["no-such-photo.png"]),
        (&["detect", model, &format!("{digits}/README.md")], 1, &["README.md: not an image"]),
        (&["detect", digits, &scene], 1, &["digits that can classify", "expected one that can detect"]),
        (&["detect", model, empty.path().to_str().unwrap()], 1, &["a folder without PNG, JPEG or WebP"]),
        (&[&one[..], &["--score", "2"]].concat(), 2, &["--score", "from 0 to 1"]),
        (&[&one[..], &["--out", "boxes.jpg"]].concat(), 2, &["--out", ".png"]),
        (&[&one[..], &["--out", "no/such/folder/x.png"]].concat(), 1, &["no/such/folder", "no such folder"]),
        (&[&one[..], &["--resize", "100x100"]].concat(), 1, &["yolov8 takes images", "multiples of 32"]),
    ];
    // A file that cannot be written takes no result with it.
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("boxes.png");
    std::fs::create_dir(&out).unwrap();
    let output = wginfer(&[&one[..], &["--json", "--out", out.to_str().unwrap()]].concat()).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &report["out"]), (Some(1), &Value::Null));
    assert!(!report["detections"].as_array().unwrap().is_empty());
    let mut failures = Vec::new();
    for (arguments, code, parts) in table {
        let output = wginfer(arguments).output().unwrap();
        failures.extend(expect_failure(arguments, &output, code, parts));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

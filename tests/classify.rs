//! `wginfer classify` and `wginfer info` on networks for images, as their users see them.
#![cfg(feature = "cli")]

mod common;
#[path = "common/program.rs"]
mod program;

use program::{change_config, change_weights, expect_failure, succeed, succeed_json, text, wginfer, write};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use wginfer::vision::Image;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The bundled model of handwritten digits.
fn digits() -> PathBuf {
    root().join("models/pretrained/digits")
}

fn sample(digit: usize) -> PathBuf {
    digits().join(format!("samples/digit_{digit}.png"))
}

fn words(paths: &[PathBuf]) -> Vec<&str> {
    paths.iter().map(|path| path.to_str().unwrap()).collect()
}

/// Logits as `--logits` writes them.
fn read_npy(path: &Path, classes: usize) -> Vec<Vec<f32>> {
    let bytes = std::fs::read(path).unwrap();
    assert!(bytes.starts_with(b"\x93NUMPY\x01\x00"));
    let start = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let values: Vec<f32> =
        bytes[start..].as_chunks().0.iter().map(|value| f32::from_le_bytes(*value)).collect();
    let rows = values.len() / classes;
    let shape = format!("'shape': ({rows}, {classes})");
    assert!(String::from_utf8_lossy(&bytes[..start]).contains(&shape), "{shape}");
    values.chunks(classes).map(<[f32]>::to_vec).collect()
}

/// A copy of the bundled model with one thing wrong.
fn broken(change: impl FnOnce(&Path)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "preprocessor_config.json", "model.safetensors"] {
        std::fs::copy(digits().join(file), folder.path().join(file)).unwrap();
    }
    change(folder.path());
    folder
}

#[test]
fn the_bundled_model_reads_digits() {
    if common::gpu().is_none() {
        return;
    }
    let samples: Vec<PathBuf> = (0..10).map(sample).collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("logits.npy");
    let golden: Value =
        serde_json::from_slice(&std::fs::read(digits().join("golden.json")).unwrap()).unwrap();
    let mut reports = Vec::new();
    for batch in ["1", "4"] {
        let options = ["--json", "--top", "3", "--batch", batch, "--logits", file.to_str().unwrap()];
        let report = succeed_json(&[&["classify"], &words(&samples)[..], &options].concat());
        let entries = report["entries"].as_array().unwrap();
        assert_eq!((entries.len(), &report["failures"]), (30, &json!([])));
        let notes = report["notes"].as_array().unwrap();
        assert!(notes.len() == 1 && notes[0].as_str().unwrap().contains("handwritten digits"), "{notes:?}");
        for (digit, (top, logits)) in entries.chunks(3).zip(read_npy(&file, 10)).enumerate() {
            assert_eq!(top[0]["file"].as_str().unwrap(), samples[digit].to_str().unwrap());
            assert_eq!((&top[0]["label"], &top[0]["index"]), (&json!(digit.to_string()), &json!(digit)));
            assert!(top[0]["probability"].as_f64().unwrap() > 0.6, "{}", top[0]);
            assert!(top[1]["probability"].as_f64() >= top[2]["probability"].as_f64());
            assert_eq!(top[0]["logit"].as_f64().unwrap() as f32, logits[digit]);
            let want = golden[format!("digit_{digit}.png")].as_array().unwrap();
            for (got, want) in logits.iter().zip(want.iter().map(|want| want.as_f64().unwrap())) {
                assert!((f64::from(*got) - want).abs() < 1e-3 + 1e-4 * want.abs(), "{digit}: {got} {want}");
            }
        }
        reports.push(report["entries"].clone());
    }
    assert_eq!(reports[0], reports[1], "batches give the same numbers");
    let output = wginfer(&["classify", sample(7).to_str().unwrap()]).output().unwrap();
    let (shown, notes) = (text(&output.stdout), text(&output.stderr));
    assert!(shown.contains("handwritten digits") && shown.contains("digit_7.png (28x28)"), "{shown}");
    assert!(shown.contains('\u{2588}') && shown.lines().count() == 7 && !shown.contains("hint"), "{shown}");
    assert!(notes.contains("loaded in") && notes.contains("1 photo in"), "{notes}");
    assert!(output.status.success());
}

/// A whole folder in the order of its names; photos that are too large for a digit get a hint.
#[test]
fn folders_are_classified_and_large_photos_hinted() {
    if common::gpu().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let photo = |width: u32, height: u32| {
        Image::from_rgb(width, height, vec![90; (width * height * 3) as usize]).unwrap()
    };
    photo(129, 20).write_png(&place("b.png")).unwrap();
    photo(128, 128).write_png(&place("a.png")).unwrap();
    write(folder.path(), "notes.txt", "no photo");
    let shown = succeed(&["classify", folder.path().to_str().unwrap(), "--top", "1"]);
    let (first, second) = (shown.find("a.png (128x128)").unwrap(), shown.find("b.png (129x20)").unwrap());
    assert!(first < second && shown.matches("hint: ").count() == 1, "{shown}");
    assert!(shown.find("wginfer classify MODEL").unwrap() > second, "{shown}");
    // A model that is named is meant.
    let named = succeed(&["classify", digits().to_str().unwrap(), place("b.png").to_str().unwrap()]);
    assert!(!named.contains("hint") && !named.contains("bundled"), "{named}");
    let report = succeed_json(&["classify", place("b.png").to_str().unwrap(), "--json"]);
    assert!(report["notes"][1].as_str().unwrap().contains("129x20"), "{report}");
}

/// What can be read is classified; the rest is listed, and the exit code says so.
#[test]
fn unreadable_photos_do_not_stop_the_others() {
    if common::gpu().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let whole = std::fs::read(root().join("tests/goldens/images/photo.png")).unwrap();
    std::fs::write(place("half.png"), &whole[..whole.len() / 2]).unwrap();
    // The same photo that claims 60,000 pixels a side.
    let mut bomb = whole.clone();
    bomb[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
    std::fs::write(place("bomb.png"), bomb).unwrap();
    write(folder.path(), "text.jpg", "no photo");
    write(folder.path(), "empty.webp", "");
    std::fs::create_dir(place("nothing")).unwrap();
    let good = ["cmyk.jpg", "rgb16.png", "gray16.png", "animated.webp", "animated.png", "exif6.jpg"]
        .map(|name| root().join("tests/goldens/images").join(name).to_str().unwrap().to_owned());
    let bad = ["half.png", "bomb.png", "text.jpg", "empty.webp", "missing.png", "nothing"].map(place);
    let mut photos: Vec<&str> = good.iter().zip(&bad).flat_map(|(good, bad)| [good.as_str(), bad]).collect();
    photos.insert(0, "classify");
    let logits = place("logits.npy");
    let options = ["--top", "1", "--batch", "5", "--logits", &logits];
    let output = wginfer(&[&photos[..], &options].concat()).output().unwrap();
    let (shown, notes) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{notes}");
    assert!(good.iter().all(|name| shown.contains(name)) && !bad.iter().any(|name| shown.contains(name)));
    assert!(notes.contains("error: 6 of 12 photos could not be used"), "{notes}");
    let reasons = [
        "half.png: PNG is truncated",
        "bomb.png: PNG",
        "text.jpg: not an image",
        "empty.webp: expected a PNG, JPEG or WebP image, got an empty file",
        "missing.png: no such file",
        "nothing: a folder without PNG, JPEG or WebP files",
    ];
    for reason in reasons {
        assert!(notes.contains(reason), "{reason}: {notes}");
    }
    let rows = read_npy(Path::new(&logits), 10);
    let failed: Vec<bool> = rows.iter().map(|row| row.iter().all(|value| value.is_nan())).collect();
    assert_eq!(failed, [[false, true]; 6].as_flattened());
    let output = wginfer(&[&photos[..], &["--json"]].concat()).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), report["entries"].as_array().unwrap().len()), (Some(1), 30));
    let failures = report["failures"].as_array().unwrap();
    let files: Vec<&str> = failures.iter().map(|failure| failure["file"].as_str().unwrap()).collect();
    assert_eq!(files, bad);
    assert!(failures.iter().all(|failure| failure["error"].as_str().unwrap().len() > 10), "{report}");
    // A file that cannot be written takes no result with it.
    let folder = folder.path().to_str().unwrap();
    let output = wginfer(&["classify", &good[0], "--json", "--logits", folder]).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), report["entries"].as_array().unwrap().len()), (Some(1), 5));
    assert!(text(&output.stderr).contains(folder), "{}", text(&output.stderr));
    // Not a single one.
    let arguments = ["classify", digits().to_str().unwrap(), &bad[2], &bad[4]].map(str::to_owned);
    let arguments = arguments.each_ref().map(String::as_str);
    let output = wginfer(&arguments).output().unwrap();
    assert_eq!(expect_failure(&arguments, &output, 1, &["2 of 2 photos", "text.jpg"]), None);
}

/// A file of weights with tensors of these names, each one number.
fn write_weights(folder: &Path, names: &[&str]) {
    let entry = |(index, name): (usize, &&str)| {
        let place = [4 * index, 4 * index + 4];
        ((*name).to_owned(), json!({"dtype": "F32", "shape": [1], "data_offsets": place}))
    };
    let header: serde_json::Map<String, Value> = names.iter().enumerate().map(entry).collect();
    let header = serde_json::to_vec(&header).unwrap();
    let data = vec![0; 4 * names.len()];
    let bytes = [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat();
    std::fs::write(folder.join("model.safetensors"), bytes).unwrap();
}

#[test]
fn broken_networks_are_refused_with_reasons() {
    if common::gpu().is_none() {
        return;
    }
    let nine: Value =
        (0..9).map(|class| (class.to_string(), json!("x"))).collect::<serde_json::Map<_, _>>().into();
    let misfit = |folder: &Path| {
        change_weights(folder, |header, _| {
            let bias = header.remove("dense2.bias").unwrap();
            header.insert("dense9.bias".into(), bias);
        });
    };
    let nan = |folder: &Path| change_weights(folder, |_, data| data[..4].fill(0xff));
    let two = ["features.3.squeeze.weight", "classifier.1.weight", "features.1.conv.0.0.weight"];
    let remove = |file: &'static str| move |folder: &Path| std::fs::remove_file(folder.join(file)).unwrap();
    let language = |folder: &Path| {
        for file in ["config.json", "model.safetensors"] {
            std::fs::copy(root().join("tests/goldens/llama2").join(file), folder.join(file)).unwrap();
        }
    };
    let detector = |folder: &Path| {
        for file in ["config.json", "model.safetensors"] {
            std::fs::copy(root().join("models/pretrained/digit-boxes").join(file), folder.join(file))
                .unwrap();
        }
        remove("preprocessor_config.json")(folder);
    };
    let several = |folder: &Path| {
        remove("config.json")(folder);
        write_weights(folder, &two);
    };
    let truncated = |folder: &Path| {
        let bytes = std::fs::read(folder.join("model.safetensors")).unwrap();
        std::fs::write(folder.join("model.safetensors"), &bytes[..50_000]).unwrap();
    };
    let pickled = |folder: &Path| {
        std::fs::rename(folder.join("model.safetensors"), folder.join("pytorch_model.bin")).unwrap();
    };
    type Change<'a> = &'a dyn Fn(&Path);
    let table: [(Change<'_>, &[&str]); 14] = [
        (&remove("model.safetensors"), &["model.safetensors"]),
        (&truncated, &["model.safetensors"]),
        (&pickled, &["pytorch_model.bin", "convert"]),
        (&misfit, &["tensors do not fit", "dense2.bias", "dense9.bias"]),
        (&nan, &["weights are NaN or infinite"]),
        (
            &|folder| change_config(folder, "id2label", nine.clone()),
            &["config.json", "9 labels", "10 classes"],
        ),
        (&|folder| change_config(folder, "id2label", json!({"1": "x"})), &["config.json", "`id2label.1`"]),
        (&|folder| change_config(folder, "model_type", json!("vgg")), &["no tensor", "names fit digits"]),
        (&|folder| write(folder, "config.json", "{"), &["config.json", "not valid JSON"]),
        (
            &|folder| write(folder, "preprocessor_config.json", r#"{"size": "big"}"#),
            &["preprocessor_config.json", "`size`", "\"big\""],
        ),
        (&several, &["squeezenet and mobilenet_v2", "--arch"]),
        (&|folder| write_weights(folder, &["a", "b"]), &["no tensor"]),
        (&language, &["model_type `llama`", "supported for images", "squeezenet"]),
        (&detector, &["yolov8 that can detect", "expected one that can classify"]),
    ];
    let photo = sample(3);
    let mut failures = Vec::new();
    for (change, parts) in table {
        let folder = broken(change);
        let arguments = ["classify", folder.path().to_str().unwrap(), photo.to_str().unwrap()];
        let output = wginfer(&arguments).output().unwrap();
        failures.extend(expect_failure(&arguments, &output, 1, parts));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn requests_that_cannot_be_served_are_refused() {
    if common::gpu().is_none() {
        return;
    }
    let (model, photo) = (digits(), sample(3));
    let (model, photo) = (model.to_str().unwrap(), photo.to_str().unwrap());
    let llama = root().join("tests/goldens/llama2");
    let folder = tempfile::tempdir().unwrap();
    write_weights(folder.path(), &["a", "b"]);
    let unknown = folder.path();
    let one = ["classify", model, photo];
    let table: [(&[&str], i32, &[&str]); 22] = [
        (&["classify"], 2, &["the photo is missing"]),
        (&["classify", model], 2, &["is a model", "the photo is missing"]),
        (&["classify", "no/such/model", photo], 1, &["no such file or folder", "no/such/model"]),
        (&["classify", "no-such-org/no-such-model", photo], 1, &["hub cache"]),
        (&[&one[..], &["--arch", "lenet"]].concat(), 2, &["no architecture `lenet`", "resnet"]),
        (&[&one[..], &["--arch", "vgg"]].concat(), 1, &["no tensor", "names fit digits"]),
        (&[&one[..], &["--top", "0"]].concat(), 2, &["--top", "at least 1"]),
        (&[&one[..], &["--batch", "-1"]].concat(), 2, &["-1"]),
        (&[&one[..], &["--resize", "0"]].concat(), 2, &["--resize", "fit:640x640"]),
        (&[&one[..], &["--crop", "20000"]].concat(), 2, &["--crop", "1 to 16384"]),
        (&[&one[..], &["--filter", "cubic"]].concat(), 2, &["--filter", "bicubic"]),
        (&[&one[..], &["--channels", "cmyk"]].concat(), 2, &["--channels", "rgb, bgr or gray"]),
        (&[&one[..], &["--std", "0"]].concat(), 2, &["--std", "above 0"]),
        (&[&one[..], &["--mean", "1,2"]].concat(), 2, &["--mean", "three"]),
        (&[&one[..], &["--channels", "rgb"]].concat(), 1, &["digits takes images of 1 channels"]),
        (&[&one[..], &["--resize", "32"]].concat(), 1, &["digits takes images of 28 x 28 pixels"]),
        (&[&one[..], &["--labels", "no-such-file"]].concat(), 1, &["no-such-file"]),
        (&[&one[..], &["--memory-budget", "10K"]].concat(), 1, &["needs", "budget is 10240 bytes"]),
        (
            &[&one[..], &["--logits", "no/such/folder/x.npy"]].concat(),
            1,
            &["no/such/folder", "no such folder"],
        ),
        (&["info", llama.to_str().unwrap(), "--arch", "resnet"], 1, &["fit no known architecture"]),
        (&["info", unknown.to_str().unwrap()], 1, &["no config.json", "no known network for images"]),
        (&["generate", model, "text"], 1, &["wginfer_digits", "supported are llama"]),
    ];
    let mut failures = Vec::new();
    for (arguments, code, parts) in table {
        let output = wginfer(arguments).output().unwrap();
        failures.extend(expect_failure(arguments, &output, code, parts));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Without labels classes are numbered, and the output says so; a file of labels names them.
#[test]
fn missing_labels_are_no_obstacle() {
    if common::gpu().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let weights = root().join("tests/goldens/vision/squeezenet1_1/model.safetensors");
    std::fs::copy(weights, folder.path().join("model.safetensors")).unwrap();
    let (model, photo) = (folder.path().to_str().unwrap(), sample(3));
    let classes = succeed_json(&["info", model, "--json"])["classes"].as_u64().unwrap();
    let arguments = ["classify", model, photo.to_str().unwrap()];
    let shown = succeed(&arguments);
    assert!(shown.contains("has no labels") && shown.contains("(no label)"), "{shown}");
    let report = succeed_json(&[&arguments[..], &["--json"]].concat());
    let first = report["entries"][0]["index"].as_u64().unwrap();
    assert_eq!(report["entries"][0]["label"], Value::Null);
    // Characters that steer terminals are not passed on.
    let names: Vec<String> = (0..classes).map(|class| format!("n00000000 the \u{1b}[31m{class}")).collect();
    write(folder.path(), "names.txt", &names.join("\n"));
    let file = folder.path().join("names.txt");
    let arguments = [&arguments[..], &["--labels", file.to_str().unwrap()]].concat();
    let shown = succeed(&arguments);
    assert!(shown.contains(&format!("the \u{fffd}[31m{first}\n")) && !shown.contains("no label"), "{shown}");
    write(folder.path(), "names.txt", "one\ntwo\n");
    let output = wginfer(&arguments).output().unwrap();
    assert_eq!(expect_failure(&arguments, &output, 1, &["names.txt", "2 labels", "classes"]), None);
}

#[test]
fn info_tells_architecture_preprocessing_and_memory() {
    if common::gpu().is_none() {
        return;
    }
    let model = digits();
    let model = model.to_str().unwrap();
    let info = succeed_json(&["info", model, "--json"]);
    assert_eq!(
        (&info["family"], &info["task"], &info["classes"]),
        (&json!("digits"), &json!("classify"), &json!(10))
    );
    assert_eq!((&info["parameters"], &info["problem"]), (&json!(93_322), &Value::Null));
    assert_eq!(info["preprocessing"], "centre square, resized to 28x28 (bilinear), gray, (x / 255 - 0) / 1");
    let planned = info["memory"]["total"].as_u64().unwrap();
    let report = succeed_json(&["classify", model, sample(0).to_str().unwrap(), "--json"]);
    let used = report["gpu_bytes"].as_u64().unwrap();
    // Resizing has buffers of its own.
    assert!(used >= planned && used < planned + 100_000, "planned {planned}, used {used}");
    assert_eq!(report["preprocessing"], info["preprocessing"]);
    let flags = ["--filter", "box", "--scale", "1/127.5", "--mean", "-1", "--std", "2", "--square", "false"];
    let shown = succeed(&[&["info", model, "--batch", "3"], &flags[..]].concat());
    let wanted = "preprocessing  resized to 28x28 (box), gray, (x * 0.007843 - -1) / 2";
    assert!(shown.contains(wanted) && shown.contains("3 photos of 28x28"), "{shown}");
    assert!(shown.contains("digits") && shown.contains("93.3 thousand") && shown.contains("F16"), "{shown}");
    // One file of weights is enough.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weights.safetensors");
    std::fs::copy(digits().join("model.safetensors"), &file).unwrap();
    let info = succeed_json(&["info", file.to_str().unwrap(), "--json"]);
    assert_eq!((&info["family"], &info["labels"]), (&json!("digits"), &json!(10)));
}

/// Ctrl-C ends the work after the photos that are done: they stay shown.
#[cfg(unix)]
#[test]
fn ctrl_c_stops_cleanly() {
    use std::io::Read;
    use std::process::{Command, Stdio};
    if common::gpu().is_none() {
        return;
    }
    let photos = vec![sample(3); 20_000];
    let mut command = wginfer(&[&["classify"], &words(&photos)[..]].concat());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut output = child.stdout.take().unwrap();
    let mut shown = vec![0; 300];
    output.read_exact(&mut shown).unwrap();
    let sent = Command::new("sh").arg("-c").arg(format!("kill -INT {}", child.id())).status().unwrap();
    assert!(sent.success());
    output.read_to_end(&mut shown).unwrap();
    let ended = child.wait_with_output().unwrap();
    let shown = text(&shown).matches("digit_3.png (28x28)").count();
    assert!((1..20_000).contains(&shown), "{shown}");
    assert_eq!(ended.status.code(), Some(130), "{}", text(&ended.stderr));
    assert!(text(&ended.stderr).contains(&format!("{shown} photo")), "{}", text(&ended.stderr));
}

/// Photos of ../shared: the goldens' labels, with the stored f16 weights and with f32.
#[test]
fn shared_photos_get_their_golden_labels() {
    let Some(shared) = common::shared() else { return };
    if common::gpu().is_none() {
        return;
    }
    let models = shared.join("models");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("logits.npy");
    let mut failures = Vec::new();
    for (model, dtype) in [
        ("squeezenet1_1", "f16"),
        ("squeezenet1_1", "f32"),
        ("mobilenet_v2", "f16"),
        ("mobilenet_v2", "f32"),
        ("mobilenet_v1_025_128", "f16"),
        ("mobilenet_v1_025_128", "f32"),
    ] {
        let path = models.join(model);
        let golden: Vec<Value> =
            serde_json::from_slice(&std::fs::read(path.join("golden_top5.json")).unwrap()).unwrap();
        let names = common::npz_strings(&path.join("golden.npz"), "names");
        let logits = common::npz(&path.join("golden.npz"), "logits").unwrap();
        let photos: Vec<PathBuf> = names.iter().map(|name| models.join("photos").join(name)).collect();
        let options = ["--json", "--dtype", dtype, "--logits", file.to_str().unwrap()];
        let arguments = [&["classify", path.to_str().unwrap()], &words(&photos)[..], &options].concat();
        let report = succeed_json(&arguments);
        let entries = report["entries"].as_array().unwrap();
        assert_eq!(entries.len(), 5 * names.len());
        let classes = logits.len() / names.len();
        assert_eq!(read_npy(&file, classes).len(), names.len());
        for ((top, golden), logits) in entries.chunks(5).zip(&golden).zip(logits.chunks(classes)) {
            let name = golden["photo"].as_str().unwrap();
            assert!(top[0]["file"].as_str().unwrap().ends_with(name));
            let index = |entry: &Value| usize::try_from(entry["index"].as_u64().unwrap()).unwrap();
            let (best, wanted) = (&top[0], &golden["top5"][0]);
            // Where a class has several names, config.json has the first.
            let labels = [wanted, best].map(|entry| entry["label"].as_str().unwrap());
            if best["index"] != wanted["index"] || !labels[0].starts_with(labels[1]) {
                failures.push(format!("{model} {dtype} {name}: got {best}, want {wanted}"));
            }
            let mut sorted = logits.to_vec();
            sorted.sort_by(|a, b| b.total_cmp(a));
            // Another order only where the golden logits are as good as equal.
            for (entry, best) in top.iter().zip(sorted) {
                let gap = best - logits[index(entry)];
                if gap >= 0.1 {
                    failures.push(format!("{model} {dtype} {name}: {entry} is {gap} below its place"));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

//! The `wginfer` program as its users see it: outputs, messages and exit codes.
#![cfg(feature = "cli")]

mod common;
#[path = "common/program.rs"]
mod program;

use program::{
    change_config, change_weights, expect_failure, run_with, succeed, succeed_json, text, wginfer, write,
};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The small random Llama whose context is 64 tokens and whose vocabulary has 131.
fn small_model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/llama2")
}

/// A copy of a model with one thing wrong.
fn broken(change: impl FnOnce(&Path)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(small_model().join(file), folder.path().join(file)).unwrap();
    }
    change(folder.path());
    folder
}

/// A tokenizer of three words that adds no special tokens.
const WORDS: &str = r#"{"version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "Whitespace"},
    "model": {"type": "WordLevel", "vocab": {"zero": 0, "one": 1, "two": 2}, "unk_token": "zero"}}"#;

#[test]
fn broken_models_are_refused_with_reasons() {
    if common::gpu().is_none() {
        return;
    }
    let truncated = |folder: &Path| {
        let bytes = std::fs::read(folder.join("model.safetensors")).unwrap();
        std::fs::write(folder.join("model.safetensors"), &bytes[..100_000]).unwrap();
    };
    let misfit = |folder: &Path| {
        change_weights(folder, |header, _| {
            let norm = header.remove("model.norm.weight").unwrap();
            header.insert("model.extra.weight".into(), norm);
            header["model.layers.0.mlp.up_proj.weight"]["shape"] = json!([48, 88]);
        });
    };
    let pickled = |folder: &Path| {
        std::fs::rename(folder.join("model.safetensors"), folder.join("pytorch_model.bin")).unwrap();
    };
    let nan = |folder: &Path| {
        change_weights(folder, |_, data| data[400..404].copy_from_slice(&f32::NAN.to_le_bytes()));
    };
    let half_a_config = |folder: &Path| write(folder, "config.json", r#"{"model_type": "llama", "hidden_"#);
    let no_word = |folder: &Path| write(folder, "tokenizer.json", WORDS);
    type Change<'a> = &'a dyn Fn(&Path);
    let table: [(Change<'_>, &[&str]); 12] = [
        (
            &|folder| std::fs::remove_file(folder.join("config.json")).unwrap(),
            &["config.json", "no such file"],
        ),
        (&truncated, &["model.safetensors"]),
        (
            &misfit,
            &[
                "3 tensors do not fit",
                "model.norm.weight",
                "model.extra.weight",
                "up_proj",
                "[88, 48]",
                "[48, 88]",
            ],
        ),
        (
            &|folder| change_config(folder, "model_type", json!("mamba")),
            &["mamba", "supported", "llama", "gpt2"],
        ),
        (&half_a_config, &["config.json", "not valid JSON"]),
        (&|folder| change_config(folder, "num_hidden_layers", json!("two")), &["num_hidden_layers"]),
        (&|folder| change_config(folder, "hidden_size", json!(1e300)), &["hidden_size"]),
        (&|folder| write(folder, "tokenizer.json", "{"), &["tokenizer.json", "not a valid tokenizer.json"]),
        (&|folder| write(folder, "tokenizer.json", r#"{"model": {"type": "BPE"}}"#), &["tokenizer.json"]),
        (&pickled, &["pytorch_model.bin", "convert"]),
        (&nan, &["1 weights are NaN or infinite"]),
        (&no_word, &["the prompt has no token"]),
    ];
    let mut failures = Vec::new();
    for (change, parts) in table {
        let folder = broken(change);
        let arguments = ["generate", folder.path().to_str().unwrap(), ""];
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
    let model = small_model();
    let model = model.to_str().unwrap();
    let long = vec!["5"; 65].join(",");
    let ids = ["generate", model, "--prompt-ids"];
    let table: [(&[&str], &[&str]); 14] = [
        (&["generate", "no/such/folder", "x"], &["no such file or folder", "no/such/folder"]),
        (&["generate", "no-such-org/no-such-model", "x"], &["hub cache"]),
        (&[&ids[..], &[&long]].concat(), &["65 tokens do not fit in the context of 64"]),
        (&[&ids[..], &["3,131"]].concat(), &["token id 131 is outside the vocabulary of 131"]),
        (&[&ids[..], &["3", "--ctx", "65"]].concat(), &["context of 65 tokens", "64"]),
        (&[&ids[..], &["3", "--ctx", "0"]].concat(), &["context must be at least 1"]),
        (
            &[&ids[..], &["3", "--memory-budget", "100K"]].concat(),
            &["needs", "memory budget is 102400 bytes"],
        ),
        (
            &[&ids[..], &["3", "--adapter", "no such card"]].concat(),
            &["no adapter matches `no such card`", "0: "],
        ),
        (&["generate", model, "text"], &["no tokenizer.json"]),
        (&["chat", model], &["no chat template", "--fallback plain"]),
        (&["score", model, "no-such-file.txt"], &["no-such-file.txt"]),
        (&["score", model, "--prompt-ids", "5"], &["at least 2 tokens"]),
        (
            &["score", model, "--prompt-ids", "5,6,7", "--ctx", "2", "--stride", "2"],
            &["stride must be 1 to 1"],
        ),
        (&["info", &format!("{model}/config.json")], &["config.json"]),
    ];
    let mut failures = Vec::new();
    for (arguments, parts) in table {
        let output = wginfer(arguments).output().unwrap();
        failures.extend(expect_failure(arguments, &output, 1, parts));
    }
    let arguments = ["generate", model, "-"];
    let output = run_with(&arguments, b"good \xff bad");
    failures.extend(expect_failure(&arguments, &output, 1, &["standard input", "UTF-8", "offset 5"]));
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn wrong_usage_exits_with_2() {
    let model = small_model();
    let model = model.to_str().unwrap();
    let table: [(&[&str], &[&str]); 15] = [
        (&["generate"], &["the prompt is missing"]),
        (&["generate", model], &["is a model: the prompt is missing"]),
        (&["generate", model, "text", "--prompt-ids", "1"], &["given twice", "--prompt-ids"]),
        (&["generate", "x", "--prompt-ids", "1,x"], &["token ids", "`x`"]),
        (&["generate", "x", "--temperature", "-1"], &["`temperature` must be", "-1"]),
        (&["generate", "x", "--top-p", "1.5"], &["`top_p` must be from 0 to 1, got 1.5"]),
        (&["generate", "x", "--min-p", "nan"], &["`min_p`"]),
        (&["generate", "x", "--repeat-penalty", "0"], &["`repetition_penalty`"]),
        (&["generate", "x", "--max-tokens", "0"], &["--max-tokens", "at least 1"]),
        (&["generate", "x", "--dtype", "f64"], &["--dtype", "f32", "bf16"]),
        (&["generate", "x", "--memory-budget", "lots"], &["--memory-budget", "512M"]),
        (&["generate", "x", "--stop", ""], &["--stop"]),
        (&["generate", "x", "--no-such-flag"], &["--no-such-flag"]),
        (&["doctor", "--only", "no_such_op"], &["no_such_op", "rms_norm"]),
        (&["info", "--slots", "33"], &["--slots", "1 to 32"]),
    ];
    let mut failures = Vec::new();
    for (arguments, parts) in table {
        let output = wginfer(arguments).output().unwrap();
        failures.extend(expect_failure(arguments, &output, 2, parts));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn the_bundled_model_tells_and_scores() {
    if common::gpu().is_none() {
        return;
    }
    let arguments = ["generate", "Once upon a time", "--max-tokens", "12", "--seed", "3"];
    let streamed = wginfer(&arguments).current_dir(std::env::temp_dir()).output().unwrap();
    assert!(streamed.status.success() && text(&streamed.stdout).len() > 10, "{streamed:?}");
    let notes = text(&streamed.stderr);
    for part in ["adapter: ", "loaded in", "first token after", "tokens/s", "on the GPU"] {
        assert!(notes.contains(part), "{part}: {notes}");
    }
    assert_eq!(notes.matches("adapter: ").count(), 1, "{notes}");
    // The same seed gives the same text, also from standard input and as JSON.
    let output =
        run_with(&["generate", "-", "--max-tokens", "12", "--seed", "3", "--json"], b"Once upon a time\n");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["text"].as_str().unwrap().trim_end(), text(&streamed.stdout).trim_end());
    assert_eq!((&report["seed"], &report["finish_reason"]), (&json!(3), &json!("max_tokens")));
    assert_eq!(report["ids"].as_array().unwrap().len(), 12);
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
    let chat =
        run_with(&["chat", "--fallback", "plain", "--max-tokens", "4", "-q"], b"Hello\n\xff\n\n/exit\nno\n");
    assert!(chat.status.success() && !chat.stdout.is_empty(), "{chat:?}");
    assert!(text(&chat.stderr).contains("UTF-8"), "{}", text(&chat.stderr));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("story.txt");
    std::fs::write(&file, "Once upon a time there was a king. ".repeat(8)).unwrap();
    let score = succeed_json(&[
        "score",
        file.to_str().unwrap(),
        "--ctx",
        "32",
        "--stride",
        "8",
        "--tokens",
        "--json",
    ]);
    let nll = score["nll"].as_array().unwrap();
    assert!(nll.len() > 60 && score["tokens"] == json!(nll.len() + 1), "{score}");
    assert_eq!((&score["context"], &score["stride"]), (&json!(32), &json!(8)));
    let mean = nll.iter().map(|value| value.as_f64().unwrap()).sum::<f64>() / nll.len() as f64;
    assert!((score["mean_nll"].as_f64().unwrap() - mean).abs() < 1e-9 && mean < 5.0, "{score}");
    assert!((score["perplexity"].as_f64().unwrap() - mean.exp()).abs() < 1e-6);
}

#[test]
fn info_plans_what_loading_takes() {
    if common::gpu().is_none() {
        return;
    }
    let info = succeed_json(&["info", "--json"]);
    assert_eq!(
        (&info["family"], &info["layers"], &info["problem"]),
        (&json!("llama"), &json!(6), &Value::Null)
    );
    assert_eq!(info["stored"][0]["dtype"], "F16");
    assert_eq!(info["tokenizer"]["tokens"], info["vocab_size"]);
    let parameters = info["parameters"].as_u64().unwrap();
    assert!((5_000_000..6_000_000).contains(&parameters), "{parameters}");
    let planned = info["memory"]["total"].as_u64().unwrap();
    let loaded = succeed_json(&["generate", "Once", "--max-tokens", "2", "--json"]);
    let used = loaded["gpu_bytes"].as_u64().unwrap();
    assert!(used >= planned && used < planned + planned / 10 + 100_000, "planned {planned}, used {used}");
    let wide = succeed_json(&["info", "--json", "--dtype", "f32", "--slots", "4", "--ctx", "256"]);
    assert_eq!((&wide["device_dtypes"], &wide["context"]), (&json!(["f32"]), &json!(256)));
    assert!(wide["memory"]["weights"].as_u64() > info["memory"]["weights"].as_u64());
    let folder = broken(|folder| {
        change_weights(folder, |header, _| {
            let norm = header.remove("model.norm.weight").unwrap();
            header.insert("model.extra.weight".into(), norm);
        });
    });
    let arguments = ["info", folder.path().to_str().unwrap()];
    let output = wginfer(&arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("llama"));
    assert!(text(&output.stderr).contains("error: ") && text(&output.stderr).contains("model.extra.weight"));
}

#[test]
fn adapters_and_doctor_report() {
    if common::gpu().is_none() {
        return;
    }
    let adapters = succeed_json(&["adapters", "--json"]);
    assert!(adapters[0]["name"].is_string() && adapters[0]["index"] == 0, "{adapters}");
    assert!(succeed(&["adapters"]).contains(adapters[0]["name"].as_str().unwrap()));
    let report =
        succeed_json(&["doctor", "--only", "rms_norm", "--form", "plain", "--form", "software", "--json"]);
    let rows = report["rows"].as_array().unwrap();
    assert_eq!((rows.len(), &report["passed"]), (2, &json!(true)), "{report}");
    for (row, form) in rows.iter().zip(["plain", "software"]) {
        assert_eq!((&row["op"], &row["form"], &row["failed"]), (&json!("rms_norm"), &json!(form), &json!(0)));
        assert!(row["cases"].as_u64().unwrap() > 0 && row["worst"].as_f64().unwrap() <= 1.0, "{row}");
        assert!(row["milliseconds"].as_f64().unwrap() > 0.0 && row["first_failure"].is_null(), "{row}");
    }
    let version = succeed(&["--version"]);
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
}

/// The Vulkan loader finds no driver: one sentence says what to install, and `info` still works.
#[cfg(target_os = "linux")]
#[test]
fn without_an_adapter_the_driver_is_named() {
    let run = |arguments: &[&str]| {
        let no_driver = |name| (name, "/no-such-driver.json");
        let mut command = wginfer(arguments);
        command.envs(["VK_DRIVER_FILES", "VK_ICD_FILENAMES"].map(no_driver)).env_remove("WGINFER_ADAPTER");
        command.output().unwrap()
    };
    for arguments in [&["adapters"][..], &["generate", "x"], &["doctor"]] {
        let parts = ["no GPU adapter found", "mesa-vulkan-drivers"];
        let output = run(arguments);
        assert_eq!(expect_failure(arguments, &output, 1, &parts), None);
        assert_eq!(text(&output.stderr).lines().count(), 1, "{}", text(&output.stderr));
    }
    let output = run(&["info", "--json"]);
    let info: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(output.status.success() && info["adapter"].is_null() && info["layers"] == 6, "{info}");
}

#[test]
fn a_closed_pipe_ends_quietly() {
    if common::gpu().is_none() {
        return;
    }
    let mut command = wginfer(&["generate", "Once upon a time", "--max-tokens", "400", "-q"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
}

/// Ctrl-C ends the text, not the program's manners: what was made is there, with its statistics.
#[cfg(unix)]
#[test]
fn ctrl_c_stops_cleanly() {
    use std::io::Read;
    if common::gpu().is_none() {
        return;
    }
    let mut command = wginfer(&["generate", "Once upon a time", "--max-tokens", "500"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 1];
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    let sent = Command::new("sh").arg("-c").arg(format!("kill -INT {}", child.id())).status().unwrap();
    assert!(sent.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("loaded in") && output.stdout.ends_with(b"\n"));
}

/// Real models from ../shared: the goldens' token ids through the command line.
#[test]
fn shared_models_give_their_goldens() {
    let Some(shared) = common::shared() else { return };
    if common::gpu().is_none() {
        return;
    }
    let models = shared.join("models");
    let golden = |model: &str| -> Value {
        serde_json::from_slice(&std::fs::read(models.join(model).join("golden.json")).unwrap()).unwrap()
    };
    let join =
        |ids: &Value| ids.as_array().unwrap().iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    // The goldens' outputs begin with the prompt.
    let rest = |case: &Value| {
        let (prompt, all) = (case["prompt_ids"].as_array().unwrap(), case["output_ids"].as_array().unwrap());
        Value::from(all[prompt.len()..].to_vec())
    };
    let stories = golden("stories260k");
    let folder = models.join("stories260k");
    let folder = folder.to_str().unwrap();
    for case in [&stories["cases"][0], &stories["cases"][6]] {
        let (prompt, ids) = (case["prompt"].as_str().unwrap(), rest(case));
        let count = ids.as_array().unwrap().len().to_string();
        let report = succeed_json(&["generate", folder, prompt, "--max-tokens", &count, "--json"]);
        assert_eq!((&report["prompt_ids"], &report["ids"]), (&case["prompt_ids"], &ids), "{prompt:?}");
        let whole = format!("{prompt}{}", report["text"].as_str().unwrap());
        assert_eq!(whole.trim_start(), case["text"].as_str().unwrap());
        for figure in ["load_s", "first_token_s", "prompt_tokens_per_s", "decode_tokens_per_s", "gpu_bytes"] {
            assert!(report[figure].as_f64().unwrap() > 0.0, "{figure}: {report}");
        }
    }
    let tokens = std::fs::read(models.join("text/golden_tokens.json")).unwrap();
    for tokens in serde_json::from_slice::<Vec<Value>>(&tokens).unwrap() {
        let ids = join(&Value::from(tokens["stories260k_ids"].as_array().unwrap()[..512].to_vec()));
        let score = succeed_json(&["score", folder, "--prompt-ids", &ids, "--tokens", "--json"]);
        let near = |got: &Value, want: &Value| (got.as_f64().unwrap() - want.as_f64().unwrap()).abs() < 1e-3;
        assert_eq!((&score["tokens"], &score["scored_tokens"]), (&json!(512), &json!(511)));
        assert!(near(&score["mean_nll"], &tokens["stories260k_mean_nll_first_512"]), "{}", score["mean_nll"]);
        let first = tokens["nll_first_8"].as_array().unwrap();
        for (got, want) in score["nll"].as_array().unwrap().iter().zip(first) {
            assert!(near(got, want), "{got} {want}");
        }
    }
    let planner = golden("gpt2_capp");
    let folder = models.join("gpt2_capp");
    let folder = folder.to_str().unwrap();
    for dtype in ["f32", "f16"] {
        let case = &planner["cases"][0];
        let ids = join(&case["prompt_ids"]);
        let output =
            succeed(&["generate", folder, "--prompt-ids", &ids, "--temperature", "0", "--dtype", dtype]);
        assert_eq!(output.trim(), join(&rest(case)), "{dtype}");
    }
}

//! Running the `wginfer` program, and breaking the files of models.
#![allow(dead_code, reason = "each test file uses a part of this")]

use serde_json::{Map, Value};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

pub(crate) fn wginfer(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wginfer"));
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // Mesa complains on standard error without it.
        command.env("XDG_RUNTIME_DIR", std::env::temp_dir());
    }
    // With feature `hub` a model that is not here would be asked for on the network.
    command.env("HF_HUB_OFFLINE", "1");
    // What is measured on this machine is no part of tests.
    command.env("WGINFER_TUNING", "off");
    // What this machine's kernels do is for other tests to say.
    command.env("WGINFER_SELF_CHECK", "off");
    // Nor is anything kept from one test for others.
    command.env("WGINFER_PIPELINE_CACHE", "off");
    command.args(arguments).env_remove("RUST_LOG").env_remove("WGINFER_MODEL").stdin(Stdio::null());
    command
}

/// Runs with bytes on standard input.
pub(crate) fn run_with(arguments: &[&str], input: &[u8]) -> Output {
    let mut command = wginfer(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A program that fails before it reads closes the pipe.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Standard output of a run that must succeed.
pub(crate) fn succeed(arguments: &[&str]) -> String {
    let output = wginfer(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout).to_owned()
}

pub(crate) fn succeed_json(arguments: &[&str]) -> Value {
    serde_json::from_str(&succeed(arguments)).unwrap()
}

/// Checks exit code and message of a run that must fail; its message must be one error.
pub(crate) fn expect_failure(
    arguments: &[&str],
    output: &Output,
    code: i32,
    parts: &[&str],
) -> Option<String> {
    let message = String::from_utf8_lossy(&output.stderr);
    let missing: Vec<&&str> = parts.iter().filter(|part| !message.contains(**part)).collect();
    let errors = message.matches("error: ").count();
    let good = output.status.code() == Some(code) && missing.is_empty() && errors == 1;
    let clean = output.stdout.is_empty() && !message.contains("panicked");
    (!good || !clean).then(|| {
        let (got, stdout) = (output.status.code(), String::from_utf8_lossy(&output.stdout));
        format!("{arguments:?}: exit {got:?}, want {code}; lacks {missing:?}\n{stdout}{message}")
    })
}

pub(crate) fn change_config(folder: &Path, key: &str, value: Value) {
    let path = folder.join("config.json");
    let mut config: Map<String, Value> = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config.insert(key.into(), value);
    std::fs::write(path, serde_json::to_vec(&config).unwrap()).unwrap();
}

/// Changes header and data of model.safetensors.
pub(crate) fn change_weights(folder: &Path, change: impl FnOnce(&mut Map<String, Value>, &mut Vec<u8>)) {
    let path = folder.join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let length = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let mut header: Map<String, Value> = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let mut data = bytes[8 + length..].to_vec();
    change(&mut header, &mut data);
    let header = serde_json::to_vec(&header).unwrap();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    bytes.extend(data);
    std::fs::write(path, bytes).unwrap();
}

pub(crate) fn write(folder: &Path, file: &str, content: &str) {
    std::fs::write(folder.join(file), content).unwrap();
}

//! Rules of the code base that compilers do not check: who imports whom, sizes of files and
//! functions, one place per operator and shader, where `unsafe` may stand. Reads the files only.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Who may import whom. A module may use those of its line; imports never form a circle because
/// every module comes after those that it uses.
const IMPORTS: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("cancel", &[]),
    ("tensor", &["error"]),
    // Folders of the user.
    ("folders", &["error"]),
    // Objects of JSON files, read with errors that name the file.
    ("json", &["error"]),
    ("kernel", &["error", "tensor"]),
    ("ops", &["error", "tensor", "kernel"]),
    ("graph", &["error", "tensor", "kernel", "ops"]),
    // Records what ran: nodes with their operators, spans on the host.
    ("profile", &["error", "tensor", "kernel", "ops"]),
    // Blocks name the operators that they are made of.
    ("nn", &["error", "tensor", "ops", "graph"]),
    // Besides blocks: the names of functions (`UnaryFn`), and JSON for the published configuration.
    ("models", &["error", "tensor", "json", "ops", "graph", "nn"]),
    // Files of measured choices.
    ("tuning", &["error", "folders", "json", "kernel"]),
    // What the self-check of kernels found, in files.
    ("self_check", &["error", "folders", "json"]),
    ("gpu", &["error", "folders", "tensor", "kernel", "graph", "profile", "tuning", "self_check"]),
    ("session", &["error", "tensor", "kernel", "ops", "graph", "profile", "self_check", "gpu"]),
    ("weights", &["error", "folders", "tensor", "json"]),
    // The weights of a file as a session reads them: the bridge between the two.
    ("checkpoint", &["error", "tensor", "graph", "nn", "session", "weights"]),
    // Types of elements in ONNX models, which converted models keep.
    ("element", &["error", "tensor"]),
    // Graphs in files.
    ("saved", &["error", "tensor", "json", "kernel", "ops", "graph", "gpu", "session", "weights", "element"]),
    // Nodes of a file become nodes of graphs, which are run as they are built.
    ("onnx", &["error", "tensor", "kernel", "ops", "graph", "gpu", "session", "weights", "element", "saved"]),
    // Runs the case table of the operators on a device.
    ("doctor", &["error", "cancel", "tensor", "kernel", "ops", "gpu", "session"]),
    (
        "text",
        &[
            "error",
            "cancel",
            "tensor",
            "json",
            "kernel",
            "ops",
            "graph",
            "nn",
            "models",
            "gpu",
            "session",
            "weights",
            "checkpoint",
            "onnx",
        ],
    ),
    (
        "vision",
        &[
            "error",
            "cancel",
            "tensor",
            "json",
            "kernel",
            "ops",
            "graph",
            "nn",
            "models",
            "gpu",
            "session",
            "weights",
            "checkpoint",
        ],
    ),
    // Measures kernels at the shapes of models, text generation and networks for images; nothing
    // imports it.
    (
        "bench",
        &[
            "error",
            "cancel",
            "tensor",
            "json",
            "kernel",
            "ops",
            "graph",
            "nn",
            "models",
            "profile",
            "gpu",
            "session",
            "weights",
            "checkpoint",
            "onnx",
            "text",
        ],
    ),
];

/// Modules without device and I/O.
const PURE: &[&str] = &["tensor", "kernel", "ops", "graph", "nn"];

/// Files that may use `unsafe`.
const UNSAFE: &[&str] = &[
    "src/gpu/adapter.rs",
    "src/gpu/cache.rs",
    "src/gpu/pipeline.rs",
    "src/weights/safetensors.rs",
    "tests/onnx_weights.rs",
];

/// Outside of src/gpu, the test that plays the host application makes its own device.
const NAMES_WGPU: &[&str] = &["tests/host_device.rs"];

const FILE_LINES: usize = 600;
const SHADER_LINES: usize = 300;
const EXAMPLE_LINES: usize = 150;
const FUNCTION_LINES: usize = 60;
const SHADER_SWITCHES: usize = 3;

struct File {
    /// Path below the root, with slashes.
    path: String,
    text: String,
}

impl File {
    /// The text without the tests module at its end.
    fn without_tests(&self) -> &str {
        self.text.find("#[cfg(test)]\nmod tests {").map_or(&self.text, |end| &self.text[..end])
    }

    /// Lines of code with their numbers, without tests and comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.without_tests().lines().enumerate().map(|(index, line)| (index + 1, line));
        lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// Name of the file without folder and ending.
    fn stem(&self) -> &str {
        let name = self.path.rsplit('/').next().expect("a path has a last part");
        name.split('.').next().expect("a name has a first part")
    }
}

/// All text files of these folders (or single files) whose name ends so, sorted.
fn files(places: &[&str], endings: &[&str]) -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut waiting: Vec<PathBuf> = places.iter().map(|place| root.join(place)).collect();
    let mut found = Vec::new();
    while let Some(place) = waiting.pop() {
        if place.is_dir() {
            let entries = std::fs::read_dir(&place).unwrap();
            waiting.extend(entries.map(|entry| entry.unwrap().path()));
            continue;
        }
        let ending = place.extension().unwrap_or_default().to_string_lossy().into_owned();
        if !place.exists() || !endings.contains(&ending.as_str()) {
            continue;
        }
        let path = place.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
        found.push(File { path, text: std::fs::read_to_string(&place).unwrap() });
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!found.is_empty(), "no files in {places:?}");
    found
}

fn rust(places: &[&str]) -> Vec<File> {
    files(places, &["rs"])
}

fn library() -> Vec<File> {
    let mut found = rust(&["src", "models"]);
    found.retain(|file| !file.path.starts_with("src/bin/"));
    found
}

fn shaders() -> Vec<File> {
    files(&["shaders"], &["wgsl"])
}

fn assert_none(failures: &[String]) {
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// The top-level module that a file of the library belongs to: `None` for lib.rs.
fn module_of(path: &str) -> Option<&str> {
    if path.starts_with("models/") {
        return Some("models");
    }
    let below = path.strip_prefix("src/")?;
    let first = below.split('/').next()?;
    let name = first.strip_suffix(".rs").unwrap_or(first);
    (name != "lib").then_some(name)
}

/// Depth of a file's module below its top-level module, 0 for the latter itself.
fn depth(path: &str) -> usize {
    let below = path.strip_prefix("src/").unwrap_or(path);
    let parts = below.split('/').count() - 1;
    if below.ends_with("/mod.rs") { parts - 1 } else { parts }
}

/// The top-level names behind each `crate::` of a text: one, or those of a list in braces.
fn imported(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (start, _) in text.match_indices("crate::") {
        let rest = &text[start + "crate::".len()..];
        let is_name = |letter: char| letter.is_alphanumeric() || letter == '_';
        let first_name = |part: &str| part.trim().split(|l| !is_name(l)).next().unwrap_or("").to_owned();
        match rest.strip_prefix('{') {
            None => drop(names.insert(first_name(rest))),
            Some(list) => {
                let (mut level, mut part) = (0, String::new());
                for letter in list.chars() {
                    match letter {
                        '{' => level += 1,
                        '}' if level == 0 => break,
                        '}' => level -= 1,
                        ',' if level == 0 => drop(names.insert(first_name(&std::mem::take(&mut part)))),
                        _ if level == 0 => part.push(letter),
                        _ => {}
                    }
                }
                names.insert(first_name(&part));
            }
        }
    }
    names.remove("");
    names
}

#[test]
fn modules_import_only_those_below_them() {
    let allowed: BTreeMap<&str, &[&str]> = IMPORTS.iter().copied().collect();
    for (position, (module, imports)) in IMPORTS.iter().enumerate() {
        let before: Vec<&str> = IMPORTS[..position].iter().map(|(name, _)| *name).collect();
        assert!(imports.iter().all(|name| before.contains(name)), "{module} comes before what it imports");
    }
    let mut failures = Vec::new();
    for file in library() {
        let Some(module) = module_of(&file.path) else { continue };
        let Some(imports) = allowed.get(module) else {
            failures.push(format!("{}: the table of imports lacks `{module}`", file.path));
            continue;
        };
        let code: Vec<&str> = file.code().map(|(_, line)| line).collect();
        for name in imported(&code.join("\n")) {
            // The names that lib.rs gives to the root.
            let name = match name.as_str() {
                "Error" | "Result" => "error",
                "CancelToken" => "cancel",
                other => other,
            };
            if name != module && !imports.contains(&name) {
                failures.push(format!("{}: `{module}` must not import `{name}`", file.path));
            }
        }
    }
    assert_none(&failures);
}

/// `super::` would go round the table.
#[test]
fn nothing_is_imported_from_above_a_top_level_module() {
    let mut failures = Vec::new();
    for file in library().iter().filter(|file| module_of(&file.path).is_some()) {
        let most = "super::".repeat(depth(&file.path) + 1);
        for (number, line) in file.code().filter(|(_, line)| line.contains(&most)) {
            failures.push(format!("{}:{number}: leaves its module: {line}", file.path));
        }
    }
    assert_none(&failures);
}

#[test]
fn import_lists_are_read() {
    let names = imported("use crate::{Error, a::{B, c::D}, e};\nuse crate::f::G;\nfn x() -> crate::h::I {}");
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["Error", "a", "e", "f", "h"]);
    assert_eq!([depth("src/gpu/mod.rs"), depth("src/json.rs"), depth("src/ops/linear/cases.rs")], [0, 0, 2]);
}

#[test]
fn only_the_gpu_folder_names_wgpu() {
    let mut failures = Vec::new();
    for file in rust(&["src", "models", "examples", "tests", "benches"]) {
        let excepted = file.path.starts_with("src/gpu/") || NAMES_WGPU.contains(&file.path.as_str());
        if excepted || file.path == "tests/tidy.rs" {
            continue;
        }
        for (number, line) in file.code().filter(|(_, line)| line.contains("wgpu::")) {
            failures.push(format!("{}:{number}: names wgpu: {line}", file.path));
        }
    }
    assert_none(&failures);
}

#[test]
fn pure_modules_do_no_input_and_output_and_the_library_prints_nothing() {
    let mut failures = Vec::new();
    for file in library() {
        let pure = module_of(&file.path).is_some_and(|module| PURE.contains(&module));
        for (number, line) in file.code() {
            let does_io = ["std::fs", "std::io", "std::net", "std::env", "std::process", "std::thread"];
            if pure && does_io.iter().any(|name| line.contains(name)) {
                failures.push(format!("{}:{number}: a pure module does I/O: {line}", file.path));
            }
            if line.contains("println!") || line.contains("print!(") {
                failures.push(format!("{}:{number}: the library prints: {line}", file.path));
            }
        }
    }
    assert_none(&failures);
}

#[test]
fn files_are_short() {
    let mut failures = Vec::new();
    let mut check = |file: &File, limit: usize| {
        let lines = file.without_tests().lines().count();
        if lines > limit {
            failures.push(format!("{}: {lines} lines, at most {limit}", file.path));
        }
    };
    rust(&["src", "models", "tests", "benches"]).iter().for_each(|file| check(file, FILE_LINES));
    rust(&["examples"]).iter().for_each(|file| check(file, EXAMPLE_LINES));
    shaders().iter().for_each(|file| check(file, SHADER_LINES));
    assert_none(&failures);
}

/// rustfmt puts a function's closing brace in the column of its first line.
#[test]
fn functions_fit_a_screen() {
    let mut failures = Vec::new();
    for file in rust(&["src", "models", "examples"]) {
        let lines: Vec<(usize, &str)> = file.code().collect();
        for (index, (number, line)) in lines.iter().enumerate() {
            let text = line.trim_start();
            let starts = ["fn ", "pub ", "pub(", "const fn ", "async fn "];
            let is_function = starts.iter().any(|start| text.starts_with(start)) && text.contains("fn ");
            if !is_function || text.ends_with('}') || text.ends_with(';') {
                continue;
            }
            let closing = format!("{}}}", &line[..line.len() - text.len()]);
            let end = lines[index..].iter().find(|(_, line)| line.trim_end() == closing);
            let length = end.map_or(0, |(end, _)| end - number + 1);
            if length > FUNCTION_LINES {
                failures.push(format!("{}:{number}: {length} lines: {text}", file.path));
            }
        }
    }
    assert_none(&failures);
}

#[test]
fn every_operator_has_cases_and_the_table_lists_them() {
    let all = rust(&["src/ops"]);
    let table = all.iter().find(|file| file.path == "src/ops/cases.rs").expect("the table of cases");
    let mut failures = Vec::new();
    for file in all.iter().filter(|file| file.path.matches('/').count() == 2) {
        let folder = format!("src/ops/{}/", file.stem());
        let is_op = file.code().any(|(_, line)| line.starts_with("impl Op for "));
        let mut parts = all.iter().filter(|part| part.path == file.path || part.path.starts_with(&folder));
        let has_cases =
            parts.any(|part| part.code().any(|(_, line)| line.contains("fn cases() -> Vec<Case>")));
        if is_op && !has_cases {
            failures.push(format!("{}: has no function `cases`", file.path));
        }
        if is_op != table.text.contains(&format!("super::{}::cases,", file.stem())) {
            failures.push(format!("{}: operators, and only these, are in src/ops/cases.rs", file.path));
        }
    }
    assert_none(&failures);
}

#[test]
fn every_shader_belongs_to_one_operator_and_starts_with_a_comment() {
    let sources = library();
    let mut failures = Vec::new();
    let all = shaders();
    for shader in &all {
        let named = format!("/{}\")", shader.path);
        let users: Vec<&File> =
            sources.iter().filter(|file| file.code().any(|(_, line)| line.contains(&named))).collect();
        match users.as_slice() {
            [user] if shader.path.starts_with("shaders/lib/") => {
                let directive = format!("//# include \"{}\"", shader.path.trim_start_matches("shaders/"));
                if user.path != "src/kernel/template.rs" {
                    failures.push(format!("{}: is a shared piece, {} takes it", shader.path, user.path));
                } else if !all.iter().any(|other| other.text.contains(&directive)) {
                    failures.push(format!("{}: no shader includes it", shader.path));
                }
            }
            [user] if user.path.starts_with("src/ops/") => {}
            // Probes of what a device can do at best.
            [user] if shader.path.starts_with("shaders/bench/") && user.path.starts_with("src/bench/") => {}
            _ => {
                let users: Vec<&str> = users.iter().map(|file| file.path.as_str()).collect();
                failures.push(format!("{}: must belong to one operator, got {users:?}", shader.path));
            }
        }
        if !shader.text.starts_with("// ") {
            failures.push(format!("{}: must start with a comment", shader.path));
        }
        let switches = shader.text.lines().filter(|line| line.trim_start().starts_with("//# if")).count();
        if switches > SHADER_SWITCHES {
            failures.push(format!("{}: {switches} switches, at most {SHADER_SWITCHES}", shader.path));
        }
    }
    assert_none(&failures);
}

#[test]
fn unsafe_stands_only_where_the_list_says() {
    let mut failures = Vec::new();
    for file in rust(&["src", "models", "examples", "tests", "benches"]) {
        let words =
            |line: &str| line.split(|letter: char| !letter.is_alphanumeric()).any(|word| word == "unsafe");
        let uses = file.path != "tests/tidy.rs" && file.code().any(|(_, line)| words(line));
        if uses != UNSAFE.contains(&file.path.as_str()) {
            failures.push(format!("{}: uses `unsafe`: {uses}, the list says otherwise", file.path));
        }
    }
    assert_none(&failures);
}

#[test]
fn library_and_examples_do_not_unwrap() {
    let mut failures = Vec::new();
    for file in rust(&["src", "models", "examples"]) {
        for (number, line) in file.code().filter(|(_, line)| line.contains(".unwrap()")) {
            failures.push(format!("{}:{number}: {line}", file.path));
        }
    }
    assert_none(&failures);
}

/// Notes to oneself and paths of one machine do not belong in the repository.
#[test]
fn no_leftovers() {
    let endings = ["rs", "wgsl", "md", "toml", "py", "sh", ""];
    let places = [
        "src",
        "models",
        "shaders",
        "examples",
        "tests",
        "benches",
        "scripts",
        ".ci",
        "Cargo.toml",
        "README.md",
    ];
    let notes = ["todo", "fixme", "xxx", "hack"].map(str::to_uppercase);
    let macros = ["dbg", "todo"].map(|name| format!("{name}!"));
    let folders = ["home", "root", "work", "Users"].map(|name| format!("/{name}/"));
    let leftovers: Vec<String> = [&notes[..], &macros, &folders].concat();
    let mut failures = Vec::new();
    for file in &files(&places, &endings) {
        for (index, line) in file.text.lines().enumerate() {
            for leftover in leftovers.iter().filter(|leftover| line.contains(*leftover)) {
                failures.push(format!("{}:{}: {leftover}: {line}", file.path, index + 1));
            }
        }
    }
    assert_none(&failures);
}

#[test]
fn every_source_file_says_what_it_is_for() {
    let mut failures = Vec::new();
    for file in rust(&["src", "models", "examples", "tests", "benches"]) {
        if !file.text.starts_with("//! ") {
            failures.push(format!("{}: must start with a module comment", file.path));
        }
    }
    assert_none(&failures);
}

//! Weight files: what is wrong is said with file, field, expected and got; nothing panics.

mod common;

use half::{bf16, f16};
use proptest::prelude::*;
use std::fs;
use std::path::Path;
use wginfer::Error;
use wginfer::tensor::{DType, Spec, Tensor};
use wginfer::weights::{
    Access, ConversionReport, FileWeights, MemoryWeights, ModelHeader, RowFormat, TensorView, Weights,
    convert_rows, convert_rows_into, hub, read_header,
};

/// A safetensors file with this header.
fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(data);
    bytes
}

/// A tensor's entry in a header.
fn entry(name: &str, dtype: &str, shape: &str, begin: u64, end: u64) -> String {
    format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{begin},{end}]}}"#)
}

fn file_of(entries: &[String], data: usize) -> Vec<u8> {
    safetensors(&format!("{{{}}}", entries.join(",")), &vec![0; data])
}

/// Two tensors: `a` f32 [2, 3], `b` f16 [4].
fn good() -> Vec<u8> {
    file_of(&[entry("a", "F32", "[2,3]", 0, 24), entry("b", "F16", "[4]", 24, 32)], 32)
}

/// Files of a folder, what is opened, and parts of the error's text.
struct Case {
    name: &'static str,
    files: Vec<(&'static str, Vec<u8>)>,
    open: &'static str,
    want: &'static [&'static str],
}

/// A case of one file.
fn file(name: &'static str, bytes: Vec<u8>, want: &'static [&'static str]) -> Case {
    Case { name, files: vec![("model.safetensors", bytes)], open: "model.safetensors", want }
}

/// A case of a sharded folder; the shards `1.safetensors` (a, b) and `2.safetensors` (c) are good.
fn folder(name: &'static str, index: &str, want: &'static [&'static str]) -> Case {
    let second = file_of(&[entry("c", "F32", "[1]", 0, 4)], 4);
    let index = ("model.safetensors.index.json", index.as_bytes().to_vec());
    Case { name, files: vec![("1.safetensors", good()), ("2.safetensors", second), index], open: "", want }
}

fn bad_headers() -> Vec<Case> {
    let one = |dtype, shape, begin, end, data| file_of(&[entry("a", dtype, shape, begin, end)], data);
    let two = |b_begin, b_end, data| {
        file_of(&[entry("a", "F32", "[2]", 0, 8), entry("b", "F32", "[1]", b_begin, b_end)], data)
    };
    let mut oversized = good();
    oversized[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let mut too_long = good();
    too_long[..8].copy_from_slice(&1000_u64.to_le_bytes());
    let many = format!("[{}]", ["1"; 17].join(","));
    let deep = format!("{{\"a\":{}", "[".repeat(100_000));
    vec![
        file("empty file", vec![], &["model.safetensors", "has 0 bytes", "at least 8"]),
        file("truncated length", good()[..5].to_vec(), &["has 5 bytes", "at least 8"]),
        file(
            "truncated header",
            good()[..60].to_vec(),
            &["header length is 1", "52 bytes after", "truncated"],
        ),
        file(
            "oversized header length",
            oversized,
            &["header length is 18446744073709551615", "at most 100000000"],
        ),
        file("header longer than the file", too_long, &["header length is 1000", "after the length"]),
        file("header is not JSON", safetensors("{\"a\":", &[]), &["safetensors header", "EOF"]),
        file("header is not an object", safetensors("[1]", &[]), &["expected an object of tensors"]),
        file(
            "header is not UTF-8",
            safetensors("x", &[]).into_iter().map(|b| b | 0x80).collect(),
            &["header"],
        ),
        file("header nested too deeply", safetensors(&deep, &[]), &["`a`"]),
        file("shape of the wrong type", one("F32", "\"2\"", 0, 8, 8), &["`a`", "invalid type", "a sequence"]),
        file("negative dimension", one("F32", "[-2]", 0, 8, 8), &["`a`", "invalid value", "-2"]),
        file(
            "metadata of the wrong type",
            safetensors(r#"{"__metadata__":{"x":1}}"#, &[]),
            &["__metadata__", "string"],
        ),
        file(
            "unknown dtype",
            one("F33", "[2]", 0, 8, 8),
            &["tensor `a`", "unknown dtype \"F33\"", "F32, F16, BF16"],
        ),
        file(
            "too many dimensions",
            one("F32", &many, 0, 4, 4),
            &["tensor `a`", "17 dimensions", "at most 16"],
        ),
        file(
            "dims x dtype too large",
            one("F32", "[3]", 0, 8, 8),
            &["F32 [3] needs 12 bytes", "0..8 hold 8"],
        ),
        file(
            "dims x dtype too small",
            one("BF16", "[3]", 0, 8, 8),
            &["BF16 [3] needs 6 bytes", "0..8 hold 8"],
        ),
        file(
            "dims overflow",
            one("F32", "[4294967296,4294967296,4294967296]", 0, 8, 8),
            &["tensor `a`", "needs"],
        ),
        file(
            "dims overflow beside a zero",
            one("F32", "[4294967296,4294967296,0]", 0, 0, 0),
            &["`a`", "overflow"],
        ),
        file(
            "offsets out of range",
            one("F32", "[4]", 0, 16, 8),
            &["tensor `a`", "0..16", "data of 8 bytes", "truncated"],
        ),
        file("offsets reversed", one("F32", "[2]", 8, 0, 8), &["tensor `a`", "8..0"]),
        file("overlapping tensors", two(4, 8, 8), &["`a` and `b` overlap", "begins at byte 4, expected 8"]),
        file("hole between tensors", two(12, 16, 16), &["hole", "8..12", "tensor `b`"]),
        file("hole at the start", one("F32", "[1]", 4, 8, 8), &["hole", "0..4", "tensor `a`"]),
        file("bytes after the last tensor", two(8, 12, 20), &["end at byte 12", "20 bytes of data"]),
        file(
            "name twice",
            file_of(&[entry("a", "F32", "[1]", 0, 4), entry("a", "F32", "[1]", 4, 8)], 8),
            &["`a` occurs twice"],
        ),
        file("pickle under our name", b"PK\x03\x04\0\0\x08\x08\0\0\0\0".to_vec(), &["pickle", "save_file"]),
        file("GGUF under our name", b"GGUF\x03\0\0\x01\0\0\0\0".to_vec(), &["GGUF", "expected safetensors"]),
    ]
}

fn bad_folders() -> Vec<Case> {
    let named =
        |name, file: &'static str, want| Case { name, files: vec![(file, vec![1, 2])], open: file, want };
    let pickled = |name, file, want| Case { open: "", ..named(name, file, want) };
    vec![
        Case { name: "no such path", files: vec![], open: "nowhere", want: &["nowhere"] },
        Case {
            name: "empty folder",
            files: vec![],
            open: "",
            want: &["model.safetensors", "no .safetensors file"],
        },
        pickled(
            "file of another name",
            "x.safetensors",
            &["expected model.safetensors or", "found x.safetensors"],
        ),
        named(
            "pickle file",
            "pytorch_model.bin",
            &["pytorch_model.bin", "torch.load", "safetensors.torch.save_file"],
        ),
        named("checkpoint", "model.CKPT", &["pickle", "save_file"]),
        pickled("folder with a pickle", "pytorch_model.bin", &["pytorch_model.bin", "pickle", "save_file"]),
        pickled("folder with a .pth", "consolidated.00.pth", &["consolidated.00.pth", "pickle"]),
        folder("index is not JSON", "{", &["index.json", "EOF"]),
        folder("index without weight_map", "{}", &["index.json", "weight_map"]),
        folder("index without tensors", r#"{"weight_map":{}}"#, &["weight_map names no tensor"]),
        folder("index of wrong types", r#"{"weight_map":{"a":1}}"#, &["invalid type", "string"]),
        folder(
            "index names a tensor twice",
            r#"{"weight_map":{"a":"1.safetensors","a":"2.safetensors"}}"#,
            &["`a`", "twice"],
        ),
        folder(
            "missing shards",
            r#"{"weight_map":{"a":"1.safetensors","x":"3.safetensors","y":"4.safetensors"}}"#,
            &["missing shards: 3.safetensors, 4.safetensors"],
        ),
        folder(
            "missing tensors",
            r#"{"weight_map":{"a":"1.safetensors","x":"1.safetensors","c":"2.safetensors","y":"2.safetensors"}}"#,
            &["tensor `x` is not in", "1.safetensors, tensor `y` is not in", "2.safetensors"],
        ),
        folder(
            "tensor in another shard",
            r#"{"weight_map":{"a":"2.safetensors","b":"1.safetensors"}}"#,
            &["tensor `a` is in", "1.safetensors, expected in", "2.safetensors"],
        ),
        folder(
            "shard above the folder",
            r#"{"weight_map":{"a":"../1.safetensors"}}"#,
            &["`../1.safetensors` leaves"],
        ),
        folder("shard below and above", r#"{"weight_map":{"a":"x/../../1.safetensors"}}"#, &["leaves"]),
        folder(
            "absolute shard",
            r#"{"weight_map":{"a":"/etc/1.safetensors"}}"#,
            &["`/etc/1.safetensors` leaves"],
        ),
        folder("shard on a drive", r#"{"weight_map":{"a":"C:\\1.safetensors"}}"#, &["leaves"]),
        folder("shard without a name", r#"{"weight_map":{"a":""}}"#, &["leaves"]),
        folder(
            "shard is a pickle",
            r#"{"weight_map":{"a":"1.bin"}}"#,
            &["`1.bin` is not a .safetensors file"],
        ),
    ]
}

/// Writes a case's files and opens them; the text of the error, if there is one.
fn open(case: &Case, access: Option<Access>) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in &case.files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    let path = folder.path().join(case.open);
    let result = match access {
        Some(access) => FileWeights::open_with(&path, access).map(drop),
        None => ModelHeader::read(&path).map(drop),
    };
    result.map_err(|error| {
        assert!(matches!(error, Error::File { .. } | Error::Io { .. }), "{}: {error:?}", case.name);
        error.to_string()
    })
}

#[test]
fn bad_files_are_refused_with_what_is_wrong() {
    let mut failures = Vec::new();
    for case in bad_headers().iter().chain(&bad_folders()) {
        for access in [Some(Access::Map), Some(Access::Read), None] {
            match open(case, access) {
                Ok(()) => failures.push(format!("{}: accepted", case.name)),
                Err(text) => failures.extend(
                    case.want
                        .iter()
                        .filter(|part| !text.contains(**part))
                        .map(|part| format!("{}: no {part:?} in {text:?}", case.name)),
                ),
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_tensor_in_two_shards_is_refused() {
    let index = r#"{"weight_map":{"a":"1.safetensors","c":"2.safetensors"}}"#;
    let mut case = folder("duplicate", index, &[]);
    case.files[1].1 = file_of(&[entry("a", "F32", "[1]", 0, 4), entry("c", "F32", "[1]", 4, 8)], 8);
    let text = open(&case, Some(Access::Map)).unwrap_err();
    assert!(text.contains("tensor `a` is in") && text.contains("1.safetensors and in"), "{text}");
}

#[test]
fn sharded_folders_read_as_one() {
    let index = r#"{"metadata":{"total_size":36},"weight_map":{"a":"1.safetensors","b":"1.safetensors","c":"2.safetensors"}}"#;
    let case = folder("good", index, &[]);
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in &case.files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    for path in [folder.path().to_owned(), folder.path().join("model.safetensors.index.json")] {
        let weights = FileWeights::open(&path).unwrap();
        assert_eq!(weights.names(), ["a", "b", "c"]);
        assert_eq!(weights.spec("b"), Some(&Spec::new(DType::F16, [4])));
        assert_eq!(weights.get("c").unwrap().bytes, [0; 4]);
        weights.release("a");
        assert_eq!(weights.require("a").unwrap().to_tensor(), Tensor::zeros(Spec::f32([2, 3])));
        let text = weights.require("d").unwrap_err().to_string();
        assert!(text.contains("no tensor `d` among the 3") && text.contains("2.safetensors"), "{text}");
    }
}

#[cfg(unix)]
#[test]
fn shards_may_be_links_to_the_blobs_of_a_hub_cache_only() {
    let cache = tempfile::tempdir().unwrap();
    let repo = cache.path().join("models--org--name");
    let snapshot = repo.join("snapshots/abc");
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(repo.join("blobs")).unwrap();
    fs::write(repo.join("blobs/123"), good()).unwrap();
    fs::write(cache.path().join("outside"), good()).unwrap();
    fs::write(snapshot.join("model.safetensors.index.json"), r#"{"weight_map":{"a":"1.safetensors"}}"#)
        .unwrap();
    let shard = snapshot.join("1.safetensors");
    std::os::unix::fs::symlink("../../blobs/123", &shard).unwrap();
    FileWeights::open(&snapshot).unwrap();
    fs::remove_file(&shard).unwrap();
    std::os::unix::fs::symlink("../../../outside", &shard).unwrap();
    let text = FileWeights::open(&snapshot).unwrap_err().to_string();
    assert!(text.contains("shard `1.safetensors` leaves the model's folder"), "{text}");
}

#[test]
fn an_unread_dtype_matters_only_when_it_is_asked_for() {
    let bytes = file_of(&[entry("mask", "BOOL", "[4]", 0, 4), entry("x", "U8", "[2,0]", 4, 4)], 4);
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    let weights = FileWeights::open(file.path()).unwrap();
    assert_eq!(weights.names(), ["mask", "x"]);
    assert!(weights.get("mask").is_none() && weights.get("x").unwrap().bytes.is_empty());
    let text = weights.require("mask").unwrap_err().to_string();
    assert!(text.contains("tensor `mask` has dtype BOOL, expected F32"), "{text}");
}

#[test]
fn headers_are_read_without_data() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let header = format!("{{\"__metadata__\":{{\"format\":\"pt\"}},{}}}", entry("a", "BF16", "[2,3]", 0, 12));
    fs::write(file.path(), safetensors(&header, &[7; 12])).unwrap();
    let header = read_header(file.path()).unwrap();
    assert_eq!(header.metadata["format"], "pt");
    let [tensor] = &header.tensors[..] else { panic!("{header:?}") };
    assert_eq!((tensor.name.as_str(), tensor.dtype_name.as_str(), tensor.elements()), ("a", "BF16", 6));
    assert_eq!(tensor.range.end, header.file_bytes);
}

#[test]
fn memory_weights_hand_out_their_tensors() {
    let weights = MemoryWeights::from_iter([("b", Tensor::from_f32([2], &[1.0, 2.0]))]);
    assert_eq!(weights.names(), ["b"]);
    assert_eq!(weights.require("b").unwrap().to_tensor().to_f32(), [1.0, 2.0]);
    assert!(weights.require("c").unwrap_err().to_string().contains("no tensor `c`"));
}

/// Opens bytes as a file and touches all that is handed out.
fn touch(bytes: &[u8]) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    if let Ok(weights) = FileWeights::open(file.path()) {
        for name in weights.names() {
            weights.require(name).map(|view| view.to_tensor()).ok();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn random_bytes_never_panic(length in 0_u64..64, rest in prop::collection::vec(any::<u8>(), 0..64)) {
        touch(&rest);
        touch(&[&length.to_le_bytes()[..], &rest].concat());
    }

    #[test]
    fn mutated_files_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![any::<u8>(), b'0'..=b'9']), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = good();
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        touch(&bytes);
    }

    #[test]
    fn repository_ids_never_leave_the_cache(text in "[a.@/\\\\~-]{0,12}") {
        if let Ok(repo) = hub::RepoId::parse(&text) {
            let folder = hub::HubCache::at("cache").repo_folder(&repo);
            prop_assert_eq!(folder.parent(), Some(Path::new("cache")));
            prop_assert!(!repo.revision().split('/').any(|part| part.starts_with('.') || part.is_empty()));
        }
    }
}

/// The nearest value of a float type, ties to even, found by comparing neighbours.
fn nearest(value: f64, dtype: DType) -> f64 {
    let (first_guess, decode, infinite): (u64, fn(u64) -> f64, f64) = match dtype {
        DType::F16 => {
            (f16::from_f64(value.abs()).to_bits().into(), |b| f16::from_bits(b as u16).to_f64(), 65536.0)
        }
        DType::BF16 => (
            bf16::from_f64(value.abs()).to_bits().into(),
            |b| bf16::from_bits(b as u16).to_f64(),
            2f64.powi(128),
        ),
        DType::F32 => {
            ((value.abs() as f32).to_bits().into(), |b| f32::from_bits(b as u32).into(), 2f64.powi(128))
        }
        _ => return value,
    };
    if !value.is_finite() {
        return value;
    }
    let distance = |bits: u64| {
        let decoded = decode(bits);
        ((if decoded.is_infinite() { infinite } else { decoded }) - value.abs().min(infinite)).abs()
    };
    let candidates = (first_guess.saturating_sub(2)..=first_guess + 2).filter(|&bits| !decode(bits).is_nan());
    let best =
        candidates.min_by(|&a, &b| distance(a).total_cmp(&distance(b)).then((a & 1).cmp(&(b & 1)))).unwrap();
    decode(best).copysign(value)
}

/// Values around everything where rounding can go wrong.
fn awkward_values(count: usize) -> Vec<f64> {
    let special = [
        0.0,
        -0.0,
        1.0,
        65504.0,
        65519.99,
        65520.0,
        -65520.0,
        1e5,
        1e39,
        -1e39,
        3.4028235e38,
        3.4e38,
        6e-8,
        2.9e-8,
        1e-40,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        1.0 + 2f64.powi(-11),
        1.0 + 2f64.powi(-11) + 2f64.powi(-40),
        1.0 + 3.0 * 2f64.powi(-11) - 2f64.powi(-50),
        1.0 + 2f64.powi(-8),
        1.0 + 2f64.powi(-8) + 2f64.powi(-45),
    ];
    let mut state = 1_u64;
    let mut random = move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    let mut next = |i: usize| match special.get(i % 97) {
        Some(&value) => value,
        None => (random() - 0.5) * 2f64.powi((random() * 60.0) as i32 - 40),
    };
    (0..count).map(&mut next).collect()
}

#[test]
fn conversion_rounds_to_nearest_in_every_layout() {
    let floats = [DType::F32, DType::F16, DType::BF16, DType::F64];
    let sizes = [(1, 1), (3, 5), (64, 64), (65, 130), (2, 1025), (70, 7)];
    for (from, to) in floats.into_iter().flat_map(|from| floats.map(|to| (from, to))) {
        for ((rows, cols), transposed) in sizes.into_iter().flat_map(|size| [(size, false), (size, true)]) {
            let values = awkward_values(rows * cols);
            let dims = if transposed { [cols, rows] } else { [rows, cols] };
            let source = Tensor::from_f64(from, dims, &values);
            let values = source.to_f64();
            let at =
                |row: usize, col: usize| values[if transposed { col * rows + row } else { row * cols + col }];
            let range = rows / 3..rows;
            let pitch = if rows == 3 { cols } else { cols.div_ceil(8) * 8 };
            let format = RowFormat { dtype: to, pitch, transposed };
            let view = TensorView { spec: source.spec(), bytes: source.bytes() };
            let mut report = ConversionReport::default();
            // Old bytes in the output must not shine through the padding.
            let mut output = vec![0xff; range.len() * pitch * to.size()];
            convert_rows_into(&view, range.clone(), format, &mut output, &mut report).unwrap();
            let got = Tensor::from_bytes(Spec::new(to, [range.len(), pitch]), output).to_f64();
            let mut want_report = ConversionReport::default();
            for (i, got) in got.into_iter().enumerate() {
                let (row, col) = (range.start + i / pitch, i % pitch);
                let source = if col < cols { at(row, col) } else { 0.0 };
                let want = nearest(source, to);
                want_report.nan_or_inf += u64::from(!source.is_finite());
                want_report.overflowed += u64::from(source.is_finite() && want.is_infinite());
                let same = got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan());
                assert!(same, "{from} to {to} [{rows}, {cols}] at {row}, {col}: got {got:e}, want {want:e}");
            }
            assert_eq!(report, want_report, "{from} to {to} [{rows}, {cols}]");
        }
    }
}

#[test]
fn integers_are_copied_and_not_converted() {
    let source = Tensor::from_f64(DType::I64, [2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let view = TensorView { spec: source.spec(), bytes: source.bytes() };
    let mut report = ConversionReport::default();
    let format = RowFormat { dtype: DType::I64, pitch: 2, transposed: true };
    let bytes = convert_rows(&view, 1..3, format, &mut report).unwrap();
    let got = Tensor::from_bytes(Spec::new(DType::I64, [2, 2]), bytes).to_f64();
    assert_eq!(got, [2.0, 5.0, 3.0, 6.0]);
    let format = RowFormat { dtype: DType::F32, pitch: 3, transposed: false };
    let text = convert_rows(&view, 0..1, format, &mut report).unwrap_err().to_string();
    assert!(text.contains("from i64 to f32"), "{text}");
}

#[test]
fn the_hub_cache_is_found_as_the_hub_does() {
    let folder = |set: &[(&str, &str)]| {
        let set: Vec<(String, String)> = set.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect();
        let variable = move |name: &str| Some(set.iter().find(|(set, _)| set == name)?.1.clone().into());
        hub::HubCache::from_variables(&variable).map(|cache| cache.folder().to_string_lossy().into_owned())
    };
    let home = if cfg!(windows) { "USERPROFILE" } else { "HOME" };
    let all = [("HF_HUB_CACHE", "/a"), ("HF_HOME", "/b"), ("XDG_CACHE_HOME", "/c"), (home, "/d")];
    for (skip, want) in ["/a", "/b/hub", "/c/huggingface/hub", "/d/.cache/huggingface/hub"].iter().enumerate()
    {
        assert_eq!(Path::new(&folder(&all[skip..]).unwrap()), Path::new(want));
    }
    assert_eq!(Path::new(&folder(&[("HF_HOME", "~/x"), (home, "/d")]).unwrap()), Path::new("/d/x/hub"));
    assert!(folder(&[("HF_HOME", "")]).unwrap_err().to_string().contains("HF_HOME"));
}

#[test]
fn models_are_resolved_in_the_cache_or_refused_with_the_place() {
    let folder = tempfile::tempdir().unwrap();
    let cache = hub::HubCache::at(folder.path());
    let repo = folder.path().join("models--org--name");
    let snapshot = repo.join("snapshots/0123abc");
    let refused = |argument: &str, parts: &[&str]| {
        let text = hub::resolve_in(&cache, argument).unwrap_err().to_string();
        assert!(parts.iter().all(|part| text.contains(part)), "{argument}: {text}");
    };
    refused("org/name", &["`org/name`", "looked in", "models--org--name", "hf download org/name"]);
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(repo.join("refs/pr")).unwrap();
    fs::write(repo.join("refs/main"), "0123abc\n").unwrap();
    fs::write(repo.join("refs/pr/1"), "0123abc").unwrap();
    fs::write(repo.join("refs/bad"), "../../..").unwrap();
    refused("org/name", &["lacks config.json, model.safetensors"]);
    fs::write(snapshot.join("config.json"), "{}").unwrap();
    fs::write(snapshot.join("pytorch_model.bin"), "").unwrap();
    refused("org/name", &["pytorch_model.bin", "pickle", "save_file"]);
    fs::write(snapshot.join("model.safetensors"), good()).unwrap();
    for argument in ["org/name", "org/name@main", "org/name@pr/1", "org/name@0123abc"] {
        assert_eq!(hub::resolve_in(&cache, argument).unwrap(), snapshot, "{argument}");
    }
    refused("org/name@bad", &["revision `bad` is not in the hub cache"]);
    refused("org/name@other", &["revision `other`"]);
    for argument in
        ["", "../x", "a/b/c", "a//b", "/etc/x", "a/..", "a/b@../c", "a/b@", "a\\b", "a/b--c", "~/x"]
    {
        refused(argument, &["no such file or folder", "not a repository id", "expected ORG/NAME"]);
    }
    let here = folder.path().to_str().unwrap();
    assert_eq!(hub::resolve_model(here).unwrap(), folder.path());
}

#[test]
fn shared_models_open() {
    let Some(shared) = common::shared() else { return };
    for (model, tensor) in [
        ("stories260k", "model.layers.0.self_attn.q_proj.weight"),
        ("gpt2_capp", "transformer.h.0.attn.c_attn.weight"),
        ("all_minilm_l6_v2", "encoder.layer.0.attention.self.query.weight"),
    ] {
        let path = shared.join("models").join(model);
        let weights = FileWeights::open(&path).unwrap();
        let view = weights.require(tensor).unwrap_or_else(|error| panic!("{error}: {:?}", weights.names()));
        assert!(view.to_tensor().to_f64().iter().all(|value| value.is_finite()), "{model}");
        let read = FileWeights::open_with(&path, Access::Read).unwrap();
        assert_eq!(read.require(tensor).unwrap().bytes, view.bytes, "{model}");
        assert_eq!(ModelHeader::read(&path).unwrap().tensors().count(), weights.names().len());
    }
}

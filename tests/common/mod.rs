//! Shared by the tests: the device, and the models in ../shared.
#![allow(dead_code, reason = "each test file uses a part of this")]

use std::io::Read;
use std::path::PathBuf;
use std::sync::OnceLock;
use wginfer::gpu::{Gpu, GpuOptions};

/// Without what was found on this machine before: tests do the same everywhere.
const OPTIONS: GpuOptions = GpuOptions { adapter: None, checked: false, trusted: true, untuned: true };

/// A device of a test's own, where there is an adapter: what it is told must not reach other tests.
pub(crate) fn own_gpu() -> Gpu {
    Gpu::open(&OPTIONS).unwrap()
}

/// The adapter that tests run on. Without one they are skipped, or fail if REQUIRE_GPU=1.
pub(crate) fn gpu() -> Option<&'static Gpu> {
    static GPU: OnceLock<Option<Gpu>> = OnceLock::new();
    GPU.get_or_init(|| match Gpu::open(&OPTIONS) {
        Ok(gpu) => Some(gpu),
        Err(error) => {
            assert!(std::env::var_os("REQUIRE_GPU").is_none(), "REQUIRE_GPU is set: {error}");
            println!("skipped: {error}");
            None
        }
    })
    .as_ref()
}

/// The folder of real models and data: WGINFER_SHARED, else `../shared` beside the clone.
/// Without it tests are skipped, or fail if REQUIRE_SHARED=1.
pub(crate) fn shared() -> Option<PathBuf> {
    let folder = std::env::var_os("WGINFER_SHARED")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    assert!(std::env::var_os("REQUIRE_SHARED").is_none(), "REQUIRE_SHARED is set: no {}", folder.display());
    println!("skipped: no ../shared");
    None
}

/// An array of an .npz file, or `None` if it has none of this name.
fn npz_array(path: &std::path::Path, name: &str) -> Option<NpzArray> {
    let mut archive = zip::ZipArchive::new(std::fs::File::open(path).unwrap()).unwrap();
    let mut bytes = Vec::new();
    archive.by_name(&format!("{name}.npy")).ok()?.read_to_end(&mut bytes).unwrap();
    // Magic and version are 8 bytes, then a 16-bit length and the header, a Python dictionary.
    let start = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = String::from_utf8_lossy(&bytes[..start]).into_owned();
    assert!(header.contains("'fortran_order': False"), "{header}");
    let part = |before: &str, after: char| {
        header.split(before).nth(1).and_then(|rest| rest.split(after).next()).unwrap().to_owned()
    };
    let sizes = part("'shape': (", ')');
    let sizes = sizes.split(',').map(str::trim).filter(|size| !size.is_empty());
    let dims = sizes.map(|size| size.parse().unwrap()).collect();
    Some(NpzArray { dtype: part("'descr': '", '\''), dims, bytes: bytes.split_off(start) })
}

/// An f32 array of an .npz file, or `None` if it has no array of this name.
pub(crate) fn npz(path: &std::path::Path, name: &str) -> Option<Vec<f32>> {
    let NpzArray { dtype, bytes, .. } = npz_array(path, name)?;
    assert_eq!(dtype, "<f4", "{name}");
    Some(bytes.as_chunks().0.iter().map(|value| f32::from_le_bytes(*value)).collect())
}

/// A u8 array of an .npz file.
pub(crate) fn npz_u8(path: &std::path::Path, name: &str) -> Vec<u8> {
    let NpzArray { dtype, bytes, .. } = npz_array(path, name).unwrap();
    assert_eq!(dtype, "|u1", "{name}");
    bytes
}

/// An array of strings of an .npz file.
pub(crate) fn npz_strings(path: &std::path::Path, name: &str) -> Vec<String> {
    let NpzArray { dtype, bytes, .. } = npz_array(path, name).unwrap();
    let length: usize = dtype.strip_prefix("<U").expect("strings").parse().unwrap();
    let letters: Vec<char> = bytes
        .as_chunks()
        .0
        .iter()
        .map(|letter| char::from_u32(u32::from_le_bytes(*letter)).expect("UTF-32"))
        .collect();
    letters.chunks(length).map(|text| text.iter().take_while(|letter| **letter != '\0').collect()).collect()
}

/// An array of an .npz file: its dtype as NumPy writes it ("<f4"), its dimensions, its bytes.
pub(crate) struct NpzArray {
    pub(crate) dtype: String,
    pub(crate) dims: Vec<usize>,
    pub(crate) bytes: Vec<u8>,
}

/// All arrays of an .npz file by name.
pub(crate) fn npz_arrays(path: &std::path::Path) -> std::collections::BTreeMap<String, NpzArray> {
    let archive = zip::ZipArchive::new(std::fs::File::open(path).unwrap()).unwrap();
    let names: Vec<String> = archive
        .file_names()
        .filter_map(|name| name.unwrap().strip_suffix(".npy").map(str::to_owned))
        .collect();
    names.into_iter().map(|name| (name.clone(), npz_array(path, &name).unwrap())).collect()
}

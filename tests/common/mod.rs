//! Shared by the tests: the device, and the models in ../shared.
#![allow(dead_code, reason = "each test file uses a part of this")]

use std::path::PathBuf;
use std::sync::OnceLock;
use wginfer::gpu::Gpu;

/// The adapter that tests run on. Without one they are skipped, or fail if REQUIRE_GPU=1.
pub(crate) fn gpu() -> Option<&'static Gpu> {
    static GPU: OnceLock<Option<Gpu>> = OnceLock::new();
    GPU.get_or_init(|| match Gpu::new() {
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

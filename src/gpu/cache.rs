//! The driver's pipeline cache on disk, for drivers that compile when a pipeline is made.
//!
//! A file for each adapter with its driver, in the cache folder of this crate: what it was made by,
//! then the driver's own bytes with their checksum. A file that does not match in every byte of the
//! first, or is damaged, is removed. Nothing here fails a run. The environment variable
//! `WGINFER_PIPELINE_CACHE`, set to `off`, switches it off.

use crate::folders::cache_folder;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

const MAGIC: &[u8; 8] = b"wginferP";

/// Version of the layout of the file.
const VERSION: u32 = 1;

/// Most bytes of the driver that are read or written.
const MOST_BYTES: u64 = 256 << 20;

/// A device's pipeline cache and its file.
#[derive(Debug)]
pub(super) struct PipelineCache {
    raw: wgpu::PipelineCache,
    file: PathBuf,
    maker: String,
    /// Checksum of what the file holds.
    saved: Mutex<u64>,
}

impl PipelineCache {
    /// None where the device has no such cache, or there is no folder for it.
    pub(super) fn open(adapter: &wgpu::Adapter, device: &wgpu::Device) -> Option<Self> {
        let off = std::env::var("WGINFER_PIPELINE_CACHE").is_ok_and(|value| value == "off");
        if off || !device.features().contains(wgpu::Features::PIPELINE_CACHE) {
            return None;
        }
        let maker = maker(&adapter.get_info())?;
        let file = cache_folder()?.join(format!("pipelines-{:016x}.bin", checksum(maker.as_bytes())));
        let data = read(&file, &maker);
        let saved = Mutex::new(data.as_deref().map_or(0, checksum));
        let descriptor =
            wgpu::PipelineCacheDescriptor { label: Some("pipelines"), data: data.as_deref(), fallback: true };
        let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
        // SAFETY: `data` is what `get_data` gave for the same version of this crate, adapter, driver
        // and driver's version: `read` compares all of these and the checksum of the bytes.
        let raw = unsafe { device.create_pipeline_cache(&descriptor) };
        match pollster::block_on(scope.pop()) {
            None => Some(Self { raw, file, maker, saved }),
            Some(error) => {
                log::warn!("no pipeline cache: {error}");
                None
            }
        }
    }

    pub(super) fn raw(&self) -> &wgpu::PipelineCache {
        &self.raw
    }

    /// Writes the file, unless it holds the same.
    pub(super) fn save(&self) {
        let Some(data) = self.raw.get_data().filter(|data| data.len() as u64 <= MOST_BYTES) else { return };
        let mut saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = checksum(&data);
        if *saved == sum {
            return;
        }
        match write(&self.file, &encode(&self.maker, &data)) {
            Ok(()) => log::debug!("pipeline cache of {} bytes: {}", data.len(), self.file.display()),
            Err(error) => log::info!("{}: {error}", self.file.display()),
        }
        *saved = sum;
    }
}

/// Everything that the driver's bytes depend on; none where wgpu knows of no cache.
fn maker(info: &wgpu::AdapterInfo) -> Option<String> {
    let key = wgpu::util::pipeline_cache_key(info)?;
    let (name, driver, version) = (&info.name, &info.driver, &info.driver_info);
    let (crate_version, pointer) = (env!("CARGO_PKG_VERSION"), size_of::<usize>());
    Some(format!(
        "wginfer {crate_version}, {key}, {name}, vendor {:#x}, device {:#x}, {driver}, {version}, {pointer}",
        info.vendor, info.device
    ))
}

/// FNV-1a (<https://datatracker.ietf.org/doc/html/draft-eastlake-fnv>): tells damaged files.
fn checksum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, &byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The file: magic, version, maker and bytes each after their length, checksum of the bytes.
fn encode(maker: &str, data: &[u8]) -> Vec<u8> {
    let length = |bytes: &[u8]| (bytes.len() as u64).to_le_bytes();
    let version = VERSION.to_le_bytes();
    let (maker, sum) = (maker.as_bytes(), checksum(data).to_le_bytes());
    [MAGIC.as_slice(), &version, &length(maker), maker, &length(data), data, &sum].concat()
}

/// The driver's bytes in a file's, if that is whole and of this maker.
fn decode<'a>(file: &'a [u8], maker: &str) -> Option<&'a [u8]> {
    let data = file.strip_prefix(MAGIC)?.strip_prefix(&VERSION.to_le_bytes())?;
    let data = data.strip_prefix(&(maker.len() as u64).to_le_bytes())?.strip_prefix(maker.as_bytes())?;
    let (length, data) = data.split_first_chunk()?;
    let (data, sum) = data.split_last_chunk()?;
    let whole =
        u64::from_le_bytes(*length) == data.len() as u64 && u64::from_le_bytes(*sum) == checksum(data);
    whole.then_some(data)
}

/// What a file holds. One that cannot be used is removed.
fn read(file: &Path, maker: &str) -> Option<Vec<u8>> {
    let size = std::fs::metadata(file).ok()?.len();
    let bytes = if size <= MOST_BYTES { std::fs::read(file).ok()? } else { Vec::new() };
    let data = decode(&bytes, maker).map(<[u8]>::to_vec);
    if data.is_none() {
        log::info!("{}: not a pipeline cache of this adapter, removed", file.display());
        // One that cannot be removed is overwritten, or passed over again.
        let _ = std::fs::remove_file(file);
    }
    data
}

/// Replaces a file in one step, so that no other process reads half of it.
fn write(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let partial = file.with_extension(format!("{}.tmp", std::process::id()));
    std::fs::write(&partial, bytes)
        .and_then(|()| std::fs::rename(&partial, file))
        .inspect_err(|_| drop(std::fs::remove_file(&partial)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_only_if_every_byte_is_right() {
        let file = encode("maker", b"driver's bytes");
        assert_eq!(decode(&file, "maker"), Some(b"driver's bytes".as_slice()));
        assert_eq!(decode(&file, "other"), None);
        assert_eq!(decode(&file, "make"), None);
        assert_eq!(decode(&[], "maker"), None);
        for place in 0..file.len() {
            let mut broken = file.clone();
            broken[place] ^= 1;
            assert_eq!(decode(&broken, "maker"), None, "byte {place}");
            assert_eq!(decode(&file[..place], "maker"), None, "{place} bytes");
        }
        assert_eq!(decode(&[file.as_slice(), b"x"].concat(), "maker"), None);
    }

    #[test]
    fn a_file_that_cannot_be_used_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("new/pipelines.bin");
        assert_eq!(read(&file, "maker"), None);
        write(&file, &encode("maker", b"bytes")).unwrap();
        assert_eq!(read(&file, "maker"), Some(b"bytes".to_vec()));
        assert_eq!(read(&file, "newer maker"), None);
        assert!(!file.exists());
        write(&file, b"something else").unwrap();
        assert_eq!(read(&file, "maker"), None);
        assert!(!file.exists());
    }
}

//! The bytes of one file, mapped or read; of safetensors files with their headers.

use super::header::{Header, read_header_of};
use crate::{Error, Result};
use std::fs::File;
use std::io::{Read, Seek};
use std::ops::Range;
use std::path::Path;

/// How the data of a file is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Access {
    /// Mapped: pages come in when they are touched. The file must not be shortened while it is
    /// open; where other programs may do that, use [`Access::Read`].
    #[default]
    Map,
    /// Read to memory when it is opened.
    Read,
}

/// The bytes of a whole file.
#[derive(Debug)]
pub(crate) enum FileBytes {
    Map(memmap2::Mmap),
    Read(Vec<u8>),
}

/// Opens a file: checks its header, then maps or reads all of it.
pub(super) fn open(path: &Path, access: Access) -> Result<(Header, FileBytes)> {
    let mut file = File::open(path).map_err(|error| Error::io(path, error))?;
    let header = read_header_of(path, &mut file)?;
    let data = FileBytes::of(path, &mut file, access)?;
    if data.bytes().len() as u64 != header.file_bytes {
        let (before, now) = (header.file_bytes, data.bytes().len());
        return Err(Error::file(path, format!("changed while it was opened: had {before} bytes, now {now}")));
    }
    Ok((header, data))
}

impl FileBytes {
    /// Maps or reads all of a file.
    #[cfg(feature = "onnx")]
    pub(crate) fn open(path: &Path, access: Access) -> Result<Self> {
        let mut file = File::open(path).map_err(|error| Error::io(path, error))?;
        Self::of(path, &mut file, access)
    }

    fn of(path: &Path, file: &mut File, access: Access) -> Result<Self> {
        let io = |error| Error::io(path, error);
        match access {
            Access::Map => {
                // SAFETY: the map is read-only and nothing here writes to the file. Another process that
                // shortens the file while it is mapped would end this one at the next access (SIGBUS),
                // as with every mapped file; `Access` documents it and offers reading instead. A change
                // of the contents changes values only: the bytes are never taken as anything but numbers.
                Ok(Self::Map(unsafe { memmap2::Mmap::map(&*file) }.map_err(io)?))
            }
            Access::Read => {
                file.rewind().map_err(io)?;
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes).map_err(io)?;
                Ok(Self::Read(bytes))
            }
        }
    }

    /// All bytes of the file.
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Map(map) => map,
            Self::Read(bytes) => bytes,
        }
    }

    /// Drops the pages of a range from this process; they come in again when touched.
    pub(super) fn release(&self, range: Range<usize>) {
        #[cfg(unix)]
        if let Self::Map(map) = self {
            let advice = memmap2::UncheckedAdvice::DontNeed;
            // SAFETY: the map is a read-only mapping of a file, so the dropped pages hold nothing
            // that the file does not: the next access brings them in again with the same bytes.
            if let Err(error) = unsafe { map.unchecked_advise_range(advice, range.start, range.len()) } {
                log::debug!("pages of a mapped file were not released: {error}");
            }
        }
        #[cfg(not(unix))]
        let _ = range;
    }
}

#[cfg(feature = "onnx")]
impl AsRef<[u8]> for FileBytes {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

//! Where photos come from, and decoding many of them at a time.

use super::{Image, ImageLimits};
use crate::{Error, Result};
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// A photo: a file, the bytes of one, or pixels.
#[derive(Debug, Clone)]
pub enum Photo {
    /// A PNG, JPEG or WebP file.
    File(PathBuf),
    /// The bytes of such a file.
    Bytes(Vec<u8>),
    /// Pixels.
    Image(Image),
}

impl From<&str> for Photo {
    fn from(path: &str) -> Self {
        Self::File(path.into())
    }
}

impl From<&Path> for Photo {
    fn from(path: &Path) -> Self {
        Self::File(path.to_owned())
    }
}

impl From<PathBuf> for Photo {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl From<Image> for Photo {
    fn from(image: Image) -> Self {
        Self::Image(image)
    }
}

impl Photo {
    /// Its pixels.
    ///
    /// # Errors
    /// Those of [`Image::open`].
    pub fn read(&self, limits: ImageLimits) -> Result<Cow<'_, Image>> {
        match self {
            Self::File(path) => Image::open_within(path, limits).map(Cow::Owned),
            Self::Bytes(bytes) => Image::decode_within(bytes, limits).map(Cow::Owned),
            Self::Image(image) => Ok(Cow::Borrowed(image)),
        }
    }
}

/// Reads photos on as many threads as the processor has.
pub(super) fn read_all(photos: &[Photo], limits: ImageLimits) -> Vec<Result<Cow<'_, Image>>> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let share = photos.len().div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        let started: Vec<_> =
            photos.chunks(share).map(|part| (part, scope.spawn(move || read_part(part, limits)))).collect();
        // A decoder that panics on a broken file takes no other photo with it.
        let broken = || Err(Error::Request("the image made its decoder fail".into()));
        let failed = |part: &[Photo]| part.iter().map(|_| broken()).collect();
        started
            .into_iter()
            .flat_map(|(part, thread)| thread.join().unwrap_or_else(|_| failed(part)))
            .collect()
    })
}

fn read_part(photos: &[Photo], limits: ImageLimits) -> Vec<Result<Cow<'_, Image>>> {
    photos.iter().map(|photo| photo.read(limits)).collect()
}

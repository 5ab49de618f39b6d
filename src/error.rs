//! The one error type. Each variant says what was wrong, where, and what was expected.

#[cfg(any(feature = "text", feature = "vision"))]
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that a file, a flag, a request or a device can do wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No adapter that can run compute shaders was found; the text names what to install.
    #[error("{0}")]
    NoAdapter(String),
    /// The device was lost (driver reset, removed, destroyed); a new session on a new device is needed.
    #[error("the GPU device was lost: {0}")]
    DeviceLost(String),
    /// The device reported a validation or internal error.
    #[error("the GPU device reported an error in {what}: {message}")]
    Device {
        /// What was being done.
        what: String,
        /// The device's words.
        message: String,
    },
    /// An allocation failed on the device.
    #[error("out of GPU memory: {what} needs {needed} bytes")]
    OutOfMemory {
        /// What was being allocated.
        what: String,
        /// Size of the allocation in bytes.
        needed: u64,
    },
    /// The planned bytes exceed the memory budget; nothing was uploaded.
    #[error("{what} needs {needed} bytes on the GPU, the memory budget is {budget} bytes")]
    Budget {
        /// What was planned.
        what: String,
        /// Planned bytes.
        needed: u64,
        /// Budget in bytes.
        budget: u64,
    },
    /// A shader did not render, parse, validate, or match its Rust side.
    #[error("shader `{kernel}`: {message}")]
    Shader {
        /// Name of the kernel.
        kernel: String,
        /// What was wrong.
        message: String,
    },
    /// An operator was given shapes, dtypes or attributes that it cannot take.
    #[error("{op}: {message}")]
    Op {
        /// Operator and node, for example "matmul `layers.3.q`".
        op: String,
        /// Expected and got.
        message: String,
    },
    /// A file of a model is missing, broken or does not fit the model.
    #[error("{}: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was wrong with it.
        message: String,
    },
    /// Reading or writing a file failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A download failed; what arrived before is kept.
    #[error("{url}: {message}")]
    Download {
        /// What was asked for.
        url: String,
        /// What was wrong.
        message: String,
    },
    /// A request (prompt, option, flag) cannot be served.
    #[error("{0}")]
    Request(String),
    /// The prompt or the sequence does not fit in the context.
    #[error("{needed} tokens do not fit in the context of {context} tokens")]
    ContextOverflow {
        /// Tokens needed.
        needed: usize,
        /// Context length in tokens.
        context: usize,
    },
    /// The run was cancelled by its `CancelToken`.
    #[error("cancelled")]
    Cancelled,
    /// Something valid that this version does not do.
    #[error("not supported: {0}")]
    Unsupported(String),
}

impl Error {
    /// Makes an [`Error::Op`].
    pub fn op(op: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Op { op: op.into(), message: message.into() }
    }

    /// Makes an [`Error::File`].
    pub fn file(path: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        Self::File { path: path.into(), message: message.into() }
    }

    /// Makes an [`Error::Io`].
    pub fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { path: path.into(), source }
    }

    /// Makes an [`Error::Shader`].
    pub fn shader(kernel: &str, message: impl Into<String>) -> Self {
        Self::Shader { kernel: kernel.to_owned(), message: message.into() }
    }

    /// Puts a node's name in front of an operator's error.
    #[must_use]
    pub fn at_node(self, node: &str) -> Self {
        match self {
            Self::Op { op, message } => Self::Op { op: format!("{op} `{node}`"), message },
            other => other,
        }
    }
}

/// Runs code of another crate on bytes that are not trusted. Its panic becomes the text
/// "`what` panicked" with the message.
#[cfg(any(feature = "text", feature = "vision"))]
pub(crate) fn contained<T>(what: &str, run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        format!("{what} panicked: {}", text.unwrap_or("no message"))
    })
}

//! Why a command ended without success, and the exit code for it.

use crate::terminal;
use std::io;
use std::process::ExitCode;
use wginfer::Error;

/// Exit code after Ctrl-C: 128 + SIGINT.
pub(crate) const INTERRUPTED: u8 = 130;

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The library's error.
    Library(Error),
    /// The command line asks for something that cannot be.
    Usage(String),
    /// Anything else, in words.
    Other(String),
    /// Standard output was closed by its reader: nobody listens any more.
    OutputClosed,
}

impl Failure {
    /// Prints what is to be said and returns the exit code.
    pub(crate) fn report(self) -> ExitCode {
        let (message, code) = match self {
            Self::OutputClosed => return ExitCode::SUCCESS,
            Self::Library(Error::Cancelled) => return ExitCode::from(INTERRUPTED),
            Self::Library(error) => (error.to_string(), 1),
            Self::Other(message) => (message, 1),
            Self::Usage(message) => (format!("{message}\n\nFor more information, try '--help'."), 2),
        };
        terminal::note(&format!("error: {message}"));
        ExitCode::from(code)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Library(error)
    }
}

/// Errors of writing to standard output.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::OutputClosed;
        }
        Self::Other(format!("writing to standard output: {error}"))
    }
}

//! Ctrl-C: the first press stops the work in hand, the second ends the process.

use crate::failure::{Failure, INTERRUPTED};
use crate::terminal::note;
use std::sync::{Arc, Mutex, PoisonError};
use wginfer::CancelToken;

/// What Ctrl-C does now.
#[derive(Debug)]
enum State {
    /// Ends the process: nothing is in hand that could be stopped (a model is loading).
    Exit,
    /// Stops this work; pressed again, it ends the process.
    Working(CancelToken),
    /// Says how to leave; pressed again, it ends the process.
    Waiting,
}

/// The handler of Ctrl-C and of a polite request to end (SIGTERM).
#[derive(Debug, Clone)]
pub(crate) struct Interrupt(Arc<Mutex<State>>);

impl Interrupt {
    /// Installs the handler.
    pub(crate) fn install() -> Result<Self, Failure> {
        let interrupt = Self(Arc::new(Mutex::new(State::Exit)));
        let seen = interrupt.clone();
        ctrlc::set_handler(move || seen.pressed())
            .map_err(|error| Failure::Other(format!("installing the Ctrl-C handler: {error}")))?;
        Ok(interrupt)
    }

    /// Work begins that Ctrl-C stops through the token returned.
    pub(crate) fn working(&self) -> CancelToken {
        let token = CancelToken::new();
        self.set(State::Working(token.clone()));
        token
    }

    /// The user is asked for input.
    pub(crate) fn waiting(&self) {
        self.set(State::Waiting);
    }

    fn set(&self, state: State) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    fn pressed(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *state, State::Exit) {
            State::Exit => std::process::exit(i32::from(INTERRUPTED)),
            State::Working(token) => token.cancel(),
            State::Waiting => note("\n(/exit or Ctrl-D ends; so does another Ctrl-C)"),
        }
    }
}

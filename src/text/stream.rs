//! Pieces of text as an asynchronous stream, produced on a thread of its own.

use super::generate::{GenerateOptions, Piece, Prompt};
use super::model::TextModel;
use crate::Result;
use crate::cancel::CancelToken;
use futures::channel::mpsc::{Receiver, channel};
use futures::{SinkExt, Stream};
use std::pin::Pin;
use std::task::{Context, Poll};

/// Pieces that may wait to be read before the generation pauses.
const WAITING_PIECES: usize = 64;

/// A text as a [`Stream`]; dropping it cancels the generation. Needs no particular executor.
#[derive(Debug)]
pub struct PieceStream {
    pieces: Receiver<Result<Piece>>,
    cancel: CancelToken,
}

impl TextModel {
    /// Generates a text on a thread of its own, as an asynchronous stream.
    ///
    /// # Errors
    /// Those of [`generate`](Self::generate).
    pub fn stream(&self, prompt: impl Into<Prompt>, options: &GenerateOptions) -> Result<PieceStream> {
        let text = self.generate(prompt, options)?;
        let (mut sender, pieces) = channel(WAITING_PIECES);
        std::thread::spawn(move || {
            for piece in text {
                if pollster::block_on(sender.send(piece)).is_err() {
                    break;
                }
            }
        });
        Ok(PieceStream { pieces, cancel: options.cancel.clone() })
    }
}

impl Stream for PieceStream {
    type Item = Result<Piece>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.pieces).poll_next(context)
    }
}

impl Drop for PieceStream {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

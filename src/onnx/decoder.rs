//! Decoders of tokens in the ONNX format: tokens in, logits out, with the keys and values of earlier
//! tokens in caches on the device.
//!
//! Such a file takes `past_key_values.*` and gives `present.*`, the past with the new tokens after
//! it. Of growing tensors every length is another shape, which is planned anew. So a cache has room
//! for more tokens than there are, a step writes its row where the next one is free, and the
//! attention mask hides those that are still empty: one plan for all steps. That holds where the
//! model knows places from `position_ids` and rows that count from `attention_mask` alone, which is
//! found out by computing the last token again that way. Models for which it does not hold, and
//! prompts, run on the rows that there are.

use super::cache::{Cache, TokenInputs};
use super::element::{ElementType, OnnxTensor};
use super::kept::{Keeping, PLACE, View};
use super::model::OnnxModel;
use super::stream::Carrier;
use crate::graph::Graph;
use crate::ops::WriteRows;
use crate::session::NoWeights;
use crate::tensor::Tensor;
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How a decoder works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnnxDecoderOptions {
    /// Most tokens; files do not say how many the model was trained for. Where it has a table of
    /// positions, no more than that has.
    pub context: usize,
    /// Tokens for which the caches have room at first; they grow to the next power of two.
    pub capacity: usize,
    /// Inputs and the outputs that are their next values, besides `past*` and `present*`.
    pub pairs: Vec<(String, String)>,
}

impl Default for OnnxDecoderOptions {
    fn default() -> Self {
        Self { context: 4096, capacity: 128, pairs: Vec::new() }
    }
}

/// A decoder of tokens, for one text at a time.
///
/// ```no_run
/// # fn main() -> wginfer::Result<()> {
/// use std::sync::Arc;
/// use wginfer::onnx::{OnnxDecoder, OnnxDecoderOptions, OnnxModel};
///
/// let model = Arc::new(OnnxModel::load("gpt2_capp/model.onnx")?);
/// let mut decoder = OnnxDecoder::new(model, &OnnxDecoderOptions::default())?;
/// let mut logits = decoder.prefill(&[2, 8, 14, 17, 22, 25, 49])?;
/// for _ in 0..10 {
///     let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
///     logits = decoder.step(best.unwrap_or(0) as u32)?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct OnnxDecoder {
    carrier: Carrier,
    inputs: TokenInputs,
    caches: Vec<Cache>,
    /// The states of the caches.
    states: Vec<String>,
    logits: String,
    options: OnnxDecoderOptions,
    /// Tokens for which the caches have room.
    capacity: usize,
    /// Tokens that they hold.
    length: usize,
    /// The last of these, with its logits.
    last: Option<(u32, Vec<f32>)>,
    steps: Steps,
}

/// How single tokens are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Steps {
    /// In place, for caches of this many rows; 0 while that is not tried.
    InPlace(usize),
    /// On the rows that there are.
    Exact,
}

impl OnnxDecoder {
    /// A decoder with empty caches. Several of one model share its weights.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where the model is not a decoder of tokens, [`Error::Request`] for
    /// options that do not fit it.
    pub fn new(model: Arc<OnnxModel>, options: &OnnxDecoderOptions) -> Result<Self> {
        let path = model.file.path.display().to_string();
        let named = |error| match error {
            Error::Unsupported(message) => Error::Unsupported(format!("{path}: {message}")),
            other => other,
        };
        let caches = Cache::find(&model.inputs(), &model.outputs(), &options.pairs).map_err(&named)?;
        if caches.is_empty() {
            let message = "a decoder without inputs `past_key_values.*` and outputs `present.*`";
            return Err(named(Error::Unsupported(message.into())));
        }
        let inputs = model.inputs();
        let others = inputs.iter().filter(|input| caches.iter().all(|cache| cache.input != input.name));
        let inputs = TokenInputs::find(others).map_err(&named)?;
        let names: Vec<String> = model.outputs().into_iter().map(|output| output.name).collect();
        let logits = names.iter().find(|name| *name == "logits").cloned();
        let logits =
            logits.ok_or_else(|| named(Error::Unsupported("a decoder without output `logits`".into())))?;
        let mut options = options.clone();
        options.context = options.context.min(inputs.learned_positions(&model.file).unwrap_or(usize::MAX));
        if options.context == 0 {
            return Err(Error::Request("the context must be at least 1 token, got 0".into()));
        }
        let mut nodes = model.file.graph.nodes.iter();
        // It takes the places from the number of rows that count.
        let knows_places = inputs.has_positions() || nodes.any(|node| node.operator == "GroupQueryAttention");
        let in_place = inputs.has_mask() && knows_places && caches.iter().all(|cache| cache.axis.is_some());
        let steps = if in_place { Steps::InPlace(0) } else { Steps::Exact };
        let (carrier, states) = (Carrier::new(model), Vec::new());
        Ok(Self {
            carrier,
            inputs,
            caches,
            states,
            logits,
            options,
            capacity: 0,
            length: 0,
            last: None,
            steps,
        })
    }

    /// Tokens in the caches.
    pub fn position(&self) -> usize {
        self.length
    }

    /// Most tokens.
    pub fn context(&self) -> usize {
        self.options.context
    }

    /// Tokens for which the caches have room now.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Whether steps write to the caches in place, by one plan for all; if not, each step is planned
    /// for its length. Known after the first step.
    pub fn is_in_place(&self) -> bool {
        matches!(self.steps, Steps::InPlace(rows) if rows > 0)
    }

    /// How often the model was imported: once for each length of a prompt and each capacity.
    pub fn imports(&self) -> usize {
        self.carrier.imports()
    }

    /// Dispatches of a step; 0 before the first, or where they are not in place.
    pub fn dispatches_per_token(&self) -> usize {
        let in_place = |keeping: &Keeping| {
            keeping.values.values().any(|kept| matches!(kept.view, View::Appended { .. }))
        };
        self.carrier.dispatches(in_place)
    }

    /// Forgets all tokens.
    ///
    /// # Errors
    /// What the device says.
    pub fn reset(&mut self) -> Result<()> {
        (self.length, self.last) = (0, None);
        let states = &self.states;
        self.carrier.with(|state| states.iter().try_for_each(|name| state.session.clear_state(name)))
    }

    /// Takes in a prompt, or more tokens of a text, and returns the logits after the last of them.
    ///
    /// # Errors
    /// [`Error::ContextOverflow`], [`Error::Request`] without tokens, those of [`OnnxModel::run`].
    pub fn prefill(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        self.extend(tokens, &|| false)
    }

    /// Takes in one token and returns the logits after it.
    ///
    /// # Errors
    /// As [`prefill`](Self::prefill).
    pub fn step(&mut self, token: u32) -> Result<Vec<f32>> {
        self.extend(&[token], &|| false)
    }

    /// Takes in tokens and returns the logits after the last of them; `cancelled` is asked between
    /// the submits of long work. The first tokens are one run, later ones a run each.
    ///
    /// # Errors
    /// As [`prefill`](Self::prefill), and [`Error::Cancelled`]. The decoder holds the tokens that
    /// were taken in then, see [`position`](Self::position).
    pub fn extend(&mut self, tokens: &[u32], cancelled: &dyn Fn() -> bool) -> Result<Vec<f32>> {
        let (needed, context) = (self.length.saturating_add(tokens.len()), self.options.context);
        if needed > context {
            return Err(Error::ContextOverflow { needed, context });
        }
        let Some(&last) = tokens.last() else {
            return Err(Error::Request("there are no tokens to take in".into()));
        };
        if self.length == 0 {
            self.reserve((needed + 1).min(context))?;
            let logits = self.run_exact(tokens, 0, cancelled)?;
            (self.length, self.last) = (needed, Some((last, logits.clone())));
            return Ok(logits);
        }
        let mut logits = Vec::new();
        for &token in tokens {
            self.reserve(self.length + 1)?;
            self.try_in_place(cancelled)?;
            logits = match self.steps {
                Steps::InPlace(_) => self.run_in_place(token, self.length, cancelled)?,
                Steps::Exact => self.run_exact(&[token], self.length, cancelled)?,
            };
            self.length += 1;
            self.last = Some((token, logits.clone()));
        }
        Ok(logits)
    }

    /// Computes the last token again in place, where that was not done for caches of this size. If
    /// it gives other logits, or the model cannot be built so, steps are exact from now on.
    fn try_in_place(&mut self, cancelled: &dyn Fn() -> bool) -> Result<()> {
        let (Steps::InPlace(rows), Some((token, logits))) = (self.steps, self.last.clone()) else {
            return Ok(());
        };
        if rows == self.capacity {
            return Ok(());
        }
        let place = self.length - 1;
        let reason = match self.run_in_place(token, place, cancelled) {
            Ok(again) if is_close(&again, &logits) => {
                self.steps = Steps::InPlace(self.capacity);
                return Ok(());
            }
            Ok(_) => "the model does not take the places of tokens from its inputs alone".to_owned(),
            Err(Error::Unsupported(message) | Error::Op { message, .. } | Error::File { message, .. }) => {
                message
            }
            Err(error) => return Err(error),
        };
        log::info!("each token is planned anew: {reason}");
        self.steps = Steps::Exact;
        // Its row holds what was computed just now.
        self.run_exact(&[token], place, cancelled).map(drop)
    }

    /// Runs tokens after the first rows of the caches.
    fn run_exact(&mut self, tokens: &[u32], rows: usize, cancelled: &dyn Fn() -> bool) -> Result<Vec<f32>> {
        let given = self.inputs.given(tokens, rows, rows + tokens.len())?;
        self.run(given, |axis| View::First { axis, rows }, cancelled)
    }

    /// Runs a token whose row of the caches is at a place.
    fn run_in_place(&mut self, token: u32, place: usize, cancelled: &dyn Fn() -> bool) -> Result<Vec<f32>> {
        let mut given = self.inputs.given(&[token], place, self.capacity)?;
        let place = OnnxTensor::new(ElementType::Uint32, &Tensor::from_i64([1], &[place as i64]))?;
        given.insert(PLACE.to_owned(), place);
        self.run(given, |axis| View::Appended { axis }, cancelled)
    }

    fn run(
        &mut self,
        given: BTreeMap<String, OnnxTensor>,
        view: impl Fn(usize) -> View,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Vec<f32>> {
        let kept = |(cache, state): (&Cache, &String)| {
            let view = cache.axis.map_or(View::Whole, &view);
            (cache.input.clone(), cache.kept(state, self.capacity, view))
        };
        let values = self.caches.iter().zip(&self.states).map(kept).collect();
        let keeping = Keeping { values, last_row: Some(self.logits.clone()) };
        let mut outputs = self.carrier.run(&given, &keeping, cancelled)?;
        let logits = outputs.pop().ok_or_else(|| Error::op("onnx", "there are no logits"))?;
        Ok(logits.1.to_f32())
    }

    /// Makes room for so many tokens; those that there are are copied on the device.
    fn reserve(&mut self, tokens: usize) -> Result<()> {
        if tokens <= self.capacity {
            return Ok(());
        }
        let capacity = tokens.next_power_of_two().max(self.options.capacity).min(self.options.context);
        let (before, old) = (self.capacity, self.states.clone());
        let (mut graph, mut states) = (Graph::new(), Vec::new());
        for (index, cache) in self.caches.iter().enumerate() {
            let rows = cache.axis.map_or(String::new(), |_| format!("@{capacity}"));
            let state = self.carrier.state_name(&format!("{}{rows}", cache.input));
            if let (Some(axis), Some(old)) = (cache.axis, old.get(index).filter(|_| self.length > 0)) {
                let whole = |state: &str, rows| cache.kept(state, rows, View::Whole).spec();
                let from = graph.state(old, whole(old, before));
                let to = graph.state(&state, whole(&state, capacity));
                let first = graph.constant("first row", Arc::new(Tensor::from_u32([1], &[0])));
                graph.add_one(WriteRows { axis }, &[to, from, first])?;
            }
            states.push(state);
        }
        if !graph.nodes().is_empty() {
            self.carrier.with(|state| {
                let plans = state.session.add(vec![graph], &NoWeights, &mut |_, _| {})?;
                let copied = state.session.run(plans[0], &[], &[], &|| false);
                state.session.remove(plans);
                copied
            })?;
        }
        self.carrier.forget(|_| true);
        for name in old.iter().filter(|name| !states.contains(name)) {
            self.carrier.remove_state(name);
        }
        (self.capacity, self.states) = (capacity, states);
        Ok(())
    }
}

/// Whether logits differ by no more than rounding, also that of quantised models.
fn is_close(got: &[f32], want: &[f32]) -> bool {
    let (low, high) = want.iter().fold((f32::MAX, f32::MIN), |(low, high), &x| (low.min(x), high.max(x)));
    let most = 0.01 * (high - low);
    got.len() == want.len()
        && got.iter().zip(want).all(|(got, want)| (got - want).abs() <= most || got == want)
}

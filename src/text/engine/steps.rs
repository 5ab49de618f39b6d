//! Steps of decoding. Each leaves what the next one starts from on the device, so that the next is
//! submitted before the tokens of the one before it are read. Whether it is what its sequences
//! want shows when they ask for it; what nobody asks for is forgotten with its slot.

use super::{DECODE_ROWS, DecodeRow, Engine, as_u32, run};
use crate::cancel::CancelToken;
use crate::models::decoder::{LogitRows, Run};
use crate::ops::{INACTIVE, ROW_WORDS, SampleRow};
use crate::session::StartedRun;
use crate::tensor::Tensor;
use crate::text::sampling::sampled_token;
use crate::{Error, Result};

/// A submitted step.
#[derive(Debug)]
struct Step {
    id: u64,
    run: Run,
    /// What it computes, without the rows that were asked for or forgotten.
    rows: Vec<Option<DecodeRow>>,
    result: StepResult,
}

#[derive(Debug)]
enum StepResult {
    Running(StartedRun),
    /// A sampled word for each row.
    Read(Vec<u32>),
}

/// Steps that were submitted and not yet asked for.
#[derive(Debug, Default)]
pub(super) struct Steps {
    waiting: Vec<Step>,
    /// Steps so far.
    count: u64,
    /// Of each plan: the step whose results the device holds.
    newest: Vec<(Run, u64)>,
}

impl Steps {
    /// Forgets what was computed ahead for a slot.
    pub(super) fn forget(&mut self, slot: usize) {
        for step in &mut self.waiting {
            step.rows.iter_mut().for_each(|row| *row = row.filter(|row| row.slot != slot));
        }
        self.waiting.retain(Step::is_wanted);
    }

    /// The step that computes these rows, if it was submitted.
    fn take(&mut self, rows: &[DecodeRow]) -> Option<Step> {
        let computes = |step: &Step| rows.iter().all(|row| step.rows.contains(&Some(*row)));
        let index = self.waiting.iter().position(computes)?;
        Some(self.waiting.swap_remove(index))
    }

    /// Notes that a step was submitted and returns its number.
    fn submitted(&mut self, run: Run) -> u64 {
        self.count += 1;
        self.newest.retain(|(other, _)| *other != run);
        self.newest.push((run, self.count));
        self.count
    }

    fn keep(&mut self, step: Step) {
        if step.is_wanted() {
            self.waiting.push(step);
        }
    }
}

impl Step {
    fn is_wanted(&self) -> bool {
        self.rows.iter().any(Option::is_some)
    }
}

impl Engine {
    /// Decodes one token of each sequence and samples the ones that follow. With `more`, the step
    /// after it is submitted as well before the tokens are read, where the device computes a step
    /// in one go: to be asked for by the next call, with the tokens that this one returns, the
    /// next positions and the next steps of the samplings. Other calls remain right.
    ///
    /// # Errors
    /// As [`prompt`](Self::prompt), and [`Error::Request`] for more rows than slots, or two of one slot.
    pub fn decode(&mut self, rows: &[DecodeRow], more: bool, cancel: &CancelToken) -> Result<Vec<u32>> {
        for (index, row) in rows.iter().enumerate() {
            self.check_ids(&[row.token])?;
            self.check_context(row.position + 1)?;
            if rows[..index].iter().any(|other| other.slot == row.slot) {
                return Err(Error::Request(format!("slot {} is asked for a token twice", row.slot)));
            }
        }
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let _span = self.gpu().span("decode").with("sequences", rows.len());
        let mut step = match self.steps.take(rows) {
            Some(step) => step,
            None => self.submit(rows, cancel)?,
        };
        let mut next = if more { self.follow(&step, rows)? } else { None };
        let words = match step.result {
            StepResult::Running(run) => self.session.finish(run)?[0].to_u32(),
            StepResult::Read(words) => words,
        };
        let mut tokens = Vec::with_capacity(rows.len());
        for row in rows {
            let place = step.rows.iter().position(|other| other.as_ref() == Some(row));
            let place = place.expect("the step was submitted or taken for these rows");
            step.rows[place] = None;
            let (word, doubted) = (words[place], std::mem::take(&mut self.doubted));
            let token = match sampled_token(word) {
                Ok(token) if !doubted => Some(token),
                _ => None,
            };
            if let Some(following) = next.as_mut().and_then(|next| next.rows.get_mut(place)) {
                *following = following.zip(token).map(|(row, token)| DecodeRow { token, ..row });
            }
            tokens.push(match token {
                Some(token) => token,
                None => self.decode_in_f32(*row, word, cancel)?,
            });
        }
        step.result = StepResult::Read(words);
        self.steps.keep(step);
        next.into_iter().for_each(|next| self.steps.keep(next));
        Ok(tokens)
    }

    /// Submits a step of these rows; where it is long, waits for it.
    fn submit(&mut self, rows: &[DecodeRow], cancel: &CancelToken) -> Result<Step> {
        let count = DECODE_ROWS.into_iter().find(|&count| count >= rows.len());
        let Some(count) = count.filter(|_| rows.len() <= self.slots()) else {
            let slots = self.slots();
            return Err(Error::Request(format!(
                "{} sequences at a time, there are {slots} slots",
                rows.len()
            )));
        };
        let run = run(count, false, LogitRows::All, true);
        let plan = self.plan(run)?;
        let (mut tokens, mut positions) = (vec![0u32; count], vec![0u32; count]);
        let (mut slots, mut settings) = (vec![INACTIVE; count], vec![0u32; count * ROW_WORDS]);
        for (index, row) in rows.iter().enumerate() {
            (tokens[index], positions[index], slots[index]) =
                (row.token, as_u32(row.position), as_u32(row.slot));
            settings[index * ROW_WORDS..][..ROW_WORDS].copy_from_slice(&row.sampling.to_words());
        }
        let states = [
            ("tokens", Tensor::from_u32([count], &tokens)),
            ("positions", Tensor::from_u32([count], &positions)),
            ("settings", Tensor::from_u32([count, ROW_WORDS], &settings)),
        ];
        for (what, tensor) in &states {
            self.session.write_state(&run.fed(what), tensor)?;
        }
        let slots: [(&str, &[u8]); 1] = [("slots", bytemuck::cast_slice(&slots))];
        let result = if self.session.is_short(plan) {
            StepResult::Running(self.session.start(plan, &slots, &["next"])?)
        } else {
            let next = self.session.run(plan, &slots, &["next"], &|| cancel.is_cancelled())?;
            StepResult::Read(next[0].to_u32())
        };
        let rows = rows.iter().copied().map(Some).collect();
        Ok(Step { id: self.steps.submitted(run), run, rows, result })
    }

    /// Submits the step after `step`, where it is for the same rows and the device still holds
    /// what it left.
    fn follow(&mut self, step: &Step, rows: &[DecodeRow]) -> Result<Option<Step>> {
        let run = step.run;
        let same = step.rows.iter().copied().eq(rows.iter().copied().map(Some));
        let room = rows.iter().all(|row| row.position + 1 < self.context());
        let held = self.steps.newest.contains(&(run, step.id));
        let waits = matches!(step.result, StepResult::Running(_));
        if !(same && room && held && waits) {
            return Ok(None);
        }
        let plan = self.plan(run)?;
        let result = StepResult::Running(self.session.start(plan, &[], &["next"])?);
        let next = |row: &DecodeRow| DecodeRow {
            position: row.position + 1,
            sampling: SampleRow { step: row.sampling.step.wrapping_add(1), ..row.sampling },
            ..*row
        };
        let rows = rows.iter().map(|row| Some(next(row))).collect();
        Ok(Some(Step { id: self.steps.submitted(run), run, rows, result }))
    }

    /// Computes a row again whose logits were no numbers, which `word` says, in f32.
    fn decode_in_f32(&mut self, row: DecodeRow, word: u32, cancel: &CancelToken) -> Result<u32> {
        if !self.fall_back_to_f32() {
            return sampled_token(word);
        }
        let step = self.submit(&[row], cancel)?;
        let word = match step.result {
            StepResult::Running(run) => self.session.finish(run)?[0].to_u32()[0],
            StepResult::Read(words) => words[0],
        };
        sampled_token(word)
    }
}

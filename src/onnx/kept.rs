//! Values that runs keep on the device: what one run leaves there is what the next one finds.
//!
//! A kept value is a state of the session. The model sees it as an input, whole or in part, and the
//! next version of it is an output, which is written to the state and never read back.

use super::definition::Declared;
use super::element::ElementType;
use super::importer::Importer;
use super::value::{Data, Place, Value};
use crate::graph::ValueId;
use crate::ops::{Concat, Slice, SliceRange, WriteRows};
use crate::tensor::{Shape, Spec, Tensor};
use crate::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};

/// Name under which the place of a new row is given, u32 `[1]`.
pub(super) const PLACE: &str = "%place";

/// What of a run stays on the device, and what is read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Keeping {
    /// By the model's inputs.
    pub(super) values: BTreeMap<String, Kept>,
    /// The only output that is wanted, and that of its last row only.
    pub(super) last_row: Option<String>,
}

/// A value that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Kept {
    /// Name of the session's state.
    pub(super) state: String,
    /// The output that is its next version.
    pub(super) output: String,
    pub(super) element: ElementType,
    /// Shape of the state.
    pub(super) dims: Vec<usize>,
    pub(super) view: View,
}

/// What the model sees of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum View {
    /// All of it; the output has the same shape.
    Whole,
    /// Its first rows along an axis; the output's rows replace them.
    First { axis: usize, rows: usize },
    /// All rows but one along an axis, and only to append one to them. The new row is written at the
    /// place that the run is given, not after the others: that makes no difference to sums over all
    /// rows with a mask that says which of them count.
    Appended { axis: usize },
}

impl Kept {
    pub(super) fn spec(&self) -> Spec {
        Spec::new(self.element.device_dtype(), self.dims.clone())
    }

    /// The shape that the model sees.
    fn seen(&self) -> Vec<usize> {
        let mut dims = self.dims.clone();
        match self.view {
            View::Whole => {}
            View::First { axis, rows } => dims[axis] = rows,
            View::Appended { axis } => dims[axis] -= 1,
        }
        dims
    }
}

/// The kept values of a run that is imported.
#[derive(Debug, Default)]
pub(super) struct Versions {
    keeping: Keeping,
    /// The states as they are at the start, by the model's inputs.
    before: BTreeMap<String, Value>,
    appended: BTreeSet<String>,
    place: Option<Value>,
}

impl<'a> Importer<'a> {
    /// Keeps values on the device.
    pub(super) fn keeping(mut self, keeping: &Keeping) -> Self {
        self.versions.keeping = keeping.clone();
        self
    }

    /// The kept values as the model's inputs.
    pub(super) fn kept_inputs(&mut self) -> Result<Vec<(String, Value)>> {
        if self.versions.keeping.values.is_empty() {
            return Ok(Vec::new());
        }
        let place = self.device_value(Place::Input(PLACE.into()));
        let element = ElementType::Uint32;
        self.versions.place = Some(Value { element, shape: [1].into(), data: Data::Device(place) });
        let mut inputs = Vec::new();
        for (name, kept) in self.versions.keeping.values.clone() {
            let whole = self.state_value(&kept);
            let seen: Shape = kept.seen().into();
            let value = match kept.view {
                View::Whole => whole.clone(),
                View::First { .. } if seen.elements() == 0 => {
                    Value::host(kept.element, Tensor::zeros(Spec::new(kept.element.host_dtype(), seen)))
                }
                View::First { axis, rows } => self.slice_axis(&whole, axis, 0, rows)?,
                View::Appended { .. } => {
                    let data = Data::Device(self.device_value(Place::Past(name.clone())));
                    Value { element: kept.element, shape: seen, data }
                }
            };
            self.versions.before.insert(name.clone(), whole);
            inputs.push((name, value));
        }
        Ok(inputs)
    }

    /// A state of the session.
    fn state_value(&mut self, kept: &Kept) -> Value {
        let data = Data::Device(self.device_value(Place::State(kept.state.clone())));
        Value { element: kept.element, shape: kept.dims.clone().into(), data }
    }

    /// `new` after `past` along an axis: rows of a cache after those that it has. See
    /// [`View::Appended`].
    pub(super) fn append(&mut self, past: &Value, new: &Value, axis: usize) -> Result<Value> {
        let Some(name) = past_name(past) else {
            return match (past.shape.elements(), new.shape.elements()) {
                (0, _) => Ok(new.clone()),
                (_, 0) => Ok(past.clone()),
                _ => self.apply_one(Concat { axis }, &[past, new], new.element),
            };
        };
        let kept = self.versions.keeping.values[&name].clone();
        let fits = kept.view == (View::Appended { axis }) && new.dims().get(axis) == Some(&1);
        if !fits || !self.versions.appended.insert(name.clone()) {
            return Err(Error::Unsupported(format!("{new} is appended to `{name}` along axis {axis}")));
        }
        let (state, place) = (self.versions.before[&name].clone(), self.versions.place.clone());
        let place = place.ok_or_else(|| Error::op("onnx", "the place of a new row is not known"))?;
        self.write_rows(&kept, &state, axis, new, &place)
    }

    /// Writes rows to a state and returns its next version.
    fn write_rows(
        &mut self,
        kept: &Kept,
        state: &Value,
        axis: usize,
        rows: &Value,
        first: &Value,
    ) -> Result<Value> {
        let ids: Vec<ValueId> =
            [state, rows, first].into_iter().map(|value| self.device(value)).collect::<Result<_>>()?;
        let place = self.place();
        let id = self.graph.scope(place, |graph| graph.add_one(WriteRows { axis }, &ids))?;
        let next = self.state_value(kept);
        if let Data::Device(device) = &next.data {
            self.ids.insert(device.number, id);
        }
        Ok(next)
    }

    /// Writes what is kept of the model's outputs, and returns the others that are wanted.
    pub(super) fn keep_outputs(
        &mut self,
        declared: &[Declared],
        outputs: Vec<Value>,
    ) -> Result<Vec<(String, Value)>> {
        let keeping = self.versions.keeping.clone();
        let (mut next, mut wanted) = (Vec::new(), Vec::new());
        for (declared, value) in declared.iter().zip(outputs) {
            let name = &declared.name;
            if let Some((input, kept)) = keeping.values.iter().find(|(_, kept)| kept.output == *name) {
                next.push((input, kept, value));
            } else if keeping.last_row.as_ref().is_none_or(|only| only == name) {
                let value = if keeping.last_row.is_some() { self.last_row(&value)? } else { value };
                wanted.push((name.clone(), self.not_a_state(value)?));
            }
        }
        // What is read of old versions is read before any of them is replaced.
        let mut writes = Vec::new();
        for (input, kept, value) in next {
            self.path.push((input.clone(), "State".into()));
            writes.extend(self.next_rows(input, kept, value)?.map(|(axis, rows)| (input, kept, axis, rows)));
            self.path.pop();
        }
        let zero = Value::integers(ElementType::Uint32, [1], &[0]);
        for (input, kept, axis, rows) in writes {
            self.path.push((input.clone(), "State".into()));
            let state = self.versions.before[input].clone();
            self.write_rows(kept, &state, axis, &rows, &zero)?;
            self.path.pop();
        }
        Ok(wanted)
    }

    /// The rows, and their axis, that must still be written to a state so that it becomes an output.
    fn next_rows(&mut self, input: &str, kept: &Kept, value: Value) -> Result<Option<(usize, Value)>> {
        let is_this = |value: &Value| match &value.data {
            Data::Device(device) => device.place == Place::State(kept.state.clone()),
            _ => false,
        };
        let (axis, fits) = match kept.view {
            View::Appended { .. } if is_this(&value) && self.versions.appended.contains(input) => {
                return Ok(None);
            }
            View::Appended { .. } => {
                let output = &kept.output;
                return Err(Error::Unsupported(format!("`{output}` is not `{input}` with new rows")));
            }
            View::Whole if is_this(&value) => return Ok(None),
            View::Whole => (0, value.dims() == kept.dims),
            View::First { axis, .. } => {
                let mut dims = kept.dims.clone();
                dims[axis] = value.dims().get(axis).map_or(0, |&rows| rows.min(dims[axis]));
                (axis, value.dims() == dims)
            }
        };
        if !fits || value.element != kept.element {
            let (output, spec) = (&kept.output, kept.spec());
            return Err(Error::Unsupported(format!(
                "output `{output}` is {value}, and is kept for input `{input}` in {spec}"
            )));
        }
        let value = self.not_a_state(value)?;
        Ok((value.shape.elements() > 0).then_some((axis, value)))
    }

    /// A copy of a value that is a state as it is now.
    fn not_a_state(&mut self, value: Value) -> Result<Value> {
        match &value.data {
            Data::Device(device) if matches!(device.place, Place::State(_) | Place::Past(_)) => {
                let ranges = value.dims().iter().map(|&size| SliceRange::full(size)).collect();
                self.apply_one(Slice { ranges }, &[&value], value.element)
            }
            _ => Ok(value),
        }
    }

    /// The last row of `[.., rows, cols]`.
    fn last_row(&mut self, value: &Value) -> Result<Value> {
        match *value.dims() {
            [.., rows, _] if rows > 1 => self.slice_axis(value, value.rank() - 2, rows - 1, rows),
            _ => Ok(value.clone()),
        }
    }
}

/// The input of which a value is all rows but one.
pub(super) fn past_name(value: &Value) -> Option<String> {
    match &value.data {
        Data::Device(device) => match &device.place {
            Place::Past(name) => Some(name.clone()),
            _ => None,
        },
        _ => None,
    }
}

//! Operators and the values that they read, in the graph that is being built.

use super::{Importer, SMALLEST_WEIGHT};
use crate::graph::ValueId;
use crate::onnx::element::{ElementType, to_device};
use crate::onnx::file::elements;
use crate::onnx::host;
use crate::onnx::stored::Stored;
use crate::onnx::value::{Data, Place, Value};
use crate::ops::{Cast, Embedding, Op, Transpose};
use crate::tensor::{DType, Spec, Tensor};
use crate::{Error, Result};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

impl Importer<'_> {
    /// A value in the graph, in the device's dtype of its element type.
    pub(in crate::onnx) fn device(&mut self, value: &Value) -> Result<ValueId> {
        let spec = Spec::new(value.element.device_dtype(), value.shape.clone());
        match &value.data {
            Data::Host(tensor) => {
                let tensor = to_device(tensor, value.element)?;
                Ok(self.constant(tensor))
            }
            Data::Stored(stored) => {
                if value.element.is_float() && value.shape.elements() >= SMALLEST_WEIGHT {
                    let source = self.file.source(stored);
                    return Ok(self.graph.weight(spec, source));
                }
                let tensor = to_device(&stored.tensor()?, value.element)?;
                Ok(self.constant(tensor))
            }
            Data::Device(device) => {
                if let Some(id) = self.ids.get(&device.number) {
                    return Ok(*id);
                }
                let name = match &device.place {
                    Place::Input(name) => name.clone(),
                    Place::Slot(number) => format!("%{number}"),
                    Place::State(name) => {
                        let id = self.graph.state(name.clone(), spec);
                        self.ids.insert(device.number, id);
                        return Ok(id);
                    }
                    Place::Past(name) => {
                        return Err(Error::Unsupported(format!("`{name}` is not only appended to")));
                    }
                };
                let id = self.graph.input(name.clone(), spec);
                self.inputs.push((name, device.place.clone()));
                self.ids.insert(device.number, id);
                Ok(id)
            }
        }
    }

    /// A constant; its name is that of its content, by which plans share it.
    fn constant(&mut self, tensor: Tensor) -> ValueId {
        let hash = |seed: u64| {
            let mut hasher = DefaultHasher::new();
            (seed, tensor.spec(), tensor.bytes()).hash(&mut hasher);
            hasher.finish()
        };
        let name = format!("{:016x}{:016x}", hash(0), hash(1));
        if let Some(id) = self.constants.get(&name) {
            return *id;
        }
        let id = self.graph.constant(name.clone(), Arc::new(tensor));
        self.constants.insert(name, id);
        id
    }

    /// A value for an operator's input that must be stored: a weight in its dtype, else a constant.
    fn weight(&mut self, value: &Value) -> Result<ValueId> {
        let known = self.known(value)?;
        match &known.data {
            Data::Stored(stored) if value.element.is_float() => Ok(self.read(stored, value.element)),
            _ => self.device(&known),
        }
    }

    /// A matrix that must be stored, in the dtype that it has in the file. `transposed` swaps its
    /// axes.
    fn matrix(&mut self, value: &Value, transposed: bool) -> Result<ValueId> {
        let known = self.known(value)?;
        if let Data::Stored(stored) = &known.data {
            let stored = if transposed { stored.permuted(&[1, 0]) } else { stored.clone() };
            return Ok(self.read(&stored, stored.stored_element()));
        }
        let known = if transposed {
            self.apply_one(Transpose { permutation: vec![1, 0] }, &[&known], value.element)?
        } else {
            known
        };
        self.device(&known)
    }

    /// A weight that is read when it is uploaded.
    fn read(&mut self, stored: &Stored, element: ElementType) -> ValueId {
        let dtype = match element {
            ElementType::Float16 => DType::F16,
            ElementType::Bfloat16 => DType::BF16,
            _ => DType::F32,
        };
        let source = self.file.source(stored);
        self.graph.weight(Spec::new(dtype, stored.shape.clone()), source)
    }

    /// The value, read back if it is on the device.
    pub(in crate::onnx) fn known(&mut self, value: &Value) -> Result<Value> {
        if value.is_known() {
            return Ok(value.clone());
        }
        let tensor = self.host(value)?;
        Ok(Value { data: Data::Host(tensor), ..value.clone() })
    }

    /// Applies an operator of one output of this element type: on the host where all inputs are
    /// known, else on the device.
    pub(in crate::onnx) fn apply_one(
        &mut self,
        op: impl Op,
        inputs: &[&Value],
        element: ElementType,
    ) -> Result<Value> {
        let name = op.name();
        let mut outputs = self.apply(op, inputs, &[element])?;
        match (outputs.pop(), outputs.pop()) {
            (Some(output), None) => Ok(output),
            _ => Err(Error::op(name, "has more outputs than one")),
        }
    }

    /// Applies an operator whose outputs have these element types.
    pub(in crate::onnx) fn apply(
        &mut self,
        op: impl Op,
        inputs: &[&Value],
        elements: &[ElementType],
    ) -> Result<Vec<Value>> {
        if inputs.iter().all(|value| value.is_known()) {
            let known = inputs.iter().map(|value| self.host(value).map(|tensor| (value.element, tensor)));
            let known: Vec<(ElementType, Arc<Tensor>)> = known.collect::<Result<_>>()?;
            return host::apply(&op, &known, elements, self.limit());
        }
        let mut ids = Vec::with_capacity(inputs.len());
        for (index, value) in inputs.iter().enumerate() {
            let stored = op.layout(index) == crate::kernel::Layout::Rows;
            ids.push(if stored { self.weight(value)? } else { self.device(value)? });
        }
        self.apply_ids(op, &ids, elements)
    }

    /// x Wᵀ of a matrix W, or x W where `transposed`; see [`Op::layout`].
    pub(in crate::onnx) fn apply_linear(
        &mut self,
        op: impl Op,
        x: &Value,
        weight: (&Value, bool),
        bias: Option<&Value>,
    ) -> Result<Value> {
        let mut ids = vec![self.device(x)?, self.matrix(weight.0, weight.1)?];
        if let Some(bias) = bias {
            ids.push(self.device(bias)?);
        }
        let mut outputs = self.apply_ids(op, &ids, &[x.element])?;
        outputs.pop().ok_or_else(|| Error::op("linear", "has no output"))
    }

    /// Rows of a known table `[rows, width]` by their numbers on the device.
    pub(in crate::onnx) fn apply_embedding(&mut self, table: &Value, rows: &Value) -> Result<Value> {
        let ids = [self.matrix(table, false)?, self.device(rows)?];
        let mut outputs = self.apply_ids(Embedding { scale: 1.0 }, &ids, &[table.element])?;
        outputs.pop().ok_or_else(|| Error::op("embedding", "has no output"))
    }

    /// The node that is imported, with what is around it.
    pub(in crate::onnx) fn place(&self) -> String {
        self.path.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join("/")
    }

    fn apply_ids(&mut self, op: impl Op, ids: &[ValueId], elements: &[ElementType]) -> Result<Vec<Value>> {
        let name = op.name();
        let specs: Vec<Spec> = ids.iter().map(|id| self.graph.spec(*id).clone()).collect();
        let inferred = op.infer(&specs)?;
        for spec in &inferred {
            self.check_dims(spec.shape.dims())?;
        }
        if inferred.len() != elements.len() {
            return Err(Error::op(
                name,
                format!("has {} outputs, expected {}", inferred.len(), elements.len()),
            ));
        }
        let outputs = self.graph.scope(self.place(), |graph| graph.add(op, ids))?;
        let mut values = Vec::with_capacity(outputs.len());
        for ((spec, id), &element) in inferred.into_iter().zip(outputs).zip(elements) {
            if spec.dtype != element.device_dtype() {
                return Err(Error::op(name, format!("gives {spec} where {element} is wanted")));
            }
            values.push(if spec.elements() == 0 {
                Value::host(element, Tensor::zeros(Spec::new(element.host_dtype(), spec.shape)))
            } else {
                let number = self.devices + 1;
                let device = self.device_value(Place::Slot(number));
                self.ids.insert(number, id);
                self.made.push((Arc::downgrade(&device), id));
                Value { element, shape: spec.shape, data: Data::Device(device) }
            });
        }
        Ok(values)
    }

    /// Most elements of a tensor that is computed on the host.
    pub(in crate::onnx) fn limit(&self) -> usize {
        self.file.limits.host_elements
    }

    /// Floats on the device rounded to f16 or bf16 and back, as values of type `to`.
    pub(in crate::onnx) fn round_through(
        &mut self,
        value: &Value,
        dtype: DType,
        to: ElementType,
    ) -> Result<Value> {
        let id = self.device(value)?;
        let narrow = self.graph.scope(self.place(), |graph| graph.add_one(Cast { to: dtype }, &[id]))?;
        let mut outputs = self.apply_ids(Cast { to: DType::F32 }, &[narrow], &[to])?;
        outputs.pop().ok_or_else(|| Error::op("cast", "has no output"))
    }

    /// Fails when a tensor of these sizes is larger than the limit.
    pub(in crate::onnx) fn check_dims(&self, dims: &[usize]) -> Result<()> {
        let limit = self.file.limits.elements;
        match elements(dims).filter(|&elements| elements <= limit) {
            Some(_) => Ok(()),
            None => Err(Error::op("onnx", format!("a tensor of {dims:?} is larger than {limit} elements"))),
        }
    }

    /// The integers of a value, which must be known to build the graph.
    pub(in crate::onnx) fn host_integers(&mut self, value: &Value) -> Result<Vec<i64>> {
        if value.element.is_float() {
            return Err(Error::op("onnx", format!("integers are wanted, got {value}")));
        }
        Ok(self.host(value)?.to_i64())
    }

    /// The one number of a value, which must be known to build the graph.
    pub(in crate::onnx) fn host_number(&mut self, value: &Value) -> Result<f64> {
        match self.host(value)?.to_f64().as_slice() {
            [number] => Ok(*number),
            _ => Err(Error::op("onnx", format!("one number is wanted, got {value}"))),
        }
    }

    /// Sizes of dimensions, which must be known to build the graph.
    pub(in crate::onnx) fn host_dims(&mut self, value: &Value) -> Result<Vec<usize>> {
        let integers = self.host_integers(value)?;
        let dims: Option<Vec<usize>> = integers.iter().map(|&size| usize::try_from(size).ok()).collect();
        let dims = dims.ok_or_else(|| Error::op("onnx", format!("{integers:?} are no sizes")))?;
        self.check_dims(&dims)?;
        Ok(dims)
    }
}

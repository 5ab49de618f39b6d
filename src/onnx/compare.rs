//! Comparing what each node's kernels compute with the references of its operators.

use super::element::OnnxTensor;
use super::file::OnnxFile;
use super::importer::Importer;
use super::model::OnnxModel;
use super::trace::Data;
use super::value::Place;
use crate::graph::{Graph, Source, ValueId};
use crate::session::{Session, WeightRows};
use crate::tensor::{Spec, Tensor};
use crate::{Error, Result};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::sync::PoisonError;

/// How far what an operator computed lies from its reference on the same inputs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeDifference {
    /// Name of the ONNX node and of the engine's operator: "conv1.conv".
    pub node: String,
    /// Dtype and shape of the output.
    pub output: String,
    /// Largest difference of an element; infinite where one is NaN or infinite and should not be.
    pub largest_difference: f64,
    /// Largest absolute value of the reference.
    pub largest_value: f64,
}

impl OnnxModel {
    /// Runs the model and compares what each of its operators makes of its inputs on the device
    /// with what its reference makes of the same inputs on the host, in the order of the nodes.
    /// Nothing is fused, and references take long: for small inputs.
    ///
    /// # Errors
    /// Those of [`run`](Self::run).
    pub fn compare_nodes(&self, inputs: &[(&str, OnnxTensor)]) -> Result<Vec<NodeDifference>> {
        let given: BTreeMap<String, OnnxTensor> = self.given(inputs)?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let data = Data { given: &given, slots: HashMap::new() };
        Importer::new(&self.file, Some(&mut state.session), data, &|| false).compare()
    }
}

impl Importer<'_> {
    /// Runs the model and compares what each operator made of its inputs with its reference.
    pub(super) fn compare(mut self) -> Result<Vec<NodeDifference>> {
        self.differences = Some(Vec::new());
        let imported = self.import();
        self.remove_plans();
        imported?;
        Ok(self.differences.unwrap_or_default())
    }
}

/// Compares all nodes of a graph that is about to be run.
pub(super) fn compare_nodes(
    graph: &Graph,
    inputs: &[(String, Place)],
    data: &Data<'_>,
    (file, session): (&OnnxFile, &mut Session),
) -> Result<Vec<NodeDifference>> {
    let mut known = stored_values(graph, file)?;
    let mut given = Vec::with_capacity(inputs.len());
    for (name, place) in inputs {
        given.push((name.as_str(), data.device(place)?));
    }
    for (id, value) in graph.values() {
        let found = given.iter().find(|(name, _)| *name == value.name);
        if let (Source::Input, Some((_, tensor))) = (&value.source, found) {
            known.insert(id, tensor.clone());
        }
    }
    let mut whole = graph.clone();
    let mut wanted: Vec<(ValueId, String)> = Vec::new();
    for id in graph.nodes().iter().flat_map(|node| &node.outputs).filter(|id| graph.spec(**id).elements() > 0)
    {
        let name = match graph.outputs().iter().find(|(_, output)| output == id) {
            Some((name, _)) => name.clone(),
            None => {
                let name = format!("{id:?}");
                whole.output(name.clone(), *id);
                name
            }
        };
        wanted.push((*id, name));
    }
    let plans = session.add(vec![whole], file, &mut |_, _| {})?;
    let bytes: Vec<(&str, &[u8])> = given.iter().map(|(name, tensor)| (*name, tensor.bytes())).collect();
    let names: Vec<&str> = wanted.iter().map(|(_, name)| name.as_str()).collect();
    let results = session.run(plans[0], &bytes, &names, &|| false);
    session.remove(plans);
    known.extend(wanted.iter().map(|(id, _)| *id).zip(results?));
    let mut differences = Vec::with_capacity(graph.nodes().len());
    for node in graph.nodes() {
        let inputs = node.inputs.iter().map(|id| known.get(id).cloned());
        let missing = || Error::op(&node.name, "an input is not known here");
        let inputs: Vec<Tensor> = inputs.collect::<Option<_>>().ok_or_else(missing)?;
        for (id, want) in node.outputs.iter().zip(node.op.reference(&inputs)?) {
            differences.extend(known.get(id).map(|got| NodeDifference::of(&node.name, got, &want)));
        }
    }
    Ok(differences)
}

/// The values of a graph that are there before a run.
fn stored_values(graph: &Graph, file: &OnnxFile) -> Result<HashMap<ValueId, Tensor>> {
    let mut known = HashMap::new();
    for (id, value) in graph.values() {
        match &value.source {
            Source::Constant(tensor) => {
                known.insert(id, Tensor::clone(tensor));
            }
            Source::Weight(source) => {
                let (rows, cols) = value.spec.shape.rows_and_cols();
                let bytes = file.rows(source, &value.spec, 0..rows, cols)?;
                known.insert(id, Tensor::from_bytes(value.spec.clone(), bytes));
            }
            _ if value.spec.elements() == 0 => {
                let spec: Spec = value.spec.clone();
                known.insert(id, Tensor::zeros(spec));
            }
            _ => {}
        }
    }
    Ok(known)
}

impl NodeDifference {
    fn of(node: &str, got: &Tensor, want: &Tensor) -> Self {
        let (mut difference, mut largest) = (0.0_f64, 0.0_f64);
        for (got, want) in got.to_f64().into_iter().zip(want.to_f64()) {
            if got == want || (got.is_nan() && want.is_nan()) {
                continue;
            }
            let one = (got - want).abs();
            difference = if one.is_nan() { f64::INFINITY } else { difference.max(one) };
        }
        for value in want.to_f64().into_iter().filter(|value| value.is_finite()) {
            largest = largest.max(value.abs());
        }
        Self {
            node: node.to_owned(),
            output: got.spec().to_string(),
            largest_difference: difference,
            largest_value: largest,
        }
    }
}

//! A model's graph in the DOT language of Graphviz, as its file has it.

use super::check::{graphs, qualified};
use super::definition::{Declared, Subgraph};
use super::file::{OnnxFile, OnnxLimits};
use crate::Result;
use std::collections::HashMap;
use std::fmt::Write;
use std::path::Path;

/// The nodes of a model and what they read; the bodies of control flow are boxes.
///
/// # Errors
/// [`Error::File`](crate::Error::File) or [`Error::Unsupported`](crate::Error::Unsupported) that
/// says what is wrong with the file.
pub fn model_dot(path: &Path, limits: OnnxLimits) -> Result<String> {
    let file = OnnxFile::open(path, limits)?;
    let mut writer = Writer { text: String::new(), nodes: 0 };
    writer.line(0, "digraph model {");
    writer.line(1, "node [shape=box, fontname=\"sans-serif\"];");
    writer.subgraph(&file.graph, 1, &HashMap::new());
    writer.line(0, "}");
    Ok(writer.text)
}

struct Writer {
    text: String,
    nodes: usize,
}

impl Writer {
    fn line(&mut self, depth: usize, line: &str) {
        // Writing to a String does not fail.
        let _ = writeln!(self.text, "{:1$}{line}", "", depth * 2);
    }

    /// A node of the drawing; returns its name.
    fn node(&mut self, depth: usize, label: &str, style: &str) -> String {
        self.nodes += 1;
        let name = format!("n{}", self.nodes);
        self.line(depth, &format!("{name} [label=\"{}\"{style}];", escaped(label)));
        name
    }

    /// Draws a graph; `around` says which node makes each value that it may read.
    fn subgraph(&mut self, graph: &Subgraph, depth: usize, around: &HashMap<String, String>) {
        let mut makers = around.clone();
        for input in graph.inputs.iter().filter(|input| !graph.initializers.contains_key(&input.name)) {
            let node = self.node(depth, &declared(input), ", shape=ellipse");
            makers.insert(input.name.clone(), node);
        }
        for definition in &graph.nodes {
            let stored = definition.inputs.iter().filter_map(|name| graph.initializers.get(name));
            let weights: String =
                stored.map(|tensor| format!("\\n{}{}", tensor.element, tensor.shape)).collect();
            let label = format!("{}\\n{}{weights}", qualified(definition), definition.name);
            let node = self.node(depth, &label, "");
            for name in &definition.inputs {
                if let Some(maker) = makers.get(name) {
                    let edge = format!("{maker} -> {node} [label=\"{}\"];", escaped(name));
                    self.line(depth, &edge);
                }
            }
            for body in graphs(definition) {
                self.line(depth, &format!("subgraph cluster_{} {{", self.nodes));
                self.subgraph(body, depth + 1, &makers);
                self.line(depth, "}");
            }
            makers.extend(definition.outputs.iter().map(|name| (name.clone(), node.clone())));
        }
        for output in &graph.outputs {
            let node = self.node(depth, &declared(output), ", shape=ellipse");
            if let Some(maker) = makers.get(&output.name) {
                self.line(depth, &format!("{maker} -> {node};"));
            }
        }
    }
}

/// Name, type and dimensions of an input or output.
fn declared(value: &Declared) -> String {
    let dims = value.dims.as_ref().map(|dims| dims.iter().map(ToString::to_string).collect::<Vec<_>>());
    let element = value.element.map_or("", super::element::ElementType::name);
    format!("{}\\n{element}[{}]", value.name, dims.unwrap_or_default().join(", "))
}

/// A text within quotes; the line breaks that labels are made with stay.
fn escaped(text: &str) -> String {
    let letters = text.replace("\\n", "\u{0}").replace('\\', "\\\\").replace('"', "\\\"");
    letters
        .chars()
        .filter(|letter| !letter.is_control() || *letter == '\u{0}')
        .collect::<String>()
        .replace('\u{0}', "\\n")
}

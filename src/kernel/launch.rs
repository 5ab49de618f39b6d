//! A dispatch as data: kernel, variant, parameters, bindings, grid.

use super::params::Params;
use super::select::Selected;
use crate::tensor::Spec;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A WGSL template and its name: a `static` in its operator's file.
#[derive(Debug)]
pub struct Kernel {
    /// Name of the shader file without its ending.
    pub name: &'static str,
    /// The template's text.
    pub source: &'static str,
}

/// Value of a template variable.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Variant {
    /// A switch.
    Bool(bool),
    /// A number.
    Int(u32),
    /// A name.
    Name(&'static str),
    /// Lines of the shader that its operator writes.
    Text(Arc<str>),
}

impl From<bool> for Variant {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<u32> for Variant {
    fn from(value: u32) -> Self {
        Self::Int(value)
    }
}

impl From<&'static str> for Variant {
    fn from(value: &'static str) -> Self {
        Self::Name(value)
    }
}

impl From<String> for Variant {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

/// What a binding of a launch refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operand {
    /// An input of the node.
    Input(usize),
    /// A row part of an input: input, part (see [`row_parts`](super::row_parts)).
    InputPart(usize, usize),
    /// An output of the node.
    Output(usize),
    /// A scratch value of the node.
    Scratch(usize),
}

/// Everything that one dispatch needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Launch {
    /// Name of the kernel.
    pub kernel: &'static str,
    /// The kernel's template.
    pub source: &'static str,
    /// Template variables.
    pub variants: BTreeMap<&'static str, Variant>,
    /// Parameters.
    pub params: Params,
    /// What is bound, in the order of the shader's binding numbers.
    pub bindings: Vec<Operand>,
    /// Workgroups in x, y, z.
    pub workgroups: [u32; 3],
    /// Multiply-adds or loads it takes, roughly; bounds the time of a submit.
    pub work: u64,
}

impl Kernel {
    /// Makes a kernel.
    pub const fn new(name: &'static str, source: &'static str) -> Self {
        Self { name, source }
    }

    /// Starts a launch of this kernel.
    pub fn launch(&self) -> Launch {
        Launch {
            kernel: self.name,
            source: self.source,
            variants: BTreeMap::new(),
            params: Params::default(),
            bindings: Vec::new(),
            workgroups: [1, 1, 1],
            work: 0,
        }
    }
}

impl Launch {
    /// Sets a template variable.
    #[must_use]
    pub fn variant(mut self, key: &'static str, value: impl Into<Variant>) -> Self {
        self.variants.insert(key, value.into());
        self
    }

    /// Sets the parameters.
    #[must_use]
    pub fn params(mut self, params: impl Into<Params>) -> Self {
        self.params = params.into();
        self
    }

    /// Sets what is bound, in the order of the shader's binding numbers.
    #[must_use]
    pub fn bind(mut self, bindings: impl IntoIterator<Item = Operand>) -> Self {
        self.bindings = bindings.into_iter().collect();
        self
    }

    /// Binds the first `inputs` inputs, then the first `outputs` outputs.
    #[must_use]
    pub fn bind_all(self, inputs: usize, outputs: usize) -> Self {
        self.bind((0..inputs).map(Operand::Input).chain((0..outputs).map(Operand::Output)))
    }

    /// Sets the grid.
    #[must_use]
    pub fn workgroups(mut self, workgroups: [u32; 3]) -> Self {
        self.workgroups = workgroups;
        self
    }

    /// The template variables as text: "elem=f32 rows=16 gated"; switches that are off
    /// and lines of the shader are left out.
    pub fn variant_text(&self) -> String {
        variants_text(&self.variants)
    }

    /// Sets the estimate of work.
    #[must_use]
    pub fn work(mut self, work: u64) -> Self {
        self.work = work;
        self
    }
}

/// Template variables in words: switches that are on, numbers and names with their keys.
pub(crate) fn variants_text(variants: &BTreeMap<&'static str, Variant>) -> String {
    let text = |(key, value): (&&str, &Variant)| match value {
        Variant::Bool(on) => on.then(|| (*key).to_owned()),
        Variant::Int(value) => Some(format!("{key}={value}")),
        Variant::Name(value) => Some(format!("{key}={value}")),
        Variant::Text(_) => None,
    };
    variants.iter().filter_map(text).collect::<Vec<_>>().join(" ")
}

/// The dispatches of one node, in order, and the scratch values they need.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Launches {
    /// The dispatches.
    pub steps: Vec<Launch>,
    /// Values that live only during these steps.
    pub scratch: Vec<Spec>,
    /// What was picked where there was a choice.
    pub selected: Vec<Selected>,
}

impl From<Launch> for Launches {
    fn from(launch: Launch) -> Self {
        vec![launch].into()
    }
}

impl From<Vec<Launch>> for Launches {
    fn from(steps: Vec<Launch>) -> Self {
        Self { steps, ..Self::default() }
    }
}

impl Launches {
    /// Adds what was picked.
    #[must_use]
    pub fn selected(mut self, selected: Selected) -> Self {
        self.selected.push(selected);
        self
    }
}

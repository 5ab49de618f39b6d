//! Names of weights: a path into the checkpoint, and the dtypes that they have on the device.

use crate::Result;
use crate::graph::{Graph, Segment, ValueId, WeightSource};
use crate::tensor::{DType, Shape, Spec};

/// Says which dtype a checkpoint's matrix has on the device.
pub trait WeightTypes {
    /// Dtype on the device of the matrix stored under this name.
    fn matrix(&self, tensor: &str) -> DType;
}

impl WeightTypes for DType {
    /// The same dtype for all matrices.
    fn matrix(&self, _: &str) -> DType {
        *self
    }
}

/// A place in the checkpoint's tree of names.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    types: &'a dyn WeightTypes,
    path: &'a str,
}

impl std::fmt::Debug for Scope<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Scope({})", self.path)
    }
}

impl<'a> Scope<'a> {
    /// The place `path`, for example "model.layers.3"; empty for the root.
    pub fn new(types: &'a dyn WeightTypes, path: &'a str) -> Self {
        Self { types, path }
    }

    /// The full name of a tensor below this place.
    pub fn name(&self, tensor: &str) -> String {
        if self.path.is_empty() { tensor.to_owned() } else { format!("{}.{tensor}", self.path) }
    }

    /// Calls `body` with the place below; the nodes that it adds carry its name.
    ///
    /// # Errors
    /// Those of `body`.
    pub fn at<T>(
        &self,
        graph: &mut Graph,
        path: &str,
        body: impl FnOnce(&mut Graph, &Scope<'_>) -> Result<T>,
    ) -> Result<T> {
        let name = self.name(path);
        graph.scope(path, |graph| body(graph, &Scope::new(self.types, &name)))
    }

    /// A vector `[length]`, always f32 on the device.
    pub fn vector(&self, graph: &mut Graph, tensor: &str, length: usize) -> ValueId {
        let segment = Segment { tensor: self.name(tensor), shape: Shape::from([length]), rows: 0..length };
        self.joined(graph, vec![segment], None, false)
    }

    /// A matrix `[rows, cols]` in the dtype that the types say.
    pub fn matrix(&self, graph: &mut Graph, tensor: &str, rows: usize, cols: usize) -> ValueId {
        let segment = Segment { tensor: self.name(tensor), shape: Shape::from([rows, cols]), rows: 0..rows };
        self.joined(graph, vec![segment], Some(cols), false)
    }

    /// A tensor of any shape in the dtype that the types say: the kernel of a convolution.
    pub fn tensor(&self, graph: &mut Graph, tensor: &str, dims: &[usize]) -> ValueId {
        let (name, shape) = (self.name(tensor), Shape::from(dims));
        let (rows, _) = shape.rows_and_cols();
        let spec = Spec::new(self.types.matrix(&name), dims);
        let segment = Segment { tensor: name, shape, rows: 0..rows };
        graph.weight(spec, WeightSource { segments: vec![segment], transposed: false })
    }

    /// A tensor that the file has as `stored`, always f32 and of shape `dims` on the device: learned
    /// tokens, positions and factors.
    pub fn values(&self, graph: &mut Graph, tensor: &str, stored: &[usize], dims: &[usize]) -> ValueId {
        let shape = Shape::from(stored);
        // Of a vector, rows are elements.
        let rows = if dims.len() == 1 { shape.elements() } else { shape.rows_and_cols().0 };
        let segment = Segment { tensor: self.name(tensor), shape, rows: 0..rows };
        graph.weight(Spec::f32(dims), WeightSource { segments: vec![segment], transposed: false })
    }

    /// Stacked rows of several tensors: a matrix with `cols` columns, or a vector without.
    /// `transposed` when the files hold the matrix as `[cols, rows]`.
    pub fn joined(
        &self,
        graph: &mut Graph,
        segments: Vec<Segment>,
        cols: Option<usize>,
        transposed: bool,
    ) -> ValueId {
        let rows: usize = segments.iter().map(|segment| segment.rows.len()).sum();
        let spec = match cols {
            None => Spec::f32([rows]),
            Some(cols) => {
                let dtypes = segments.iter().map(|segment| self.types.matrix(&segment.tensor));
                // Mixed files are rare; the widest type holds all.
                let dtype = dtypes.reduce(|a, b| if a == b { a } else { DType::F32 }).unwrap_or(DType::F32);
                Spec::new(dtype, [rows, cols])
            }
        };
        graph.weight(spec, WeightSource { segments, transposed })
    }
}

//! The table of cases that every operator is compared on: tests run it over all forms of
//! kernels, `wginfer doctor` over those of the user's device.

use super::Op;
use crate::tensor::{DType, Shape, Tensor, Tolerance};

/// One operator with inputs.
#[derive(Debug)]
pub struct Case {
    /// What is special about it.
    pub name: String,
    /// The operator.
    pub op: std::sync::Arc<dyn Op>,
    /// Its inputs.
    pub inputs: Vec<Tensor>,
    /// Tolerance in place of the output dtype's own; the line that sets it says why.
    pub tolerance: Option<Tolerance>,
    /// Lowers the device's binding limit, so that weights are split into row parts.
    pub max_binding_bytes: Option<u64>,
}

impl Case {
    /// Makes a case with the dtype's tolerance.
    pub fn new(name: impl Into<String>, op: impl Op, inputs: Vec<Tensor>) -> Self {
        Self {
            name: name.into(),
            op: std::sync::Arc::new(op),
            inputs,
            tolerance: None,
            max_binding_bytes: None,
        }
    }

    /// Compares outputs with the reference: the largest deviation as a fraction of what is allowed.
    ///
    /// # Errors
    /// [`Failure`] with the worst element.
    pub fn deviation(&self, outputs: &[Tensor]) -> Result<f64, Failure> {
        let want = self
            .op
            .reference(&self.inputs)
            .map_err(|error| Failure::without_result(format!("reference: {error}")))?;
        if outputs.len() != want.len() {
            let (got, want) = (outputs.len(), want.len());
            return Err(Failure::without_result(format!("got {got} outputs, want {want}")));
        }
        let mut worst = 0.0_f64;
        for (index, (got, want)) in outputs.iter().zip(&want).enumerate() {
            let tolerance = self.tolerance.unwrap_or(Tolerance::of(want.dtype()));
            worst = worst.max(tolerance.worst(got, want));
            if let Some(mismatch) = tolerance.mismatch(got, want) {
                return Err(Failure { message: format!("output {index}: {mismatch}"), worst });
            }
        }
        Ok(worst)
    }

    /// What it computes, for messages: the operator with its attributes, and its inputs.
    pub fn describe(&self) -> String {
        let specs: Vec<String> = self.inputs.iter().map(|tensor| tensor.spec().to_string()).collect();
        format!("{} / {}: {:?} on {}", self.op.name(), self.name, self.op, specs.join(", "))
    }

    /// Sets another tolerance.
    #[must_use]
    pub fn tolerance(mut self, abs: f64, rel: f64) -> Self {
        self.tolerance = Some(Tolerance::new(abs, rel));
        self
    }

    /// Lowers the binding limit.
    #[must_use]
    pub fn max_binding_bytes(mut self, bytes: u64) -> Self {
        self.max_binding_bytes = Some(bytes);
        self
    }
}

/// Why a case failed.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// Expected and got, or the error.
    pub message: String,
    /// Largest deviation as a fraction of what is allowed; infinite where there is no result.
    pub worst: f64,
}

impl Failure {
    /// Without anything to compare.
    pub fn without_result(message: String) -> Self {
        Self { message, worst: f64::INFINITY }
    }
}

/// The cases of all operators.
pub fn all() -> Vec<Case> {
    let families: &[fn() -> Vec<Case>] = &[
        super::adaptive_pool::cases,
        super::arg_extreme::cases,
        super::argmax::cases,
        super::attention::cases,
        super::batch_norm::cases,
        super::binary::cases,
        super::cached_attention::cases,
        super::cast::cases,
        super::concat::cases,
        super::conv::cases,
        super::conv_transpose::cases,
        super::count_tokens::cases,
        super::cumsum::cases,
        super::depth_space::cases,
        super::elementwise::cases,
        super::embedding::cases,
        super::expand::cases,
        super::gather::cases,
        super::gather_elements::cases,
        super::gather_nd::cases,
        super::grid_sample::cases,
        super::group_norm::cases,
        super::head_norm::cases,
        super::integer::cases,
        super::layer_norm::cases,
        super::linear::cases,
        super::lrn::cases,
        super::matmul::cases,
        super::one_hot::cases,
        super::pad::cases,
        super::pool::cases,
        super::recurrent::cases,
        super::reduce::cases,
        super::resample::cases,
        super::reshape::cases,
        super::resize::cases,
        super::reverse_sequence::cases,
        super::rms_norm::cases,
        super::rope::cases,
        super::rope_cache::cases,
        super::sample::cases,
        super::scatter_elements::cases,
        super::scatter_nd::cases,
        super::select::cases,
        super::slice::cases,
        super::softmax::cases,
        super::tile::cases,
        super::top_k::cases,
        super::transpose::cases,
        super::triangle::cases,
        super::unary::cases,
        super::unpack_pixels::cases,
        super::write_rows::cases,
    ];
    families.iter().flat_map(|cases| cases()).collect()
}

/// Rows and columns that cover the ways in which row-wise kernels share a row: shorter and longer
/// than a subgroup's and a workgroup's share, in vectors and element by element.
pub(super) const ROW_SHAPES: [[usize; 2]; 12] = [
    [1, 1],
    [1, 288],
    [2, 3],
    [5, 7],
    [70, 32],
    [33, 67],
    [1, 257],
    [3, 516],
    [17, 768],
    [1, 4_099],
    [1, 16_388],
    [2, 4_097],
];

/// Reproducible random numbers for cases (SplitMix64).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Starts a sequence.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in -1..1.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    /// Uniform in 0..limit.
    pub fn below(&mut self, limit: u32) -> u32 {
        u32::try_from(self.bits() % u64::from(limit)).expect("below a u32")
    }

    /// A tensor with values uniform in -scale..scale, rounded to the dtype.
    pub fn tensor(&mut self, dtype: DType, shape: impl Into<Shape>, scale: f64) -> Tensor {
        let shape = shape.into();
        let values: Vec<f64> = (0..shape.elements()).map(|_| self.unit() * scale).collect();
        Tensor::from_f64(dtype, shape, &values)
    }

    /// An f32 tensor with values uniform in -1..1.
    pub fn f32(&mut self, shape: impl Into<Shape>) -> Tensor {
        self.tensor(DType::F32, shape, 1.0)
    }

    /// A u32 tensor with values below `limit`.
    pub fn u32(&mut self, shape: impl Into<Shape>, limit: u32) -> Tensor {
        let shape = shape.into();
        let values: Vec<u32> = (0..shape.elements()).map(|_| self.below(limit)).collect();
        Tensor::from_u32(shape, &values)
    }
}

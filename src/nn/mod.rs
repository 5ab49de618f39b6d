//! Blocks over [`Graph`](crate::graph::Graph): what the architectures in `models/` are built of.
//! Blocks say what is computed; how it is fused and dispatched is the graph's and the operators'.

mod attention;
mod embedding;
mod linear;
mod norm;
mod sampling;
mod weights;

pub use attention::{Attention, Cache, Rotary, Rows, rotary_table};
pub use embedding::{add, embedding, scale, select_rows, softcap};
pub use linear::{Projection, linear, project};
pub use norm::{Norm, NormKind};
pub use sampling::{count_tokens, sample};
pub use weights::{Scope, WeightTypes};

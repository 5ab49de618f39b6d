//! Rewrite passes. Each keeps the graph's outputs the same.

mod dead;
mod fold;
mod fuse;

pub(super) use dead::remove_dead_code;

use super::Graph;
use crate::Result;

/// Applies all passes, and checks the graph after each in debug builds.
///
/// # Errors
/// When a folded node's reference fails, or the graph is not well formed.
pub fn optimise(graph: &mut Graph) -> Result<()> {
    for pass in [fold::fold_constants, fuse::fuse_activations, fuse::fuse_residuals, remove_dead_code] {
        pass(graph)?;
        if cfg!(debug_assertions) {
            graph.check()?;
        }
    }
    Ok(())
}

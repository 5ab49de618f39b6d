//! Rewrite passes. Each keeps the graph's outputs the same.

mod dead;
mod fold;
mod fuse;

use super::Graph;
use crate::Result;

/// Applies all passes, and checks the graph after each in debug builds.
///
/// # Errors
/// When a folded node's reference fails, or the graph is not well formed.
pub fn optimise(graph: &mut Graph) -> Result<()> {
    let passes: [fn(&mut Graph) -> Result<()>; 7] = [
        fold::fold_constants,
        fuse::fuse_batch_norms,
        fuse::fuse_activations,
        fuse::fuse_slopes,
        fuse::fuse_residuals,
        // An activation may follow the addition.
        fuse::fuse_activations,
        dead::remove_dead_code,
    ];
    for pass in passes {
        pass(graph)?;
        if cfg!(debug_assertions) {
            graph.check()?;
        }
    }
    Ok(())
}

//! What the adapter can do at best, and the speed of single kernels at shapes of real models beside
//! that; see also `wginfer bench kernels`.
//!
//! `cargo bench --bench ops [-- PART_OF_NAME]`

use wginfer::bench::measure_kernels;
use wginfer::gpu::Gpu;

fn main() -> wginfer::Result<()> {
    // cargo adds flags of its own.
    let only = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    print!("{}", measure_kernels(&Gpu::new()?, 5, &only)?);
    Ok(())
}

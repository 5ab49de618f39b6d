// The least that a dispatch can do: one workgroup adds 1 to each value.
const WIDTH: u32 = ${width}u;

@group(0) @binding(0) var<storage, read_write> values: array<f32>;  // [WIDTH]

@compute @workgroup_size(WIDTH)
fn main(@builtin(local_invocation_index) lane: u32) { values[lane] += 1.0; }

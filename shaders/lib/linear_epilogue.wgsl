// What follows the sums of a linear layer: bias, activation, gate, residual, store.
// Takes `bias`, `residual`, `gated` and `activation`.

//# include "lib/activation.wgsl"

@group(0) @binding(5) var<storage, read_write> output: array<f32>;  // [rows, output_pitch]

//# if bias
@group(0) @binding(3) var<storage, read> bias: array<f32>;  // [output_pitch], gated: twice that

fn add_bias(sum: f32, column: u32) -> f32 { return sum + bias[column]; }
//# else
fn add_bias(sum: f32, column: u32) -> f32 { return sum; }
//# endif

//# if residual
@group(0) @binding(4) var<storage, read> residual: array<f32>;  // [rows, output_pitch]

fn add_residual(value: f32, index: u32) -> f32 { return value + residual[index]; }
//# else
fn add_residual(value: f32, index: u32) -> f32 { return value; }
//# endif

// Finishes one output, unless it is past the end; `up` is used by gated layers only.
fn store_output(row: u32, column: u32, sum: f32, up: f32) {
    if row >= params.rows || column >= params.cols { return; }
    let at = params.output_first + column;
    let index = row * params.output_pitch + at;
    let value = ${activation}(add_bias(sum, at));
    output[index] = add_residual(${"value * add_bias(up, params.output_pitch + at)" if gated else "value"}, index);
}

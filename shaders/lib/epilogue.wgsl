// What follows the sums of a linear layer or a convolution: bias, residual, activation, gate. A
// `Value` is one output, or four neighbouring ones of a row. Takes `value`: "f32", or "vec4<f32>"
// where all numbers of columns are multiples of four; `bias`; `slope`: whether negative values
// get a factor of their column (He et al. 2015, "Delving Deep into Rectifiers"); `residual`:
// "none", or its place "before" or "after" the activation; `gated`; and what
// lib/activate.wgsl takes.

//# include "lib/activate.wgsl"

alias Value = ${value};
const VALUE: u32 = ${1 if value == "f32" else 4}u;  // outputs of a Value

@group(0) @binding(6) var<storage, read_write> output: array<Value>;  // [rows, columns of all launches]

//# if bias
@group(0) @binding(3) var<storage, read> bias: array<Value>;  // [columns], gated: twice that

fn add_bias(sum: Value, at: u32) -> Value { return sum + bias[at]; }
//# else
fn add_bias(sum: Value, at: u32) -> Value { return sum; }
//# endif

//# if slope
@group(0) @binding(4) var<storage, read> slope: array<Value>;  // [columns]

fn add_slope(x: Value, at: u32) -> Value { return max(x, Value()) + slope[at] * min(x, Value()); }
//# else
fn add_slope(x: Value, at: u32) -> Value { return x; }
//# endif

//# if residual != "none"
@group(0) @binding(5) var<storage, read> residual: array<Value>;  // as the output
//# endif

// Finishes the output `index` (in Values) of the column `at` (in Values); gated layers take the
// sum of the other half, `up`, whose column is `up_at`.
fn finish_output(index: u32, at: u32, sum: Value, up_at: u32, up: Value) {
    let value = ${"activate" if value == "f32" else "activate_vector"}(add_slope(add_bias(sum, at)${" + residual[index]" if residual == "before" else ""}, at));
    output[index] = ${"value * add_bias(up, up_at)" if gated else "value"}${" + residual[index]" if residual == "after" else ""};
}

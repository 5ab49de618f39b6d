// What follows the sums of a linear layer: bias, activation, gate, residual, store, for
// `store_width` (1, 2 or 4) neighbouring columns at a time.
// Takes `bias`, `residual`, `gated`, `activation` and `store_width`.

//# include "lib/activation.wgsl"

//# if store_width == 1
alias Value = f32;

fn activate(value: Value) -> Value { return ${activation}(value); }
//# elif store_width == 2
alias Value = vec2<f32>;

fn activate(value: Value) -> Value { return Value(${activation}(value.x), ${activation}(value.y)); }
//# else
alias Value = vec4<f32>;

fn activate(value: Value) -> Value {
    return Value(${activation}(value.x), ${activation}(value.y), ${activation}(value.z), ${activation}(value.w));
}
//# endif

@group(0) @binding(5) var<storage, read_write> output: array<Value>;  // [rows, output_pitch]

//# if bias
@group(0) @binding(3) var<storage, read> bias: array<Value>;  // [output_pitch], gated: twice that

fn add_bias(sum: Value, column: u32) -> Value { return sum + bias[column / ${store_width}u]; }
//# else
fn add_bias(sum: Value, column: u32) -> Value { return sum; }
//# endif

//# if residual
@group(0) @binding(4) var<storage, read> residual: array<Value>;  // [rows, output_pitch]

fn add_residual(value: Value, index: u32) -> Value { return value + residual[index]; }
//# else
fn add_residual(value: Value, index: u32) -> Value { return value; }
//# endif

// Finishes the outputs from `column` on, unless they are past the end; `up` is used by gated
// layers only.
fn store_output(row: u32, column: u32, sum: Value, up: Value) {
    if row >= params.rows || column >= params.cols { return; }
    let at = params.output_first + column;
    let index = (row * params.output_pitch + at) / ${store_width}u;
    let value = activate(add_bias(sum, at));
    output[index] = add_residual(${"value * add_bias(up, params.output_pitch + at)" if gated else "value"}, index);
}

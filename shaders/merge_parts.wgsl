// Adds up the sums of the parts of an inner dimension, in their order, and finishes the outputs
// of a linear layer or a convolution. Gated: rows of sums are those of the gates, then those of up.
//# include "lib/epilogue.wgsl"

struct Params {
    items: u32,      // Values of the output
    per_group: u32,
    parts: u32,
    cols: u32,       // Values in a row of the output
    pitch: u32,      // Values in a row of sums
    part: u32,       // Values from a part to the next
    alpha: f32,      // arguments of the activation
    beta: f32,
}
@group(0) @binding(0) var<storage, read> sums: array<Value>;  // [parts, rows, pitch]
${params} params: Params;

fn total(first: u32) -> Value {
    var total = Value();
    for (var part = 0u; part < params.parts; part++) { total += sums[part * params.part + first]; }
    return total;
}

fn compute(item: u32) {
    let row = item / params.cols;
    let column = item - row * params.cols;
    let first = row * params.pitch + column;
//# if gated
    finish_output(item, column, total(first), params.cols + column, total(first + params.cols));
//# else
    finish_output(item, column, total(first), 0u, Value());
//# endif
}

//# include "lib/items.wgsl"

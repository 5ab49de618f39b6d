// Several functions of every element, one after the other. An item is four neighbouring elements
// of the output, in rows of `columns` items. Takes `bindings`, the declarations of the inputs;
// `steps`, statements that compute `output[item]` (ops/elementwise.rs writes both); and `inputs`,
// how many there are.
//# include "lib/pack.wgsl"
//# include "lib/binary.wgsl"
//# include "lib/activation.wgsl"
//# include "lib/trigonometry.wgsl"

struct Params {
    items: u32, per_group: u32, columns: u32, inputs: u32,
    counts_low: vec4<u32>, counts_high: vec4<u32>,    // elements of inputs that serve a row each
    numbers_low: vec4<u32>, numbers_high: vec4<u32>,  // arguments of functions
}
${bindings}
@group(0) @binding(${inputs}) var<storage, read_write> output: array<vec4<f32>>;  // [items]
${params} params: Params;

fn compute(row: u32, column: u32) {
    let item = row * params.columns + column;
${steps}
}

//# include "lib/columns.wgsl"

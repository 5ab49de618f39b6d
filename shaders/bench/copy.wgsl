// Bandwidth of copying in vectors of four. An item is one of them.
struct Params { items: u32, per_group: u32 }
@group(0) @binding(0) var<storage, read> input: array<vec4<f32>>;         // [items]
@group(0) @binding(1) var<storage, read_write> output: array<vec4<f32>>;  // [items]
${params} params: Params;

fn compute(item: u32) { output[item] = input[item]; }

//# include "lib/items.wgsl"

// Indices as vectors that have one value at the index and another elsewhere. An item is one
// element of the output.
struct Params { items: u32, per_group: u32, depth: u32, inner: u32, from_end: u32 }
@group(0) @binding(0) var<storage, read> indices: array<u32>;        // [outer, inner]
@group(0) @binding(1) var<storage, read> values: array<u32>;         // elsewhere, at the index
@group(0) @binding(2) var<storage, read_write> output: array<u32>;   // [outer, depth, inner]
${params} params: Params;

fn compute(item: u32) {
    let rows = item / params.inner;
    let outer = rows / params.depth;
    var index = indices[outer * params.inner + item - rows * params.inner];
    if params.from_end == 1u && index >= 0x80000000u { index += params.depth; }
    output[item] = values[select(0u, 1u, index == rows - outer * params.depth)];
}

//# include "lib/items.wgsl"

// The first elements of a sorted axis, and their indices. An item is one element of the outputs.
struct Params { items: u32, per_group: u32, length: u32, inner: u32, k: u32 }
@group(0) @binding(0) var<storage, read> input: array<u32>;          // [outer, length, inner]
@group(0) @binding(1) var<storage, read> lists: array<u32>;          // [outer, inner, length]
@group(0) @binding(2) var<storage, read_write> values: array<u32>;   // [outer, k, inner]
@group(0) @binding(3) var<storage, read_write> indices: array<u32>;  // [outer, k, inner]
${params} params: Params;

fn compute(item: u32) {
    let ranks = item / params.inner;
    let column = item - ranks * params.inner;
    let outer = ranks / params.k;
    let index = lists[(outer * params.inner + column) * params.length + ranks - outer * params.k];
    values[item] = input[(outer * params.length + index) * params.inner + column];
    indices[item] = index;
}

//# include "lib/items.wgsl"

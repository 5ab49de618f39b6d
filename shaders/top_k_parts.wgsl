// Sorts each part of an axis: an item is one element, which finds its rank by comparing with all
// others of its part. Equal elements are in the order of their indices.
struct Params {
    items: u32,
    per_group: u32,
    length: u32,  // of the axis
    inner: u32,
    part: u32,    // elements of a part; the last may have fewer
    kept: u32,    // of each part
}
@group(0) @binding(0) var<storage, read> input: array<u32>;        // [outer, length, inner]
@group(0) @binding(1) var<storage, read_write> lists: array<u32>;  // [outer, inner, length]
${params} params: Params;

//# include "lib/order_key.wgsl"

fn compute(item: u32) {
    let row = item / params.length;
    let place = item - row * params.length;
    let outer = row / params.inner;
    let base = outer * params.length * params.inner + row - outer * params.inner;
    let start = place / params.part * params.part;
    let end = min(start + params.part, params.length);
    let own = order_key(base + place * params.inner);
    var rank = 0u;
    for (var i = start; i < end; i++) {
        let other = order_key(base + i * params.inner);
        rank += select(0u, 1u, other > own || (other == own && i < place));
    }
    if rank < params.kept { lists[row * params.length + start + rank] = place; }
}

//# include "lib/items.wgsl"

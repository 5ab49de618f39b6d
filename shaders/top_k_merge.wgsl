// Merges pairs of sorted runs of an axis: an item is one kept element of a run, whose rank is its
// place plus the number of elements of the other run that come before it.
struct Params {
    items: u32,
    per_group: u32,
    length: u32,  // of the axis
    inner: u32,
    run: u32,     // elements of a run; the last may have fewer
    runs: u32,
    kept: u32,    // of each run
    k: u32,
}
@group(0) @binding(0) var<storage, read> input: array<u32>;         // [outer, length, inner]
@group(0) @binding(1) var<storage, read> lists: array<u32>;         // [outer, inner, length]
@group(0) @binding(2) var<storage, read_write> merged: array<u32>;  // [outer, inner, length]
${params} params: Params;

//# include "lib/order_key.wgsl"

fn compute(item: u32) {
    let runs = item / params.kept;
    let place = item - runs * params.kept;
    let row = runs / params.runs;
    let run = runs - row * params.runs;
    let start = run * params.run;
    if place >= params.length - start { return; }
    let outer = row / params.inner;
    let base = outer * params.length * params.inner + row - outer * params.inner;
    let list = row * params.length;
    let index = lists[list + start + place];
    let own = order_key(base + index * params.inner);
    // All of the run before come first among equals, none of the run behind.
    let other_start = (run ^ 1u) * params.run;
    let after_equals = select(0u, 1u, other_start < start);
    var low = 0u;
    var high = min(params.kept, params.length - min(other_start, params.length));
    while low < high {
        let middle = (low + high) / 2u;
        let other = order_key(base + lists[list + other_start + middle] * params.inner);
        if other > own || (other == own && after_equals == 1u) { low = middle + 1u; } else { high = middle; }
    }
    let rank = place + low;
    if rank < params.k { merged[list + min(start, other_start) + rank] = index; }
}

//# include "lib/items.wgsl"

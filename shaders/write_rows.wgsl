// Writes rows into a state from the place on that an input says. An item is one element; what lies
// beyond the state's rows is left out.

struct Params {
    items: u32,
    per_group: u32,
    rows: u32,      // that are written
    capacity: u32,  // rows of the state
    inner: u32,     // elements of a row
}
@group(0) @binding(0) var<storage, read> input: array<u32>;         // [outer, rows, inner]
@group(0) @binding(1) var<storage, read> first: array<u32>;         // [1]
@group(0) @binding(2) var<storage, read_write> state: array<u32>;   // [outer, capacity, inner]
${params} params: Params;

fn compute(item: u32) {
    let line = item / params.inner;
    let outer = line / params.rows;
    let row = line - outer * params.rows;
    // Not their sum, which may wrap.
    let start = first[0];
    if start >= params.capacity || row >= params.capacity - start { return; }
    let place = (outer * params.capacity + start + row) * params.inner + item - line * params.inner;
    state[place] = input[item];
}

//# include "lib/items.wgsl"

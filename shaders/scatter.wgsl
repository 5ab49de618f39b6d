// Puts updates at their places along an axis of the output, or combines them with what is there,
// in the order of their indices. A line is what remains of the updates without the axis. An item
// is one bucket of a line: it takes those indices that leave its number when divided by the
// number of buckets, so that no two items meet.
//# set combined = {"put": "one", "add": "old + one", "multiply": "old * one", "max": "max(old, one)", "min": "min(old, one)"}[reduction]
alias Value = ${dtype};

struct Params {
    items: u32, per_group: u32, buckets: u32, axes: u32,
    dims_low: vec4<u32>, dims_high: vec4<u32>,        // of the lines
    strides_low: vec4<u32>, strides_high: vec4<u32>,  // of the output along them
    first: u32,       // of the updates of a line that this dispatch takes
    last: u32,        // the one behind
    length: u32,      // of the updates' axis
    inner: u32,       // from one update of a line to the next
    axis_size: u32,   // of the output
    axis_stride: u32,
    from_end: u32,    // 1 where negative indices count from the end
    same_indices: u32,  // 1 where all lines have the same indices
}
@group(0) @binding(0) var<storage, read> indices: array<u32>;         // as the updates, or [length]
@group(0) @binding(1) var<storage, read> updates: array<Value>;       // [outer, length, inner]
@group(0) @binding(2) var<storage, read_write> output: array<Value>;
${params} params: Params;

//# include "lib/walk.wgsl"

fn compute(item: u32) {
    let lines = params.items / params.buckets;
    let bucket = item / lines;
    let line = item - bucket * lines;
    let base = walk(line);
    let outer = line / params.inner;
    var update = (outer * params.length + params.first) * params.inner + line - outer * params.inner;
    for (var i = params.first; i < params.last; i++) {
        var index = indices[select(update, i, params.same_indices == 1u)];
        if params.from_end == 1u && index >= 0x80000000u { index += params.axis_size; }
        // What is outside is passed over.
        if index < params.axis_size && index % params.buckets == bucket {
            let place = base + index * params.axis_stride;
            let old = output[place];
            let one = updates[update];
            output[place] = ${combined};
        }
        update += params.inner;
    }
}

//# include "lib/items.wgsl"

// Index of the largest element along an axis that is not the last, the lowest among equals.
// NaN are passed over. An item is one element of the output.

struct Params { items: u32, per_group: u32, length: u32, inner: u32 }
@group(0) @binding(0) var<storage, read> input: array<f32>;         // [outer, length, inner]
@group(0) @binding(1) var<storage, read_write> output: array<u32>;  // [outer, inner]
${params} params: Params;

fn compute(item: u32) {
    let outer = item / params.inner;
    let start = outer * params.length * params.inner + item - outer * params.inner;
    var bits = 0xff800000u; // minus infinity, of which WGSL has no constant
    var best = bitcast<f32>(bits);
    var index = 0u;
    for (var i = 0u; i < params.length; i++) {
        let value = input[start + i * params.inner];
        if value > best {
            best = value;
            index = i;
        }
    }
    output[item] = index;
}

//# include "lib/items.wgsl"

// The slices that tuples of indices name, one for each tuple: NONE where an index is outside.
struct Params {
    items: u32,
    per_group: u32,
    length: u32,        // indices of a tuple
    per_batch: u32,     // tuples
    sizes_low: vec4<u32>, sizes_high: vec4<u32>,      // of the axes that they index
    strides_low: vec4<u32>, strides_high: vec4<u32>,  // of these axes, in slices
    batch_stride: u32,  // in slices
    from_end: u32,      // 1 where negative indices count from the end
}
@group(0) @binding(0) var<storage, read> indices: array<u32>;       // [items, length]
@group(0) @binding(1) var<storage, read_write> places: array<u32>;  // [items]
${params} params: Params;

//# include "lib/axes.wgsl"

const NONE: u32 = 0xffffffffu;

fn compute(item: u32) {
    var place = item / params.per_batch * params.batch_stride;
    var outside = false;
    for (var axis = 0u; axis < params.length; axis++) {
        let size = of_axis(params.sizes_low, params.sizes_high, axis);
        var index = indices[item * params.length + axis];
        if params.from_end == 1u && index >= 0x80000000u { index += size; }
        outside = outside || index >= size;
        place += index * of_axis(params.strides_low, params.strides_high, axis);
    }
    places[item] = select(place, NONE, outside);
}

//# include "lib/items.wgsl"

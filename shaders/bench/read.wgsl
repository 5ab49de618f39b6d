// Bandwidth of reading: sums of many vectors of four, or of eight f16 in sixteen bytes. An item is one sum; `stride` neighbouring items
// read neighbouring vectors in turns.
//# if element == "vec4<f16>"
enable f16;
//# endif
struct Params {
    items: u32,
    per_group: u32,
    rounds: u32,  // of four vectors
    stride: u32,  // vectors from one to the next of a sum; divides items
}
@group(0) @binding(0) var<storage, read> input: array<${element}>;         // [items * rounds * 4]
@group(0) @binding(1) var<storage, read_write> output: array<vec4<f32>>;  // [items]
${params} params: Params;

fn vector(at: u32) -> vec4<f32> {
    let loaded = input[at];
//# if element == "vec4<u32>"
    return vec4<f32>(unpack2x16float(loaded.x), unpack2x16float(loaded.y))
        + vec4<f32>(unpack2x16float(loaded.z), unpack2x16float(loaded.w));
//# else
    return vec4<f32>(loaded);
//# endif
}

fn compute(item: u32) {
    let turn = item % params.stride;
    var at = (item - turn) * params.rounds * 4u + turn;
//# for k in range(4)
    var sum_${k} = vec4<f32>();
//# endfor
    for (var round = 0u; round < params.rounds; round++) {
//# for k in range(4)
        sum_${k} += vector(at + ${k}u * params.stride);
//# endfor
        at += 4u * params.stride;
    }
    output[item] = (sum_0 + sum_1) + (sum_2 + sum_3);
}

//# include "lib/items.wgsl"

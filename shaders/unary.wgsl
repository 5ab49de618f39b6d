// A function of every element, computed in f32. An item is four elements.
//# include "lib/pack.wgsl"
//# include "lib/activation.wgsl"

struct Params { items: u32, per_group: u32, cap: f32 }
@group(0) @binding(0) var<storage, read> input: array<Packed>;         // [items]
@group(0) @binding(1) var<storage, read_write> output: array<Packed>;  // [items]
${params} params: Params;

// Keeps values within -cap..cap (Gemma 2).
fn softcap(x: f32) -> f32 { return params.cap * tanh_clamped(x / params.cap); }

fn compute(item: u32) {
    let x = unpack(input[item]);
    output[item] = pack(vec4<f32>(${function}(x.x), ${function}(x.y), ${function}(x.z), ${function}(x.w)));
}

//# include "lib/items.wgsl"

// Converts every element to another dtype. An item is four elements; two-byte floats are
// packed and unpacked, which needs no f16 support of the device.
//# if from == "f16" or from == "bf16"
alias From = vec2<u32>;
//# else
alias From = vec4<${from}>;
//# endif
//# include "lib/pack.wgsl"

struct Params { items: u32, per_group: u32 }
@group(0) @binding(0) var<storage, read> input: array<From>;           // [items]
@group(0) @binding(1) var<storage, read_write> output: array<Packed>;  // [items]
${params} params: Params;

//# if from == "f16"
fn to_values(packed: From) -> vec4<f32> { return vec4<f32>(unpack2x16float(packed.x), unpack2x16float(packed.y)); }
//# elif from == "bf16"
fn to_values(packed: From) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4<u32>(packed.x << 16u, packed.x & 0xffff0000u, packed.y << 16u, packed.y & 0xffff0000u));
}
//# else
fn to_values(packed: From) -> From { return packed; }
//# endif

fn compute(item: u32) { output[item] = pack(Values(to_values(input[item]))); }

//# include "lib/items.wgsl"

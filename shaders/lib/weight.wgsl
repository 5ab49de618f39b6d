// Weights in f32, f16 or bf16, four elements a vector, unpacked to f32 without f16 support
// of the device. Takes the variable `weight_dtype`.

//# if weight_dtype == "f32"
alias WeightVector = vec4<f32>;

fn unpack_weight(packed: WeightVector) -> vec4<f32> { return packed; }
//# elif weight_dtype == "f16"
alias WeightVector = vec2<u32>;

fn unpack_weight(packed: WeightVector) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(packed.x), unpack2x16float(packed.y));
}
//# else
alias WeightVector = vec2<u32>;

fn unpack_weight(packed: WeightVector) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4<u32>(packed.x << 16u, packed.x & 0xffff0000u, packed.y << 16u, packed.y & 0xffff0000u));
}
//# endif

// Four neighbouring elements of a tensor in plain layout: `Packed` in memory, `Values` in
// registers; and single elements, `WORD` of which lie in one `Word`. Two-byte floats are unpacked to f32, which needs no f16 support of the device.
// Buffers are padded to 16 bytes, so that the last vector lies inside. Takes `dtype`.
//# if dtype == "f16"
alias Packed = vec2<u32>;
alias Values = vec4<f32>;
alias Word = u32;
const WORD: u32 = 2u;

fn unpack_one(word: Word, index: u32) -> f32 { return unpack2x16float(word >> ((index & 1u) * 16u)).x; }

fn unpack(packed: Packed) -> Values { return vec4<f32>(unpack2x16float(packed.x), unpack2x16float(packed.y)); }

fn pack(values: Values) -> Packed { return vec2<u32>(pack2x16float(values.xy), pack2x16float(values.zw)); }
//# elif dtype == "bf16"
alias Packed = vec2<u32>;
alias Values = vec4<f32>;
alias Word = u32;
const WORD: u32 = 2u;

fn unpack_one(word: Word, index: u32) -> f32 { return bitcast<f32>((word >> ((index & 1u) * 16u)) << 16u); }

fn unpack(packed: Packed) -> Values {
    return bitcast<vec4<f32>>(vec4<u32>(packed.x << 16u, packed.x & 0xffff0000u, packed.y << 16u, packed.y & 0xffff0000u));
}

// Rounds to nearest, ties to even, and keeps NaN.
fn bf16_bits(value: f32) -> u32 {
    let bits = bitcast<u32>(value);
    let rounded = (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
    return select(rounded, (bits >> 16u) | 0x40u, (bits & 0x7fffffffu) > 0x7f800000u);
}

fn pack(values: Values) -> Packed {
    return vec2<u32>(
        bf16_bits(values.x) | (bf16_bits(values.y) << 16u),
        bf16_bits(values.z) | (bf16_bits(values.w) << 16u),
    );
}
//# else
alias Packed = vec4<${dtype}>;
alias Values = vec4<${dtype}>;
alias Word = ${dtype};
const WORD: u32 = 1u;

fn unpack_one(word: Word, index: u32) -> ${dtype} { return word; }

fn unpack(packed: Packed) -> Values { return packed; }

fn pack(values: Values) -> Packed { return values; }
//# endif

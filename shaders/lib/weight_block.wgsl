// Blocks of a weight row in f32, f16 or bf16: BLOCK_VECTORS vectors of four elements, unpacked to
// f32 without f16 support of the device. Takes the variables `weight_dtype`, `block_bytes` (16, or
// 32 where words are long), and `long_words`: whether blocks are loaded as words of 64 bits, half
// as many loads where each word is one. A `weight_dtype` "halves" is f16 as it is, by eight bytes.
//# set halves = weight_dtype != "f32"
//# if weight_dtype == "halves"
alias WeightBlock = vec4<f16>;
const BLOCK_VECTORS: u32 = 1u;
//# else
alias WeightBlock = ${"vec" ~ block_bytes // 8 ~ "<u64>" if long_words else "vec4<u32>" if halves else "vec4<f32>"};
const BLOCK_VECTORS: u32 = ${block_bytes // (8 if halves else 16)}u;

//# if long_words
fn words_of(pair: vec2<u64>) -> vec4<u32> {
    return vec4<u32>(u32(pair.x), u32(pair.x >> 32u), u32(pair.y), u32(pair.y >> 32u));
}

//# endif
// The 16 bytes of a block that hold a vector, as words.
fn words_of_block(block: WeightBlock, vector: u32) -> vec4<u32> {
    return ${("block" if halves else "bitcast<vec4<u32>>(block)") if not long_words else "words_of(block)" if block_bytes == 16 else "words_of(select(block.zw, block.xy, vector < " ~ (2 if halves else 1) ~ "u))"};
}

fn unpack_block(block: WeightBlock, vector: u32) -> vec4<f32> {
    let words = words_of_block(block, vector);
//# if halves
    let packed = select(words.zw, words.xy, vector % 2u == 0u);
    return ${"vec4<f32>(unpack2x16float(packed.x), unpack2x16float(packed.y))" if weight_dtype == "f16" else "bitcast<vec4<f32>>(vec4<u32>(packed.x << 16u, packed.x & 0xffff0000u, packed.y << 16u, packed.y & 0xffff0000u))"};
//# else
    return bitcast<vec4<f32>>(words);
//# endif
}
//# endif

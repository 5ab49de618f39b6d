// Sixteen bytes of a weight row in f32, f16 or bf16: BLOCK_VECTORS vectors of four elements,
// unpacked to f32 without f16 support of the device. Takes the variable `weight_dtype`.

//# if weight_dtype == "f32"
alias WeightBlock = vec4<f32>;
const BLOCK_VECTORS: u32 = 1u;

fn unpack_block(block: WeightBlock, vector: u32) -> vec4<f32> { return block; }
//# else
alias WeightBlock = vec4<u32>;
const BLOCK_VECTORS: u32 = 2u;

fn unpack_block(block: WeightBlock, vector: u32) -> vec4<f32> {
    let packed = select(block.zw, block.xy, vector == 0u);
//# if weight_dtype == "f16"
    return vec4<f32>(unpack2x16float(packed.x), unpack2x16float(packed.y));
//# else
    return bitcast<vec4<f32>>(vec4<u32>(packed.x << 16u, packed.x & 0xffff0000u, packed.y << 16u, packed.y & 0xffff0000u));
//# endif
}
//# endif

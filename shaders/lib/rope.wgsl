// Rotary position embedding (Su et al. 2021, RoFormer) of one element. Takes `pairs`:
// "halves" (dimension i turns with i + rotary_dim / 2: NeoX, Llama) or "interleaved" (2 i with
// 2 i + 1: GPT-J). Takes `rotary_dim` and `table_rows` from `params`; needs the bindings
// `input` and `table` [table_rows, rotary_dim / 2 cosines, rotary_dim / 2 sines]. Positions
// beyond the table use its last row; dimensions from rotary_dim on are copied.

fn rotated(base: u32, dim: u32, position: u32) -> f32 {
    let x = input[base + dim];
    if dim >= params.rotary_dim { return x; }
    let half = params.rotary_dim / 2u;
    //# if pairs == "halves"
    let upper = dim >= half;
    let pair = select(dim, dim - half, upper);
    let partner = select(dim + half, dim - half, upper);
    //# else
    let upper = dim % 2u == 1u;
    let pair = dim / 2u;
    let partner = select(dim + 1u, dim - 1u, upper);
    //# endif
    let row = min(position, params.table_rows - 1u) * params.rotary_dim;
    let turned = table[row + half + pair] * input[base + partner];
    return x * table[row + pair] + select(-turned, turned, upper);
}

// Vectors of x and blocks of a weight on their way to tiles of DEPTH vectors along the inner
// dimension; zeros from `end_block` on. Gated: of every SPAN weight rows of a tile, the first half
// are the gate's and the second half up's. Takes `gated`; needs lib/linear_operands.wgsl.
const BLOCKS: u32 = DEPTH / BLOCK_VECTORS; // blocks along the inner dimension of a tile

// Vector `index` of the tile of x that starts at a row and a block.
fn fetch_x(index: u32, first_row: u32, first_block: u32, end_block: u32) -> vec4<f32> {
    let vector = first_block * BLOCK_VECTORS + index % DEPTH;
    if vector >= end_block * BLOCK_VECTORS { return vec4<f32>(); }
    return load_x(min(first_row + index / DEPTH, params.rows - 1u), vector);
}

// Block `index` of the tile of the weight.
fn fetch_weight(index: u32, first_column: u32, first_block: u32, end_block: u32) -> WeightBlock {
    let block = first_block + index % BLOCKS;
    let row = index / BLOCKS;
    if block >= end_block { return WeightBlock(); }
//# if gated
    let column = first_column + row / SPAN * (SPAN / 2u) + row % (SPAN / 2u);
    if row % SPAN >= SPAN / 2u { return up_weight[weight_row(column, params.up_first) + block]; }
    return weight[weight_row(column, params.weight_first) + block];
//# else
    return weight[weight_row(first_column + row, params.weight_first) + block];
//# endif
}

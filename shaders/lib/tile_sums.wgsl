// In the body of a kernel with lib/tile.wgsl: the sums of an invocation.
//# for r in range(tile_rows // row_lanes)
//# for c in range(tile_columns * row_lanes // width)
    var sum_${r}_${c} = 0.0;
//# endfor
//# endfor
    let tile_row = lane / COLUMN_LANES;
    let tile_column = lane % COLUMN_LANES;

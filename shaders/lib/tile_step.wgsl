// In the body of a kernel with lib/tile.wgsl: adds the products of the tiles in workgroup memory
// to the sums.
        for (var k = 0u; k < DEPTH; k++) {
//# for c in range(tile_columns * row_lanes // width)
            let right_${c} = right_tile[(tile_column + ${c}u * COLUMN_LANES) * PITCH + k];
//# endfor
//# for r in range(tile_rows // row_lanes)
            let left_${r} = left_tile[(tile_row + ${r * row_lanes}u) * PITCH + k];
//# for c in range(tile_columns * row_lanes // width)
            sum_${r}_${c} = add_dot(sum_${r}_${c}, left_${r}, right_${c});
//# endfor
//# endfor
        }

// In the body of a kernel with lib/matrix_tile.wgsl: adds the products of the tiles in workgroup
// memory to the sums. `left_first` and `right_first` are the subgroup's first elements of the tiles.
//# for k in range(depth * 4 // side)
//# for c in range(tile_columns // column_teams // side)
        let right_at_${k}_${c} = right_first + ${c}u * SIDE * PITCH + ${k * side // 4}u * VECTOR;
        let right_${k}_${c} = ${"load_right(right_at_" ~ k ~ "_" ~ c ~ ")" if emulated else "coopLoad<Right>(&right_tile[right_at_" ~ k ~ "_" ~ c ~ "], PITCH)"};
//# endfor
//# for r in range(tile_rows // row_teams // side)
        let left_at_${k}_${r} = left_first + ${r}u * SIDE * PITCH + ${k * side // 4}u * VECTOR;
        let left_${k}_${r} = ${"load_left(left_at_" ~ k ~ "_" ~ r ~ ", member)" if emulated else "coopLoadT<Left>(&left_tile[left_at_" ~ k ~ "_" ~ r ~ "], PITCH)"};
//# for c in range(tile_columns // column_teams // side)
        sum_${r}_${c} = ${"multiply_add" if emulated else "coopMultiplyAdd"}(left_${k}_${r}, right_${k}_${c}, sum_${r}_${c});
//# endfor
//# endfor
//# endfor

// What matrix units compute, by a subgroup of as many lanes as a matrix has rows: tests run
// kernels for matrix units so where there are none. A lane has a row of the left operand and of
// the sums, and the whole right operand by columns. Takes `side`, `tile_element` "vec4<f16>".
alias Left = array<vec4<f32>, ${side // 4}>;
alias Right = array<vec4<f32>, ${side * side // 4}>;
alias Sum = array<f32, ${side}>;

fn load_left(at: u32, member: u32) -> Left {
    var loaded: Left;
//# for v in range(side // 4)
    loaded[${v}] = vec4<f32>(left_tile[at + member * PITCH + ${v}u]);
//# endfor
    return loaded;
}

fn load_right(at: u32) -> Right {
    var loaded: Right;
    for (var column = 0u; column < SIDE; column++) {
//# for v in range(side // 4)
        loaded[column * (SIDE / 4u) + ${v}u] = vec4<f32>(right_tile[at + column * PITCH + ${v}u]);
//# endfor
    }
    return loaded;
}

fn multiply_add(left: Left, right: Right, sum: Sum) -> Sum {
    var rows = left;
    var columns = right;
    var added = sum;
    for (var column = 0u; column < SIDE; column++) {
//# for v in range(side // 4)
        added[column] += dot(rows[${v}], columns[column * (SIDE / 4u) + ${v}u]);
//# endfor
    }
    return added;
}

fn store_sum(sum: Sum, at: u32, member: u32) {
    var row = sum;
    for (var column = 0u; column < SIDE; column++) { stage[at + member * SIDE + column] = row[column]; }
}

// Entry point of kernels whose items are independent and lie in rows: calls the shader's
// `compute(row, column)` for each item of the workgroup's share, where item = row * columns +
// column (Spread in kernel/grid.rs). Rows and columns are counted on, as divisions by numbers
// that only the parameters know cost more than loads on software adapters. Takes `width`; needs
// `params.items`, `params.per_group` and `params.columns`.
const WIDTH: u32 = ${width}u;

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let start = group.x * params.per_group;
    let end = min(start + params.per_group, params.items);
    var row = (start + lane) / params.columns;
    var column = (start + lane) - row * params.columns;
    for (var item = start + lane; item < end; item += WIDTH) {
        compute(row, column);
        column += WIDTH;
        while column >= params.columns {
            column -= params.columns;
            row++;
        }
    }
}

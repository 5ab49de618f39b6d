// Rows of a table by their ids, times a scale. An item is four columns of one row. A table in
// several parts takes a dispatch for each; the first writes zeros for ids outside the table.
//# include "lib/weight.wgsl"

struct Params {
    items: u32,
    per_group: u32,
    cols: u32,
    row_vectors: u32,
    pitch_vectors: u32,
    first_row: u32,
    part_rows: u32,
    table_rows: u32,
    from_end: u32,
    scale: f32,
}
@group(0) @binding(0) var<storage, read> table: array<WeightVector>;    // [part_rows, pitch]
@group(0) @binding(1) var<storage, read> ids: array<u32>;               // [rows]
@group(0) @binding(2) var<storage, read_write> output: array<f32>;      // [rows, cols]
${params} params: Params;

fn write(row: u32, column: u32, values: vec4<f32>) {
    let start = row * params.cols + column;
    for (var i = 0u; i < min(4u, params.cols - column); i++) { output[start + i] = values[i]; }
}

fn compute(item: u32) {
    let row = item / params.row_vectors;
    let vector = item % params.row_vectors;
    var id = ids[row];
    // Negative ids count from the end.
    if params.from_end == 1u && id >= 0x80000000u { id += params.table_rows; }
    if id >= params.first_row && id < params.first_row + params.part_rows {
        let packed = table[(id - params.first_row) * params.pitch_vectors + vector];
        write(row, vector * 4u, unpack_weight(packed) * params.scale);
    } else if params.first_row == 0u && id >= params.table_rows {
        write(row, vector * 4u, vec4<f32>(0.0));
    }
}

//# include "lib/items.wgsl"

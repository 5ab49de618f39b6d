// Rows of a table by their ids, times a scale. An item is four columns of one row; with `whole`, rows are whole vectors. A table in
// several parts takes a dispatch for each; the first writes zeros for ids outside the table.
//# include "lib/weight.wgsl"

struct Params {
    items: u32,
    per_group: u32,
    cols: u32,           // elements of a row
    columns: u32,        // vectors of a row
    pitch_vectors: u32,
    first_row: u32,
    part_rows: u32,
    table_rows: u32,
    from_end: u32,
    scale: f32,
}
@group(0) @binding(0) var<storage, read> table: array<WeightVector>;    // [part_rows, pitch]
@group(0) @binding(1) var<storage, read> ids: array<u32>;               // [rows]
${params} params: Params;

//# if whole
@group(0) @binding(2) var<storage, read_write> output: array<vec4<f32>>;  // [rows, columns]

fn write(row: u32, vector: u32, values: vec4<f32>) { output[row * params.columns + vector] = values; }
//# else
@group(0) @binding(2) var<storage, read_write> output: array<f32>;      // [rows, cols]

fn write(row: u32, vector: u32, values: vec4<f32>) {
    let start = row * params.cols + vector * 4u;
    for (var i = 0u; i < min(4u, params.cols - vector * 4u); i++) { output[start + i] = values[i]; }
}
//# endif

fn compute(row: u32, vector: u32) {
    var id = ids[row];
    // Negative ids count from the end.
    if params.from_end == 1u && id >= 0x80000000u { id += params.table_rows; }
    if id >= params.first_row && id < params.first_row + params.part_rows {
        let packed = table[(id - params.first_row) * params.pitch_vectors + vector];
        write(row, vector, unpack_weight(packed) * params.scale);
    } else if params.first_row == 0u && id >= params.table_rows {
        write(row, vector, vec4<f32>(0.0));
    }
}

//# include "lib/columns.wgsl"

// A tile of the outputs of a matrix product from tiles of its two operands in workgroup memory,
// both with four elements of the inner dimension a vector. Of WIDTH invocations, those of a row
// of COLUMN_LANES own the same rows of outputs: every ROW_LANES-th, and every COLUMN_LANES-th
// column. Takes `tile_rows`, `tile_columns`, `depth`, `width` and `row_lanes`.
const TILE_ROWS: u32 = ${tile_rows}u;
const TILE_COLUMNS: u32 = ${tile_columns}u;
const DEPTH: u32 = ${depth}u;   // vectors along the inner dimension
const PITCH: u32 = DEPTH + 1u;  // odd, so that eight lanes hit all banks
const WIDTH: u32 = ${width}u;
const COLUMN_LANES: u32 = ${width // row_lanes}u;

var<workgroup> left_tile: array<vec4<f32>, TILE_ROWS * PITCH>;
var<workgroup> right_tile: array<vec4<f32>, TILE_COLUMNS * PITCH>;

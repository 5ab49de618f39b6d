// A tile of the outputs of a matrix product by matrix units: f16 tiles of both operands in
// workgroup memory, of which subgroups multiply square matrices with f32 sums. Each of ROW_TEAMS by
// COLUMN_TEAMS subgroups owns a part of the tile. Takes `side` of the matrices, `tile_rows`,
// `tile_columns`, `depth`, `subgroup` (its lanes), `row_teams`, `column_teams`, `staged` (matrices
// of sums that a subgroup puts into workgroup memory at a time), `tile_element`: "vec4<f16>",
// or "f16" where matrices cannot be loaded from vectors; and `emulated`: whether shaders do what
// matrix units would do.
const SIDE: u32 = ${side}u;
const MATRIX: u32 = ${side * side}u; // elements
const TILE_ROWS: u32 = ${tile_rows}u;
const TILE_COLUMNS: u32 = ${tile_columns}u;
const DEPTH: u32 = ${depth}u;        // vectors along the inner dimension
const SUBGROUP: u32 = ${subgroup}u;
const COLUMN_TEAMS: u32 = ${column_teams}u;
const TEAM_ROWS: u32 = ${tile_rows // row_teams}u;
const TEAM_COLUMNS: u32 = ${tile_columns // column_teams}u;
const WIDTH: u32 = ${subgroup * row_teams * column_teams}u;

alias TileElement = ${tile_element};
const VECTOR: u32 = ${1 if tile_element == "vec4<f16>" else 4}u; // tile elements of four values
const PITCH: u32 = (DEPTH + 2u) * VECTOR;                        // so that eight rows hit all banks

//# if emulated
//# include "lib/matrix_emulation.wgsl"
//# else
alias Left = coop_mat${side}x${side}<f16, A>;
alias Right = coop_mat${side}x${side}<f16, B>;
alias Sum = coop_mat${side}x${side}<f32, C>;
//# endif

var<workgroup> left_tile: array<TileElement, TILE_ROWS * PITCH>;      // rows of the left operand
var<workgroup> right_tile: array<TileElement, TILE_COLUMNS * PITCH>;  // columns of the right one
var<workgroup> stage: array<f32, ${row_teams * column_teams * staged}u * MATRIX>;

//# for tile, rows in [["left", "TILE_ROWS"], ["right", "TILE_COLUMNS"]]
// Puts vector `index` of the ${tile} tile.
fn put_${tile}(index: u32, vector: vec4<f16>) {
    if index >= ${rows} * DEPTH { return; }
    let at = index / DEPTH * PITCH + index % DEPTH * VECTOR;
//# if tile_element == "vec4<f16>"
    ${tile}_tile[at] = vector;
//# else
    ${tile}_tile[at] = vector.x;
    ${tile}_tile[at + 1u] = vector.y;
    ${tile}_tile[at + 2u] = vector.z;
    ${tile}_tile[at + 3u] = vector.w;
//# endif
}
//# endfor

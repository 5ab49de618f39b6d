// Input transform of F(2x2, 3x3), B^T x B (Lavin and Gray 2015): an item is four channels of some
// neighbouring tiles of 4x4 pixels. These share two columns, whose transforms along the height it keeps.
// The loops are short: unrolled, they would not fit the caches for instructions of processors.

struct Params {
    image: vec4<u32>,  // height and width of x, vectors of a pixel, rows of a tile: 4
    tiles: vec4<u32>,  // tiles along height and width, pads before height and width
    items: u32,
    per_group: u32,
    run: u32,          // tiles of an item
    runs: u32,         // items along the width
}
${params} params: Params;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;                 // [n, height, width, vectors]
@group(0) @binding(1) var<storage, read_write> transformed: array<vec4<f32>>; // [n, tiles, 16, vectors]

// Four pixels of a column of a tile.
struct Column { p0: vec4<f32>, p1: vec4<f32>, p2: vec4<f32>, p3: vec4<f32> }

fn load_x(image: u32, height: u32, width: u32, vector: u32) -> vec4<f32> {
    let inside = height < params.image.x && width < params.image.y;
    let at = ((image * params.image.x + height) * params.image.y + width) * params.image.z + vector;
    return select(vec4<f32>(), x[select(0u, at, inside)], inside);
}

// B^T of a column of x.
fn load_column(image: u32, height: u32, width: u32, vector: u32) -> Column {
    let p0 = load_x(image, height, width, vector);
    let p1 = load_x(image, height + 1u, width, vector);
    let p2 = load_x(image, height + 2u, width, vector);
    let p3 = load_x(image, height + 3u, width, vector);
    return Column(p0 - p2, p1 + p2, p2 - p1, p1 - p3);
}

fn row_of(column: Column, row: u32) -> vec4<f32> {
    return select(select(column.p2, column.p3, row == 3u), select(column.p0, column.p1, row == 1u), row < 2u);
}

fn compute(item: u32) {
    let runs = item / params.image.z;
    let vector = item - runs * params.image.z;
    let lines = runs / params.runs;
    let image = lines / params.tiles.x;
    let first = (runs - lines * params.runs) * params.run;
    let height = (lines - image * params.tiles.x) * 2u - params.tiles.z;
    var width = first * 2u - params.tiles.w;
    var c0 = load_column(image, height, width, vector);
    var c1 = load_column(image, height, width + 1u, vector);
    var at = (lines * params.tiles.y + first) * 16u * params.image.z + vector;
    let end = min(first + params.run, params.tiles.y);
    for (var tile = first; tile < end; tile++) {
        width += 2u;
        let c2 = load_column(image, height, width, vector);
        let c3 = load_column(image, height, width + 1u, vector);
        for (var row = 0u; row < params.image.w; row++) {
            let r1 = row_of(c1, row);
            let r2 = row_of(c2, row);
            transformed[at] = row_of(c0, row) - r2;
            transformed[at + params.image.z] = r1 + r2;
            transformed[at + 2u * params.image.z] = r2 - r1;
            transformed[at + 3u * params.image.z] = r1 - row_of(c3, row);
            at += 4u * params.image.z;
        }
        c0 = c2;
        c1 = c3;
    }
}

//# include "lib/items.wgsl"

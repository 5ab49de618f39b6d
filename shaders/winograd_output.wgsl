// Output transform of F(2x2, 3x3), A^T m A (Lavin and Gray 2015), and what follows it: an item is
// four output channels of a tile of 2x2 outputs.

struct Params {
    image: vec4<u32>,  // height and width of the output, vectors of a pixel, rows of a tile: 4
    tiles: vec4<u32>,  // tiles along height and width
    items: u32,
    per_group: u32,
    alpha: f32,        // arguments of the activation
    beta: f32,
}
${params} params: Params;

//# include "lib/epilogue.wgsl"

@group(0) @binding(0) var<storage, read> products: array<vec4<f32>>;  // [n, tiles, 16, vectors]

fn compute(item: u32) {
    let tile = item / params.image.z;
    let vector = item - tile * params.image.z;
    let lines = tile / params.tiles.y;
    let image = lines / params.tiles.x;
    let height = (lines - image * params.tiles.x) * 2u;
    let width = (tile - lines * params.tiles.y) * 2u;
    var y_00 = vec4<f32>();
    var y_01 = vec4<f32>();
    var y_10 = vec4<f32>();
    var y_11 = vec4<f32>();
    var at = tile * 16u * params.image.z + vector;
    // A loop of unknown length: unrolled, it would not fit the caches for instructions.
    for (var row = 0u; row < params.image.w; row++) {
        let m_0 = products[at];
        let m_1 = products[at + params.image.z];
        let m_2 = products[at + 2u * params.image.z];
        let m_3 = products[at + 3u * params.image.z];
        at += 4u * params.image.z;
        let s_0 = m_0 + m_1 + m_2;
        let s_1 = m_1 - m_2 - m_3;
        let upper = select(1.0, 0.0, row == 3u);
        let lower = select(select(-1.0, 1.0, row == 1u), 0.0, row == 0u);
        y_00 += s_0 * upper;
        y_01 += s_1 * upper;
        y_10 += s_0 * lower;
        y_11 += s_1 * lower;
    }
    let end = min(vec2<u32>(height, width) + 2u, params.image.xy);
    for (var h = height; h < end.x; h++) {
        for (var w = width; w < end.y; w++) {
            let y = select(select(y_00, y_10, h != height), select(y_01, y_11, h != height), w != width);
            finish_output(((image * params.image.x + h) * params.image.y + w) * params.image.z + vector, vector, y, 0u, y);
        }
    }
}

//# include "lib/items.wgsl"

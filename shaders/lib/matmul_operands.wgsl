// Operands of a batched matrix product, by strides; vectors run along the inner dimension.
// Takes `a_vectors`: whether the inner dimension of a is the last one in memory and a multiple of
// four; and `b_form`: "inner" (the same for b), "columns" (the columns are the last dimension,
// and both are multiples of four) or "scalar".

struct Params {
    batch_dims: vec4<u32>,  // outer dimensions of the output, innermost last
    a_batch: vec4<u32>,     // elements to the next matrix of a along each; 0 where broadcast
    b_batch: vec4<u32>,     // the same for b
    m: u32,
    n: u32,
    k: u32,
    alpha: f32,             // factor of the product
    a_row: u32,             // elements to the next row of a
    a_inner: u32,           // elements to the next of a along k
    b_inner: u32,           // elements to the next of b along k
    b_column: u32,          // elements to the next column of b
    batches: u32,           // matrices of the output
    vectors: u32,           // vectors of four elements along k
    parts: u32,             // parts of k, whose sums are added up afterwards
    part_vectors: u32,      // vectors of a part
}
${params} params: Params;

// First elements of the matrices a and b of a batch index.
fn batch_start(batch: u32) -> vec2<u32> {
    var rest = batch;
    var start = vec2<u32>();
    for (var axis = 3; axis >= 0 && rest > 0u; axis--) {
        let outer = rest / params.batch_dims[axis];
        let index = rest - outer * params.batch_dims[axis];
        rest = outer;
        start += index * vec2<u32>(params.a_batch[axis], params.b_batch[axis]);
    }
    return start;
}

fn batch_count() -> u32 { return params.batches; }

// Places of four elements along k, and which of them exist.
fn along_k(vector: u32) -> vec4<u32> { return vec4<u32>(vector * 4u) + vec4<u32>(0u, 1u, 2u, 3u); }

// Four elements of a row of a; rows past the end read the last one.
//# if a_vectors
@group(0) @binding(0) var<storage, read> a: array<vec4<f32>>;  // [batches, m, k / 4]

fn load_a(start: u32, row: u32, vector: u32) -> vec4<f32> {
    return a[(start + min(row, params.m - 1u) * params.a_row) / 4u + vector];
}
//# else
@group(0) @binding(0) var<storage, read> a: array<f32>;  // [batches, m, k] or [batches, k, m]

fn load_a(start: u32, row: u32, vector: u32) -> vec4<f32> {
    let k = along_k(vector);
    let at = start + min(row, params.m - 1u) * params.a_row + min(k, vec4<u32>(params.k - 1u)) * params.a_inner;
    return select(vec4<f32>(), vec4<f32>(a[at.x], a[at.y], a[at.z], a[at.w]), k < vec4<u32>(params.k));
}
//# endif

// Four elements of a column of b; columns past the end read the last one.
//# if b_form == "inner"
@group(0) @binding(1) var<storage, read> b: array<vec4<f32>>;  // [batches, n, k / 4]

fn load_b(start: u32, column: u32, vector: u32) -> vec4<f32> {
    return b[(start + min(column, params.n - 1u) * params.b_column) / 4u + vector];
}
//# elif b_form == "scalar"
@group(0) @binding(1) var<storage, read> b: array<f32>;  // [batches, k, n] or [batches, n, k]

fn load_b(start: u32, column: u32, vector: u32) -> vec4<f32> {
    let k = along_k(vector);
    let at = start + min(column, params.n - 1u) * params.b_column + min(k, vec4<u32>(params.k - 1u)) * params.b_inner;
    return select(vec4<f32>(), vec4<f32>(b[at.x], b[at.y], b[at.z], b[at.w]), k < vec4<u32>(params.k));
}
//# else
@group(0) @binding(1) var<storage, read> b: array<vec4<f32>>;  // [batches, k, n / 4]

// Four neighbouring columns.
fn load_b_columns(start: u32, column: u32, vector: u32) -> mat4x4<f32> {
    let at = (vec4<u32>(start + min(column, params.n - 4u)) + along_k(vector) * params.b_inner) / 4u;
    return transpose(mat4x4<f32>(b[at.x], b[at.y], b[at.z], b[at.w]));
}
//# endif

@group(0) @binding(2) var<storage, read_write> output: array<f32>;  // [parts, batches, m, n]

fn store_part(part: u32, batch: u32, row: u32, column: u32, sum: f32) {
    if row >= params.m || column >= params.n { return; }
    output[((part * params.batches + batch) * params.m + row) * params.n + column] = params.alpha * sum;
}

fn store_output(batch: u32, row: u32, column: u32, sum: f32) { store_part(0u, batch, row, column, sum); }

// sum + a . b, in four fused steps.
fn add_dot(sum: f32, a: vec4<f32>, b: vec4<f32>) -> f32 {
    return fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, sum))));
}

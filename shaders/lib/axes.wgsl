// Up to eight numbers, one for each axis, in two vectors of the parameters.
fn of_axis(low: vec4<u32>, high: vec4<u32>, axis: u32) -> u32 {
    return select(high[axis & 3u], low[axis & 3u], axis < 4u);
}

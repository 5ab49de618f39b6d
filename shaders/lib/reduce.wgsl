// Sum and maximum over a workgroup of WIDTH invocations (a power of two), the result in every
// invocation. Takes `form`: "software" (one invocation a row, nothing to do), "subgroup", or
// "plain". Needs WIDTH; the entry point passes its lane, subgroup size and subgroup id.
//# if form == "software"
fn reduce_sum(value: f32, lane: u32) -> f32 { return value; }

fn reduce_max(value: f32, lane: u32) -> f32 { return value; }
//# else
var<workgroup> partial: array<f32, WIDTH>;

fn reduce_sum(value: f32, lane: u32) -> f32 {
    partial[lane] = value;
    workgroupBarrier();
    for (var step = WIDTH / 2u; step > 0u; step = step / 2u) {
        if lane < step { partial[lane] += partial[lane + step]; }
        workgroupBarrier();
    }
    let total = partial[0];
    workgroupBarrier();
    return total;
}

fn reduce_max(value: f32, lane: u32) -> f32 {
    partial[lane] = value;
    workgroupBarrier();
    for (var step = WIDTH / 2u; step > 0u; step = step / 2u) {
        if lane < step { partial[lane] = max(partial[lane], partial[lane + step]); }
        workgroupBarrier();
    }
    let highest = partial[0];
    workgroupBarrier();
    return highest;
}
//# endif

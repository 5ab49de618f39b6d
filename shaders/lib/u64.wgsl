// Unsigned 64-bit integers as vec2<u32>: low word, high word. Sums wrap.

fn u64_add(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let low = a.x + b.x;
    return vec2<u32>(low, a.y + b.y + select(0u, 1u, low < a.x));
}

fn u64_sub(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    return vec2<u32>(a.x - b.x, a.y - b.y - select(0u, 1u, a.x < b.x));
}

fn u64_less(a: vec2<u32>, b: vec2<u32>) -> bool {
    return a.y < b.y || (a.y == b.y && a.x < b.x);
}

// a * b.
fn u64_product(a: u32, b: u32) -> vec2<u32> {
    let a_low = a & 0xffffu;
    let a_high = a >> 16u;
    let b_low = b & 0xffffu;
    let b_high = b >> 16u;
    let middle = a_high * b_low + ((a_low * b_low) >> 16u);
    let other_middle = a_low * b_high + (middle & 0xffffu);
    return vec2<u32>(a * b, a_high * b_high + (middle >> 16u) + (other_middle >> 16u));
}

// a * b / 2^32, rounded down: a times a fraction in 0..1 of 32 bits.
fn u64_scale(a: vec2<u32>, b: u32) -> vec2<u32> {
    return u64_add(u64_product(a.y, b), vec2<u32>(u64_product(a.x, b).y, 0u));
}

// a * b / 2^64, rounded down.
fn u64_high_product(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let middle = u64_add(u64_product(a.x, b.y), vec2<u32>(u64_product(a.x, b.x).y, 0u));
    let other_middle = u64_add(u64_product(a.y, b.x), vec2<u32>(middle.x, 0u));
    let high = u64_add(u64_product(a.y, b.y), vec2<u32>(middle.y, 0u));
    return u64_add(high, vec2<u32>(other_middle.y, 0u));
}

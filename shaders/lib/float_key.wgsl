// Order-preserving u32 keys of f32 values.

// Key of minus infinity.
const EXCLUDED: u32 = 0x007fffffu;

fn is_finite(x: f32) -> bool { return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u; }

// Order-preserving; both zeros have one key.
fn key_of(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    let positive = bits < 0x80000000u || bits == 0x80000000u;
    return select(~bits, bits | 0x80000000u, positive);
}

fn value_of(key: u32) -> f32 { return bitcast<f32>(select(~key, key & 0x7fffffffu, key >= 0x80000000u)); }


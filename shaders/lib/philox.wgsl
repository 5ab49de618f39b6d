// Philox 4x32-10: 128 random bits from a counter and a key (Salmon et al., "Parallel random
// numbers: as easy as 1, 2, 3", SC 2011). Needs lib/u64.wgsl, lib/rolled.wgsl and
// `params.vocab`.

fn philox(counter: vec4<u32>, key: vec2<u32>) -> vec4<u32> {
    var bits = counter;
    var round_key = key;
    let rounds = rolled(10u, params.vocab);
    for (var round = 0u; round < rounds; round++) {
        let first = u64_product(0xd2511f53u, bits.x);
        let second = u64_product(0xcd9e8d57u, bits.z);
        bits = vec4<u32>(second.y ^ bits.y ^ round_key.x, second.x, first.y ^ bits.w ^ round_key.y, first.x);
        round_key += vec2<u32>(0x9e3779b9u, 0xbb67ae85u);
    }
    return bits;
}

// Thresholds of top-k and top-p for sample.wgsl: the list of candidates and radix selection.

// Running sums of `lane_mass` and `lane_ties` over the lanes.
fn scan_lanes(lane: u32) {
    workgroupBarrier();
    let lanes = rolled(WIDTH, params.vocab);
    for (var step = 1u; step < lanes; step = step * 2u) {
        var mass = lane_mass[lane];
        var ties = lane_ties[lane];
        if lane >= step {
            mass = u64_add(mass, lane_mass[lane - step]);
            ties += lane_ties[lane - step];
        }
        workgroupBarrier();
        lane_mass[lane] = mass;
        lane_ties[lane] = ties;
        workgroupBarrier();
    }
}

// Bin of a key by its distance from the highest: the highest key in the last bin.
fn distance_bin(key: u32, scale: f32) -> u32 {
    let distance = u32(min((row.highest - value_of(key)) * scale, 255.0));
    return BINS - 1u - min(distance, BINS - 1u);
}

// A part of the mass in the bins, at least one unit.
fn share_of_mass(share: u32) -> vec2<u32> {
    let part = u64_scale(bins_total(), share);
    return select(part, vec2<u32>(1u, 0u), part.x == 0u && part.y == 0u);
}

// Lists the tokens whose distance bin is at least `least`, in their order, if they are few.
fn list_candidates(lane: u32, least: u32, scale: f32) {
    let chunk = (params.vocab + WIDTH - 1u) / WIDTH;
    let begin = min(lane * chunk, params.vocab);
    let end = min(begin + chunk, params.vocab);
    var found = 0u;
    for (var token = begin; token < end; token++) {
        let key = keys[row.keys + token];
        found += select(0u, 1u, key > EXCLUDED && distance_bin(key, scale) >= least);
    }
    lane_mass[lane] = vec2<u32>(0u, 0u);
    lane_ties[lane] = found;
    scan_lanes(lane);
    let listed = lane_ties[WIDTH - 1u];
    var place = row.keys + params.vocab + lane_ties[lane] - found;
    for (var token = select(end, begin, listed <= LIST); token < end; token++) {
        let key = keys[row.keys + token];
        if key > EXCLUDED && distance_bin(key, scale) >= least {
            keys[place] = key;
            keys[place + LIST] = token;
            place++;
        }
    }
    storageBarrier();
    workgroupBarrier();
    if listed <= LIST {
        row.keys += params.vocab;
        row.items = listed;
    }
}

// The least number of tokens of this mass that reaches `rest`.
fn ties_to_reach(rest: vec2<u32>, mass: u32) -> u32 {
    var ties = 0u;
    for (var bit = rolled(0x80000000u, params.vocab); bit > 0u; bit = bit >> 1u) {
        if u64_less(u64_product(ties + bit - 1u, mass), rest) { ties += bit; }
    }
    return ties;
}

// Tokens above the key are kept, and the first `ties` at it.
struct Kept {
    key: u32,
    ties: u32,
}

// The threshold of top-k (0: off) and then top-p (a share in units of 2^-32).
//
// Pass 0 sums by distance and lists the candidates; passes 1 to 4 select the key by count, 5
// to 8 by mass. One loop, so that the code is there once: drivers inline all of it.
fn find_threshold(lane: u32, top_k: u32, has_top_p: bool, share: u32) -> Kept {
    var kept = Kept(0u, NO_LIMIT);
    var prefix = 0u;
    var rest = vec2<u32>(0u, 0u);
    // 24 units of the logit for counts, all masses above zero for masses.
    let scale = select(11.0 * row.inverse_temperature, 10.0, top_k > 0u);
    let passes = select(select(0u, 5u, top_k > 0u), 9u, has_top_p);
    for (var stage = 0u; stage < passes; stage++) {
        let by_mass = stage > 4u || top_k == 0u;
        let shift = 24u - 8u * ((stage + 3u) & 3u);
        if shift == 24u { prefix = 0u; }
        clear_bins(lane);
        for (var item = lane; item < row.items; item += WIDTH) {
            let key = keys[row.keys + item];
            let bin = select((key ^ prefix) >> shift, distance_bin(key, scale), stage == 0u);
            if key >= kept.key && bin < BINS { add_to_bin(bin, select(1u, mass_of(key), by_mass)); }
        }
        group_bins(lane);
        // What to reach; top-p works on the mass that top-k left.
        if stage == 0u || (stage == 5u && top_k > 0u) {
            rest = select(vec2<u32>(top_k, 0u), share_of_mass(share), by_mass);
        }
        let found = find_bin(rest);
        // At most once: a branch here would not be seen to be uniform.
        for (var once = stage; once < 1u; once++) { list_candidates(lane, found.bin, scale); }
        if stage == 0u {
            if top_k == 0u { stage = 4u; }
            continue;
        }
        rest = found.rest;
        prefix |= found.bin << shift;
        if shift == 0u {
            kept.key = prefix;
            if by_mass { kept.ties = ties_to_reach(rest, mass_of(prefix)); }
        }
        workgroupBarrier();
    }
    return kept;
}

// Thresholds of top-k and top-p for sample.wgsl: the list of candidates and radix selection.

// Running sums of `lane_mass` and `lane_ties` over the lanes.
fn scan_lanes(lane: u32) {
    workgroupBarrier();
    for (var step = 1u; step < WIDTH; step = step * 2u) {
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

// Sums counts (or masses) by the eight bits of the keys at `shift`, over the candidates with
// keys of at least `threshold` that agree with `prefix` above those bits. Two loops, as
// software adapters execute both sides of a branch.
fn fill_bins(lane: u32, threshold: u32, prefix: u32, shift: u32, by_mass: bool) {
    clear_bins(lane);
    for (var item = select(lane, row.items, by_mass); item < row.items; item += WIDTH) {
        let key = keys[row.keys + item];
        let bin = (key ^ prefix) >> shift;
        if key >= threshold && bin < BINS { atomicAdd(&bin_low[bin], 1u); }
    }
    for (var item = select(row.items, lane, by_mass); item < row.items; item += WIDTH) {
        let key = keys[row.keys + item];
        let bin = (key ^ prefix) >> shift;
        if key >= threshold && bin < BINS { add_to_bin(bin, mass_of(key)); }
    }
    group_bins(lane);
}

// Bin of a key by its distance from the highest: the highest key in the last bin.
fn distance_bin(key: u32, scale: f32) -> u32 {
    let distance = u32(min((row.highest - value_of(key)) * scale, 255.0));
    return BINS - 1u - min(distance, BINS - 1u);
}

// What a selection has to reach: a count, or a part of the mass in the bins.
fn share_of_mass(share: u32) -> vec2<u32> {
    let part = u64_scale(bins_total(), share);
    return select(part, vec2<u32>(1u, 0u), part.x == 0u && part.y == 0u);
}

// Lists the tokens that top-k (or else top-p) can keep, in their order, if they are few.
// Returns what top-p has to reach.
fn list_candidates(lane: u32, top_k: u32, share: u32) -> vec2<u32> {
    let by_mass = top_k == 0u;
    // 24 units of the logit for counts, all masses above zero for masses.
    let scale = select(10.0, 11.0 * row.inverse_temperature, by_mass);
    clear_bins(lane);
    for (var token = lane; token < params.vocab; token += WIDTH) {
        let key = keys[row.keys + token];
        let amount = select(select(0u, 1u, key > EXCLUDED), mass_of(key), by_mass);
        add_to_bin(distance_bin(key, scale), amount);
    }
    group_bins(lane);
    let wanted = select(vec2<u32>(top_k, 0u), share_of_mass(share), by_mass);
    let least = find_bin(wanted).bin;
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
    if listed <= LIST {
        var place = row.keys + params.vocab + lane_ties[lane] - found;
        for (var token = begin; token < end; token++) {
            let key = keys[row.keys + token];
            if key > EXCLUDED && distance_bin(key, scale) >= least {
                keys[place] = key;
                keys[place + LIST] = token;
                place++;
            }
        }
    }
    storageBarrier();
    workgroupBarrier();
    if listed <= LIST {
        row.keys += params.vocab;
        row.items = listed;
    }
    return wanted;
}

// The least number of tokens of this mass that reaches `rest`.
fn ties_to_reach(rest: vec2<u32>, mass: u32) -> u32 {
    var ties = 0u;
    for (var bit = 0x80000000u; bit > 0u; bit = bit >> 1u) {
        if u64_less(u64_product(ties + bit - 1u, mass), rest) { ties += bit; }
    }
    return ties;
}

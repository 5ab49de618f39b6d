// The draw of a candidate for sample.wgsl.

struct Chosen {
    first: u32,
    length: u32,
    ties: u32,
    rest: vec2<u32>,
}

// The part of the candidates that holds the drawn one.
var<workgroup> chosen: Chosen;

// Draws among the candidates with keys above `threshold` and the first `limit` tokens at it, if
// their mass is at least `least`. Narrows them to one lane's chunk, round by round. Returns
// the candidate's place, or NO_TOKEN if none has mass.
fn draw(lane: u32, threshold: u32, limit: u32, least: u32, random: vec2<u32>) -> u32 {
    var at = Chosen(0u, row.items, 0u, vec2<u32>(0u, 0u));
    let tie_mass = mass_of(threshold);
    let tie_limit = select(0u, limit, tie_mass >= least);
    for (var round = 0u; round == 0u || at.length > 1u; round++) {
        let chunk = (at.length + WIDTH - 1u) / WIDTH;
        let begin = at.first + min(lane * chunk, at.length);
        let end = min(begin + chunk, at.first + at.length);
        var mass = vec2<u32>(0u, 0u);
        var ties = 0u;
        for (var item = begin; item < end; item++) {
            let key = keys[row.keys + item];
            if key > threshold {
                let amount = mass_of(key);
                if amount >= least { mass = u64_add(mass, vec2<u32>(amount, 0u)); }
            }
            ties += select(0u, 1u, key == threshold);
        }
        lane_mass[lane] = mass;
        lane_ties[lane] = ties;
        if lane == 0u { chosen = Chosen(NO_TOKEN, 1u, 0u, vec2<u32>(0u, 0u)); }
        scan_lanes(lane);
        let base = min(at.ties, tie_limit);
        let all_ties = min(at.ties + lane_ties[WIDTH - 1u], tie_limit) - base;
        let total = u64_add(lane_mass[WIDTH - 1u], u64_product(all_ties, tie_mass));
        if round == 0u { at.rest = u64_high_product(random, total); }
        let ties_before = at.ties + lane_ties[lane] - ties;
        let kept_before = min(ties_before, tie_limit) - base;
        let kept_after = min(ties_before + ties, tie_limit) - base;
        let before = u64_add(u64_sub(lane_mass[lane], mass), u64_product(kept_before, tie_mass));
        let after = u64_add(lane_mass[lane], u64_product(kept_after, tie_mass));
        if !u64_less(at.rest, before) && u64_less(at.rest, after) {
            chosen = Chosen(begin, end - begin, ties_before, u64_sub(at.rest, before));
        }
        workgroupBarrier();
        at = chosen;
        workgroupBarrier();
    }
    return at.first;
}

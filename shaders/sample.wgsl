// Samples one token per row: penalties, temperature, top-k, top-p, min-p, draw, exactly over
// the whole vocabulary. One workgroup a row; any power of two as width gives the same token.
//
// Logits are ordered by a u32 key. Thresholds are found by radix selection over it, eight
// bits a pass: by counts for top-k, by mass for top-p. A token's mass is
// exp((x - highest) / temperature) in units of 2^-31, so that all sums are 64-bit integers
// and do not depend on their order.

const WIDTH: u32 = ${width}u;
// Key of minus infinity.
const EXCLUDED: u32 = 0x007fffffu;
const LARGEST: f32 = 3.4028234e38;
const NO_LIMIT: u32 = 0xffffffffu;
const NO_TOKEN: u32 = 0xffffffffu;

// Words of a row of settings; `src/ops/sample/row.rs` writes them.
const ROW_WORDS: u32 = 16u;
const GREEDY: u32 = 1u;
const PENALTIES: u32 = 2u;
const TOP_K: u32 = 4u;
const TOP_P: u32 = 8u;

struct Params {
    vocab: u32,
    slots: u32,
}

struct Row {
    logits: u32,
    counts: u32,
    penalties: bool,
    inverse_temperature: f32,
    repetition: f32,
    frequency: f32,
    presence: f32,
    highest_key: u32,
    highest: f32,
}

${params} params: Params;
@group(0) @binding(0) var<storage, read> logits: array<f32>;                // [rows, vocab]
@group(0) @binding(1) var<storage, read> row_slots: array<u32>;             // [rows]
@group(0) @binding(2) var<storage, read> settings: array<u32>;              // [rows, 16]
@group(0) @binding(3) var<storage, read_write> sampled: array<vec2<u32>>;   // [rows] (token, flags)
@group(0) @binding(4) var<storage, read_write> counts: array<u32>;          // [slots, vocab]

// Mass and number of ties of each lane's chunk; before that the highest key, index and flags.
var<workgroup> lane_mass: array<vec2<u32>, WIDTH>;
var<workgroup> lane_ties: array<u32, WIDTH>;
// The part of the vocabulary that holds the drawn token.
var<workgroup> chosen: Chosen;
var<private> row: Row;

struct Chosen {
    first: u32,
    length: u32,
    ties: u32,
    rest: vec2<u32>,
}

//# include "lib/u64.wgsl"
//# include "lib/philox.wgsl"
//# include "lib/bins.wgsl"

fn is_finite(x: f32) -> bool { return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u; }

// Order-preserving; both zeros have one key.
fn key_of(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    let positive = bits < 0x80000000u || bits == 0x80000000u;
    return select(~bits, bits | 0x80000000u, positive);
}

fn value_of(key: u32) -> f32 { return bitcast<f32>(select(~key, key & 0x7fffffffu, key >= 0x80000000u)); }

// Key of a token after penalties. Infinite values and NaN are excluded.
fn key_at(token: u32) -> u32 {
    var x = logits[row.logits + token];
    if !is_finite(x) { return EXCLUDED; }
    if row.penalties {
        let seen = counts[row.counts + token];
        if seen != 0u {
            // Only the explicit fma may be fused: all passes must see the same key.
            let times = seen & 0x7fffffffu;
            x = select(x * row.repetition, x / row.repetition, x > 0.0);
            x = fma(-row.frequency, f32(times), x) - select(0.0, row.presence, times > 0u);
            x = clamp(x, -LARGEST, LARGEST);
        }
    }
    return key_of(x);
}

// Mass of a token in units of 2^-31 of the most probable one.
fn mass_of(key: u32) -> u32 {
    if key <= EXCLUDED { return 0u; }
    if key == row.highest_key { return 0x80000000u; }
    let mass = exp((value_of(key) - row.highest) * row.inverse_temperature);
    return u32(min(mass, 1.0) * 2147483648.0 + 0.5);
}

// The most probable token (the first of them) as (key, token), and whether a logit is NaN or +inf.
fn find_highest(lane: u32) {
    var best = vec2<u32>(0u, 0u);
    var flags = 0u;
    for (var token = lane; token < params.vocab; token += WIDTH) {
        let x = logits[row.logits + token];
        if !is_finite(x) && bitcast<u32>(x) != 0xff800000u { flags = 1u; }
        let key = key_at(token);
        if key > best.x { best = vec2<u32>(key, token); }
    }
    lane_mass[lane] = best;
    lane_ties[lane] = flags;
    workgroupBarrier();
    for (var step = WIDTH / 2u; step > 0u; step = step / 2u) {
        if lane < step {
            let other = lane_mass[lane + step];
            let mine = lane_mass[lane];
            if other.x > mine.x || (other.x == mine.x && other.y < mine.y) { lane_mass[lane] = other; }
            lane_ties[lane] |= lane_ties[lane + step];
        }
        workgroupBarrier();
    }
}

// Sums counts (or masses) by the eight bits of the keys at `shift`, over the tokens with keys
// of at least `threshold` that agree with `prefix` above those bits.
fn fill_bins(lane: u32, threshold: u32, prefix: u32, shift: u32, by_mass: bool) {
    clear_bins(lane);
    for (var token = lane; token < params.vocab; token += WIDTH) {
        let key = key_at(token);
        let bin = (key ^ prefix) >> shift;
        if key >= threshold && bin < BINS {
            var amount = 1u;
            if by_mass { amount = mass_of(key); }
            add_to_bin(bin, amount);
        }
    }
    group_bins(lane);
}

// The least number of tokens of this mass that reaches `rest`.
fn ties_to_reach(rest: vec2<u32>, mass: u32) -> u32 {
    var ties = 0u;
    for (var bit = 0x80000000u; bit > 0u; bit = bit >> 1u) {
        if u64_less(u64_product(ties + bit - 1u, mass), rest) { ties += bit; }
    }
    return ties;
}

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

// Draws among the tokens with keys above `threshold` and the first `limit` tokens at it, if
// their mass is at least `least`. Narrows the vocabulary to one lane's chunk, round by round.
fn draw(lane: u32, threshold: u32, limit: u32, least: u32, random: vec2<u32>, otherwise: u32) -> u32 {
    var at = Chosen(0u, params.vocab, 0u, vec2<u32>(0u, 0u));
    let tie_mass = mass_of(threshold);
    let tie_limit = select(0u, limit, tie_mass >= least);
    for (var round = 0u; round == 0u || at.length > 1u; round++) {
        let chunk = (at.length + WIDTH - 1u) / WIDTH;
        let begin = at.first + min(lane * chunk, at.length);
        let end = min(begin + chunk, at.first + at.length);
        var mass = vec2<u32>(0u, 0u);
        var ties = 0u;
        for (var token = begin; token < end; token++) {
            let key = key_at(token);
            if key > threshold {
                let amount = mass_of(key);
                if amount >= least { mass = u64_add(mass, vec2<u32>(amount, 0u)); }
            }
            ties += select(0u, 1u, key == threshold);
        }
        lane_mass[lane] = mass;
        lane_ties[lane] = ties;
        if lane == 0u { chosen = Chosen(otherwise, 1u, 0u, vec2<u32>(0u, 0u)); }
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

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let slot = row_slots[group.x];
    let words = group.x * ROW_WORDS;
    let mode = settings[words];
    if slot < params.slots {
        row.logits = group.x * params.vocab;
        row.counts = slot * params.vocab;
        row.penalties = (mode & PENALTIES) != 0u;
        row.inverse_temperature = bitcast<f32>(settings[words + 1u]);
        row.repetition = bitcast<f32>(settings[words + 5u]);
        row.frequency = bitcast<f32>(settings[words + 6u]);
        row.presence = bitcast<f32>(settings[words + 7u]);
        find_highest(lane);
        row.highest_key = lane_mass[0].x;
        row.highest = value_of(row.highest_key);
        var token = lane_mass[0].y;
        let flags = lane_ties[0] | select(0u, 2u, row.highest_key <= EXCLUDED);
        workgroupBarrier();

        var threshold = 0u;
        var limit = NO_LIMIT;
        var prefix = 0u;
        var rest = vec2<u32>(0u, 0u);
        // Passes 0 to 3 select by count, 4 to 7 by mass.
        let first_pass = select(4u, 0u, (mode & TOP_K) != 0u);
        let end_pass = select(4u, 8u, (mode & TOP_P) != 0u);
        for (var pass_index = first_pass; pass_index < end_pass; pass_index++) {
            let by_mass = pass_index >= 4u;
            let shift = 24u - 8u * (pass_index & 3u);
            if shift == 24u { prefix = 0u; }
            fill_bins(lane, threshold, prefix, shift, by_mass);
            if pass_index == 0u { rest = vec2<u32>(settings[words + 2u], 0u); }
            if pass_index == 4u {
                rest = u64_scale(bins_total(), settings[words + 3u]);
                if rest.x == 0u && rest.y == 0u { rest.x = 1u; }
            }
            let found = find_bin(rest);
            rest = found.rest;
            prefix |= found.bin << shift;
            if shift == 0u {
                threshold = prefix;
                if by_mass { limit = ties_to_reach(rest, mass_of(threshold)); }
            }
            workgroupBarrier();
        }
        if (mode & GREEDY) == 0u {
            let random = philox(
                vec4<u32>(settings[words + 10u], 0u, 0u, 0u),
                vec2<u32>(settings[words + 8u], settings[words + 9u]),
            );
            token = draw(lane, threshold, limit, settings[words + 4u], random.xy, token);
        }
        if lane == 0u {
            sampled[group.x] = vec2<u32>(token, flags);
            counts[row.counts + token] += 1u;
        }
    } else if lane == 0u {
        sampled[group.x] = vec2<u32>(NO_TOKEN, 0u);
    }
}

// Samples one token per row: penalties, temperature, top-k, top-p, min-p, draw, exactly over
// the whole vocabulary. One workgroup a row; any power of two as width gives the same token.
//
// Logits are ordered by a u32 key. Thresholds are found by radix selection over it, eight
// bits a pass: by counts for top-k, by mass for top-p. A token's mass is
// exp((x - highest) / temperature) in units of 2^-31, so that all sums are 64-bit integers
// and do not depend on their order. Where few tokens can be kept, a histogram over their
// distance from the highest finds them, and all else runs over a list of these candidates.

const WIDTH: u32 = ${width}u;
// Most candidates in a list.
const LIST: u32 = ${list}u;
const LARGEST: f32 = 3.4028234e38;
const NO_LIMIT: u32 = 0xffffffffu;
const NO_TOKEN: u32 = 0xffffffffu;
const LEAST_FLAG: u32 = 0x40000000u;

// Words of a row of settings; `src/ops/sample/row.rs` writes them.
const ROW_WORDS: u32 = 16u;
const STEP_WORD: u32 = 10u;
const GREEDY: u32 = 1u;
const PENALTIES: u32 = 2u;
const TOP_K: u32 = 4u;
const TOP_P: u32 = 8u;

struct Params {
    vocab: u32,
    slots: u32,
}

// What all functions need to know of this row.
struct Row {
    // Where its logits and counts start.
    logits: u32,
    counts: u32,
    // Where the keys of the candidates start, and how many there are; all tokens at first.
    keys: u32,
    items: u32,
    // Where the keys of all tokens start.
    all_keys: u32,
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
@group(0) @binding(2) var<storage, ${"read_write" if feeds else "read"}> settings: array<u32>;        // [rows, 16]
@group(0) @binding(3) var<storage, read_write> sampled: array<u32>;         // [rows] token, and flags in the two highest bits
@group(0) @binding(4) var<storage, read_write> counts: array<u32>;          // [slots, vocab]
//# if feeds
@group(0) @binding(6) var<storage, read_write> positions: array<u32>;       // [rows]
//# endif
// Of each row: keys of all tokens, keys of the listed candidates, their tokens.
@group(0) @binding(5) var<storage, read_write> keys: array<u32>;            // [rows, vocab + 2 LIST]

// Mass and number of ties of each lane's chunk; before that the highest key, index and flags.
var<workgroup> lane_mass: array<vec2<u32>, WIDTH>;
var<workgroup> lane_ties: array<u32, WIDTH>;
var<private> row: Row;

//# include "lib/rolled.wgsl"
//# include "lib/u64.wgsl"
//# include "lib/philox.wgsl"
//# include "lib/bins.wgsl"
//# include "lib/float_key.wgsl"
//# include "lib/sample_select.wgsl"
//# include "lib/sample_draw.wgsl"

// Key of a token after penalties. Infinite values and NaN are excluded.
fn key_at(token: u32) -> u32 {
    var x = logits[row.logits + token];
    if !is_finite(x) { return EXCLUDED; }
    if row.penalties {
        let seen = counts[row.counts + token];
        if seen != 0u {
            let times = seen & 0x7fffffffu;
            x = select(x * row.repetition, x / row.repetition, x > 0.0);
            x -= row.frequency * f32(times) + select(0.0, row.presence, times > 0u);
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

// The token of a candidate.
fn token_of(item: u32) -> u32 {
    if row.keys == row.all_keys { return item; }
    return keys[row.keys + LIST + item];
}

// The most probable token (the first of them) as (key, token), and whether a logit is NaN or +inf.
fn find_highest(lane: u32) {
    var best = vec2<u32>(0u, 0u);
    var flags = 0u;
    for (var token = lane; token < params.vocab; token += WIDTH) {
        let x = logits[row.logits + token];
        if !is_finite(x) && bitcast<u32>(x) != 0xff800000u { flags = 1u; }
        let key = key_at(token);
        keys[row.keys + token] = key;
        if key > best.x { best = vec2<u32>(key, token); }
    }
    lane_mass[lane] = best;
    lane_ties[lane] = flags;
    storageBarrier();
    workgroupBarrier();
    for (var step = rolled(WIDTH / 2u, params.vocab); step > 0u; step = step / 2u) {
        if lane < step {
            let other = lane_mass[lane + step];
            let mine = lane_mass[lane];
            if other.x > mine.x || (other.x == mine.x && other.y < mine.y) { lane_mass[lane] = other; }
            lane_ties[lane] |= lane_ties[lane + step];
        }
        workgroupBarrier();
    }
}

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let slot = row_slots[group.x];
    let words = group.x * ROW_WORDS;
    let mode = settings[words];
    if slot < params.slots {
        row.logits = group.x * params.vocab;
        row.counts = slot * params.vocab;
        row.keys = group.x * (params.vocab + 2u * LIST);
        row.all_keys = row.keys;
        row.items = params.vocab;
        row.penalties = (mode & PENALTIES) != 0u;
        row.inverse_temperature = bitcast<f32>(settings[words + 1u]);
        row.repetition = bitcast<f32>(settings[words + 5u]);
        row.frequency = bitcast<f32>(settings[words + 6u]);
        row.presence = bitcast<f32>(settings[words + 7u]);
        find_highest(lane);
        row.highest_key = lane_mass[0].x;
        row.highest = value_of(row.highest_key);
        var token = lane_mass[0].y;
        let flags = lane_ties[0] | select(0u, 2u, row.highest_key <= EXCLUDED)${" | select(0u, 1u, sampled[group.x] >= LEAST_FLAG)" if feeds else ""};
        workgroupBarrier();

        let kept = find_threshold(
            lane,
            select(0u, settings[words + 2u], (mode & TOP_K) != 0u),
            (mode & TOP_P) != 0u,
            settings[words + 3u],
        );
        if (mode & GREEDY) == 0u {
            let random = philox(
                vec4<u32>(settings[words + STEP_WORD], 0u, 0u, 0u),
                vec2<u32>(settings[words + 8u], settings[words + 9u]),
            );
            let item = draw(lane, kept.key, kept.ties, settings[words + 4u], random.xy);
            if item < row.items { token = token_of(item); }
        }
        if lane == 0u {
            sampled[group.x] = token | (flags << 30u);
            if flags == 0u { counts[row.counts + token] += 1u; }
//# if feeds
            settings[words + STEP_WORD] += 1u;
            positions[group.x] += 1u;
//# endif
        }
    } else if lane == 0u {
        sampled[group.x] = NO_TOKEN;
    }
}

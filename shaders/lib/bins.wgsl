// A workgroup's histogram of 256 bins with 64-bit sums, and the search in it from the top for
// radix selection. Needs WIDTH, lib/u64.wgsl, lib/rolled.wgsl and `params.vocab`. The sums do not depend on their order.

const BINS: u32 = 256u;
const GROUPS: u32 = 16u;
const GROUP_BINS: u32 = BINS / GROUPS;

var<workgroup> bin_low: array<atomic<u32>, BINS>;
var<workgroup> bin_high: array<atomic<u32>, BINS>;
var<workgroup> bin_groups: array<vec2<u32>, GROUPS>;

struct FoundBin {
    bin: u32,
    rest: vec2<u32>,
}

fn clear_bins(lane: u32) {
    for (var bin = lane; bin < rolled(BINS, params.vocab); bin += WIDTH) {
        atomicStore(&bin_low[bin], 0u);
        atomicStore(&bin_high[bin], 0u);
    }
    workgroupBarrier();
}

fn add_to_bin(bin: u32, amount: u32) {
    if amount == 0u { return; }
    let before = atomicAdd(&bin_low[bin], amount);
    // Whatever the order, the low word wraps as often as the sum exceeds it.
    if before + amount < before { atomicAdd(&bin_high[bin], 1u); }
}

fn bin_at(bin: u32) -> vec2<u32> { return vec2<u32>(atomicLoad(&bin_low[bin]), atomicLoad(&bin_high[bin])); }

// Sums the bins by groups of 16, so that a search takes 32 steps.
fn group_bins(lane: u32) {
    workgroupBarrier();
    for (var part = lane; part < rolled(GROUPS, params.vocab); part += WIDTH) {
        var sum = vec2<u32>(0u, 0u);
        for (var i = 0u; i < rolled(GROUP_BINS, params.vocab); i++) { sum = u64_add(sum, bin_at(part * GROUP_BINS + i)); }
        bin_groups[part] = sum;
    }
    workgroupBarrier();
}

fn bins_total() -> vec2<u32> {
    var sum = vec2<u32>(0u, 0u);
    for (var part = 0u; part < rolled(GROUPS, params.vocab); part++) { sum = u64_add(sum, bin_groups[part]); }
    return sum;
}

// The highest bin at which the sum from the top reaches `wanted`, and what is left to reach there.
fn find_bin(wanted: vec2<u32>) -> FoundBin {
    var rest = wanted;
    var part = GROUPS - 1u;
    while part > 0u && u64_less(bin_groups[part], rest) {
        rest = u64_sub(rest, bin_groups[part]);
        part--;
    }
    var bin = part * GROUP_BINS + GROUP_BINS - 1u;
    while bin > part * GROUP_BINS && u64_less(bin_at(bin), rest) {
        rest = u64_sub(rest, bin_at(bin));
        bin--;
    }
    return FoundBin(bin, rest);
}

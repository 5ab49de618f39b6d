// Exchange of one number for each query within clusters of CLUSTER neighbouring invocations (a
// power of two, at most 8). Takes `cluster`, `queries`, and `form`: "subgroup" (subgroups hold at
// least CLUSTER invocations), or else workgroup memory and barriers. All invocations of the
// workgroup call these functions together. Needs WIDTH, CLUSTER, QUERIES; the entry point sets
// `own_lane`, with subgroups the index in the subgroup, else that in the workgroup.
alias Numbers = array<f32, QUERIES>;

var<private> own_lane: u32;
var<private> handed: Numbers;

//# if cluster == 1
fn cluster_sum(numbers: Numbers) -> Numbers { return numbers; }

fn cluster_max(numbers: Numbers) -> Numbers { return numbers; }

// Hands the numbers of each invocation to its cluster; `taken` then gives those of the first
// invocation of the cluster, of the second, and so on, when called with 0, 1, ...
fn hand(numbers: Numbers) { handed = numbers; }

fn taken(step: u32) -> Numbers { return handed; }
//# elif form == "subgroup"
fn cluster_sum(numbers: Numbers) -> Numbers {
    var total = numbers;
    //# for query in range(queries)
    if CLUSTER > 1u { total[${query}] += subgroupShuffleXor(total[${query}], 1u); }
    if CLUSTER > 2u { total[${query}] += subgroupShuffleXor(total[${query}], 2u); }
    if CLUSTER > 4u { total[${query}] += subgroupShuffleXor(total[${query}], 4u); }
    //# endfor
    return total;
}

fn cluster_max(numbers: Numbers) -> Numbers {
    var peak = numbers;
    //# for query in range(queries)
    if CLUSTER > 1u { peak[${query}] = max(peak[${query}], subgroupShuffleXor(peak[${query}], 1u)); }
    if CLUSTER > 2u { peak[${query}] = max(peak[${query}], subgroupShuffleXor(peak[${query}], 2u)); }
    if CLUSTER > 4u { peak[${query}] = max(peak[${query}], subgroupShuffleXor(peak[${query}], 4u)); }
    //# endfor
    return peak;
}

fn hand(numbers: Numbers) { handed = numbers; }

// Each step turns the cluster by one: indices that are constants for a lane are far cheaper on
// software adapters than those that depend on `step`.
fn taken(step: u32) -> Numbers {
    let first = own_lane & ~(CLUSTER - 1u);
    let next = first | ((own_lane + 1u) & (CLUSTER - 1u));
    var result: Numbers;
    //# for query in range(queries)
    result[${query}] = subgroupShuffle(handed[${query}], first);
    handed[${query}] = subgroupShuffle(handed[${query}], next);
    //# endfor
    return result;
}
//# else
var<workgroup> exchanged: array<f32, QUERIES * WIDTH>;

fn hand(numbers: Numbers) {
    workgroupBarrier();
    //# for query in range(queries)
    exchanged[${query}u * WIDTH + own_lane] = numbers[${query}];
    //# endfor
    workgroupBarrier();
}

fn taken(step: u32) -> Numbers {
    let at = (own_lane & ~(CLUSTER - 1u)) + step;
    var result: Numbers;
    //# for query in range(queries)
    result[${query}] = exchanged[${query}u * WIDTH + at];
    //# endfor
    return result;
}

fn cluster_sum(numbers: Numbers) -> Numbers {
    hand(numbers);
    var total = taken(0u);
    for (var step = 1u; step < CLUSTER; step++) {
        let other = taken(step);
        //# for query in range(queries)
        total[${query}] += other[${query}];
        //# endfor
    }
    return total;
}

fn cluster_max(numbers: Numbers) -> Numbers {
    hand(numbers);
    var peak = taken(0u);
    for (var step = 1u; step < CLUSTER; step++) {
        let other = taken(step);
        //# for query in range(queries)
        peak[${query}] = max(peak[${query}], other[${query}]);
        //# endfor
    }
    return peak;
}
//# endif

// What decides over a score in the key-value cache: which keys a row sees, and the soft cap.
// Takes `softcap`; takes `rows`, `slots`, `context` and `softcap` from `params`; needs the
// bindings `positions` and `slots`.

// Keys that a row may see: its own and those before it; none where the row is inactive.
fn visible_keys(row: u32) -> u32 {
    let at = min(row, params.rows - 1u);
    let live = row < params.rows && slots[at] < params.slots;
    return select(0u, min(positions[at], params.context - 1u) + 1u, live);
}

//# include "lib/softcap.wgsl"

// What decides over a score: which keys a row sees, and the soft cap (Gemma 2). Takes `softcap`;
// takes `rows`, `slots`, `context` and `softcap` from `params`; needs the bindings `positions`
// and `slots`.

// Keys that a row may see: its own and those before it; none where the row is inactive.
fn visible_keys(row: u32) -> u32 {
    let at = min(row, params.rows - 1u);
    let live = row < params.rows && slots[at] < params.slots;
    return select(0u, min(positions[at], params.context - 1u) + 1u, live);
}

fn capped(score: f32) -> f32 {
    //# if softcap
    // The host divides the scale by the cap; tanh is clamped as some drivers' overflows.
    return params.softcap * tanh(clamp(score, -15.0, 15.0));
    //# else
    return score;
    //# endif
}

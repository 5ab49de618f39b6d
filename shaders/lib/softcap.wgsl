// The soft cap of scores (Gemma 2). Takes `softcap`, whether there is one, and
// `params.softcap`.

fn capped(score: f32) -> f32 {
    //# if softcap
    // The host divides the scale by the cap; tanh is clamped as some drivers' overflows.
    return params.softcap * tanh(clamp(score, -15.0, 15.0));
    //# else
    return score;
    //# endif
}

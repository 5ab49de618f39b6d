// Where keys and values lie in the cache: [slots, heads, context, head_pitch], in vectors of
// four. The only place that knows; a paged cache would replace it. Takes `kv_heads`,
// `context` and `head_vectors` from `params`.

fn kv_row(slot: u32, head: u32, position: u32) -> u32 {
    return ((slot * params.kv_heads + head) * params.context + position) * params.head_vectors;
}

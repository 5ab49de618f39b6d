// One step of a recurrent layer: an invocation computes one unit of one sequence in one direction.
// Takes `cell`: "rnn", "lstm", "gru_after" (the reset gate is applied to the product), or, where it
// is applied to the state before the product, first "gru_reset", then "gru_before"; `vectors`: the
// hidden size is a multiple of four; `peephole` and `coupled` of LSTM cells; and the functions f, g
// and h with their numbers of arguments. Gates come in ONNX's order.
//# set gates = 4 if cell == "lstm" else 1 if cell == "rnn" else 3
//# set multiplied = {"rnn": [0], "lstm": [0, 1, 2, 3], "gru_after": [0, 1, 2], "gru_reset": [1], "gru_before": [0]}[cell]
const GATES: u32 = ${gates}u;
const VECTORS: u32 = ${gates + 3 if peephole else gates}u; // biases of the gates, then peephole weights

struct Params {
    items: u32,     // directions * batches * hidden
    per_group: u32,
    steps: u32,
    step: u32,
    batches: u32,
    hidden: u32,
    reverse: u32,   // whether the first direction goes backwards; the second always does
    clip: f32,
    f_alpha: f32,
    f_beta: f32,
    g_alpha: f32,
    g_beta: f32,
    h_alpha: f32,
    h_beta: f32,
}
${params} params: Params;

@group(0) @binding(0) var<storage, read> inputs: array<f32>;        // [steps, batches, directions, GATES, hidden]
@group(0) @binding(1) var<storage, read> weight: array<${"vec4<f32>" if vectors else "f32"}>; // [directions, GATES, hidden, hidden]
@group(0) @binding(2) var<storage, read> biases: array<f32>;        // [directions, VECTORS, hidden]
@group(0) @binding(3) var<storage, read> initial: array<f32>;       // [states, directions, batches, hidden]
@group(0) @binding(4) var<storage, read> lengths: array<u32>;       // [batches]
@group(0) @binding(5) var<storage, read_write> output: array<f32>;  // [steps, directions, batches, hidden]
@group(0) @binding(6) var<storage, read_write> last: array<f32>;    // like `initial`

//# include "lib/activation.wgsl"
//# include "lib/items.wgsl"

//# for name, function, count in [["f", f, f_arguments], ["g", g, g_arguments], ["h", h, h_arguments]]
//# set arguments = ["", ", params." ~ name ~ "_alpha", ", params." ~ name ~ "_alpha, params." ~ name ~ "_beta"][count]
fn activate_${name}(x: f32) -> f32 { return ${function}(clamp(x, -params.clip, params.clip)${arguments}); }

//# endfor
//# if cell in ["gru_reset", "gru_before"]
@group(0) @binding(7) var<storage, read_write> reset_state: array<f32>; // [directions, batches, hidden]
//# endif

// Four elements of a row of the weight; zero past its end.
fn load_weight(row: u32, vector: u32) -> vec4<f32> {
//# if vectors
    return weight[row * params.hidden / 4u + vector];
//# else
    let column = vec4<u32>(vector * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
    let at = vec4<u32>(row * params.hidden) + min(column, vec4<u32>(params.hidden - 1u));
    return select(vec4<f32>(0.0), vec4<f32>(weight[at.x], weight[at.y], weight[at.z], weight[at.w]), column < vec4<u32>(params.hidden));
//# endif
}

// Places of four elements of a sequence's state; those past its end are the last.
fn places(first: u32, vector: u32) -> vec4<u32> {
    return first + min(vec4<u32>(vector * 4u) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.hidden - 1u));
}

// The state before this step, which the initial values or the output of another step hold.
fn load_state(first: u32, vector: u32) -> vec4<f32> {
    let at = places(first, vector);
    if params.step == 0u { return vec4<f32>(initial[at.x], initial[at.y], initial[at.z], initial[at.w]); }
    return vec4<f32>(output[at.x], output[at.y], output[at.z], output[at.w]);
}

fn own_state(at: u32) -> f32 {
    if params.step == 0u { return initial[at]; }
    return output[at];
}

fn compute(item: u32) {
    let hidden = params.hidden;
    let unit = item % hidden;
    let sequence = item / hidden;
    let direction = sequence / params.batches;
    let batch = sequence % params.batches;
    let length = min(lengths[batch], params.steps);
    if params.step >= length {
        if params.step < params.steps { output[params.step * params.items + item] = 0.0; }
        for (var i = 0u; i < select(0u, ${2 if cell == "lstm" else 1}u, params.step == 0u); i++) {
            last[i * params.items + item] = initial[i * params.items + item];
        }
        return;
    }
    let backwards = direction == 1u || params.reverse == 1u;
    let time = select(params.step, length - 1u - params.step, backwards);
    let before = select(time - 1u, time + 1u, backwards); // wraps at the first step, where it is not used
    let first = select(before * params.items, 0u, params.step == 0u) + sequence * hidden;
    let directions = params.items / (params.batches * hidden);
    let input = ((time * params.batches + batch) * directions + direction) * GATES * hidden + unit;
    let row = direction * GATES * hidden + unit;
    let bias = direction * VECTORS * hidden + unit;

//# for gate in multiplied
    var sum_${gate} = biases[bias + ${gate}u * hidden];
//# endfor
    for (var vector = 0u; vector * 4u < hidden; vector++) {
        let state = load_state(first, vector);
//# for gate in multiplied
        sum_${gate} += dot(load_weight(row + ${gate}u * hidden, vector), state);
//# endfor
    }
//# for gate in range(gates)
    let input_${gate} = inputs[input + ${gate}u * hidden];
//# endfor
    let own = own_state(first + unit);
//# if cell == "lstm"
    // Input, output, forget, cell (Hochreiter and Schmidhuber 1997; peepholes: Gers and Schmidhuber 2000).
    var memory = last[params.items + item];
    if params.step == 0u { memory = initial[params.items + item]; }
//# for gate in range(3)
    let peek_${gate} = ${"biases[bias + " ~ (gate + 4) ~ "u * hidden]" if peephole else "0.0"};
//# endfor
    let admit = activate_f(input_0 + sum_0 + peek_0 * memory);
    let keep = ${"1.0 - admit" if coupled else "activate_f(input_2 + sum_2 + peek_2 * memory)"};
    memory = keep * memory + admit * activate_g(input_3 + sum_3);
    last[params.items + item] = memory;
    finish(item, time, length, activate_f(input_1 + sum_1 + peek_1 * memory) * activate_h(memory));
//# elif cell == "rnn"
    finish(item, time, length, activate_f(input_0 + sum_0));
//# elif cell == "gru_after"
    // Update, reset, hidden (Cho et al. 2014).
    let hidden_gate = activate_g(input_2 + activate_f(input_1 + sum_1) * sum_2);
    finish(item, time, length, mix(hidden_gate, own, activate_f(input_0 + sum_0)));
//# elif cell == "gru_reset"
    reset_state[item] = activate_f(input_1 + sum_1) * own;
//# else
    var sum_2 = biases[bias + 2u * hidden];
    for (var vector = 0u; vector * 4u < hidden; vector++) {
        let at = places(sequence * hidden, vector);
        let state = vec4<f32>(reset_state[at.x], reset_state[at.y], reset_state[at.z], reset_state[at.w]);
        sum_2 += dot(load_weight(row + 2u * hidden, vector), state);
    }
    finish(item, time, length, mix(activate_g(input_2 + sum_2), own, activate_f(input_0 + sum_0)));
//# endif
}

fn finish(item: u32, time: u32, length: u32, state: f32) {
    output[time * params.items + item] = state;
    if params.step + 1u == length { last[item] = state; }
}

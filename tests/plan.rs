//! Plans of the model families, without a GPU: dispatches of a layer, sharing of buffers,
//! activation memory, and how many different shaders a model needs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::time::Instant;
use wginfer::Result;
use wginfer::graph::{BufferRef, Graph, Plan, Source, Step, ValueId, optimise};
use wginfer::kernel::{Caps, Kernel, Launches, Operand};
use wginfer::models::config::DecoderConfig;
use wginfer::models::decoder::{Decoder, LogitRows, Run, find_root};
use wginfer::nn::{Cache, NormKind};
use wginfer::ops::cases::Random;
use wginfer::ops::{Binary, BinaryFn, Op, Softmax, Unary, UnaryFn};
use wginfer::tensor::{DType, Spec, Tensor};

const FAMILIES: [&str; 9] =
    ["llama2", "llama3", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "phi3", "gpt2"];

/// The sizes of a 1.1 B parameter Llama: nothing is allocated, so they cost no more than small ones.
const LARGE: &str = r#"{"model_type": "llama", "vocab_size": 32000, "hidden_size": 2048,
    "intermediate_size": 5632, "num_hidden_layers": LAYERS, "num_attention_heads": 32,
    "num_key_value_heads": 4, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
    "hidden_act": "silu", "tie_word_embeddings": false, "bos_token_id": 1, "eos_token_id": 2}"#;

fn family(name: &str) -> DecoderConfig {
    let goldens = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
    DecoderConfig::load(&goldens.join(name)).unwrap()
}

fn config(text: &str) -> DecoderConfig {
    DecoderConfig::from_bytes(Path::new("config.json"), text.as_bytes()).unwrap()
}

fn large(layers: usize) -> DecoderConfig {
    config(&LARGE.replace("LAYERS", &layers.to_string()))
}

fn profile(name: &str) -> Caps {
    let profiles = Caps::profiles();
    profiles.into_iter().find(|(known, _)| *known == name).expect("a profile of Caps").1
}

/// Decoding one token of each of `rows` sequences.
fn decoding(rows: usize) -> Run {
    Run { rows, one_sequence: false, logits: LogitRows::All, sampled: true, counted: false, hidden: false }
}

/// A piece of a prompt.
fn prompt(rows: usize) -> Run {
    Run { rows, one_sequence: true, logits: LogitRows::Last, sampled: true, counted: true, hidden: false }
}

fn graph(config: &DecoderConfig, context: usize, run: Run) -> Graph {
    let cache = Cache { slots: if run.one_sequence { 1 } else { run.rows }, context };
    let decoder = Decoder::new(config.clone(), find_root(config, |_| false), cache);
    let mut graph = decoder.graph(&DType::F16, run).unwrap();
    optimise(&mut graph).unwrap();
    graph
}

fn plan(config: &DecoderConfig, context: usize, run: Run, caps: &Caps) -> Plan {
    Plan::new(&graph(config, context, run), caps).unwrap()
}

/// Kernels of a layer in order.
fn layer_kernels(plan: &Plan, layer: usize) -> Vec<&'static str> {
    let scope = format!("layers.{layer}.");
    plan.steps.iter().filter(|step| step.name.starts_with(&scope)).map(|step| step.launch.kernel).collect()
}

#[test]
fn a_decoding_layer_takes_few_dispatches() {
    let mut failures = Vec::new();
    for (profile, caps) in Caps::profiles() {
        for name in FAMILIES {
            let config = family(name);
            // Norms of query and key heads take one, Gemma's norms before the additions two, and
            // norms with a mean are no part of a linear layer.
            let layer_norms = config.norm.kind == NormKind::Layer;
            let more =
                usize::from(config.qk_norm) + 2 * (usize::from(config.post_norms) + usize::from(layer_norms));
            for context in [64, 4096] {
                let plan = plan(&config, context, decoding(1), &caps);
                for layer in 0..config.layers as usize {
                    let kernels = layer_kernels(&plan, layer);
                    let split = usize::from(kernels.contains(&"attention_merge"));
                    if kernels.len() > 6 + more + split {
                        failures.push(format!("{name} on {profile}, context {context}: {kernels:?}"));
                    }
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_llama_layer_is_these_dispatches() {
    let kernels = |profile_name: &str, context: usize, run: Run| {
        layer_kernels(&plan(&large(2), context, run, &profile(profile_name)), 1)
    };
    // Norms in kernels of their own where many rows pass through the linear layers.
    let layer = |linear: &'static str, norm: &[&'static str], attention: &[&'static str]| {
        [norm, &[linear, "rope_cache"], attention, &[linear], norm, &[linear, linear]].concat()
    };
    assert_eq!(kernels("software", 4096, decoding(1)), layer("linear_rows", &[], &["attention"]));
    assert_eq!(kernels("software", 4096, prompt(512)), layer("linear_rows", &["rms_norm"], &["attention"]));
    let split = ["attention", "attention_merge"];
    assert_eq!(kernels("nvidia", 4096, decoding(1)), layer("linear_matvec", &[], &split));
    assert_eq!(
        kernels("nvidia", 4096, prompt(512)),
        layer("linear_matrices", &["rms_norm"], &["attention_tile"])
    );
    assert_eq!(kernels("vulkan minimum", 4096, decoding(1)), layer("linear_matvec", &[], &split));
}

/// A decoded token: the embedding, the layers, norm and head in one, and the sampler.
#[test]
fn a_token_of_the_bundled_model_takes_few_dispatches() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("models/pretrained/fairy-tales");
    let config = DecoderConfig::load(&folder).unwrap();
    let steps = plan(&config, 512, decoding(1), &profile("software")).steps.len();
    assert_eq!(steps, 6 * config.layers as usize + 3);
}

/// What lies in a buffer. Versions of a state count as one value.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Content {
    Value(ValueId),
    Scratch { node: usize, index: usize },
}

/// Follows a plan step by step and checks that every binding finds what it reads.
fn check_buffers(graph: &Graph, plan: &Plan) -> Result<(), String> {
    let mut first_version: HashMap<ValueId, ValueId> = HashMap::new();
    for node in graph.nodes() {
        for &(output, input) in node.op.aliases() {
            let input = node.inputs[input];
            let first = first_version.get(&input).copied().unwrap_or(input);
            first_version.insert(node.outputs[output], first);
        }
    }
    let value = |id: ValueId| Content::Value(first_version.get(&id).copied().unwrap_or(id));
    let mut contents: HashMap<BufferRef, Content> = HashMap::new();
    for step in &plan.steps {
        let node = &graph.nodes()[step.node];
        let operands = step.launch.bindings.iter().zip(&step.buffers);
        let mut bound: HashMap<BufferRef, bool> = HashMap::new();
        for (operand, &(place, bytes)) in operands.clone() {
            let is_input = matches!(operand, Operand::Input(_) | Operand::InputPart(..));
            if bound.insert(place, is_input).is_some_and(|other| !(other && is_input)) {
                return Err(format!("{}: binds {place:?} twice, not only to read", step.name));
            }
            if matches!(place, BufferRef::Slot(slot) if bytes > plan.slots[slot]) {
                return Err(format!("{}: binds {bytes} bytes of {place:?}", step.name));
            }
            if let Operand::Input(input) | Operand::InputPart(input, _) = *operand
                && matches!(place, BufferRef::Slot(_) | BufferRef::Output(_))
                && contents.get(&place) != Some(&value(node.inputs[input]))
            {
                return Err(format!("{}: input {input} was overwritten in {place:?}", step.name));
            }
        }
        for (operand, (place, _)) in operands {
            match *operand {
                Operand::Output(output) => {
                    let aliased = node.op.aliases().iter().any(|&(other, _)| other == output);
                    let known = contents.get(place).is_none_or(|&known| known == value(node.outputs[output]));
                    if aliased && !known {
                        return Err(format!("{}: its old version was overwritten in {place:?}", step.name));
                    }
                    contents.insert(*place, value(node.outputs[output]));
                }
                Operand::Scratch(index) => {
                    contents.insert(*place, Content::Scratch { node: step.node, index });
                }
                Operand::Input(_) | Operand::InputPart(..) => {}
            }
        }
    }
    for ((name, id), (_, _, place)) in graph.outputs().iter().zip(&plan.outputs) {
        let read_later = matches!(place, BufferRef::Slot(_) | BufferRef::Output(_));
        if read_later && contents.get(place) != Some(&value(*id)) {
            return Err(format!("output {name} was overwritten in {place:?}"));
        }
    }
    Ok(())
}

#[test]
fn values_are_not_overwritten_before_their_last_read() {
    for (profile, caps) in Caps::profiles() {
        for name in FAMILIES {
            let config = family(name);
            for run in [decoding(1), decoding(4), prompt(8), prompt(512), Run { hidden: true, ..prompt(8) }] {
                let graph = graph(&config, 2048, run);
                let plan = Plan::new(&graph, &caps).unwrap();
                check_buffers(&graph, &plan).unwrap_or_else(|error| panic!("{name} on {profile}: {error}"));
            }
        }
    }
}

/// Changes a value in place, as kernels of caches do.
#[derive(Debug)]
struct InPlace;

static IN_PLACE: Kernel = Kernel::new("in_place", "");

impl Op for InPlace {
    fn name(&self) -> &'static str {
        "in_place"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        Ok(inputs.to_vec())
    }

    fn launch(&self, _: &Caps, _: &[Spec], _: &[Spec]) -> Result<Launches> {
        Ok(IN_PLACE.launch().bind([Operand::Output(0)]).into())
    }

    fn aliases(&self) -> &'static [(usize, usize)] {
        &[(0, 0)]
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        Ok(inputs.to_vec())
    }
}

/// A graph of element-wise nodes over values of a few sizes, with random inputs and outputs.
fn random_graph(random: &mut Random) -> Graph {
    let mut graph = Graph::new();
    let mut values: Vec<ValueId> =
        [4, 100, 3000].iter().map(|&n| graph.input(format!("x{n}"), Spec::f32([n]))).collect();
    for _ in 0..50 {
        let any = |random: &mut Random, among: &[ValueId]| among[random.below(among.len() as u32) as usize];
        let first = any(random, &values);
        let alike: Vec<ValueId> =
            values.iter().copied().filter(|id| graph.spec(*id) == graph.spec(first)).collect();
        let made = match random.below(4) {
            0 => graph.add_one(Unary(UnaryFn::Relu), &[first]),
            1 => graph.add_one(Softmax { logarithm: false }, &[first]),
            2 if matches!(graph.value(first).source, Source::Node) => {
                values.retain(|id| *id != first);
                graph.add_one(InPlace, &[first])
            }
            _ => graph.add_one(Binary(BinaryFn::Mul), &[first, any(random, &alike)]),
        };
        values.push(made.unwrap());
    }
    for index in 0..3 {
        graph.output(format!("y{index}"), values[values.len() - 1 - 4 * index]);
    }
    graph.check().unwrap();
    graph
}

#[test]
fn random_graphs_keep_their_values() {
    let (mut random, caps) = (Random::new(5), Caps::webgpu_minimum());
    for round in 0..200 {
        let graph = random_graph(&mut random);
        let plan = Plan::new(&graph, &caps).unwrap();
        check_buffers(&graph, &plan).unwrap_or_else(|error| panic!("round {round}: {error}\n{graph}{plan}"));
        assert!(plan.slots.len() < 40, "{} slots for 50 nodes", plan.slots.len());
    }
}

/// The checker above must notice a buffer that is used too early.
#[test]
fn an_overwritten_value_is_noticed() {
    let graph = graph(&family("llama2"), 64, decoding(1));
    let mut plan = Plan::new(&graph, &profile("software")).unwrap();
    for step in &mut plan.steps {
        for (place, _) in &mut step.buffers {
            if matches!(place, BufferRef::Slot(_)) {
                *place = BufferRef::Slot(0);
            }
        }
    }
    plan.slots = vec![1 << 30];
    let error = check_buffers(&graph, &plan).unwrap_err();
    assert!(error.contains("Slot(0)"), "{error}");
}

#[test]
fn activation_memory_does_not_grow_with_layers() {
    for (name, caps) in Caps::profiles() {
        let slots = |layers: usize| plan(&large(layers), 4096, prompt(512), &caps).slots;
        let few = slots(2);
        assert_eq!(few, slots(22), "{name}");
        // The widest values: gate and up before they are joined never lie in memory.
        let bytes: u64 = few.iter().sum();
        let row = (5632 + 4 * 2048 + 2 * 2560) * 4;
        assert!(bytes < 512 * row * 3 / 2, "{name}: {bytes} bytes at 512 rows: {few:?}");
    }
}

/// Kernels with their variants: what is compiled.
fn shaders(plan: &Plan) -> BTreeSet<String> {
    let text = |step: &Step| {
        let variants: Vec<String> =
            step.launch.variants.iter().map(|(key, value)| format!("{key}={value:?}")).collect();
        format!("{} {}", step.launch.kernel, variants.join(" "))
    };
    plan.steps.iter().map(text).collect()
}

/// On software adapters; on GPUs products have classes of tiles and parts, of which there are few.
#[test]
fn shaders_are_not_specialised_by_shape() {
    let wide = LARGE.replace("2048", "2560").replace("5632", "6912");
    let wide = wide.replace("\"num_attention_heads\": 32", "\"num_attention_heads\": 40");
    let wide = config(&wide.replace("LAYERS", "3"));
    let first = large(2);
    for (name, caps) in Caps::profiles() {
        let of = |config, rows, context| shaders(&plan(config, context, prompt(rows), &caps));
        let want = of(&first, 128, 1024);
        let mut all = want.clone();
        for (config, rows, context) in [
            (&first, 32, 1024),
            (&first, 512, 1024),
            (&first, 32, 4000),
            (&first, 512, 4096),
            (&wide, 128, 1024),
            (&wide, 512, 3000),
        ] {
            let got = of(config, rows, context);
            let more: Vec<&String> = got.difference(&want).collect();
            let fewer: Vec<&String> = want.difference(&got).collect();
            let what = format!("{name}: {rows} rows, context {context}, hidden {}", config.hidden);
            assert!(name != "software" || got == want, "{what}: more {more:#?}, fewer {fewer:#?}");
            all.extend(got);
        }
        println!("{name}: {} shaders of a shape, {} of all", want.len(), all.len());
        assert!(all.len() <= 2 * want.len(), "{name}: {all:#?}");
    }
}

/// On lavapipe each distinct shader costs compile time at its first dispatch.
#[test]
fn a_model_needs_few_shaders() {
    for (name, caps) in Caps::profiles() {
        let config = large(2);
        let mut all = shaders(&plan(&config, 2048, decoding(1), &caps));
        all.extend(shaders(&plan(&config, 2048, prompt(512), &caps)));
        println!("{name}: {} shaders", all.len());
        assert!(all.len() <= 20, "{name}: {all:#?}");
    }
}

#[test]
fn planning_is_fast() {
    let config = large(22);
    let graph = graph(&config, 2048, prompt(512));
    let started = Instant::now();
    let plan = Plan::new(&graph, &profile("nvidia")).unwrap();
    let each = started.elapsed() / u32::try_from(graph.nodes().len()).unwrap();
    println!("{} nodes, {} steps, {each:.1?} a node", graph.nodes().len(), plan.steps.len());
    // Weights are one each, whatever the number of nodes.
    let names: BTreeMap<&str, usize> = plan.weights.iter().fold(BTreeMap::new(), |mut counts, weight| {
        *counts.entry(weight.name.as_str()).or_default() += 1;
        counts
    });
    assert!(names.values().all(|&count| count == 1), "{names:?}");
}

//! Decoder-only transformers: Llama (Touvron et al. 2023) and what shares its form, Mistral,
//! Qwen 2 and 3, Gemma 2 and 3, Phi 3, GPT-2 and GPT-NeoX.
//!
//! In: token ids, positions and slots u32 `[rows]`. Out: logits f32 `[rows, vocab]` and, sampled
//! on the device, the next tokens u32 `[rows]`. Weights carry the published checkpoints' names.

use super::config::{Activation, DecoderConfig, Family, LayerKind, Positions};
use crate::Result;
use crate::graph::{Graph, ValueId};
use crate::nn::{self, Attention, Cache, Projection, Rotary, Rows, Scope, WeightTypes};
use crate::ops::{ROW_WORDS, UnaryFn};
use crate::tensor::{Spec, Tensor};
use std::sync::Arc;

/// Which rows of a run get logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogitRows {
    /// None: the run only fills the cache.
    None,
    /// The one that the input "last" names.
    Last,
    /// All.
    All,
}

/// What one graph of a decoder computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Run {
    /// Number of tokens at a time.
    pub rows: usize,
    /// All tokens belong to one sequence, in order (a piece of a prompt).
    pub one_sequence: bool,
    /// Which rows get logits.
    pub logits: LogitRows,
    /// Whether the next tokens are sampled from the logits.
    pub sampled: bool,
    /// Whether prompt tokens are marked in the counts that penalties use.
    pub counted: bool,
    /// Makes the outputs "hidden.0", "hidden.1", ...: the stream before each layer and after the last.
    pub hidden: bool,
}

impl Run {
    /// Whether it is a step of decoding that leaves what the next one starts from: tokens,
    /// positions and settings are states then, of the names that [`fed`](Self::fed) makes.
    pub fn feeds(&self) -> bool {
        self.sampled && !self.one_sequence && self.logits == LogitRows::All
    }

    /// Name of a state that a step of as many rows leaves for the next.
    pub fn fed(&self, what: &str) -> String {
        format!("{what}.{}", self.rows)
    }

    /// An input, or where it is left by the step before, a state.
    fn source(&self, graph: &mut Graph, name: &str, spec: Spec) -> ValueId {
        if self.feeds() { graph.state(self.fed(name), spec) } else { graph.input(name, spec) }
    }
}

/// Where a family's checkpoint keeps its tensors.
struct Names {
    embed: &'static str,
    layers: &'static str,
    attention: &'static str,
    input_norm: &'static str,
    mlp_norm: &'static str,
    final_norm: &'static str,
    head: &'static str,
}

impl Names {
    fn of(family: Family) -> Self {
        let llama = Self {
            embed: "embed_tokens",
            layers: "layers",
            attention: "self_attn",
            input_norm: "input_layernorm",
            mlp_norm: "post_attention_layernorm",
            final_norm: "norm",
            head: "lm_head",
        };
        match family {
            Family::Gemma2 | Family::Gemma3 => Self { mlp_norm: "pre_feedforward_layernorm", ..llama },
            Family::Gpt2 => Self {
                embed: "wte",
                layers: "h",
                attention: "attn",
                input_norm: "ln_1",
                mlp_norm: "ln_2",
                final_norm: "ln_f",
                head: "lm_head",
            },
            Family::GptNeox => Self {
                embed: "embed_in",
                attention: "attention",
                final_norm: "final_layer_norm",
                head: "embed_out",
                ..llama
            },
            _ => llama,
        }
    }
}

/// Roots under which published checkpoints of a family keep the decoder, most common first.
fn roots(family: Family) -> &'static [&'static str] {
    match family {
        Family::Gpt2 => &["transformer", ""],
        Family::GptNeox => &["gpt_neox", ""],
        Family::Gemma3 => &["model", "language_model.model", "model.language_model", ""],
        _ => &["model", ""],
    }
}

/// The root of the decoder's tensors in a checkpoint whose names are given: the one below which
/// the embedding lies, else the family's usual one.
pub fn find_root(config: &DecoderConfig, has_tensor: impl Fn(&str) -> bool) -> &'static str {
    let embed = Names::of(config.family).embed;
    let roots = roots(config.family);
    let found = roots.iter().find(|root| has_tensor(&join(root, &format!("{embed}.weight"))));
    found.unwrap_or(&roots[0])
}

fn join(path: &str, name: &str) -> String {
    match (path, name) {
        ("", name) => name.to_owned(),
        (path, "") => path.to_owned(),
        (path, name) => format!("{path}.{name}"),
    }
}

/// A decoder's description, from which the graphs of its runs are built.
#[derive(Debug, Clone)]
pub struct Decoder {
    config: DecoderConfig,
    /// Path below which the checkpoint keeps the decoder's tensors, from [`find_root`].
    root: &'static str,
    cache: Cache,
    /// Rotary tables of full and of sliding layers.
    tables: [Option<Arc<Tensor>>; 2],
}

/// The decoder being built: what all its layers need.
struct Builder<'a> {
    config: &'a DecoderConfig,
    names: Names,
    types: &'a dyn WeightTypes,
    root: &'a str,
    cache: Cache,
    tokens: ValueId,
    rows: Rows,
    full: Option<Rotary>,
    sliding: Option<Rotary>,
}

impl Decoder {
    /// Describes a decoder with a cache of some size.
    pub fn new(config: DecoderConfig, root: &'static str, cache: Cache) -> Self {
        let table = |kind: LayerKind| {
            let Positions::Rope(rope) = &config.positions else { return None };
            if kind == LayerKind::Sliding && rope.sliding.is_none() {
                return None;
            }
            let length = u32::try_from(cache.context).unwrap_or(u32::MAX);
            let (frequencies, factor) = rope.inverse_frequencies(kind, length);
            Some(Arc::new(nn::rotary_table(&frequencies, factor, cache.context)))
        };
        let tables = [table(LayerKind::Full), table(LayerKind::Sliding)];
        Self { config, root, cache, tables }
    }

    /// The configuration.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// Path below which the checkpoint keeps the decoder's tensors.
    pub fn root(&self) -> &'static str {
        self.root
    }

    /// Sizes of the cache.
    pub fn cache(&self) -> Cache {
        self.cache
    }

    /// Name of the head's tensor, which tied checkpoints may carry as a copy of the embedding.
    pub fn head_name(&self) -> String {
        // The head lies beside the decoder's root, not below it.
        let parent = self.root.rsplit_once('.').map_or("", |(parent, _)| parent);
        format!("{}.weight", join(parent, Names::of(self.config.family).head))
    }

    /// Builds the graph of one kind of run.
    ///
    /// # Errors
    /// When the configuration's sizes do not fit each other.
    pub fn graph(&self, types: &dyn WeightTypes, run: Run) -> Result<Graph> {
        let (config, cache) = (&self.config, self.cache);
        let mut graph = Graph::new();
        let tokens = run.source(&mut graph, "tokens", Spec::u32([run.rows]));
        let positions = run.source(&mut graph, "positions", Spec::u32([run.rows]));
        let slots = graph.input("slots", Spec::u32([run.rows]));
        let vocab = size(config.vocab_size);
        let counted = run
            .counted
            .then(|| nn::count_tokens(&mut graph, tokens, slots, cache.slots, vocab))
            .transpose()?;
        let mut rotary = |name, table: &Option<Arc<Tensor>>| {
            let table = table.as_ref()?;
            Some(Rotary { dims: table.dims()[1], table: graph.constant(name, table.clone()) })
        };
        let full = rotary("rotary.full", &self.tables[0]);
        let sliding = rotary("rotary.sliding", &self.tables[1]).or(full);
        let rows = Rows { positions, slots, one_sequence: run.one_sequence };
        let names = Names::of(config.family);
        let builder = Builder { config, names, types, root: self.root, cache, tokens, rows, full, sliding };
        let table = builder.embedding_table(&mut graph);
        let mut x = graph.scope("embed", |graph| builder.embed(graph, table))?;
        for layer in 0..size(config.layers) {
            if run.hidden {
                graph.output(format!("hidden.{layer}"), x);
            }
            x = graph.scope(format!("layers.{layer}"), |graph| builder.layer(graph, layer, x))?;
        }
        if run.hidden {
            graph.output(format!("hidden.{}", config.layers), x);
        }
        if run.logits != LogitRows::None {
            let head = self.head_name();
            graph.scope("head", |graph| builder.head(graph, table, &head, x, run, counted))?;
        }
        graph.check()?;
        Ok(graph)
    }
}

fn size(value: u32) -> usize {
    value as usize
}

impl Builder<'_> {
    /// Calls `body` with the scope of `path` below the decoder's root.
    fn at<T>(&self, path: &str, body: impl FnOnce(&Scope<'_>) -> Result<T>) -> Result<T> {
        let path = join(self.root, path);
        body(&Scope::new(self.types, &path))
    }

    fn embedding_table(&self, graph: &mut Graph) -> ValueId {
        let name = format!("{}.weight", join(self.root, self.names.embed));
        let (vocab, hidden) = (size(self.config.vocab_size), size(self.config.hidden));
        Scope::new(self.types, "").matrix(graph, &name, vocab, hidden)
    }

    fn embed(&self, graph: &mut Graph, table: ValueId) -> Result<ValueId> {
        let x = nn::embedding(graph, table, self.tokens, self.config.embedding_scale)?;
        if self.config.positions != Positions::Learned {
            return Ok(x);
        }
        let (context, hidden) = (size(self.config.context), size(self.config.hidden));
        let learned = self.at("wpe", |scope| Ok(scope.matrix(graph, "weight", context, hidden)))?;
        let learned = nn::embedding(graph, learned, self.rows.positions, 1.0)?;
        nn::add(graph, x, learned)
    }

    fn layer(&self, graph: &mut Graph, layer: usize, x: ValueId) -> Result<ValueId> {
        let norm = self.config.norm;
        let path = format!("{}.{layer}", self.names.layers);
        self.at(&path, |scope| {
            let normed = norm.apply(graph, scope, self.names.input_norm, x)?;
            let mut mixed = graph.scope("attention", |graph| self.attention(graph, layer, normed))?;
            if self.config.post_norms {
                mixed = norm.apply(graph, scope, "post_attention_layernorm", mixed)?;
            }
            let middle = nn::add(graph, mixed, x)?;
            let source = if self.config.parallel_residual { x } else { middle };
            let normed = norm.apply(graph, scope, self.names.mlp_norm, source)?;
            let mut fed = graph.scope("mlp", |graph| self.feed_forward(graph, layer, normed))?;
            if self.config.post_norms {
                fed = norm.apply(graph, scope, "post_feedforward_layernorm", fed)?;
            }
            nn::add(graph, fed, middle)
        })
    }

    fn attention(&self, graph: &mut Graph, layer: usize, x: ValueId) -> Result<ValueId> {
        let config = self.config;
        let (qkv, out) = self.attention_projections();
        let rotary = match config.layer_kinds[layer] {
            LayerKind::Full => self.full,
            LayerKind::Sliding => self.sliding,
        };
        let attention = Attention {
            heads: size(config.heads),
            kv_heads: size(config.kv_heads),
            head_dim: size(config.head_dim),
            scale: config.attention_scale,
            softcap: config.attention_softcap,
            window: config.windows[layer],
            rotary,
            head_norm: config.qk_norm.then_some(config.norm),
            qkv: qkv.bias(config.qkv_bias),
            out: out.bias(config.out_bias),
        };
        let path = format!("{}.{layer}.{}", self.names.layers, self.names.attention);
        self.at(&path, |scope| attention.apply(graph, scope, x, self.rows, self.cache, layer))
    }

    fn attention_projections(&self) -> (Projection, Projection) {
        let config = self.config;
        let (hidden, head_dim) = (size(config.hidden), size(config.head_dim));
        let (q, kv) = (size(config.heads) * head_dim, size(config.kv_heads) * head_dim);
        match config.family {
            Family::Gpt2 => (
                Projection::new("c_attn", q + 2 * kv, hidden).transposed(true),
                Projection::new("c_proj", hidden, q).transposed(true),
            ),
            Family::GptNeox => {
                // The file has query, key and value of head 0, then of head 1, and so on.
                let heads = size(config.heads);
                let order = (0..3).flat_map(|part| {
                    (0..heads).map(move |head| {
                        let start = (head * 3 + part) * head_dim;
                        start..start + head_dim
                    })
                });
                (
                    Projection::reordered("query_key_value", 3 * q, hidden, order),
                    Projection::new("dense", hidden, q),
                )
            }
            Family::Phi3 => {
                (Projection::new("qkv_proj", q + 2 * kv, hidden), Projection::new("o_proj", hidden, q))
            }
            _ => (
                Projection::stacked(&[("q_proj", q), ("k_proj", kv), ("v_proj", kv)], hidden),
                Projection::new("o_proj", hidden, q),
            ),
        }
    }

    fn feed_forward(&self, graph: &mut Graph, layer: usize, x: ValueId) -> Result<ValueId> {
        let config = self.config;
        let (hidden, inner) = (size(config.hidden), size(config.intermediate));
        let (up, down) = match config.family {
            Family::Gpt2 => (
                Projection::new("c_fc", inner, hidden).transposed(true),
                Projection::new("c_proj", hidden, inner).transposed(true),
            ),
            Family::GptNeox => (
                Projection::new("dense_h_to_4h", inner, hidden),
                Projection::new("dense_4h_to_h", hidden, inner),
            ),
            Family::Phi3 => (
                Projection::new("gate_up_proj", 2 * inner, hidden),
                Projection::new("down_proj", hidden, inner),
            ),
            _ => (
                Projection::stacked(&[("gate_proj", inner), ("up_proj", inner)], hidden),
                Projection::new("down_proj", hidden, inner),
            ),
        };
        let activation = match config.activation {
            Activation::Silu => UnaryFn::Silu,
            Activation::GeluTanh => UnaryFn::GeluTanh,
            Activation::Gelu => UnaryFn::Gelu,
            Activation::Relu => UnaryFn::Relu,
        };
        self.at(&format!("{}.{layer}.mlp", self.names.layers), |scope| {
            let hidden = nn::linear(graph, scope, &up.bias(config.mlp_bias), x, activation, config.gated)?;
            nn::linear(graph, scope, &down.bias(config.mlp_bias), hidden, UnaryFn::Identity, false)
        })
    }

    /// Final norm, logits and sampling.
    fn head(
        &self,
        graph: &mut Graph,
        table: ValueId,
        head_name: &str,
        x: ValueId,
        run: Run,
        counted: Option<ValueId>,
    ) -> Result<()> {
        let config = self.config;
        let (mut x, mut slots, mut rows) = (x, self.rows.slots, run.rows);
        if run.logits == LogitRows::Last {
            let last = graph.input("last", Spec::u32([1]));
            x = nn::select_rows(graph, x, last)?;
            slots = graph.input("sampled_slot", Spec::u32([1]));
            rows = 1;
        }
        let x = self.at("", |scope| self.config.norm.apply(graph, scope, self.names.final_norm, x))?;
        let (vocab, hidden) = (size(config.vocab_size), size(config.hidden));
        let weight = if config.tied_head {
            table
        } else {
            Scope::new(self.types, "").matrix(graph, head_name, vocab, hidden)
        };
        let logits = nn::project(graph, x, weight)?;
        let logits = nn::scale(graph, logits, config.logit_scale)?;
        let logits = nn::softcap(graph, logits, config.final_softcap)?;
        graph.output("logits", logits);
        if run.sampled {
            let fed = run.feeds().then_some([self.tokens, self.rows.positions]);
            let settings = run.source(graph, "settings", Spec::u32([rows, ROW_WORDS]));
            let next = nn::sample(graph, logits, slots, settings, counted, self.cache.slots, fed)?;
            graph.output("next", next);
        }
        Ok(())
    }
}

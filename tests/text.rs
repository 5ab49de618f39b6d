//! Tokenizers, streaming text and chat templates against recorded results, and files that must fail.
#![cfg(feature = "text")]

mod common;

use std::path::{Path, PathBuf};

use minijinja::Value;
use proptest::prelude::*;
use wginfer::text::{ChatTemplate, StreamDecoder, Tokenizer, TokenizerConfig};

fn build(text: &str, config: &TokenizerConfig) -> wginfer::Result<Tokenizer> {
    Tokenizer::from_bytes(Path::new("tokenizer.json"), text.as_bytes(), config)
}

fn read_json(path: PathBuf) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn ids(value: &serde_json::Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

/// A byte-level tokenizer: 256 bytes under GPT-2's letters, some merges, two special tokens.
fn byte_level() -> Tokenizer {
    let printable = |byte: u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let mut shifted = (256..).map(|code| char::from_u32(code).unwrap());
    let letters: Vec<char> = (0..256)
        .map(|byte| if printable(byte) { char::from_u32(byte).unwrap() } else { shifted.next().unwrap() })
        .collect();
    let mut vocab = serde_json::Map::new();
    for (id, letter) in letters.iter().enumerate() {
        vocab.insert(letter.to_string(), id.into());
    }
    let text = |bytes: &[u8]| -> String { bytes.iter().map(|byte| letters[usize::from(*byte)]).collect() };
    let mut merges = Vec::new();
    for (left, right) in
        [(&b" "[..], &b"t"[..]), (b"h", b"e"), (b" t", b"he"), (b"\xe6", b"\x97"), (b"\xf0\x9f", b"\x98")]
    {
        if right == b"\x98" {
            merges.push([text(b"\xf0"), text(b"\x9f")]);
            vocab.insert(text(b"\xf0\x9f"), vocab.len().into());
        }
        merges.push([text(left), text(right)]);
        vocab.insert(text(&[left, right].concat()), vocab.len().into());
    }
    let added = ["<|start|>", "<|end|>"].iter().enumerate().map(|(index, content)| {
        serde_json::json!({"id": vocab.len() + index, "content": content, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true})
    });
    let part = serde_json::json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let file = serde_json::json!({"version": "1.0", "truncation": null, "padding": null,
        "added_tokens": added.collect::<Vec<_>>(), "normalizer": null, "pre_tokenizer": part, "post_processor": part,
        "decoder": part, "model": {"type": "BPE", "dropout": 0.5, "unk_token": null, "vocab": vocab, "merges": merges}});
    let config = TokenizerConfig {
        bos_token: Some("<|start|>".to_owned()),
        add_bos_token: Some(true),
        ..TokenizerConfig::default()
    };
    build(&file.to_string(), &config).unwrap()
}

fn tokenizers() -> Vec<(String, Tokenizer)> {
    let mut all = vec![("byte-level".to_owned(), byte_level())];
    if let Some(shared) = common::shared() {
        for name in ["stories260k", "all_minilm_l6_v2"] {
            all.push((name.to_owned(), Tokenizer::load(&shared.join("models").join(name)).unwrap()));
        }
    }
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/pretrained/fairy-tales");
    if own.join("tokenizer.json").is_file() {
        all.push(("fairy-tales".to_owned(), Tokenizer::load(&own).unwrap()));
    }
    all
}

fn stream(mut decoder: StreamDecoder<&Tokenizer>, ids: &[u32]) -> String {
    let mut text = String::new();
    for id in ids {
        text.push_str(&decoder.push(*id).unwrap().unwrap_or_default());
    }
    text + &decoder.flush().unwrap().unwrap_or_default()
}

#[test]
fn golden_prompts_of_stories260k() {
    let Some(shared) = common::shared() else { return };
    let folder = shared.join("models/stories260k");
    let tokenizer = Tokenizer::load(&folder).unwrap();
    assert_eq!((tokenizer.bos_id(), tokenizer.eos_id(), tokenizer.unk_id()), (Some(1), Some(2), Some(0)));
    let golden = read_json(folder.join("golden.json"));
    for case in golden["cases"].as_array().unwrap() {
        let prompt = case["prompt"].as_str().unwrap();
        assert_eq!(tokenizer.encode(prompt, true).unwrap(), ids(&case["prompt_ids"]), "{prompt:?}");
        let output = ids(&case["output_ids"]);
        let text = tokenizer.decode(&output, true).unwrap();
        assert_eq!(text, case["text"].as_str().unwrap());
        assert_eq!(stream(StreamDecoder::new(&tokenizer, true), &output), text);
    }
    assert_eq!(tokenizer.encode("<s>Once upon a time", true).unwrap()[..2], [1, 403]);
    assert_eq!(tokenizer.encode("Once upon a time", false).unwrap()[0], 403);
}

#[test]
fn golden_ids_of_public_texts() {
    let Some(shared) = common::shared() else { return };
    let golden = read_json(shared.join("models/text/golden_tokens.json"));
    for (name, key) in [("stories260k", "stories260k_ids"), ("all_minilm_l6_v2", "minilm_ids")] {
        let tokenizer = Tokenizer::load(&shared.join("models").join(name)).unwrap();
        for case in golden.as_array().unwrap() {
            let text =
                std::fs::read(shared.join("models/text").join(case["file"].as_str().unwrap())).unwrap();
            let text: String = String::from_utf8(text).unwrap().chars().skip(2000).take(4000).collect();
            let want = ids(&case[key]);
            assert_eq!(tokenizer.encode(&text, true).unwrap(), want, "{name}");
            let all = tokenizer.decode(&want, true).unwrap();
            assert_eq!(stream(StreamDecoder::new(&tokenizer, true), &want), all, "{name}");
            for cut in [2, 3, 50, 777] {
                let first = tokenizer.decode(&want[..cut], true).unwrap();
                let rest = StreamDecoder::after(&tokenizer, true, &want[..cut]).unwrap();
                assert_eq!(first + &stream(rest, &want[cut..]), all, "{name} from {cut}");
            }
        }
    }
}

#[test]
fn golden_sentences_of_minilm() {
    let Some(shared) = common::shared() else { return };
    let folder = shared.join("models/all_minilm_l6_v2");
    let tokenizer = Tokenizer::load(&folder).unwrap();
    let golden = read_json(folder.join("golden.json"));
    for (sentence, want) in
        golden["sentences"].as_array().unwrap().iter().zip(golden["input_ids"].as_array().unwrap())
    {
        assert_eq!(tokenizer.encode(sentence.as_str().unwrap(), true).unwrap(), ids(want), "{sentence}");
    }
}

#[test]
fn bos_is_added_where_asked_and_never_doubled() {
    let tokenizer = byte_level();
    let bos = tokenizer.bos_id().unwrap();
    assert_eq!(tokenizer.encode("", true).unwrap(), [bos]);
    assert_eq!(tokenizer.encode("<|start|>a", true).unwrap(), [bos, 97]);
    assert_eq!(tokenizer.encode("a", true).unwrap(), [bos, 97]);
    assert_eq!(tokenizer.encode("a", false).unwrap(), [97]);
    let the = tokenizer.encode(" the the", false).unwrap();
    assert!(the.len() == 2 && the[0] == the[1], "dropout is off: {the:?}");
}

#[test]
fn characters_split_over_tokens_come_whole() {
    let tokenizer = byte_level();
    let text = "日本 😀 é the";
    let ids = tokenizer.encode(text, false).unwrap();
    let mut decoder = StreamDecoder::new(&tokenizer, true);
    let mut got = String::new();
    for id in &ids {
        let piece = decoder.push(*id).unwrap().unwrap_or_default();
        assert!(!piece.contains('\u{fffd}'), "{piece:?}");
        got.push_str(&piece);
    }
    assert_eq!(got, text);
    assert_eq!(decoder.flush().unwrap(), None);
}

#[test]
fn long_runs_of_byte_tokens_are_not_held_back() {
    let Some(shared) = common::shared() else { return };
    let tokenizer = Tokenizer::load(&shared.join("models/stories260k")).unwrap();
    let text = "日本語の長い文章です。".repeat(20) + "x and y";
    let ids = tokenizer.encode(&text, false).unwrap();
    assert!(ids.len() > 600);
    let mut decoder = StreamDecoder::new(&tokenizer, true);
    let mut got = String::new();
    for (index, id) in ids.iter().enumerate() {
        got.push_str(&decoder.push(*id).unwrap().unwrap_or_default());
        assert!(index < 40 || got.len() + 48 > index, "{index}: {got}");
    }
    got.push_str(&decoder.flush().unwrap().unwrap_or_default());
    assert_eq!(got, tokenizer.decode(&ids, true).unwrap());
    let rest = StreamDecoder::after(&tokenizer, true, &ids[..60]).unwrap();
    let space = tokenizer.encode("and", false).unwrap();
    assert_eq!(stream(rest, &space), " and", "a prompt that ends in byte tokens");
}

#[test]
fn streaming_takes_linear_time() {
    let tokenizer = byte_level();
    let ids: Vec<u32> = (0..60_000).map(|index| [97, 0xe6, 0x80, 32][index % 4]).collect();
    let begin = std::time::Instant::now();
    assert!(!stream(StreamDecoder::new(&tokenizer, true), &ids).is_empty());
    assert!(begin.elapsed().as_secs() < 20, "{:?}", begin.elapsed());
}

#[test]
fn streamed_text_equals_the_whole_for_random_ids() {
    for (name, tokenizer) in tokenizers() {
        let size = tokenizer.vocab_size() as u32 + 2;
        let lists = proptest::collection::vec(0..size, 0..60);
        let config = ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() };
        let result =
            proptest::test_runner::TestRunner::new(config).run(&(lists, any::<bool>()), |(ids, skip)| {
                let got = stream(StreamDecoder::new(&tokenizer, skip), &ids);
                prop_assert_eq!(got, tokenizer.decode(&ids, skip).unwrap());
                Ok(())
            });
        result.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn streamed_text_equals_the_whole_for_real_text() {
    for (name, tokenizer) in tokenizers() {
        let config = ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() };
        let result =
            proptest::test_runner::TestRunner::new(config).run(&"[ -~éß日本😀\n]{0,80}", |text| {
                let ids = tokenizer.encode(&text, true).unwrap();
                let got = stream(StreamDecoder::new(&tokenizer, true), &ids);
                prop_assert_eq!(got, tokenizer.decode(&ids, true).unwrap());
                Ok(())
            });
        result.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

const MODEL: &str = r#"{"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}"#;

#[test]
fn bad_tokenizers_give_errors_that_name_the_field() {
    let config = TokenizerConfig::default();
    assert!(build(&format!("{{\"version\": \"1.0\", \"model\": {MODEL}}}"), &config).is_ok());
    let models = [
        (r#"{"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": ["a b"]}"#, "model.merges[0]"),
        (r#"{"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": [["a", "bbbbbbbb"]]}"#, "model.merges[0]"),
        (r#"{"type": "BPE", "vocab": {"a": 0}, "merges": ["a b c"]}"#, "model.merges[0]"),
        (r#"{"type": "BPE", "vocab": {"a": 0}, "merges": [5]}"#, "model.merges[0]"),
        (r#"{"type": "BPE", "vocab": {"a": 0}, "merges": {}}"#, "model.merges"),
        (
            r#"{"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"],
                "continuing_subword_prefix": "@@@@"}"#,
            "prefix",
        ),
        (r#"{"type": "BPE", "vocab": {"a": -1}, "merges": []}"#, "model.vocab.a"),
        (r#"{"type": "BPE", "vocab": {"a": 4294967295}, "merges": []}"#, "model.vocab.a"),
        (r#"{"type": "BPE", "vocab": {"a": 0, "b": 0}, "merges": []}"#, "model.vocab.b"),
        (r#"{"type": "BPE", "vocab": 5, "merges": []}"#, "model.vocab"),
        (r#"{"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 1}"#, "model.unk_id"),
        (r#"{"type": "Unigram", "vocab": [["a"]], "unk_id": 0}"#, "model.vocab[0]"),
        (r#"{"type": "Rune", "vocab": {}}"#, "not a usable tokenizer"),
        ("5", "`model`"),
    ];
    for (model, word) in models {
        let error =
            build(&format!("{{\"version\": \"1.0\", \"model\": {model}}}"), &config).unwrap_err().to_string();
        assert!(error.starts_with("tokenizer.json: ") && error.contains(word), "{model}: {error}");
    }
    let template = r#"{"type": "TemplateProcessing", "pair": [], "#;
    let parts = [
        (r#""added_tokens": 5"#.to_owned(), "added_tokens"),
        (r#""added_tokens": [{"id": 99999999999, "content": "x"}]"#.to_owned(), "added_tokens[0].id"),
        (r#""added_tokens": [{"id": 3}]"#.to_owned(), "added_tokens[0].content"),
        (r#""pre_tokenizer": {"type": "FixedLength", "length": 0}"#.to_owned(), "pre_tokenizer.length"),
        (
            r#""pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "FixedLength", "length": 0}]}"#.to_owned(),
            "pre_tokenizer.pretokenizers[0].length",
        ),
        (r#""decoder": {"type": "Strip", "content": "a", "start": 1, "stop": 1}"#.to_owned(), "decoder.stop"),
        (r#""normalizer": {"type": "Precompiled", "precompiled_charsmap": "!!"}"#.to_owned(), "precompiled_charsmap"),
        (r#""normalizer": {"type": "Precompiled", "precompiled_charsmap": "////////"}"#.to_owned(), "precompiled_charsmap"),
        (r#""normalizer": {"type": "Precompiled"}"#.to_owned(), "precompiled_charsmap"),
        (
            format!(r#""post_processor": {template}"single": [{{"SpecialToken": {{"id": "x", "type_id": 0}}}}], "special_tokens": {{}}}}"#),
            "post_processor.single[0]",
        ),
        (
            format!(r#""post_processor": {template}"single": [{{"Sequence": {{"id": "B", "type_id": 0}}}}], "special_tokens": {{}}}}"#),
            "post_processor.single[0]",
        ),
        (r#""model": {}"#.to_owned(), "`model` twice"),
        (r#""truncation": {"max_length": "x"}"#.to_owned(), "not a usable tokenizer"),
        (r#""version": "2.0""#.to_owned(), "version"),
        (r#""decoder": {"type": "Nothing"}"#.to_owned(), "not a usable tokenizer"),
        (r#""normalizer": {"type": "Replace", "pattern": {"Regex": "("}, "content": ""}"#.to_owned(), "not a usable"),
    ];
    for (part, word) in parts {
        let error =
            build(&format!("{{\"model\": {MODEL}, {part}}}"), &config).map(|_| ()).unwrap_err().to_string();
        assert!(error.starts_with("tokenizer.json: ") && error.contains(word), "{part}: {error}");
    }
    for text in ["", "[]", "{", "null", "{\"decoder\": {\"type\": \"Fuse\"}, ", &"[".repeat(100_000)] {
        assert!(build(text, &config).is_err(), "{text:.40}");
    }
}

/// A stride of at least the length panics in the crate; both are switched off.
#[test]
fn truncation_and_padding_of_the_file_are_off() {
    let text = format!(
        r#"{{"model": {MODEL}, "truncation": {{"max_length": 1, "strategy": "LongestFirst", "stride": 5}},
            "padding": {{"strategy": {{"Fixed": 9}}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
            "pad_type_id": 0, "pad_token": "a"}}}}"#
    );
    let tokenizer = build(&text, &TokenizerConfig::default()).unwrap();
    assert_eq!(tokenizer.encode("abba", true).unwrap(), [2, 1, 0]);
    assert_eq!(tokenizer.decode(&[2, 77], true).unwrap(), "ab");
}

#[test]
fn truncated_files_are_errors_at_every_length() {
    let text = format!(
        r#"{{"version": "1.0", "added_tokens": [], "decoder": {{"type": "Fuse"}}, "post_processor": null, "model": {MODEL}}}"#
    );
    assert!(build(&text, &TokenizerConfig::default()).is_ok());
    for length in 0..text.len() {
        assert!(build(&text[..length], &TokenizerConfig::default()).is_err(), "{length}");
    }
}

/// Whatever is changed in a file, it is loaded or refused, and a loaded one encodes or refuses.
#[test]
fn changed_files_never_panic() {
    let text = format!(
        r#"{{"version": "1.0", "added_tokens": [{{"id": 3, "content": "<s>", "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": true, "special": true}}],
            "normalizer": {{"type": "Sequence", "normalizers": [{{"type": "Prepend", "prepend": "b"}},
                {{"type": "Replace", "pattern": {{"String": "b"}}, "content": "a"}}]}},
            "pre_tokenizer": {{"type": "FixedLength", "length": 5}},
            "post_processor": {{"type": "TemplateProcessing", "pair": [], "single": [{{"SpecialToken": {{"id": "<s>",
                "type_id": 0}}}}, {{"Sequence": {{"id": "A", "type_id": 0}}}}],
                "special_tokens": {{"<s>": {{"id": "<s>", "ids": [3], "tokens": ["<s>"]}}}}}},
            "decoder": {{"type": "Sequence", "decoders": [{{"type": "ByteFallback"}}, {{"type": "Fuse"}},
                {{"type": "Strip", "content": "a", "start": 1, "stop": 0}}]}}, "model": {MODEL}}}"#
    );
    assert!(build(&text, &TokenizerConfig::default()).is_ok());
    let change = (0..text.len(), 0..6usize, "[0-9a-zB\"{},\\[\\]-]{0,3}");
    let config = ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() };
    let result = proptest::test_runner::TestRunner::new(config).run(&change, |(start, length, inserted)| {
        let end = (start + length).min(text.len());
        let changed = format!("{}{inserted}{}", &text[..start], &text[end..]);
        if let Ok(tokenizer) = build(&changed, &TokenizerConfig::default()) {
            let ids = tokenizer.encode("<s>abba b", true).unwrap_or_default();
            let _ = tokenizer.decode(&ids, false);
            let _ = tokenizer.decode(&[0, 1, 2, 3, 4], true);
        }
        Ok(())
    });
    result.unwrap();
}

/// One chat case; keys keep their order in templates, which a `serde_json::Value` would sort.
#[derive(serde::Deserialize)]
struct ChatCase {
    name: String,
    template: String,
    bos_token: String,
    eos_token: String,
    messages: Value,
    add_generation_prompt: bool,
    extra: std::collections::BTreeMap<String, Value>,
    expected: Option<String>,
    expected_error: Option<String>,
}

#[test]
fn chat_templates_render_as_in_transformers() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/chat/cases.json");
    let cases: Vec<ChatCase> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert!(cases.len() > 15);
    for case in cases {
        let extra = case.extra.iter().map(|(key, value)| (key.as_str(), value.clone()));
        let template = ChatTemplate::from_source(Path::new("template"), &case.template).unwrap();
        let got = template.render_with(
            &case.messages,
            extra,
            case.add_generation_prompt,
            &case.bos_token,
            &case.eos_token,
        );
        match (got, case.expected, case.expected_error) {
            (Ok(got), Some(want), None) => assert_eq!(got, want, "{}", case.name),
            (Err(error), None, Some(want)) => {
                assert!(error.to_string().contains(&want), "{}: {error}", case.name);
            }
            (got, want, _) => panic!("{}: got {got:?}, want {want:?}", case.name),
        }
    }
}

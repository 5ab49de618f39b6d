//! `tokenizer.json` through the loader, and short texts through what it says.

use super::guarded;
use std::path::Path;
use wginfer::text::{StreamDecoder, Tokenizer, TokenizerConfig};

const TEXTS: [&str; 3] = ["Hello, wörld!  12 <s>it's</s>\n", "", "日本語 😀e\u{301}\u{feff}"];

/// The bytes are the file. Panics of the tokenizers crate that the loader turns into errors are none of ours.
pub(crate) fn tokenizer_json(data: &[u8]) {
    guarded(read, data);
}

fn read(data: &[u8]) {
    let config = TokenizerConfig {
        bos_token: Some("<s>".to_owned()),
        eos_token: Some("</s>".to_owned()),
        add_bos_token: Some(true),
        ..TokenizerConfig::default()
    };
    let Ok(tokenizer) = Tokenizer::from_bytes(Path::new("tokenizer.json"), data, &config) else { return };
    for text in TEXTS {
        let Ok(ids) = tokenizer.encode(text, true) else { continue };
        let _ = (tokenizer.decode(&ids, true), tokenizer.decode(&ids, false));
        stream(&tokenizer, &ids);
    }
    let ids: Vec<u32> = (0..8).chain([300, u32::MAX]).collect();
    let _ = tokenizer.decode(&ids, false);
    stream(&tokenizer, &ids);
    let _ = (tokenizer.vocab_size(), tokenizer.is_special(0), tokenizer.is_special(u32::MAX));
}

fn stream(tokenizer: &Tokenizer, ids: &[u32]) {
    let mut decoder = StreamDecoder::new(tokenizer, false);
    for &id in ids {
        let _ = decoder.push(id);
    }
    let _ = decoder.flush();
}

//! The small JSON files of a model's folder.

use super::{folder, write};
use std::path::Path;
use wginfer::kernel::Caps;
use wginfer::models::config::DecoderConfig;
use wginfer::models::vision::{Architecture, TensorShapes, VisionModel};
use wginfer::ops::ResampleFilter;
use wginfer::text::{
    ChatMessage, ChatTemplate, Fallback, GenerationConfig, InfoOptions, ModelInfo, TokenizerConfig,
};
use wginfer::vision::{Labels, NetworkInfo, NetworkInfoOptions, Preprocess};

/// Size of a decoder that is planned.
const MOST: u32 = 512;

/// The same object as each of the files.
pub(crate) fn config_json(data: &[u8]) {
    let path = Path::new("config.json");
    let decoder = DecoderConfig::from_bytes(path, data);
    let _ = GenerationConfig::from_bytes(path, data, 1000);
    let _ = TokenizerConfig::from_bytes(path, data);
    let folder = folder("config");
    write(&folder.join("config.json"), data);
    for name in ["generation_config.json", "tokenizer_config.json", "preprocessor_config.json"] {
        let link = folder.join(name);
        if !link.exists() {
            std::os::unix::fs::symlink("config.json", link).expect("a link can be made");
        }
    }
    let weights = folder.join("model.safetensors");
    if !weights.exists() {
        write(&weights, &[2_u64.to_le_bytes().as_slice(), b"{}"].concat());
    }
    template(&folder);
    vision(&folder);
    if let Ok(config) = decoder {
        for kind in config.layer_kinds.iter().take(2) {
            let _ = config.inverse_frequencies(*kind, 100);
        }
        let sizes = [config.layers, config.hidden / 8, config.vocab_size / 64, config.heads];
        if sizes.into_iter().all(|size| size <= MOST / 64) {
            let options = InfoOptions { context: Some(16), ..InfoOptions::default() };
            let _ = ModelInfo::read(&folder, options, &Caps::webgpu_minimum());
        }
    }
}

fn template(folder: &Path) {
    let Ok(template) = ChatTemplate::load(folder, Fallback::ChatMl) else { return };
    let messages = [ChatMessage::new("system", "Be brief."), ChatMessage::new("user", "Hello?")];
    let _ = template.render(&messages, true, "<s>", "</s>");
}

fn vision(folder: &Path) {
    let defaults = Preprocess::imagenet(256, 224, ResampleFilter::Bilinear);
    if let Ok(preprocess) = Preprocess::load(folder, &defaults) {
        let _ = (preprocess.axes([3, 70]), preprocess.axes([400, 300]), preprocess.fixed_size());
    }
    if let Ok(Some(labels)) = Labels::load(folder) {
        let _ = labels.check(10);
    }
    let _ = NetworkInfo::read(folder, &NetworkInfoOptions::default(), &Caps::webgpu_minimum());
    let shapes = TensorShapes::new(folder, []);
    for architecture in Architecture::all() {
        let _ = VisionModel::load(folder, &shapes, Some(architecture));
    }
}

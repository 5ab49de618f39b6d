//! Chat templates: Jinja text of a model that turns a list of messages into a prompt. The environment follows
//! transformers' (`apply_chat_template`) and is separate from the one of the shaders. A template comes with a
//! model and is not trusted: its steps, recursion and output are bounded, and it reaches no file. Strings that it
//! builds and does not write are not bounded: the template engine has no such limit.

use std::io::Write;
use std::path::Path;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value};
use minijinja::{Environment, ErrorKind};
use serde::Serialize;

use super::config::TokenizerConfig;
use super::{python, strftime};
use crate::error::{Error, Result};
use crate::json;

/// Steps that one rendering may take: thousands of messages with the longest published templates.
const FUEL: u64 = 5_000_000;
/// Nesting of blocks and macros.
const RECURSION: usize = 100;
/// Bytes that one rendering may write.
const MAX_OUTPUT: usize = 32 << 20;
/// Largest template in bytes.
const MAX_SOURCE: u64 = 1 << 20;

/// One message of a chat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChatMessage {
    /// Who speaks: "system", "user", "assistant", or what else the template knows.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl ChatMessage {
    /// Makes a message.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

/// What to do for a model that brings no chat template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// Fail with an error that says so.
    Refuse,
    /// `User: ...` and `Assistant: ...` on lines of their own, for base models: no special tokens but BOS.
    Plain,
    /// `<|im_start|>role`, the message, `<|im_end|>`: for models trained on ChatML.
    ChatMl,
}

const PLAIN: &str = "{{ bos_token }}{% for message in messages %}{{ message.role | capitalize }}: \
    {{ message.content }}{{ '\\n' }}{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}";
const CHAT_ML: &str = "{% for message in messages %}<|im_start|>{{ message.role }}{{ '\\n' }}\
    {{ message.content }}<|im_end|>{{ '\\n' }}{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant{{ '\\n' }}{% endif %}";

/// A compiled chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
}

impl ChatTemplate {
    /// Finds the template of a model folder: `chat_template.jinja`, then `chat_template` in
    /// `tokenizer_config.json` (of several the one called "default"), then the fallback.
    ///
    /// # Errors
    /// A broken file or template ([`Error::File`]); no template and [`Fallback::Refuse`] ([`Error::Unsupported`]).
    pub fn load(folder: &Path, fallback: Fallback) -> Result<Self> {
        let path = folder.join("chat_template.jinja");
        if let Some(bytes) = json::read_bytes(&path, MAX_SOURCE)? {
            let source = String::from_utf8(bytes)
                .map_err(|error| Error::file(&path, format!("expected UTF-8 text, got {error}")))?;
            return Self::from_source(&path, &source);
        }
        if let Some(source) = TokenizerConfig::load(folder)?.chat_template {
            return Self::from_source(&folder.join("tokenizer_config.json"), &source);
        }
        match fallback {
            Fallback::Plain => Self::from_source(Path::new("plain template"), PLAIN),
            Fallback::ChatMl => Self::from_source(Path::new("ChatML template"), CHAT_ML),
            Fallback::Refuse => Err(Error::Unsupported(format!(
                "{}: the model has no chat template (chat_template.jinja, or chat_template in \
                 tokenizer_config.json); use it without chat, or choose a fallback",
                folder.display()
            ))),
        }
    }

    /// Compiles a template; `path` is named in errors.
    ///
    /// # Errors
    /// A syntax error or an oversized source ([`Error::File`]).
    pub fn from_source(path: &Path, source: &str) -> Result<Self> {
        if source.len() as u64 > MAX_SOURCE {
            let message = format!("chat template: expected at most {MAX_SOURCE} bytes, got {}", source.len());
            return Err(Error::file(path, message));
        }
        let mut environment = environment();
        environment
            .add_template_owned("chat", without_generation_tags(source))
            .map_err(|error| Error::file(path, format!("chat template: {}", explain(&error))))?;
        Ok(Self { environment })
    }

    /// Renders messages to the text of a prompt. The text holds its special tokens itself: encode it with
    /// `special = true` only through [`super::Tokenizer::encode`], which does not double BOS.
    ///
    /// # Errors
    /// [`Error::Request`] where the template refuses the messages (its words are in the error), fails, or takes
    /// too many steps or writes too much.
    pub fn render(
        &self,
        messages: &[ChatMessage],
        add_generation_prompt: bool,
        bos: &str,
        eos: &str,
    ) -> Result<String> {
        let none: [(&str, Value); 0] = [];
        self.render_with(&messages, none, add_generation_prompt, bos, eos)
    }

    /// Renders messages of any form (parts, tool calls) with more variables of the template, such as
    /// `enable_thinking`. Errors as in [`ChatTemplate::render`].
    pub fn render_with<'a>(
        &self,
        messages: &impl Serialize,
        variables: impl IntoIterator<Item = (&'a str, Value)>,
        add_generation_prompt: bool,
        bos: &str,
        eos: &str,
    ) -> Result<String> {
        let own = [
            ("messages", Value::from(Serde(messages))),
            ("add_generation_prompt", Value::from(add_generation_prompt)),
            ("bos_token", Value::from(bos)),
            ("eos_token", Value::from(eos)),
            ("tools", Value::from(())),
            ("documents", Value::from(())),
        ];
        let context = Value::from_pairs(own.into_iter().chain(variables));
        let fail = |error: minijinja::Error| Error::Request(format!("chat template: {}", explain(&error)));
        let template = self.environment.get_template("chat").map_err(fail)?;
        let mut output = BoundedOutput { bytes: Vec::new() };
        template.render_captured_to(context, &mut output).map_err(fail)?;
        String::from_utf8(output.bytes)
            .map_err(|error| Error::Request(format!("chat template: expected UTF-8 output, got {error}")))
    }
}

/// Takes at most [`MAX_OUTPUT`] bytes.
struct BoundedOutput {
    bytes: Vec<u8>,
}

impl Write for BoundedOutput {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.bytes.len() + bytes.len() > MAX_OUTPUT {
            return Err(std::io::Error::other(format!(
                "expected at most {MAX_OUTPUT} bytes of output, got more"
            )));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Jinja as transformers sets it up.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.expect("the default delimiters are valid"));
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(RECURSION);
    environment.set_formatter(|output, _, value| {
        output.write_str(&python::to_text(value)?)?;
        Ok(())
    });
    environment.add_filter("tojson", python::tojson);
    environment.add_function("strftime_now", |format: &str| strftime::format_now(format));
    environment.add_function("raise_exception", |message: String| {
        Err::<String, _>(minijinja::Error::new(ErrorKind::InvalidOperation, message))
    });
    environment
}

/// The words of an error: what happened and the line of the template.
fn explain(error: &minijinja::Error) -> String {
    let mut text = match (error.kind(), error.detail()) {
        (ErrorKind::OutOfFuel, _) => format!("expected at most {FUEL} steps, got more"),
        (kind, None) => kind.to_string(),
        (ErrorKind::InvalidOperation, Some(detail)) => detail.to_owned(),
        (kind, Some(detail)) => format!("{kind}: {detail}"),
    };
    if let Some(line) = error.line() {
        text.push_str(&format!(" (line {line})"));
    }
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        text.push_str(&format!(": {inner}"));
        source = inner.source();
    }
    text
}

/// Replaces the tags `{% generation %}` and `{% endgeneration %}`, which only mark the assistant's part for
/// training, by a block that always holds; marks for white space are kept.
fn without_generation_tags(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start + 2..].find("%}") else { break };
        let inside = &rest[start + 2..start + 2 + length];
        let word = inside.trim_matches(['-', '+']).trim();
        let replaced = match word {
            "generation" => Some("if true"),
            "endgeneration" => Some("endif"),
            _ => None,
        };
        text.push_str(&rest[..start + 2]);
        match replaced {
            Some(replaced) => text.push_str(&inside.replace(word, replaced)),
            None => text.push_str(inside),
        }
        rest = &rest[start + 2 + length..];
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str) -> Result<String> {
        let messages = [ChatMessage::new("user", "hi")];
        ChatTemplate::from_source(Path::new("t"), source)?.render(&messages, true, "<s>", "</s>")
    }

    #[test]
    fn hostile_templates_give_errors() {
        let table = [
            ("{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}", "steps"),
            ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
            ("{% for i in range(10) %}{{ 'x' * 90000000 }}{% endfor %}", "output"),
            ("{% include 'etc/passwd' %}", "not found"),
            ("{{ messages[0].content.nothing() }}", "nothing"),
            ("{{ raise_exception('no thanks') }}", "no thanks"),
        ];
        for (source, word) in table {
            let error = render(source).unwrap_err().to_string();
            assert!(error.to_lowercase().contains(word), "{source}: {error}");
        }
        let error = render("{% for x in %}").unwrap_err().to_string();
        assert!(error.starts_with("t: chat template: ") && error.contains("line 1"), "{error}");
    }

    #[test]
    fn fallbacks_and_their_absence() {
        let folder = tempfile::tempdir().unwrap();
        let messages = [ChatMessage::new("user", "hi")];
        let plain = ChatTemplate::load(folder.path(), Fallback::Plain).unwrap();
        assert_eq!(plain.render(&messages, true, "<s>", "").unwrap(), "<s>User: hi\nAssistant:");
        let chat_ml = ChatTemplate::load(folder.path(), Fallback::ChatMl).unwrap();
        let want = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n";
        assert_eq!(chat_ml.render(&messages, true, "<s>", "").unwrap(), want);
        let error = ChatTemplate::load(folder.path(), Fallback::Refuse).unwrap_err().to_string();
        assert!(error.contains("no chat template"), "{error}");
    }

    #[test]
    fn the_file_wins_over_the_tokenizer_config() {
        let folder = tempfile::tempdir().unwrap();
        let named = r#"{"chat_template": [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]}"#;
        std::fs::write(folder.path().join("tokenizer_config.json"), named).unwrap();
        let load = || ChatTemplate::load(folder.path(), Fallback::Refuse).unwrap().render(&[], false, "", "");
        assert_eq!(load().unwrap(), "D");
        std::fs::write(folder.path().join("chat_template.jinja"), "F").unwrap();
        assert_eq!(load().unwrap(), "F");
    }
}

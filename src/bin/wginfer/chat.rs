//! `wginfer chat`: a conversation on the terminal, kept in the model's cache from turn to turn.

use crate::args::{ChatArgs, FallbackName, GlobalFlags};
use crate::failure::Failure;
use crate::generate::{check_sampling, random_seed, say_settings};
use crate::interrupt::Interrupt;
use crate::model;
use crate::profile::Profiling;
use crate::terminal::{self, note};
use std::io::{self, BufRead, IsTerminal};
use std::process::ExitCode;
use wginfer::Error;
use wginfer::text::{
    ChatMessage, ChatTemplate, Fallback, FinishReason, GenerateOptions, Generation, SamplingSettings,
    TextModel,
};

/// A conversation with a model.
struct Chat<'a> {
    model: TextModel,
    fallback: Fallback,
    options: GenerateOptions,
    interrupt: Interrupt,
    system: Option<&'a str>,
    messages: Vec<ChatMessage>,
}

/// What the user typed.
enum Input {
    Message(String),
    Reset,
    End,
    Nothing,
}

/// Most tokens of an answer where neither flag nor model say it.
const ANSWER_TOKENS: usize = 1024;

/// Runs the command.
pub(crate) fn run(
    args: &ChatArgs,
    global: &GlobalFlags,
    profiling: &mut Profiling,
) -> Result<ExitCode, Failure> {
    let seed = random_seed();
    check_sampling(&args.sampling.over(SamplingSettings::default(), seed))?;
    let folder = model::find_folder(args.model_name.as_deref(), global)?;
    let fallback = Fallback::from(args.fallback);
    ChatTemplate::load(&folder, fallback).map_err(|error| match error {
        Error::Unsupported(message) => Failure::Other(format!(
            "{message}: `wginfer generate`, or `--fallback plain` or `--fallback chatml`"
        )),
        error => error.into(),
    })?;
    let interrupt = Interrupt::install()?;
    let gpu = model::open_recorded(global, args.model.checked, false, profiling)?;
    let model = model::load(&folder, &gpu, &args.model, None, global)?;
    let defaults = model.default_options();
    let mut stop = [defaults.stop.as_slice(), &args.stop].concat();
    if args.fallback == FallbackName::Plain {
        stop.push("\nUser:".to_owned());
    }
    let options = GenerateOptions {
        sampling: args.sampling.over(defaults.sampling, seed),
        max_tokens: args.max_tokens.or_else(|| model.default_max_tokens()).unwrap_or(ANSWER_TOKENS),
        stop,
        reuse_prefix: true,
        ..defaults
    };
    say_settings(&options.sampling, &model);
    let system = args.system.as_deref();
    let mut chat = Chat { model, fallback, options, interrupt, system, messages: Vec::new() };
    chat.reset();
    chat.talk(!global.quiet)
}

impl Chat<'_> {
    /// Forgets all but the system message.
    fn reset(&mut self) {
        self.messages = self.system.map(|text| ChatMessage::new("system", text)).into_iter().collect();
    }

    fn talk(&mut self, hints: bool) -> Result<ExitCode, Failure> {
        let terminal = io::stdin().is_terminal();
        if terminal && hints {
            note("type a message; /reset starts anew, /exit or Ctrl-D ends, Ctrl-C stops an answer");
        }
        loop {
            self.interrupt.waiting();
            if terminal {
                terminal::write("> ")?;
            }
            match read_input()? {
                Input::End => break,
                Input::Nothing => {}
                Input::Reset => self.reset(),
                Input::Message(text) => self.answer(text)?,
            }
        }
        if terminal {
            terminal::write("\n")?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Answers a message and takes both into the conversation. What the template or the context
    /// refuses is said, and the conversation goes on without it.
    fn answer(&mut self, text: String) -> Result<(), Failure> {
        self.messages.push(ChatMessage::new("user", text));
        match self.generate() {
            Ok(generation) => {
                say_end(&generation);
                self.messages.push(ChatMessage::new("assistant", generation.text.trim()));
                Ok(())
            }
            Err(Failure::Library(Error::ContextOverflow { needed, context })) => {
                self.messages.pop();
                note(&format!(
                    "the conversation would be {needed} tokens, the context has {context}: /reset starts anew, \
                     --ctx makes it larger where the model allows"
                ));
                Ok(())
            }
            Err(Failure::Library(Error::Request(message))) => {
                self.messages.pop();
                note(&format!("error: {message}"));
                Ok(())
            }
            Err(failure) => Err(failure),
        }
    }

    fn generate(&mut self) -> Result<Generation, Failure> {
        self.options.cancel = self.interrupt.working();
        let prompt = self.model.render_chat(&self.messages, self.fallback)?;
        let mut stream = self.model.generate(prompt, &self.options)?;
        let mut begun = false;
        for piece in &mut stream {
            let piece = piece?.text;
            // Some models begin an answer with a blank; it is shown without.
            let shown = if begun { piece.as_str() } else { piece.trim_start() };
            begun |= !shown.is_empty();
            terminal::write(shown)?;
        }
        terminal::write("\n")?;
        Ok(stream.into_generation())
    }
}

/// Reads one line from standard input.
fn read_input() -> Result<Input, Failure> {
    let mut line = Vec::new();
    let read = io::stdin().lock().read_until(b'\n', &mut line);
    if read.map_err(|error| Failure::Other(format!("standard input: {error}")))? == 0 {
        return Ok(Input::End);
    }
    let Ok(line) = String::from_utf8(line) else {
        note("error: standard input: expected UTF-8 text; the line was left out");
        return Ok(Input::Nothing);
    };
    Ok(match line.trim() {
        "" => Input::Nothing,
        "/exit" | "/quit" | "/bye" => Input::End,
        "/reset" => Input::Reset,
        text => Input::Message(text.to_owned()),
    })
}

/// Says why an answer ended, where that was not its own end.
fn say_end(generation: &Generation) {
    match generation.finish_reason {
        FinishReason::EndToken | FinishReason::StopString => {}
        FinishReason::MaxTokens => note("(stopped: --max-tokens reached)"),
        FinishReason::ContextFull => note("(stopped: the context is full; /reset starts anew)"),
        FinishReason::Cancelled => note("(stopped)"),
    }
    let timing = &generation.timing;
    log::info!(
        "prompt {} tokens, {:.1} tokens/s; answer {} tokens, {:.1} tokens/s",
        timing.prompt_tokens,
        timing.prompt_speed(),
        generation.ids.len(),
        timing.decode_speed()
    );
}

//! Values of chat templates printed as Python prints them: `str` of a value, and `json.dumps` with
//! `ensure_ascii=False`, which is what templates are tested with.

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind};

/// Deepest nesting that is printed.
const MAX_DEPTH: usize = 64;

/// Prints a value as Python's `str` does.
pub(super) fn to_text(value: &Value) -> Result<String, Error> {
    match value.as_str() {
        Some(text) => Ok(text.to_owned()),
        None => {
            let mut text = String::new();
            write_python(&mut text, value, 0)?;
            Ok(text)
        }
    }
}

/// The filter `tojson`: arguments `indent`, `ensure_ascii`, `separators` and `sort_keys` as in transformers.
pub(super) fn tojson(value: &Value, indent: Option<Value>, options: Kwargs) -> Result<Value, Error> {
    let indent = match indent {
        Some(indent) => Some(indent),
        None => options.get::<Option<Value>>("indent")?,
    };
    let indent = indent.filter(|indent| !indent.is_none()).map(usize::try_from).transpose()?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    let (item, key) = match separators.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => return Err(invalid("tojson: expected two separators")),
        None => ((if indent.is_some() { "," } else { ", " }).to_owned(), ": ".to_owned()),
    };
    let json = Json {
        indent: indent.map(|indent| indent.min(16)),
        item,
        key,
        ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        sorted: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    options.assert_all_used()?;
    let mut text = String::new();
    json.write(&mut text, value, 0)?;
    Ok(Value::from(text))
}

fn invalid(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

/// Prints a value as Python's `repr` does, an undefined one as nothing.
fn write_python(text: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(invalid("a value is nested too deeply to print"));
    }
    match value.kind() {
        ValueKind::Undefined => {}
        ValueKind::None => text.push_str("None"),
        ValueKind::Bool => text.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number => write_number(text, value, ["nan", "inf", "-inf"]),
        ValueKind::String => write_quoted(text, value.as_str().unwrap_or_default()),
        ValueKind::Seq | ValueKind::Iterable => {
            text.push('[');
            for (index, item) in value.try_iter()?.enumerate() {
                text.push_str(if index == 0 { "" } else { ", " });
                write_python(text, &item, depth + 1)?;
            }
            text.push(']');
        }
        ValueKind::Map => {
            text.push('{');
            for (index, key) in value.try_iter()?.enumerate() {
                text.push_str(if index == 0 { "" } else { ", " });
                write_python(text, &key, depth + 1)?;
                text.push_str(": ");
                write_python(text, &value.get_item(&key)?, depth + 1)?;
            }
            text.push('}');
        }
        _ => text.push_str(&value.to_string()),
    }
    Ok(())
}

/// Quotes as `repr` does: single quotes unless only they occur in the text.
fn write_quoted(text: &mut String, content: &str) {
    let quote = if content.contains('\'') && !content.contains('"') { '"' } else { '\'' };
    text.push(quote);
    for character in content.chars() {
        match character {
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\\' => text.push_str("\\\\"),
            other if other == quote => text.extend(['\\', quote]),
            other if other.is_control() => text.push_str(&format!("\\x{:02x}", u32::from(other))),
            other => text.push(other),
        }
    }
    text.push(quote);
}

/// Prints a number: integers plainly, others with the shortest digits that read back the same, with an exponent
/// below 1e-4 and from 1e16 on.
fn write_number(text: &mut String, value: &Value, [nan, plus, minus]: [&str; 3]) {
    let number = match f64::try_from(value.clone()) {
        Ok(number) if !value.is_integer() => number,
        _ => return text.push_str(&value.to_string()),
    };
    if number.is_nan() {
        return text.push_str(nan);
    }
    if number.is_infinite() {
        return text.push_str(if number > 0.0 { plus } else { minus });
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if number != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        text.push_str(&format!("{digits}e{sign}{:02}", exponent.abs()));
    } else {
        text.push_str(&format!("{number:?}"));
    }
}

/// Form of JSON text.
struct Json {
    indent: Option<usize>,
    item: String,
    key: String,
    ascii: bool,
    sorted: bool,
}

impl Json {
    fn write(&self, text: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(invalid("a value is nested too deeply for tojson"));
        }
        match value.kind() {
            ValueKind::None => text.push_str("null"),
            ValueKind::Bool => text.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => write_number(text, value, ["NaN", "Infinity", "-Infinity"]),
            ValueKind::String => self.write_string(text, value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.write_items(text, ['[', ']'], &items, depth, |text, item| {
                    self.write(text, item, depth + 1)
                })?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sorted {
                    keys.sort();
                }
                self.write_items(text, ['{', '}'], &keys, depth, |text, key| {
                    self.write_string(text, &to_text(key)?);
                    text.push_str(&self.key);
                    self.write(text, &value.get_item(key)?, depth + 1)
                })?;
            }
            _ => return Err(invalid("a value cannot be written as JSON")),
        }
        Ok(())
    }

    fn write_items(
        &self,
        text: &mut String,
        [open, close]: [char; 2],
        items: &[Value],
        depth: usize,
        write: impl Fn(&mut String, &Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        text.push(open);
        for (index, item) in items.iter().enumerate() {
            text.push_str(if index == 0 { "" } else { &self.item });
            self.break_line(text, depth + 1);
            write(text, item)?;
        }
        if !items.is_empty() {
            self.break_line(text, depth);
        }
        text.push(close);
        Ok(())
    }

    fn break_line(&self, text: &mut String, depth: usize) {
        if let Some(indent) = self.indent {
            text.push('\n');
            text.extend(std::iter::repeat_n(' ', indent * depth));
        }
    }

    fn write_string(&self, text: &mut String, content: &str) {
        text.push('"');
        for character in content.chars() {
            match character {
                '"' => text.push_str("\\\""),
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                '\u{8}' => text.push_str("\\b"),
                '\u{c}' => text.push_str("\\f"),
                other if other < ' ' || (self.ascii && !other.is_ascii()) => {
                    for unit in other.encode_utf16(&mut [0; 2]) {
                        text.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                other => text.push(other),
            }
        }
        text.push('"');
    }
}

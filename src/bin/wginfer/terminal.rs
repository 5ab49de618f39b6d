//! Reading and writing: standard input as text, standard output without panics, progress bars.

use crate::failure::Failure;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::io::{self, Read, Write};
use std::path::Path;

/// Largest text that is read from a file or standard input, in bytes.
const MAX_TEXT: u64 = 1 << 30;

/// Writes a line to standard error; where that is closed there is nobody to tell.
pub(crate) fn note(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Writes text to standard output at once.
pub(crate) fn write(text: &str) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes())?;
    Ok(output.flush()?)
}

/// Writes a value to standard output as JSON.
pub(crate) fn write_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::Other(format!("writing JSON: {error}")))?;
    write(&format!("{text}\n"))
}

/// Fails where the folder of a file or folder that is to be written is not there, before any work
/// is done for it.
pub(crate) fn expect_folder_of(path: &Path) -> Result<(), Failure> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    match folder.filter(|folder| !folder.is_dir()) {
        Some(folder) => Err(Failure::Other(format!("{}: no such folder", folder.display()))),
        None => Ok(()),
    }
}

/// The same for a file: where there is a folder of its name, too.
pub(crate) fn expect_folder(file: &Path) -> Result<(), Failure> {
    expect_folder_of(file)?;
    if file.is_dir() {
        return Err(Failure::Other(format!("{}: expected a file, got a folder", file.display())));
    }
    Ok(())
}

/// The same, and where the system refuses it; what stands in the file stays.
pub(crate) fn expect_writable(file: &Path) -> Result<(), Failure> {
    expect_folder(file)?;
    let existed = file.exists();
    let opened = std::fs::OpenOptions::new().append(true).create(true).open(file);
    opened.map_err(|error| Failure::Other(format!("{}: {error}", file.display())))?;
    if !existed {
        std::fs::remove_file(file)?;
    }
    Ok(())
}

/// Reads a text from a file, or from standard input for `-`.
pub(crate) fn read_text(path: &str) -> Result<String, Failure> {
    let (name, mut source): (String, Box<dyn Read>) = if path == "-" {
        ("standard input".to_owned(), Box::new(io::stdin()))
    } else {
        let file = std::fs::File::open(path).map_err(|error| Failure::Other(format!("{path}: {error}")))?;
        (path.to_owned(), Box::new(file))
    };
    let mut bytes = Vec::new();
    let read = source.by_ref().take(MAX_TEXT + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::Other(format!("{name}: {error}")))?;
    if bytes.len() as u64 > MAX_TEXT {
        return Err(Failure::Other(format!("{name}: expected at most {MAX_TEXT} bytes, got more")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        Failure::Other(format!("{name}: expected UTF-8 text, got an invalid byte at offset {offset}"))
    })
}

/// A bar of bytes on standard error; invisible where that is no terminal.
pub(crate) fn byte_bar(message: &str, quiet: bool) -> ProgressBar {
    progress_bar(message, 0, "{msg} [{bar:30}] {bytes}/{total_bytes} {eta}", quiet)
}

/// A bar of so many things on standard error; invisible for one, or where that is no terminal.
pub(crate) fn count_bar(message: &str, count: usize, quiet: bool) -> ProgressBar {
    progress_bar(message, count as u64, "{msg} [{bar:30}] {pos}/{len} {eta}", quiet || count < 2)
}

fn progress_bar(message: &str, length: u64, template: &str, quiet: bool) -> ProgressBar {
    if quiet {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(length).with_message(message.to_owned());
    let style = ProgressStyle::with_template(template);
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// A text of a file as it can be shown: without control characters, which steer terminals.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|letter| if letter.is_control() { char::REPLACEMENT_CHARACTER } else { letter })
        .collect()
}

/// Bytes in readable units.
pub(crate) fn bytes(count: u64) -> String {
    let count = count as f64;
    match count {
        ..1e3 => format!("{count} B"),
        ..1e6 => format!("{:.1} kB", count / 1e3),
        ..1e9 => format!("{:.1} MB", count / 1e6),
        _ => format!("{:.2} GB", count / 1e9),
    }
}

/// Rows as text with aligned columns; the last column is not padded.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| Some(row.get(column)?.chars().count())).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

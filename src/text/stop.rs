//! Stop strings, matched across the borders of tokens. Text that could be the beginning of a stop string is held
//! back until the next text decides.

/// Text that may be shown, and whether a stop string was reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StopOutput {
    /// Text before any stop string, not returned before.
    pub text: String,
    /// Index of the stop string that was reached, in the list given to [`StopMatcher::new`].
    pub stop: Option<usize>,
}

/// Looks for stop strings in text that comes in pieces. The result does not depend on how the text is cut: the
/// stop string that ends first wins, the longest of those that end together.
#[derive(Debug, Clone)]
pub struct StopMatcher {
    stops: Vec<String>,
    held: String,
    stopped: Option<usize>,
}

impl StopMatcher {
    /// Takes the stop strings; empty ones never match.
    pub fn new(stops: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { stops: stops.into_iter().map(Into::into).collect(), held: String::new(), stopped: None }
    }

    /// Adds text and returns what is certain by now. After a stop string nothing more is returned.
    pub fn push(&mut self, text: &str) -> StopOutput {
        if self.stopped.is_some() {
            return StopOutput { text: String::new(), stop: self.stopped };
        }
        self.held.push_str(text);
        if let Some((index, start)) = self.first_match() {
            self.stopped = Some(index);
            let mut text = std::mem::take(&mut self.held);
            text.truncate(start);
            return StopOutput { text, stop: self.stopped };
        }
        let rest = self.held.split_off(self.certain_bytes());
        StopOutput { text: std::mem::replace(&mut self.held, rest), stop: None }
    }

    /// Ends the text: returns what was held back, since no stop string can follow. Ready for the next text.
    pub fn finish(&mut self) -> String {
        self.stopped = None;
        std::mem::take(&mut self.held)
    }

    /// The stop string that ends first in the held text, and where it starts.
    fn first_match(&self) -> Option<(usize, usize)> {
        let matches = self.stops.iter().enumerate().filter(|(_, stop)| !stop.is_empty());
        let matches = matches.filter_map(|(index, stop)| Some((index, self.held.find(stop.as_str())?, stop)));
        matches
            .min_by_key(|(_, start, stop)| (start + stop.len(), *start))
            .map(|(index, start, _)| (index, start))
    }

    /// Bytes of the held text in front of its longest end that is the beginning of a stop string.
    fn certain_bytes(&self) -> usize {
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        let earliest = self.held.len().saturating_sub(longest);
        let starts = (earliest..self.held.len()).filter(|start| self.held.is_char_boundary(*start));
        let is_beginning =
            |start: &usize| self.stops.iter().any(|stop| stop.starts_with(&self.held[*start..]));
        starts.into_iter().find(is_beginning).unwrap_or(self.held.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn in_pieces(stops: &[&str], pieces: &[&str]) -> (String, Option<usize>) {
        let mut matcher = StopMatcher::new(stops.iter().copied());
        let (mut text, mut stop) = (String::new(), None);
        for piece in pieces {
            let output = matcher.push(piece);
            text.push_str(&output.text);
            stop = stop.or(output.stop);
        }
        text.push_str(&matcher.finish());
        (text, stop)
    }

    #[test]
    fn stops_across_pieces() {
        assert_eq!(in_pieces(&["END"], &["a E", "N", "D b"]), ("a ".to_owned(), Some(0)));
        assert_eq!(in_pieces(&["END"], &["a EN", "T"]), ("a ENT".to_owned(), None));
        assert_eq!(in_pieces(&["END"], &["a EN"]), ("a EN".to_owned(), None));
        assert_eq!(in_pieces(&["aab"], &["aa", "ab!"]), ("a".to_owned(), Some(0)));
        assert_eq!(in_pieces(&["\n\n", "日本"], &["x日", "本y"]), ("x".to_owned(), Some(1)));
        assert_eq!(in_pieces(&[""], &["abc"]), ("abc".to_owned(), None));
        assert_eq!(in_pieces(&["abcd", "bc"], &["abcd"]), ("a".to_owned(), Some(1)));
    }

    #[test]
    fn holds_back_no_more_than_needed() {
        let mut matcher = StopMatcher::new(["<end>"]);
        assert_eq!(matcher.push("hello <").text, "hello ");
        assert_eq!(matcher.push("b").text, "<b");
        assert_eq!(matcher.push("<end>tail").stop, Some(0));
        assert_eq!(matcher.push("more"), StopOutput { text: String::new(), stop: Some(0) });
    }

    proptest! {
        #[test]
        fn does_not_depend_on_the_cuts(
            text in "[abé]{0,24}",
            stops in proptest::collection::vec("[abé]{0,4}", 0..4),
            cuts in proptest::collection::vec(any::<bool>(), 24),
        ) {
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let mut pieces = vec![String::new()];
            for (character, cut) in text.chars().zip(cuts) {
                if cut {
                    pieces.push(String::new());
                }
                pieces.last_mut().unwrap().push(character);
            }
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            let (got, stop) = in_pieces(&stops, &pieces);
            prop_assert_eq!((&got, stop), (&in_pieces(&stops, &[&text]).0, in_pieces(&stops, &[&text]).1));
            prop_assert!(text.starts_with(&got));
            if let Some(stop) = stop {
                prop_assert!(text[got.len()..].starts_with(stops[stop]));
            } else {
                prop_assert_eq!(&got, &text);
            }
        }
    }
}

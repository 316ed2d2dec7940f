//! Printing an error with its causes on one line.

use std::{error::Error, fmt};

/// Displays an error followed by its causes, `outer: middle: inner`. A cause whose text the message before it already
/// ends with is left out, since many libraries repeat their source.
pub struct ErrorChain<'a>(pub &'a (dyn Error + 'a));

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = self.0.to_string();
        formatter.write_str(&last)?;
        let mut next = self.0.source();
        while let Some(cause) = next {
            let text = cause.to_string();
            if !last.ends_with(&text) {
                write!(formatter, ": {text}")?;
                last = text;
            }
            next = cause.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::ErrorChain;

    #[derive(Debug, thiserror::Error)]
    #[error("read the state file")]
    struct Outer(#[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("disk is full")]
    struct Inner;

    #[derive(Debug, thiserror::Error)]
    #[error("open: disk is full")]
    struct Repeats(#[source] Inner);

    #[test]
    fn chain_shows_causes_in_order() {
        assert_eq!(
            ErrorChain(&Outer(Inner)).to_string(),
            "read the state file: disk is full"
        );
    }

    #[test]
    fn chain_does_not_repeat_a_cause_that_the_message_ends_with() {
        assert_eq!(ErrorChain(&Repeats(Inner)).to_string(), "open: disk is full");
    }
}

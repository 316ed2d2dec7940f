//! Text that must never be printed: auth keys, tokens, client secrets.

use std::fmt;

use zeroize::Zeroizing;

/// A secret text. `Debug` and `Display` are redacted; reading it takes an explicit [`Secret::expose`], so that every use
/// can be found by name. The memory is wiped on drop.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Wraps a secret text as it is.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// Wraps the content of a secret file: white space around it, such as a trailing newline, is not part of the secret.
    pub fn from_file_content(content: &str) -> Self {
        Self::new(content.trim())
    }

    /// The text itself. Only for the place that sends or stores it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether the text is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(redacted)")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("redacted")
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn secret_is_redacted_when_printed() {
        let secret = Secret::from_file_content("tskey-auth-abc\n");
        assert_eq!(secret.expose(), "tskey-auth-abc");
        assert!(!format!("{secret:?} {secret}").contains("abc"));
    }
}

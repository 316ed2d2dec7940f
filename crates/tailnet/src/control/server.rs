//! The URL of a control server.

use http::Uri;

/// Where a control server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    /// Speak TLS.
    pub(crate) tls: bool,
    /// Host name or address, an IPv6 address without brackets.
    pub(crate) host: String,
    /// TCP port.
    pub(crate) port: u16,
    authority: String,
}

impl Server {
    /// Reads an `http` or `https` URL without a path; nothing for any other text.
    pub(crate) fn parse(url: &str) -> Option<Self> {
        let uri: Uri = url.trim_end_matches('/').parse().ok()?;
        let server = Self::of(&uri)?;
        matches!(uri.path(), "" | "/").then_some(server)
    }

    /// The server that an absolute URL names.
    pub(crate) fn of(uri: &Uri) -> Option<Self> {
        let tls = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let authority = uri.authority()?;
        let has_bad_port = authority.as_str().len() > authority.host().len() && authority.port_u16().is_none();
        if authority.as_str().contains('@') || authority.host().is_empty() || has_bad_port {
            return None;
        }
        Some(Self {
            tls,
            host: authority.host().trim_matches(['[', ']']).to_ascii_lowercase(),
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            authority: authority.to_string(),
        })
    }

    /// Host and port of a server that speaks no TLS.
    pub(crate) fn without_tls(&self) -> Option<(String, u16)> {
        (!self.tls).then(|| (self.host.clone(), self.port))
    }

    /// Host and port as in the `Host` header.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_is_read_with_default_ports() {
        let server = Server::parse("https://Control.Example.com/").unwrap();
        assert_eq!(
            (server.tls, server.host.as_str(), server.port),
            (true, "control.example.com", 443)
        );
        let server = Server::parse("http://[fd00::1]:8080").unwrap();
        assert_eq!(
            (server.tls, server.host.as_str(), server.port),
            (false, "fd00::1", 8080)
        );
        assert_eq!(server.authority(), "[fd00::1]:8080");
    }

    #[test]
    fn text_that_is_no_control_url_is_refused() {
        for text in [
            "",
            "control.example.com",
            "ftp://a",
            "http://",
            "https://a/b",
            "https://user@a",
            "https://a:b",
        ] {
            assert_eq!(Server::parse(text), None, "{text}");
        }
    }
}

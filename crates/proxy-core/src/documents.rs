//! The configuration documents of a proxy, which reach it by two ways: the API server and mounted files.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use isthmus_contract::proxy_config::{ParseProxyConfigError, ProxyConfig};
use isthmus_contract::secret_key;
use thiserror::Error;

use crate::versioned_config::{
    CAPABILITY_VERSION, VersionedConfig, VersionedConfigError, parse_versioned_config, select_versioned_config,
};

/// How many versions of the API server are remembered, to tell a late file from a new one.
const REMEMBERED: usize = 32;

/// The texts of the documents, as one source has them. `Debug` shows none of it, since they hold the auth key.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Documents {
    /// `isthmus.json`: what to carry.
    pub proxy: Option<String>,
    /// The best `cap-<N>.hujson`: how to log in.
    pub device: Option<String>,
}

/// What the documents say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Configuration {
    /// What to carry.
    pub proxy: Option<ProxyConfig>,
    /// How to log in.
    pub device: Option<VersionedConfig>,
}

/// A document that cannot be used.
#[derive(Debug, Error)]
pub enum DocumentError {
    /// `isthmus.json`.
    #[error(transparent)]
    Proxy(#[from] ParseProxyConfigError),
    /// `cap-<N>.hujson`.
    #[error(transparent)]
    Device(#[from] VersionedConfigError),
}

/// Picks the newer of two sources that tell the same story at different speeds.
///
/// What the API server delivers is always the newest. A file is newer only when its content was never delivered by the API
/// server: then the watch is broken. Otherwise it is an older version that arrives late.
#[derive(Debug, Default)]
pub struct Sources {
    current: Option<Documents>,
    delivered: VecDeque<Documents>,
}

/// `isthmus.json` and `cap-<N>.hujson`.
type Texts = (Option<String>, Option<String>);

impl Documents {
    fn from_texts((proxy, device): Texts) -> Self {
        Self { proxy, device }
    }

    fn texts(&self) -> Texts {
        (self.proxy.clone(), self.device.clone())
    }

    /// Picks the documents out of a Secret's or a folder's entries.
    pub fn from_entries(entries: &BTreeMap<String, String>) -> Self {
        let device = select_versioned_config(entries.keys().map(String::as_str), CAPABILITY_VERSION);
        Self {
            proxy: entries.get(secret_key::PROXY_CONFIG).cloned(),
            device: device.and_then(|name| entries.get(name)).cloned(),
        }
    }

    /// Reads the documents. One that is not there is nothing, and no error.
    pub fn parse(&self) -> Result<Configuration, DocumentError> {
        Ok(Configuration {
            proxy: self.proxy.as_deref().map(ProxyConfig::parse).transpose()?,
            device: self.device.as_deref().map(parse_versioned_config).transpose()?,
        })
    }
}

impl fmt::Debug for Documents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Documents")
            .field("proxy", &self.proxy.is_some())
            .field("device", &self.device.is_some())
            .finish()
    }
}

impl Sources {
    /// What [`render`](Self::render) wrote; nothing for any other text.
    pub fn recall(text: &str) -> Option<Self> {
        let (current, delivered): (Option<Texts>, VecDeque<Texts>) = serde_json::from_str(text).ok()?;
        Some(Self {
            current: current.map(Documents::from_texts),
            delivered: delivered.into_iter().map(Documents::from_texts).collect(),
        })
    }

    /// All that is known, as text. It holds the auth key.
    pub fn render(&self) -> String {
        let current = self.current.as_ref().map(Documents::texts);
        let delivered: Vec<_> = self.delivered.iter().map(Documents::texts).collect();
        serde_json::to_string(&(current, delivered)).expect("texts always serialise")
    }

    /// The documents in force.
    pub fn current(&self) -> Option<&Documents> {
        self.current.as_ref()
    }

    /// Takes what the API server delivers; true when it changes what is in force.
    pub fn offer_from_api(&mut self, documents: Documents) -> bool {
        if !self.delivered.contains(&documents) {
            self.delivered.push_back(documents.clone());
            if self.delivered.len() > REMEMBERED {
                self.delivered.pop_front();
            }
        }
        self.put_in_force(documents)
    }

    /// Takes what the files say; true when it changes what is in force.
    pub fn offer_from_files(&mut self, documents: Documents) -> bool {
        !self.delivered.contains(&documents) && self.put_in_force(documents)
    }

    fn put_in_force(&mut self, documents: Documents) -> bool {
        let changes = self.current.as_ref() != Some(&documents);
        self.current = Some(documents);
        changes
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Documents, Sources};

    fn documents(text: &str) -> Documents {
        Documents {
            proxy: Some(text.to_owned()),
            device: None,
        }
    }

    #[test]
    fn late_file_does_not_undo_what_the_api_server_said() {
        let mut sources = Sources::default();
        assert!(
            sources.offer_from_files(documents("one")),
            "at start the file may be first"
        );
        assert!(!sources.offer_from_api(documents("one")));
        assert!(sources.offer_from_api(documents("two")));
        assert!(sources.offer_from_api(documents("three")));
        assert!(!sources.offer_from_files(documents("two")), "the kubelet is late");
        assert!(!sources.offer_from_files(documents("three")));
        assert_eq!(sources.current(), Some(&documents("three")));
    }

    #[test]
    fn file_wins_when_the_api_server_never_said_it() {
        let mut sources = Sources::default();
        sources.offer_from_api(documents("one"));
        assert!(
            sources.offer_from_files(documents("two")),
            "the watch is broken, the kubelet's is not"
        );
        assert!(!sources.offer_from_api(documents("two")), "the watch came back");
        assert!(sources.offer_from_api(documents("one")), "and the user went back");
    }

    #[test]
    fn late_file_is_still_told_from_a_new_one_after_a_restart() {
        let mut before = Sources::default();
        before.offer_from_api(documents("one"));
        before.offer_from_api(documents("two"));
        let mut sources = Sources::recall(&before.render()).unwrap();
        assert_eq!(sources.current(), Some(&documents("two")));
        assert!(!sources.offer_from_files(documents("one")), "the kubelet is late");
        assert!(sources.offer_from_files(documents("three")));
        assert!(Sources::recall("junk").is_none());
    }

    #[test]
    fn documents_are_picked_by_name_and_not_shown_when_debugged() {
        let entries = [
            "cap-95.hujson",
            "cap-107.hujson",
            "cap-400.hujson",
            "isthmus.json",
            "_machinekey",
        ];
        let entries: BTreeMap<String, String> = entries
            .iter()
            .map(|name| ((*name).to_owned(), format!("secret of {name}")))
            .collect();
        let documents = Documents::from_entries(&entries);
        assert_eq!(documents.device.as_deref(), Some("secret of cap-107.hujson"));
        assert_eq!(documents.proxy.as_deref(), Some("secret of isthmus.json"));
        assert!(!format!("{documents:?}").contains("secret of"));
    }

    #[test]
    fn missing_documents_are_nothing_and_broken_ones_are_named() {
        assert!(Documents::default().parse().unwrap().proxy.is_none());
        let error = documents("{}").parse().unwrap_err();
        assert!(error.to_string().contains("isthmus.json"), "{error}");
    }
}

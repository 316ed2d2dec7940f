//! What the device is called, and the tags it carries.

use isthmus_contract::annotation;
use k8s_openapi::api::core::v1::Service;

use super::{Problem, value};
use crate::settings::Settings;

/// Longest DNS label.
const MAX_LABEL: usize = 63;
/// Longest DNS name, without the final dot.
const MAX_NAME: usize = 253;

pub(super) fn hostname(service: &Service) -> Result<String, Problem> {
    if let Some(text) = value(service, annotation::HOSTNAME) {
        let fix = || format!("`{text}` is not a DNS label; use at most 63 of a-z, 0-9 and inner dashes");
        return if is_dns_label(text) {
            Ok(text.to_owned())
        } else {
            Err(Problem::annotation(annotation::HOSTNAME, fix()))
        };
    }
    let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
    let name = service.metadata.name.as_deref().unwrap_or_default();
    // Both are DNS labels, so every letter is one byte.
    let full = format!("{namespace}-{name}");
    Ok(full[..full.len().min(MAX_LABEL)].trim_end_matches('-').to_owned())
}

/// Whether `text` is a DNS label in lower case.
pub(super) fn is_dns_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=MAX_LABEL).contains(&text.len()) && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// Whether `text`, in lower case and without the final dot, is a DNS name of at least two labels.
pub(super) fn is_full_dns_name(text: &str) -> bool {
    text.len() <= MAX_NAME && text.contains('.') && text.split('.').all(is_dns_label)
}

pub(super) fn tags(service: &Service, settings: &Settings) -> Result<Vec<String>, Problem> {
    let Some(text) = value(service, annotation::TAGS) else {
        return Ok(settings.proxy_tags.clone());
    };
    let tags: Vec<String> = text.split(',').map(|tag| tag.trim().to_owned()).collect();
    match tags.iter().find(|tag| !is_tag(tag)) {
        Some(tag) => {
            let fix =
                format!("`{tag}` is not a tag; write tag: and a name of letters, digits and dashes, such as tag:web");
            Err(Problem::annotation(annotation::TAGS, fix))
        }
        None => Ok(tags),
    }
}

/// Whether `text` is an ACL tag: `tag:`, a letter, then letters, digits and dashes.
pub fn is_tag(text: &str) -> bool {
    let Some(name) = text.strip_prefix("tag:") else {
        return false;
    };
    name.starts_with(|letter: char| letter.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

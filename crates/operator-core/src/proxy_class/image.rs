//! The syntax of image references: `[registry[:port]/]path[:tag][@algorithm:digest]`, as the specification of OCI
//! distribution and container runtimes have it.

const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;
const MIN_DIGEST: usize = 32;

/// Whether `text` can name an image.
pub(super) fn is_image_reference(text: &str) -> bool {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    let after_path = rest.rfind('/').map_or(0, |slash| slash + 1);
    let (name, tag) = match rest[after_path..].find(':') {
        Some(colon) => (&rest[..after_path + colon], Some(&rest[after_path + colon + 1..])),
        None => (rest, None),
    };
    name.len() <= MAX_NAME && is_name(name) && tag.is_none_or(is_tag) && digest.is_none_or(is_digest)
}

fn is_name(name: &str) -> bool {
    let path = match name.split_once('/') {
        Some((first, path)) if is_registry(first) => path,
        _ => name,
    };
    path.split('/').all(is_path_component)
}

/// The first component is a registry when it looks like a host.
fn is_registry(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let looks_like_host =
        text == "localhost" || text.contains(['.', ':']) || text.bytes().any(|byte| byte.is_ascii_uppercase());
    let is_label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_v6 = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .is_some_and(|host| host.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':'));
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    looks_like_host && (is_v6 || host.split('.').all(is_label)) && port.is_none_or(is_port)
}

/// Lower-case letters and digits in groups, separated by one dot, one or two underscores, or dashes.
fn is_path_component(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let Some(last) = text.bytes().next_back() else {
        return false;
    };
    let mut separators = text.split(|letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit());
    // Between two letters that follow each other nothing is split off, so the first piece shows how the text begins.
    let begins = separators.next().is_some_and(str::is_empty);
    begins
        && is_plain(last)
        && separators
            .all(|separator| matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-'))
}

fn is_tag(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= MAX_TAG
        && text.bytes().next().is_some_and(is_word)
        && text.bytes().all(|byte| is_word(byte) || b".-".contains(&byte))
}

fn is_digest(text: &str) -> bool {
    let Some((algorithm, hex)) = text.split_once(':') else {
        return false;
    };
    algorithm.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic())
        && algorithm
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+._-".contains(&byte))
        && hex.len() >= MIN_DIGEST
        && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::is_image_reference;

    #[test]
    fn references_in_use_are_taken() {
        let digest = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        for text in [
            "busybox",
            "isthmus.local/isthmus:dev",
            "ghcr.io/acme/team/proxy_x__y--z.v2:1.0-rc.1",
            "registry:5000/isthmus",
            "localhost/isthmus:_tag",
            "[2001:db8::1]:5000/isthmus:1",
            &format!("isthmus@{digest}"),
            &format!("isthmus:1@{digest}"),
        ] {
            assert!(is_image_reference(text), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "Isthmus",
            "isthmus:",
            "isthmus:-x",
            "isthmus latest",
            "isthmus/",
            "/isthmus",
            "a//b",
            "isthmus@sha256:short",
            "https://ghcr.io/acme/isthmus",
            "a..b",
            "a___b",
            "-a",
        ] {
            assert!(!is_image_reference(text), "{text}");
        }
    }
}

//! Names of the objects the operator owns.

/// Longest name of a StatefulSet whose Pods and Pod labels still fit their limits.
pub const MAX_PROXY_NAME: usize = 52;
/// Letters after the last dash of a proxy's name.
pub const SUFFIX_LENGTH: usize = 5;
/// Letters a suffix is made of: no vowels, so that no words come out.
pub const SUFFIX_ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// The name of a proxy's StatefulSet, headless Service, ServiceAccount and Role: `ts-<parent>-<suffix>`, with the
/// parent's name cut so that the whole is at most [`MAX_PROXY_NAME`] bytes. `suffix` is expected to have
/// [`SUFFIX_LENGTH`] letters.
pub fn proxy_name(parent: &str, suffix: &str) -> String {
    const PREFIX: &str = "ts-";
    let room = MAX_PROXY_NAME.saturating_sub(PREFIX.len() + 1 + suffix.len());
    let mut end = parent.len().min(room);
    while !parent.is_char_boundary(end) {
        end -= 1;
    }
    let base = parent[..end].trim_end_matches('-');
    format!("{PREFIX}{base}-{suffix}")
}

/// The Secret with config and state of one replica. It has the name of the replica's Pod.
pub fn secret_name(proxy_name: &str, replica: u32) -> String {
    format!("{proxy_name}-{replica}")
}

/// The Service, and the ServiceMonitor, for the metrics of a proxy.
pub fn metrics_name(proxy_name: &str) -> String {
    format!("{proxy_name}-metrics")
}

#[cfg(test)]
mod tests;

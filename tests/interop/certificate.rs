//! Certificates for the servers of tests.

use std::process::{Command, Stdio};

/// A certificate that signed itself, in files.
pub(crate) struct Certificate {
    pub(crate) file: String,
    pub(crate) key: String,
}

impl Certificate {
    /// Makes one for an address; its files begin with `path`.
    pub(crate) fn new(path: &str, address: &str) -> Self {
        let (file, key) = (format!("{path}.crt"), format!("{path}.key"));
        openssl(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "30",
            "-subj",
            "/CN=test",
            "-addext",
            &format!("subjectAltName=IP:{address}"),
            "-keyout",
            &key,
            "-out",
            &file,
        ]);
        Self { file, key }
    }

    /// The hash by which clients know it, as hexadecimal digits.
    pub(crate) fn fingerprint(&self) -> String {
        let line = openssl(&["x509", "-noout", "-fingerprint", "-sha256", "-in", &self.file]);
        let (_, digits) = line.trim().split_once('=').expect("a name and the digits");
        digits.replace(':', "").to_lowercase()
    }
}

fn openssl(arguments: &[&str]) -> String {
    let output = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

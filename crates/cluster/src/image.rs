//! Writes container images without Docker: one layer, `FROM scratch`, the same bytes for the same input.
//!
//! The file is an OCI image layout in a tar that also carries Docker's `manifest.json`, so that `ctr images import`,
//! `docker load` and `podman load` take it.

mod programs;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

const EPOCH: &str = "1970-01-01T00:00:00Z";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// An image to write.
#[derive(Clone, Debug)]
pub struct Image {
    reference: String,
    entrypoint: Vec<String>,
    entries: BTreeMap<PathBuf, Entry>,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The digest of the manifest, `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// The size of the file in bytes.
    pub size: u64,
}

#[derive(Clone, Debug)]
enum Entry {
    Folder { mode: u32 },
    File { mode: u32, content: Vec<u8> },
    Link { target: PathBuf },
}

impl Image {
    /// An empty image that is called `reference` and runs `entrypoint`. A name without a registry gets the one that a
    /// kubelet adds to it.
    pub fn new(reference: &str, entrypoint: &[&str]) -> Self {
        Self {
            reference: complete_reference(reference),
            entrypoint: entrypoint.iter().map(|word| (*word).to_owned()).collect(),
            entries: BTreeMap::new(),
        }
    }

    /// Adds a file with this content, and the folders above it.
    ///
    /// # Errors
    /// When the path is not absolute or climbs up.
    pub fn add_content(&mut self, path: &str, mode: u32, content: impl Into<Vec<u8>>) -> Result<()> {
        self.add(
            path,
            Entry::File {
                mode,
                content: content.into(),
            },
        )
    }

    /// Adds a copy of a file of this machine; symbolic links are followed.
    ///
    /// # Errors
    /// When it cannot be read, or the path is not absolute or climbs up.
    pub fn add_file(&mut self, path: &str, mode: u32, source: &Path) -> Result<()> {
        let content = fs::read(source).with_context(|| format!("read {} for the image", source.display()))?;
        self.add(path, Entry::File { mode, content })
    }

    /// Adds an empty folder.
    ///
    /// # Errors
    /// When the path is not absolute or climbs up.
    pub fn add_folder(&mut self, path: &str, mode: u32) -> Result<()> {
        self.add(path, Entry::Folder { mode })
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// When the path is not absolute or climbs up.
    pub fn add_link(&mut self, path: &str, target: &str) -> Result<()> {
        self.add(
            path,
            Entry::Link {
                target: PathBuf::from(target),
            },
        )
    }

    /// Whether something is at this path already.
    pub fn contains(&self, path: &str) -> bool {
        inside(path).is_ok_and(|path| self.entries.contains_key(&path))
    }

    /// Writes the image file, whole or not at all.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, file: &Path) -> Result<Written> {
        let (bytes, digest) = self.render()?;
        let new = file.with_extension("new");
        fs::write(&new, &bytes)
            .and_then(|()| fs::rename(&new, file))
            .with_context(|| format!("write {}", file.display()))?;
        Ok(Written {
            digest,
            size: bytes.len() as u64,
        })
    }

    /// The bytes of the image file, and the digest of its manifest.
    fn render(&self) -> Result<(Vec<u8>, String)> {
        let layer = self.render_layer().context("build the layer of the image")?;
        let layer_digest = sha256(&layer);
        let config = to_bytes(&self.render_config(&layer_digest));
        let config_digest = sha256(&config);
        let manifest = to_bytes(&json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": describe("application/vnd.oci.image.config.v1+json", &config),
            "layers": [describe("application/vnd.oci.image.layer.v1.tar", &layer)],
        }));
        let manifest_digest = sha256(&manifest);
        let mut files = BTreeMap::from([
            (
                "oci-layout".to_owned(),
                to_bytes(&json!({"imageLayoutVersion": "1.0.0"})),
            ),
            ("index.json".to_owned(), to_bytes(&self.render_index(&manifest))),
            (
                "manifest.json".to_owned(),
                to_bytes(&self.render_docker_manifest(&config_digest, &layer_digest)),
            ),
        ]);
        for (digest, blob) in [
            (layer_digest, layer),
            (config_digest, config),
            (manifest_digest.clone(), manifest),
        ] {
            files.insert(blob_path(&digest), blob);
        }
        let mut tar = Builder::new(Vec::new());
        for (path, content) in &files {
            append(&mut tar, Path::new(path), EntryType::Regular, 0o644, content)
                .with_context(|| format!("add {path} to the image"))?;
        }
        Ok((
            tar.into_inner().context("end the image")?,
            format!("sha256:{manifest_digest}"),
        ))
    }

    fn render_layer(&self) -> Result<Vec<u8>> {
        let mut tar = Builder::new(Vec::new());
        for (path, entry) in &self.entries {
            match entry {
                Entry::Folder { mode } => append(&mut tar, path, EntryType::Directory, *mode, &[])?,
                Entry::File { mode, content } => append(&mut tar, path, EntryType::Regular, *mode, content)?,
                Entry::Link { target } => {
                    let mut header = new_header(EntryType::Symlink, 0o777, 0);
                    tar.append_link(&mut header, path, target)?;
                }
            }
        }
        Ok(tar.into_inner()?)
    }

    fn render_config(&self, layer_digest: &str) -> Value {
        json!({
            "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
            "os": "linux",
            "created": EPOCH,
            "config": {
                "Entrypoint": self.entrypoint,
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                "WorkingDir": "/",
            },
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_digest}")]},
            "history": [{"created": EPOCH}],
        })
    }

    fn render_index(&self, manifest: &[u8]) -> Value {
        let mut descriptor = describe(MANIFEST_TYPE, manifest);
        descriptor["annotations"] = json!({
            "io.containerd.image.name": self.reference,
            "org.opencontainers.image.ref.name": self.reference,
        });
        json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [descriptor]})
    }

    fn render_docker_manifest(&self, config: &str, layer: &str) -> Value {
        json!([{"Config": blob_path(config), "RepoTags": [self.reference], "Layers": [blob_path(layer)]}])
    }

    fn add(&mut self, path: &str, entry: Entry) -> Result<()> {
        let path = inside(path)?;
        for above in path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
            self.entries
                .entry(above.to_owned())
                .or_insert(Entry::Folder { mode: 0o755 });
        }
        self.entries.insert(path, entry);
        Ok(())
    }
}

/// The name as a kubelet asks for it: `isthmus:dev` means `docker.io/library/isthmus:dev`.
fn complete_reference(reference: &str) -> String {
    match reference.split_once('/') {
        None => format!("docker.io/library/{reference}"),
        Some((first, _)) if first == "localhost" || first.contains(['.', ':']) => reference.to_owned(),
        Some(_) => format!("docker.io/{reference}"),
    }
}

/// The path inside the layer, which is relative to the root.
fn inside(path: &str) -> Result<PathBuf> {
    let relative = Path::new(path)
        .strip_prefix("/")
        .with_context(|| format!("the path {path} in the image is not absolute"))?;
    let plain = relative
        .components()
        .all(|component| matches!(component, Component::Normal(_)));
    ensure!(
        plain && relative.components().next().is_some(),
        "the path {path} in the image is not plain"
    );
    Ok(relative.to_owned())
}

fn append(tar: &mut Builder<Vec<u8>>, path: &Path, kind: EntryType, mode: u32, content: &[u8]) -> std::io::Result<()> {
    tar.append_data(&mut new_header(kind, mode, content.len() as u64), path, content)
}

/// A header that says nothing about when, where and by whom the image was written.
fn new_header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn describe(media_type: &str, blob: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": format!("sha256:{}", sha256(blob)), "size": blob.len()})
}

fn blob_path(digest: &str) -> String {
    format!("blobs/sha256/{digest}")
}

fn to_bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// The SHA-256 of some bytes as 64 hexadecimal digits.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.write_all(bytes).expect("hashing into memory does not fail");
    hex::encode(hash.finalize())
}

#[cfg(test)]
mod tests;

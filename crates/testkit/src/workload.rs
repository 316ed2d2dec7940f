//! An image with ordinary programs of this machine, for the Pods of tests and of the demo.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use isthmus_cluster::image::Image;
use isthmus_cluster::target_folder;

/// The name of the image.
pub const IMAGE: &str = "isthmus.local/workload:1";

const CLIENT: &str = "apiVersion: v1
kind: Pod
metadata:
  name: client
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: client
    image: IMAGE
    imagePullPolicy: Never
    args: [sleep, infinity]
";

/// The programs in it beside busybox, and the Debian packages that they come in.
const PROGRAMS: [(&str, &str); 9] = [
    ("busybox", "busybox"),
    ("conntrack", "conntrack"),
    ("curl", "curl"),
    ("dnsmasq", "dnsmasq-base"),
    ("ip", "iproute2"),
    ("iperf3", "iperf3"),
    ("nft", "nftables"),
    ("redis-cli", "redis-tools"),
    ("redis-server", "redis-server"),
];

/// The Debian packages of the programs that this machine lacks, sorted.
pub fn missing_packages() -> Vec<&'static str> {
    let lacks = |program: &str| isthmus_cluster::find_program(program).is_none();
    PROGRAMS
        .iter()
        .filter(|(program, _)| lacks(program))
        .map(|(_, package)| *package)
        .collect()
}

/// The manifest of a Pod called `client` that does nothing: to ask from.
pub fn client_pod() -> String {
    CLIENT.replace("IMAGE", IMAGE)
}

/// Writes the image and returns its file.
///
/// # Errors
/// When a program is not installed.
pub fn write_image() -> Result<PathBuf> {
    let mut image = Image::new(IMAGE, &["/bin/busybox"]);
    for (program, _) in PROGRAMS {
        image.add_program(program)?;
    }
    image.add_busybox()?;
    image.add_content(
        "/etc/passwd",
        0o644,
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    )?;
    image.add_content("/etc/group", 0o644, "root:x:0:\nnogroup:x:65534:\n")?;
    for folder in ["/root", "/run", "/var", "/www"] {
        image.add_folder(folder, 0o755)?;
    }
    image.add_folder("/tmp", 0o1777)?;
    let file = target_folder().join("image/workload.tar");
    fs::create_dir_all(file.with_file_name("")).context("make the folder of images")?;
    image.write(&file)?;
    Ok(file)
}

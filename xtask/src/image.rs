//! `cargo xtask image`: the container image of isthmus, one static program and nothing else.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use isthmus_cluster::image::Image;
use isthmus_cluster::{target_folder, workspace_folder};

use crate::process::{cargo, say};

/// The name of the image unless another is asked for; `deploy/` uses it.
const REFERENCE: &str = "isthmus.local/isthmus:dev";

/// The platform of the program: linked statically, it needs no file beside itself.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// What makes the program static, and a fifth smaller than it would be, at no cost while it runs.
///
/// A panic aborts, so nothing ever unwinds. Identical functions are kept once: Rust promises nothing about their addresses.
/// Relocations of a position-independent program come packed, which the C library it is linked with understands.
const FLAGS: &str = "-C target-feature=+crt-static -C force-unwind-tables=no -C link-arg=-Wl,--icf=all \
                     -C link-arg=-Wl,-z,pack-relative-relocs";

/// What the linker gets beside: tables for unwinding, which the standard library and the C library still bring, are left out, and so is the
/// index of them.
const SCRIPT: &str = "xtask/src/image/no_unwinding.ld";

/// How to build the image.
#[derive(Args)]
pub(crate) struct ImageArgs {
    /// What to call the image
    #[arg(long, default_value = REFERENCE)]
    reference: String,
    /// Where to write it; `image/isthmus.tar` in the build folder if not given
    #[arg(long)]
    output: Option<PathBuf>,
    /// For development: without optimisation and with this machine's shared libraries, quick to build and slow to run
    #[arg(long)]
    debug: bool,
}

/// What a build of the image gives.
pub(crate) struct Built {
    /// The program by itself.
    pub(crate) program: PathBuf,
    /// The image file.
    pub(crate) image: PathBuf,
}

/// Builds the image under its usual name to its usual place.
pub(crate) fn build_default(debug: bool) -> Result<Built> {
    build(REFERENCE, default_output(), debug)
}

/// Builds the program and writes the image.
pub(crate) fn run(args: &ImageArgs) -> Result<()> {
    let output = args.output.clone().unwrap_or_else(default_output);
    build(&args.reference, output, args.debug)?;
    Ok(())
}

fn default_output() -> PathBuf {
    target_folder().join("image/isthmus.tar")
}

/// Builds the program and writes the image under this name to this file.
fn build(reference: &str, output: PathBuf, debug: bool) -> Result<Built> {
    let program = if debug { build_debug()? } else { build_static()? };
    let image = compose(reference, &program)?;
    if let Some(folder) = output.parent() {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    let written = image.write(&output)?;
    say(&format!(
        "{reference} {} {} bytes: {}",
        written.digest,
        written.size,
        output.display()
    ));
    Ok(Built { program, image: output })
}

fn build_debug() -> Result<PathBuf> {
    let status = cargo()
        .args(["build", "--package", "isthmus"])
        .status()
        .context("run cargo build")?;
    ensure!(status.success(), "building isthmus failed");
    Ok(target_folder().join("debug/isthmus"))
}

fn build_static() -> Result<PathBuf> {
    say("building isthmus for the image: minutes when it was never built before");
    let remap = format!("--remap-path-prefix={}=/isthmus", workspace_folder().display());
    let status = cargo()
        .args([
            "rustc",
            "--release",
            "--package",
            "isthmus",
            "--bin",
            "isthmus",
            "--target",
            TARGET,
            "--",
            "-C",
            "link-arg=-Wl,--no-eh-frame-hdr",
            "-C",
            &format!("link-arg=-Wl,-T,{}", workspace_folder().join(SCRIPT).display()),
        ])
        .env("RUSTFLAGS", format!("{FLAGS} {remap}"))
        .status()
        .context("run cargo build")?;
    ensure!(status.success(), "building isthmus for the image failed");
    let program = target_folder().join(TARGET).join("release/isthmus");
    let bytes = fs::read(&program).with_context(|| format!("read {}", program.display()))?;
    ensure!(
        !needs_interpreter(&bytes)?,
        "{} is not linked statically, it would not start in the image",
        program.display()
    );
    Ok(program)
}

fn compose(reference: &str, program: &Path) -> Result<Image> {
    let mut image = Image::new(reference, &["/isthmus"]);
    image.add_with_libraries("/isthmus", program)?;
    image.add_link("/bin/sh", "/isthmus")?;
    image.add_folder("/tmp", 0o1777)?;
    Ok(image)
}

/// Whether an ELF file for 64-bit little-endian machines asks for a dynamic loader: whether it has a `PT_INTERP` header.
fn needs_interpreter(elf: &[u8]) -> Result<bool> {
    const PT_INTERP: u32 = 3;
    ensure!(
        elf.starts_with(b"\x7fELF\x02\x01"),
        "the program is no ELF file for 64-bit little-endian machines"
    );
    let u16_at = |at: usize| {
        elf.get(at..at + 2)
            .map(|bytes| usize::from(u16::from_le_bytes([bytes[0], bytes[1]])))
    };
    let u32_at = |at: usize| elf.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
    let offset = elf
        .get(32..40)
        .and_then(|bytes| bytes.try_into().ok())
        .map(u64::from_le_bytes)
        .and_then(|at| usize::try_from(at).ok());
    let (Some(offset), Some(size), Some(count)) = (offset, u16_at(54), u16_at(56)) else {
        anyhow::bail!("the program's ELF header is cut short");
    };
    Ok((0..count).any(|index| u32_at(offset + index * size) == Some(PT_INTERP)))
}

#[cfg(test)]
mod tests;

//! The Go programs of the cluster, built once for every version of their sources and kept outside the build folder.

use std::env;
use std::fmt::Write;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::Progress;
use crate::image::{Image, sha256};
use crate::manifests::COREDNS_IMAGE;
use crate::node::PAUSE_IMAGE;
use crate::process::run;
use crate::spec::workspace_folder;

/// How often a build says how far it is.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// Raised when what is built from the same sources changes.
const RECIPE: u32 = 2;

/// The folder of the finished programs and the images made of them.
#[derive(Clone, Debug)]
pub struct Tools {
    folder: PathBuf,
}

/// One program to build.
struct Program {
    name: &'static str,
    module: &'static str,
    package: &'static str,
    link_flags: String,
}

impl Tools {
    /// The tools of these sources: taken from the cache, or built, which takes minutes.
    ///
    /// # Errors
    /// When Go is missing or the build fails, with the end of what it said.
    pub fn ensure(progress: Progress<'_>) -> Result<Self> {
        let sources = sources_folder();
        let go = run(Command::new("go").arg("version").current_dir(sources.join("kubebox")))
            .context("building the cluster's programs needs Go 1.26 or newer on the path: see https://go.dev/dl")?;
        let folder = cache_folder()?.join(hash_sources(&sources, go.trim())?);
        if folder.is_dir() {
            return Ok(Self { folder });
        }
        build_into(&sources, &folder, progress)?;
        Ok(Self { folder })
    }

    /// etcd and all Kubernetes commands in one program, which goes by the name that it is started under.
    pub fn kubebox(&self) -> PathBuf {
        self.folder.join("kubebox")
    }

    pub(crate) fn pause_image(&self) -> PathBuf {
        self.folder.join("pause.tar")
    }

    pub(crate) fn coredns_image(&self) -> PathBuf {
        self.folder.join("coredns.tar")
    }
}

/// Builds everything in a folder of its own and moves that into place when it is whole.
fn build_into(sources: &Path, folder: &Path, progress: Progress<'_>) -> Result<()> {
    let cache = folder.parent().context("the cache folder has a parent")?;
    fs::create_dir_all(cache).with_context(|| format!("make {}", cache.display()))?;
    let lock_path = folder.with_extension("lock");
    let lock = fs::File::create(&lock_path).with_context(|| format!("open {}", lock_path.display()))?;
    if lock.try_lock().is_err() {
        progress("another process builds the cluster's programs: waiting for it");
        lock.lock()
            .with_context(|| format!("take the lock {}", lock_path.display()))?;
    }
    if folder.is_dir() {
        return Ok(());
    }
    let unfinished = tempfile::Builder::new()
        .prefix("unfinished-")
        .tempdir_in(cache)
        .context("make a folder to build in")?;
    progress("building Kubernetes, etcd and CoreDNS from their Go modules, once: about 7 minutes on 2 cores");
    for program in programs(sources)? {
        build_program(sources, &program, unfinished.path(), progress)?;
    }
    write_images(unfinished.path())?;
    fs::rename(unfinished.keep(), folder).with_context(|| format!("move the programs to {}", folder.display()))
}

fn programs(sources: &Path) -> Result<Vec<Program>> {
    let manifest = sources.join("kubebox/go.mod");
    let text = fs::read_to_string(&manifest).with_context(|| format!("read {}", manifest.display()))?;
    let version =
        required_version(&text, "k8s.io/kubernetes").context("find the version of k8s.io/kubernetes in go.mod")?;
    Ok(vec![
        Program {
            name: "kubebox",
            module: "kubebox",
            package: ".",
            link_flags: render_version_flags(version),
        },
        Program {
            name: "pause",
            module: "kubebox",
            package: "./pause",
            link_flags: String::new(),
        },
        Program {
            name: "coredns",
            module: "coredns",
            package: ".",
            link_flags: String::new(),
        },
    ])
}

fn build_program(sources: &Path, program: &Program, into: &Path, progress: Progress<'_>) -> Result<()> {
    let mut child = Command::new("go")
        .args([
            "build",
            "-v",
            "-trimpath",
            "-buildvcs=false",
            // What a debugger wants to know is a seventh of the work; traces of a crash do not need it.
            "-gcflags=all=-dwarf=false",
            "-ldflags",
            &format!("-s -w {}", program.link_flags),
            "-o",
        ])
        .arg(into.join(program.name))
        .arg(program.package)
        .current_dir(sources.join(program.module))
        .env("CGO_ENABLED", "0")
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("run go build")?;
    let said = report_build(&mut child, program.name, progress)?;
    let status = child.wait().context("wait for go build")?;
    if !status.success() {
        bail!("go build of {} failed with {status}: {}", program.name, said.join("\n"));
    }
    progress(&format!("{} is built", program.name));
    Ok(())
}

/// Passes on how far the build is; returns the last lines that it said.
fn report_build(child: &mut Child, name: &str, progress: Progress<'_>) -> Result<Vec<String>> {
    let errors = child.stderr.take().context("take the output of go build")?;
    let (mut last, mut count, mut said) = (Instant::now(), 0_u32, Vec::new());
    for line in BufReader::new(errors).lines() {
        let line = line.context("read the output of go build")?;
        count += u32::from(!line.starts_with("go: "));
        if last.elapsed() > REPORT_EVERY {
            progress(&format!("building {name}: {count} packages, now {line}"));
            last = Instant::now();
        }
        said.push(line);
        if said.len() > 40 {
            said.remove(0);
        }
    }
    Ok(said)
}

fn write_images(folder: &Path) -> Result<()> {
    for (name, reference) in [("pause", PAUSE_IMAGE), ("coredns", COREDNS_IMAGE)] {
        let path = format!("/{name}");
        let mut image = Image::new(reference, &[&path]);
        image.add_file(&path, 0o755, &folder.join(name))?;
        image.write(&folder.join(format!("{name}.tar")))?;
    }
    Ok(())
}

/// The version that a module file requires of this module.
fn required_version<'a>(manifest: &'a str, module: &str) -> Option<&'a str> {
    manifest
        .lines()
        .find_map(|line| line.trim().strip_prefix(module)?.strip_prefix(' ')?.split(' ').next())
}

/// Link flags that give the commands the version they were released as.
fn render_version_flags(version: &str) -> String {
    let mut parts = version.trim_start_matches('v').split('.');
    let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    format!(
        "-X k8s.io/component-base/version.gitVersion={version} -X k8s.io/component-base/version.gitMajor={major} \
         -X k8s.io/component-base/version.gitMinor={minor} -X k8s.io/client-go/pkg/version.gitVersion={version}"
    )
}

/// The folders whose files decide what is built. The workspace above the two modules lets them share the packages of Kubernetes.
const SOURCES: [&str; 4] = [".", "coredns", "kubebox", "kubebox/pause"];

/// A name for what these sources and this compiler build.
fn hash_sources(sources: &Path, go: &str) -> Result<String> {
    let mut text = format!("recipe {RECIPE}\n{go}\n");
    for module in SOURCES {
        let folder = sources.join(module);
        let mut files: Vec<PathBuf> = fs::read_dir(&folder)
            .with_context(|| format!("list {}", folder.display()))?
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.is_file())
            .collect();
        files.sort();
        for file in files {
            let content = fs::read(&file).with_context(|| format!("read {}", file.display()))?;
            let name = file.file_name().unwrap_or_default().display();
            writeln!(text, "{module}/{name} {}", sha256(&content)).context("name a source file")?;
        }
    }
    Ok(sha256(text.as_bytes())[..16].to_owned())
}

/// The folder for programs that are built once: `isthmus/tools` in the user's cache.
///
/// # Errors
/// When nothing says where that is.
pub fn cache_folder() -> Result<PathBuf> {
    let base = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(env::home_dir()?.join(".cache")));
    Ok(base
        .context("find the cache folder: set XDG_CACHE_HOME or HOME")?
        .join("isthmus/tools"))
}

fn sources_folder() -> PathBuf {
    workspace_folder().join("tools")
}

#[cfg(test)]
mod tests;

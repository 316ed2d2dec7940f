//! Programs of this machine in an image, with the shared libraries that they need.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::Image;
use crate::host::find_program;
use crate::process::run;

impl Image {
    /// Adds a program from this machine's search path as `/bin/NAME`, and its shared libraries where it looks for them.
    ///
    /// # Errors
    /// When it is not installed or cannot be read.
    pub fn add_program(&mut self, name: &str) -> Result<()> {
        let program = find_program(name).with_context(|| format!("find the program {name}: install its package"))?;
        self.add_with_libraries(&format!("/bin/{name}"), &program)
    }

    /// Adds a program file at this path, and its shared libraries where it looks for them.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn add_with_libraries(&mut self, path: &str, program: &Path) -> Result<()> {
        self.add_file(path, 0o755, program)?;
        // ldd fails for a program that needs no library.
        let libraries = run(Command::new("ldd").arg(program)).unwrap_or_default();
        for library in parse_libraries(&libraries) {
            if !self.contains(library) {
                self.add_file(library, 0o755, Path::new(library))?;
            }
        }
        Ok(())
    }

    /// Adds busybox, under the name of each of its commands that is not in the image yet.
    ///
    /// # Errors
    /// When busybox is not installed.
    pub fn add_busybox(&mut self) -> Result<()> {
        self.add_program("busybox")?;
        for command in run(Command::new("busybox").arg("--list"))?.lines() {
            let path = format!("/bin/{command}");
            if !self.contains(&path) {
                self.add_link(&path, "/bin/busybox")?;
            }
        }
        Ok(())
    }
}

/// The files in what ldd prints: `name => /path (address)` or `/path (address)`.
fn parse_libraries(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loader_and_libraries_are_found_and_the_kernel_is_not() {
        let text = "\tlinux-vdso.so.1 (0x1)\n\tlibc.so.6 => /lib/libc.so.6 (0x2)\n\t/lib64/ld-linux.so.2 (0x3)\n";
        assert_eq!(
            parse_libraries(text).collect::<Vec<_>>(),
            ["/lib/libc.so.6", "/lib64/ld-linux.so.2"]
        );
    }
}

//! Writes the generated files of `deploy/` into the folder that is given. Run by `cargo xtask gen`.

use std::{env, error::Error, fs, path::PathBuf};

use isthmus_operator_core::{proxy_class, rights};

fn main() -> Result<(), Box<dyn Error>> {
    let folder: PathBuf = env::args_os().nth(1).ok_or("name the folder to write to")?.into();
    let class = format!(
        "# Written by `cargo xtask gen` from the types in crates/operator-core/src/proxy_class/resource.rs.\n{}",
        serde_yaml_ng::to_string(&proxy_class::schema::definition())?
    );
    let files = [
        ("crds/tailscale.com_proxyclasses.yaml", class),
        ("manifests/rbac.yaml", rights::manifest()),
    ];
    for (name, text) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().ok_or("every file lies in a folder")?)?;
        fs::write(path, text)?;
    }
    Ok(())
}

//! `cargo xtask cluster`: the local cluster from the command line.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::Subcommand;
use isthmus_cluster::{Cluster, ClusterSpec, Status, default_state_folder, target_folder};

use crate::debian;
use crate::process::say;

/// What to do with the cluster.
#[derive(Subcommand)]
pub(crate) enum ClusterCommand {
    /// Start it, or leave it as it is when it runs.
    Up,
    /// End it and remove everything of it from the machine.
    Down {
        /// Also the clusters that tests and the demo made.
        #[arg(long)]
        all: bool,
    },
    /// Say whether it runs.
    Status,
    /// Load an image file into every node.
    Load {
        /// A tar with an OCI or Docker image.
        image: PathBuf,
    },
    /// Run kubectl against it.
    Kubectl {
        /// The arguments of kubectl.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Cut a node off the network.
    Cut {
        /// The node: n1, n2.
        node: String,
    },
    /// End a cut.
    Heal {
        /// The node: n1, n2.
        node: String,
    },
    /// Run a program in a node's namespaces.
    Exec {
        /// The node: n1, n2.
        node: String,
        /// The program and its arguments.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
}

/// Runs one command.
pub(crate) fn run(command: ClusterCommand) -> Result<()> {
    let state = default_state_folder();
    if matches!(command, ClusterCommand::Up) {
        return up(&state);
    }
    if matches!(command, ClusterCommand::Down { all: true }) {
        return ClusterSpec::all_below(&target_folder())?
            .iter()
            .try_for_each(|spec| Cluster::handle(spec).down());
    }
    let Some(spec) = ClusterSpec::in_held_slot(&state)? else {
        ensure!(
            matches!(command, ClusterCommand::Down { .. } | ClusterCommand::Status),
            "the cluster is down: `cargo xtask cluster up` starts it"
        );
        say("down");
        return Ok(());
    };
    let mut cluster = Cluster::handle(&spec);
    match command {
        ClusterCommand::Up => up(&state),
        ClusterCommand::Down { .. } => cluster.down(),
        ClusterCommand::Status => status(&cluster),
        ClusterCommand::Load { image } => cluster.load(&image),
        ClusterCommand::Cut { node } => cluster.cut(&node),
        ClusterCommand::Heal { node } => cluster.heal(&node),
        ClusterCommand::Kubectl { args } => become_program(cluster.kubectl().args(args)),
        ClusterCommand::Exec { node, command } => become_program(cluster.node_exec(&node)?.args(command)),
    }
}

fn up(state: &Path) -> Result<()> {
    debian::ensure_packages(&isthmus_cluster::missing_packages())?;
    let began = Instant::now();
    let cluster = Cluster::up(&ClusterSpec::in_free_slot(state)?, &say)?;
    say(&format!(
        "the cluster is up ({:.1} s): KUBECONFIG={}",
        began.elapsed().as_secs_f32(),
        cluster.kubeconfig().display()
    ));
    Ok(())
}

fn status(cluster: &Cluster) -> Result<()> {
    match cluster.status()? {
        Status::Up => say(&format!("up: KUBECONFIG={}", cluster.kubeconfig().display())),
        Status::Down => say("down"),
        Status::LeftOver => bail!("an unfinished run left something behind: up or down clears it"),
        Status::Broken(ended) => bail!("these components have ended: {}", ended.join(", ")),
    }
    Ok(())
}

/// Ends this program by becoming another one.
fn become_program(command: &mut Command) -> Result<()> {
    Err(command.exec()).with_context(|| format!("run {}: is the cluster up?", command.get_program().display()))
}

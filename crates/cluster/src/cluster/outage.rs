//! The API server, taken away and brought back while everything else goes on.

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::start::PATIENCE;
use super::{ApiClient, Cluster, Duration, Instant, Node, Record, state, thread};
use crate::control_plane::{API_SERVER, LEADERS, render_leader_args};
use crate::process::Daemon;
use crate::state::DaemonRecord;

impl Cluster {
    /// Ends the API server as a crash would, and with it the controllers and the scheduler, which would end by themselves when
    /// they lose their lease. Pods, nodes and the store stay; until [`start_api_server`] the cluster counts as broken.
    ///
    /// # Errors
    /// When it does not run.
    ///
    /// [`start_api_server`]: Self::start_api_server
    pub fn stop_api_server(&self) -> Result<()> {
        let record = self.record()?;
        ensure!(find(&record, API_SERVER)?.runs(), "the API server does not run");
        for name in [API_SERVER].iter().chain(&LEADERS) {
            end(find(&record, name)?)?;
        }
        Ok(())
    }

    /// Starts the API server again, with the store that it had, waits until it is ready, starts the controllers and the
    /// scheduler, and starts the kubelets and kube-proxies anew. Pods go on. One that runs is left alone.
    ///
    /// New ones, because the old would wait up to a minute between their attempts to watch (back-off of client-go's
    /// reflectors), and the cluster would be as late with everything.
    ///
    /// # Errors
    /// When it does not become ready; the error shows the end of its log.
    pub fn start_api_server(&self) -> Result<()> {
        let mut record = self.record()?;
        if find(&record, API_SERVER)?.runs() {
            return Ok(());
        }
        let api = ApiClient::new(&self.paths.pki(), &self.spec.addressing().api_url())?;
        let mut server = self.launch_in_control_plane(API_SERVER, self.api_server_config().render_args())?;
        write_down(&mut record, &server);
        state::write(&self.paths.record(), &record)?;
        server.wait_until("become ready", 2 * PATIENCE, || api.is_ready())?;
        for name in LEADERS {
            let args = render_leader_args(name, &self.spec, &self.paths.pki());
            write_down(&mut record, &self.launch_in_control_plane(name, args)?);
        }
        for number in self.spec.node_numbers() {
            self.start_agents_anew(&mut record, number)?;
        }
        state::write(&self.paths.record(), &record)
    }

    fn start_agents_anew(&self, record: &mut Record, number: u8) -> Result<()> {
        let node = Node::new(&self.spec, &self.paths, number);
        let name = |component| format!("{} {component}", node.name);
        let init = find(record, &name("init"))?.pid;
        for agent in ["kubelet", "kube-proxy"] {
            end(find(record, &name(agent))?)?;
        }
        write_down(record, &node.start_kubelet(init)?);
        write_down(record, &node.start_proxy(init)?);
        Ok(())
    }

    fn record(&self) -> Result<Record> {
        match state::read(&self.paths.record())? {
            Some(record) => Ok(record),
            None => bail!("the cluster is not up"),
        }
    }
}

fn find<'a>(record: &'a Record, name: &str) -> Result<&'a DaemonRecord> {
    let found = record.daemons.iter().find(|daemon| daemon.name == name);
    found.with_context(|| format!("the cluster has no {name} of its own"))
}

/// Writes down the new process of a daemon.
fn write_down(record: &mut Record, started: &Daemon) {
    for daemon in record.daemons.iter_mut().filter(|daemon| daemon.name == started.name) {
        daemon.pid = started.pid();
    }
}

fn end(daemon: &DaemonRecord) -> Result<()> {
    let name = &daemon.name;
    if !daemon.runs() {
        return Ok(());
    }
    kill(Pid::from_raw(daemon.pid.cast_signed()), Signal::SIGKILL).with_context(|| format!("end {name}"))?;
    let deadline = Instant::now() + PATIENCE;
    while daemon.runs() {
        ensure!(Instant::now() < deadline, "{name} does not end");
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

//! The API server, taken away and brought back while everything else goes on.

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::start::PATIENCE;
use super::{ApiClient, Cluster, Duration, Instant, Record, control_plane_cgroup, state, thread};
use crate::process::{Inside, Launch};
use crate::state::DaemonRecord;

const API_SERVER: &str = "kube-apiserver";

impl Cluster {
    /// Ends the API server as a crash would. Pods, nodes and the store stay; until [`start_api_server`] the cluster counts as
    /// broken.
    ///
    /// # Errors
    /// When it does not run.
    ///
    /// [`start_api_server`]: Self::start_api_server
    pub fn stop_api_server(&self) -> Result<()> {
        let mut record = self.record()?;
        let server = api_server_of(&mut record)?;
        ensure!(server.runs(), "the API server does not run");
        kill(Pid::from_raw(server.pid.cast_signed()), Signal::SIGKILL).context("end the API server")?;
        let deadline = Instant::now() + PATIENCE;
        while server.runs() {
            ensure!(Instant::now() < deadline, "the API server does not end");
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Starts the API server again, with the store that it had, and waits until it is ready. One that runs is left alone.
    ///
    /// # Errors
    /// When it does not become ready; the error shows the end of its log.
    pub fn start_api_server(&self) -> Result<()> {
        let mut record = self.record()?;
        let server = api_server_of(&mut record)?;
        if server.runs() {
            return Ok(());
        }
        let api = ApiClient::new(&self.paths.pki(), &self.spec.addressing().api_url())?;
        let mut daemon = Launch {
            name: API_SERVER,
            program: &self.paths.bin(API_SERVER),
            args: self.api_server_config().render_args(),
            inside: Inside::Host,
            cgroup: &control_plane_cgroup(&self.spec.name()),
            log: self.paths.log(API_SERVER),
            folder: &self.spec.state,
        }
        .start()?;
        server.pid = daemon.pid();
        state::write(&self.paths.record(), &record)?;
        daemon.wait_until("become ready", 2 * PATIENCE, || api.is_ready())
    }

    fn record(&self) -> Result<Record> {
        match state::read(&self.paths.record())? {
            Some(record) => Ok(record),
            None => bail!("the cluster is not up"),
        }
    }
}

fn api_server_of(record: &mut Record) -> Result<&mut DaemonRecord> {
    let found = record.daemons.iter_mut().find(|daemon| daemon.name == API_SERVER);
    found.context("the cluster has no API server of its own")
}

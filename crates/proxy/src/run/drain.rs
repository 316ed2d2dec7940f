//! The end of a proxy: open connections may finish.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::kernel::Kernel;

/// How long open connections may take, well inside the thirty seconds that a Pod has.
const DEADLINE: Duration = Duration::from_secs(15);

const INTERVAL: Duration = Duration::from_millis(250);

/// Returns when no TCP connection that this proxy carries is open, or the deadline is over.
pub(super) async fn wait_for_flows(kernel: &Kernel) {
    let deadline = Instant::now() + DEADLINE;
    while Instant::now() < deadline {
        match kernel.filter().open_connections().await {
            Ok(0) => return,
            Ok(open) => tracing::debug!(open, "waiting for open connections"),
            Err(error) => {
                tracing::warn!(%error, "open connections are not waited for");
                return;
            }
        }
        sleep(INTERVAL).await;
    }
    tracing::info!("open connections are cut: the deadline is over");
}

//! Taking devices and keys off the tailnet. Gone is fine.

use isthmus_tailnet_api::{Class, Client, Error};

/// Revokes a key.
pub(crate) async fn revoke_key(tailnet: &Client, id: &str) -> Result<(), Error> {
    gone_is_fine(tailnet.delete_key(id).await)
}

/// Removes a device by its id.
pub(crate) async fn delete(tailnet: &Client, id: &str) -> Result<(), Error> {
    tracing::info!(device = id, "removing a device from the tailnet");
    gone_is_fine(tailnet.delete_device(id).await)
}

/// Removes the devices of a machine by its public key. Usually there is none.
pub(crate) async fn delete_of_machine(tailnet: &Client, key: &str) -> Result<(), Error> {
    let devices = tailnet.list_devices().await?;
    for device in devices.iter().filter(|device| device.machine_key == key) {
        delete(tailnet, &device.node_id).await?;
    }
    Ok(())
}

fn gone_is_fine(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(error) if error.class() == Class::NotFound => Ok(()),
        other => other,
    }
}

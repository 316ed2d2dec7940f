//! From changes to reconciles, until the end.

use std::{convert::Infallible, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, StreamExt as _, future, stream};
use k8s_openapi::api::core::v1::Service;
use kube::runtime::{
    controller::{Action, Config, applier},
    reflector::ObjectRef,
};

use crate::{
    changes::Changes,
    context::Context,
    reconcile::{is_of_interest, reconcile},
};

/// Services looked at at the same time: a look mostly waits for answers. One Service is never looked at twice at once.
const CONCURRENCY: u16 = 10;
/// Changes that come this close together are one.
const DEBOUNCE: Duration = Duration::from_millis(30);

/// Looks at every Service that changes, until `end`. Looks under way are finished.
pub(crate) async fn run(context: Arc<Context>, changes: Changes, end: impl Future<Output = ()> + Send) {
    let store = context.stores.services.clone();
    let (looked_up, all) = (context.clone(), changes.clone());
    let needs_a_look = move |service: &ObjectRef<Service>| {
        let found = looked_up.stores.services.get(service);
        let needed = found.is_some_and(|service| is_of_interest(&service, &looked_up.settings));
        if !needed {
            all.begun(service);
        }
        future::ready(needed)
    };
    let changes = stream::unfold(changes, |changes| async { Some((changes.take().await, changes)) })
        .filter(needs_a_look)
        .take_until(end)
        .map(Ok::<_, Infallible>);
    let config = Config::default().concurrency(CONCURRENCY).debounce(DEBOUNCE);
    // Failures come back as pauses, so the policy for errors is never asked.
    let policy = |_, _: &crate::Error, _| Action::await_change();
    applier(
        |service, context| reconcile(service, context).boxed(),
        policy,
        context,
        store,
        changes.boxed(),
        config,
    )
    .for_each(|result| {
        if let Err(error) = result {
            let error: &dyn std::error::Error = &error;
            tracing::debug!(error, "a Service was not looked at");
        }
        future::ready(())
    })
    .await;
}

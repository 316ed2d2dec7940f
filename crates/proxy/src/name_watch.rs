//! Follows a name of DNS: asks, and asks again when the answer is no longer vouched for.

use std::time::{Duration, Instant};

use isthmus_proxy_core::{KnownName, Reply};
use isthmus_runtime::ErrorChain;
use isthmus_runtime::resolve::{Answer, Answers, ResolveError, Resolver};
use tokio::sync::watch;
use tokio::time::sleep;

/// What is known of the name that is followed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Followed {
    /// The name; none while none is followed.
    pub(crate) name: Option<String>,
    /// What is known of it.
    pub(crate) known: KnownName,
}

/// Follows at most one name at a time.
pub(crate) struct NameWatch {
    wanted: watch::Sender<Option<String>>,
    followed: watch::Receiver<Followed>,
}

impl NameWatch {
    /// Starts without a name. The task ends when this is dropped.
    pub(crate) fn start(resolver: Resolver) -> Self {
        let (wanted, receiver) = watch::channel(None);
        let (sender, followed) = watch::channel(Followed::default());
        tokio::spawn(follow(resolver, receiver, sender));
        Self { wanted, followed }
    }

    /// Follows this name from now on, or none.
    pub(crate) fn want(&self, name: Option<String>) {
        self.wanted.send_if_modified(|wanted| {
            let changes = *wanted != name;
            *wanted = name;
            changes
        });
    }

    /// What is known of `name`; nothing while it was not asked for yet.
    pub(crate) fn known(&self, name: &str) -> KnownName {
        let followed = self.followed.borrow();
        let is_it = followed.name.as_deref() == Some(name);
        if is_it {
            followed.known.clone()
        } else {
            KnownName::default()
        }
    }

    /// Returns when something else is known.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn changed(&mut self) {
        if self.followed.changed().await.is_err() {
            // The task ends only with this watch.
            std::future::pending::<()>().await;
        }
    }
}

async fn follow(resolver: Resolver, mut wanted: watch::Receiver<Option<String>>, followed: watch::Sender<Followed>) {
    loop {
        let name = wanted.borrow_and_update().clone();
        tokio::select! {
            () = follow_one(&resolver, name, &followed) => {}
            changed = wanted.changed() => if changed.is_err() { return },
        }
    }
}

/// Never returns.
async fn follow_one(resolver: &Resolver, name: Option<String>, followed: &watch::Sender<Followed>) {
    let mut now = Followed {
        name,
        known: KnownName::default(),
    };
    followed.send_replace(now.clone());
    let Some(name) = now.name.clone() else {
        return std::future::pending().await;
    };
    loop {
        let pause = take(&mut now.known, resolver.lookup(&name).await);
        tracing::debug!(
            name,
            ?pause,
            addresses = now.known.addresses().count(),
            "asked DNS for the target"
        );
        followed.send_if_modified(|followed| {
            let changes = *followed != now;
            followed.clone_from(&now);
            changes
        });
        sleep(pause).await;
    }
}

fn take(known: &mut KnownName, answers: Answers) -> Duration {
    known.take(reply(answers.v4), reply(answers.v6), Instant::now())
}

fn reply(answer: Result<Answer, ResolveError>) -> Reply {
    match answer {
        Ok(Answer { addresses, valid_for }) => Reply::Answer { addresses, valid_for },
        Err(error) => Reply::Failed(ErrorChain(&error).to_string()),
    }
}

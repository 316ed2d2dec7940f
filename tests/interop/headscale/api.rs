//! What the operator asks of a tailnet, asked of Headscale.

use std::fs;
use std::time::Duration;

use isthmus_tailnet_api::{AuthKeyRequest, Class, Client, Config, Credentials, Device, Dialect, Error, client_config};
use isthmus_testkit::require;
use tokio::runtime::Builder;

use super::server::{Headscale, URL};
use crate::world::Tailnet;

/// The operator's client of the API, on the server's machine.
struct Api<'a> {
    headscale: &'a Headscale,
    client: Client,
}

impl<'a> Api<'a> {
    fn new(tailnet: &Tailnet, headscale: &'a Headscale) -> Self {
        let file = tailnet.path("headscale-api-key");
        fs::write(&file, headscale.api_key()).unwrap();
        let config = Config {
            base_url: URL.to_owned(),
            credentials: Credentials::ApiKeyFile(file.into()),
            user_agent: "isthmus-test".to_owned(),
            timeout: Duration::from_secs(30),
            tls: client_config(None).unwrap(),
        };
        let client = Client::new(config).unwrap();
        Self { headscale, client }
    }

    fn ask<T: Send>(&self, question: impl AsyncFnOnce(&Client) -> Result<T, Error> + Send) -> Result<T, Error> {
        self.headscale.machine.enter(|| {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(question(&self.client))
        })
    }

    fn key(&self, tags: &[&str]) -> isthmus_tailnet_api::NewAuthKey {
        let request = AuthKeyRequest {
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            expiry: Duration::from_hours(1),
            description: "isthmus test".to_owned(),
        };
        self.ask(async |client| client.create_auth_key(&request).await).unwrap()
    }

    fn devices(&self) -> Vec<Device> {
        self.ask(async |client| client.list_devices().await).unwrap()
    }
}

#[test]
fn operators_client_makes_keys_finds_tags_and_removes_devices_on_headscale() {
    isthmus_testkit::isolate!();
    if !require::judges(&["headscale"]) || !require::tun_device() {
        return;
    }
    let tailnet = Tailnet::new("headscale-api");
    let headscale = Headscale::start(&tailnet);
    let api = Api::new(&tailnet, &headscale);
    let unused = api.key(&["tag:k8s"]);
    let made = api.key(&["tag:k8s"]);
    let ids = || -> Vec<String> {
        let keys = api.ask(async |client| client.list_keys().await).unwrap();
        keys.into_iter().map(|key| key.id).collect()
    };
    assert_eq!(ids(), [unused.id.clone(), made.id.clone()]);
    api.ask(async |client| client.delete_key(&unused.id).await).unwrap();
    assert_eq!(ids(), std::slice::from_ref(&made.id));

    let file = tailnet.path("made-key");
    fs::write(&file, made.key.expose()).unwrap();
    let process = tailnet.spawn_at(
        URL,
        &tailnet.machines[0],
        ["shop-web", "0"],
        &["--auth-key-file", &file],
        &[],
    );
    let node = tailnet.wait_for(0, process);
    let [device] = &api.devices()[..] else {
        panic!("one device")
    };
    assert_eq!(
        (device.name.as_str(), device.hostname.as_str()),
        ("shop-web", "shop-web")
    );
    let addresses: Vec<String> = node.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(
        (&device.addresses, &device.tags),
        (&addresses, &vec!["tag:k8s".to_owned()])
    );
    let status = tailnet.ask_json(0, "status");
    assert_eq!(
        status["node"]["id"],
        device.node_id.as_str(),
        "the id that the node knows"
    );
    // A key of a device that is there is revoked without harm.
    api.ask(async |client| client.delete_key(&made.id).await).unwrap();

    let tags = ["tag:web".to_owned()];
    api.ask(async |client| client.set_device_tags(&device.node_id, &tags).await)
        .unwrap();
    let id = device.node_id.as_str();
    let seen = api.ask(async |client| client.get_device(id).await).unwrap();
    assert_eq!((&seen.tags[..], &seen.machine_key), (&tags[..], &device.machine_key));
    let unknown = ["tag:unknown".to_owned()];
    let refused = api
        .ask(async |client| client.set_device_tags(id, &unknown).await)
        .unwrap_err();
    assert_eq!(refused.class(), Class::Refused, "{refused}");

    api.ask(async |client| client.delete_device(id).await).unwrap();
    assert!(api.devices().is_empty());
    let gone = api.ask(async |client| client.delete_device(id).await).unwrap_err();
    assert_eq!(gone.class(), Class::NotFound, "{gone}");
}

#[test]
fn api_of_headscale_refuses_a_key_that_is_none() {
    isthmus_testkit::isolate!();
    if !require::judges(&["headscale"]) {
        return;
    }
    let tailnet = Tailnet::new("headscale-key");
    let headscale = Headscale::start(&tailnet);
    let mut api = Api::new(&tailnet, &headscale);
    fs::write(tailnet.path("headscale-api-key"), "hskey-api-aaaaaaaaaaaa-bad").unwrap();
    for _ in 0..2 {
        let refused = api.ask(async |client| client.list_devices().await).unwrap_err();
        assert_eq!(refused.class(), Class::Credentials, "{refused}");
        api.client = api.client.speaking(Dialect::HeadscaleV1);
    }
}

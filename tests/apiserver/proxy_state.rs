//! The proxy's state in its Secret, with the rights of a proxy written by hand.

use std::collections::BTreeMap;
use std::process::Output;

use isthmus_cluster::{ApiServer, workspace_folder};
use isthmus_proxy::SecretStore;
use isthmus_tailnet::state::{StateChanges, StateStore};
use isthmus_testkit::apiserver;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::json;
use tokio::runtime::Runtime;

fn kubectl(server: &ApiServer, namespace: &str, args: &[&str]) -> Output {
    let output = server
        .kubectl()
        .args(["--namespace", namespace])
        .args(args)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// A namespace with the Secret, ServiceAccount and Role of the example, and a client with the proxy's rights alone.
async fn proxy_client(server: &ApiServer, namespace: &str) -> kube::Client {
    kubectl(server, "default", &["create", "namespace", namespace]);
    let example = workspace_folder().join("deploy/examples/hand-written/ingress.yaml");
    kubectl(server, namespace, &["apply", "-f", &example.display().to_string()]);
    let token = kubectl(server, namespace, &["create", "token", "ingress"]).stdout;
    let rights = json!({ "token": String::from_utf8(token).unwrap().trim() });
    let mut kubeconfig = Kubeconfig::read_from(server.kubeconfig()).unwrap();
    kubeconfig.auth_infos[0].auth_info = Some(serde_json::from_value(rights).unwrap());
    let options = KubeConfigOptions::default();
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .unwrap();
    namespace.clone_into(&mut config.default_namespace);
    kube::Client::try_from(config).unwrap()
}

fn set(pairs: &[(&str, Option<&str>)]) -> StateChanges {
    let changes = pairs.iter();
    changes
        .map(|(key, value)| ((*key).to_owned(), value.map(|value| value.as_bytes().to_vec())))
        .collect()
}

#[test]
fn state_is_kept_in_the_secret_beside_the_keys_of_others() {
    let Some(server) = apiserver::shared() else { return };
    Runtime::new().unwrap().block_on(async {
        let client = proxy_client(server, "proxy-state").await;
        let store = SecretStore::new(&client, "ingress-state");
        assert!(store.load().await.unwrap().is_empty());
        let operators = r#"{"stringData":{"isthmus.json":"{}","note":"of the operator"}}"#;
        kubectl(
            server,
            "proxy-state",
            &["patch", "secret", "ingress-state", "-p", operators],
        );
        store
            .store(set(&[("_machinekey", Some("privkey:1")), ("profile-a", Some("{}"))]))
            .await
            .unwrap();
        store
            .store(set(&[("profile-a", None), ("profile/b", Some("{}"))]))
            .await
            .unwrap();
        // Another process reads the same.
        let state = SecretStore::new(&client, "ingress-state").load().await.unwrap();
        let expected = [
            ("_machinekey", "privkey:1"),
            ("note", "of the operator"),
            ("profile_b", "{}"),
        ];
        let expected: BTreeMap<_, _> = expected
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()))
            .collect();
        assert_eq!(state, expected);
    });
}

#[test]
fn proxy_cannot_read_another_secret() {
    let Some(server) = apiserver::shared() else { return };
    Runtime::new().unwrap().block_on(async {
        let client = proxy_client(server, "proxy-rights").await;
        let secrets: kube::Api<k8s_openapi::api::core::v1::Secret> = kube::Api::default_namespaced(client);
        assert!(secrets.get("ingress-state").await.is_ok());
        for attempt in [
            secrets.get("ingress-auth").await.map(drop),
            secrets.list(&kube::api::ListParams::default()).await.map(drop),
        ] {
            let error = attempt.unwrap_err();
            assert!(
                matches!(&error, kube::Error::Api(status) if status.code == 403),
                "{error}"
            );
        }
    });
}

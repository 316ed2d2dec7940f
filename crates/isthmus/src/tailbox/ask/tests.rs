//! The commands against a running tailbox.

use std::fs;

use clap::Parser;
use isthmus_runtime::{ErrorChain, Secret};
use isthmus_tailbox::{Config, OauthClientConfig, Tailbox};
use serde_json::Value;
use tempfile::TempDir;

use super::{Ask, answer};

#[derive(Parser)]
struct Line {
    #[command(subcommand)]
    ask: Ask,
}

/// A tailbox and the file with its credentials.
struct Stage {
    tailbox: Tailbox,
    files: TempDir,
}

impl Stage {
    async fn new() -> Self {
        let client = OauthClientConfig {
            id: "people".to_owned(),
            secret: Secret::new("secret"),
            tags: ["tag:k8s".to_owned()].into(),
        };
        let config = Config {
            oauth_clients: vec![client],
            ..Config::default()
        };
        let files = TempDir::new().unwrap();
        fs::write(
            files.path().join("credentials"),
            r#"{"client_id": "people", "client_secret": "secret"}"#,
        )
        .unwrap();
        Self {
            tailbox: Tailbox::start(config).await.unwrap(),
            files,
        }
    }

    /// What a command prints, or its error as people see it.
    async fn run(&self, line: &str) -> Result<String, String> {
        let credentials = self.path("credentials");
        let url = self.tailbox.url();
        let mut words = vec!["tailbox"];
        words.extend(line.split(' '));
        words.extend(["--url", &url, "--credentials", &credentials]);
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        let answered = answer(line.ask).await;
        answered.map_err(|error| ErrorChain(error.as_ref()).to_string())
    }

    fn path(&self, name: &str) -> String {
        self.files.path().join(name).display().to_string()
    }
}

#[tokio::test]
async fn key_is_made_listed_and_deleted() {
    let stage = Stage::new().await;
    let made = stage
        .run("key create --tags tag:k8s --reusable --expiry 12h --description laptops")
        .await
        .unwrap();
    let (key, rest) = made.split_once('\n').unwrap();
    assert!(
        key.starts_with("tskey-auth-") && rest.contains("any number of nodes"),
        "{made}"
    );
    let listed = stage.run("key list").await.unwrap();
    let line = listed.lines().find(|line| line.contains("laptops")).unwrap();
    let id = line.split(' ').next().unwrap();
    assert!(
        line.contains("tag:k8s") && line.contains("reusable") && line.contains("usable"),
        "{listed}"
    );
    assert!(!listed.contains(key), "{listed}");
    let json: Value = serde_json::from_str(&stage.run("key list --json").await.unwrap()).unwrap();
    assert!(json["keys"].as_array().unwrap().iter().any(|key| key["id"] == id));
    assert_eq!(
        stage.run(&format!("key delete {id}")).await.unwrap(),
        format!("key {id} is deleted")
    );
    let gone = stage.run(&format!("key delete {id}")).await.unwrap_err();
    assert!(
        gone.contains(&format!("cannot delete key {id}: the tailbox does not have it")),
        "{gone}"
    );
}

#[tokio::test]
async fn refused_key_is_answered_with_the_cause() {
    let stage = Stage::new().await;
    let foreign = stage.run("key create --tags tag:other").await.unwrap_err();
    assert!(
        foreign.contains("cannot create an auth key: requested tags [tag:other]"),
        "{foreign}"
    );
    let tagless = stage.run("key create").await.unwrap_err();
    assert!(tagless.contains("--tags"), "{tagless}");
    let endless = stage.run("key create --tags tag:k8s --expiry 91d").await.unwrap_err();
    assert!(endless.contains("90 days"), "{endless}");
}

#[tokio::test]
async fn policy_is_shown_checked_and_replaced_unless_somebody_was_faster() {
    let stage = Stage::new().await;
    let (good, bad) = (stage.path("good"), stage.path("bad"));
    let policy = "// mine\n{\"acls\": []}";
    fs::write(&good, policy).unwrap();
    fs::write(&bad, r#"{"acl": []}"#).unwrap();
    let before: Value = serde_json::from_str(&stage.run("policy show --json").await.unwrap()).unwrap();
    assert!(
        stage
            .run(&format!("policy check {good}"))
            .await
            .unwrap()
            .ends_with("is a policy")
    );
    for command in ["check", "set"] {
        let refused = stage.run(&format!("policy {command} {bad}")).await.unwrap_err();
        assert!(
            refused.contains("unknown field `acl`") && refused.contains(&bad),
            "{refused}"
        );
    }
    assert_eq!(
        stage.run("policy show").await.unwrap(),
        before["policy"].as_str().unwrap()
    );
    stage.run(&format!("policy set {good}")).await.unwrap();
    assert_eq!(stage.run("policy show").await.unwrap(), policy);
    let etag = before["etag"].as_str().unwrap();
    let late = stage
        .run(&format!("policy set {good} --if-match {etag}"))
        .await
        .unwrap_err();
    assert!(late.contains("read it again"), "{late}");
}

#[tokio::test]
async fn error_names_the_server_or_the_file_that_is_at_fault() {
    let stage = Stage::new().await;
    assert_eq!(stage.run("node list").await.unwrap(), "NAME  ADDRESS  ID  OWNER  STATE");
    let nobody = stage.run("node show web").await.unwrap_err();
    assert!(
        nobody.contains("no node web") && nobody.contains("node list"),
        "{nobody}"
    );
    fs::write(
        stage.path("credentials"),
        r#"{"client_id": "people", "client_secret": "other"}"#,
    )
    .unwrap();
    let refused = stage.run("node list").await.unwrap_err();
    assert!(refused.contains("does not know the credentials in"), "{refused}");
    fs::write(stage.path("credentials"), "s3cret").unwrap();
    let broken = stage.run("node list").await.unwrap_err();
    assert!(broken.contains("client_id") && !broken.contains("s3cret"), "{broken}");
    fs::remove_file(stage.path("credentials")).unwrap();
    let missing = stage.run("node list").await.unwrap_err();
    assert!(missing.contains("--credentials-out"), "{missing}");
    let Stage { tailbox, files } = stage;
    let url = tailbox.url();
    tailbox.stop().await.unwrap();
    let credentials = files.path().join("credentials");
    fs::write(&credentials, r#"{"client_id": "people", "client_secret": "secret"}"#).unwrap();
    let credentials = credentials.display().to_string();
    let words = ["tailbox", "key", "list", "--url", &url, "--credentials", &credentials];
    let error = answer(Line::parse_from(words).ask).await.unwrap_err();
    let error = ErrorChain(error.as_ref()).to_string();
    assert!(error.contains(&format!("no tailbox answers at {url}")), "{error}");
}

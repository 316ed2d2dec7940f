//! Traffic that flows goes on without the operator, the API server and the control server.

use std::net::SocketAddr;

use isthmus_testkit::cluster::hostile;
use isthmus_testkit::wait;

use super::{ApiServerAway, DATABASE_SERVICE, ROWS, answers};
use crate::stage::{PAGE, PATIENCE, PodProcess, Requests, Stage, WEB_POD, WEB_SERVICE};

/// Answers of each stream while something is away: some seconds.
const A_WHILE: usize = 40;

#[test]
fn traffic_goes_on_while_operator_api_server_and_control_server_are_away_and_changes_are_followed_when_they_are_back() {
    let Some(stage) = Stage::on(hostile(), "outages") else {
        return;
    };
    let operator = stage.install_operator();
    let database = stage.tailnet.join(stage.world.host("database", 4), "database").unwrap();
    let _server = stage.serve(&database.host, ROWS);
    stage.run_client();
    stage.run_pods(WEB_POD, &["web"]);
    let direct = stage.ask(&format!("http://{}/", database.address));
    assert_eq!(direct, None, "a Pod has no way to the tailnet");
    stage.namespace.apply(WEB_SERVICE);
    stage
        .namespace
        .apply(&DATABASE_SERVICE.replace("ADDRESS", &database.address));
    let address = stage.wait_until_ready("web");
    stage.wait_until_ready("database");

    let laptop = stage.laptop.host.namespace.path();
    let inward = Requests::start("laptop to Service", &laptop, server(&address), PAGE);
    let client = serde_json::from_str(&stage.namespace.run(&["get", "pod", "client", "-o", "json"])).unwrap();
    let client = PodProcess::of(&client, "/bin/busybox").network();
    let proxy = operator.pod("database")["status"]["podIP"].clone();
    let outward = Requests::start("Pod to device", &client, server(proxy.as_str().unwrap()), ROWS);
    let goes_on = || [&inward, &outward].map(|requests| requests.wait_for(A_WHILE));
    let page_at = |port: u16| stage.fetch(&format!("{address}:{port}"));

    operator.stop();
    add_port(&stage, 81);
    goes_on();
    assert_eq!(page_at(81), None, "who followed the Service?");
    operator.start();
    wait::until_within("the port that came while the operator was away", PATIENCE, || {
        page_at(81)
    });

    let away = ApiServerAway::begin(&stage);
    goes_on();
    assert!(!answers(&stage), "the API server was away for a moment only");
    away.end();
    add_port(&stage, 82);
    wait::until_within("the port that came after the API server", PATIENCE, || page_at(82));

    stage.tailnet.stop();
    assert!(stage.tailnet.devices().is_err(), "the control server answers");
    goes_on();
    stage.tailnet.start_again().unwrap();
    let renamed = "tailscale.com/hostname=renamed";
    stage.namespace.run(&["annotate", "service", "web", renamed]);
    wait::until_within("the name that came after the control server", PATIENCE, || {
        stage
            .tailnet
            .address_of("renamed")
            .unwrap()
            .filter(|now| *now == address)
    });

    goes_on();
    inward.finish();
    outward.finish();
    stage.wait_for("web", "ProxyCreated", "renamed");
}

fn server(address: &str) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), 80)
}

/// Another port of the Service, to the same server.
fn add_port(stage: &Stage, port: u16) {
    let value = format!(r#"{{"name": "p{port}", "port": {port}, "targetPort": 80}}"#);
    let patch = format!(r#"[{{"op": "add", "path": "/spec/ports/-", "value": {value}}}]"#);
    stage
        .namespace
        .run(&["patch", "service", "web", "--type=json", "-p", &patch]);
}

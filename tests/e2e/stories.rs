//! Random stories of users and faults on the real cluster, compared with the plain model: what should be reached is, from
//! a laptop on the tailnet and from a Pod, and nothing else.
//!
//! `ISTHMUS_STORY_SEED` is the number of the first story.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "few of the events of stories can happen on a cluster"
)]

use std::collections::BTreeSet;
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use isthmus_testkit::chance::first_story;
use isthmus_testkit::cluster::shared;
use isthmus_testkit::netns::Process;
use isthmus_testkit::soak;
use isthmus_testkit::story::{
    Address, Alias, Carry, ClassState, Expected, Hand, Part, Place, Plain, Presence, Reason, SLOTS, Shape, Step, Story,
    Wish, on_a_cluster, service_name, tell,
};
use isthmus_testkit::wait;
use isthmus_testkit::world::Host;
use serde_json::{Value, json};

use crate::stage::{Operator, Stage, fetch};

/// How long everybody may take until all is as it should be.
const PATIENCE: Duration = Duration::from_mins(2);
/// TCP ports that are tried; nothing listens at the last.
const TRIED: [u16; 4] = [80, 8080, 9002, 443];
/// An address of the tailnet that no device has.
const NOBODY: &str = "100.64.99.99";

/// What the cluster has to offer: a server, two names for hosts outside, and a Pod to ask from.
const OFFER: &str = "apiVersion: v1
kind: Pod
metadata:
  name: web
  labels: {app: web}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: web
    image: IMAGE
    imagePullPolicy: Never
    args: [sh, -c, 'echo web > /www/index.html; for p in 80 8080; do httpd -p $p -h /www; done; exec httpd -f -p 9002 -h /www']
    readinessProbe: {tcpSocket: {port: 9002}, periodSeconds: 1}
";
const NAME: &str = "---
apiVersion: v1
kind: Service
metadata:
  name: NAME
spec:
  clusterIP: None
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: NAME
  labels: {kubernetes.io/service-name: NAME}
addressType: IPv4
endpoints:
- addresses: ['ADDRESS']
";

/// A stage with everything that stories need.
struct Theatre<'a> {
    operator: &'a Operator<'a>,
    stage: &'a Stage,
    place: Place,
}

#[test]
fn what_random_stories_lead_to_is_reached_and_nothing_else() {
    let Some(stage) = Stage::on(shared(), "stories") else {
        return;
    };
    let steady = stage.tailnet.join(stage.world.host("steady", 4), "steady").unwrap();
    let mut servers = serve(&stage, &steady.host, "steady");
    let mut offer = OFFER.to_owned();
    for (name, number) in [("database", 5), ("archive", 6)] {
        let host = stage.world.host(name, number);
        servers.extend(serve(&stage, &host, name));
        offer.push_str(&NAME.replace("NAME", name).replace("ADDRESS", &host.address));
        // Only the cluster reaches it.
        let way = format!("route add blackhole {}/32", host.address);
        stage.laptop.host.namespace.ip(&way);
    }
    stage.run_pods(&offer, &["web"]);
    stage.run_client();
    let operator = stage.install_operator();
    let theatre = Theatre {
        operator: &operator,
        place: place(&stage, &steady.address),
        stage: &stage,
    };
    let count = if soak::is_asked() { 20 } else { 3 };
    let first = first_story(0);
    println!("{count} stories from ISTHMUS_STORY_SEED={first}");
    for seed in first..first + count {
        let story = tell(&on_a_cluster(), seed);
        println!("ISTHMUS_STORY_SEED={seed}:\n{story}");
        theatre.tell(&story);
    }
}

fn place(stage: &Stage, steady: &str) -> Place {
    let name = stage.tailnet.name_of("steady").unwrap().unwrap();
    let (_, domain) = name.trim_end_matches('.').split_once('.').unwrap();
    let inside = |name: &str| format!("{name}.{}.svc.cluster.local", stage.namespace.name());
    Place {
        namespace: stage.namespace.name().to_owned(),
        devices: [steady.to_owned(), NOBODY.to_owned()],
        device_names: [format!("steady.{domain}"), format!("fickle.{domain}")],
        names: [inside("database"), inside("archive")],
    }
}

impl Theatre<'_> {
    fn tell(&self, story: &Story) {
        let mut plain = Plain::default();
        for beat in &story.beats {
            self.happens(&beat.step, &mut plain);
            self.settle(&mut plain);
        }
        for slot in 0..SLOTS {
            self.delete(slot, &mut plain);
        }
        self.happens(&Step::Class(ClassState::Gone), &mut plain);
        self.settle(&mut plain);
        wait::until_within("everything of proxies to be gone", PATIENCE, || {
            self.operator.proxies().is_empty().then_some(())
        });
        let devices: BTreeSet<String> = self.devices();
        assert_eq!(devices, ["laptop", "steady"].map(str::to_owned).into());
    }

    fn devices(&self) -> BTreeSet<String> {
        let devices = self.stage.tailnet.devices().unwrap();
        devices
            .iter()
            .map(|device| device["hostname"].as_str().unwrap().to_owned())
            .collect()
    }

    fn kubectl(&self, arguments: &[&str]) -> Output {
        self.stage.namespace.output(arguments)
    }

    fn happens(&self, step: &Step, plain: &mut Plain) {
        match step {
            Step::Put(slot, wish) => self.put(*slot, wish, plain),
            Step::Delete(slot) => self.delete(*slot, plain),
            Step::Class(ClassState::Gone) => {
                self.kubectl(&["delete", "proxyclass", "shared", "--ignore-not-found"]);
                plain.class(ClassState::Gone);
            }
            Step::Class(state) => {
                self.stage.namespace.apply(&class(*state).to_string());
                plain.class(*state);
            }
            Step::Tamper(slot, part, hand) => {
                self.tamper(*slot, *part, *hand);
                plain.tampered(*slot, *part);
            }
            Step::Restart => self.operator.restart(),
            other => panic!("{other:?} cannot happen on a cluster"),
        }
    }

    fn put(&self, slot: u8, wish: &Wish, plain: &mut Plain) {
        let before = plain.slots[usize::from(slot)].wish.clone();
        match before {
            None => self
                .stage
                .namespace
                .apply(&wish.manifest(&self.place, slot).to_string()),
            Some(before) if wish.may_follow(&before) => {
                let patch = self.place.patch(slot, &before, wish).to_string();
                self.stage
                    .namespace
                    .run(&["patch", "service", &service_name(slot), "--type=merge", "-p", &patch]);
            }
            Some(_) => return,
        }
        plain.put(slot, wish);
    }

    /// The deletion has to end by itself.
    fn delete(&self, slot: u8, plain: &mut Plain) {
        let name = service_name(slot);
        self.stage
            .namespace
            .run(&["delete", "service", &name, "--ignore-not-found", "--timeout=90s"]);
        plain.gone(slot);
    }

    fn tamper(&self, slot: u8, part: Part, hand: Hand) {
        let labels = format!(
            "tailscale.com/parent-resource={},tailscale.com/parent-resource-ns={}",
            service_name(slot),
            self.place.namespace
        );
        let (kind, patch) = match part {
            Part::HeadlessService => ("service", json!({"spec": {"selector": {"app": "another"}}})),
            Part::Secret => ("secret", json!({"data": {"isthmus.json": "e30="}})),
            Part::ServiceAccount => (
                "serviceaccount",
                json!({"metadata": {"labels": {"isthmus.dev/parent-uid": "x"}}}),
            ),
            Part::Role => ("role", json!({"rules": []})),
            Part::RoleBinding => ("rolebinding", json!({"subjects": []})),
            Part::StatefulSet => ("statefulset", json!({"spec": {"replicas": 0}})),
            Part::Pod => ("pod", json!({"metadata": {"annotations": {"note": "edited"}}})),
        };
        let select = ["-n", "isthmus", "-l", &labels];
        if hand == Hand::Delete {
            self.kubectl(&[&["delete", kind, "--wait=false"], &select[..]].concat());
            return;
        }
        let names = self.kubectl(&[&["get", kind, "-o", "name"], &select[..]].concat());
        for name in String::from_utf8(names.stdout).unwrap().lines() {
            self.kubectl(&["-n", "isthmus", "patch", name, "--type=merge", "-p", &patch.to_string()]);
        }
    }

    /// Waits until every Service is as the plain model says.
    fn settle(&self, plain: &mut Plain) {
        for slot in 0..SLOTS {
            let expected = plain.expected(slot);
            let wish = plain.slots[usize::from(slot)].wish.clone();
            let deadline = Instant::now() + PATIENCE;
            let carried = loop {
                let why = match self.compare(slot, wish.as_ref(), &expected) {
                    Ok(carried) => break carried,
                    Err(why) => why,
                };
                let what = || format!("{why}; expected {expected:?} of {wish:?}\n{}", self.operator.log());
                assert!(Instant::now() < deadline, "{}: {}", service_name(slot), what());
                thread::sleep(Duration::from_millis(300));
            };
            plain.settled(slot, carried);
        }
    }

    fn compare(&self, slot: u8, wish: Option<&Wish>, expected: &Expected) -> Result<Option<Carry>, String> {
        let service = self.service(slot);
        let condition = &service["status"]["conditions"][0];
        let (reason, message) = (
            condition["reason"].as_str(),
            condition["message"].as_str().unwrap_or_default(),
        );
        let wanted = expected.reason.map(|reason| match reason {
            Reason::Created => "ProxyCreated",
            Reason::Pending => "ProxyPending",
            Reason::Failed => "ProxyFailed",
            Reason::Invalid => "ProxyInvalid",
        });
        let named = expected.fields.is_empty() || expected.fields.iter().any(|field| message.starts_with(field));
        if reason != wanted || !named {
            return Err(format!("the condition is {condition}"));
        }
        let hostname = wish.map(|wish| wish.hostname(&self.place, slot));
        let address = hostname.and_then(|hostname| self.stage.tailnet.address_of(&hostname).unwrap());
        let is_right = match expected.device {
            Presence::Must => address.is_some() || reason == Some("ProxyFailed"),
            Presence::May => true,
            Presence::MustNot => address.is_none(),
        };
        if !is_right {
            return Err(format!("its device has the address {address:?}"));
        }
        let seen = (self.laptop_gets(address.as_deref()), self.pod_gets(slot));
        let is_alias = !service["metadata"]["annotations"]["isthmus.dev/original-spec"].is_null();
        let fits = |carry: &&Option<Carry>| seen == should_see(wish, carry.as_ref(), is_alias);
        let found = expected.carries.iter().find(fits);
        found.cloned().ok_or_else(|| format!("laptop and Pod see {seen:?}"))
    }

    fn service(&self, slot: u8) -> Value {
        let output = self.kubectl(&[
            "get",
            "service",
            &service_name(slot),
            "-o",
            "json",
            "--ignore-not-found",
        ]);
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// What a laptop gets at each port of a device.
    fn laptop_gets(&self, address: Option<&str>) -> BTreeSet<(u16, String)> {
        let Some(address) = address else { return BTreeSet::new() };
        let host = &self.stage.laptop.host;
        thread::scope(|scope| {
            let ask = |port: u16| fetch(host, &format!("{address}:{port}")).map(|page| (port, page));
            let asked = TRIED.map(|port| scope.spawn(move || ask(port)));
            asked.into_iter().filter_map(|answer| answer.join().unwrap()).collect()
        })
    }

    /// What a Pod gets from the Service.
    fn pod_gets(&self, slot: u8) -> Option<String> {
        let url = format!("http://{}.{}/", service_name(slot), self.place.namespace);
        self.stage
            .namespace
            .exec("client", &["curl", "-sSf", "-m", "3", &url])
            .ok()
    }
}

/// What laptop and Pod should get. `is_alias`: whether the Service leads to its proxy now.
fn should_see(wish: Option<&Wish>, carry: Option<&Carry>, is_alias: bool) -> (BTreeSet<(u16, String)>, Option<String>) {
    let pages = |page: &str, ports: &[(bool, u16)]| -> BTreeSet<(u16, String)> {
        let ports = ports.iter().filter(|port| port.0 && TRIED[..3].contains(&port.1));
        ports.map(|port| (port.1, format!("{page}\n"))).collect()
    };
    let laptop = match carry {
        None | Some(Carry::Device(..)) => BTreeSet::new(),
        Some(Carry::Service(ports)) => pages("web", ports),
        Some(Carry::Name(other, ports)) => {
            let all = TRIED.map(|port| (true, port));
            pages(
                if *other { "archive" } else { "database" },
                ports.as_deref().unwrap_or(&all),
            )
        }
    };
    let pod = match (carry, wish) {
        (Some(Carry::Device(Address::Steady, _)), Some(_)) if is_alias => Some("steady"),
        (_, Some(wish)) if !is_alias => of_itself(wish),
        (_, _) => None,
    };
    (laptop, pod.map(|page| format!("{page}\n")))
}

/// What a Pod gets from a Service that does not lead to a proxy.
fn of_itself(wish: &Wish) -> Option<&'static str> {
    match wish.shape {
        Shape::Plain | Shape::Balancer(_) => wish.ports.contains(&(true, 80)).then_some("web"),
        // Every port of the Pod itself.
        Shape::Headless => Some("web"),
        Shape::Alias(Alias::Name) => Some("database"),
        Shape::Alias(Alias::OtherName) => Some("archive"),
        Shape::Alias(Alias::Label | Alias::Address) => None,
    }
}

/// Web servers on a host whose page says `text`.
fn serve(stage: &Stage, host: &Host, text: &str) -> Vec<Process> {
    let pages = stage.folder.path().join(text);
    std::fs::create_dir_all(&pages).unwrap();
    std::fs::write(pages.join("index.html"), format!("{text}\n")).unwrap();
    let ports = TRIED[..3].iter().map(|port| {
        let mut server = Command::new("busybox");
        server.args(["httpd", "-f", "-p", &port.to_string(), "-h"]).arg(&pages);
        host.namespace.spawn(server)
    });
    ports.collect()
}

fn class(state: ClassState) -> Value {
    let image = json!({"image": "isthmus.local/no-such-image:1", "imagePullPolicy": "Never"});
    let pod = match state {
        ClassState::NoImage => json!({"tailscaleContainer": image}),
        ClassState::Other => json!({"labels": {"team": "b"}}),
        _ => json!({"labels": {"team": "a"}}),
    };
    json!({
        "apiVersion": "tailscale.com/v1alpha1", "kind": "ProxyClass",
        "metadata": {"name": "shared"},
        "spec": {"statefulSet": {"pod": pod}, "metrics": {"enable": state == ClassState::Other}},
    })
}

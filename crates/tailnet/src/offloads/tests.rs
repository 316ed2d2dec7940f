use super::{OffloadSwitch, Offloads};

#[test]
fn udp_gso_is_off_on_kernels_that_corrupt_it() {
    for (release, on) in [
        ("6.18.44", true),
        ("6.99.9-custom", true),
        ("7.0.0", false),
        ("7.0.0-rc1", false),
        ("7.1.4-1-amd64", false),
        ("7.1.5", true),
        ("7.2", true),
        ("unknown", true),
    ] {
        assert_eq!(Offloads::for_kernel(release).udp_gso, on, "{release}");
    }
}

#[test]
fn switch_keeps_every_position() {
    let switch = OffloadSwitch::new(Offloads::ALL);
    let other = switch.clone();
    for change in [
        |o: &mut Offloads| o.tun = true,
        |o: &mut Offloads| o.tun_tcp_gro = true,
        |o: &mut Offloads| o.tun_udp_gro = true,
        |o: &mut Offloads| o.udp_gso = true,
        |o: &mut Offloads| o.udp_gro = true,
        |o: &mut Offloads| o.gso_equal_tail = true,
    ] {
        let mut offloads = Offloads::NONE;
        change(&mut offloads);
        other.set(offloads);
        assert_eq!(switch.get(), offloads);
    }
}

#[test]
fn attributes_of_control_switch_offloads_off_and_never_on() {
    let attributes = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(Offloads::ALL.obeying(&attributes(&["https", "funnel"])), Offloads::ALL);
    for (name, switch) in [
        ("disable-udp-gso", (|o| o.udp_gso) as fn(Offloads) -> bool),
        ("disable-udp-gro", |o| o.udp_gro),
        ("disable-tun-tcp-gro", |o| o.tun_tcp_gro),
        ("disable-tun-udp-gro", |o| o.tun_udp_gro),
        ("never-gso-equal-tail", |o| o.gso_equal_tail),
    ] {
        assert!(
            switch(Offloads::ALL) && !switch(Offloads::ALL.obeying(&attributes(&[name]))),
            "{name}"
        );
    }
    assert_eq!(Offloads::NONE.obeying(&[]), Offloads::NONE);
}

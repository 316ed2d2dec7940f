use super::*;

fn flow(number: u32) -> Flow {
    let remote = SocketAddr::from((number.to_be_bytes(), 53));
    Flow {
        protocol: 17,
        remote,
        local: SocketAddr::from(([100, 64, 0, 1], 5000)),
    }
}

#[test]
fn table_stays_bounded_and_forgets_the_longest_idle() {
    let (mut table, now) = (FlowTable::default(), Instant::now());
    let count = u32::try_from(MAX_FLOWS).unwrap();
    for number in 0..count {
        table.open(flow(number), now);
    }
    assert!(table.admits(flow(0), now));
    for number in count..count + 10 {
        table.open(flow(number), now);
    }
    assert_eq!(table.len(), MAX_FLOWS);
    assert!(table.admits(flow(0), now), "used just now");
    assert!(!table.admits(flow(1), now), "idle longest");
    assert!(table.admits(flow(count + 9), now));
}

#[test]
fn queue_stays_bounded_when_few_flows_are_used_often() {
    let (mut table, now) = (FlowTable::default(), Instant::now());
    for round in 0..100_000 {
        table.open(flow(round % 3), now);
    }
    assert_eq!(table.len(), 3);
    assert!(table.order.len() <= 2 * MAX_FLOWS + 1);
}

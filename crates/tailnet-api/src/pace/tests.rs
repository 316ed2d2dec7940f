use std::time::{Duration, Instant};

use super::Pace;

#[test]
fn burst_passes_at_once_and_the_rest_waits_in_a_row() {
    let now = Instant::now();
    let mut pace = Pace::new(Duration::from_millis(200), 3);
    let waits: Vec<u128> = (0..5).map(|_| pace.reserve(now).as_millis()).collect();
    assert_eq!(waits, [0, 0, 0, 200, 400]);
}

#[test]
fn quiet_time_gives_the_burst_back_but_not_more() {
    let now = Instant::now();
    let mut pace = Pace::new(Duration::from_millis(200), 2);
    for _ in 0..5 {
        pace.reserve(now);
    }
    let later = now + Duration::from_mins(1);
    let waits: Vec<u128> = (0..3).map(|_| pace.reserve(later).as_millis()).collect();
    assert_eq!(waits, [0, 0, 200]);
}

use std::time::{Duration, Instant};

use super::{NotNow, Pace, Why};

fn waits(pace: &mut Pace, now: Instant, count: usize) -> Vec<u128> {
    (0..count).map(|_| pace.reserve(now).unwrap().as_millis()).collect()
}

#[test]
fn burst_passes_at_once_and_the_rest_waits_in_a_row() {
    let mut pace = Pace::new(Duration::from_millis(200), 3);
    assert_eq!(waits(&mut pace, Instant::now(), 5), [0, 0, 0, 200, 400]);
}

#[test]
fn quiet_time_gives_the_burst_back_but_not_more() {
    let now = Instant::now();
    let mut pace = Pace::new(Duration::from_millis(200), 2);
    waits(&mut pace, now, 5);
    assert_eq!(waits(&mut pace, now + Duration::from_mins(1), 3), [0, 0, 200]);
}

#[test]
fn server_that_asks_for_a_rest_gets_it_from_every_caller() {
    let now = Instant::now();
    let mut pace = Pace::new(Duration::from_millis(200), 3);
    pace.limited(now, Duration::from_mins(1));
    let refused = NotNow {
        why: Why::Limited,
        wait: Duration::from_mins(1),
    };
    assert_eq!(pace.reserve(now), Err(refused));
    // What is left is short enough to wait for.
    assert_eq!(waits(&mut pace, now + Duration::from_secs(58), 1), [2000]);
    assert_eq!(waits(&mut pace, now + Duration::from_mins(1), 1), [0]);
}

#[test]
fn shorter_rest_does_not_cut_a_longer_one() {
    let now = Instant::now();
    let mut pace = Pace::new(Duration::from_millis(200), 3);
    pace.limited(now, Duration::from_mins(1));
    pace.limited(now, Duration::from_secs(1));
    assert_eq!(pace.reserve(now).unwrap_err().wait, Duration::from_mins(1));
}

#[test]
fn server_that_fails_again_and_again_is_asked_less_and_less_until_it_answers() {
    let now = Instant::now();
    let mut pace = Pace::new(Duration::ZERO, 1);
    let mut rests = Vec::new();
    for _ in 0..9 {
        pace.failed(now, "503".to_owned());
        rests.push(match pace.reserve(now) {
            Ok(wait) => wait.as_secs(),
            Err(refused) => {
                assert_eq!(refused.why, Why::Down("503".to_owned()));
                refused.wait.as_secs()
            }
        });
    }
    assert_eq!(rests, [0, 0, 1, 2, 4, 8, 16, 30, 30]);
    pace.answered();
    pace.failed(now, "503".to_owned());
    assert_eq!(pace.reserve(now + Duration::from_secs(30)), Ok(Duration::ZERO));
}

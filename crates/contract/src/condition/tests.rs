use super::ProxyReason;

#[test]
fn reasons_are_the_words_users_wait_for() {
    let words: Vec<String> = ProxyReason::ALL.iter().map(ToString::to_string).collect();
    assert_eq!(words, ["ProxyCreated", "ProxyPending", "ProxyFailed", "ProxyInvalid"]);
}

#[test]
fn only_created_is_true() {
    let true_reasons: Vec<ProxyReason> = ProxyReason::ALL.into_iter().filter(|reason| reason.is_true()).collect();
    assert_eq!(true_reasons, [ProxyReason::Created]);
}

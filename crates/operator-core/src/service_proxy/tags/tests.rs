use isthmus_contract::annotation;

use super::CHECK;
use crate::service_proxy::{
    Action, ControlProblem, Input,
    plan::plan,
    test_objects::{come_up, exposed, ingress_wanted, input, settings, settle},
};

fn logged_in() -> Input {
    let mut input = input(exposed());
    settle(&mut input);
    come_up(&mut input, &ingress_wanted());
    settle(&mut input);
    input
}

fn ask_for(input: &mut Input, tags: &str) {
    let annotations = input.service.metadata.annotations.as_mut().unwrap();
    annotations.insert(annotation::TAGS.to_owned(), tags.to_owned());
}

#[test]
fn device_made_by_its_first_key_needs_no_call() {
    assert!(plan(&logged_in(), &settings()).actions.is_empty());
}

#[test]
fn changed_tags_are_set_once_without_a_new_pod() {
    let mut input = logged_in();
    ask_for(&mut input, "tag:web,tag:prod");
    assert_eq!(settle(&mut input), ["set tags", "Secret"]);
    assert!(plan(&input, &settings()).actions.is_empty());
    ask_for(&mut input, "tag:prod, tag:web");
    assert!(
        plan(&input, &settings()).actions.is_empty(),
        "the same set in another order"
    );
}

#[test]
fn tags_of_a_device_that_the_api_does_not_know_are_tried_again_in_a_minute_and_refused_ones_are_not() {
    let mut input = logged_in();
    ask_for(&mut input, "tag:web");
    assert_eq!(plan(&input, &settings()).again_after, Some(CHECK));
    input.tagged = Some(vec!["tag:web".to_owned()]);
    assert_eq!(plan(&input, &settings()).again_after, None);
    input.tagged = None;
    input.problem = Some(ControlProblem {
        message: "tag:web is not yours".to_owned(),
        of_tailnet: true,
        refused: false,
    });
    assert_eq!(plan(&input, &settings()).again_after, None);
}

#[test]
fn refused_tags_hold_up_nothing_else() {
    let mut input = logged_in();
    ask_for(&mut input, "tag:web");
    input.service.spec.as_mut().unwrap().cluster_ip = Some("10.96.0.8".to_owned());
    let actions = plan(&input, &settings()).actions;
    assert!(
        matches!(actions.as_slice(), [Action::Apply(_), Action::SetDeviceTags { .. }]),
        "{actions:?}"
    );
}

#[test]
fn tags_changed_before_the_login_get_another_key_and_are_set_to_be_sure() {
    let mut input = input(exposed());
    settle(&mut input);
    ask_for(&mut input, "tag:web");
    let actions = plan(&input, &settings()).actions;
    assert!(
        matches!(actions.as_slice(), [Action::MintAuthKey(wanted)] if wanted.tags == ["tag:web"]),
        "{actions:?}"
    );
    let mut minted = crate::service_proxy::test_objects::minted();
    minted.id = "k2".to_owned();
    minted.tags = "tag:web".to_owned();
    input.minted = Some(minted);
    assert_eq!(settle(&mut input), ["Secret", "revoke"]);
    // The proxy may have used the key before it was revoked.
    come_up(&mut input, &ingress_wanted());
    assert_eq!(settle(&mut input), ["Secret", "set tags", "Secret"]);
    assert!(plan(&input, &settings()).actions.is_empty());
}

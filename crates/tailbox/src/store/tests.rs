use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::credentials::new_credential;
use crate::state::AuthKeySpec;

fn changed_state() -> State {
    let mut state = State::default();
    state.add_auth_key(
        &new_credential(),
        AuthKeySpec::default(),
        "2026-11-22T10:00:00Z".parse().unwrap(),
    );
    state
}

#[test]
fn state_and_server_key_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let (store, _) = Store::open(Some(&path)).unwrap();
    let state = changed_state();
    store.save(&state).unwrap();
    let key = store.machine_key().clone();
    drop(store);

    let (store, read) = Store::open(Some(&path)).unwrap();
    assert_eq!(read, state);
    assert_eq!(store.machine_key(), &key);
}

#[test]
fn state_file_is_readable_by_its_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let (store, _) = Store::open(Some(&path)).unwrap();
    store.save(&changed_state()).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn corrupt_state_file_is_refused_and_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    for content in ["", "{\"format\":\"isthmus-tailbox\",\"version\":1,\"mach", "{}", "[]"] {
        fs::write(&path, content).unwrap();
        let error = Store::open(Some(&path)).unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{content}: {error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
    }
}

#[test]
fn snapshot_cut_at_any_byte_is_refused_and_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let (store, _) = Store::open(Some(&path)).unwrap();
    store.save(&changed_state()).unwrap();
    drop(store);
    let whole = fs::read(&path).unwrap();
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let error = Store::open(Some(&path)).unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "cut at {length}: {error}");
        assert_eq!(fs::read(&path).unwrap(), &whole[..length]);
    }
    fs::write(&path, &whole).unwrap();
    assert_eq!(Store::open(Some(&path)).unwrap().1.auth_keys.len(), 1);
}

#[test]
fn save_that_fails_leaves_the_state_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let (store, _) = Store::open(Some(&path)).unwrap();
    let state = changed_state();
    store.save(&state).unwrap();
    // A folder in the way of the file: nothing can take its place.
    let away = folder.path().join("away.json");
    fs::rename(&path, &away).unwrap();
    fs::create_dir_all(path.join("occupied")).unwrap();
    assert!(matches!(store.save(&State::default()), Err(StoreError::Write { .. })));
    let left = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 3, "state, lock and obstacle, and nothing half written");
    fs::remove_dir_all(&path).unwrap();
    fs::rename(&away, &path).unwrap();
    drop(store);
    assert_eq!(Store::open(Some(&path)).unwrap().1, state);
}

#[test]
fn state_file_of_a_later_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    fs::write(
        &path,
        r#"{"format":"isthmus-tailbox","version":2,"machine_key":"x","state":{"other":1}}"#,
    )
    .unwrap();
    assert!(matches!(
        Store::open(Some(&path)).unwrap_err(),
        StoreError::Version { found: 2, .. }
    ));
}

#[test]
fn interrupted_write_leaves_the_old_state() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let (store, _) = Store::open(Some(&path)).unwrap();
    let state = changed_state();
    store.save(&state).unwrap();
    drop(store);
    // What a crash before the rename leaves behind.
    fs::write(folder.path().join(".tailbox-abc"), "{\"format\":\"isthmus-").unwrap();
    assert_eq!(Store::open(Some(&path)).unwrap().1, state);
}

#[test]
fn second_process_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let (_store, _) = Store::open(Some(&path)).unwrap();
    assert!(matches!(
        Store::open(Some(&path)).unwrap_err(),
        StoreError::Locked { .. }
    ));
}

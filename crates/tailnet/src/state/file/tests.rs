use std::os::unix::fs::PermissionsExt;

use super::*;

fn change(key: &str, value: Option<&[u8]>) -> StateChanges {
    StateChanges::from([(key.to_owned(), value.map(<[u8]>::to_vec))])
}

#[tokio::test]
async fn state_survives_in_a_private_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new").join("state.json");
    let store = FileStore::new(&path);
    assert!(store.load().await.unwrap().is_empty());
    store.store(change("_machinekey", Some(b"privkey:1"))).await.unwrap();
    store.store(change("other", Some(&[0, 255]))).await.unwrap();
    store.store(change("gone", Some(b"x"))).await.unwrap();
    store.store(change("gone", None)).await.unwrap();

    let again = FileStore::new(&path).load().await.unwrap();
    let expected = [
        ("_machinekey".to_owned(), b"privkey:1".to_vec()),
        ("other".to_owned(), vec![0, 255]),
    ];
    assert_eq!(again, StateValues::from(expected));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn damaged_file_is_an_error_and_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    fs::write(&path, b"{\"a\":").unwrap();
    let store = FileStore::new(&path);
    let error = store.load().await.unwrap_err();
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    assert!(store.store(change("a", None)).await.is_err());
    assert_eq!(fs::read(&path).unwrap(), b"{\"a\":");
}

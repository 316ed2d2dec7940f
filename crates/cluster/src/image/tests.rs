use std::io::Read;

use super::*;

fn small() -> Image {
    let mut image = Image::new("isthmus.local/small:1", &["/tool"]);
    image.add_content("/tool", 0o755, "#!program").unwrap();
    image.add_content("/etc/settings/name", 0o644, "x").unwrap();
    image.add_folder("/tmp", 0o1777).unwrap();
    image.add_link("/bin/sh", "/tool").unwrap();
    image
}

fn read_file(archive: &[u8], name: &str) -> Vec<u8> {
    let mut archive = tar::Archive::new(archive);
    let mut entry = archive
        .entries()
        .unwrap()
        .map(Result::unwrap)
        .find(|entry| entry.path().unwrap() == Path::new(name))
        .unwrap();
    let mut content = Vec::new();
    entry.read_to_end(&mut content).unwrap();
    content
}

#[test]
fn same_input_gives_the_same_bytes() {
    assert_eq!(small().render().unwrap(), small().render().unwrap());
}

#[test]
fn order_of_adding_does_not_matter() {
    let mut image = Image::new("isthmus.local/small:1", &["/tool"]);
    image.add_link("/bin/sh", "/tool").unwrap();
    image.add_folder("/tmp", 0o1777).unwrap();
    image.add_content("/etc/settings/name", 0o644, "x").unwrap();
    image.add_content("/tool", 0o755, "#!program").unwrap();
    assert_eq!(image.render().unwrap(), small().render().unwrap());
}

#[test]
fn every_digest_is_the_hash_of_its_blob() {
    let (archive, digest) = small().render().unwrap();
    let index: Value = serde_json::from_slice(&read_file(&archive, "index.json")).unwrap();
    assert_eq!(index["manifests"][0]["digest"], digest);
    let manifest_blob = read_file(&archive, &blob_path(digest.strip_prefix("sha256:").unwrap()));
    let manifest: Value = serde_json::from_slice(&manifest_blob).unwrap();
    for part in [&manifest["config"], &manifest["layers"][0]] {
        let hash = part["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        let blob = read_file(&archive, &blob_path(hash));
        assert_eq!(sha256(&blob), hash);
        assert_eq!(part["size"], blob.len());
    }
}

#[test]
fn layer_says_nothing_about_when_and_by_whom_it_was_made() {
    let layer = small().render_layer().unwrap();
    let mut archive = tar::Archive::new(layer.as_slice());
    let mut paths = Vec::new();
    for entry in archive.entries().unwrap() {
        let entry = entry.unwrap();
        assert_eq!(
            (
                entry.header().mtime().unwrap(),
                entry.header().uid().unwrap(),
                entry.header().gid().unwrap()
            ),
            (0, 0, 0)
        );
        paths.push(entry.path().unwrap().display().to_string());
    }
    assert_eq!(
        paths,
        [
            "bin",
            "bin/sh",
            "etc",
            "etc/settings",
            "etc/settings/name",
            "tmp",
            "tool"
        ]
    );
}

#[test]
fn path_that_climbs_up_is_refused() {
    let mut image = Image::new("isthmus.local/small:1", &["/tool"]);
    assert!(image.add_content("/../etc/passwd", 0o644, "").is_err());
    assert!(image.add_content("etc/passwd", 0o644, "").is_err());
}

#[test]
fn name_without_a_registry_is_completed_as_a_kubelet_does() {
    assert_eq!(complete_reference("isthmus:dev"), "docker.io/library/isthmus:dev");
    assert_eq!(complete_reference("me/isthmus:dev"), "docker.io/me/isthmus:dev");
    assert_eq!(complete_reference("isthmus.local/pause:1"), "isthmus.local/pause:1");
    assert_eq!(complete_reference("localhost/isthmus:1"), "localhost/isthmus:1");
}

use super::*;

#[test]
fn version_is_found_among_the_requirements() {
    let manifest =
        "module x\n\nrequire (\n\tk8s.io/kubernetes-extra v9.9.9\n\tk8s.io/kubernetes v1.36.3 // indirect\n)\n";
    assert_eq!(required_version(manifest, "k8s.io/kubernetes"), Some("v1.36.3"));
}

#[test]
fn another_compiler_gives_another_name() {
    let sources = sources_folder();
    assert_ne!(
        hash_sources(&sources, "go1.26.8").unwrap(),
        hash_sources(&sources, "go1.27.0").unwrap()
    );
}

//! Keys and certificates: which ones a cluster needs, and their making.
//!
//! All keys are new at every start and live as long as the cluster.

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};

/// The group that the API server's client certificate for kubelets is in; a binding in the base manifests names it.
pub(crate) const KUBELET_ADMINS: &str = "isthmus:kubelet-admins";

/// One certificate to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    /// The name of the files, without `.crt` and `.key`.
    pub(crate) file: String,
    pub(crate) common_name: String,
    pub(crate) organization: Option<String>,
    pub(crate) purpose: Purpose,
    pub(crate) dns_names: Vec<String>,
    pub(crate) addresses: Vec<IpAddr>,
}

/// What a certificate is for, and so which authority signs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Client,
    Server,
    /// A client of aggregated API servers, signed by an authority of its own.
    FrontProxy,
}

impl Leaf {
    pub(crate) fn client(file: &str, common_name: &str, organization: Option<&str>) -> Self {
        Self {
            file: file.to_owned(),
            common_name: common_name.to_owned(),
            organization: organization.map(str::to_owned),
            purpose: Purpose::Client,
            dns_names: Vec::new(),
            addresses: Vec::new(),
        }
    }

    fn server(
        file: &str,
        common_name: &str,
        organization: Option<&str>,
        dns_names: Vec<String>,
        addresses: Vec<IpAddr>,
    ) -> Self {
        Self {
            purpose: Purpose::Server,
            dns_names,
            addresses,
            ..Self::client(file, common_name, organization)
        }
    }
}

/// The certificates of an API server and its administrator.
pub(crate) fn plan_api_server(cluster_domain: &str, addresses: Vec<IpAddr>) -> Vec<Leaf> {
    let names = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
    ];
    let mut dns_names: Vec<String> = names.map(str::to_owned).into();
    dns_names.push(format!("kubernetes.default.svc.{cluster_domain}"));
    vec![
        Leaf::server("apiserver", "kube-apiserver", None, dns_names, addresses),
        Leaf {
            purpose: Purpose::FrontProxy,
            ..Leaf::client("front-client", "front-proxy-client", None)
        },
        Leaf::client("kubelet-client", "kube-apiserver-kubelet-client", Some(KUBELET_ADMINS)),
        Leaf::client("admin", "admin", Some("system:masters")),
    ]
}

/// The certificates of the controllers that run beside the API server and on the nodes.
pub(crate) fn plan_controllers() -> Vec<Leaf> {
    ["kube-controller-manager", "kube-scheduler", "kube-proxy"]
        .map(|name| Leaf::client(name, &format!("system:{name}"), None))
        .into()
}

/// The certificates of a kubelet: as a client and as a server.
pub(crate) fn plan_node(node: &str, addresses: Vec<IpAddr>) -> Vec<Leaf> {
    let common_name = format!("system:node:{node}");
    let organization = Some("system:nodes");
    vec![
        Leaf::client(node, &common_name, organization),
        Leaf::server(
            &format!("{node}-serving"),
            &common_name,
            organization,
            vec![node.to_owned()],
            addresses,
        ),
    ]
}

/// Makes the authorities, the certificates and the key pair of ServiceAccount tokens as files of this folder.
pub(crate) fn write_all(folder: &Path, plan: &[Leaf]) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let cluster = new_authority("kubernetes-ca")?;
    let front = new_authority("front-proxy-ca")?;
    for (file, authority) in [("ca", &cluster), ("front-ca", &front)] {
        write_file(folder, &format!("{file}.crt"), &authority.pem())?;
        write_file(folder, &format!("{file}.key"), &authority.key().serialize_pem())?;
    }
    for leaf in plan {
        let issuer = if leaf.purpose == Purpose::FrontProxy {
            &front
        } else {
            &cluster
        };
        let key = KeyPair::generate().context("make a key")?;
        let certificate = certificate_params(leaf)?
            .signed_by(&key, issuer)
            .with_context(|| format!("sign the certificate of {}", leaf.file))?;
        write_file(folder, &format!("{}.crt", leaf.file), &certificate.pem())?;
        write_file(folder, &format!("{}.key", leaf.file), &key.serialize_pem())?;
    }
    let tokens = KeyPair::generate().context("make the key of ServiceAccount tokens")?;
    write_file(folder, "sa.key", &tokens.serialize_pem())?;
    write_file(folder, "sa.pub", &tokens.public_key_pem())
}

/// A kubeconfig that holds everything it needs, for the client certificate of this name.
pub(crate) fn build_kubeconfig(folder: &Path, cluster: &str, server: &str, user: &str) -> Result<String> {
    let encoded = |file: String| -> Result<String> {
        let path = folder.join(file);
        Ok(BASE64_STANDARD.encode(fs::read(&path).with_context(|| format!("read {}", path.display()))?))
    };
    let (authority, certificate, key) = (
        encoded("ca.crt".to_owned())?,
        encoded(format!("{user}.crt"))?,
        encoded(format!("{user}.key"))?,
    );
    Ok(format!(
        "apiVersion: v1
kind: Config
clusters:
- name: {cluster}
  cluster:
    server: {server}
    certificate-authority-data: {authority}
users:
- name: {user}
  user:
    client-certificate-data: {certificate}
    client-key-data: {key}
contexts:
- name: {cluster}
  context:
    cluster: {cluster}
    user: {user}
current-context: {cluster}
"
    ))
}

/// Writes a file that only its owner may read.
pub(crate) fn write_secret_file(path: &Path, text: &str) -> Result<()> {
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("write {}", path.display()))
}

fn write_file(folder: &Path, file: &str, text: &str) -> Result<()> {
    write_secret_file(&folder.join(file), text)
}

fn new_authority(common_name: &str) -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    let key = KeyPair::generate().context("make a key")?;
    CertifiedIssuer::self_signed(params, key).with_context(|| format!("make the authority {common_name}"))
}

fn certificate_params(leaf: &Leaf) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(leaf.dns_names.clone())
        .with_context(|| format!("name the certificate of {}", leaf.file))?;
    params
        .subject_alt_names
        .extend(leaf.addresses.iter().copied().map(SanType::IpAddress));
    params.distinguished_name = DistinguishedName::new();
    if let Some(organization) = &leaf.organization {
        params
            .distinguished_name
            .push(DnType::OrganizationName, organization.as_str());
    }
    params
        .distinguished_name
        .push(DnType::CommonName, leaf.common_name.as_str());
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![match leaf.purpose {
        Purpose::Client | Purpose::FrontProxy => ExtendedKeyUsagePurpose::ClientAuth,
        Purpose::Server => ExtendedKeyUsagePurpose::ServerAuth,
    }];
    Ok(params)
}

#[cfg(test)]
mod tests;

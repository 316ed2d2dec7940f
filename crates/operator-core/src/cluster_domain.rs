//! The cluster's DNS domain, found in a Pod's resolver configuration.

/// The domain a cluster has when nobody chose one.
pub const DEFAULT: &str = "cluster.local";

/// Finds the domain in the text of `/etc/resolv.conf` of a Pod in `namespace`: the kubelet writes the search list
/// `<namespace>.svc.<domain> svc.<domain> <domain> …`. `None` when the list does not begin like that.
pub fn from_resolv_conf(text: &str, namespace: &str) -> Option<String> {
    // The last search line wins, as in the resolver.
    let search = text.lines().rev().find_map(|line| line.trim().strip_prefix("search"))?;
    let mut names = search.split_whitespace().map(|name| name.trim_end_matches('.'));
    let (own, services, domain) = (names.next()?, names.next()?, names.next()?);
    let fits = services.strip_prefix("svc.") == Some(domain)
        && own.strip_prefix(namespace).and_then(|rest| rest.strip_prefix('.')) == Some(services);
    fits.then(|| domain.to_owned())
}

#[cfg(test)]
mod tests;

//! Which class a Service's proxy has.

use std::collections::BTreeMap;

use isthmus_contract::annotation;
use k8s_openapi::api::core::v1::Service;

use super::{ProxyClass, ProxyClassSpec, status};
use crate::settings::Settings;

/// The class of a proxy, as far as it can be used.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Choice {
    /// None was named.
    #[default]
    Without,
    /// This one.
    Ready(Box<ProxyClassSpec>),
    /// One that cannot be used now: one line that says what is waited for.
    Waiting(String),
}

/// The name of the class that `service` asks for: its label, else its annotation, else the operator's default.
pub fn chosen_name<'a>(service: &'a Service, settings: &'a Settings) -> Option<&'a str> {
    chosen(service, settings).map(|(_, name)| name)
}

fn chosen<'a>(service: &'a Service, settings: &'a Settings) -> Option<(&'static str, &'a str)> {
    let metadata = &service.metadata;
    let named = |map: Option<&'a BTreeMap<String, String>>| {
        let name = map?.get(annotation::PROXY_CLASS)?.trim();
        (!name.is_empty()).then_some(name)
    };
    let label = named(metadata.labels.as_ref()).map(|name| ("label tailscale.com/proxy-class", name));
    let annotation = || named(metadata.annotations.as_ref()).map(|name| ("annotation tailscale.com/proxy-class", name));
    let default = || {
        Some((
            "the operator's PROXY_DEFAULT_CLASS",
            settings.proxy_default_class.as_deref()?,
        ))
    };
    label.or_else(annotation).or_else(default)
}

impl Choice {
    /// The choice of `service`; `find` looks a class up by its name.
    pub fn of<F, C>(service: &Service, settings: &Settings, find: F) -> Self
    where
        F: FnOnce(&str) -> Option<C>,
        C: AsRef<ProxyClass>,
    {
        let Some((source, name)) = chosen(service, settings) else {
            return Self::Without;
        };
        let Some(class) = find(name) else {
            return Self::Waiting(format!(
                "{source}: ProxyClass {name} does not exist; create it or name another"
            ));
        };
        let class = class.as_ref();
        if status::is_ready(class) {
            return Self::Ready(Box::new(class.spec.clone()));
        }
        let why = status::fault(class).unwrap_or("the operator has not judged it yet");
        Self::Waiting(format!("{source}: ProxyClass {name} is not ready: {why}"))
    }

    /// The class, when it can be used.
    pub fn spec(&self) -> Option<&ProxyClassSpec> {
        match self {
            Self::Ready(spec) => Some(spec),
            Self::Without | Self::Waiting(_) => None,
        }
    }

    /// What is waited for.
    pub fn waiting(&self) -> Option<&str> {
        match self {
            Self::Waiting(why) => Some(why),
            Self::Without | Self::Ready(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;

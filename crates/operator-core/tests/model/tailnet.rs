//! The tailnet: keys, devices, and an API that has its troubles.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use isthmus_testkit::story::Trouble;

/// Seconds an auth key lives, whatever was asked for.
const LIFE: i64 = 3600;

/// What an error of the API means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    NotFound,
    Credentials,
    RateLimited,
    Refused,
    Unavailable,
}

#[derive(Default)]
pub(crate) struct Tailnet {
    /// Auth keys that are good for one device, by their id, which is the key as well.
    pub(crate) keys: BTreeMap<String, Key>,
    pub(crate) devices: BTreeMap<String, Device>,
    trouble: Option<(Trouble, u8)>,
    /// The credentials are refused for good.
    pub(crate) refuses: bool,
    /// Calls so far.
    pub(crate) calls: u64,
    /// Changes so far.
    pub(crate) changes: u64,
    next: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) description: String,
    tags: Vec<String>,
    ends: i64,
}

#[derive(Clone, Debug)]
pub(crate) struct Device {
    pub(crate) machine: String,
    pub(crate) hostname: String,
    pub(crate) tags: BTreeSet<String>,
    pub(crate) address: IpAddr,
}

impl Tailnet {
    pub(crate) fn meets(&mut self, trouble: Trouble, calls: u8) {
        self.trouble = Some((trouble, calls));
    }

    pub(crate) fn heal(&mut self) {
        self.trouble = None;
    }

    /// Lets a call in; its effect may be lost on the way back. `may_miss`: whether 404 can be true.
    fn admit(&mut self, may_miss: bool) -> Result<Result<(), Class>, Class> {
        self.calls += 1;
        if self.refuses {
            return Err(Class::Credentials);
        }
        let trouble = match &mut self.trouble {
            None | Some((_, 0)) => return Ok(Ok(())),
            Some((trouble, left)) => {
                *left -= 1;
                *trouble
            }
        };
        match trouble {
            Trouble::NotFound if !may_miss => Ok(Ok(())),
            Trouble::NotFound => Err(Class::NotFound),
            Trouble::Server => Err(Class::Unavailable),
            Trouble::Lost => Ok(Err(Class::Unavailable)),
            Trouble::TooMany => Err(Class::RateLimited),
            Trouble::Credentials => Err(Class::Credentials),
        }
    }

    pub(crate) fn make_key(&mut self, tags: &[String], description: &str, now: i64) -> Result<String, Class> {
        let answer = self.admit(true)?;
        allowed(tags)?;
        self.next += 1;
        let id = format!("k{}", self.next);
        let key = Key {
            description: description.to_owned(),
            tags: tags.to_vec(),
            ends: now + LIFE,
        };
        self.keys.insert(id.clone(), key);
        self.changes += 1;
        answer.map(|()| id)
    }

    pub(crate) fn list_keys(&mut self) -> Result<BTreeMap<String, Key>, Class> {
        self.admit(true)?.map(|()| self.keys.clone())
    }

    pub(crate) fn delete_key(&mut self, id: &str) -> Result<(), Class> {
        let answer = self.admit(false)?;
        let found = self.keys.remove(id);
        self.changes += u64::from(found.is_some());
        answer.and(found.map(drop).ok_or(Class::NotFound))
    }

    pub(crate) fn delete_device(&mut self, id: &str) -> Result<(), Class> {
        let answer = self.admit(false)?;
        let found = self.devices.remove(id);
        self.changes += u64::from(found.is_some());
        answer.and(found.map(drop).ok_or(Class::NotFound))
    }

    pub(crate) fn devices_of_machine(&mut self, machine: &str) -> Result<Vec<String>, Class> {
        self.admit(false)??;
        let of_machine = self.devices.iter().filter(|(_, device)| device.machine == machine);
        Ok(of_machine.map(|(id, _)| id.clone()).collect())
    }

    pub(crate) fn set_tags(&mut self, id: &str, tags: &[String]) -> Result<(), Class> {
        let answer = self.admit(true)?;
        allowed(tags)?;
        let device = self.devices.get_mut(id).ok_or(Class::NotFound)?;
        self.changes += 1;
        device.tags = tags.iter().cloned().collect();
        answer
    }

    /// Ends the keys whose time is over.
    pub(crate) fn expire(&mut self, now: i64) {
        self.keys.retain(|_, key| key.ends > now);
    }

    /// The device of a machine; made with the key when there is none and the key is good.
    pub(crate) fn log_in(&mut self, machine: &str, key: Option<&str>, hostname: &str) -> Option<String> {
        if let Some((id, device)) = self.devices.iter_mut().find(|(_, device)| device.machine == machine) {
            hostname.clone_into(&mut device.hostname);
            return Some(id.clone());
        }
        let key = self.keys.remove(key?)?;
        self.next += 1;
        let id = format!("n{}", self.next);
        let [high, low] = u16::try_from(self.next).unwrap().to_be_bytes();
        let device = Device {
            machine: machine.to_owned(),
            hostname: hostname.to_owned(),
            tags: key.tags.into_iter().collect(),
            address: [100, 100, high, low].into(),
        };
        self.devices.insert(id.clone(), device);
        self.changes += 1;
        Some(id)
    }
}

fn allowed(tags: &[String]) -> Result<(), Class> {
    if tags.iter().any(|tag| tag == "tag:forbidden") {
        Err(Class::Refused)
    } else {
        Ok(())
    }
}

//! Two machines with one AgentId.
//!
//! An image that is copied after its node registered makes two nodes that the protocol cannot tell
//! apart: each fetches what the other should have, and their reports are one history. What gives them
//! away is that they alternate: a name, a certificate or a set of addresses that was replaced comes
//! back, again and again. A computer that is renamed, has a new certificate or moves to another
//! network does that once.

use crate::protocol::{AgentInformation, CertificateInformation};
use crate::report::ReportSummary;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;

/// How long a value that was replaced counts.
const WINDOW: SignedDuration = SignedDuration::from_hours(24);

/// How many times a value must come back within the window.
const RETURNS: usize = 2;

/// The most values that are kept of each sign.
const VALUES_MAX: usize = 16;

/// The longest value that is kept, in characters.
const VALUE_CHARACTERS_MAX: usize = 256;

/// What two machines with one AgentId differ in.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum CloneSign {
    /// The computer's name, of registrations and reports.
    NodeName,
    /// The thumbprint of the certificate, of registrations.
    Certificate,
    /// Its addresses, of registrations and reports: no one of them in common.
    Address,
}

/// Why a node may be two machines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CloneSuspicion {
    /// What alternates.
    pub sign: CloneSign,
    /// What it was seen with last.
    pub now: String,
    /// What it was seen with in between.
    pub before: String,
}

/// What a node was seen with, the newest last; the same twice is kept once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Sightings {
    names: VecDeque<(Timestamp, String)>,
    certificates: VecDeque<(Timestamp, String)>,
    addresses: VecDeque<(Timestamp, String)>,
}

impl Sightings {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Notes a registration.
    pub(super) fn registered(
        &mut self,
        time: Timestamp,
        agent: &AgentInformation,
        certificate: &CertificateInformation,
    ) {
        note(&mut self.names, time, name(&agent.node_name), is_same);
        note(&mut self.certificates, time, certificate.thumbprint.to_uppercase(), is_same);
        note(&mut self.addresses, time, addresses(&agent.ip_address), has_common);
    }

    /// Notes a report.
    pub(super) fn reported(&mut self, time: Timestamp, summary: &ReportSummary) {
        let of = |field: &Option<String>, read: fn(&str) -> String| {
            field.as_deref().map(read).unwrap_or_default()
        };
        note(&mut self.names, time, of(&summary.node_name, name), is_same);
        note(&mut self.addresses, time, of(&summary.ip_address, addresses), has_common);
    }

    /// What speaks for two machines now.
    pub(super) fn suspicion(&self, now: Timestamp) -> Option<CloneSuspicion> {
        let of = |sign, seen: &VecDeque<(Timestamp, String)>, is_same: fn(&str, &str) -> bool| {
            alternates(seen, now, is_same).then(|| {
                let mut newest = seen.iter().rev().map(|(_, value)| value.clone());
                let mut next = || newest.next().unwrap_or_default();
                CloneSuspicion { sign, now: next(), before: next() }
            })
        };
        of(CloneSign::Certificate, &self.certificates, is_same)
            .or_else(|| of(CloneSign::NodeName, &self.names, is_same))
            .or_else(|| of(CloneSign::Address, &self.addresses, has_common))
    }
}

/// The first label of a name: some clients send the whole, some not.
fn name(text: &str) -> String {
    let label = text.trim().split('.').next().unwrap_or_default();
    label.to_lowercase().chars().take(VALUE_CHARACTERS_MAX).collect()
}

/// The addresses that say where a computer is, in order; those of every computer left out.
fn addresses(text: &str) -> String {
    let is_telling = |address: &IpAddr| match address {
        IpAddr::V4(v4) => !(v4.is_loopback() || v4.is_link_local() || v4.is_unspecified()),
        IpAddr::V6(v6) => !(v6.is_loopback() || v6.is_unspecified() || v6.is_unicast_link_local()),
    };
    let parsed = text.split([';', ',']).filter_map(|part| part.trim().parse::<IpAddr>().ok());
    let telling: BTreeSet<IpAddr> = parsed.filter(is_telling).take(VALUES_MAX).collect();
    let mut shown = String::new();
    for address in telling {
        let separator = if shown.is_empty() { "" } else { ";" };
        shown.push_str(&format!("{separator}{address}"));
    }
    shown
}

fn is_same(one: &str, other: &str) -> bool {
    one == other
}

/// Whether two lists of addresses may be one computer's.
fn has_common(one: &str, other: &str) -> bool {
    one.split(';').any(|address| other.split(';').any(|found| found == address))
}

/// Notes a value, if there is one.
fn note(
    seen: &mut VecDeque<(Timestamp, String)>,
    time: Timestamp,
    value: String,
    is_same: fn(&str, &str) -> bool,
) {
    if value.is_empty() {
        return;
    }
    if let Some((last, known)) = seen.back_mut()
        && is_same(known, &value)
    {
        (*last, *known) = (time, value);
        return;
    }
    if seen.len() == VALUES_MAX {
        seen.pop_front();
    }
    seen.push_back((time, value));
}

/// Whether values that were replaced came back often enough.
fn alternates(
    seen: &VecDeque<(Timestamp, String)>,
    now: Timestamp,
    is_same: fn(&str, &str) -> bool,
) -> bool {
    let recent: Vec<&str> = seen
        .iter()
        .filter(|(time, _)| now.duration_since(*time) <= WINDOW)
        .map(|(_, value)| value.as_str())
        .collect();
    let came_back = |index: &usize| {
        let earlier = index.checked_sub(1).map(|last| &recent[..last]);
        earlier.is_some_and(|earlier| earlier.iter().any(|value| is_same(value, recent[*index])))
    };
    (0..recent.len()).filter(came_back).count() >= RETURNS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minutes)
    }

    /// The suspicion after registrations of these names, one each so many minutes.
    fn seen(names: &[&str], minutes: i64) -> Option<CloneSuspicion> {
        let (mut sightings, mut now) = (Sightings::default(), at(0));
        for (name, turn) in names.iter().zip(0..) {
            now = at(turn * minutes);
            let agent = AgentInformation { node_name: (*name).into(), ..Default::default() };
            sightings.registered(now, &agent, &CertificateInformation::default());
        }
        sightings.suspicion(now)
    }

    #[test]
    fn a_name_that_comes_back_twice_in_a_day_is_two_machines() {
        let expected = |now: &str, before: &str| {
            let (now, before) = (now.to_owned(), before.to_owned());
            Some(CloneSuspicion { sign: CloneSign::NodeName, now, before })
        };
        assert_eq!(seen(&["a", "b", "a", "b"], 30), expected("b", "a"));
        assert_eq!(seen(&["a", "a", "b", "b", "a", "a", "b"], 30), expected("b", "a"));
        assert_eq!(seen(&["a", "b", "c", "a", "b"], 30), expected("b", "a"));
        for innocent in [
            &["a", "b"][..],
            &["a", "b", "b", "b"],
            &["a", "b", "a"],
            &["a", "b", "c", "d", "e"],
            &["pc", "PC.example.org", "pc", "PC"],
            &["a", "", "a", "", "a"],
        ] {
            assert_eq!(seen(innocent, 30), None, "{innocent:?}");
        }
        assert_eq!(seen(&["a", "b", "a", "b", "a", "b"], 24 * 60), None, "one a day");
    }

    #[test]
    fn addresses_must_have_nothing_in_common() {
        let mut sightings = Sightings::default();
        let mut after = |addresses: &[&str]| {
            sightings = Sightings::default();
            for address in addresses {
                let ip_address = (*address).to_owned();
                let agent = AgentInformation { ip_address, ..Default::default() };
                sightings.registered(at(0), &agent, &CertificateInformation::default());
            }
            sightings.suspicion(at(0)).map(|found| found.sign)
        };
        let (one, two) = ("10.0.0.1;127.0.0.1;fe80::1%4", "10.0.0.2;::1;127.0.0.1");
        assert_eq!(after(&[one, two, one, two]), Some(CloneSign::Address));
        // A second network comes and goes.
        let both = "10.0.0.1;192.168.7.7";
        assert_eq!(after(&[one, both, one, both, one]), None);
        assert_eq!(after(&["127.0.0.1", "::1", "127.0.0.1", "::1", "x;;"]), None);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut sightings = Sightings::default();
        for number in 0..1_000 {
            let agent = AgentInformation {
                node_name: format!("{number}{}", "x".repeat(1_000)),
                ip_address: format!("10.0.{}.{}", number / 256, number % 256),
                ..Default::default()
            };
            sightings.registered(at(number), &agent, &CertificateInformation::default());
        }
        let json = serde_json::to_string(&sightings).expect("JSON");
        assert!(json.len() < 10_000, "{}", json.len());
        assert_eq!(sightings.suspicion(at(1_000)), None);
    }
}

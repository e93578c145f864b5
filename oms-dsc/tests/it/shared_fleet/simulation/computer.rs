//! Computers: what each wants of the servers, and what it makes of their answers.

use super::audit::RESOURCE;
use super::known::{Known, given};
use super::{COMPUTERS, Event, SERVERS, World};
use crate::registration_key::agent;
use crate::shared_fleet::{asks, rotates};
use jiff::Timestamp;
use oms_core::{Clock as _, Secret};
use oms_dsc::protocol::{AgentId, Operation, Reply, Request, auth};
use serde_json::json;
use std::time::Duration;

/// How long a computer waits for an answer.
const PATIENCE: Duration = Duration::from_secs(40);

/// How often a computer tries the same.
pub(super) const TRIES: usize = 3;

/// What a computer waits for an answer to.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) call: u64,
    pub(super) request: Request,
    pub(super) tries: usize,
}

/// What a computer knows of itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Computer {
    pub(super) certificate: String,
    /// What it wants to have next, until it is told that it has.
    pub(super) next: Option<String>,
    pub(super) is_registered: bool,
    pub(super) pending: Option<Pending>,
    /// Which of the world's keys it registers with.
    pub(super) key: usize,
    /// The run that it told the beginning of.
    pub(super) job: Option<u128>,
    /// Until when it is off.
    pub(super) asleep: Option<Timestamp>,
}

impl World {
    pub(super) fn agent_of(computer: usize) -> AgentId {
        agent(COMPUTERS[computer].1)
    }

    /// What TLS presents when this computer speaks.
    pub(super) fn presents(&self, computer: usize) -> Option<String> {
        COMPUTERS[computer].2.then(|| self.computers[computer].certificate.clone())
    }

    pub(super) fn registration(&mut self, computer: usize) -> Request {
        let (name, _, _) = COMPUTERS[computer];
        let body = json!({
            "AgentInformation": {"LCMVersion": "2.0", "NodeName": name, "IPAddress": "10.0.0.1;"},
            "ConfigurationNames": ["Web"],
            "RegistrationInformation": {
                "CertificateInformation": {
                    "Thumbprint": self.computers[computer].certificate, "Version": 3,
                },
                "RegistrationMessageType": "ConfigurationRepository",
            },
        });
        let agent_id = Self::agent_of(computer);
        let mut request = Request::new(Operation::RegisterDscAgent { agent_id }, body.to_string());
        request.headers.certificate_thumbprint = self.presents(computer);
        self.sign(computer, &mut request);
        request
    }

    /// Signs a registration, perhaps anew.
    fn sign(&mut self, computer: usize, request: &mut Request) {
        // No two registrations of a world are of one instant: their signatures would be one.
        self.clock.advance(Duration::from_millis(1));
        let (id, key) = self.keys[self.computers[computer].key].clone();
        sign(request, &key, self.clock.now());
        self.book.sent(Self::agent_of(computer), request, id);
        self.seen.push(request.clone());
    }

    pub(super) fn report(&mut self, computer: usize) -> Request {
        let (begun, is_end) = (self.computers[computer].job.take(), self.sim.chance(700));
        let job = begun.unwrap_or_else(|| {
            self.jobs += 1;
            self.jobs
        });
        let mut body = json!({
            "JobId": uuid::Uuid::from_u128(job), "OperationType": "Consistency",
            "NodeName": COMPUTERS[computer].0,
        });
        if begun.is_some() || is_end {
            let key = match self.sim.chance(500) {
                true => "ResourcesInDesiredState",
                false => "ResourcesNotInDesiredState",
            };
            let data = json!({ key: [{"ResourceId": RESOURCE, "ResourceName": "Cell"}] });
            body["Status"] = "Success".into();
            body["EndTime"] = self.clock.now().to_string().into();
            body["StatusData"] = json!([data.to_string()]);
        } else {
            self.computers[computer].job = Some(job);
            body["StartTime"] = self.clock.now().to_string().into();
        }
        let operation = Operation::SendReport { agent_id: Self::agent_of(computer) };
        Request::new(operation, body.to_string())
    }

    /// What a computer does next.
    fn request(&mut self, computer: usize) -> Request {
        if !self.computers[computer].is_registered || self.sim.chance(50) {
            if self.sim.chance(100) {
                // It was set up anew.
                let certificate = self.thumbprint();
                let this = &mut self.computers[computer];
                (this.certificate, this.next) = (certificate, None);
            }
            return self.registration(computer);
        }
        let mut request = match self.sim.below(8) {
            0 | 1 => {
                let new = self.thumbprint();
                let next = self.computers[computer].next.get_or_insert(new).clone();
                rotates(COMPUTERS[computer].1, &next, "")
            }
            2..4 => self.report(computer),
            4 => {
                let name = COMPUTERS[self.sim.below(4) as usize].0;
                let body = json!({"ResourceId": RESOURCE, "NodeNames": [name]});
                let agent_id = Self::agent_of(computer);
                Request::new(Operation::GetResourceState { agent_id }, body.to_string())
            }
            _ => asks(COMPUTERS[computer].1),
        };
        request.headers.certificate_thumbprint = self.presents(computer);
        request
    }

    pub(super) fn run(&mut self, computer: usize) {
        let this = &self.computers[computer];
        if this.pending.is_some() || this.asleep.is_some_and(|until| until > self.clock.now()) {
            return;
        }
        let request = self.request(computer);
        self.calls += 1;
        let pending = Pending { call: self.calls, request, tries: 0 };
        self.computers[computer].pending = Some(pending);
        self.send(computer);
    }

    /// Sends what is pending to either server, as what distributes the load does.
    fn send(&mut self, computer: usize) {
        let server = SERVERS[self.sim.below(2) as usize];
        let Some(pending) = &mut self.computers[computer].pending else { return };
        pending.tries += 1;
        let (call, request) = (pending.call, Box::new(pending.request.clone()));
        let name = COMPUTERS[computer].0;
        self.sim.send(name, server, Event::Ask { computer, call, request });
        self.sim.after(name, PATIENCE, Event::GiveUp { call });
    }

    /// Tries the same again: a report is told as it was, and a registration is signed anew.
    pub(super) fn gives_up(&mut self, computer: usize, call: u64) {
        let this = &mut self.computers[computer];
        let Some(mut pending) = this.pending.take_if(|pending| pending.call == call) else {
            return;
        };
        if pending.tries >= TRIES {
            return;
        }
        if matches!(pending.request.operation, Operation::RegisterDscAgent { .. }) {
            self.tally.signed_anew += u64::from(self.book.is_used(&pending.request));
            self.sign(computer, &mut pending.request);
        }
        // Answers to the tries before come too late.
        self.calls += 1;
        pending.call = self.calls;
        self.computers[computer].pending = Some(pending);
        self.send(computer);
    }

    pub(super) fn answered(&mut self, computer: usize, call: u64, reply: &Reply) {
        let this = &mut self.computers[computer];
        let Some(pending) = this.pending.take_if(|pending| pending.call == call) else { return };
        match (&pending.request.operation, reply.status) {
            // As good as no answer.
            (_, 500 | 503) => this.pending = Some(pending),
            (Operation::RegisterDscAgent { .. }, status) => {
                this.is_registered = status == 204;
                if status != 204 && !self.is_calm {
                    // Its operator gives it another key, perhaps a good one.
                    let last = self.keys.len() as u64 - 1;
                    let key = last - self.sim.below(4).min(last);
                    this.key = if self.sim.chance(300) { 0 } else { key as usize };
                }
            }
            (Operation::CertificateRotation { .. }, 201) => {
                this.certificate = given(&pending.request);
                this.next = None;
            }
            // Another one is in progress, which it does not know of: its operator has to help.
            (Operation::CertificateRotation { .. }, 409) => this.next = None,
            (_, 200) => {}
            (_, _refused) => {
                this.is_registered = false;
                this.next = None;
            }
        }
    }

    /// The certificate that a node's computer waits to be asked with, where it shows any.
    pub(super) fn awaited(&self, computer: usize, known: &Known) -> Option<String> {
        let presents = self.presents(computer)?;
        Some(known.next.clone().unwrap_or(presents))
    }
}

/// Whose request it says that it is.
pub(super) fn identity(request: &Request) -> AgentId {
    match request.operation {
        Operation::RegisterDscAgent { agent_id }
        | Operation::GetDscAction { agent_id }
        | Operation::SendReport { agent_id }
        | Operation::CertificateRotation { agent_id }
        | Operation::GetResourceState { agent_id } => agent_id,
        _ => panic!("no computer of this world sends {request:?}"),
    }
}

fn sign(request: &mut Request, key: &Secret, now: Timestamp) {
    let date = auth::x_ms_date(now);
    request.headers.authorization = Some(auth::authorization(key, &date, &request.body));
    request.headers.x_ms_date = Some(date);
}

//! What a machine does for clients: it plans a write as the API of records does, proposes it, and tells what came of it.

use vt_coordinator_core::{
    apply,
    command::Command,
    intent::{self, Attempt, Plan},
    member::{Input, ReadError, Token, WriteError},
    refusal::Refusal,
};
use vt_proto::epoch::Revision;

use super::{
    client::{self, Request, Told, What},
    host::Host,
    network::CLIENTS,
    operator,
    sabotage::Sabotage,
    world::{Happening, World},
};

/// A request that waits for its member.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    request: Request,
    /// A write that would be refused, if the group confirms that what the member knows is the newest.
    confirms: bool,
}

impl World {
    /// A client's request arrives; the member turns to it when it is awake.
    pub(super) fn request(&mut self, host: usize, request: Request) {
        if let Some(process) = &mut self.hosts[host].process {
            process.arrived.push(request);
            self.wake(host);
        }
    }

    /// The member turns to what has arrived.
    pub(super) fn serve(&mut self, host: usize) {
        let process = self.hosts[host].process.as_mut();
        let arrived = process.map(|process| std::mem::take(&mut process.arrived));
        for request in arrived.unwrap_or_default() {
            let Some(process) = &mut self.hosts[host].process else {
                return;
            };
            process.last_token += 1;
            let token = Token(process.last_token);
            let asked = Asked {
                request: request.clone(),
                confirms: false,
            };
            process.asked.insert(token, asked);
            match (&request.what, client::changes(&request.what)) {
                (What::Read(_), _) if self.sabotage == Some(Sabotage::SkipReadIndex) => {
                    let told = self.read(host, token);
                    self.tell(host, token, told);
                }
                (What::Read(_), _) => self.ask(host, token, false),
                // Records of keyspaces come with shards and replica sets, which nobody needs here.
                (What::Prepare, changes) => {
                    let command = Command::new(request.request_id, changes, Vec::new());
                    self.propose(host, token, command);
                }
                (What::Write(_), _) => self.write(host, token, &request, false),
            }
        }
    }

    fn ask(&mut self, host: usize, token: Token, of_leader: bool) {
        self.input(host, Input::Read { token, of_leader });
    }

    fn propose(&mut self, host: usize, token: Token, command: Command) {
        self.input(
            host,
            Input::Propose {
                token,
                command,
                deadline_ms: None,
            },
        );
    }

    /// Plans a write and goes on with what the plan says. Only a refusal is confirmed by the group before it is told.
    fn write(&mut self, host: usize, token: Token, request: &Request, confirmed: bool) {
        let Some(plan) = self.plan(host, request, confirmed) else {
            let status = self.hosts[host].status();
            let leader = status.and_then(|status| status.leader_address);
            let told = self.again(leader.as_deref());
            return self.tell(host, token, told);
        };
        match plan {
            Plan::Done(outcome) => {
                let told = self.told(outcome);
                self.tell(host, token, told);
            }
            Plan::Propose(command) => self.propose(host, token, command),
            Plan::Refuse(refusal) if confirmed => {
                let told = self.told(Err(refusal));
                self.tell(host, token, told);
            }
            Plan::Refuse(_) => {
                let process = self.hosts[host].process.as_mut();
                if let Some(asked) = process.and_then(|p| p.asked.get_mut(&token)) {
                    asked.confirms = true;
                    self.ask(host, token, true);
                }
            }
        }
    }

    /// Nothing where the member does not lead.
    fn plan(&self, host: usize, request: &Request, confirmed: bool) -> Option<Plan> {
        let machine = &self.hosts[host];
        let process = machine.process.as_ref().filter(|p| p.member.leads())?;
        let state = process.member.core().state();
        let forgets = self.sabotage == Some(Sabotage::ForgetConflicts);
        let attempt = Attempt {
            request_id: request.request_id.clone(),
            named: !forgets,
            confirmed,
        };
        let make = || {
            let changes = client::changes(&request.what);
            let now = machine.now(self.now_us);
            let command = intent::write_records(state, &changes, &request.request_id, now)?;
            if forgets {
                apply::check(state, &command)?;
            }
            Ok(command)
        };
        Some(intent::plan(state, &attempt, make))
    }

    /// What came of a proposal.
    pub(super) fn done(
        &mut self,
        host: usize,
        token: Token,
        outcome: Result<Revision, WriteError>,
    ) {
        let told = match outcome {
            Ok(revision) => self.told(Ok(revision)),
            Err(WriteError::Refused(refusal)) => self.told(Err(refusal)),
            Err(error) => {
                let id = self.hosts[host].id;
                self.note(|| format!("member {id} does not write: {error}"));
                match &error {
                    WriteError::NotLeader { leader } => self.again(leader.as_deref()),
                    _ => self.again(None),
                }
            }
        };
        self.tell(host, token, told);
    }

    /// A member may look at its state now, or not.
    pub(super) fn readable(&mut self, host: usize, token: Token, outcome: Result<(), ReadError>) {
        let process = self.hosts[host].process.as_ref();
        let asked = process.and_then(|p| p.asked.get(&token)).cloned();
        let told = match (outcome, asked) {
            (Ok(()), Some(asked)) if asked.confirms => {
                self.write(host, token, &asked.request, true);
                return;
            }
            (Ok(()), _) => self.read(host, token),
            (Err(ReadError::NotLeader { leader }), _) => self.again(leader.as_deref()),
            (Err(_), _) => self.again(None),
        };
        self.tell(host, token, told);
    }

    fn told(&self, outcome: Result<Revision, Refusal>) -> Told {
        match outcome {
            Ok(revision) => Told::Written(revision.0),
            Err(refusal) => client::told_refusal(&refusal, self.records),
        }
    }

    /// To be asked again, at the machine that has this address.
    fn again(&self, leader: Option<&str>) -> Told {
        let is_it = |host: &Host| Some(operator::address(host.id).as_str()) == leader;
        let leader = self.hosts.iter().position(is_it);
        Told::Again { leader }
    }

    fn read(&self, host: usize, token: Token) -> Told {
        let process = self.hosts[host].process.as_ref();
        let asked = process.and_then(|p| Some((p, &p.asked.get(&token)?.request.what)));
        let Some((process, What::Read(records))) = asked else {
            return self.again(None);
        };
        let state = process.member.core().state();
        let found = records.iter().map(|record| client::found(state, *record));
        Told::Read(found.collect(), state.applied)
    }

    fn tell(&mut self, host: usize, token: Token, told: Told) {
        let process = self.hosts[host].process.as_mut();
        let Some(asked) = process.and_then(|p| p.asked.remove(&token)) else {
            return;
        };
        let (client, operation) = (asked.request.client, asked.request.operation);
        for at_us in self
            .network
            .arrivals(self.now_us, self.hosts[host].id, CLIENTS)
        {
            let told = Box::new(told.clone());
            self.at(
                at_us,
                Happening::Answer {
                    client,
                    operation,
                    host,
                    told,
                },
            );
        }
    }
}

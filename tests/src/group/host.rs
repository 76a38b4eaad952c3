//! A machine with one member on it: the shell around the member, as thin as the real one, and what can happen to it.

use std::collections::BTreeMap;

use vt_coordinator_core::{
    TICK_MS,
    event::Now,
    member::{Input, Limits, Member, MemberConfig, NodeStatus, Output, StopReason, Token},
    peer::{Batch, Stored},
};

use super::{
    client::Request,
    disk::Disk,
    network::MS,
    operator,
    sabotage::Sabotage,
    serve::Asked,
    world::{Happening, World},
};
use crate::{group::judge::Said, sim::random::Random};

/// Inputs that wait for a member; messages beyond it are lost.
const INBOX_MAX: usize = 4_096;
/// The name of the cluster that all belong to.
pub(super) const CLUSTER: &str = "sim-1";

/// A running member.
pub(super) struct Process {
    pub(super) member: Member,
    inbox: Vec<Input>,
    turn_due: bool,
    /// Requests of clients to which it has not turned yet.
    pub(super) arrived: Vec<Request>,
    pub(super) asked: BTreeMap<Token, Asked>,
    pub(super) last_token: u64,
}

/// One machine.
pub(super) struct Host {
    pub(super) id: u64,
    pub(super) disk: Disk,
    pub(super) process: Option<Process>,
    /// Which process it is: what an earlier one began is nothing to a later one.
    life: u64,
    pub(super) paused_until_us: u64,
    /// The process dies after so many effects.
    pub(super) crash_in_effects: Option<u64>,
    /// Why the member ended itself, for good.
    pub(super) ended: Option<StopReason>,
    /// How often its disk was emptied, so that it is another directory.
    pub(super) times_emptied: u64,
    tick_us: u64,
    wall_offset_ms: u64,
    limits: Limits,
}

impl Host {
    pub(super) fn new(id: u64, random: &mut Random) -> Self {
        let tick_ms = random.between(TICK_MS - 3, TICK_MS + 3);
        Self {
            id,
            disk: Disk::new(*random.pick(&[300, 2 * MS, 15 * MS])),
            process: None,
            life: 0,
            paused_until_us: 0,
            crash_in_effects: None,
            ended: None,
            times_emptied: 0,
            tick_us: tick_ms * MS,
            wall_offset_ms: random.between(0, 100_000),
            limits: Limits {
                snapshot_every_entries: *random.pick(&[15, 40, 150]),
                log_bytes: *random.pick(&[4 << 10, 32 << 20]),
                tail_entries: *random.pick(&[0, 10, 60]),
                tail_bytes: *random.pick(&[1 << 10, 8 << 20]),
            },
        }
    }

    pub(super) fn now(&self, now_us: u64) -> Now {
        Now {
            monotonic_ms: now_us / MS,
            unix_ms: 1_700_000_000_000 + now_us / MS + self.wall_offset_ms,
        }
    }

    pub(super) fn status(&self) -> Option<NodeStatus> {
        let process = self.process.as_ref();
        process.map(|process| process.member.status(Now::default()))
    }

    pub(super) fn leads(&self) -> bool {
        let process = self.process.as_ref();
        process.is_some_and(|process| process.member.leads())
    }
}

impl World {
    /// Starts the member of a machine from what is on its disk, unless it runs.
    pub(super) fn start(&mut self, host: usize) {
        if self.hosts[host].process.is_some() || self.hosts[host].ended.is_some() {
            return;
        }
        let id = self.hosts[host].id;
        let stored = self.hosts[host].disk.stored.clone();
        let begun = self.judge.started(id, &stored);
        self.check(begun);
        let config = MemberConfig {
            cluster_id: CLUSTER.to_owned(),
            id,
            directory_id: operator::directory(id, self.hosts[host].times_emptied),
            contacts: self.contacts(),
            seed: self.random.between(0, u64::MAX - 1),
            limits: self.hosts[host].limits,
        };
        let member = Member::new(config, stored, &self.logger);
        let member = match member {
            Ok(member) => member,
            Err(error) => {
                self.check(Err(format!("member {id} cannot start: {error}")));
                return;
            }
        };
        let machine = &mut self.hosts[host];
        machine.life += 1;
        machine.process = Some(Process {
            member,
            inbox: Vec::new(),
            turn_due: false,
            arrived: Vec::new(),
            asked: BTreeMap::new(),
            last_token: 0,
        });
        let (life, tick_us) = (machine.life, machine.tick_us);
        self.note(|| format!("member {id} starts"));
        self.after(tick_us, Happening::Tick { host, life });
        self.input(host, Input::Tick);
    }

    /// Ends the process of a machine without a word.
    pub(super) fn crash(&mut self, host: usize) {
        let machine = &mut self.hosts[host];
        machine.crash_in_effects = None;
        machine.paused_until_us = 0;
        if machine.process.take().is_none() {
            return;
        }
        let survived = machine.disk.crash(&mut self.random, self.sabotage);
        let id = machine.id;
        self.crashes += 1;
        self.note(|| format!("member {id} dies; {survived} unreported writes survive"));
        if self.sabotage == Some(Sabotage::Amnesia) && self.random.chance(50) {
            self.hosts[host].disk.stored = Stored::default();
            self.note(|| format!("member {id} loses its disk and does not know"));
        }
    }

    /// Hands something to a member and sees to it that it turns to it.
    pub(super) fn input(&mut self, host: usize, input: Input) {
        let Some(process) = &mut self.hosts[host].process else {
            return;
        };
        if process.inbox.len() >= INBOX_MAX && matches!(input, Input::Message(_)) {
            return;
        }
        process.inbox.push(input);
        self.wake(host);
    }

    /// Sees to it that a member turns to what waits for it.
    pub(super) fn wake(&mut self, host: usize) {
        let machine = &mut self.hosts[host];
        let (life, paused_until_us) = (machine.life, machine.paused_until_us);
        let Some(process) = &mut machine.process else {
            return;
        };
        if !process.turn_due {
            process.turn_due = true;
            let soon_us = self.now_us + self.random.between(1, 200);
            self.at(soon_us.max(paused_until_us), Happening::Turn { host, life });
        }
    }

    fn is_this(&self, host: usize, life: u64) -> bool {
        self.hosts[host].life == life && self.hosts[host].process.is_some()
    }

    pub(super) fn tick(&mut self, host: usize, life: u64) {
        if !self.is_this(host, life) {
            return;
        }
        let paused_until_us = self.hosts[host].paused_until_us;
        if self.now_us < paused_until_us {
            self.at(paused_until_us, Happening::Tick { host, life });
            return;
        }
        self.input(host, Input::Tick);
        self.after(self.hosts[host].tick_us, Happening::Tick { host, life });
    }

    /// The member takes everything that waits and does what follows.
    pub(super) fn turn(&mut self, host: usize, life: u64) {
        if !self.is_this(host, life) {
            return;
        }
        let paused_until_us = self.hosts[host].paused_until_us;
        if self.now_us < paused_until_us {
            self.at(paused_until_us, Happening::Turn { host, life });
            return;
        }
        // What it asks of the member joins the inbox of this turn.
        self.serve(host);
        let machine = &mut self.hosts[host];
        let now = machine.now(self.now_us);
        let Some(process) = &mut machine.process else {
            return;
        };
        process.turn_due = false;
        for input in std::mem::take(&mut process.inbox) {
            process.member.take(now, input);
        }
        let outputs = match process.member.advance(now) {
            Ok(outputs) => outputs,
            Err(error) => {
                let id = machine.id;
                self.check(Err(format!("member {id} gives up: {error}")));
                return;
            }
        };
        for output in outputs {
            if self.dies_at_effect(host) {
                return;
            }
            self.output(host, life, output);
        }
        self.look_at(host);
    }

    fn dies_at_effect(&mut self, host: usize) -> bool {
        match &mut self.hosts[host].crash_in_effects {
            Some(0) => {
                self.crash(host);
                true
            }
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        }
    }

    fn look_at(&mut self, host: usize) {
        let machine = &self.hosts[host];
        let Some(process) = &machine.process else {
            return;
        };
        let member = &process.member;
        let looked = self.judge.look(Said {
            id: machine.id,
            term: member.term(),
            leads: member.leads(),
            applied: member.applied(),
            membership: member.membership(),
            state: member.core().state(),
        });
        self.check(looked);
    }

    fn output(&mut self, host: usize, life: u64, output: Output) {
        match output {
            Output::Send(message) => self.send(message),
            Output::Write { sequence, batch } => {
                self.judge.wrote(self.hosts[host].id, &batch);
                self.hosts[host].disk.write(sequence, batch);
                if self.sabotage == Some(Sabotage::ReplyBeforeFsync) {
                    self.input(host, Input::Written { sequence });
                }
                self.flush(host, life);
            }
            Output::Probe { sequence } => {
                self.hosts[host].disk.write(sequence, Batch::default());
                self.flush(host, life);
            }
            Output::Done { token, outcome } => self.done(host, token, outcome),
            Output::Stopped(why) => self.ended(host, why),
            Output::Readable { token, outcome } => self.readable(host, token, outcome),
            Output::Refused { from, why } => {
                let id = self.hosts[host].id;
                self.note(|| format!("member {id} does not listen to {from}: {why}"));
            }
            Output::HandingOver { .. }
            | Output::SendDesired(_)
            | Output::PublishRouting(_)
            | Output::Withdraw
            | Output::Decided { .. }
            | Output::Addresses => {}
        }
    }

    /// A member has ended itself: rightly only if it was removed.
    fn ended(&mut self, host: usize, why: StopReason) {
        let id = self.hosts[host].id;
        self.note(|| format!("member {id} ends: {why}"));
        let wanted = operator::wanted_voters(self.judge.state()).contains(&id);
        if wanted || why == StopReason::Told {
            self.check(Err(format!("member {id} ended: {why}; it is to stay")));
        }
        self.crash(host);
        self.hosts[host].ended = Some(why);
    }

    /// Begins the next flush if the disk is free.
    pub(super) fn flush(&mut self, host: usize, life: u64) {
        let disk = &mut self.hosts[host].disk;
        if disk.begin_flush() {
            let takes_us = disk.flush_us(self.now_us, &mut self.random);
            self.after(takes_us, Happening::Flushed { host, life });
        }
    }

    pub(super) fn flushed(&mut self, host: usize, life: u64) {
        if !self.is_this(host, life) {
            return;
        }
        let stalled_until_us = self.hosts[host].disk.stalled_until_us;
        if self.now_us < stalled_until_us {
            self.at(stalled_until_us, Happening::Flushed { host, life });
            return;
        }
        let early = self.sabotage == Some(Sabotage::ReplyBeforeFsync);
        let last = self.hosts[host].disk.end_flush(self.sabotage);
        if let Some(sequence) = last.filter(|_| !early) {
            self.input(host, Input::Written { sequence });
        }
        self.flush(host, life);
    }

    /// The disk has no space left, or has again.
    pub(super) fn disk_full(&mut self, host: usize, full: bool) {
        let machine = &mut self.hosts[host];
        if machine.disk.full == full {
            return;
        }
        machine.disk.full = full;
        let life = machine.life;
        self.input(host, Input::DiskFull(full));
        self.flush(host, life);
    }
}

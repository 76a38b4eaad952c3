//! What failovers tell Prometheus: counted and timed as they are committed, on the member that leads; who is blocked, and the epochs, as
//! the leader sees them. The other members show none of it, so that sums over all members are right.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};
use vt_coordinator_core::{
    Core,
    event::Now,
    failover::{
        table::PhaseName,
        timeline::{PHASES_MS, TRIGGER},
    },
};
use vt_proto::topology::AuditEvent;

/// Between two looks at all replica sets: often enough for whoever scrapes, and nothing for thousands of them.
const LOOK_INTERVAL_MS: u64 = 1_000;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TriggerLabel {
    trigger: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabel {
    phase: String,
}

/// Kinds are words of the code, never of users.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SetLabel {
    replica_set: String,
}

/// Everything about failovers.
pub struct FailoverMetrics {
    decisions: Family<KindLabel, Counter>,
    steps: Family<TriggerLabel, Counter>,
    phase_seconds: Family<PhaseLabel, Histogram>,
    blocked: Family<PhaseLabel, Gauge>,
    epochs: Family<SetLabel, Gauge>,
    locked_out: Family<SetLabel, Gauge>,
    looked_ms: AtomicU64,
}

impl Default for FailoverMetrics {
    fn default() -> Self {
        Self {
            decisions: Family::default(),
            steps: Family::default(),
            // From a millisecond to a quarter of an hour.
            phase_seconds: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.001, 2.0, 20))
            }),
            blocked: Family::default(),
            epochs: Family::default(),
            locked_out: Family::default(),
            looked_ms: AtomicU64::default(),
        }
    }
}

impl FailoverMetrics {
    /// Names them in the registry.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "decisions",
            "What was decided or noticed, by the kind of its event",
            self.decisions.clone(),
        );
        registry.register(
            "failover_steps",
            "Changes of the phase or epoch of replica sets, by what led to them",
            self.steps.clone(),
        );
        registry.register(
            "failover_phase_seconds",
            "How long each phase of a change of primary took",
            self.phase_seconds.clone(),
        );
        registry.register(
            "failover_blocked_replica_sets",
            "Replica sets that do not get where they should, by the phase that they are in",
            self.blocked.clone(),
        );
        registry.register(
            "failover_epoch",
            "The epoch of each replica set",
            self.epochs.clone(),
        );
        registry.register(
            "failover_locked_out_tablets",
            "Tablets that each replica set's primary lets in no more, because they were lost as ackers",
            self.locked_out.clone(),
        );
    }

    /// Counts and times what was committed.
    pub fn decided(&self, events: &[AuditEvent]) {
        for event in events {
            let kind = event.kind.clone();
            self.decisions.get_or_create(&KindLabel { kind }).inc();
            for (name, value) in &event.evidence {
                if name == TRIGGER {
                    let trigger = value.clone();
                    self.steps.get_or_create(&TriggerLabel { trigger }).inc();
                }
                if PHASES_MS.contains(&name.as_str())
                    && let Ok(milliseconds) = value.parse::<u64>()
                {
                    let phase = name.trim_end_matches("_ms").to_owned();
                    let seconds = std::time::Duration::from_millis(milliseconds).as_secs_f64();
                    let label = PhaseLabel { phase };
                    self.phase_seconds.get_or_create(&label).observe(seconds);
                }
            }
        }
    }

    /// Looks at all replica sets, now and then.
    pub fn look(&self, core: &Core, leads: bool, now: Now) {
        let before_ms = self.looked_ms.load(Ordering::Relaxed);
        if now.monotonic_ms.saturating_sub(before_ms) < LOOK_INTERVAL_MS {
            return;
        }
        self.looked_ms.store(now.monotonic_ms, Ordering::Relaxed);
        self.blocked.clear();
        self.epochs.clear();
        self.locked_out.clear();
        if !leads {
            return;
        }
        for phase in PhaseName::ALL {
            let label = phase_label(phase);
            self.blocked.get_or_create(&label).set(0);
        }
        for (name, set) in &core.state().replica_sets {
            let epoch = i64::try_from(set.value.epoch.0).unwrap_or(i64::MAX);
            let replica_set = name.to_string();
            let label = SetLabel { replica_set };
            self.epochs.get_or_create(&label).set(epoch);
            let locked_out = i64::try_from(set.value.locked_out.len()).unwrap_or(i64::MAX);
            self.locked_out.get_or_create(&label).set(locked_out);
            if core.blocked(name).is_some() {
                let label = phase_label(PhaseName::of(&set.value.phase));
                self.blocked.get_or_create(&label).inc();
            }
        }
    }
}

fn phase_label(phase: PhaseName) -> PhaseLabel {
    PhaseLabel {
        phase: phase.to_string().to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn what_events_say_is_counted_and_timed() {
        let metrics = FailoverMetrics::default();
        let mut registry = Registry::with_prefix("vt_coordinator");
        metrics.register(&mut registry);
        let evidence = [
            ("trigger", "primary dead"),
            ("detect_ms", "1100"),
            ("acker zone1-101", "IO thread is On"),
        ];
        metrics.decided(&[AuditEvent {
            time_unix_ms: 0,
            kind: "failover.revoke".to_owned(),
            subject: "replica-set/main".to_owned(),
            message: String::new(),
            evidence: evidence
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
        }]);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "vt_coordinator_decisions_total{kind=\"failover.revoke\"} 1",
            "vt_coordinator_failover_steps_total{trigger=\"primary dead\"} 1",
            "vt_coordinator_failover_phase_seconds_sum{phase=\"detect\"} 1.1",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }
}

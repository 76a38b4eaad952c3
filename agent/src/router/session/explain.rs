//! VEXPLAIN: what the router would do with a statement now, and why. No server is asked.

use vt_wire::result_set::{Column, TextResult};

use super::analysis::{Analysis, analyse};
use super::{End, Session};
use crate::router::executor::Request;
use crate::router::executor::reads::role_for;
use crate::router::executor::route::{Resolution, resolve};
use crate::router::state::{Role, State};

type Facts = Vec<(&'static str, String)>;

impl Session {
    pub(super) async fn explain(&mut self, sql: &[u8], sequence: u8) -> Result<(), End> {
        let facts = match analyse(sql, &self.state.lex) {
            Ok(analysis) => self.facts(analysis),
            Err(error) => vec![("plan", format!("refuse: {error}"))],
        };
        let rows = facts
            .into_iter()
            .map(|(name, value)| vec![Some(name.into()), Some(value.into_bytes())])
            .collect();
        let columns = vec![Column::text(b"Property"), Column::text(b"Value")];
        self.reply_result(&TextResult { columns, rows }, sequence)
            .await
    }

    fn facts(&mut self, analysis: Analysis) -> Facts {
        let mut facts = vec![("plan", analysis.plan.to_string())];
        if analysis.is_local() {
            facts.push(("answered by", "this router".to_owned()));
            return facts;
        }
        let mut request = Request::new(Vec::new(), vt_wire::scanner::Answer::Results);
        request.is_read_only = analysis.is_read_only;
        request.traits = analysis.traits;
        request.schemas = analysis.schemas;
        request.ends_transaction = analysis.ends_transaction;
        let declared = self.state.role();
        let role = role_for(&self.state, &request, declared, false);
        facts.push(("target", target(declared, role)));
        match resolve(&self.worker, &mut self.state, &request, false) {
            Resolution::Ready(place) => {
                facts.push(("replica set", place.replica_set.to_string()));
                let endpoint = place.endpoint();
                facts.push(("server", format!("{}:{}", endpoint.host, endpoint.port)));
                if let Some(schema) = &place.schema {
                    facts.push(("schema there", schema.to_string()));
                }
                if place.is_slowed {
                    let why = "its turn among writes: the primary hands over soon";
                    facts.push(("waits for", why.to_owned()));
                }
            }
            Resolution::Wait { replica_set, .. } => {
                facts.push(("replica set", replica_set));
                facts.push(("waits for", format!("a {} that is fit", role.name())));
            }
            Resolution::Refuse(error) => facts.push(("refused", error.to_string())),
        }
        let wait = self.state.variables.read_wait(&self.worker.reads);
        if role == Role::Replica
            && !self.state.is_in_transaction()
            && let Some(written) = &self.state.written
            && !wait.is_zero()
        {
            let limit_ms = wait.as_millis();
            let what = format!(
                "{} for {limit_ms} ms, then the primary answers",
                written.text()
            );
            facts.push(("waits for", what));
        }
        facts.push(("connection", kept(&self.state)));
        if !request.traits.is_empty() {
            facts.push(("traits", request.traits.to_string()));
        }
        facts
    }
}

fn target(declared: Role, role: Role) -> String {
    match declared == role {
        true => role.name().to_owned(),
        false => format!("{} (of {})", role.name(), declared.name()),
    }
}

/// Why the session's next statement needs the connection of the last one.
fn kept(state: &State) -> String {
    let reasons: Vec<_> = state.kept_for().reasons().collect();
    match reasons[..] {
        [] => "any of the pool".to_owned(),
        _ => format!("kept for {}", reasons.join(", ")),
    }
}

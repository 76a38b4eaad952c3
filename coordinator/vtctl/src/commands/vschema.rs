//! `vtctl vschema`.

use std::collections::HashMap;

use anyhow::Context as _;
use clap::Subcommand;
use vt_proto::wire::{ApplyVschemaRequest, GetVschemaRequest};

use super::schema::read_input;
use crate::{
    cli::Global,
    client::request_id,
    failure::{Failure, Kind},
    output,
    views::keyspace::Vschema,
};

const EXAMPLE: &str = r#"The file is what `vtctl vschema show -o json` prints:
  {"tables": {"product": {}, "customer": {}}}"#;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Say how tables of a keyspace are sharded
    #[command(after_help = EXAMPLE)]
    Apply {
        #[arg(long)]
        keyspace: String,
        /// A JSON file, or - for standard input
        file: String,
        /// Drop what the file does not name
        #[arg(long)]
        replace: bool,
    },
    /// Show how the tables of a keyspace are sharded
    Show { keyspace: String },
}

pub async fn run(command: Command, global: &Global) -> anyhow::Result<()> {
    let mut client = global.client()?;
    match command {
        Command::Apply {
            keyspace,
            file,
            replace,
        } => {
            let tables = parse(&read_input(&file)?).map_err(|failure| Failure {
                message: format!("{file}: {}", failure.message),
                ..failure
            })?;
            let request = ApplyVschemaRequest {
                keyspace,
                tables,
                replace,
                request_id: request_id(),
            };
            let answer = client
                .call(request, |mut admin, request| async move {
                    admin.apply_vschema(request).await
                })
                .await?;
            let outcome = super::Written {
                revision: answer.revision,
            };
            output::print(global.output, &outcome, |it| {
                format!("the vschema is applied, at revision {}", it.revision)
            })
        }
        Command::Show { keyspace } => {
            let request = GetVschemaRequest { keyspace };
            let answer = client
                .call(request, |mut admin, request| async move {
                    admin.get_vschema(request).await
                })
                .await?;
            output::print(global.output, &Vschema::from(answer), Vschema::text)
        }
    }
}

fn parse(text: &str) -> Result<HashMap<String, String>, Failure> {
    let refuse = |what: &str| Failure::new(Kind::Usage, what).next(EXAMPLE);
    let document: serde_json::Value = serde_json::from_str(text)
        .context("read JSON")
        .map_err(|error| refuse(&format!("not JSON: {error:#}")))?;
    let serde_json::Value::Object(mut document) = document else {
        return Err(refuse("it is no object"));
    };
    let Some(serde_json::Value::Object(tables)) = document.remove("tables") else {
        return Err(refuse("it has no object 'tables'"));
    };
    if let Some(key) = document.keys().next() {
        return Err(refuse(&format!("'{key}' is not known")));
    }
    Ok(tables
        .into_iter()
        .map(|(name, spec)| (name, spec.to_string()))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_checked() {
        let tables = parse(r#"{"tables": {"a": {"b": 1}, "c": {}}}"#).unwrap();
        assert_eq!(tables["a"], r#"{"b":1}"#);
        assert_eq!(tables.len(), 2);
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"tables": []}"#,
            r#"{"tables": {}, "x": 1}"#,
        ] {
            assert_eq!(parse(bad).unwrap_err().kind, Kind::Usage, "{bad}");
        }
    }
}

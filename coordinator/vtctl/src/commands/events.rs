//! `vtctl events`.

use std::time::Duration;

use vt_proto::wire::ListEventsRequest;

use crate::{
    cli::Global,
    client::Client,
    failure::Failure,
    output::{self, Format},
    views::event::Event,
};

/// How often new events are asked for while following.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(500);
/// How many events one answer of a follow may carry; more come with the next.
const FOLLOW_EVENTS_MAX: u32 = 1_000;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  vtctl events --subject replica-set/main --follow")]
pub struct Arguments {
    /// Only of this record, as in replica-set/main or keyspace/commerce
    #[arg(long, default_value = "")]
    subject: String,
    /// Go on and print events as they come
    #[arg(long)]
    follow: bool,
    /// At most so many, the newest
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

pub async fn run(arguments: Arguments, global: &Global) -> anyhow::Result<()> {
    let mut client = global.client()?;
    let mut request = ListEventsRequest {
        after: 0,
        limit: arguments.limit,
        subject: arguments.subject,
    };
    let events = fetch(&mut client, &request).await?;
    if !arguments.follow {
        return output::print(global.output, &events, |events| {
            events
                .iter()
                .map(Event::text)
                .collect::<Vec<_>>()
                .join("\n")
        });
    }
    let mut fresh = events;
    request.limit = FOLLOW_EVENTS_MAX;
    loop {
        for event in &fresh {
            request.after = request.after.max(event.sequence);
            match global.output {
                Format::Table => output::print_text(&event.text())?,
                // A line each: the list never ends.
                Format::Json => output::print_text(&serde_json::to_string(event)?)?,
            }
        }
        tokio::time::sleep(FOLLOW_INTERVAL).await;
        fresh = fetch(&mut client, &request).await?;
    }
}

async fn fetch(client: &mut Client, request: &ListEventsRequest) -> Result<Vec<Event>, Failure> {
    let answer = client
        .call(request.clone(), |mut admin, request| async move {
            admin.list_events(request).await
        })
        .await?;
    Ok(answer.events.into_iter().map(Event::from).collect())
}

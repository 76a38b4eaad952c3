//! `vtctl user`.

use std::path::PathBuf;

use clap::Subcommand;
use vt_proto::{
    user::{Place, Rights},
    wire::{
        ChangeUserRequest, CreateUserRequest, DropUserRequest, Grant, ListUsersRequest,
        WriteResponse,
    },
};

use super::Written;
use crate::{
    cli::Global,
    client::{Client, request_id},
    failure::{Failure, Kind},
    output,
    password::{self, Source},
    views::user::{User, details, summary},
};

const RIGHTS: &str = "\
Rights:
  read    SELECT and what else only reads
  write   INSERT, UPDATE, DELETE, CALL and what else changes rows or locks them
  ddl     CREATE, ALTER, DROP and what else changes tables
  admin   all of these; in * also to see and end what others run

Rights hold on every router within a second, also for open sessions. The keyspace * stands for all of them.

Examples:
  vtctl user create app --grant read,write:commerce
  vtctl user grant report read '*'
  vtctl user password app --password-file secret";

#[derive(Debug, Subcommand)]
#[command(after_help = RIGHTS)]
pub enum Command {
    /// List the users and what each may do
    List,
    /// Show one user
    Show { name: String },
    /// Make a user; the password is asked for, or read from the standard input or a file
    Create {
        name: String,
        /// What it may do, as in read,write:commerce or read:*; may be given several times
        #[arg(long, value_name = "RIGHTS:KEYSPACE", value_parser = grant)]
        grant: Vec<(Place, Rights)>,
        /// Connections to one router at a time [default: no limit of its own]
        #[arg(long, value_name = "NUMBER")]
        max_connections: Option<u32>,
        /// Statements through one router in a second [default: no limit of its own]
        #[arg(long, value_name = "NUMBER")]
        max_statements_per_second: Option<u32>,
        /// The file whose first line is the password
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
    /// Give a user another password; open sessions go on
    Password {
        name: String,
        /// The file whose first line is the password
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
    /// Give a user rights in a keyspace
    Grant {
        name: String,
        /// As in read,write
        rights: Rights,
        /// The keyspace, or * for all
        keyspace: Place,
    },
    /// Take rights in a keyspace from a user
    Revoke {
        name: String,
        /// As in read,write
        rights: Rights,
        /// The keyspace, or * for what was granted for all
        keyspace: Place,
    },
    /// Limit a user's connections and statements
    #[command(group(clap::ArgGroup::new("limits").required(true).multiple(true)))]
    Limit {
        name: String,
        /// Connections to one router at a time; 0: no limit of its own
        #[arg(long, value_name = "NUMBER", group = "limits")]
        max_connections: Option<u32>,
        /// Statements through one router in a second; 0: no limit of its own
        #[arg(long, value_name = "NUMBER", group = "limits")]
        max_statements_per_second: Option<u32>,
    },
    /// Forget a user; its sessions end
    Drop { name: String },
}

fn grant(text: &str) -> Result<(Place, Rights), String> {
    let (rights, place) = text
        .rsplit_once(':')
        .ok_or("write rights and keyspace, as in read,write:commerce")?;
    let rights = rights
        .parse::<Rights>()
        .map_err(|error| error.to_string())?;
    let place = place.parse::<Place>().map_err(|error| error.to_string())?;
    Ok((place, rights))
}

/// Several for the same keyspace are one.
fn messages(grants: Vec<(Place, Rights)>) -> Vec<Grant> {
    let mut all = std::collections::BTreeMap::<Place, Rights>::new();
    for (place, rights) in grants {
        let held = all.entry(place).or_default();
        *held = held.with(rights);
    }
    let grants = all.iter();
    grants
        .map(|(place, rights)| (place, *rights).into())
        .collect()
}

pub async fn run(command: Command, global: &Global) -> anyhow::Result<()> {
    let mut client = global.client()?;
    match command {
        Command::List => {
            let users = fetch(&mut client, String::new()).await?;
            output::print(global.output, &users, |users| summary(users))
        }
        Command::Show { name } => {
            let user = fetch(&mut client, name.clone()).await?.pop();
            let user = user.ok_or_else(|| {
                Failure::new(Kind::NotFound, format!("there is no user {name}"))
                    .next("`vtctl user list` has all")
            })?;
            output::print(global.output, &user, details)
        }
        Command::Create {
            name,
            grant,
            max_connections,
            max_statements_per_second,
            password_file,
        } => {
            let hashes = password::hashes(&Source::of(password_file))?;
            let request = CreateUserRequest {
                name: name.clone(),
                native_hash: hashes.native.to_vec(),
                sha2_hash: hashes.sha2.to_vec(),
                grants: messages(grant),
                connections_max: max_connections,
                statements_per_second_max: max_statements_per_second,
                request_id: request_id(),
            };
            let answer = client
                .call(request, |mut admin, request| async move {
                    admin.create_user(request).await
                })
                .await?;
            tell(global, &answer, &format!("user {name} is there"))
        }
        Command::Drop { name } => {
            let request = DropUserRequest {
                name: name.clone(),
                request_id: request_id(),
            };
            let answer = client
                .call(request, |mut admin, request| async move {
                    admin.drop_user(request).await
                })
                .await?;
            tell(global, &answer, &format!("user {name} is no more"))
        }
        other => change(&mut client, global, other).await,
    }
}

async fn change(client: &mut Client, global: &Global, command: Command) -> anyhow::Result<()> {
    let mut request = ChangeUserRequest {
        request_id: request_id(),
        ..ChangeUserRequest::default()
    };
    let told = match command {
        Command::Password {
            name,
            password_file,
        } => {
            let hashes = password::hashes(&Source::of(password_file))?;
            request.native_hash = hashes.native.to_vec();
            request.sha2_hash = hashes.sha2.to_vec();
            request.name = name;
            "has another password".to_owned()
        }
        Command::Grant {
            name,
            rights,
            keyspace,
        } => {
            request.granted = messages(vec![(keyspace.clone(), rights)]);
            request.name = name;
            format!("may {rights} in {keyspace}")
        }
        Command::Revoke {
            name,
            rights,
            keyspace,
        } => {
            request.revoked = messages(vec![(keyspace.clone(), rights)]);
            request.name = name;
            format!("may no longer {rights} in {keyspace}")
        }
        Command::Limit {
            name,
            max_connections,
            max_statements_per_second,
        } => {
            request.connections_max = max_connections;
            request.statements_per_second_max = max_statements_per_second;
            request.name = name;
            let connections = max_connections.map(|limit| match limit {
                0 => "may have any number of connections".to_owned(),
                limit => format!("may have {limit} connections to a router"),
            });
            let statements = max_statements_per_second.map(|limit| match limit {
                0 => "may send any number of statements".to_owned(),
                limit => format!("may send {limit} statements in a second through a router"),
            });
            let told: Vec<String> = connections.into_iter().chain(statements).collect();
            told.join(", ")
        }
        Command::List | Command::Show { .. } | Command::Create { .. } | Command::Drop { .. } => {
            unreachable!("these change no user that is there")
        }
    };
    let told = format!("user {} {told}", request.name);
    let answer = client
        .call(request, |mut admin, request| async move {
            admin.change_user(request).await
        })
        .await?;
    tell(global, &answer, &told)
}

fn tell(global: &Global, answer: &WriteResponse, text: &str) -> anyhow::Result<()> {
    let written = Written {
        revision: answer.revision,
    };
    output::print(global.output, &written, |_| text.to_owned())
}

async fn fetch(client: &mut Client, name: String) -> Result<Vec<User>, Failure> {
    let request = ListUsersRequest { stale: false, name };
    let answer = client
        .call(request, |mut admin, request| async move {
            admin.list_users(request).await
        })
        .await?;
    Ok(answer.users.into_iter().map(User::from).collect())
}

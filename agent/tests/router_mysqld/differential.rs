//! The same commands to a server directly and through the router: the same packets come back.
//!
//! `differential.txt` has the commands, and says where an answer must differ and why; a line that says so of an answer
//! that is equal fails as well.

use std::fmt::Write as _;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder};
use vt_wire::Capabilities;
use vt_wire::command::{CommandByte, encode_query};
use vt_wire::packet::{HEADER_LENGTH, Header};
use vt_wire::reader::put_lenenc_bytes;
use vt_wire::scanner::Answer;

use crate::raw::{NEW, NEWEST, OLD, RawClient};
use crate::server::{Mysqld, TestRouter};

const CORPUS: &str = include_str!("differential.txt");

/// What clients are able to do differs as widely as it may.
const CLIENTS: [(&str, Capabilities); 3] = [
    ("old", OLD),
    ("new", NEW),
    (
        "newest",
        NEWEST
            .with(Capabilities::MULTI_STATEMENTS)
            .with(Capabilities::FOUND_ROWS),
    ),
];

struct Case {
    name: &'static str,
    steps: Vec<Step>,
}

struct Step {
    /// In the corpus, from 1.
    line: usize,
    text: &'static str,
    /// Why the answers differ, if they must.
    differs: Option<&'static str>,
}

impl Step {
    fn head(&self, case: &Case) -> String {
        format!("line {} ({}): {}", self.line, case.name, self.text)
    }
}

/// Reads the corpus: `== NAME` begins a case, `~ REASON` belongs to the command above it.
fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for (number, line) in CORPUS.lines().enumerate() {
        if let Some(name) = line.strip_prefix("== ") {
            let steps = Vec::new();
            cases.push(Case { name, steps });
        } else if let Some(reason) = line.strip_prefix("~ ") {
            let steps = &mut cases.last_mut().unwrap().steps;
            steps.last_mut().unwrap().differs = Some(reason);
        } else if !line.is_empty() && !line.starts_with('#') {
            let step = Step {
                line: number + 1,
                text: line,
                differs: None,
            };
            cases.last_mut().unwrap().steps.push(step);
        }
    }
    cases
}

/// One end of the comparison, with the statements that it prepared.
struct Side {
    client: RawClient,
    capabilities: Capabilities,
    statements: Vec<[u8; 4]>,
}

impl Side {
    fn login(port: u16, capabilities: Capabilities) -> Self {
        Self {
            client: RawClient::login(port, capabilities, "caching_sha2_password"),
            capabilities,
            statements: Vec::new(),
        }
    }

    /// Carries out a line of the corpus; returns the packets of its answer.
    fn carry_out(&mut self, text: &str) -> Vec<u8> {
        let Some(command) = text.strip_prefix('!') else {
            return self.query(&unescape(text));
        };
        let (word, rest) = command.split_once(' ').unwrap_or((command, ""));
        let arguments = unescape(rest);
        match word {
            "init_db" => self.ask(CommandByte::INIT_DB, &arguments, Answer::Single),
            "ping" => self.ask(CommandByte::PING, b"", Answer::Single),
            "reset_connection" => self.ask(CommandByte::RESET_CONNECTION, b"", Answer::Single),
            "set_option" => self.ask(
                CommandByte::SET_OPTION,
                &[rest.parse().unwrap(), 0],
                Answer::Single,
            ),
            "field_list" => self.ask(CommandByte::FIELD_LIST, &arguments, Answer::Rows),
            "prepare" => self.prepare(&arguments),
            "wide" => self.query(wide(rest.parse().unwrap()).as_bytes()),
            "execute" => self.execute(rest),
            "fetch" => {
                let (number, rows) = rest.split_once(' ').unwrap();
                let rows: u32 = rows.parse().unwrap();
                let arguments = [self.statement(number), rows.to_le_bytes()].concat();
                self.ask(CommandByte::STMT_FETCH, &arguments, Answer::Rows)
            }
            "reset" => {
                let id = self.statement(rest);
                self.ask(CommandByte::STMT_RESET, &id, Answer::Single)
            }
            "close" => {
                let id = self.statement(rest);
                let payload = [&[CommandByte::STMT_CLOSE.0], &id[..]].concat();
                self.client.write_packet(0, &payload);
                Vec::new()
            }
            "long_data" => {
                let mut words = rest.splitn(3, ' ');
                let id = self.statement(words.next().unwrap());
                let parameter: u16 = words.next().unwrap().parse().unwrap();
                let command = [CommandByte::STMT_SEND_LONG_DATA.0];
                let piece = words.next().unwrap().as_bytes();
                let payload = [&command, &id[..], &parameter.to_le_bytes(), piece].concat();
                self.client.write_packet(0, &payload);
                Vec::new()
            }
            other => panic!("unknown command !{other}"),
        }
    }

    fn query(&mut self, sql: &[u8]) -> Vec<u8> {
        let payload = encode_query(sql, self.capabilities);
        self.client.write_packet(0, &payload);
        self.client.read_answer(Answer::Results).1
    }

    fn ask(&mut self, command: CommandByte, arguments: &[u8], answer: Answer) -> Vec<u8> {
        self.client.command(command, arguments, answer).1
    }

    /// The number of a statement differs from one server to the next, and is left out.
    fn prepare(&mut self, sql: &[u8]) -> Vec<u8> {
        let mut wire = self.ask(CommandByte::STMT_PREPARE, sql, Answer::Prepare);
        if wire[HEADER_LENGTH] == 0 {
            let id: &mut [u8] = &mut wire[HEADER_LENGTH + 1..HEADER_LENGTH + 5];
            self.statements.push(id.try_into().unwrap());
            id.fill(0);
        }
        wire
    }

    /// Number of a statement of this case, from 0; one that never was gets a number that nobody has.
    fn statement(&self, number: &str) -> [u8; 4] {
        let index: usize = number.parse().unwrap();
        let unknown = 999_999_u32.to_le_bytes();
        self.statements.get(index).copied().unwrap_or(unknown)
    }

    /// `NUMBER[:FLAGS] [VALUE...]` with values `null`, `long` (sent already), `int=`, `double=` and `text=`.
    fn execute(&mut self, text: &str) -> Vec<u8> {
        let mut words = text.split(' ');
        let head = words.next().unwrap();
        let (number, flags) = head.split_once(':').unwrap_or((head, "0"));
        let mut arguments = self.statement(number).to_vec();
        arguments.push(flags.parse().unwrap());
        arguments.extend(1_u32.to_le_bytes());
        let values: Vec<&str> = words.collect();
        if !values.is_empty() {
            self.put_values(&mut arguments, &values);
        }
        self.ask(CommandByte::STMT_EXECUTE, &arguments, Answer::Results)
    }

    fn put_values(&self, out: &mut Vec<u8>, values: &[&str]) {
        let has_names = self.capabilities.contains(Capabilities::QUERY_ATTRIBUTES);
        if has_names {
            out.push(values.len() as u8);
        }
        let mut nulls = vec![0_u8; values.len().div_ceil(8)];
        let (mut types, mut data) = (Vec::new(), Vec::new());
        for (index, value) in values.iter().enumerate() {
            let kind: u16 = match value.split_once('=') {
                None if *value == "null" => {
                    nulls[index / 8] |= 1 << (index % 8);
                    0x06
                }
                None if *value == "long" => 0xFC,
                Some(("int", number)) => {
                    data.extend(number.parse::<i64>().unwrap().to_le_bytes());
                    0x08
                }
                Some(("double", number)) => {
                    data.extend(number.parse::<f64>().unwrap().to_le_bytes());
                    0x05
                }
                Some(("text", text)) => {
                    put_lenenc_bytes(&mut data, text.as_bytes());
                    0xFD
                }
                _ => panic!("unknown value {value}"),
            };
            types.extend(kind.to_le_bytes());
            if has_names {
                types.push(0);
            }
        }
        out.extend(nulls);
        out.push(1);
        out.extend(types);
        out.extend(data);
    }
}

/// A result of so many columns.
fn wide(columns: usize) -> String {
    let columns: Vec<_> = (0..columns)
        .map(|number| format!("{number} AS c{number}"))
        .collect();
    format!("SELECT {}", columns.join(", "))
}

/// `\xHH` is a byte.
fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("\\x") {
        out.extend(&rest.as_bytes()[..at]);
        out.push(u8::from_str_radix(&rest[at + 2..at + 4], 16).unwrap());
        rest = &rest[at + 4..];
    }
    out.extend(rest.as_bytes());
    out
}

/// One line for each packet.
fn shown(wire: &[u8]) -> String {
    let mut text = String::new();
    let mut rest = wire;
    while let Some(header) = Header::peek(rest) {
        let end = HEADER_LENGTH + header.length;
        let payload = &rest[HEADER_LENGTH..end];
        let part = &payload[..payload.len().min(400)];
        writeln!(text, "    {:3} {}", header.sequence, part.escape_ascii()).unwrap();
        rest = &rest[end..];
    }
    text
}

async fn empty_schema(admin: &mut Conn) {
    for sql in ["DROP DATABASE IF EXISTS shop", "CREATE DATABASE shop"] {
        admin.query_drop(sql).await.unwrap();
    }
}

/// What a case answers on each line.
fn answers(port: u16, capabilities: Capabilities, case: &Case) -> Vec<Vec<u8>> {
    let mut side = Side::login(port, capabilities);
    let steps = case.steps.iter();
    steps.map(|step| side.carry_out(step.text)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_packets_as_from_the_server() {
    let server = Mysqld::start().await;
    let mut admin = server.admin().await;
    for sql in [
        "CREATE USER app@'%' IDENTIFIED BY 'secret'",
        "GRANT ALL ON shop.* TO app@'%'",
        // Answers of slow statements say so, and on a busy machine any may be slow.
        "SET GLOBAL long_query_time = 3600",
    ] {
        admin.query_drop(sql).await.unwrap();
    }
    // Over an encrypted connection once: from then on the server knows the password's digest.
    let known = OptsBuilder::default()
        .tcp_port(server.port)
        .prefer_socket(false)
        .user(Some("app"))
        .pass(Some("secret"))
        .ssl_opts(
            mysql_async::SslOpts::default()
                .with_danger_accept_invalid_certs(true)
                .with_danger_skip_domain_validation(true),
        );
    Conn::new(known).await.unwrap().disconnect().await.unwrap();
    let router = TestRouter::start(&server, |_| {});
    let mut complaints = String::new();
    for case in cases() {
        let mut differed = vec![false; case.steps.len()];
        for (client, capabilities) in CLIENTS {
            empty_schema(&mut admin).await;
            let direct = answers(server.port, capabilities, &case);
            empty_schema(&mut admin).await;
            let port = router.handle.local_address().port();
            let routed = answers(port, capabilities, &case);
            for (index, step) in case.steps.iter().enumerate() {
                let (direct, routed) = (&direct[index], &routed[index]);
                differed[index] |= direct != routed;
                if step.differs.is_none() && direct != routed {
                    let head = step.head(&case);
                    let (direct, routed) = (shown(direct), shown(routed));
                    write!(
                        complaints,
                        "{head} ({client})\n  direct\n{direct}  routed\n{routed}"
                    )
                    .unwrap();
                }
            }
        }
        for (step, differed) in case.steps.iter().zip(differed) {
            if step.differs.is_some() && !differed {
                writeln!(
                    complaints,
                    "{}: is equal, take its ~ away",
                    step.head(&case)
                )
                .unwrap();
            }
        }
    }
    assert!(complaints.is_empty(), "\n{complaints}");
}

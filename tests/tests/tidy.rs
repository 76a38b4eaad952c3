//! The tree keeps its own rules, and documentation that is drawn from code is fresh.

use std::{env, fs, io};

use vt_coordinator_core::failover::{classes, table};
use vt_tests::tidy;

#[test]
fn the_tree_is_tidy() {
    let found = tidy::violations(&tidy::root());
    assert!(
        found.is_empty(),
        "{} rules broken:\n{}",
        found.len(),
        found.join("\n")
    );
}

#[test]
fn the_failover_tables_are_drawn_from_code() {
    drawn("drawn from code", &table::as_markdown()).unwrap();
    drawn("classes drawn from code", &classes::as_markdown()).unwrap();
}

/// What stands between two marks of docs/failover.md is what the code draws.
fn drawn(mark: &str, fresh: &str) -> io::Result<()> {
    let path = tidy::root().join("docs/failover.md");
    let text = fs::read_to_string(&path)?;
    let missing = || io::Error::other(format!("docs/failover.md has no place for '{mark}'"));
    let (begin, end) = (
        format!("<!-- {mark}: begin -->\n"),
        format!("<!-- {mark}: end -->\n"),
    );
    let (before, rest) = text.split_once(&begin).ok_or_else(missing)?;
    let (_, after) = rest.split_once(&end).ok_or_else(missing)?;
    let fresh = format!("{before}{begin}{fresh}{end}{after}");
    if env::var_os("VT_REWRITE").is_some() {
        fs::write(&path, &fresh)?;
    }
    assert!(
        fs::read_to_string(&path)? == fresh,
        "docs/failover.md is stale: run VT_REWRITE=1 cargo test -p vt-tests --test tidy"
    );
    Ok(())
}

/// A rule of docs/alerts.yml.
#[derive(Debug, PartialEq, Eq)]
struct Rule {
    name: String,
    expression: String,
    pause: String,
    runbook: String,
}

/// The rules, where the file has the only shape that this reads: so its syntax is checked too.
fn rules(text: &str) -> Vec<Rule> {
    let body = text
        .split_once("groups:\n  - name: vitrail\n    rules:\n")
        .unwrap_or_else(|| panic!("docs/alerts.yml does not begin with its one group"))
        .1;
    let lines: Vec<&str> = body.lines().collect();
    let quoted = |line: &str, key: &str| {
        let value = line
            .strip_prefix(key)
            .and_then(|rest| rest.strip_suffix('\''));
        let value = value.unwrap_or_else(|| panic!("'{line}' does not begin with '{key}'"));
        let unescaped = value.replace("''", "\u{1}");
        assert!(!unescaped.contains('\''), "an open quote in {line}");
        unescaped.replace('\u{1}', "'")
    };
    let plain = |line: &str, key: &str| {
        let value = line.strip_prefix(key);
        value
            .unwrap_or_else(|| panic!("'{line}' does not begin with '{key}'"))
            .to_owned()
    };
    let rule = |lines: &[&str]| {
        let [name, expression, pause, annotations, runbook] = lines else {
            panic!("half a rule: {lines:?}");
        };
        assert_eq!(*annotations, "        annotations:");
        Rule {
            name: plain(name, "      - alert: "),
            expression: quoted(expression, "        expr: '"),
            pause: plain(pause, "        for: "),
            runbook: quoted(runbook, "          runbook: 'docs/operations.md, Alerts: "),
        }
    };
    lines.chunks(5).map(rule).collect()
}

/// Names of metrics in an expression.
fn metrics(expression: &str) -> Vec<&str> {
    let words = expression.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'));
    words.filter(|word| word.starts_with("vt_")).collect()
}

#[test]
fn every_alert_has_its_line_and_its_metrics() {
    let root = tidy::root();
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
    let rules = rules(&read("docs/alerts.yml"));
    let operations = read("docs/operations.md");
    let alerts = operations.split_once("## Alerts\n").unwrap().1;
    let lines: Vec<&str> = alerts
        .split_once("\n## ")
        .unwrap()
        .0
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| alert |"))
        .collect();
    assert_eq!(
        lines.len(),
        rules.len(),
        "a line for every alert, and no other"
    );
    let sources = [
        (
            "vt_agent_",
            ["agent/src/metrics.rs", "proto/tls/src/metrics.rs"]
                .map(read)
                .concat(),
        ),
        ("vt_router_", read("agent/src/router/metrics.rs")),
        (
            "vt_coordinator_",
            [
                "coordinator/src/metrics.rs",
                "coordinator/src/metrics/failover.rs",
                "proto/tls/src/metrics.rs",
            ]
            .map(read)
            .concat(),
        ),
    ];
    for (rule, line) in rules.iter().zip(lines) {
        let pause = match rule.pause.as_str() {
            "0s" => String::new(),
            pause => format!(" for {pause}"),
        };
        let expression = rule.expression.replace('|', "&#124;");
        let begin = format!("| {} | `{expression}`{pause} | ", rule.runbook);
        assert!(
            line.starts_with(&begin),
            "{line}\nis not the line of\n{rule:?}"
        );
        assert!(line.len() > begin.len() + 10, "what is to be done? {line}");
        let found = metrics(&rule.expression);
        assert!(!found.is_empty(), "{rule:?}");
        for metric in found {
            let mut sources = sources.iter();
            let source =
                sources.find_map(|(prefix, text)| Some((metric.strip_prefix(prefix)?, text)));
            let (name, text) = source.unwrap_or_else(|| panic!("whose metric is {metric}?"));
            let bare = ["_total", "_sum", "_count", "_bucket"]
                .iter()
                .find_map(|suffix| name.strip_suffix(suffix))
                .unwrap_or(name);
            assert!(
                text.contains(&format!("\"{bare}\"")) || text.contains(&format!("\"{name}\"")),
                "no program has the metric {metric}"
            );
        }
    }
    let names: std::collections::BTreeSet<&str> =
        rules.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(names.len(), rules.len(), "a name stands twice");
}

//! Figures into a table, into ratios with goals, into a file. Measures nothing.

use std::{fs, path::Path};

use anyhow::Context;
use serde::Serialize;

/// What a figure should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// Ours divided by the peer's is at least this.
    RatioAtLeast(f64),
    /// Ours divided by the peer's is at most this.
    RatioAtMost(f64),
    /// Ours is at most this, whatever the peer's is.
    AtMost(f64),
    /// Only told.
    None,
}

/// One figure of both systems.
#[derive(Clone, Debug)]
pub struct Figure {
    pub metric: String,
    pub unit: &'static str,
    pub ours: f64,
    pub peer: Option<f64>,
    pub goal: Goal,
}

/// As it stands in the file.
#[derive(Serialize)]
struct Line<'a> {
    metric: &'a str,
    unit: &'a str,
    ours: f64,
    peer: Option<f64>,
    peer_name: &'a str,
    ratio: Option<f64>,
    goal: Option<String>,
    met: Option<bool>,
}

impl Figure {
    fn ratio(&self) -> Option<f64> {
        self.peer.filter(|p| *p > 0.0).map(|peer| self.ours / peer)
    }

    fn goal_text(&self) -> Option<String> {
        match self.goal {
            Goal::RatioAtLeast(ratio) => Some(format!(">= {ratio} x")),
            Goal::RatioAtMost(ratio) => Some(format!("<= {ratio} x")),
            Goal::AtMost(limit) => Some(format!("<= {limit} {}", self.unit)),
            Goal::None => None,
        }
    }

    /// Whether the goal is met; None where there is none or the peer was not measured.
    pub fn met(&self) -> Option<bool> {
        match self.goal {
            Goal::RatioAtLeast(ratio) => self.ratio().map(|found| found >= ratio),
            Goal::RatioAtMost(ratio) => self.ratio().map(|found| found <= ratio),
            Goal::AtMost(limit) => Some(self.ours <= limit),
            Goal::None => None,
        }
    }
}

/// The middle one; of an even number the upper of the two in the middle.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A table as it can stand in a document.
pub fn table(figures: &[Figure], peer_name: &str) -> String {
    let mut rows =
        vec![["what", "unit", "Vitrail", peer_name, "ratio", "goal", "met"].map(str::to_owned)];
    for figure in figures {
        let met = figure.met().map(|met| if met { "yes" } else { "NO" });
        rows.push([
            figure.metric.clone(),
            figure.unit.to_owned(),
            number(figure.ours),
            figure.peer.map_or("-".to_owned(), number),
            figure.ratio().map_or("-".to_owned(), |r| format!("{r:.2}")),
            figure.goal_text().unwrap_or_default(),
            met.unwrap_or_default().to_owned(),
        ]);
    }
    let widths: Vec<usize> = (0..7)
        .map(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for (position, row) in rows.iter().enumerate() {
        let cells = row.iter().zip(&widths).enumerate();
        let cells = cells.map(|(column, (cell, width))| match column {
            2..=4 => format!("{cell:>width$}"),
            _ => format!("{cell:<width$}"),
        });
        let cells: Vec<String> = cells.collect();
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
        if position == 0 {
            let rules = widths
                .iter()
                .enumerate()
                .map(|(column, width)| match column {
                    2..=4 => format!("{}:", "-".repeat(width + 1)),
                    _ => "-".repeat(width + 2),
                });
            let rules: Vec<String> = rules.collect();
            text.push_str(&format!("|{}|\n", rules.join("|")));
        }
    }
    text
}

/// Writes the figures as a list of objects, whole or not at all.
pub fn write(file: &Path, figures: &[Figure], peer_name: &str) -> anyhow::Result<()> {
    let round = |value: f64| (value * 1e3).round() / 1e3;
    let lines: Vec<Line<'_>> = figures
        .iter()
        .map(|figure| Line {
            metric: &figure.metric,
            unit: figure.unit,
            ours: round(figure.ours),
            peer: figure.peer.map(round),
            peer_name,
            ratio: figure.ratio().map(round),
            goal: figure.goal_text(),
            met: figure.met(),
        })
        .collect();
    let folder = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let text = serde_json::to_string_pretty(&lines)? + "\n";
    fs::write(file, text).with_context(|| format!("write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(ours: f64, peer: Option<f64>, goal: Goal) -> Figure {
        Figure {
            metric: "writes".to_owned(),
            unit: "1/s",
            ours,
            peer,
            goal,
        }
    }

    #[test]
    fn a_goal_is_met_at_its_limit_and_not_beyond() {
        let cases = [
            (200.0, Some(100.0), Goal::RatioAtLeast(2.0), Some(true)),
            (199.0, Some(100.0), Goal::RatioAtLeast(2.0), Some(false)),
            (100.0, Some(100.0), Goal::RatioAtMost(1.0), Some(true)),
            (101.0, Some(100.0), Goal::RatioAtMost(1.0), Some(false)),
            (40.0, None, Goal::AtMost(40.0), Some(true)),
            (41.0, Some(100.0), Goal::AtMost(40.0), Some(false)),
            (1.0, None, Goal::RatioAtMost(1.0), None),
            (1.0, Some(1.0), Goal::None, None),
        ];
        for (ours, peer, goal, expected) in cases {
            assert_eq!(
                figure(ours, peer, goal).met(),
                expected,
                "{ours} {peer:?} {goal:?}"
            );
        }
    }

    #[test]
    fn the_median_is_no_outlier() {
        assert_eq!(median(vec![9.0, 1.0, 5.0]), 5.0);
        assert_eq!(median(vec![2.0]), 2.0);
    }

    #[test]
    fn a_table_has_a_line_for_each_figure() {
        let figures = [figure(200.0, Some(100.0), Goal::RatioAtLeast(2.0))];
        let text = table(&figures, "etcd");
        let last = text.lines().last().unwrap_or_default();
        for part in ["writes", "200", "100", "2.00", ">= 2 x", "yes"] {
            assert!(last.contains(part), "{part} in {last}");
        }
    }
}

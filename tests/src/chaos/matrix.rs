//! The fault matrix: rows one after another on one bed, as long as nothing fails; what came of each, as a table and as JSON.

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
    time::Instant,
};

use serde::{Deserialize, Serialize};

use super::{
    bed::Bed,
    play::{self, LOADED_FACTOR, Outcome},
    row::{self, Row},
    rows::{KNOWN, OUT},
};

/// What came of a row.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Line {
    pub number: String,
    pub name: String,
    pub expected: String,
    pub trials: usize,
    pub gap_ms: u64,
    pub gap_healing_ms: u64,
    pub bound_ms: Option<u64>,
    pub whole_ms: u64,
    pub acknowledged: usize,
    pub unknown: usize,
    pub wrong: Vec<String>,
    pub late: Vec<String>,
    pub seconds: u64,
}

impl Line {
    fn of(row: &Row) -> Self {
        Self {
            number: row.number.to_owned(),
            name: row.name.to_owned(),
            expected: row.expected.to_owned(),
            bound_ms: row.gap_ms,
            ..Self::default()
        }
    }

    /// Of a row that could not be played.
    pub fn not_played(row: &Row, why: &str) -> Self {
        Self {
            wrong: vec![why.to_owned()],
            ..Self::of(row)
        }
    }

    fn add(&mut self, outcome: &Outcome) {
        let ms = |it: std::time::Duration| u64::try_from(it.as_millis()).unwrap_or(u64::MAX);
        self.trials += 1;
        self.gap_ms = self.gap_ms.max(ms(outcome.gap));
        self.gap_healing_ms = self.gap_healing_ms.max(ms(outcome.gap_healing));
        self.whole_ms = self.whole_ms.max(ms(outcome.whole));
        self.acknowledged += outcome.acknowledged;
        self.unknown += outcome.unknown;
        self.wrong.extend_from_slice(&outcome.wrong);
        self.late.extend_from_slice(&outcome.late);
    }

    fn known(&self) -> Option<&'static str> {
        let mut known = KNOWN.iter().filter(|(number, _)| *number == self.number);
        known.next().map(|(_, why)| *why)
    }

    /// Whether nothing is wrong that is not known to be.
    pub fn is_good(&self) -> bool {
        self.is_right() || self.known().is_some()
    }

    fn is_right(&self) -> bool {
        self.wrong.is_empty() && self.late.is_empty()
    }

    fn verdict(&self) -> String {
        match (self.is_right(), self.known()) {
            (true, None) => "holds".to_owned(),
            (true, Some(_)) => "holds, though known to fail".to_owned(),
            (false, Some(why)) => format!("known to fail: {why}"),
            (false, None) if self.wrong.is_empty() => "LATE".to_owned(),
            (false, None) => "FAILED".to_owned(),
        }
    }
}

/// The rows that are called by these words, or all.
pub fn chosen(words: &[String]) -> anyhow::Result<Vec<&'static Row>> {
    let all = row::all();
    for word in words {
        let out = OUT.iter().find(|(number, _)| number == word);
        if let Some((number, why)) = out {
            anyhow::bail!("scenario {number} is not played: {why}");
        }
        let is_known = all.iter().any(|row| row.is_called(word));
        anyhow::ensure!(is_known, "there is no row {word}: see chaos matrix --list");
    }
    let is_chosen = |row: &&Row| words.is_empty() || words.iter().any(|it| row.is_called(it));
    Ok(all.into_iter().filter(is_chosen).collect())
}

/// Plays rows on a bed and adds a line to the file for each. Returns whether all of them were played: after one that fails, or
/// that leaves a bed of no use, it ends.
pub async fn run(bed: &mut Bed, rows: &[&Row], file: &Path) -> anyhow::Result<bool> {
    for row in rows {
        let (line, is_bed_lost) = play_row(bed, row).await;
        append(file, &line)?;
        if is_bed_lost || !line.wrong.is_empty() || row.spoils_bed {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn play_row(bed: &mut Bed, row: &Row) -> (Line, bool) {
    let began = Instant::now();
    let mut line = Line::of(row);
    let mut is_bed_lost = false;
    let swept: &[u64] = if row.swept.is_empty() {
        &[0]
    } else {
        row.swept
    };
    for swept_ms in swept {
        if !row.swept.is_empty()
            && let Err(error) = bed.forget_ends().await
        {
            line.wrong.push(format!("{error:#}"));
            is_bed_lost = true;
            break;
        }
        let outcome = play::play(bed, row, *swept_ms).await;
        tell(row, *swept_ms, &outcome);
        line.add(&outcome);
        is_bed_lost = outcome.is_bed_lost;
        if !outcome.wrong.is_empty() {
            break;
        }
    }
    line.seconds = began.elapsed().as_secs();
    (line, is_bed_lost)
}

fn tell(row: &Row, swept_ms: u64, outcome: &Outcome) {
    let at = match row.swept.is_empty() {
        true => String::new(),
        false => format!(" after {swept_ms} ms"),
    };
    println!(
        "{} {}{at}: gap {} ms, then {} ms, whole after {} ms, {} acknowledged, {} unknown",
        row.number,
        row.name,
        outcome.gap.as_millis(),
        outcome.gap_healing.as_millis(),
        outcome.whole.as_millis(),
        outcome.acknowledged,
        outcome.unknown,
    );
    play::tell_trouble(outcome);
}

/// Adds a line, so that what was played is known whatever comes next.
pub fn append(file: &Path, line: &impl Serialize) -> anyhow::Result<()> {
    let mut file = File::options().create(true).append(true).open(file)?;
    writeln!(file, "{}", serde_json::to_string(line)?)?;
    Ok(())
}

/// What was added; nothing if there is no file.
pub fn lines<T: serde::de::DeserializeOwned>(file: &Path) -> anyhow::Result<Vec<T>> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let lines = text.lines().map(serde_json::from_str);
    Ok(lines.collect::<Result<_, _>>()?)
}

/// All lines, for people.
pub fn table(lines: &[Line]) -> String {
    let mut text = "| row | what | must hold | longest gap / bound | whole | unknown | verdict |\n|---|---|---|---|---|---|---|\n".to_owned();
    for line in lines {
        let bound = match line.bound_ms {
            Some(bound_ms) => format!("{} / {bound_ms} ms", line.gap_ms),
            None => format!("{} ms", line.gap_ms),
        };
        let trials = match line.trials {
            0 | 1 => String::new(),
            trials => format!(" ({trials} times)"),
        };
        text.push_str(&format!(
            "| {} | {}{trials} | {} | {bound} | {} ms | {} | {} |\n",
            line.number,
            line.name,
            line.expected,
            line.whole_ms,
            line.unknown,
            line.verdict()
        ));
    }
    text
}

/// The last line of a run.
pub fn summary(lines: &[Line]) -> String {
    let count = |is: fn(&Line) -> bool| lines.iter().filter(|it| is(it)).count();
    let known = count(|it| !it.is_right() && it.known().is_some());
    let late = count(|it| !it.is_good() && it.wrong.is_empty());
    let failed = count(|it| !it.is_good()) - late;
    let acknowledged: usize = lines.iter().map(|it| it.acknowledged).sum();
    format!(
        "{} rows: {} hold, {known} known to fail, {late} late (more than {LOADED_FACTOR} x their bound), {failed} failed; \
         {acknowledged} acknowledged writes; {} scenarios are not played",
        lines.len(),
        count(Line::is_right),
        OUT.len(),
    )
}

/// All rows, and those that are not played.
pub fn list() -> String {
    let mut text = String::new();
    for row in row::all() {
        let bound = row.gap_ms.map_or("-".to_owned(), |it| format!("{it} ms"));
        text.push_str(&format!(
            "{:>4}  {:<42} {:>8}  {}\n",
            row.number, row.name, bound, row.expected
        ));
    }
    for (number, why) in OUT {
        text.push_str(&format!("{number:>4}  not played: {why}\n"));
    }
    for (number, why) in KNOWN {
        text.push_str(&format!("{number:>4}  known to fail: {why}\n"));
    }
    text
}

//! Routers under clients that never rest, by hand: `router_soak SECONDS OUTPUT`, VT_SOAK_SEED for the plan of that seed. VT_BIN_DIR is where
//! vtctl and the others lie. Ends with 0 only if nothing was wrong.

use std::{env, fs, process::ExitCode};

use anyhow::{Context, bail};
use vt_tests::router_soak::{self, Report};

#[tokio::main]
async fn main() -> ExitCode {
    match soak().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("router_soak: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn soak() -> anyhow::Result<bool> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [seconds, output] = arguments.as_slice() else {
        bail!("usage: router_soak SECONDS OUTPUT");
    };
    let seconds = seconds.parse().context("read the number of seconds")?;
    let seed = match env::var("VT_SOAK_SEED") {
        Ok(text) if !text.is_empty() => text.parse().context("read VT_SOAK_SEED")?,
        _ => u64::from(rand::random::<u32>()),
    };
    println!("router_soak: {seconds} s, VT_SOAK_SEED={seed}");
    let report = router_soak::run(seed, seconds).await?;
    show(&report);
    fs::write(output, serde_json::to_string_pretty(&report)?)
        .with_context(|| format!("write {output}"))?;
    Ok(report.wrong_count == 0)
}

fn show(report: &Report) {
    println!("\n| done | times |\n|---|--:|");
    for (what, count) in &report.done {
        println!("| {what} | {count} |");
    }
    println!("\n| error given to clients | times |\n|---|--:|");
    for (code, count) in &report.errors {
        println!("| {code} | {count} |");
    }
    println!("\n| what | of | early | late | most |\n|---|---|--:|--:|--:|");
    for line in &report.usage {
        let amount = |value: u64| format!("{value} {}", line.unit).trim_end().to_owned();
        println!(
            "| {} | {} | {} | {} | {} |",
            line.what,
            line.whose,
            amount(line.early),
            amount(line.late),
            amount(line.most)
        );
    }
    println!("\nwrong: {}", report.wrong_count);
    for wrong in &report.wrong {
        println!("  WRONG: {wrong}");
    }
}

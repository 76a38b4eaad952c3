//! What the system says about a process: processor time, memory. Reads /proc and nothing else.

use std::fs;

use anyhow::Context;

/// The kernel counts processor time in hundredths of a second on every system that Vitrail runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// Processor time that these processes took so far.
pub fn cpu_seconds(pids: &[u32]) -> anyhow::Result<f64> {
    let mut ticks = 0;
    for pid in pids {
        let path = format!("/proc/{pid}/stat");
        let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        // The name in parentheses may hold blanks; user and system time are the 12th and 13th fields behind it.
        let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields);
        let numbers = fields.split_ascii_whitespace().skip(11).take(2);
        for number in numbers {
            ticks += number
                .parse::<u64>()
                .with_context(|| format!("read {path}"))?;
        }
    }
    Ok(ticks as f64 / TICKS_PER_SECOND)
}

/// Memory that a process holds.
pub fn resident_mib(pid: u32) -> anyhow::Result<f64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kib: f64 = kib
        .context("no VmRSS in /proc/PID/status")?
        .trim()
        .parse()?;
    Ok(kib / 1024.0)
}

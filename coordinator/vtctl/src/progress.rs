//! Says what is being waited for: a spinner on a terminal, else a line whenever the text changes. Always on stderr.

use std::{
    io::IsTerminal as _,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

/// How often the spinner turns: smooth, and nothing for the CPU.
const SPINNER_INTERVAL: Duration = Duration::from_millis(120);

/// What is over sooner needs no words.
const QUIET: Duration = Duration::from_secs(1);

/// One thing that takes time.
pub struct Progress {
    bar: Option<ProgressBar>,
    last: String,
    /// Nothing is said before.
    speaks_at: Instant,
}

impl Progress {
    /// Starts with a text.
    pub fn start(text: &str) -> Self {
        let mut progress = Self {
            bar: None,
            last: String::new(),
            speaks_at: Instant::now(),
        };
        progress.step(text);
        progress
    }

    /// Starts what is often over at once: nothing is said in the first second.
    pub fn quietly() -> Self {
        Self {
            bar: None,
            last: String::new(),
            speaks_at: Instant::now() + QUIET,
        }
    }

    /// Says how far it is.
    pub fn step(&mut self, text: &str) {
        if self.last == text || Instant::now() < self.speaks_at {
            return;
        }
        text.clone_into(&mut self.last);
        if self.bar.is_none() && std::io::stderr().is_terminal() {
            self.bar = Some(spinner());
        }
        match &self.bar {
            Some(bar) => bar.set_message(text.to_owned()),
            None => crate::output::note(text),
        }
    }

    /// The last words; they stay on the terminal.
    pub fn finish(self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        crate::output::note(text);
    }
}

fn spinner() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(SPINNER_INTERVAL);
    bar
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

//! Says what is being waited for: a spinner on a terminal, else a line whenever the text changes. Always on stderr.

use std::{io::IsTerminal as _, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};

/// How often the spinner turns: smooth, and nothing for the CPU.
const SPINNER_INTERVAL: Duration = Duration::from_millis(120);

/// One thing that takes time.
pub struct Progress {
    bar: Option<ProgressBar>,
    last: String,
}

impl Progress {
    /// Starts with a text.
    pub fn start(text: &str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(SPINNER_INTERVAL);
            bar
        });
        let mut progress = Self {
            bar,
            last: String::new(),
        };
        progress.step(text);
        progress
    }

    /// Says how far it is.
    pub fn step(&mut self, text: &str) {
        if self.last == text {
            return;
        }
        text.clone_into(&mut self.last);
        match &self.bar {
            Some(bar) => bar.set_message(text.to_owned()),
            None => eprintln!("{text}"),
        }
    }

    /// The last words; they stay on the terminal.
    pub fn finish(self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        eprintln!("{text}");
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

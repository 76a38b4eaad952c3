//! Files that are read again when they change, so that certificates are replaced without a restart. What cannot be used never
//! replaces what is in use.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, task::spawn_blocking, time::sleep};
use tracing::{error, info, warn};

use crate::{
    files::{Loaded, TlsError, TlsFiles},
    metrics::TlsMetrics,
    role::Role,
};

/// How soon changed files are noticed.
pub const CHECK_PERIOD: Duration = Duration::from_secs(2);
/// A certificate that ends within this time is worth a warning each time it is looked at for that.
const EXPIRES_SOON_S: i64 = 7 * 24 * 3_600;
/// How often the log repeats that a certificate ends or has ended.
const WARN_PERIOD: Duration = Duration::from_secs(3_600);

/// The newest usable contents of the files.
#[derive(Clone)]
pub struct Live {
    newest: watch::Receiver<Arc<Loaded>>,
}

impl Live {
    /// Reads the files and goes on looking at them as long as anybody holds this value. The certificate must be of that role.
    pub async fn start(files: TlsFiles, role: Role, metrics: TlsMetrics) -> Result<Self, TlsError> {
        let loaded = files.load()?;
        loaded.require(&files, role)?;
        metrics
            .certificate_expires_timestamp_seconds
            .set(loaded.leaf.expires_unix_s);
        let (sender, newest) = watch::channel(Arc::new(loaded));
        let watcher = Watcher {
            files,
            role,
            metrics,
            newest: sender,
            refused: None,
        };
        tokio::spawn(watcher.run());
        Ok(Self { newest })
    }

    /// What is in use now.
    pub fn current(&self) -> Arc<Loaded> {
        self.newest.borrow().clone()
    }

    /// Returns once something newer than what was seen last is in use; never if nothing will be.
    pub(crate) async fn changed(&mut self) {
        if self.newest.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

struct Watcher {
    files: TlsFiles,
    role: Role,
    metrics: TlsMetrics,
    newest: watch::Sender<Arc<Loaded>>,
    /// Why the files could not be used at the last look, and whether that was logged.
    refused: Option<(TlsError, bool)>,
}

impl Watcher {
    async fn run(mut self) {
        let mut until_warning = Duration::ZERO;
        loop {
            if until_warning.is_zero() {
                self.warn_of_expiry();
                until_warning = WARN_PERIOD;
            }
            tokio::select! {
                () = sleep(CHECK_PERIOD) => {}
                () = self.newest.closed() => return,
            }
            until_warning = until_warning.saturating_sub(CHECK_PERIOD);
            self.look().await;
        }
    }

    async fn look(&mut self) {
        let (files, role, used) = (self.files.clone(), self.role, self.newest.borrow().clone());
        let load = move || {
            let contents = files.read()?;
            if contents == used.contents {
                return Ok(None);
            }
            let loaded = files.build(contents)?;
            loaded.require(&files, role)?;
            Ok(Some(loaded))
        };
        // The task only fails where the runtime ends.
        let Ok(outcome) = spawn_blocking(load).await else {
            return;
        };
        match outcome {
            Ok(None) => self.usable(),
            Ok(Some(loaded)) => {
                self.usable();
                info!(
                    certificate = %self.files.certificate.display(),
                    name = %loaded.leaf.identity,
                    days_left = loaded.remaining_s() / 86_400,
                    "changed certificate files are in use"
                );
                let expires = &self.metrics.certificate_expires_timestamp_seconds;
                expires.set(loaded.leaf.expires_unix_s);
                self.metrics.certificate_reloads.inc();
                self.newest.send_replace(Arc::new(loaded));
            }
            Err(why) => self.unusable(why),
        }
    }

    fn usable(&mut self) {
        self.refused = None;
        self.metrics.certificate_reload_failed.set(0);
    }

    /// Between the writing of one file and the next they do not fit: what is still so at the next look is told, once.
    fn unusable(&mut self, why: TlsError) {
        match &mut self.refused {
            Some((before, logged)) if *before == why => {
                if !*logged {
                    *logged = true;
                    self.metrics.certificate_reload_failed.set(1);
                    error!(
                        %why,
                        "changed certificate files cannot be used; those read before stay in use: write all three anew"
                    );
                }
            }
            _ => self.refused = Some((why, false)),
        }
    }

    fn warn_of_expiry(&self) {
        let used = self.newest.borrow().clone();
        let certificate = self.files.certificate.display();
        match used.remaining_s() {
            left_s if left_s <= 0 => error!(
                %certificate,
                "the certificate has expired, so nobody accepts it: make a new one with `vtctl pki rotate` and put it there"
            ),
            left_s if left_s <= EXPIRES_SOON_S => warn!(
                %certificate,
                hours_left = left_s / 3_600,
                "the certificate expires soon: make a new one with `vtctl pki rotate` and put it there"
            ),
            _ => {}
        }
    }
}

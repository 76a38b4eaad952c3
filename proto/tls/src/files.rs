//! The three files of a program's TLS: certificate, key, CA. Read whole, checked against each other; never written.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use rustls::{
    CertificateError, ClientConfig, Error, RootCertStore, ServerConfig,
    client::{Resumption, WebPkiServerVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::CertifiedKey,
    version::TLS13,
};

use crate::{
    role::{Leaf, Role},
    trust::CoordinatorOnly,
};

/// A certificate chain or a bundle of CAs is far smaller; what is larger was named by mistake.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Where they lie; PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The program's own certificate, then those between it and the CA, if any.
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// The CAs whose certificates are accepted; two of them while one replaces the other.
    pub ca: PathBuf,
}

/// A file that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {what}", path.display())]
pub struct TlsError {
    pub path: PathBuf,
    pub what: String,
}

/// What the files held, to notice changes.
#[derive(Clone, PartialEq, Eq)]
pub struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    ca: Vec<u8>,
}

impl Contents {
    /// Contents that are in no file yet.
    pub fn new(certificate: &str, key: &str, ca: &str) -> Self {
        Self {
            certificate: certificate.into(),
            key: key.into(),
            ca: ca.into(),
        }
    }
}

/// Everything that follows from the files.
pub struct Loaded {
    pub leaf: Leaf,
    /// For listeners that ask for a certificate; HTTP/2.
    pub mutual: Arc<ServerConfig>,
    /// For listeners that show the own one only; HTTP/1.1.
    pub server_only: Arc<ServerConfig>,
    /// For those who dial coordinators.
    pub client: Arc<ClientConfig>,
    clients: Arc<dyn ClientCertVerifier>,
    pub(crate) contents: Contents,
}

impl TlsFiles {
    /// Reads the files and makes of them what listeners and clients need.
    pub fn load(&self) -> Result<Loaded, TlsError> {
        self.build(self.read()?)
    }

    /// The files as they are now.
    pub fn read(&self) -> Result<Contents, TlsError> {
        check_key_permissions(&self.key)?;
        Ok(Contents {
            certificate: read(&self.certificate)?,
            key: read(&self.key)?,
            ca: read(&self.ca)?,
        })
    }

    /// Checks contents and builds from them.
    pub fn build(&self, contents: Contents) -> Result<Loaded, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let chain = certificates(&self.certificate, &contents.certificate)?;
        let leaf = Leaf::read(&chain[0]).map_err(|what| unusable(&self.certificate, what))?;
        let key = PrivateKeyDer::from_pem_slice(&contents.key)
            .map_err(|error| unusable(&self.key, format!("holds no private key: {error}")))?;
        // Says so where the key is not that of the certificate.
        CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider).map_err(|error| {
            let certificate = self.certificate.display();
            unusable(
                &self.key,
                format!("does not belong to {certificate}: {error}"),
            )
        })?;
        let roots = Arc::new(self.roots(&contents.ca)?);
        let no_verifier = |error: &dyn std::fmt::Display| {
            unusable(&self.ca, format!("cannot be checked against: {error}"))
        };
        let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|error| no_verifier(&error))?;
        self.check_own(clients.as_ref(), &chain)?;
        let servers = WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
            .build()
            .map_err(|error| no_verifier(&error))?;
        let own = Own {
            provider,
            chain,
            key,
        };
        let refused =
            |error: Error| unusable(&self.certificate, format!("cannot be used: {error}"));
        Ok(Loaded {
            leaf,
            mutual: own.server(Some(clients.clone())).map_err(refused)?,
            server_only: own.server(None).map_err(refused)?,
            client: own.client(CoordinatorOnly(servers)).map_err(refused)?,
            clients,
            contents,
        })
    }

    fn roots(&self, pem: &[u8]) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.ca, pem)? {
            roots
                .add(certificate)
                .map_err(|error| unusable(&self.ca, format!("holds no usable CA: {error}")))?;
        }
        Ok(roots)
    }

    /// A certificate of another CA would be refused by everybody else, so it is refused here, where one can see why.
    fn check_own(
        &self,
        clients: &dyn ClientCertVerifier,
        chain: &[CertificateDer<'static>],
    ) -> Result<(), TlsError> {
        match clients.verify_client_cert(&chain[0], &chain[1..], UnixTime::now()) {
            Ok(_) => Ok(()),
            // A program that starts with an expired certificate can be given a new one while it runs.
            Err(Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. },
            )) => Ok(()),
            Err(error) => {
                let ca = self.ca.display();
                Err(unusable(
                    &self.certificate,
                    format!("is not accepted by the CAs of {ca}: {error}"),
                ))
            }
        }
    }
}

impl Loaded {
    /// Whether the own certificate is that of the role, as a sentence if not.
    pub fn require(&self, files: &TlsFiles, role: Role) -> Result<(), TlsError> {
        if self.leaf.identity.role == Some(role) {
            return Ok(());
        }
        let what = format!(
            "has the role (OU) '{}', and a {role}'s is needed: make one with `vtctl pki issue {role}`",
            self.leaf.identity.unit
        );
        Err(unusable(&files.certificate, what))
    }

    /// Seconds until the own certificate expires; negative afterwards.
    pub fn remaining_s(&self) -> i64 {
        self.leaf.expires_unix_s.saturating_sub(unix_now_s())
    }

    /// Whether a client's certificate is still accepted.
    pub fn accepts(&self, chain: &[CertificateDer<'_>]) -> bool {
        let Some((leaf, between)) = chain.split_first() else {
            return false;
        };
        self.clients
            .verify_client_cert(leaf, between, UnixTime::now())
            .is_ok()
    }
}

/// The wall clock; certificates know no other.
pub(crate) fn unix_now_s() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX))
}

/// The own certificate with its key.
struct Own {
    provider: Arc<CryptoProvider>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Own {
    fn server(
        &self,
        clients: Option<Arc<dyn ClientCertVerifier>>,
    ) -> Result<Arc<ServerConfig>, Error> {
        let builder = ServerConfig::builder_with_provider(self.provider.clone());
        let (chain, key) = (self.chain.clone(), self.key.clone_key());
        let mut config = match clients {
            Some(clients) => {
                let builder = builder.with_protocol_versions(&[&TLS13])?;
                let mut config = builder
                    .with_client_cert_verifier(clients)
                    .with_single_cert(chain, key)?;
                config.alpn_protocols = vec![b"h2".to_vec()];
                config
            }
            None => {
                let builder = builder.with_safe_default_protocol_versions()?;
                let mut config = builder.with_no_client_auth().with_single_cert(chain, key)?;
                config.alpn_protocols = vec![b"http/1.1".to_vec()];
                config
            }
        };
        // A resumed session would not show its certificate again. Connections last, so nothing is lost.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    fn client(&self, servers: CoordinatorOnly) -> Result<Arc<ClientConfig>, Error> {
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(servers))
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }
}

fn unusable(path: &Path, what: String) -> TlsError {
    TlsError {
        path: path.to_owned(),
        what,
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let read = || -> io::Result<Vec<u8>> {
        if fs::metadata(path)?.len() > FILE_BYTES_MAX {
            return Err(io::Error::other("it is too large"));
        }
        fs::read(path)
    };
    read().map_err(|error| unusable(path, format!("cannot be read: {error}")))
}

fn check_key_permissions(path: &Path) -> Result<(), TlsError> {
    // What cannot be looked at cannot be read either; reading says why.
    let mode = fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode());
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let what = format!(
        "others than its owner may read it (mode {:04o}): chmod 0600 it",
        mode & 0o7777
    );
    Err(unusable(path, what))
}

/// At least one.
fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if all.is_empty() => Err(unusable(path, "holds no certificate in PEM".to_owned())),
        Ok(all) => Ok(all),
        Err(error) => Err(unusable(path, format!("is not PEM: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::Ca;

    fn why(files: &TlsFiles) -> String {
        files
            .load()
            .err()
            .map_or_else(String::new, |error| error.to_string())
    }

    #[test]
    fn files_that_do_not_fit_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let (ca, other) = (Ca::new(), Ca::new());
        let files = ca
            .leaf("agent", "a", &["localhost"], 3_600)
            .write(dir.path(), &[&ca]);
        let loaded = files.load().unwrap();
        assert!(loaded.require(&files, Role::Agent).is_ok());
        let refused = loaded.require(&files, Role::Coordinator).unwrap_err();
        assert!(refused.what.contains("'agent'"), "{refused}");

        let second = dir.path().join("second");
        let foreign = ca
            .leaf("agent", "a", &["localhost"], 3_600)
            .write(&second, &[&other]);
        assert!(why(&foreign).contains("is not accepted by the CAs of"));
        let mixed = TlsFiles {
            key: foreign.key.clone(),
            ..files.clone()
        };
        assert!(
            why(&mixed).contains("does not belong to"),
            "{}",
            why(&mixed)
        );
        let empty = TlsFiles {
            ca: files.key.clone(),
            ..files.clone()
        };
        assert!(why(&empty).contains("holds no certificate"));
        fs::set_permissions(&files.key, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(why(&files).contains("chmod 0600"));
        fs::remove_file(&files.key).unwrap();
        assert!(why(&files).contains("cannot be read"));
    }

    #[test]
    fn an_expired_certificate_can_be_loaded_and_is_accepted_by_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::new();
        let leaf = ca.leaf("agent", "a", &["localhost"], -60);
        let loaded = leaf.write(dir.path(), &[&ca]).load().unwrap();
        assert!(loaded.remaining_s() < 0);
        assert!(!loaded.accepts(&[leaf.der.clone().into()]));
        let good = ca.leaf("agent", "a", &["localhost"], 60);
        assert!(loaded.accepts(&[good.der.into()]));
    }
}

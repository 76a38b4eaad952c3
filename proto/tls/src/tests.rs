//! Certificates of tests.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair,
};

use crate::files::TlsFiles;

/// A CA.
pub struct Ca(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key.
pub struct Issued {
    pub der: Vec<u8>,
    pem: String,
    key: String,
}

impl Ca {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, "a CA of tests");
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate that ends in so many seconds, or ended so long ago.
    pub fn leaf(&self, unit: &str, name: &str, hosts: &[&str], seconds: i64) -> Issued {
        let hosts: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        if !unit.is_empty() {
            params
                .distinguished_name
                .push(DnType::OrganizationalUnitName, unit);
        }
        let now = SystemTime::now();
        let span = Duration::from_secs(seconds.unsigned_abs());
        params.not_before = (now - Duration::from_secs(86_400)).into();
        params.not_after = if seconds < 0 { now - span } else { now + span }.into();
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Issued {
            der: certificate.der().to_vec(),
            pem: certificate.pem(),
            key: key.serialize_pem(),
        }
    }
}

impl Issued {
    /// Writes it with the CAs that its holder accepts.
    pub fn write(&self, dir: &Path, accepted: &[&Ca]) -> TlsFiles {
        fs::create_dir_all(dir).unwrap();
        let files = TlsFiles {
            certificate: dir.join("certificate.pem"),
            key: dir.join("key.pem"),
            ca: dir.join("ca.pem"),
        };
        let bundle: String = accepted.iter().map(|ca| ca.0.pem()).collect();
        fs::write(&files.ca, bundle).unwrap();
        fs::write(&files.key, &self.key).unwrap();
        fs::set_permissions(&files.key, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&files.certificate, &self.pem).unwrap();
        files
    }
}

//! A CA: made here or brought by the user, and the certificates that it signs. Nothing is written here.

use std::{
    fs,
    net::IpAddr,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use vt_tls::{
    files::Contents,
    role::{Leaf, Role},
};

use super::{AUTHORITY_DAYS, Request, days, files_in};
use crate::failure::{Failure, Kind};

/// Certificates are good a little before they are made: clocks of hosts differ.
pub(super) const CLOCK_SKEW: Duration = Duration::from_secs(3_600);

/// A certificate that signs others, with its key.
pub struct Authority {
    certificate: String,
    key: KeyPair,
}

impl Authority {
    /// A new one.
    pub fn new() -> anyhow::Result<Self> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("make a key")?;
        let mut params = CertificateParams::default();
        // Two CAs that are accepted at the same time must not have the same name.
        params.distinguished_name = DistinguishedName::new();
        let name = format!("Vitrail CA {:08x}", rand::random::<u32>());
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let now = SystemTime::now();
        params.not_before = (now - CLOCK_SKEW).into();
        params.not_after = (now + days(AUTHORITY_DAYS)).into();
        let certificate = params.self_signed(&key).context("make a CA")?.pem();
        Ok(Self { certificate, key })
    }

    /// One in files: that of the directory, or the user's own.
    pub fn load(certificate: &Path, key: &Path) -> anyhow::Result<Self> {
        let read = |path: &Path| {
            fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
        };
        let mode = fs::metadata(key).map_or(0, |it| it.permissions().mode());
        if mode & 0o077 != 0 {
            let message = format!("others may read the CA's key {}", key.display());
            return Err(Failure::new(Kind::Usage, message)
                .next(format!("chmod 0600 {}", key.display()))
                .into());
        }
        let text = read(key)?;
        let unusable = |path: &Path, what: &str| {
            Failure::new(Kind::Usage, format!("{} {what}", path.display()))
        };
        let key = KeyPair::from_pem(&text)
            .map_err(|_| unusable(key, "holds no private key in PEM (PKCS #8) that can sign"))?;
        let certificate_text = read(certificate)?;
        Issuer::from_ca_cert_pem(&certificate_text, &key)
            .map_err(|_| unusable(certificate, "holds no certificate of a CA in PEM"))?;
        Ok(Self {
            certificate: certificate_text,
            key,
        })
    }

    /// Whether what it signs is accepted by those who accept it: key and certificate belong together, and it is a CA.
    pub fn check(&self) -> anyhow::Result<()> {
        let probe = Request {
            role: Role::Viewer,
            name: "probe".to_owned(),
            hosts: Vec::new(),
            valid: days(1),
        };
        let (certificate, key) = self.issue(&probe)?;
        let contents = Contents::new(&certificate, &key, &self.certificate);
        let accepted = files_in(Path::new("/")).build(contents);
        let accepted = accepted.map_err(|error| error.what);
        // Who accepts a certificate as a CA does not ask whether it is one.
        let is_authority = Leaf::read_pem(self.certificate.as_bytes())
            .map(|leaf| leaf.is_authority)
            .and_then(|is| {
                if is {
                    Ok(())
                } else {
                    Err("it is no CA".to_owned())
                }
            });
        match accepted.and(is_authority) {
            Ok(()) => Ok(()),
            Err(what) => Err(Failure::new(
                Kind::Usage,
                format!("this CA cannot be used: {what}"),
            )
            .next("its certificate must be a CA's (basicConstraints, keyCertSign), still valid, and the key its own")
            .into()),
        }
    }

    /// A new key and its certificate, in PEM.
    pub fn issue(&self, request: &Request) -> anyhow::Result<(String, String)> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("make a key")?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let subject = &mut params.distinguished_name;
        subject.push(DnType::OrganizationalUnitName, request.role.as_str());
        subject.push(DnType::CommonName, request.name.as_str());
        params.subject_alt_names = hosts(&request.hosts)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        // An agent serves its metrics with it.
        if !request.hosts.is_empty() {
            params
                .extended_key_usages
                .push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        let now = SystemTime::now();
        let end = Leaf::read_pem(self.certificate.as_bytes())
            .map_err(|what| anyhow::anyhow!("the CA's certificate {what}"))?
            .expires();
        params.not_before = (now - CLOCK_SKEW).into();
        // A certificate is worth nothing after its CA.
        params.not_after = (now + request.valid).min(end).into();
        let issuer =
            Issuer::from_ca_cert_pem(&self.certificate, &self.key).context("read the CA")?;
        let certificate = params.signed_by(&key, &issuer).context("sign")?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    /// In PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// In PEM.
    pub fn key(&self) -> String {
        self.key.serialize_pem()
    }
}

fn hosts(hosts: &[String]) -> anyhow::Result<Vec<SanType>> {
    let name = |host: &String| {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(SanType::IpAddress(address));
        }
        let good = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        let text = host.as_str().try_into().ok();
        match text.filter(|_| !host.is_empty() && host.chars().all(good)) {
            Some(text) => Ok(SanType::DnsName(text)),
            None => Err(
                Failure::new(Kind::Usage, format!("'{host}' is no host of a certificate"))
                    .next("write a name as in db1.example or an address as in 10.0.0.1, without a port")
                    .into(),
            ),
        }
    };
    hosts.iter().map(name).collect()
}

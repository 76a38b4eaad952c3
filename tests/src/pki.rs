//! Certificates of one group under test: a CA, one certificate per member, one for those who operate, one for an agent. Checks nothing.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

/// Readable by their owner only.
const KEY_MODE: u32 = 0o600;

/// What clients show, by their role.
#[derive(Clone)]
pub struct Credentials {
    pub operator: ClientTlsConfig,
    pub agent: ClientTlsConfig,
}

/// Makes them; those of members, each for its host, are written to files in the directory.
pub fn make(directory: &Path, hosts: &[String]) -> anyhow::Result<Credentials> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(DnType::CommonName, "CA of a test");
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    for (member, host) in hosts.iter().enumerate() {
        let (certificate, key) = issue(&ca, "coordinator", std::slice::from_ref(host))?;
        let [path_of_certificate, path_of_key, path_of_ca] = paths(directory, member);
        fs::write(path_of_ca, ca.pem())?;
        fs::write(path_of_certificate, certificate)?;
        fs::write(&path_of_key, key)?;
        fs::set_permissions(&path_of_key, fs::Permissions::from_mode(KEY_MODE))?;
    }
    let client = |role| {
        let (certificate, key) = issue(&ca, role, &[])?;
        let shown = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca.pem()));
        anyhow::Ok(shown.identity(Identity::from_pem(certificate, key)))
    };
    Ok(Credentials {
        operator: client("operator")?,
        agent: client("agent")?,
    })
}

/// Where certificate, key and CA of a member lie.
pub fn paths(directory: &Path, member: usize) -> [std::path::PathBuf; 3] {
    let number = member + 1;
    ["certificate", "key", "ca"].map(|what| directory.join(format!("member{number}.{what}.pem")))
}

fn issue(
    ca: &CertifiedIssuer<'_, KeyPair>,
    role: &str,
    hosts: &[String],
) -> anyhow::Result<(String, String)> {
    let mut params = CertificateParams::new(hosts)?;
    let name = hosts.first().map_or(role, String::as_str);
    params.distinguished_name.push(DnType::CommonName, name);
    params
        .distinguished_name
        .push(DnType::OrganizationalUnitName, role);
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ClientAuth,
        ExtendedKeyUsagePurpose::ServerAuth,
    ];
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, ca)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

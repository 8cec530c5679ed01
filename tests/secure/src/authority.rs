//! A certificate authority that lives as long as a test.
//!
//! Invariant: what it signs is valid for an hour, for `127.0.0.1` and `localhost` alone.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};

/// Subject of the servers' certificate, and so Kafka's super user.
pub(crate) const SERVERS: &str = "devstack";

/// The files of one authority.
#[derive(Clone, Debug)]
pub struct Authority {
    /// Its own certificate.
    pub ca: PathBuf,
    /// The servers' certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Authority {
    /// A new one, with a certificate for the servers.
    #[must_use]
    pub fn create(dir: &Path, name: &str) -> Self {
        let mut own = params(name, &[]);
        own.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        own.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let own_key = KeyPair::generate().unwrap();
        let ca = own.self_signed(&own_key).unwrap().pem();
        let issuer = Issuer::new(own, own_key);

        let mut servers = params(SERVERS, &["localhost", "127.0.0.1"]);
        servers.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().unwrap();
        let certificate = servers.signed_by(&key, &issuer).unwrap().pem();
        let file = |kind: &str, text: &str| {
            let path = dir.join(format!("{name}.{kind}"));
            fs::write(&path, text).unwrap();
            path
        };
        Self {
            ca: file("ca.crt", &ca),
            certificate: file("crt", &certificate),
            key: file("key", &key.serialize_pem()),
        }
    }
}

fn params(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let now = OffsetDateTime::now_utc();
    params.not_before = now - Duration::minutes(5);
    params.not_after = now + Duration::hours(1);
    params
}

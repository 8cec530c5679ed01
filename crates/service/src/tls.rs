//! The files of a TLS connection to a store: which authority to trust, and who this client is.
//!
//! Invariant: a file that cannot be used is refused by the name of its setting before anything is connected, and what a
//! key file holds shows in no error.

use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};

/// Section `[<store>.tls]`. Without any of them the machine's own authorities are trusted, and no certificate is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsFiles {
    /// Certificates (PEM) of the authorities to trust, in place of the machine's own.
    pub ca: Option<PathBuf>,
    /// This client's certificate (PEM), where the server asks for one.
    pub certificate: Option<PathBuf>,
    /// The private key (PEM) of `certificate`.
    pub key: Option<PathBuf>,
}

/// What the files hold.
#[derive(Clone, Default)]
pub struct Pem {
    /// Certificates of the authorities.
    pub ca: Option<Vec<u8>>,
    /// Certificate and key of this client.
    pub client: Option<(Vec<u8>, Vec<u8>)>,
}

/// A file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{setting} = {}: {what}", path.display())]
pub struct TlsError {
    /// The key and its variable.
    setting: String,
    path: PathBuf,
    what: String,
}

impl TlsFiles {
    /// Whether nothing is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Reads and parses them. `section` is `redis` or `clickhouse`; the variables are `<SECTION>_SSL_CA_LOCATION` and so on.
    ///
    /// # Errors
    /// A file that is not there, holds no certificate or key, or half of a pair.
    pub fn read(&self, section: &str) -> Result<Pem, TlsError> {
        let named = |key: &str| {
            let variable = section.to_ascii_uppercase();
            let file = key.to_ascii_uppercase();
            format!("{section}.tls.{key} ({variable}_SSL_{file}_LOCATION)")
        };
        let ca = self
            .ca
            .as_deref()
            .map(|path| certificates(path, named("ca")));
        let client = match (&self.certificate, &self.key) {
            (None, None) => None,
            (Some(path), Some(key)) => Some((
                certificates(path, named("certificate"))?,
                private_key(key, named("key"))?,
            )),
            (Some(path), None) => return Err(alone(named("certificate"), path, &named("key"))),
            (None, Some(path)) => return Err(alone(named("key"), path, &named("certificate"))),
        };
        Ok(Pem {
            ca: ca.transpose()?,
            client,
        })
    }

    /// The HTTP client being built, with these files.
    ///
    /// # Errors
    /// As [`TlsFiles::read`].
    pub fn http(
        &self,
        section: &str,
        mut client: reqwest::ClientBuilder,
    ) -> Result<reqwest::ClientBuilder, TlsError> {
        let Pem { ca, client: own } = self.read(section)?;
        let refused = |path: &Option<PathBuf>, error: reqwest::Error| TlsError {
            setting: format!("{section}.tls"),
            path: path.clone().unwrap_or_default(),
            what: format!("cannot be used: {error}"),
        };
        if let Some(ca) = ca {
            let roots = reqwest::Certificate::from_pem_bundle(&ca);
            client = client.tls_certs_only(roots.map_err(|error| refused(&self.ca, error))?);
        }
        if let Some((certificate, key)) = own {
            let identity = reqwest::Identity::from_pem(&[certificate, key].concat());
            client = client.identity(identity.map_err(|error| refused(&self.certificate, error))?);
        }
        Ok(client)
    }
}

fn certificates(path: &Path, setting: String) -> Result<Vec<u8>, TlsError> {
    let (text, refused) = contents(path, setting)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match all {
        Ok(found) if !found.is_empty() => Ok(text),
        Ok(_) => Err(refused("holds no certificate; PEM is expected".into())),
        Err(error) => Err(refused(format!("is no PEM: {error}"))),
    }
}

fn private_key(path: &Path, setting: String) -> Result<Vec<u8>, TlsError> {
    let (text, refused) = contents(path, setting)?;
    match PrivateKeyDer::from_pem_slice(&text) {
        Ok(_) => Ok(text),
        Err(_) => Err(refused(
            "holds no private key; PEM without a password is expected".into(),
        )),
    }
}

/// The file, and how to refuse what is in it.
fn contents(
    path: &Path,
    setting: String,
) -> Result<(Vec<u8>, impl FnOnce(String) -> TlsError), TlsError> {
    let path = path.to_owned();
    match std::fs::read(&path) {
        Ok(text) => Ok((text, move |what| TlsError {
            setting,
            path,
            what,
        })),
        Err(error) => Err(TlsError {
            setting,
            path,
            what: format!("cannot be read: {error}"),
        }),
    }
}

fn alone(setting: String, path: &Path, other: &str) -> TlsError {
    TlsError {
        setting,
        path: path.to_owned(),
        what: format!("goes with {other}, which is not set"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    fn refused(files: &TlsFiles) -> String {
        files.read("redis").err().unwrap().to_string()
    }

    #[test]
    fn without_files_nothing_is_read() {
        let pem = TlsFiles::default().read("redis").unwrap();
        assert!(pem.ca.is_none() && pem.client.is_none());
    }

    #[test]
    fn a_file_that_is_missing_or_holds_no_certificate_is_refused_by_its_setting() {
        let ca = |path: &Path| TlsFiles {
            ca: Some(path.to_owned()),
            ..TlsFiles::default()
        };
        let text = refused(&ca(Path::new("/nowhere/ca.crt")));
        assert!(
            text.starts_with(
                "redis.tls.ca (REDIS_SSL_CA_LOCATION) = /nowhere/ca.crt: cannot be read"
            ),
            "{text}"
        );
        let text = refused(&ca(file("no certificate").path()));
        assert!(text.contains("holds no certificate"), "{text}");
    }

    #[test]
    fn a_key_that_is_none_is_refused_without_showing_what_the_file_holds() {
        let (certificate, key) = (file("x"), file("hunter2"));
        let mut files = TlsFiles {
            certificate: Some(certificate.path().to_owned()),
            ..TlsFiles::default()
        };
        assert!(refused(&files).contains("REDIS_SSL_KEY_LOCATION"));
        files.key = Some(key.path().to_owned());
        files.certificate = None;
        assert!(refused(&files).contains("REDIS_SSL_CERTIFICATE_LOCATION"));
        let error = private_key(key.path(), "redis.tls.key".into()).unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

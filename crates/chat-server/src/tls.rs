//! TLS by two files: read and checked whole at start and on SIGHUP. What does not hold leaves the old in force.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{InconsistentKeys, ServerConfig};
use thiserror::Error;
use x509_cert::der::Decode as _;

use crate::metrics::Metrics;
use crate::token::now_s;

/// No certificate chain or key comes near this many bytes; a file given by mistake may.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// How long before its end a certificate should have been renewed, seconds.
const RENEWAL_S: u64 = 14 * 24 * 60 * 60;

/// Where certificate and key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM: the server's certificate, then those that lead to its authority.
    pub certificate: PathBuf,
    /// PEM: PKCS #8, PKCS #1 or SEC 1.
    pub key: PathBuf,
}

/// A certificate and its key that fit each other.
#[derive(Debug)]
pub struct Identity {
    pub config: Arc<ServerConfig>,
    /// The certificate's serial number, hexadecimal.
    pub serial: String,
    /// Not valid before and after this, Unix seconds.
    pub not_before_s: u64,
    pub not_after_s: u64,
    /// The key can be read by every user of this machine.
    key_is_open: bool,
}

/// Why a pair of files cannot be served.
#[derive(Debug, Error)]
pub enum TlsError {
    #[error("{path}: {error}")]
    Unreadable { path: PathBuf, error: std::io::Error },
    #[error("{path}: more than {MAX_FILE_BYTES} bytes, which no certificate or key has")]
    TooLarge { path: PathBuf },
    #[error("{path}: no {what} in it; it must be PEM text with a line -----BEGIN {label}-----")]
    Missing { path: PathBuf, what: &'static str, label: &'static str },
    #[error("{path}: {error}")]
    Pem { path: PathBuf, error: pem::Error },
    #[error("{path}: its first certificate cannot be read: {error}")]
    Certificate { path: PathBuf, error: x509_cert::der::Error },
    #[error("{key}: this key does not belong to the first certificate in {certificate}")]
    Mismatch { certificate: PathBuf, key: PathBuf },
    #[error("{certificate} and {key}: {error}")]
    Refused { certificate: PathBuf, key: PathBuf, error: rustls::Error },
}

impl TlsFiles {
    /// Reads both files.
    ///
    /// # Errors
    /// When one cannot be read, holds nothing that is wanted, or they do not belong together; with the path.
    pub fn read(&self) -> Result<Identity, TlsError> {
        let chain = self.chain()?;
        let key = self.private_key()?;
        let first = x509_cert::Certificate::from_der(&chain[0])
            .map_err(|error| TlsError::Certificate { path: self.certificate.clone(), error })?;
        let validity = first.tbs_certificate().validity();
        let serial = first.tbs_certificate().serial_number().to_string();
        let refused = |error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                TlsError::Mismatch { certificate: self.certificate.clone(), key: self.key.clone() }
            }
            error => {
                TlsError::Refused { certificate: self.certificate.clone(), key: self.key.clone(), error }
            }
        };
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(refused)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(refused)?;
        // Socket.IO's WebSocket upgrade is HTTP/1.1's; a client that offers only others is told in the handshake.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Identity {
            config: Arc::new(config),
            serial,
            not_before_s: validity.not_before.to_unix_duration().as_secs(),
            not_after_s: validity.not_after.to_unix_duration().as_secs(),
            key_is_open: readable_by_everyone(&self.key),
        })
    }

    fn chain(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let path = &self.certificate;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&contents(path)?).collect();
        match chain {
            Ok(chain) if !chain.is_empty() => Ok(chain),
            Ok(_) => Err(TlsError::Missing { path: path.clone(), what: "certificate", label: "CERTIFICATE" }),
            Err(error) => Err(TlsError::Pem { path: path.clone(), error }),
        }
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        let path = &self.key;
        PrivateKeyDer::from_pem_slice(&contents(path)?).map_err(|error| match error {
            pem::Error::NoItemsFound => TlsError::Missing {
                path: path.clone(),
                what: "unencrypted private key",
                label: "PRIVATE KEY",
            },
            error => TlsError::Pem { path: path.clone(), error },
        })
    }
}

impl Identity {
    /// The end of its validity, ISO 8601.
    pub fn until(&self) -> String {
        moment(self.not_after_s)
    }

    /// Why clients would refuse it at `now_s`, if they would.
    pub fn invalid(&self, now_s: u64) -> Option<String> {
        if now_s > self.not_after_s {
            Some(format!("expired at {}; renew it", moment(self.not_after_s)))
        } else if now_s < self.not_before_s {
            Some(format!("not valid before {}; is the clock right?", moment(self.not_before_s)))
        } else {
            None
        }
    }

    /// What should be mended though it works at `now_s`, one sentence each.
    pub fn warnings(&self, files: &TlsFiles, now_s: u64) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.invalid(now_s).is_none() && self.not_after_s - now_s < RENEWAL_S {
            let path = files.certificate.display();
            warnings.push(format!("{path}: expires at {}, in less than 14 days", moment(self.not_after_s)));
        }
        if self.key_is_open {
            let path = files.key.display();
            warnings.push(format!("{path}: every user of this machine can read this key; chmod o= it"));
        }
        warnings
    }
}

/// What a server's new connections are given; replaced whole.
#[derive(Debug)]
pub(crate) struct Tls {
    files: TlsFiles,
    /// Read by the thread that accepts, once per connection; written on SIGHUP.
    current: RwLock<Arc<ServerConfig>>,
    metrics: Arc<Metrics>,
}

impl Tls {
    /// Reads the files for the first time. An expired certificate is served, since a restart that failed would
    /// mend nothing; the log says so.
    pub(crate) fn start(files: TlsFiles, metrics: Arc<Metrics>) -> Result<Self, TlsError> {
        let identity = files.read()?;
        if let Some(why) = identity.invalid(now_s()) {
            tracing::error!("{}: {why}", files.certificate.display());
        }
        let tls = Self { current: RwLock::new(identity.config.clone()), files, metrics };
        tls.took(&identity);
        Ok(tls)
    }

    /// What a connection accepted now is served with.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the files again. What cannot be served changes nothing.
    pub(crate) fn reload(&self) {
        let read = self.files.read().map_err(|error| error.to_string()).and_then(|identity| {
            let why = identity.invalid(now_s());
            why.map_or(Ok(identity), |why| Err(format!("{}: {why}", self.files.certificate.display())))
        });
        self.metrics.tls_reloaded(read.is_ok());
        match read {
            Ok(identity) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = identity.config.clone();
                self.took(&identity);
            }
            Err(error) => tracing::error!(%error, "the new TLS files are refused; the old stay in force"),
        }
    }

    fn took(&self, identity: &Identity) {
        for warning in identity.warnings(&self.files, now_s()) {
            tracing::warn!("{warning}");
        }
        self.metrics.tls_certificate_expires(identity.not_after_s);
        tracing::info!(serial = identity.serial, until = identity.until(), "TLS certificate in force");
    }
}

fn contents(path: &Path) -> Result<Vec<u8>, TlsError> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) if bytes.len() as u64 > MAX_FILE_BYTES => Err(TlsError::TooLarge { path: path.to_owned() }),
        Ok(bytes) => Ok(bytes),
        Err(error) => Err(TlsError::Unreadable { path: path.to_owned(), error }),
    }
}

fn readable_by_everyone(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0)
}

fn moment(unix_s: u64) -> String {
    i64::try_from(unix_s)
        .ok()
        .and_then(|s| jiff::Timestamp::from_second(s).ok())
        .map_or_else(|| "the end of time".to_owned(), |time| time.to_string())
}

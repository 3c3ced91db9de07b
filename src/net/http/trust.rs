//! Whose certificates are trusted when others are asked by https.

use std::fmt;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// Certificates taken of a PEM file at most.
pub const EXTRA_MAX: usize = 1024;

/// Certificate authorities: Mozilla's list, and more where an operator names them. Cheap to clone.
#[derive(Clone)]
pub struct Trust {
    pub(super) roots: Arc<RootCertStore>,
    /// The further ones, for comparison.
    extra: Arc<[CertificateDer<'static>]>,
}

/// Why certificates cannot be trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPem {
    /// It is no PEM.
    #[error("it is not PEM (RFC 7468): {0}")]
    Syntax(String),
    /// One of them cannot be used.
    #[error("its certificate number {0} cannot be used: {1}")]
    Certificate(usize, String),
    /// There are none.
    #[error("it has no certificate (a part that begins with -----BEGIN CERTIFICATE-----)")]
    Empty,
    /// There are too many.
    #[error("it has more than {EXTRA_MAX} certificates")]
    TooMany,
}

impl Trust {
    /// Mozilla's list and the certificates of this PEM text.
    ///
    /// # Errors
    /// What is wrong with the text; one certificate at least must be in it.
    pub fn with_pem(pem: &[u8]) -> Result<Self, BadPem> {
        let mut roots = mozilla();
        let mut extra = Vec::new();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| BadPem::Syntax(error.to_string()))?;
            if extra.len() >= EXTRA_MAX {
                return Err(BadPem::TooMany);
            }
            let number = extra.len() + 1;
            roots.add(certificate.clone()).map_err(|error| BadPem::Certificate(number, error.to_string()))?;
            extra.push(certificate);
        }
        if extra.is_empty() {
            return Err(BadPem::Empty);
        }
        Ok(Self { roots: Arc::new(roots), extra: extra.into() })
    }
}

fn mozilla() -> RootCertStore {
    RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }
}

impl Default for Trust {
    /// Mozilla's list.
    fn default() -> Self {
        Self { roots: Arc::new(mozilla()), extra: Arc::default() }
    }
}

impl PartialEq for Trust {
    fn eq(&self, other: &Self) -> bool {
        self.extra == other.extra
    }
}

impl Eq for Trust {}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").field("extra", &self.extra.len()).finish_non_exhaustive()
    }
}

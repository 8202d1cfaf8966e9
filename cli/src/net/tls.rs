//! TLS to a relay (`wss://`), by rustls over a socket that does not block.

use mio::net::TcpStream;
use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, ClientConnection, RootCertStore, crypto};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

/// Why there is nobody to trust.
#[derive(Debug, Error)]
pub enum TrustError {
    /// The file of `--net-ca` cannot be read or has something else in it.
    #[error("--net-ca {path}: {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The system has no root certificates.
    #[error("this system has no root certificates{0}: give those of the relay with --net-ca FILE")]
    NoRoots(String),
}

/// Whose signatures on a relay's certificate count.
#[derive(Clone)]
pub struct Trust(Arc<ClientConfig>);

impl Trust {
    /// Trusts the certificates of a PEM file and nobody else, or without a file those whom the system trusts.
    ///
    /// # Errors
    /// When there are none.
    pub fn new(file: Option<&Path>) -> Result<Self, TrustError> {
        let roots = match file {
            Some(path) => of_file(path)?,
            None => of_system()?,
        };
        let provider = Arc::new(crypto::ring::default_provider());
        let failed = |why: String| match file {
            Some(path) => TrustError::File { path: path.to_owned(), why },
            None => TrustError::NoRoots(format!(" that can be used ({why})")),
        };
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(|e| failed(e.to_string()))?;
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| failed(e.to_string()))?
            .with_webpki_verifier(verifier)
            .with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }
}

fn of_file(path: &Path) -> Result<RootCertStore, TrustError> {
    let failed = |why: String| TrustError::File { path: path.to_owned(), why };
    let mut roots = RootCertStore::empty();
    // Read as a whole first: that error has the better words.
    let text = std::fs::read(path).map_err(|e| failed(e.to_string()))?;
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|e| failed(format!("no certificate in PEM form ({e})")))?;
        roots.add(certificate).map_err(|e| failed(format!("a certificate that cannot be used ({e})")))?;
    }
    if roots.is_empty() { Err(failed("no certificate in PEM form".into())) } else { Ok(roots) }
}

fn of_system() -> Result<RootCertStore, TrustError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map(|e| format!(" ({e})")).unwrap_or_default();
        return Err(TrustError::NoRoots(why));
    }
    Ok(roots)
}

/// A connection to a relay, encrypted or not.
pub enum Stream {
    /// `ws://`
    Plain(TcpStream),
    /// `wss://`
    Tls(Box<Tls>),
}

/// The two directions are independent of each other: what cannot be written yet never keeps from reading.
pub struct Tls {
    connection: ClientConnection,
    tcp: TcpStream,
}

impl Stream {
    /// Encrypts what goes through `tcp`. The handshake is done with the first reads and writes.
    ///
    /// # Errors
    /// When nothing can be the certificate of such a host.
    pub fn tls(tcp: TcpStream, trust: &Trust, host: &str) -> io::Result<Self> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let connection = ClientConnection::new(Arc::clone(&trust.0), name).map_err(io::Error::other)?;
        Ok(Self::Tls(Box::new(Tls { connection, tcp })))
    }

    /// The socket.
    pub fn tcp(&mut self) -> &mut TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => &mut tls.tcp,
        }
    }

    /// Says that nothing more comes, as far as it can be said at once.
    pub fn finish(&mut self) {
        if let Self::Tls(tls) = self {
            tls.connection.send_close_notify();
            let _ = tls.push();
        }
    }
}

impl Tls {
    /// Writes what is encrypted, as far as the socket takes it.
    fn push(&mut self) -> io::Result<()> {
        while self.connection.wants_write() {
            self.connection.write_tls(&mut self.tcp)?;
        }
        Ok(())
    }

    /// The same where it is no matter if it is not all.
    fn push_some(&mut self) -> io::Result<()> {
        match self.push() {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(()),
            other => other,
        }
    }
}

impl Read for Tls {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.connection.reader().read(buffer) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                // Data, or the end: announced, or cut off.
                other => return other,
            }
            self.push_some()?;
            self.connection.read_tls(&mut self.tcp)?;
            if let Err(e) = self.connection.process_new_packets() {
                // The relay is told why.
                let _ = self.push();
                return Err(io::Error::new(io::ErrorKind::InvalidData, e));
            }
            self.push_some()?;
        }
    }
}

impl Write for Tls {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let mut taken = self.connection.writer().write(data)?;
        if taken == 0 && !data.is_empty() {
            // The buffer is full: there is room when some of it could be sent.
            self.push_some()?;
            taken = self.connection.writer().write(data)?;
            if taken == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
        }
        self.push_some()?;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.connection.writer().flush()?;
        self.push()?;
        self.tcp.flush()
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.read(buffer),
            Self::Tls(tls) => tls.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.write(data),
            Self::Tls(tls) => tls.write(data),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(tcp) => tcp.flush(),
            Self::Tls(tls) => tls.flush(),
        }
    }
}

/// What an error of TLS means for the user; `None` for other errors.
pub fn explain(error: &io::Error, host: &str) -> Option<String> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    let text = match error {
        // A bad signature: somebody of the same name is trusted.
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "its certificate is signed by nobody who is trusted here; for a certificate of your own give --net-ca FILE"
                .to_owned()
        }
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => format!("its certificate is not for the name {host}"),
        rustls::Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "its certificate has expired".to_owned()
        }
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => "its certificate is not valid yet: is the clock of this computer right?".to_owned(),
        rustls::Error::InvalidCertificate(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            "its certificate is that of an authority, which cannot be a server's as well: make it with \
             basicConstraints=CA:FALSE"
                .to_owned()
        }
        rustls::Error::InvalidCertificate(other) => format!("its certificate is not good: {other}"),
        rustls::Error::InvalidMessage(_) => "it does not speak TLS: is it a ws:// address?".to_owned(),
        other => format!("TLS: {other}"),
    };
    Some(text)
}

#[cfg(test)]
mod tests;

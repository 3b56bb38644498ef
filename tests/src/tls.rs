//! Upstreams that speak TLS, with a certificate of their own for the name `lab`.

use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use crate::stream::Stream;

/// Whom the server lets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clients {
    All,
    /// Those with the server's own certificate: nobody.
    Known,
}

/// Makes a certificate that signs itself and leaves it at `path`, for `proxy_ssl_trusted_certificate`.
pub(crate) fn server(path: &Path, clients: Clients) -> Result<Arc<ServerConfig>> {
    let made = rcgen::generate_simple_self_signed(["lab".to_owned()]).context("making a certificate")?;
    std::fs::write(path, made.cert.pem()).with_context(|| format!("writing {}", path.display()))?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let server = match clients {
        Clients::All => server.with_no_client_auth(),
        Clients::Known => {
            let mut roots = RootCertStore::empty();
            roots.add(made.cert.der().clone())?;
            server
                .with_client_cert_verifier(WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build()?)
        }
    };
    let server = server.with_single_cert(vec![made.cert.der().clone()], key)?;
    Ok(Arc::new(server))
}

/// Shakes hands with nginx.
pub(crate) fn accept(mut stream: TcpStream, server: Arc<ServerConfig>) -> Result<Stream> {
    let mut connection = ServerConnection::new(server)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    while connection.is_handshaking() {
        if let Err(error) = connection.complete_io(&mut stream) {
            // Its alert is on the way: a close before nginx's would turn into a reset.
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
            return Err(error.into());
        }
    }
    Ok(Stream::Tls(Box::new(StreamOwned::new(connection, stream))))
}

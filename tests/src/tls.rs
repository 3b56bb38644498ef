//! Upstreams that speak TLS, with a certificate of their own for the name `lab`.

use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::stream::Stream;

/// Makes a certificate that signs itself and leaves it at `path`, for `proxy_ssl_trusted_certificate`.
pub(crate) fn server(path: &Path) -> Result<Arc<ServerConfig>> {
    let made = rcgen::generate_simple_self_signed(["lab".to_owned()]).context("making a certificate")?;
    std::fs::write(path, made.cert.pem()).with_context(|| format!("writing {}", path.display()))?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let server = server.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key)?;
    Ok(Arc::new(server))
}

/// Shakes hands with nginx.
pub(crate) fn accept(mut stream: TcpStream, server: Arc<ServerConfig>) -> Result<Stream> {
    let mut connection = ServerConnection::new(server)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    Ok(Stream::Tls(Box::new(StreamOwned::new(connection, stream))))
}

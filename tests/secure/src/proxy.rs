//! HTTPS in front of ClickHouse: the engine that runs here has none of its own, so TLS ends in this process and goes on over
//! loopback.
//!
//! Invariant: bytes pass as they are.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::authority::Authority;

/// Serves until the runtime ends; returns its port.
pub(crate) async fn serve(authority: &Authority, target: u16) -> u16 {
    let certificates = CertificateDer::pem_file_iter(&authority.certificate)
        .unwrap()
        .collect::<Result<Vec<_>, _>>()
        .unwrap();
    let key = PrivateKeyDer::from_pem_file(&authority.key).unwrap();
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let port = devstack::free_port().unwrap();
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(pass(acceptor.clone(), stream, target));
        }
    });
    port
}

/// A client that does not trust the certificate ends here; so does one that is done.
async fn pass(acceptor: TlsAcceptor, stream: TcpStream, target: u16) {
    let Ok(mut client) = acceptor.accept(stream).await else {
        return;
    };
    if let Ok(mut server) = TcpStream::connect(("127.0.0.1", target)).await {
        let _ = server.set_nodelay(true);
        let _ = copy_bidirectional(&mut client, &mut server).await;
    }
}

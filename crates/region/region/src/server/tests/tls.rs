//! One port with and without TLS, and handshakes that come to nothing.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use longshore_types::SystemClock;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use trust::Trust;

use super::region_api::Running;
use super::wire::Sent;
use crate::server::limits;
use crate::tls::{Tls, TlsSource};

fn tls(dir: &Path) -> Arc<Tls> {
    let source = TlsSource::Own { names: vec!["localhost".to_owned()] };
    Arc::new(Tls::open(dir, source, Arc::new(SystemClock)).unwrap())
}

/// The answer to `GET /health` by TLS, or why there is none.
async fn health(region: &Running, tls: &Tls, name: &'static str) -> Result<String, String> {
    let authority = std::fs::read(tls.authority_file().unwrap()).unwrap();
    let config = Trust::only(&authority).unwrap().client_config();
    let stream = TcpStream::connect(region.address).await.unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from(name).unwrap();
    let mut stream = connector.connect(name, stream).await.map_err(|error| error.to_string())?;
    let request = b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    Ok(answer)
}

#[tokio::test]
async fn one_port_serves_tls_and_this_machine_without_it() {
    let dir = tempfile::tempdir().unwrap();
    let tls = tls(dir.path());
    let region = Running::start_with(Some(Arc::clone(&tls))).await;
    let answer = health(&region, &tls, "localhost").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert_eq!(region.send(&Sent::get("/health")).await.status, 200);
    let refused = health(&region, &tls, "elsewhere").await.unwrap_err();
    assert!(refused.contains("not valid for name"), "{refused}");
}

/// Like one who says nothing: the place goes to others, and the connection ends.
#[tokio::test]
async fn a_handshake_that_does_not_go_on_is_let_go_as_silence_is() {
    let dir = tempfile::tempdir().unwrap();
    let tls = tls(dir.path());
    let region = Running::start_with(Some(Arc::clone(&tls))).await;
    let mut slow = TcpStream::connect(region.address).await.unwrap();
    // A record of 512 bytes is promised, and little of it sent.
    slow.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc]).await.unwrap();
    let limit = limits::STRANGER_WAIT_MAX + 3 * limits::SWEEP_PERIOD + Duration::from_secs(5);
    let ended = tokio::time::timeout(limit, slow.read(&mut [0; 64])).await;
    // It ends in order, or by a reset.
    assert!(matches!(ended, Ok(Ok(0) | Err(_))), "{ended:?}");
    assert!(health(&region, &tls, "localhost").await.is_ok());
}

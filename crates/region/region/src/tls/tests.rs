//! The certificate's life, and connections that are served with it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use longshore_types::SeededEnv;
use trust::{AUTHORITY_FILE, Signed};

use super::*;

const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "region.lan"];

fn own() -> TlsSource {
    TlsSource::Own { names: NAMES.map(str::to_owned).to_vec() }
}

fn open(dir: &Path, source: TlsSource) -> (Tls, Arc<SeededEnv>) {
    let env = Arc::new(SeededEnv::from_seed(1));
    let clock = Arc::clone(&env) as Arc<dyn Clock>;
    (Tls::open(dir, source, clock).unwrap(), env)
}

#[test]
fn the_authority_is_made_once_and_its_key_is_for_its_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let (first, _) = open(dir.path(), own());
    let (second, _) = open(dir.path(), own());
    assert_eq!(first.fingerprint(), second.fingerprint());
    assert_ne!(first.current().chain[0], second.current().chain[0], "the server's is made anew");
    let tls = dir.path().join(AUTHORITY_DIR);
    let mode = fs::metadata(tls.join("ca.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(tls.join("format.json").exists());
    // A kill between the two files leaves a key, and that is gone on with.
    fs::remove_file(tls.join(AUTHORITY_FILE)).unwrap();
    open(dir.path(), own());
    fs::remove_file(tls.join("ca.key")).unwrap();
    let clock = Arc::new(SeededEnv::from_seed(1));
    let error = Tls::open(dir.path(), own(), clock).unwrap_err().to_string();
    assert!(error.contains("ca.key is not"), "{error}");
}

#[test]
fn the_servers_certificate_is_renewed_a_month_before_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let (tls, env) = open(dir.path(), own());
    let before = tls.current();
    let due = tls.renew().unwrap();
    assert_eq!(due, env.now().plus_ms(60 * DAY_MS));
    env.advance_ms(60 * DAY_MS - 1);
    assert_eq!(tls.renew().unwrap(), due);
    assert_eq!(tls.current().chain, before.chain);
    env.advance_ms(1);
    assert_eq!(tls.renew().unwrap(), due.plus_ms(60 * DAY_MS));
    let after = tls.current();
    assert_ne!(after.chain[0], before.chain[0]);
    assert_eq!(after.chain[1], before.chain[1], "the authority stays");
}

fn sign(authority: &Authority, now: Timestamp) -> Signed {
    let names = ["lan".to_owned()];
    let until = now.plus_ms(DAY_MS);
    let ask = Ask { subject: "lan", names: &names, key: SignedKey::P256, now, until };
    authority.sign(&ask).unwrap()
}

/// A certificate's and a key's file, and the file of who signed.
fn write_pair(dir: &Path, authority: &Authority, now: Timestamp) -> TlsSource {
    let signed = sign(authority, now);
    let (certificate, file) = (dir.join("server.pem"), dir.join("server.key"));
    fs::write(&certificate, trust::to_pem(&signed.certificate)).unwrap();
    fs::write(&file, signed.key_pem.as_bytes()).unwrap();
    assert!(PrivateKeyDer::from_pem_file(&file).is_ok());
    let authority = Some(authority.certificate_file().to_owned());
    TlsSource::Files { certificate, key: file, authority }
}

#[test]
fn files_that_change_are_read_again_and_a_broken_pair_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let env = SeededEnv::from_seed(1);
    let authority = Authority::open(&dir.path().join("theirs"), env.now()).unwrap();
    let source = write_pair(dir.path(), &authority, env.now());
    let (tls, env) = open(dir.path(), source);
    assert!(!dir.path().join(AUTHORITY_DIR).exists(), "no authority of our own is made");
    let first = tls.current();
    assert_eq!(first.chain.len(), 2, "clients are shown the authority");
    assert_eq!(tls.renew().unwrap(), env.now().plus_ms(FILES_PERIOD_MS));
    assert_eq!(tls.current().chain, first.chain);
    let file = dir.path().join("server.key");
    let key = fs::read(&file).unwrap();
    fs::write(&file, "no key").unwrap();
    let error = tls.renew().unwrap_err().to_string();
    assert!(error.contains("server.key holds no private key"), "{error}");
    assert_eq!(tls.current().chain, first.chain);
    write_pair(dir.path(), &authority, env.now());
    fs::write(&file, key).unwrap();
    let error = tls.renew().unwrap_err().to_string();
    assert!(error.contains("don't go together"), "{error}");
    write_pair(dir.path(), &authority, env.now());
    tls.renew().unwrap();
    assert_ne!(tls.current().chain[0], first.chain[0]);
    assert_eq!(tls.fingerprint(), Some(Fingerprint::of(&sign(&authority, env.now()).authority)));
}

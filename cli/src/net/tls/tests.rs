use super::*;
use crate::console::{Input, Notice};
use crate::net::relay::{Relay, RelayUrl};
use crate::net::{Cable, QUEUE};
use rcgen::{CertificateParams, CertifiedKey, KeyPair, generate_simple_self_signed};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use tab86_relay::config::Settings;
use tab86_relay::net::{SystemDialer, SystemResolver};
use tab86_relay::server::{Running, start};
use tungstenite::Message;

/// A folder that is gone with its owner.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("tab86-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn made_for(name: &str) -> (String, KeyPair) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    (cert.pem(), signing_key)
}

fn made_with(change: impl Fn(&mut CertificateParams)) -> (String, KeyPair) {
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key)
}

/// Our relay with a certificate.
struct Server {
    runtime: tokio::runtime::Runtime,
    running: Option<Running>,
    port: u16,
}

impl Server {
    fn new(tls: Option<(PathBuf, PathBuf)>) -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let settings = Settings { listen: vec![([127, 0, 0, 1], 0).into()], tls, ..Settings::default() };
        let resolver = SystemResolver::from_file(Path::new("/nonexistent"));
        let running = runtime.block_on(start(settings, Arc::new(SystemDialer), Arc::new(resolver))).unwrap();
        let port = running.addresses[0].port();
        Self { runtime, running: Some(running), port }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            self.runtime.block_on(running.stop());
        }
    }
}

fn connect(port: u16, trusted: &Path) -> (Relay, Receiver<Input>) {
    let (sender, notices) = channel();
    let url = RelayUrl::parse(&format!("wss://127.0.0.1:{port}/r/test")).unwrap();
    (Relay::connect(url, Some(Trust::new(Some(trusted)).unwrap()), sender).unwrap(), notices)
}

fn notice(notices: &Receiver<Input>) -> Notice {
    match notices.recv_timeout(Duration::from_secs(60)).unwrap() {
        Input::Network(notice) => notice,
        other => panic!("{other:?}"),
    }
}

/// What the user is told when the relay has `made` as certificate and `trusted` is trusted.
fn told(name: &str, made: (String, KeyPair), trusted: Option<&str>) -> String {
    let folder = Folder::new(name);
    let (cert, key) = (folder.write("cert.pem", &made.0), folder.write("key.pem", &made.1.serialize_pem()));
    let trusted = trusted.map_or_else(|| cert.clone(), |text| folder.write("trusted.pem", text));
    let server = Server::new(Some((cert, key)));
    let (_relay, notices) = connect(server.port, &trusted);
    match notice(&notices) {
        Notice::Down(why) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn frames_go_both_ways_at_our_relay() {
    let folder = Folder::new("tls");
    let (cert, key) = made_for("127.0.0.1");
    let (cert, key) = (folder.write("cert.pem", &cert), folder.write("key.pem", &key.serialize_pem()));
    let server = Server::new(Some((cert.clone(), key)));
    let (relay, notices) = connect(server.port, &cert);
    assert_eq!(notice(&notices), Notice::Up);
    assert!(relay.is_up());
    let (own, gateway) = ([2, 0, 0, 0, 0, 9], [10, 86, 0, 1]);
    let arp =
        [&[0xff; 6][..], &own, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &own, &[10, 86, 0, 9], &[0; 6], &gateway].concat();
    relay.send(arp);
    assert_eq!(notice(&notices), Notice::Frames);
    let answer = relay.receive().unwrap();
    assert_eq!((&answer[..6], &answer[20..22], &answer[28..32]), (&own[..], &[0, 2][..], &gateway[..]));
    // The relay stops: the connection ends, and is announced once.
    drop(server);
    assert!(matches!(notice(&notices), Notice::Down(_)));
}

#[test]
fn certificates_that_are_not_good_are_explained() {
    let stranger = made_for("127.0.0.1").0;
    assert!(told("stranger", made_for("127.0.0.1"), Some(&stranger)).contains("give --net-ca FILE"));
    let named = made_with(|params| params.distinguished_name.push(rcgen::DnType::CommonName, "somebody else")).0;
    assert!(told("stranger", made_for("127.0.0.1"), Some(&named)).contains("give --net-ca FILE"));
    assert_eq!(told("name", made_for("relay.test"), None), "its certificate is not for the name 127.0.0.1");
    let old = made_with(|params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
    assert_eq!(told("old", old, None), "its certificate has expired");
    let early = made_with(|params| {
        params.not_before = rcgen::date_time_ymd(4000, 1, 1);
        params.not_after = rcgen::date_time_ymd(4001, 1, 1);
    });
    assert!(told("early", early, None).contains("not valid yet"));
    let authority = made_with(|params| params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained));
    assert!(told("authority", authority, None).contains("basicConstraints=CA:FALSE"));
}

#[test]
fn a_relay_without_tls_is_recognised() {
    let folder = Folder::new("plain");
    let trusted = folder.write("cert.pem", &made_for("127.0.0.1").0);
    let server = Server::new(None);
    let (_relay, notices) = connect(server.port, &trusted);
    assert_eq!(notice(&notices), Notice::Down("it does not speak TLS: is it a ws:// address?".into()));
}

#[test]
fn whom_to_trust_must_be_readable() {
    let folder = Folder::new("trust");
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let unfinished = "-----BEGIN CERTIFICATE-----\n!!!!\n";
    for (name, text, part) in [
        ("key.pem", KeyPair::generate().unwrap().serialize_pem().as_str(), "no certificate in PEM form"),
        ("empty.pem", "", "no certificate in PEM form"),
        ("broken.pem", broken, "cannot be used"),
        ("unfinished.pem", unfinished, "no certificate in PEM form"),
    ] {
        let path = folder.write(name, text);
        let message = Trust::new(Some(&path)).err().unwrap().to_string();
        assert!(message.starts_with("--net-ca ") && message.contains(part), "{message}");
    }
    let message = Trust::new(Some(&folder.0.join("missing"))).err().unwrap().to_string();
    assert!(message.contains("No such file"), "{message}");
}

/// A relay that sends as fast as it can and reads nothing until it is through, and a machine that does the same: each
/// direction fills up by itself, and nothing is lost.
#[test]
fn a_full_direction_does_not_stop_the_other_one() {
    let folder = Folder::new("full");
    let (text, key) = made_for("127.0.0.1");
    let cert = folder.write("cert.pem", &text);
    let chain = vec![CertificateDer::from_pem_file(&cert).unwrap()];
    let secret = rustls::pki_types::PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (relay, notices) = connect(listener.local_addr().unwrap().port(), &cert);
    let count = 40 * QUEUE;
    let server = std::thread::spawn(move || {
        let tcp = listener.accept().unwrap().0;
        let tls = rustls::StreamOwned::new(rustls::ServerConnection::new(Arc::new(config)).unwrap(), tcp);
        let mut socket = tungstenite::accept(tls).unwrap();
        for n in 0..count as u32 {
            socket.send(Message::binary(n.to_le_bytes().repeat(300))).unwrap();
        }
        for n in 0..count as u32 {
            match socket.read().unwrap() {
                Message::Binary(data) => assert_eq!((data.len(), &data[..4]), (1480, &n.to_le_bytes()[..])),
                other => panic!("{other:?}"),
            }
        }
    });
    assert_eq!(notice(&notices), Notice::Up);
    let (mut sent, mut got) = (0, 0);
    while sent < count || got < count {
        assert!(relay.is_up());
        while sent < count && relay.unsent() < QUEUE {
            relay.send((sent as u32).to_le_bytes().repeat(370));
            sent += 1;
        }
        while let Some(frame) = relay.receive() {
            assert_eq!(frame[..4], (got as u32).to_le_bytes(), "in order");
            got += 1;
        }
        assert!(!matches!(notices.try_recv(), Ok(Input::Network(Notice::Down(_)))));
        std::thread::yield_now();
    }
    server.join().unwrap();
}

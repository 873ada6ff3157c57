//! The handshake proves both keys for one TLS session, and nothing else passes.

use channel::keys::Point;
use channel::seed_signer::SeedSigner;
use channel::signer::Signer;
use proto::handshake::{ClientHandshake, HandshakeError, HubHandshake};
use proto::hub::v1 as pb;

const SESSION: [u8; 32] = [9; 32];

fn secret(byte: u8) -> SeedSigner {
    SeedSigner::new(&[byte; 64])
}

fn key(byte: u8) -> Point {
    secret(byte).node_id()
}

fn hello() -> (ClientHandshake, pb::ClientHello) {
    ClientHandshake::start(&secret(1), key(2), [3; 32], SESSION)
}

fn answer(hello: &pb::ClientHello) -> (HubHandshake, pb::HubHello) {
    HubHandshake::answer(hello, &secret(2), [4; 32], SESSION).expect("a good hello")
}

#[test]
fn both_sides_prove_their_keys() {
    let (client, hello) = hello();
    let (hub, answer) = answer(&hello);
    let proof = client.prove(&secret(1), &answer).expect("the hub is the right one");
    assert_eq!(hub.verify(&proof), Ok(key(1)));
}

#[test]
fn another_hub_is_refused() {
    let (client, hello) = hello();
    let (_, answer) = HubHandshake::answer(&hello, &secret(7), [4; 32], SESSION).expect("a good hello");
    assert_eq!(
        client.prove(&secret(1), &answer),
        Err(HandshakeError::WrongHub { got: key(7), expected: key(2) })
    );
}

#[test]
fn a_man_in_the_middle_has_another_tls_session_and_is_refused() {
    let (client, hello) = ClientHandshake::start(&secret(1), key(2), [3; 32], [8; 32]);
    let (_, answer) = answer(&hello);
    assert_eq!(client.prove(&secret(1), &answer), Err(HandshakeError::WrongSignature { who: "hub" }));
}

#[test]
fn a_proof_of_another_connection_is_refused() {
    let (client, first) = hello();
    let (_, first_answer) = answer(&first);
    let proof = client.prove(&secret(1), &first_answer).expect("the hub is the right one");
    let (_, second) = hello();
    let (hub, _) = HubHandshake::answer(&second, &secret(2), [5; 32], SESSION).expect("a good hello");
    assert_eq!(hub.verify(&proof), Err(HandshakeError::WrongSignature { who: "wallet" }));
}

#[test]
fn the_hubs_signature_does_not_serve_as_a_wallets() {
    let (_, hello) = hello();
    let (hub, answer) = answer(&hello);
    let proof = pb::ClientProof { signature: answer.signature };
    assert_eq!(hub.verify(&proof), Err(HandshakeError::WrongSignature { who: "wallet" }));
}

#[test]
fn another_version_and_the_hubs_own_key_are_refused() {
    let (_, mut hello) = hello();
    hello.version = 2;
    let refused = HubHandshake::answer(&hello, &secret(2), [4; 32], SESSION).map(|_| ());
    assert_eq!(refused, Err(HandshakeError::UnsupportedVersion { got: 2, expected: 1 }));
    let (_, hello) = ClientHandshake::start(&secret(2), key(2), [3; 32], SESSION);
    let refused = HubHandshake::answer(&hello, &secret(2), [4; 32], SESSION).map(|_| ());
    assert_eq!(refused, Err(HandshakeError::ConnectedToSelf));
}

#[test]
fn malformed_fields_are_named() {
    let (_, mut hello) = hello();
    hello.nonce = bytes::Bytes::from_static(&[1; 31]);
    let refused = HubHandshake::answer(&hello, &secret(2), [4; 32], SESSION).map(|_| ());
    let expected = proto::WireError::WrongLength { field: "nonce", got: 31, expected: 32 };
    assert_eq!(refused, Err(HandshakeError::Malformed(expected)));
}

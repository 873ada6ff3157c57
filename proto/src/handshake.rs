//! Who is at the other end: each side signs the transcript of the connection with its node key, the hub first.
//!
//! The transcript's hash covers the role, both node keys, both nonces, the version and the TLS session (its exporter), so that
//! a signature is good for one connection and one direction only. Certificates prove nothing here and need no authority.
//!
//! Pure: nonces and the exporter are handed in. Order: [`ClientHandshake::start`], [`HubHandshake::answer`],
//! [`ClientHandshake::prove`], [`HubHandshake::verify`].

use channel::keys::Point;
use channel::signer::{Signer, verify_tagged};

use crate::fields::{bytes, fixed, node_key, signature, signature_out};
use crate::hub::v1 as pb;
use crate::limits::PROTOCOL_VERSION;
use crate::wire_error::WireError;

/// Label of the TLS exporter (RFC 8446, 7.5), without a context.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-payment-hub-v1";

/// Bytes taken from the exporter.
pub const EXPORTER_BYTES: usize = 32;

/// Why a connection is not trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    #[error("the handshake is malformed: {0}")]
    Malformed(#[from] WireError),
    #[error("{got} came where the handshake needs {expected}")]
    OutOfOrder { got: &'static str, expected: &'static str },
    #[error("the peer speaks version {got} of the protocol; this side speaks {expected}")]
    UnsupportedVersion { got: u32, expected: u32 },
    #[error("the hub's node key is {got}; the configuration says {expected}")]
    WrongHub { got: Point, expected: Point },
    #[error("the {who}'s signature does not prove its node key for this connection")]
    WrongSignature { who: &'static str },
    #[error("the wallet claims the hub's own node key")]
    ConnectedToSelf,
}

impl HandshakeError {
    /// The code that the goodbye carries.
    pub fn code(&self) -> pb::ErrorCode {
        match self {
            Self::UnsupportedVersion { .. } => pb::ErrorCode::UnsupportedVersion,
            Self::Malformed(_)
            | Self::OutOfOrder { .. }
            | Self::WrongHub { .. }
            | Self::WrongSignature { .. }
            | Self::ConnectedToSelf => pb::ErrorCode::HandshakeFailed,
        }
    }
}

/// Who signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Hub,
    Wallet,
}

impl Role {
    /// The tag of the hash that is signed (BIP 340's tagged hash).
    fn tag(self) -> &'static str {
        match self {
            Role::Hub => "payment-hub/handshake/hub/1",
            Role::Wallet => "payment-hub/handshake/wallet/1",
        }
    }
}

/// What both sides know of one connection when they sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transcript {
    pub version: u32,
    pub hub_key: Point,
    pub wallet_key: Point,
    pub hub_nonce: [u8; 32],
    pub wallet_nonce: [u8; 32],
    pub exporter: [u8; EXPORTER_BYTES],
}

impl Transcript {
    /// What is signed, behind the role's tag.
    fn to_bytes(&self) -> [u8; 166] {
        let mut bytes = [0; 166];
        bytes[..4].copy_from_slice(&self.version.to_be_bytes());
        bytes[4..37].copy_from_slice(self.hub_key.as_bytes());
        bytes[37..70].copy_from_slice(self.wallet_key.as_bytes());
        bytes[70..102].copy_from_slice(&self.hub_nonce);
        bytes[102..134].copy_from_slice(&self.wallet_nonce);
        bytes[134..].copy_from_slice(&self.exporter);
        bytes
    }

    fn sign(&self, who: Role, signer: &dyn Signer) -> ::bytes::Bytes {
        signature_out(&signer.sign_tagged(who.tag(), &self.to_bytes()))
    }

    fn verify(&self, who: Role, wire: &[u8]) -> Result<(), HandshakeError> {
        let (key, name) = match who {
            Role::Hub => (&self.hub_key, "hub"),
            Role::Wallet => (&self.wallet_key, "wallet"),
        };
        let signature = signature("signature", wire)?;
        verify_tagged(key, who.tag(), &self.to_bytes(), &signature)
            .map_err(|_| HandshakeError::WrongSignature { who: name })
    }
}

fn check_version(got: u32) -> Result<(), HandshakeError> {
    let expected = PROTOCOL_VERSION;
    if got == expected { Ok(()) } else { Err(HandshakeError::UnsupportedVersion { got, expected }) }
}

/// The wallet's side.
#[derive(Clone, Debug)]
pub struct ClientHandshake {
    hub_key: Point,
    nonce: [u8; 32],
    exporter: [u8; EXPORTER_BYTES],
}

impl ClientHandshake {
    /// The first message. `nonce` must be random and new.
    pub fn start(
        signer: &dyn Signer,
        hub_key: Point,
        nonce: [u8; 32],
        exporter: [u8; EXPORTER_BYTES],
    ) -> (Self, pb::ClientHello) {
        let hello = pb::ClientHello {
            version: PROTOCOL_VERSION,
            node_key: bytes(signer.node_id().as_bytes()),
            nonce: bytes(&nonce),
        };
        (Self { hub_key, nonce, exporter }, hello)
    }

    /// Checks the hub's answer and makes the proof.
    pub fn prove(self, signer: &dyn Signer, hello: &pb::HubHello) -> Result<pb::ClientProof, HandshakeError> {
        check_version(hello.version)?;
        let got = node_key("node_key", &hello.node_key)?;
        if got != self.hub_key {
            return Err(HandshakeError::WrongHub { got, expected: self.hub_key });
        }
        let transcript = Transcript {
            version: hello.version,
            hub_key: got,
            wallet_key: signer.node_id(),
            hub_nonce: fixed("nonce", &hello.nonce)?,
            wallet_nonce: self.nonce,
            exporter: self.exporter,
        };
        transcript.verify(Role::Hub, &hello.signature)?;
        Ok(pb::ClientProof { signature: transcript.sign(Role::Wallet, signer) })
    }
}

/// The hub's side, after its answer.
#[derive(Clone, Debug)]
pub struct HubHandshake {
    transcript: Transcript,
}

impl HubHandshake {
    /// Checks the wallet's hello and answers it. `nonce` must be random and new.
    pub fn answer(
        hello: &pb::ClientHello,
        signer: &dyn Signer,
        nonce: [u8; 32],
        exporter: [u8; EXPORTER_BYTES],
    ) -> Result<(Self, pb::HubHello), HandshakeError> {
        check_version(hello.version)?;
        let transcript = Transcript {
            version: hello.version,
            hub_key: signer.node_id(),
            wallet_key: node_key("node_key", &hello.node_key)?,
            hub_nonce: nonce,
            wallet_nonce: fixed("nonce", &hello.nonce)?,
            exporter,
        };
        if transcript.wallet_key == transcript.hub_key {
            return Err(HandshakeError::ConnectedToSelf);
        }
        let answer = pb::HubHello {
            version: transcript.version,
            node_key: bytes(transcript.hub_key.as_bytes()),
            nonce: bytes(&nonce),
            signature: transcript.sign(Role::Hub, signer),
        };
        Ok((Self { transcript }, answer))
    }

    /// Checks the wallet's proof; the wallet's node key is proven then.
    pub fn verify(self, proof: &pb::ClientProof) -> Result<Point, HandshakeError> {
        self.transcript.verify(Role::Wallet, &proof.signature)?;
        Ok(self.transcript.wallet_key)
    }
}

/// What a frame is called in [`HandshakeError::OutOfOrder`].
pub fn frame_name(frame: &pb::Frame) -> &'static str {
    use pb::frame::Kind;
    match &frame.kind {
        Some(Kind::ClientHello(_)) => "ClientHello",
        Some(Kind::HubHello(_)) => "HubHello",
        Some(Kind::ClientProof(_)) => "ClientProof",
        Some(Kind::Welcome(_)) => "Welcome",
        Some(Kind::Batch(_)) => "Batch",
        Some(Kind::Goodbye(_)) => "Goodbye",
        None => "a frame of unknown kind",
    }
}

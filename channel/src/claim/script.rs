//! What the scripts of BOLT 3 ask of whoever spends their outputs, read from their bytes: so a claim is judged by the
//! script that the chain will run, not by what its maker meant.

use bitcoin::Script;
use bitcoin::hashes::{Hash, hash160, ripemd160};
use bitcoin::opcodes::Opcode;
use bitcoin::opcodes::all::{
    OP_CHECKMULTISIG, OP_CHECKSIG, OP_CHECKSIGVERIFY, OP_CLTV, OP_CSV, OP_DROP, OP_DUP, OP_ELSE, OP_ENDIF,
    OP_EQUAL, OP_EQUALVERIFY, OP_HASH160, OP_IF, OP_NOTIF, OP_PUSHNUM_1, OP_PUSHNUM_2, OP_PUSHNUM_16,
    OP_SIZE, OP_SWAP,
};
use bitcoin::script::{Instruction, InstructionIndices};

use crate::bytes::PaymentPreimage;
use crate::commitment::HtlcDirection;
use crate::keys::Point;

/// One of the witness scripts that a commitment or an HTLC transaction pays to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lock {
    /// `to_local` and the output of an HTLC transaction.
    Delayed {
        revocation: Point,
        delay_blocks: u32,
        delayed: Point,
    },
    /// `to_remote` with anchors.
    Waiting {
        key: Point,
    },
    Htlc(HtlcLock),
}

/// An HTLC output. Directions as the commitment's broadcaster sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HtlcLock {
    pub(super) direction: HtlcDirection,
    revocation_hash: [u8; 20],
    pub(super) broadcaster: Point,
    pub(super) countersignatory: Point,
    payment_hash: [u8; 20],
    /// 0 for an offered HTLC: the countersignatory signed no earlier HTLC transaction.
    pub(super) expiry: u32,
    /// Blocks that every path but the revocation waits.
    pub(super) wait_blocks: u32,
}

impl HtlcLock {
    pub(super) fn is_opened_by(&self, preimage: &PaymentPreimage) -> bool {
        let hash = ripemd160::Hash::hash(preimage.payment_hash().as_bytes());
        hash.to_byte_array() == self.payment_hash
    }

    pub(super) fn is_revoked_by(&self, key: &Point) -> bool {
        hash160::Hash::hash(key.as_bytes()).to_byte_array() == self.revocation_hash
    }
}

impl Lock {
    /// Reads a script; `None` unless it is one of BOLT 3's to the last byte.
    pub(super) fn read(script: &Script) -> Option<Self> {
        let reader = || Reader(script.instruction_indices_minimal());
        read_delayed(reader())
            .or_else(|| read_waiting(reader()))
            .or_else(|| read_htlc(reader()).map(Self::Htlc))
    }
}

/// Takes a script apart from its start. Each step gives `None` where the script goes another way.
struct Reader<'s>(InstructionIndices<'s>);

impl<'s> Reader<'s> {
    fn next(&mut self) -> Option<Instruction<'s>> {
        self.0.next()?.ok().map(|(_, instruction)| instruction)
    }

    fn next_opcode(&mut self) -> Option<Opcode> {
        match self.next()? {
            Instruction::Op(opcode) => Some(opcode),
            Instruction::PushBytes(_) => None,
        }
    }

    fn opcodes(&mut self, expected: &[Opcode]) -> Option<()> {
        expected.iter().all(|opcode| self.next_opcode() == Some(*opcode)).then_some(())
    }

    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        match self.next()? {
            Instruction::PushBytes(bytes) => bytes.as_bytes().try_into().ok(),
            Instruction::Op(_) => None,
        }
    }

    fn key(&mut self) -> Option<Point> {
        self.bytes().map(Point::from_bytes)
    }

    /// A number above 0, as `Builder::push_int` writes it.
    fn number(&mut self) -> Option<u32> {
        let value = match self.next()? {
            Instruction::Op(opcode) => {
                let opcode = opcode.to_u8();
                if !(OP_PUSHNUM_1.to_u8()..=OP_PUSHNUM_16.to_u8()).contains(&opcode) {
                    return None;
                }
                u32::from(opcode - OP_PUSHNUM_1.to_u8()) + 1
            }
            Instruction::PushBytes(bytes) => {
                let bytes = bytes.as_bytes();
                if bytes.len() > 4 {
                    return None;
                }
                bytes.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte))
            }
        };
        // The greatest bit of four bytes is the sign.
        (value > 0 && value < 1 << 31).then_some(value)
    }

    fn end(mut self) -> Option<()> {
        self.0.next().is_none().then_some(())
    }
}

fn read_delayed(mut reader: Reader<'_>) -> Option<Lock> {
    reader.opcodes(&[OP_IF])?;
    let revocation = reader.key()?;
    reader.opcodes(&[OP_ELSE])?;
    let delay_blocks = reader.number()?;
    reader.opcodes(&[OP_CSV, OP_DROP])?;
    let delayed = reader.key()?;
    reader.opcodes(&[OP_ENDIF, OP_CHECKSIG])?;
    reader.end()?;
    Some(Lock::Delayed { revocation, delay_blocks, delayed })
}

fn read_waiting(mut reader: Reader<'_>) -> Option<Lock> {
    let key = reader.key()?;
    reader.opcodes(&[OP_CHECKSIGVERIFY, OP_PUSHNUM_1, OP_CSV])?;
    reader.end()?;
    Some(Lock::Waiting { key })
}

fn read_htlc(mut reader: Reader<'_>) -> Option<HtlcLock> {
    reader.opcodes(&[OP_DUP, OP_HASH160])?;
    let revocation_hash = reader.bytes()?;
    reader.opcodes(&[OP_EQUAL, OP_IF, OP_CHECKSIG, OP_ELSE])?;
    let countersignatory = reader.key()?;
    reader.opcodes(&[OP_SWAP, OP_SIZE])?;
    if reader.number()? != PaymentPreimage::LENGTH as u32 {
        return None;
    }
    reader.opcodes(&[OP_EQUAL])?;
    let direction = match reader.next_opcode()? {
        OP_NOTIF => HtlcDirection::Offered,
        OP_IF => HtlcDirection::Received,
        _ => return None,
    };
    let (broadcaster, payment_hash, expiry) = match direction {
        HtlcDirection::Offered => {
            reader.opcodes(&[OP_DROP])?;
            let broadcaster = read_both_sign(&mut reader)?;
            reader.opcodes(&[OP_ELSE])?;
            let payment_hash = read_payment_hash(&mut reader)?;
            (broadcaster, payment_hash, 0)
        }
        HtlcDirection::Received => {
            let payment_hash = read_payment_hash(&mut reader)?;
            let broadcaster = read_both_sign(&mut reader)?;
            reader.opcodes(&[OP_ELSE, OP_DROP])?;
            let expiry = reader.number()?;
            reader.opcodes(&[OP_CLTV, OP_DROP])?;
            (broadcaster, payment_hash, expiry)
        }
    };
    reader.opcodes(&[OP_CHECKSIG, OP_ENDIF])?;
    let wait_blocks = match reader.next_opcode()? {
        OP_ENDIF => 0,
        OP_PUSHNUM_1 => reader.opcodes(&[OP_CSV, OP_DROP, OP_ENDIF]).map(|()| 1)?,
        _ => return None,
    };
    reader.end()?;
    Some(HtlcLock {
        direction,
        revocation_hash,
        broadcaster,
        countersignatory,
        payment_hash,
        expiry,
        wait_blocks,
    })
}

/// `<2> OP_SWAP <broadcaster's key> <2> OP_CHECKMULTISIG`
fn read_both_sign(reader: &mut Reader<'_>) -> Option<Point> {
    reader.opcodes(&[OP_PUSHNUM_2, OP_SWAP])?;
    let broadcaster = reader.key()?;
    reader.opcodes(&[OP_PUSHNUM_2, OP_CHECKMULTISIG])?;
    Some(broadcaster)
}

/// `OP_HASH160 <RIPEMD160(payment_hash)> OP_EQUALVERIFY`
fn read_payment_hash(reader: &mut Reader<'_>) -> Option<[u8; 20]> {
    reader.opcodes(&[OP_HASH160])?;
    let payment_hash = reader.bytes()?;
    reader.opcodes(&[OP_EQUALVERIFY])?;
    Some(payment_hash)
}

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

#[cfg(test)]
mod tests {
    use bitcoin::ScriptBuf;
    use secp256k1::{PublicKey, SECP256K1, SecretKey};

    use super::*;
    use crate::format::CommitmentFormat;
    use crate::keys::HtlcKeys;
    use crate::scripts;

    fn key(byte: u8) -> PublicKey {
        SecretKey::from_slice(&[byte; 32]).unwrap().public_key(SECP256K1)
    }

    fn htlc_script(format: CommitmentFormat, direction: HtlcDirection, cltv_expiry: u32) -> ScriptBuf {
        let payment_hash = PaymentPreimage::from_bytes([9; 32]).payment_hash();
        let keys = HtlcKeys { broadcaster: key(2), countersignatory: key(3) };
        let lock = scripts::HtlcLock { direction, payment_hash: &payment_hash, cltv_expiry };
        scripts::htlc(format, &key(1), &keys, lock)
    }

    /// Every script there is, at the values where its length changes.
    fn scripts() -> Vec<ScriptBuf> {
        let mut scripts = Vec::new();
        for delay in [1, 16, 17, 127, 128, 255, 256, 2_016, 32_767, 32_768, u16::MAX] {
            scripts.push(scripts::delayed(&key(1), delay, &key(4)));
        }
        for format in CommitmentFormat::ALL {
            scripts.extend(scripts::to_countersignatory(format, &key(5)).1);
            scripts.push(htlc_script(format, HtlcDirection::Offered, 1));
            for expiry in [1, 16, 17, 127, 128, 800_000, 8_388_607, 8_388_608, 499_999_999] {
                scripts.push(htlc_script(format, HtlcDirection::Received, expiry));
            }
        }
        scripts
    }

    #[test]
    fn what_a_script_asks_for_is_what_it_was_made_with() {
        for delay in [1, 16, 17, 127, 128, 2_016, 32_768, u16::MAX] {
            let (revocation, delayed) = (key(1).into(), key(4).into());
            let expected = Lock::Delayed { revocation, delay_blocks: delay.into(), delayed };
            assert_eq!(Lock::read(&scripts::delayed(&key(1), delay, &key(4))), Some(expected));
        }
        for format in CommitmentFormat::ALL {
            for (direction, expiry, expected) in [
                (HtlcDirection::Offered, 800_000, 0),
                (HtlcDirection::Received, 16, 16),
                (HtlcDirection::Received, 128, 128),
                (HtlcDirection::Received, 800_000, 800_000),
                (HtlcDirection::Received, 499_999_999, 499_999_999),
            ] {
                let Some(Lock::Htlc(lock)) = Lock::read(&htlc_script(format, direction, expiry)) else {
                    panic!("not read as an HTLC");
                };
                assert_eq!((lock.direction, lock.expiry), (direction, expected));
                assert_eq!((lock.broadcaster, lock.countersignatory), (key(2).into(), key(3).into()));
                assert_eq!(lock.wait_blocks, u32::from(format.waits_one_block()));
                assert!(lock.is_revoked_by(&key(1).into()) && !lock.is_revoked_by(&key(2).into()));
                assert!(lock.is_opened_by(&PaymentPreimage::from_bytes([9; 32])));
                assert!(!lock.is_opened_by(&PaymentPreimage::from_bytes([8; 32])));
            }
        }
        let (_, waiting) = scripts::to_countersignatory(CommitmentFormat::AnchorsZeroFeeHtlc, &key(5));
        assert_eq!(Lock::read(&waiting.unwrap()), Some(Lock::Waiting { key: key(5).into() }));
    }

    #[test]
    fn a_script_that_is_cut_continued_or_altered_asks_for_something_else_or_is_not_read() {
        for script in scripts() {
            let lock = Lock::read(&script);
            assert!(lock.is_some(), "{script}");
            let bytes = script.as_bytes();
            for length in 0..bytes.len() {
                assert_eq!(
                    Lock::read(Script::from_bytes(&bytes[..length])),
                    None,
                    "{script} cut at {length}"
                );
            }
            for more in 0..=u8::MAX {
                let longer = [bytes, &[more]].concat();
                assert_eq!(Lock::read(Script::from_bytes(&longer)), None);
            }
            for position in 0..bytes.len() {
                let mut altered = bytes.to_vec();
                altered[position] ^= 1;
                assert_ne!(Lock::read(Script::from_bytes(&altered)), lock, "{script} altered at {position}");
            }
        }
    }

    #[test]
    fn other_scripts_are_not_read() {
        let funding = scripts::funding(&key(1), &key(2));
        for script in [ScriptBuf::new(), funding, scripts::anchor(&key(1)), scripts::shared_anchor()] {
            assert_eq!(Lock::read(&script), None);
        }
    }
}

//! Whose on-chain coins a script holds, from the keys alone: no party is asked.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::bip32::{ChildNumber, Xpriv};
use bitcoin::key::{CompressedPublicKey, Secp256k1, TapTweak};
use bitcoin::secp256k1::{All, Keypair};
use bitcoin::{ScriptBuf, WPubkeyHash};
use settlement::onchain::AddressKind;

use super::Party;

/// Addresses in a row that the chain never saw after which no later one is looked for. Whoever builds a transaction that
/// comes to nothing has used an address up.
const GAP: u32 = 40;
/// Receiving and change (BIP 44).
const KEYCHAINS: [u32; 2] = [0, 1];

/// The scripts of everybody's coins.
pub struct Coins {
    secp: Secp256k1<All>,
    owners: BTreeMap<ScriptBuf, Party>,
}

impl Default for Coins {
    fn default() -> Self {
        Coins { secp: Secp256k1::new(), owners: BTreeMap::new() }
    }
}

impl Coins {
    /// The scripts of this party among all that the chain ever held.
    pub fn add(&mut self, party: Party, master: &Xpriv, kind: AddressKind, in_chain: &BTreeSet<ScriptBuf>) {
        for keychain in KEYCHAINS {
            self.add_keychain(party, master, kind, keychain, in_chain)
                .expect("no key of a seed is out of range");
        }
    }

    fn add_keychain(
        &mut self,
        party: Party,
        master: &Xpriv,
        kind: AddressKind,
        keychain: u32,
        in_chain: &BTreeSet<ScriptBuf>,
    ) -> Result<(), bitcoin::bip32::Error> {
        let purpose = match kind {
            AddressKind::P2wpkh => 84,
            AddressKind::P2tr => 86,
        };
        // Coin 1 is every network but the main one.
        let account = [purpose, 1, 0].map(|index| ChildNumber::Hardened { index });
        let account = master.derive_priv(&self.secp, &account)?;
        let chain = account.derive_priv(&self.secp, &[ChildNumber::Normal { index: keychain }])?;
        let (mut index, mut unseen) = (0, 0);
        while unseen < GAP {
            let key = chain.derive_priv(&self.secp, &[ChildNumber::Normal { index }])?;
            let script = self.script(&key.to_keypair(&self.secp), kind);
            unseen = if in_chain.contains(&script) { 0 } else { unseen + 1 };
            self.owners.insert(script, party);
            index += 1;
        }
        Ok(())
    }

    fn script(&self, key: &Keypair, kind: AddressKind) -> ScriptBuf {
        match kind {
            AddressKind::P2wpkh => {
                let hash: WPubkeyHash = CompressedPublicKey(key.public_key()).wpubkey_hash();
                ScriptBuf::new_p2wpkh(&hash)
            }
            AddressKind::P2tr => ScriptBuf::new_p2tr_tweaked(
                key.tap_tweak(&self.secp, None).to_keypair().x_only_public_key().0.dangerous_assume_tweaked(),
            ),
        }
    }

    pub fn owner(&self, script: &ScriptBuf) -> Option<Party> {
        self.owners.get(script).copied()
    }
}

#[cfg(test)]
impl Coins {
    pub fn scripts_of(&self, party: Party) -> impl Iterator<Item = &ScriptBuf> {
        self.owners.iter().filter(move |(_, owner)| **owner == party).map(|(script, _)| script)
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::Network;
    use channel::seed_signer::SeedSigner;
    use settlement::follow::BlockRef;
    use settlement::onchain::{OnchainConfig, OnchainWallet};

    use super::*;

    fn check_kind(kind: AddressKind) {
        let network = Network::Regtest;
        let master = SeedSigner::new(&[7; 64]).onchain_master(network);
        let hash = bitcoin::constants::genesis_block(network).block_hash();
        let start = BlockRef { height: 0, hash };
        let config = OnchainConfig {
            network,
            master,
            addresses: kind,
            start,
            address_gap: *settlement::limits::ADDRESS_GAPS.start(),
        };
        let mut wallet = OnchainWallet::create(config).unwrap();
        let mut coins = Coins::default();
        coins.add(Party::Wallet(3), &master, kind, &BTreeSet::new());
        for script in [wallet.new_address().script_pubkey(), wallet.change_script()] {
            assert_eq!(coins.owner(&script), Some(Party::Wallet(3)), "{kind:?}: {script}");
        }
        let mut others = Coins::default();
        let other = SeedSigner::new(&[8; 64]).onchain_master(network);
        others.add(Party::Hub, &other, kind, &BTreeSet::new());
        assert_eq!(others.owner(&wallet.change_script()), None);
    }

    #[test]
    fn coins_are_known_by_the_addresses_that_the_on_chain_wallet_gives_out() {
        check_kind(AddressKind::P2wpkh);
        check_kind(AddressKind::P2tr);
    }
}

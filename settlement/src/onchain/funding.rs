//! Funding transactions out of the wallet's coins: built, signed and verified in one go, and verified again later.

use bdk_wallet::TxOrdering;
use bdk_wallet::coin_selection::{DefaultCoinSelectionAlgorithm, InsufficientFunds};
use bdk_wallet::error::CreateTxError;
use bitcoin::absolute::LockTime;
use bitcoin::secp256k1::rand::SeedableRng;
use bitcoin::secp256k1::rand::rngs::StdRng;
use bitcoin::sighash::SighashCache;
use bitcoin::{Amount, FeeRate, OutPoint, Transaction, TxOut, Witness};

use super::{CoinState, OnchainError, OnchainWallet};
use crate::fees::FeeBounds;
use crate::limits;
use crate::verify::{FundingFlaw, FundingRules, FundingTransaction};

/// Which coins may be spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CoinChoice {
    /// Only those in the chain.
    Confirmed,
    /// Those in the chain if they suffice, else our own unconfirmed change too, while few of our transactions wait.
    ConfirmedOrOwnChange,
}

/// What to build.
#[derive(Debug, Clone)]
pub struct FundingRequest<'a> {
    /// The outputs wanted; at least one, none of them dust.
    pub outputs: &'a [TxOut],
    /// The feerate; it is reached or slightly exceeded, never missed.
    pub feerate: FeeRate,
    /// Bounds that the finished transaction is checked against.
    pub fees: FeeBounds,
    /// Which coins may be spent.
    pub coins: CoinChoice,
    /// Decides between equally good coins and shuffles the outputs. Fresh for each transaction.
    pub randomness: [u8; 32],
}

/// A funding transaction and the coins locked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltFunding {
    /// The transaction, signed and checked.
    pub funding: FundingTransaction,
    /// The coins it spends; locked until it is in the chain or [`OnchainWallet::release`]d.
    pub locked: Vec<OutPoint>,
}

impl OnchainWallet {
    /// Builds and signs a version-2 transaction with lock time 0 that pays `request.outputs`, and locks its coins.
    ///
    /// # Errors
    ///
    /// [`OnchainError::NotEnough`], [`OnchainError::Dust`], [`OnchainError::NoOutputs`]; the wallet is unchanged then.
    pub fn build_funding(&mut self, request: &FundingRequest<'_>) -> Result<BuiltFunding, OnchainError> {
        let unsigned = match self.select(request, CoinChoice::Confirmed) {
            Err(OnchainError::NotEnough { .. }) if request.coins == CoinChoice::ConfirmedOrOwnChange => {
                self.select(request, CoinChoice::ConfirmedOrOwnChange)?
            }
            other => other?,
        };
        let transaction = self.sign_all(unsigned)?;
        let locked: Vec<OutPoint> = transaction.input.iter().map(|input| input.previous_output).collect();
        let funding = self.verify_funding(transaction, request.outputs, request.fees)?;
        self.lock(&locked);
        Ok(BuiltFunding { funding, locked })
    }

    /// Checks a transaction of ours against what it must pay, with the coins that this wallet knows. After a restart
    /// this is how a stored funding transaction becomes publishable again.
    pub fn verify_funding(
        &self,
        transaction: Transaction,
        required: &[TxOut],
        fees: FeeBounds,
    ) -> Result<FundingTransaction, FundingFlaw> {
        let mut spent = Vec::with_capacity(transaction.input.len());
        for (index, input) in transaction.input.iter().enumerate() {
            let output = self.output(input.previous_output).ok_or(FundingFlaw::Input { index })?;
            spent.push((input.previous_output, output));
        }
        let is_ours = |script: &bitcoin::Script| self.is_ours(script);
        let rules = FundingRules { spent: &spent, required, is_ours: &is_ours, fees };
        FundingTransaction::verify(transaction, &rules)
    }

    /// Signs the inputs of `transaction` that spend coins of this wallet, over all inputs and outputs. `prevouts` are
    /// the outputs spent, in the order of the inputs. The result names each input signed.
    pub fn sign_coins(
        &self,
        transaction: &Transaction,
        prevouts: &[TxOut],
    ) -> Result<Vec<(usize, Witness)>, OnchainError> {
        if prevouts.len() != transaction.input.len() {
            return Err(OnchainError::NotOurs);
        }
        let mut cache = SighashCache::new(transaction);
        let mut signed = Vec::new();
        for (index, input) in transaction.input.iter().enumerate() {
            let Some(output) = self.output(input.previous_output) else { continue };
            let Some((keychain, key)) = self.wallet.derivation_of_spk(output.script_pubkey) else { continue };
            signed.push((index, self.keys.sign(&mut cache, index, prevouts, keychain, key)?));
        }
        Ok(signed)
    }

    /// An output of a transaction that the wallet knows.
    pub fn output(&self, outpoint: OutPoint) -> Option<TxOut> {
        self.wallet.tx_graph().get_txout(outpoint).cloned()
    }

    fn select(
        &mut self,
        request: &FundingRequest<'_>,
        choice: CoinChoice,
    ) -> Result<Transaction, OnchainError> {
        if request.outputs.is_empty() {
            return Err(OnchainError::NoOutputs);
        }
        let excluded = self.excluded(choice);
        let mut builder = self.wallet.build_tx().coin_selection(DefaultCoinSelectionAlgorithm::default());
        builder
            .set_recipients(
                request.outputs.iter().map(|output| (output.script_pubkey.clone(), output.value)).collect(),
            )
            .fee_rate(request.feerate)
            .nlocktime(LockTime::ZERO)
            .version(2)
            .ordering(TxOrdering::Shuffle)
            .unspendable(excluded);
        let mut randomness = StdRng::from_seed(request.randomness);
        match builder.finish_with_aux_rand(&mut randomness) {
            Ok(psbt) => Ok(psbt.unsigned_tx),
            Err(CreateTxError::CoinSelection(InsufficientFunds { needed, available })) => {
                Err(OnchainError::NotEnough { needed, available })
            }
            Err(CreateTxError::OutputBelowDustLimit(index)) => {
                Err(OnchainError::Dust { index, value: request.outputs[index].value })
            }
            Err(other) => Err(OnchainError::Internal { reason: other.to_string() }),
        }
    }

    /// The sum of the coins that a funding transaction could spend now, fees not counted.
    pub fn spendable(&self, choice: CoinChoice) -> Amount {
        let allowed = self.allowed(choice);
        let coins = self.coins().into_iter().filter(|coin| allowed(coin.state));
        coins.map(|coin| coin.output.value).sum()
    }

    /// The coins that must not be chosen, besides those locked or immature, which bdk leaves out itself anyway.
    fn excluded(&self, choice: CoinChoice) -> Vec<OutPoint> {
        let allowed = self.allowed(choice);
        let coins = self.coins().into_iter().filter(|coin| !allowed(coin.state)).map(|coin| coin.outpoint);
        coins.chain(self.spent.iter().copied()).collect()
    }

    fn allowed(&self, choice: CoinChoice) -> impl Fn(CoinState) -> bool + use<> {
        let waiting = self
            .wallet
            .transactions()
            .filter(|transaction| !transaction.chain_position.is_confirmed())
            .count();
        let change = match choice {
            CoinChoice::Confirmed => false,
            CoinChoice::ConfirmedOrOwnChange => waiting < limits::MAX_UNCONFIRMED_CHAIN,
        };
        move |state| match state {
            CoinState::Confirmed { .. } => true,
            CoinState::OwnChange => change,
            CoinState::Unconfirmed | CoinState::Immature | CoinState::Locked | CoinState::Reserved { .. } => {
                false
            }
        }
    }

    fn sign_all(&self, mut transaction: Transaction) -> Result<Transaction, OnchainError> {
        let prevouts: Option<Vec<TxOut>> =
            transaction.input.iter().map(|input| self.output(input.previous_output)).collect();
        let prevouts = prevouts.ok_or(OnchainError::NotOurs)?;
        for (index, witness) in self.sign_coins(&transaction, &prevouts)? {
            transaction.input[index].witness = witness;
        }
        Ok(transaction)
    }

    /// The change script that the next transaction would use: the hub's own output in a batch. The same until a
    /// transaction that uses it is recorded, so that attempts which come to nothing use up no addresses.
    pub fn change_script(&mut self) -> bitcoin::ScriptBuf {
        self.wallet.change_address().script_pubkey()
    }
}

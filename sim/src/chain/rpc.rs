//! The node's JSON-RPC: the methods that `settlement::rpc` calls, with bitcoind's fields, error codes and words.

use std::sync::Arc;
use std::time::Duration;

use bitcoin::consensus::encode::{deserialize, serialize_hex};
use bitcoin::{Address, BlockHash, OutPoint, ScriptBuf, Transaction, Txid};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use settlement::rpc::RpcError;
use tokio::time::Instant;

use super::accept::{Intent, Way};
use super::mine::Mine;
use super::package::{self, Outcome};
use super::reject::{Class, Reject};
use super::state::{State, Submission};
use super::{Shared, policy};

/// Of the version built for the end-to-end tests.
const VERSION: u64 = 319_900;

const METHOD_NOT_FOUND: i64 = -32_601;
const MISC_ERROR: i64 = -1;
const INVALID_ADDRESS_OR_KEY: i64 = -5;
const INVALID_PARAMETER: i64 = -8;
const DESERIALIZATION_ERROR: i64 = -22;
const VERIFY_ERROR: i64 = -25;
const VERIFY_REJECTED: i64 = -26;
const ALREADY_IN_UTXO_SET: i64 = -27;

/// An error as bitcoind words it.
struct Failure {
    code: i64,
    message: String,
}

fn failure(code: i64, message: impl Into<String>) -> Failure {
    Failure { code, message: message.into() }
}

type Answered = Result<Value, Failure>;

/// Answers the body of one request.
pub(super) async fn answer(shared: Arc<Shared>, label: Arc<str>, body: Bytes) -> Result<Bytes, RpcError> {
    let slow = shared.lock().slow(&label);
    if let Some(time) = slow {
        tokio::time::sleep(time).await;
    }
    let request: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    if let Some((wait, tip)) = waits(&request) {
        wait_for_new_block(&shared, &label, wait, tip).await;
    }
    let mut state = shared.lock();
    if state.is_down(&label) {
        return Err(RpcError::Unreachable { reason: "the node is down".to_owned() });
    }
    let (reply, tip) = (reply(&mut state, &label, &request), state.chain.tip());
    drop(state);
    shared.tell(tip);
    Ok(Bytes::from(reply.to_string()))
}

fn reply(state: &mut State, label: &Arc<str>, request: &Value) -> Value {
    match request {
        Value::Array(requests) => requests.iter().map(|request| reply(state, label, request)).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            let id = request.get("id").cloned().unwrap_or(Value::Null);
            match call(state, label, request) {
                Ok(result) => json!({"jsonrpc": "2.0", "result": result, "id": id}),
                Err(Failure { code, message }) => {
                    json!({"jsonrpc": "2.0", "error": {"code": code, "message": message}, "id": id})
                }
            }
        }
    }
}

/// For `waitfornewblock`: how long at most, and the tip that the caller knows.
fn waits(request: &Value) -> Option<(Duration, Option<BlockHash>)> {
    if request.get("method").and_then(Value::as_str) != Some("waitfornewblock") {
        return None;
    }
    let params = Params(request.get("params").unwrap_or(&Value::Null));
    let wait = Duration::from_millis(params.get(0).ok()?);
    Some((wait, params.get(1).ok()))
}

async fn wait_for_new_block(shared: &Shared, label: &str, wait: Duration, known: Option<BlockHash>) {
    let deadline = Instant::now().checked_add(wait);
    let known = known.unwrap_or_else(|| shared.lock().chain.tip());
    loop {
        // Before the look, so that no change between the two is missed.
        let changed = shared.changed.notified();
        if shared.is_over(label, known) {
            return;
        }
        match deadline {
            None => changed.await,
            Some(deadline) => {
                if tokio::time::timeout_at(deadline, changed).await.is_err() {
                    return;
                }
            }
        }
    }
}

struct Params<'a>(&'a Value);

impl Params<'_> {
    fn get<T: DeserializeOwned>(&self, index: usize) -> Result<T, Failure> {
        let value = self.0.get(index).cloned().unwrap_or(Value::Null);
        serde_json::from_value(value).map_err(|error| failure(INVALID_PARAMETER, error.to_string()))
    }

    fn transaction(&self, index: usize) -> Result<Arc<Transaction>, Failure> {
        parse(&self.get::<String>(index)?)
    }

    fn transactions(&self, index: usize) -> Result<Vec<Arc<Transaction>>, Failure> {
        self.get::<Vec<String>>(index)?.iter().map(|raw| parse(raw)).collect()
    }
}

fn parse(raw: &str) -> Result<Arc<Transaction>, Failure> {
    let bytes = hex::decode(raw).ok().and_then(|bytes| deserialize(&bytes).ok());
    bytes.map(Arc::new).ok_or_else(|| {
        failure(DESERIALIZATION_ERROR, "TX decode failed. Make sure the tx has at least one input.")
    })
}

fn call(state: &mut State, label: &Arc<str>, request: &Value) -> Answered {
    let method = request.get("method").and_then(Value::as_str).unwrap_or_default();
    let params = Params(request.get("params").unwrap_or(&Value::Null));
    match method {
        "getblockchaininfo" => Ok(blockchain_info(state)),
        "getnetworkinfo" => Ok(network_info()),
        "getbestblockhash" => Ok(json!(state.chain.tip())),
        "getblockhash" => block_hash(state, &params),
        "getblockheader" => block_header(state, &params),
        "getblock" => block(state, &params),
        "waitfornewblock" => Ok(json!({"hash": state.chain.tip(), "height": state.chain.height()})),
        "sendrawtransaction" => send_raw_transaction(state, label, &params),
        "testmempoolaccept" => test_mempool_accept(state, &params),
        "submitpackage" => submit_package(state, label, &params),
        "getrawtransaction" => raw_transaction(state, &params),
        "gettxspendingprevout" => spending_prevout(state, &params),
        "gettxout" => tx_out(state, &params),
        "estimatesmartfee" => estimate(state, &params),
        "getmempoolinfo" => Ok(mempool_info(state)),
        "getmempoolentry" => mempool_entry(state, &params),
        "scantxoutset" => scan(state, &params),
        "generatetoaddress" => generate(state, &params),
        _ => Err(failure(METHOD_NOT_FOUND, "Method not found")),
    }
}

fn blockchain_info(state: &State) -> Value {
    json!({
        "chain": "regtest",
        "blocks": state.chain.height(),
        "headers": state.chain.height(),
        "bestblockhash": state.chain.tip(),
        "initialblockdownload": false,
        "pruned": false,
    })
}

fn network_info() -> Value {
    json!({
        "version": VERSION,
        "subversion": "/Satoshi:31.99.0/",
        "incrementalfee": btc(policy::INCREMENTAL_PER_KVB),
        "relayfee": btc(policy::MIN_RELAY_PER_KVB),
    })
}

fn btc(satoshi: u64) -> f64 {
    bitcoin::Amount::from_sat(satoshi).to_btc()
}

fn block_hash(state: &State, params: &Params<'_>) -> Answered {
    let hash = state.chain.hash_at(params.get(0)?);
    hash.map(|hash| json!(hash)).ok_or_else(|| failure(INVALID_PARAMETER, "Block height out of range"))
}

fn block_header(state: &State, params: &Params<'_>) -> Answered {
    let hash: BlockHash = params.get(0)?;
    let not_found = || failure(INVALID_ADDRESS_OR_KEY, "Block not found");
    let stored = state.chain.stored(hash).ok_or_else(not_found)?;
    let deep = i64::from(state.chain.height()) - i64::from(stored.height) + 1;
    let mut header = json!({
        "hash": hash,
        "height": stored.height,
        "confirmations": if state.chain.is_best(hash) { deep } else { -1 },
        "time": stored.block.header.time,
    });
    if let (true, Some(fields)) = (stored.height > 0, header.as_object_mut()) {
        fields.insert("previousblockhash".to_owned(), json!(stored.block.header.prev_blockhash));
    }
    Ok(header)
}

fn block(state: &State, params: &Params<'_>) -> Answered {
    let stored = state.chain.stored(params.get(0)?);
    match params.get::<u8>(1)? {
        0 => stored
            .map(|stored| json!(stored.hex.as_ref()))
            .ok_or_else(|| failure(INVALID_ADDRESS_OR_KEY, "Block not found")),
        _ => Err(failure(INVALID_PARAMETER, "only verbosity 0")),
    }
}

/// What bitcoind says before it looks at its mempool: data that costs coins is taken for a slip.
fn check_burn(transaction: &Transaction) -> Result<(), Failure> {
    let burns = transaction
        .output
        .iter()
        .any(|output| output.script_pubkey.is_op_return() && output.value > bitcoin::Amount::ZERO);
    if burns {
        let words = "Unspendable output exceeds maximum configured by user (maxburnamount)";
        return Err(failure(VERIFY_ERROR, words));
    }
    Ok(())
}

/// Writes down who sent what, and how it fared.
fn note(state: &mut State, label: &Arc<str>, transaction: &Arc<Transaction>, answer: Result<(), String>) {
    let submission = Submission {
        label: Arc::clone(label),
        transaction: Arc::clone(transaction),
        txid: transaction.compute_txid(),
        height: state.chain.height(),
        answer,
    };
    state.submissions.note(submission);
}

fn send_raw_transaction(state: &mut State, label: &Arc<str>, params: &Params<'_>) -> Answered {
    let transaction = params.transaction(0)?;
    check_burn(&transaction)?;
    let txid = transaction.compute_txid();
    if state.chain.has_output_of(txid) {
        note(state, label, &transaction, Ok(()));
        return Err(failure(ALREADY_IN_UTXO_SET, "Transaction outputs already in utxo set"));
    }
    if state.pool.contains(&txid) {
        note(state, label, &transaction, Ok(()));
        return Ok(json!(txid));
    }
    let accepted = state.accept(&transaction, Way::Alone, Intent::Take);
    note(state, label, &transaction, accepted.as_ref().map(|_| ()).map_err(Reject::words));
    match accepted {
        Ok(_) => Ok(json!(txid)),
        Err(Reject::MaxFeerate) => {
            Err(failure(VERIFY_ERROR, "Fee exceeds maximum configured by user (e.g. -maxtxfee, maxfeerate)"))
        }
        Err(reject) => {
            let missing = reject.class() == Class::MissingInputs;
            Err(failure(if missing { VERIFY_ERROR } else { VERIFY_REJECTED }, reject.words()))
        }
    }
}

fn check_count(transactions: &[Arc<Transaction>]) -> Result<(), Failure> {
    if (1..=policy::MAX_PACKAGE_COUNT).contains(&transactions.len()) {
        return Ok(());
    }
    let words = format!("Array must contain between 1 and {} transactions.", policy::MAX_PACKAGE_COUNT);
    Err(failure(INVALID_PARAMETER, words))
}

fn test_mempool_accept(state: &mut State, params: &Params<'_>) -> Answered {
    let transactions = params.transactions(0)?;
    check_count(&transactions)?;
    let outcomes = match transactions.as_slice() {
        [one] => {
            let outcome = match state.accept(one, Way::Alone, Intent::Test) {
                Ok(accepted) => Outcome::Accepted(accepted),
                Err(reject) => Outcome::Rejected(reject),
            };
            [(one.compute_wtxid(), outcome)].into()
        }
        several => state.test_together(several),
    };
    let answers = transactions.iter().map(|transaction| {
        let mut answer = json!({"txid": transaction.compute_txid(), "wtxid": transaction.compute_wtxid()});
        let said = match outcomes.get(&transaction.compute_wtxid()) {
            Some(Outcome::Accepted(accepted)) => json!({"allowed": true, "vsize": accepted.vsize}),
            Some(Outcome::Rejected(reject)) => {
                let reason = match reject {
                    Reject::MissingInputs => "missing-inputs",
                    Reject::MaxFeerate => "max-fee-exceeded",
                    other => other.reason(),
                };
                json!({"allowed": false, "reject-reason": reason, "reject-details": reject.words()})
            }
            Some(Outcome::InMempool | Outcome::OtherWitness(_)) | None => json!({}),
        };
        if let (Some(answer), Value::Object(said)) = (answer.as_object_mut(), said) {
            answer.extend(said);
        }
        answer
    });
    Ok(answers.collect())
}

fn submit_package(state: &mut State, label: &Arc<str>, params: &Params<'_>) -> Answered {
    let transactions = params.transactions(0)?;
    check_count(&transactions)?;
    transactions.iter().try_for_each(|transaction| check_burn(transaction))?;
    if !package::is_tree(&transactions) {
        let words = "package topology disallowed. not child-with-parents or parents depend on each other.";
        return Err(failure(VERIFY_ERROR, words));
    }
    let outcome = state.accept_package(&transactions);
    let mut results = serde_json::Map::new();
    for transaction in &transactions {
        let wtxid = transaction.compute_wtxid();
        let known = state.pool.contains(&transaction.compute_txid());
        note(state, label, transaction, if known { Ok(()) } else { Err(outcome.message.clone()) });
        let mut result = json!({"txid": transaction.compute_txid()});
        let said = match outcome.transactions.get(&wtxid) {
            Some(Outcome::Accepted(accepted)) => {
                json!({"vsize": accepted.vsize, "fees": {"base": accepted.fee.to_btc()}})
            }
            Some(Outcome::InMempool) => json!({}),
            Some(Outcome::OtherWitness(other)) => json!({"other-wtxid": other}),
            Some(Outcome::Rejected(reject)) => json!({"error": reject.words()}),
            None => json!({"error": "package-not-validated"}),
        };
        if let (Some(result), Value::Object(said)) = (result.as_object_mut(), said) {
            result.extend(said);
        }
        results.insert(wtxid.to_string(), result);
    }
    Ok(json!({
        "package_msg": outcome.message,
        "tx-results": results,
        "replaced-transactions": outcome.replaced,
    }))
}

fn raw_transaction(state: &State, params: &Params<'_>) -> Answered {
    let txid: Txid = params.get(0)?;
    let missing = |words: &str| failure(INVALID_ADDRESS_OR_KEY, words);
    if let Ok(hash) = params.get::<BlockHash>(2) {
        let stored = state.chain.stored(hash).ok_or_else(|| missing("Block hash not found"))?;
        let found = stored.block.txdata.iter().find(|transaction| transaction.compute_txid() == txid);
        return found
            .map(|transaction| json!(serialize_hex(transaction)))
            .ok_or_else(|| missing("No such transaction found in the provided block"));
    }
    let entry = state.pool.get(&txid);
    entry.map(|entry| json!(serialize_hex(entry.transaction.as_ref()))).ok_or_else(|| {
        missing(
            "No such mempool transaction. Use -txindex or provide a block hash to enable blockchain queries",
        )
    })
}

fn spending_prevout(state: &State, params: &Params<'_>) -> Answered {
    #[derive(serde::Deserialize)]
    struct Asked {
        txid: Txid,
        vout: u32,
    }
    let asked: Vec<Asked> = params.get(0)?;
    let answers =
        asked.iter().map(|Asked { txid, vout }| match state.pool.spender(&OutPoint::new(*txid, *vout)) {
            Some(spender) => json!({"txid": txid, "vout": vout, "spendingtxid": spender}),
            None => json!({"txid": txid, "vout": vout}),
        });
    Ok(answers.collect())
}

fn tx_out(state: &State, params: &Params<'_>) -> Answered {
    let outpoint = OutPoint::new(params.get(0)?, params.get(1)?);
    let mempool: bool = params.get(2).unwrap_or(true);
    let tip = state.chain.tip();
    let found = |confirmations: u32, output: &bitcoin::TxOut, coinbase: bool| {
        json!({
            "bestblock": tip,
            "confirmations": confirmations,
            "value": output.value.to_btc(),
            "scriptPubKey": {"hex": output.script_pubkey},
            "coinbase": coinbase,
        })
    };
    if mempool && state.pool.spender(&outpoint).is_some() {
        return Ok(Value::Null);
    }
    if let (true, Some(output)) = (mempool, state.pool.output(&outpoint)) {
        return Ok(found(0, output, false));
    }
    Ok(state.chain.coin(&outpoint).map_or(Value::Null, |coin| {
        let deep = state.chain.height().saturating_sub(coin.height).saturating_add(1);
        found(deep, &coin.output, coin.coinbase)
    }))
}

fn estimate(state: &State, params: &Params<'_>) -> Answered {
    let target: u16 = params.get(0)?;
    if !(1..=1_008).contains(&target) {
        return Err(failure(INVALID_PARAMETER, "Invalid conf_target, must be between 1 and 1008"));
    }
    Ok(match state.pressure.estimate(target) {
        Some(per_kvb) => json!({"feerate": per_kvb.to_btc(), "blocks": target}),
        None => json!({"errors": ["Insufficient data or no feerate found"], "blocks": target}),
    })
}

fn mempool_info(state: &State) -> Value {
    let minimum = state.pressure.minimum_per_kvb().max(policy::MIN_RELAY_PER_KVB);
    json!({
        "loaded": true,
        "size": state.pool.len(),
        "mempoolminfee": btc(minimum),
        "minrelaytxfee": btc(policy::MIN_RELAY_PER_KVB),
        "incrementalrelayfee": btc(policy::INCREMENTAL_PER_KVB),
    })
}

fn mempool_entry(state: &State, params: &Params<'_>) -> Answered {
    let txid: Txid = params.get(0)?;
    let entry = state.pool.get(&txid);
    let entry = entry.ok_or_else(|| failure(INVALID_ADDRESS_OR_KEY, "Transaction not in mempool"))?;
    let (fees, vsize) = state.pool.sum(&state.pool.descendants([txid]));
    Ok(json!({
        "vsize": entry.vsize(),
        "weight": entry.weight,
        "descendantsize": vsize,
        "fees": {"base": entry.fee.to_btc(), "descendant": fees.to_btc()},
    }))
}

fn scan(state: &State, params: &Params<'_>) -> Answered {
    if params.get::<String>(0)? != "start" {
        return Err(failure(INVALID_PARAMETER, "only action start"));
    }
    let descriptors: Vec<String> = params.get(1)?;
    let mut scripts = std::collections::BTreeSet::new();
    for descriptor in &descriptors {
        let raw = descriptor.strip_prefix("raw(").and_then(|rest| rest.strip_suffix(')'));
        let script = raw.and_then(|raw| ScriptBuf::from_hex(raw).ok());
        scripts.insert(script.ok_or_else(|| failure(INVALID_ADDRESS_OR_KEY, "only raw() descriptors"))?);
    }
    let mut total = bitcoin::Amount::ZERO;
    let mut unspents = Vec::new();
    for (outpoint, coin) in state.chain.coins() {
        if !scripts.contains(&coin.output.script_pubkey) {
            continue;
        }
        total = total.checked_add(coin.output.value).unwrap_or(bitcoin::Amount::MAX_MONEY);
        unspents.push(json!({
            "txid": outpoint.txid,
            "vout": outpoint.vout,
            "scriptPubKey": coin.output.script_pubkey,
            "amount": coin.output.value.to_btc(),
            "coinbase": coin.coinbase,
            "height": coin.height,
        }));
    }
    Ok(json!({
        "success": true,
        "height": state.chain.height(),
        "bestblock": state.chain.tip(),
        "unspents": unspents,
        "total_amount": total.to_btc(),
    }))
}

fn generate(state: &mut State, params: &Params<'_>) -> Answered {
    let address: Address<bitcoin::address::NetworkUnchecked> = params.get(1)?;
    let address = address
        .require_network(bitcoin::Network::Regtest)
        .map_err(|_| failure(INVALID_ADDRESS_OR_KEY, "Error: Invalid address"))?;
    let count: u32 = params.get(0)?;
    if count > MAX_GENERATED {
        return Err(failure(MISC_ERROR, "too many blocks in one call"));
    }
    let how = Mine { pays: Some(address.script_pubkey()), ..Mine::default() };
    Ok((0..count).map(|_| json!(state.mine(&how))).collect())
}

/// Blocks of one `generatetoaddress`.
const MAX_GENERATED: u32 = 10_000;

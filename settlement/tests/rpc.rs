//! The RPC client against a server that misbehaves in every way a bitcoind can.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use bitcoin::{Network, Txid};
use serde_json::{Value, json};
use settlement::rpc::{Auth, RpcClient, RpcConfig, RpcError};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What the server does with one request.
enum Answer {
    /// This status and body.
    Reply(u16, String),
    /// This body, then the connection closes without saying so.
    ReplyAndClose(String),
    /// The connection closes.
    Close,
    /// Nothing, ever.
    Silence,
}

type Handler = dyn Fn(&Value, &str) -> Answer + Send + Sync;

struct Server {
    address: String,
    connections: Arc<AtomicUsize>,
    busy: Arc<AtomicUsize>,
    most_busy: Arc<AtomicUsize>,
}

/// Serves `handler`, which gets each request and its `Authorization` header.
async fn serve(handler: impl Fn(&Value, &str) -> Answer + Send + Sync + 'static) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Server {
        address: listener.local_addr().unwrap().to_string(),
        connections: Arc::default(),
        busy: Arc::default(),
        most_busy: Arc::default(),
    };
    let handler: Arc<Handler> = Arc::new(handler);
    let (connections, busy, most) =
        (server.connections.clone(), server.busy.clone(), server.most_busy.clone());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            connections.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(connection(stream, handler.clone(), busy.clone(), most.clone()));
        }
    });
    server
}

async fn connection(
    stream: TcpStream,
    handler: Arc<Handler>,
    busy: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut length, mut authorization, mut line) = (0, String::new(), String::new());
        loop {
            line.clear();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if lower.starts_with("authorization:") {
                authorization = line["authorization:".len()..].trim().to_owned();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        let request: Value = serde_json::from_slice(&body).unwrap();
        most.fetch_max(busy.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        let answer = handler(&request, &authorization);
        busy.fetch_sub(1, Ordering::SeqCst);
        let (status, body, close) = match answer {
            Answer::Reply(status, body) => (status, body, false),
            Answer::ReplyAndClose(body) => (200, body, true),
            Answer::Close => return Ok(()),
            Answer::Silence => {
                std::future::pending::<()>().await;
                return Ok(());
            }
        };
        let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all(format!("{head}{body}").as_bytes()).await?;
        if close {
            return Ok(());
        }
    }
}

fn config(server: &Server) -> RpcConfig {
    let auth = Auth::UserPassword { user: "user".into(), password: "password".into() };
    RpcConfig { timeout: Duration::from_secs(20), ..RpcConfig::new(server.address.clone(), auth) }
}

fn result(value: Value) -> Answer {
    Answer::Reply(200, json!({"jsonrpc": "2.0", "id": 0, "result": value}).to_string())
}

fn error(code: i64, message: &str) -> Answer {
    let error = json!({"code": code, "message": message});
    Answer::Reply(500, json!({"result": null, "error": error, "id": 0}).to_string())
}

const HASH: &str = "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206";

#[tokio::test]
async fn errors_are_typed() {
    type Case = (fn() -> Answer, fn(&RpcError) -> bool);
    let table: Vec<Case> = vec![
        (|| error(-28, "Loading block index"), |e| matches!(e, RpcError::Warmup { .. })),
        (|| error(-1, "no"), |e| matches!(e, RpcError::Rpc { code: -1, .. })),
        (|| Answer::Reply(503, "Work queue depth exceeded".into()), |e| matches!(e, RpcError::Busy { .. })),
        (|| Answer::Reply(401, String::new()), |e| matches!(e, RpcError::Unauthorized { .. })),
        (|| Answer::Reply(403, String::new()), |e| matches!(e, RpcError::Unreachable { .. })),
        (|| Answer::Reply(200, "{".into()), |e| matches!(e, RpcError::Malformed { .. })),
        (|| Answer::Reply(200, "{}".into()), |e| matches!(e, RpcError::Malformed { .. })),
        (|| result(json!("not a hash")), |e| matches!(e, RpcError::Malformed { .. })),
        (|| Answer::Close, |e| matches!(e, RpcError::Unreachable { .. })),
    ];
    for (answer, expected) in table {
        let server = serve(move |_, _| answer()).await;
        let got = RpcClient::new(config(&server)).get_best_block_hash().await.unwrap_err();
        assert!(expected(&got), "{got:?}");
    }
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let auth = Auth::UserPassword { user: String::new(), password: String::new() };
    let got =
        RpcClient::new(RpcConfig::new(nobody.to_string(), auth)).get_best_block_hash().await.unwrap_err();
    assert!(matches!(got, RpcError::Unreachable { .. }) && got.is_transient(), "{got:?}");
}

#[tokio::test]
async fn a_silent_node_times_out_and_leaves_the_client_usable() {
    let asked = AtomicUsize::new(0);
    let server = serve(move |_, _| match asked.fetch_add(1, Ordering::SeqCst) {
        0..4 => Answer::Silence,
        _ => result(json!(HASH)),
    })
    .await;
    let client = RpcClient::new(RpcConfig { timeout: Duration::from_millis(50), ..config(&server) });
    for _ in 0..4 {
        let got = client.get_best_block_hash().await.unwrap_err();
        assert!(matches!(got, RpcError::Timeout { method: "getbestblockhash", .. }), "{got:?}");
    }
    assert_eq!(client.get_best_block_hash().await.unwrap().to_string(), HASH);
}

#[tokio::test]
async fn a_connection_closed_while_idle_is_replaced_unseen() {
    let server = serve(|_, _| Answer::ReplyAndClose(json!({"id": 0, "result": HASH}).to_string())).await;
    let client = RpcClient::new(config(&server));
    for _ in 0..20 {
        client.get_best_block_hash().await.unwrap();
    }
}

#[tokio::test]
async fn a_new_cookie_is_read_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path: PathBuf = dir.path().join(".cookie");
    let valid = Arc::new(Mutex::new("__cookie__:one".to_owned()));
    let accepted = valid.clone();
    let server = serve(move |_, authorization| {
        let cookie = accepted.lock().unwrap().clone();
        let expected = base64::engine::general_purpose::STANDARD.encode(cookie);
        if authorization == format!("Basic {expected}") {
            result(json!(HASH))
        } else {
            Answer::Reply(401, String::new())
        }
    })
    .await;
    let client =
        RpcClient::new(RpcConfig::new(format!("http://{}/", server.address), Auth::Cookie(path.clone())));
    assert!(matches!(client.get_best_block_hash().await, Err(RpcError::NoCookie { .. })));
    std::fs::write(&path, "__cookie__:one").unwrap();
    client.get_best_block_hash().await.unwrap();
    *valid.lock().unwrap() = "__cookie__:two".into();
    assert!(matches!(client.get_best_block_hash().await, Err(RpcError::Unauthorized { .. })));
    std::fs::write(&path, "__cookie__:two").unwrap();
    client.get_best_block_hash().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parallelism_is_bounded_and_connections_are_kept() {
    let server = serve(|_, _| result(json!(HASH))).await;
    let client = RpcClient::new(config(&server));
    let tasks: Vec<_> = (0..200)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.get_best_block_hash().await.is_ok() })
        })
        .collect();
    for task in tasks {
        assert!(task.await.unwrap());
    }
    assert!(server.most_busy.load(Ordering::SeqCst) <= 4);
    assert!(server.connections.load(Ordering::SeqCst) <= 4);
}

#[tokio::test]
async fn calls_in_sequence_rotate_over_the_connections() {
    let server = serve(|_, _| result(json!(HASH))).await;
    let client = RpcClient::new(config(&server));
    for _ in 0..8 {
        client.get_best_block_hash().await.unwrap();
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn replies_of_a_batch_are_matched_by_id() {
    let server = serve(|request, _| {
        let mut replies: Vec<Value> = request
            .as_array()
            .unwrap()
            .iter()
            .map(|call| match call["params"][0].as_u64().unwrap() {
                0..3 => json!({"id": call["id"], "result": HASH}),
                _ => json!({"id": call["id"], "error": {"code": -8, "message": "Block height out of range"}}),
            })
            .collect();
        replies.reverse();
        Answer::Reply(200, Value::Array(replies).to_string())
    })
    .await;
    let client = RpcClient::new(config(&server));
    assert_eq!(client.get_block_hashes(0..9).await.unwrap().len(), 3, "hashes end at the tip");
    assert_eq!(client.get_block_hashes(0..2).await.unwrap().len(), 2);
    let short = serve(|_, _| Answer::Reply(200, "[]".into())).await;
    let got = RpcClient::new(config(&short)).get_block_hashes(0..2).await.unwrap_err();
    assert!(matches!(got, RpcError::Malformed { .. }), "{got:?}");
}

#[tokio::test]
async fn what_is_not_found_is_none() {
    let server = serve(|request, _| match request["method"].as_str().unwrap() {
        "gettxout" => result(Value::Null),
        "getblockhash" => error(-8, "Block height out of range"),
        _ => error(-5, "No such mempool transaction"),
    })
    .await;
    let client = RpcClient::new(config(&server));
    let txid: Txid = HASH.parse().unwrap();
    assert_eq!(client.get_block_hash(7).await.unwrap(), None);
    assert!(client.get_raw_transaction(txid, None).await.unwrap().is_none());
    assert!(client.get_mempool_entry(txid).await.unwrap().is_none());
    let outpoint = bitcoin::OutPoint { txid, vout: 0 };
    let counts = settlement::rpc::MempoolCounts::Yes;
    assert!(client.get_tx_out(outpoint, counts).await.unwrap().is_none());
}

/// A node that is fine but for what `change` does to its answers.
async fn node(change: fn(&str, &mut Value)) -> Result<(), RpcError> {
    let server = serve(move |request, _| {
        let method = request["method"].as_str().unwrap().to_owned();
        let mut answer = match method.as_str() {
            "getblockchaininfo" => json!({
                "chain": "regtest", "blocks": 5, "bestblockhash": HASH, "initialblockdownload": false, "pruned": false
            }),
            "getblockhash" => json!(HASH),
            "getnetworkinfo" => json!({
                "version": 310_000, "subversion": "/x/", "incrementalfee": 0.000_001, "relayfee": 0.000_001
            }),
            other => panic!("{other}"),
        };
        change(&method, &mut answer);
        result(answer)
    })
    .await;
    RpcClient::connect_and_check(config(&server), Network::Regtest).await.map(|_| ())
}

#[tokio::test]
async fn a_node_that_cannot_be_relied_on_is_refused_by_name() {
    assert_eq!(node(|_, _| {}).await, Ok(()));
    let wrong = node(|method, answer| {
        if method == "getblockchaininfo" {
            answer["chain"] = json!("main");
        }
    });
    assert_eq!(wrong.await, Err(RpcError::WrongNetwork { found: "main".into(), expected: Network::Regtest }));
    let private = node(|method, answer| {
        if method == "getblockhash" {
            *answer = json!(HASH.replace("0f91", "1f91"));
        }
    });
    assert!(matches!(private.await, Err(RpcError::WrongNetwork { .. })));
    let pruned = node(|method, answer| {
        if method == "getblockchaininfo" {
            answer["pruned"] = json!(true);
            answer["pruneheight"] = json!(3);
        }
    });
    assert_eq!(pruned.await, Err(RpcError::Pruned { kept_from: 3 }));
    let old = node(|method, answer| {
        if method == "getnetworkinfo" {
            answer["version"] = json!(299_900);
        }
    });
    assert_eq!(old.await, Err(RpcError::TooOld { found: 299_900, needed: 300_000 }));
}

#[tokio::test(start_paused = true)]
async fn a_node_in_this_process_answers_without_a_socket_and_may_be_silent() {
    let client = RpcClient::in_process(|body| {
        let request: Value = serde_json::from_slice(&body).unwrap();
        Box::pin(async move {
            match request["method"].as_str() {
                Some("getbestblockhash") => std::future::pending().await,
                Some("getnetworkinfo") => Err(RpcError::Unreachable { reason: "it is down".to_owned() }),
                _ => Ok(json!({"id": 0, "error": {"code": -5, "message": "not here"}}).to_string().into()),
            }
        })
    });
    let txid = "00".repeat(32).parse().unwrap();
    assert!(client.get_mempool_entry(txid).await.unwrap().is_none());
    assert!(matches!(client.get_network_info().await, Err(RpcError::Unreachable { .. })));
    assert!(matches!(client.get_best_block_hash().await, Err(RpcError::Timeout { .. })));
}

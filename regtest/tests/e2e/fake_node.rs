//! Nodes that nobody may follow: what answers as bitcoind does, on another network or without all blocks.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// Answers every call as a node of such a chain would, until it is dropped.
pub struct FakeNode {
    address: SocketAddr,
    /// The connections; none once it is over.
    taken: Arc<Mutex<Option<Vec<TcpStream>>>>,
    listening: Option<JoinHandle<()>>,
}

/// What such a node says of itself.
#[derive(Clone, Copy)]
pub struct Claims {
    chain: &'static str,
    pruned: bool,
}

/// What is wrong with it, and the words by which it is refused.
pub const UNUSABLE: [(Claims, [&str; 2]); 2] = [
    (Claims { chain: "main", pruned: false }, ["bitcoind is on main", "regtest is configured"]),
    (Claims { chain: "regtest", pruned: true }, ["bitcoind prunes its blocks", "from height 7"]),
];

/// One of each, at addresses of their own.
pub fn unusable_nodes() -> impl Iterator<Item = (FakeNode, [&'static str; 2])> {
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    UNUSABLE.into_iter().map(move |(claims, words)| (FakeNode::start(anywhere, claims), words))
}

impl FakeNode {
    pub fn start(address: SocketAddr, claims: Claims) -> FakeNode {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let taken = Arc::new(Mutex::new(Some(Vec::<TcpStream>::new())));
        let streams = Arc::clone(&taken);
        let listening = std::thread::spawn(move || {
            let mut answering = Vec::new();
            for stream in listener.incoming().flatten() {
                let mut streams = streams.lock().unwrap();
                let Some(taken) = streams.as_mut() else { break };
                taken.push(stream.try_clone().unwrap());
                answering.push(std::thread::spawn(move || answer_calls(stream, claims)));
            }
            for one in answering {
                one.join().unwrap();
            }
        });
        FakeNode { address, taken, listening: Some(listening) }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for FakeNode {
    fn drop(&mut self) {
        for stream in self.taken.lock().unwrap().take().unwrap_or_default() {
            // Whoever called may have gone already.
            let _ = stream.shutdown(Shutdown::Both);
        }
        // Wakes who listens, to end.
        let woken = TcpStream::connect(self.address);
        drop(woken);
        if let Some(listening) = self.listening.take() {
            listening.join().unwrap();
        }
    }
}

fn answer_calls(mut stream: TcpStream, Claims { chain, pruned }: Claims) {
    let genesis = match chain {
        "regtest" => "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206",
        _ => "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f",
    };
    let info = serde_json::json!({
        "chain": chain, "blocks": 0, "headers": 0, "bestblockhash": genesis, "difficulty": 1.0, "time": 0,
        "mediantime": 0, "verificationprogress": 1.0, "initialblockdownload": false, "chainwork": "00",
        "size_on_disk": 0, "pruned": pruned, "pruneheight": 7, "warnings": [], "bits": "1d00ffff", "target": "00",
    });
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        received.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&received).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
        });
        if body.len() < length.unwrap_or(0) {
            continue;
        }
        let call: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
        let single = |call: &serde_json::Value| {
            let result = if call["method"] == "getblockhash" { genesis.into() } else { info.clone() };
            serde_json::json!({ "result": result, "error": null, "id": call["id"] })
        };
        let answer = match &call {
            serde_json::Value::Array(calls) => calls.iter().map(single).collect(),
            one => single(one),
        };
        let answer = answer.to_string();
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            answer.len()
        );
        if stream.write_all((head + &answer).as_bytes()).is_err() {
            return;
        }
        received.clear();
    }
}

//! The follower against a chain in memory that reorganises, fails and changes between any two calls.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::{Block, BlockHash, CompactTarget, TxMerkleNode};
use proptest::prelude::*;
use tokio::sync::Notify;

use super::*;

/// One thing that happens to the chain.
#[derive(Debug, Clone, Copy)]
enum Event {
    Mine,
    /// Replaces `depth` blocks by `depth + more` others.
    Reorganise {
        depth: usize,
        more: usize,
    },
    /// Removes `depth` blocks without a replacement, as `invalidateblock` does.
    Invalidate {
        depth: usize,
    },
    /// The next call fails.
    Fail,
}

struct World {
    chain: Vec<BlockHash>,
    blocks: HashMap<BlockHash, Arc<Block>>,
    /// What happens before each call, from the back.
    script: Vec<Event>,
    /// The lowest block that must not be disconnected.
    floor: usize,
    final_depth: usize,
    salt: u32,
    syncing: bool,
    /// Another network's node answers at the address.
    foreign: bool,
}

impl World {
    fn new(final_depth: usize, script: Vec<Event>) -> Self {
        let mut world = Self {
            chain: Vec::new(),
            blocks: HashMap::new(),
            script,
            floor: 0,
            final_depth,
            salt: 0,
            syncing: false,
            foreign: false,
        };
        world.mine();
        world
    }

    fn mine(&mut self) {
        self.salt += 1;
        let header = Header {
            version: Version::TWO,
            prev_blockhash: self.chain.last().copied().unwrap_or(BlockHash::all_zeros()),
            merkle_root: TxMerkleNode::all_zeros(),
            time: self.salt,
            bits: CompactTarget::from_consensus(0x207f_ffff),
            nonce: self.salt,
        };
        let block = Arc::new(Block { header, txdata: Vec::new() });
        let hash = block.block_hash();
        self.blocks.insert(hash, block);
        self.chain.push(hash);
        self.floor = self.floor.max(self.chain.len().saturating_sub(self.final_depth));
    }

    fn cut(&mut self, depth: usize) -> usize {
        let depth = depth.min(self.chain.len() - 1 - self.floor);
        self.chain.truncate(self.chain.len() - depth);
        depth
    }

    /// Lets the next event happen; an error if it is a failure.
    fn step(&mut self) -> Result<(), RpcError> {
        match self.script.pop() {
            Some(Event::Mine) => self.mine(),
            Some(Event::Reorganise { depth, more }) => {
                let cut = self.cut(depth);
                (0..cut + more).for_each(|_| self.mine());
            }
            Some(Event::Invalidate { depth }) => {
                self.cut(depth);
            }
            Some(Event::Fail) => return Err(RpcError::Unreachable { reason: "scripted".into() }),
            None => {}
        }
        Ok(())
    }
}

#[derive(Clone)]
struct Memory(Arc<Mutex<World>>, Arc<Notify>);

impl Memory {
    fn new(world: World) -> Self {
        Self(Arc::new(Mutex::new(world)), Arc::new(Notify::new()))
    }

    fn change<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let result = change(&mut self.0.lock().unwrap());
        self.1.notify_one();
        result
    }

    fn answer<T>(&self, answer: impl FnOnce(&World) -> T) -> Result<T, RpcError> {
        let mut world = self.0.lock().unwrap();
        world.step()?;
        Ok(answer(&world))
    }
}

impl BlockSource for Memory {
    async fn tip(&self) -> Result<SourceTip, RpcError> {
        self.answer(|world| SourceTip {
            block: BlockRef {
                height: u32::try_from(world.chain.len() - 1).unwrap(),
                hash: *world.chain.last().unwrap(),
            },
            syncing: world.syncing,
        })
    }

    async fn hashes(&self, heights: Range<u32>) -> Result<Vec<BlockHash>, RpcError> {
        let heights = heights.start as usize..heights.end as usize;
        self.answer(|world| heights.map_while(|height| world.chain.get(height).copied()).collect())
    }

    async fn block(&self, hash: BlockHash) -> Result<Arc<Block>, RpcError> {
        self.answer(|world| Arc::clone(&world.blocks[&hash]))
    }

    async fn wait(&self, known: BlockHash) -> Result<(), RpcError> {
        loop {
            if self.answer(|world| world.chain.last() != Some(&known))? {
                return Ok(());
            }
            let idle = self.0.lock().unwrap().script.is_empty();
            if idle {
                self.1.notified().await;
            }
        }
    }

    async fn check(&self) -> Result<(), RpcError> {
        self.answer(|world| match world.foreign {
            true => Err(RpcError::WrongNetwork { found: "main".into(), expected: bitcoin::Network::Regtest }),
            false => Ok(()),
        })?
    }
}

/// A consumer with books of its own.
#[derive(Default)]
struct Books(Vec<BlockHash>);

impl Books {
    fn take(&mut self, step: &ChainStep) {
        match step {
            ChainStep::Connected { height, hash, prev, block, time } => {
                assert_eq!(*height as usize, self.0.len());
                assert_eq!(Some(prev), self.0.last());
                assert_eq!(*hash, block.block_hash());
                assert_eq!(*time, block.header.time);
                self.0.push(*hash);
            }
            ChainStep::Disconnected { height, hash } => {
                assert_eq!(self.0.pop(), Some(*hash));
                assert_eq!(*height as usize, self.0.len());
            }
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

/// Follows until the follower is synced with nothing left to happen, and returns the books.
async fn follow_to_rest(
    follower: &mut Follower<Memory>,
    source: &Memory,
    books: &mut Books,
) -> Result<(), FollowError> {
    let mut status = follower.status();
    loop {
        let at_rest = {
            let world = source.0.lock().unwrap();
            world.script.is_empty() && world.chain == books.0
        };
        if at_rest && matches!(*status.borrow_and_update(), FollowStatus::Synced { .. }) {
            return Ok(());
        }
        tokio::select! {
            step = follower.next() => books.take(&step?),
            _ = status.changed() => {}
        }
    }
}

fn genesis(source: &Memory) -> BlockRef {
    BlockRef { height: 0, hash: source.0.lock().unwrap().chain[0] }
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => Just(Event::Mine),
        2 => (1usize..6, 0usize..3).prop_map(|(depth, more)| Event::Reorganise { depth, more }),
        1 => (1usize..4).prop_map(|depth| Event::Invalidate { depth }),
        2 => Just(Event::Fail),
    ]
}

proptest! {
    #[test]
    fn the_steps_always_rebuild_the_best_chain(
        script in prop::collection::vec(event(), 0..120),
        final_depth in 7usize..12,
        restart_every in 1usize..40,
    ) {
        runtime().block_on(async move {
            let source = Memory::new(World::new(final_depth, script));
            let depth = u32::try_from(final_depth).unwrap();
            let start = genesis(&source);
            let mut books = Books(vec![start.hash]);
            let mut memory = ChainMemory::starting_at(start, depth);
            // Restarts in between lose nothing: the next follower goes on from the memory.
            for _ in 0..3 {
                let mut follower = Follower::new(source.clone(), memory.clone());
                for _ in 0..restart_every {
                    if source.0.lock().unwrap().script.is_empty() {
                        break;
                    }
                    let step = tokio::time::timeout(Duration::from_secs(60), follower.next()).await;
                    if let Ok(step) = step {
                        books.take(&step.unwrap());
                    }
                }
                memory = follower.memory().clone();
            }
            let mut follower = Follower::new(source.clone(), memory);
            follow_to_rest(&mut follower, &source, &mut books).await.unwrap();
            assert_eq!(books.0, source.0.lock().unwrap().chain);
        });
    }
}

#[test]
fn a_reorganisation_of_a_final_block_stops_the_follower() {
    runtime().block_on(async {
        let source = Memory::new(World::new(3, vec![]));
        let start = genesis(&source);
        source.change(|world| (0..10).for_each(|_| world.mine()));
        let mut books = Books(vec![start.hash]);
        let mut follower = Follower::new(source.clone(), ChainMemory::starting_at(start, 3));
        follow_to_rest(&mut follower, &source, &mut books).await.unwrap();
        let final_block = books.0[8];
        source.change(|world| {
            world.chain.truncate(8);
            (0..5).for_each(|_| world.mine());
        });
        let error = follow_to_rest(&mut follower, &source, &mut books).await.unwrap_err();
        assert_eq!(error, FollowError::TooDeep { height: 8, hash: final_block });
    });
}

#[test]
fn a_node_that_resyncs_is_waited_for() {
    runtime().block_on(async {
        let source = Memory::new(World::new(3, vec![]));
        let start = genesis(&source);
        source.change(|world| (0..10).for_each(|_| world.mine()));
        let mut books = Books(vec![start.hash]);
        let mut follower = Follower::new(source.clone(), ChainMemory::starting_at(start, 3));
        follow_to_rest(&mut follower, &source, &mut books).await.unwrap();
        let whole = source.change(|world| {
            world.syncing = true;
            world.chain.split_off(2)
        });
        let waited = tokio::time::timeout(Duration::from_secs(30), follower.next()).await;
        assert!(waited.is_err(), "no step while the node is behind");
        assert!(matches!(*follower.status().borrow(), FollowStatus::NodeBehind { node_height: 1, .. }));
        source.change(|world| {
            world.syncing = false;
            world.chain.extend(whole);
            world.mine();
        });
        follow_to_rest(&mut follower, &source, &mut books).await.unwrap();
        assert_eq!(books.0.len(), 12);
    });
}

#[test]
fn a_node_that_lost_final_blocks_is_waited_for_and_not_taken_for_a_reorganisation() {
    runtime().block_on(async {
        let source = Memory::new(World::new(3, vec![]));
        let start = genesis(&source);
        source.change(|world| (0..10).for_each(|_| world.mine()));
        let mut books = Books(vec![start.hash]);
        let mut follower = Follower::new(source.clone(), ChainMemory::starting_at(start, 3));
        follow_to_rest(&mut follower, &source, &mut books).await.unwrap();
        // It does not say that it is syncing: bitcoind forgets to once its tip is less than a day old.
        let whole = source.change(|world| world.chain.split_off(8));
        let waited = tokio::time::timeout(Duration::from_secs(30), follower.next()).await;
        assert!(waited.is_err(), "no step while the node is behind");
        source.change(|world| world.chain.extend(whole));
        follow_to_rest(&mut follower, &source, &mut books).await.unwrap();
        assert_eq!(books.0.len(), 11);
    });
}

#[test]
fn another_networks_node_is_named_and_its_chain_is_no_reorganisation() {
    runtime().block_on(async {
        let source = Memory::new(World::new(3, vec![]));
        let start = genesis(&source);
        source.change(|world| (0..10).for_each(|_| world.mine()));
        let mut books = Books(vec![start.hash]);
        let mut memory = ChainMemory::starting_at(start, 3);
        // Both while running, and for a follower that has just started.
        for _ in 0..2 {
            let mut follower = Follower::new(source.clone(), memory.clone());
            follow_to_rest(&mut follower, &source, &mut books).await.unwrap();
            memory = follower.memory().clone();
            let ours = source.change(|world| {
                world.foreign = true;
                let ours = world.chain.split_off(0);
                (0..20).for_each(|_| world.mine());
                ours
            });
            for follower in [&mut follower, &mut Follower::new(source.clone(), memory.clone())] {
                let waited = tokio::time::timeout(Duration::from_secs(30), follower.next()).await;
                assert!(waited.is_err(), "no step from a chain of another network");
                let status = follower.status().borrow().clone();
                let FollowStatus::Unavailable { error, .. } = status else { panic!("{status:?}") };
                assert!(matches!(error, RpcError::WrongNetwork { .. }), "{error}");
            }
            source.change(|world| {
                world.foreign = false;
                world.chain = ours;
                world.mine();
            });
            follow_to_rest(&mut follower, &source, &mut books).await.unwrap();
            memory = follower.memory().clone();
        }
        assert_eq!(books.0, source.0.lock().unwrap().chain);
    });
}

#[test]
fn a_failing_node_is_shown_and_tried_again() {
    runtime().block_on(async {
        let source = Memory::new(World::new(3, vec![Event::Mine, Event::Fail, Event::Fail, Event::Fail]));
        let start = genesis(&source);
        let mut follower = Follower::new(source.clone(), ChainMemory::starting_at(start, 3));
        let mut status = follower.status();
        let seen = tokio::spawn(async move {
            status
                .wait_for(|status| matches!(status, FollowStatus::Unavailable { attempts: 3, .. }))
                .await
                .is_ok()
        });
        let step = follower.next().await.unwrap();
        assert!(matches!(step, ChainStep::Connected { height: 1, .. }));
        assert!(seen.await.unwrap());
    });
}

#[test]
fn a_new_follower_starts_below_what_is_not_final() {
    runtime().block_on(async {
        let source = Memory::new(World::new(3, vec![]));
        source.change(|world| (0..10).for_each(|_| world.mine()));
        let memory = Follower::starting_memory(&source, 3).await.unwrap();
        assert_eq!(memory.tip().height, 7);
        let young = Memory::new(World::new(3, vec![]));
        assert_eq!(Follower::starting_memory(&young, 3).await.unwrap().tip().height, 0);
    });
}

//! What the follower remembers of the chain: the recent block hashes, down to the one that is final.
//!
//! Invariant: the hashes are of consecutive heights, at least one is always there, and the lowest is never
//! disconnected. It is a machine: the caller journals [`ChainMemory`] (or the steps) and gets the same one back.

use std::collections::VecDeque;

use bitcoin::BlockHash;
use serde::{Deserialize, Serialize};

/// A block named by height and hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BlockRef {
    /// 0 for the genesis block.
    pub height: u32,
    /// Its hash.
    pub hash: BlockHash,
}

/// The remembered end of the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored")]
pub struct ChainMemory {
    /// Height of the first hash.
    base: u32,
    /// Hashes from `base` upwards; never empty.
    recent: VecDeque<BlockHash>,
    /// Confirmations after which a block is final, at least 1.
    final_depth: u32,
}

/// What a journal holds of it; bytes that are damaged can say anything.
#[derive(Deserialize)]
struct Stored {
    base: u32,
    recent: VecDeque<BlockHash>,
    final_depth: u32,
}

/// No chain has this end.
#[derive(Debug, thiserror::Error)]
#[error("{hashes} hashes from height {base} on are no end of a chain")]
struct Impossible {
    base: u32,
    hashes: usize,
}

impl TryFrom<Stored> for ChainMemory {
    type Error = Impossible;

    fn try_from(Stored { base, recent, final_depth }: Stored) -> Result<Self, Impossible> {
        let hashes = recent.len();
        let above = hashes.checked_sub(1).and_then(|above| u32::try_from(above).ok());
        let tip = above.and_then(|above| base.checked_add(above));
        match tip {
            Some(_) if final_depth > 0 => Ok(Self { base, recent, final_depth }),
            Some(_) | None => Err(Impossible { base, hashes }),
        }
    }
}

/// A step that does not fit the remembered chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    /// A block was to be connected at another height than the one after the tip.
    #[error("a block at height {got} cannot follow height {tip}")]
    Height {
        /// Height of the remembered tip.
        tip: u32,
        /// Height offered.
        got: u32,
    },
    /// The block to disconnect is not the tip.
    #[error("the block to disconnect ({got:?}) is not the tip ({tip:?})")]
    NotTip {
        /// The remembered tip.
        tip: BlockRef,
        /// The block named.
        got: BlockRef,
    },
    /// The block to disconnect is final.
    #[error("the block {0:?} is final and cannot be disconnected")]
    Final(BlockRef),
}

impl ChainMemory {
    /// Starts at `block`, which counts as final: its reorganisation is an error. `final_depth` is in confirmations
    /// (1 is the tip itself) and taken as 1 if it is 0.
    pub fn starting_at(block: BlockRef, final_depth: u32) -> Self {
        Self { base: block.height, recent: VecDeque::from([block.hash]), final_depth: final_depth.max(1) }
    }

    /// The best block known.
    pub fn tip(&self) -> BlockRef {
        let above = u32::try_from(self.recent.len() - 1).expect("at most final_depth hashes are kept");
        let hash = *self.recent.back().expect("never empty");
        BlockRef { height: self.base + above, hash }
    }

    /// The lowest block remembered, which is final.
    pub fn base(&self) -> BlockRef {
        BlockRef { height: self.base, hash: *self.recent.front().expect("never empty") }
    }

    /// Confirmations after which a block is final.
    pub fn final_depth(&self) -> u32 {
        self.final_depth
    }

    /// The hash at `height`, if it is remembered.
    pub fn hash_at(&self, height: u32) -> Option<BlockHash> {
        let index = usize::try_from(height.checked_sub(self.base)?).ok()?;
        self.recent.get(index).copied()
    }

    /// Remembers the block after the tip and forgets what became final below the lowest final one.
    pub fn connect(&mut self, block: BlockRef) -> Result<(), MemoryError> {
        let tip = self.tip().height;
        if tip.checked_add(1) != Some(block.height) {
            return Err(MemoryError::Height { tip, got: block.height });
        }
        self.recent.push_back(block.hash);
        let keep = usize::try_from(self.final_depth).unwrap_or(usize::MAX);
        while self.recent.len() > keep {
            self.recent.pop_front();
            self.base += 1;
        }
        Ok(())
    }

    /// Forgets the tip.
    pub fn disconnect(&mut self, block: BlockRef) -> Result<(), MemoryError> {
        let tip = self.tip();
        if tip != block {
            return Err(MemoryError::NotTip { tip, got: block });
        }
        if self.recent.len() == 1 {
            return Err(MemoryError::Final(tip));
        }
        self.recent.pop_back();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::hashes::Hash;

    fn block(height: u32, tag: u8) -> BlockRef {
        let mut bytes = [tag; 32];
        bytes[..4].copy_from_slice(&height.to_be_bytes());
        BlockRef { height, hash: BlockHash::from_byte_array(bytes) }
    }

    #[test]
    fn what_no_chain_can_be_is_not_read() {
        let read = |base: u32, hashes: usize, final_depth: u32| {
            let recent = vec![block(0, 0).hash; hashes];
            let bytes = postcard::to_stdvec(&(base, recent, final_depth)).unwrap();
            postcard::from_bytes::<ChainMemory>(&bytes)
        };
        assert!(read(10, 3, 6).is_ok());
        assert!(read(u32::MAX, 1, 6).is_ok());
        assert!(read(10, 0, 6).is_err(), "no block at all");
        assert!(read(u32::MAX, 2, 6).is_err(), "a height beyond all heights");
        assert!(read(10, 3, 0).is_err(), "nothing would ever be remembered");
    }

    #[test]
    fn a_block_is_final_at_the_final_depth_and_not_before() {
        let mut memory = ChainMemory::starting_at(block(10, 0), 3);
        for height in 11..=15 {
            memory.connect(block(height, 0)).unwrap();
        }
        assert_eq!(memory.base(), block(13, 0));
        memory.disconnect(block(15, 0)).unwrap();
        memory.disconnect(block(14, 0)).unwrap();
        assert_eq!(memory.disconnect(block(13, 0)), Err(MemoryError::Final(block(13, 0))));
        memory.connect(block(14, 1)).unwrap();
        assert_eq!(memory.tip(), block(14, 1));
        assert_eq!(memory.hash_at(13), Some(block(13, 0).hash));
        assert_eq!(memory.hash_at(12), None);
    }

    #[test]
    fn steps_that_do_not_fit_are_refused() {
        let mut memory = ChainMemory::starting_at(block(10, 0), 3);
        assert_eq!(memory.connect(block(12, 0)), Err(MemoryError::Height { tip: 10, got: 12 }));
        assert_eq!(
            memory.disconnect(block(10, 1)),
            Err(MemoryError::NotTip { tip: block(10, 0), got: block(10, 1) })
        );
    }

    #[test]
    fn the_memory_survives_encoding() {
        let mut memory = ChainMemory::starting_at(block(10, 0), 3);
        memory.connect(block(11, 0)).unwrap();
        let bytes = postcard::to_allocvec(&memory).unwrap();
        assert_eq!(postcard::from_bytes::<ChainMemory>(&bytes).unwrap(), memory);
    }
}

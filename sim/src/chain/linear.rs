//! The order in which a miner takes transactions that depend on each other, and what it earns on the way.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet};

use bitcoin::Txid;

/// A transaction as far as its place in the order depends on it.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    /// In satoshi.
    pub fee: u64,
    pub weight: u64,
    pub arrival: u64,
    /// Those of its parents that are to be ordered too.
    pub parents: BTreeSet<Txid>,
}

/// Transactions that are taken together, parents first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    pub txids: Vec<Txid>,
    /// In satoshi.
    pub fee: u64,
    pub weight: u64,
}

impl Chunk {
    /// By feerate.
    pub(super) fn compare(&self, other: &Chunk) -> Ordering {
        compare((self.fee, self.weight), (other.fee, other.weight))
    }

    /// True if it pays at least this many satoshi a 1000 virtual bytes.
    pub(super) fn pays(&self, per_kvb: u64) -> bool {
        u128::from(self.fee).saturating_mul(4_000)
            >= u128::from(per_kvb).saturating_mul(u128::from(self.weight))
    }
}

/// Which fee for a weight is the higher rate.
fn compare(left: (u64, u64), right: (u64, u64)) -> Ordering {
    let cross = |fee: u64, weight: u64| u128::from(fee) * u128::from(weight);
    cross(left.0, right.1).cmp(&cross(right.0, left.1))
}

/// Orders `pieces`: again and again the one is taken whose unordered ancestors pay the highest rate together with it; then
/// what pays more than what stands before it is joined with that. Exact for a parent with a child, and close to the best
/// for larger clusters.
pub(super) fn chunks(pieces: &BTreeMap<Txid, Piece>) -> Vec<Chunk> {
    let mut left: BTreeMap<Txid, BTreeSet<Txid>> =
        pieces.keys().map(|txid| (*txid, ancestors(pieces, *txid))).collect();
    let mut chunks: Vec<Chunk> = Vec::new();
    while let Some(best) = best_of(pieces, &left) {
        let taken = left.remove(&best).unwrap_or_default();
        for txid in in_order(pieces, &taken) {
            left.remove(&txid);
            push(&mut chunks, txid, pieces);
        }
        for ancestors in left.values_mut() {
            ancestors.retain(|txid| !taken.contains(txid));
        }
    }
    chunks
}

fn ancestors(pieces: &BTreeMap<Txid, Piece>, of: Txid) -> BTreeSet<Txid> {
    let mut found = BTreeSet::new();
    let mut open = vec![of];
    while let Some(txid) = open.pop() {
        if found.insert(txid) {
            open.extend(pieces.get(&txid).into_iter().flat_map(|piece| piece.parents.iter().copied()));
        }
    }
    found
}

fn sum(pieces: &BTreeMap<Txid, Piece>, of: &BTreeSet<Txid>) -> (u64, u64) {
    of.iter().filter_map(|txid| pieces.get(txid)).fold((0_u64, 0_u64), |(fee, weight), piece| {
        (fee.saturating_add(piece.fee), weight.saturating_add(piece.weight))
    })
}

/// The highest rate; among equals what arrived first.
fn best_of(pieces: &BTreeMap<Txid, Piece>, left: &BTreeMap<Txid, BTreeSet<Txid>>) -> Option<Txid> {
    let arrival = |txid: &Txid| pieces.get(txid).map_or(u64::MAX, |piece| piece.arrival);
    let rated = left.iter().map(|(txid, ancestors)| (sum(pieces, ancestors), Reverse(arrival(txid)), *txid));
    rated.max_by(|a, b| compare(a.0, b.0).then(a.1.cmp(&b.1))).map(|(_, _, txid)| txid)
}

/// Parents first, otherwise by arrival.
fn in_order(pieces: &BTreeMap<Txid, Piece>, of: &BTreeSet<Txid>) -> Vec<Txid> {
    let mut left: Vec<(usize, u64, Txid)> = of
        .iter()
        .filter_map(|txid| {
            let depth = ancestors(pieces, *txid).intersection(of).count();
            Some((depth, pieces.get(txid)?.arrival, *txid))
        })
        .collect();
    // Whoever depends on another has more ancestors than it.
    left.sort_unstable();
    left.into_iter().map(|(_, _, txid)| txid).collect()
}

fn push(chunks: &mut Vec<Chunk>, txid: Txid, pieces: &BTreeMap<Txid, Piece>) {
    let Some(piece) = pieces.get(&txid) else { return };
    let mut last = Chunk { txids: vec![txid], fee: piece.fee, weight: piece.weight };
    while let Some(before) = chunks.pop_if(|before| last.compare(before) == Ordering::Greater) {
        let mut txids = before.txids;
        txids.append(&mut last.txids);
        last = Chunk {
            txids,
            fee: last.fee.saturating_add(before.fee),
            weight: last.weight.saturating_add(before.weight),
        };
    }
    chunks.push(last);
}

/// True if a miner earns with `after` at least as much as with `before` at every weight, and more at one.
pub(super) fn improves(before: &[Chunk], after: &[Chunk]) -> bool {
    let (before, after) = (Curve::new(before), Curve::new(after));
    let mut better = false;
    let weights = before.points.iter().chain(&after.points).map(|(weight, _)| *weight);
    for weight in weights {
        match after.compare_at(&before, weight) {
            Ordering::Less => return false,
            Ordering::Greater => better = true,
            Ordering::Equal => {}
        }
    }
    better
}

/// What a miner has earned after taking so much weight: straight lines between these points, level after the last.
struct Curve {
    points: Vec<(u64, u64)>,
}

impl Curve {
    fn new(chunks: &[Chunk]) -> Curve {
        let mut sorted: Vec<&Chunk> = chunks.iter().collect();
        sorted.sort_by(|a, b| b.compare(a));
        let mut points = vec![(0_u64, 0_u64)];
        let (mut weight, mut fee) = (0_u64, 0_u64);
        for chunk in sorted {
            weight = weight.saturating_add(chunk.weight);
            fee = fee.saturating_add(chunk.fee);
            points.push((weight, fee));
        }
        Curve { points }
    }

    /// The height at `weight` as a fraction: numerator and denominator.
    fn at(&self, weight: u64) -> (u128, u128) {
        let mut before = (0_u64, 0_u64);
        for point in &self.points {
            if point.0 >= weight {
                let run = u128::from(point.0 - before.0).max(1);
                let rise = u128::from(point.1 - before.1);
                let part = u128::from(weight - before.0);
                return (u128::from(before.1) * run + rise * part, run);
            }
            before = *point;
        }
        (u128::from(before.1), 1)
    }

    fn compare_at(&self, other: &Curve, weight: u64) -> Ordering {
        let (mine, theirs) = (self.at(weight), other.at(weight));
        (mine.0 * theirs.1).cmp(&(theirs.0 * mine.1))
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::Hash;

    use super::*;

    fn txid(number: u8) -> Txid {
        Txid::from_byte_array([number; 32])
    }

    fn piece(fee: u64, weight: u64, parents: &[u8]) -> Piece {
        Piece { fee, weight, arrival: 0, parents: parents.iter().map(|number| txid(*number)).collect() }
    }

    fn chunk(fee: u64, weight: u64) -> Chunk {
        Chunk { txids: Vec::new(), fee, weight }
    }

    #[test]
    fn a_child_that_pays_more_is_taken_with_its_parent() {
        let pieces = BTreeMap::from([(txid(1), piece(0, 100, &[])), (txid(2), piece(300, 100, &[1]))]);
        let found = chunks(&pieces);
        assert_eq!(found, [Chunk { txids: vec![txid(1), txid(2)], fee: 300, weight: 200 }]);
    }

    #[test]
    fn a_child_that_pays_less_stands_behind_its_parent() {
        let pieces = BTreeMap::from([(txid(2), piece(300, 100, &[])), (txid(1), piece(10, 100, &[2]))]);
        let fees: Vec<u64> = chunks(&pieces).iter().map(|chunk| chunk.fee).collect();
        assert_eq!(fees, [300, 10]);
    }

    #[test]
    fn every_transaction_stands_behind_its_parents_and_rates_fall() {
        // A diamond with a rich grandchild and a poor sibling.
        let pieces = BTreeMap::from([
            (txid(9), piece(5, 100, &[])),
            (txid(7), piece(1, 100, &[9])),
            (txid(8), piece(2, 300, &[9])),
            (txid(1), piece(900, 100, &[7, 8])),
            (txid(2), piece(3, 400, &[9])),
        ]);
        let found = chunks(&pieces);
        let order: Vec<Txid> = found.iter().flat_map(|chunk| chunk.txids.clone()).collect();
        assert_eq!(order.len(), pieces.len());
        for (place, one) in order.iter().enumerate() {
            let before = &order[..place];
            assert!(pieces[one].parents.iter().all(|parent| before.contains(parent)));
        }
        assert!(found.windows(2).all(|pair| pair[0].compare(&pair[1]) != Ordering::Less));
    }

    #[test]
    fn a_replacement_must_nowhere_earn_less_and_somewhere_more() {
        let before = [chunk(1_000, 1_000)];
        assert!(improves(&before, &[chunk(1_001, 1_000)]));
        assert!(!improves(&before, &[chunk(1_000, 1_000)]), "no better");
        assert!(!improves(&before, &[chunk(1_500, 3_000)]), "less at first");
        assert!(improves(&before, &[chunk(1_000, 500)]), "as much for less");
        assert!(improves(&[], &[chunk(1, 1_000)]));
        assert!(!improves(&[chunk(10, 100), chunk(0, 100)], &[chunk(10, 150)]), "the rich chunk came first");
    }
}

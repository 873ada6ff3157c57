//! How an input is changed: the usual small damages, and pieces of others.

use super::limits::MAX_INPUT_BYTES;
use crate::seed::Chance;

/// Bytes at which decoders decide.
const EDGES: [u8; 8] = [0x00, 0x01, 0x7f, 0x80, 0xff, 0xfe, 0x10, 0x40];

/// One of the inputs with up to eight damages. `inputs` must not be empty.
pub fn mutated(inputs: &[Vec<u8>], chance: &mut Chance) -> Vec<u8> {
    let mut data = inputs[chance.below(inputs.len())].clone();
    for _ in 0..chance.within(1, 8) {
        damage(&mut data, inputs, chance);
    }
    data.truncate(MAX_INPUT_BYTES);
    data
}

fn damage(data: &mut Vec<u8>, inputs: &[Vec<u8>], chance: &mut Chance) {
    let at = |data: &Vec<u8>, chance: &mut Chance| chance.below(data.len() + 1);
    match chance.below(8) {
        0 | 1 if !data.is_empty() => {
            let place = chance.below(data.len());
            data[place] ^= 1 << chance.below(8);
        }
        2 if !data.is_empty() => {
            let place = chance.below(data.len());
            data[place] = EDGES[chance.below(EDGES.len())];
        }
        3 if !data.is_empty() => {
            let place = chance.below(data.len());
            data[place] = data[place].wrapping_add(if chance.one_of(1, 2) { 1 } else { 255 });
        }
        4 => {
            let (from, to) = (at(data, chance), at(data, chance));
            data.drain(from.min(to)..from.max(to).min(from.min(to) + 32));
        }
        5 => {
            let (from, place) = (at(data, chance), at(data, chance));
            let piece = data[from..(from + 32).min(data.len())].to_vec();
            data.splice(place..place, piece);
        }
        6 => {
            let other = &inputs[chance.below(inputs.len())];
            let (from, place) = (at(other, chance), at(data, chance));
            let piece = other[from..(from + 128).min(other.len())].to_vec();
            data.splice(place..place, piece);
        }
        _ => {
            let place = at(data, chance);
            let length = usize::try_from(chance.within(1, 9)).unwrap_or(1);
            let piece: Vec<u8> = (0..length).map(|_| chance.bytes::<1>()[0]).collect();
            data.splice(place..place, piece);
        }
    }
}

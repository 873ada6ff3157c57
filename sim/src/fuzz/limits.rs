//! Bounds of fuzzing in the ordinary tests.

/// Inputs of a target that only decodes: some microseconds each, in a debug build up to a hundred.
pub const CHEAP_ROUNDS: usize = 20_000;

/// Inputs of a target that signs and verifies: a few hundred milliseconds each in a debug build.
pub const COSTLY_ROUNDS: usize = 30;

/// Bytes of a mutated input: enough for the largest seed and for copies within it.
pub const MAX_INPUT_BYTES: usize = 16 * 1024;

/// Steps of one input of the `check` target: longer ones only repeat what shorter ones show.
pub const MAX_STEPS: usize = 200;

//! What happened in a run: its hash, its last events, and which events met which phases of channels.
//!
//! The real code tells its events as traces; the run adds its own. What is hashed depends on nothing but the seed.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bitcoin::hashes::{Hash, HashEngine, sha256};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Level, Metadata, Subscriber};

/// Lines kept for whoever reads a failure.
const LINES_KEPT: usize = 400;

/// A phase and an event that met it, by name.
pub type Pair = (&'static str, &'static str);

/// What a program told of as its own fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// Whose turn it was.
    pub who: String,
    pub what: String,
}

/// The record of one run. Clones are the same record.
#[derive(Clone, Default)]
pub struct Chronicle(Arc<Mutex<Inner>>);

struct Inner {
    engine: sha256::HashEngine,
    lines: VecDeque<String>,
    pairs: BTreeMap<Pair, u64>,
    /// Errors told of since they were last asked for.
    alarms: Vec<Alarm>,
    /// Whose turn it is.
    who: String,
    time_ms: u64,
    /// Lines are printed as they come.
    loud: bool,
}

impl Default for Inner {
    fn default() -> Self {
        Inner {
            engine: sha256::Hash::engine(),
            lines: VecDeque::new(),
            pairs: BTreeMap::new(),
            alarms: Vec::new(),
            who: String::new(),
            time_ms: 0,
            loud: false,
        }
    }
}

impl Chronicle {
    /// Also prints every line as it comes.
    pub fn loud() -> Self {
        let chronicle = Chronicle::default();
        chronicle.lock().loud = true;
        chronicle
    }

    /// Records what this thread's code traces, until the guard is dropped.
    pub fn listen(&self) -> DefaultGuard {
        tracing::subscriber::set_default(Listener(self.clone()))
    }

    /// It is the turn of `who`, `time_ms` after the beginning.
    pub fn turn_of(&self, who: &str, time_ms: u64) {
        let mut inner = self.lock();
        inner.time_ms = time_ms;
        if inner.who != who {
            inner.who.clear();
            inner.who.push_str(who);
        }
    }

    /// Something the seed decided: part of the hash, and kept.
    pub fn note(&self, what: impl fmt::Display) {
        let mut inner = self.lock();
        let line = format!("{:>10} {:<8} {what}", inner.time_ms, inner.who);
        inner.engine.input(line.as_bytes());
        inner.keep(line);
    }

    /// A frame arrives over a link: part of the hash, and not kept, for there are many.
    pub fn frame(&self, link: u64, way: &str, bytes: &[u8]) {
        let mut inner = self.lock();
        inner.engine.input(&link.to_be_bytes());
        inner.engine.input(way.as_bytes());
        inner.engine.input(bytes);
        if inner.loud {
            println!("{:>10} {:<8} link {link} {way}, {} bytes", inner.time_ms, "net", bytes.len());
        }
    }

    /// The hash of everything noted so far.
    pub fn hash(&self) -> [u8; 32] {
        sha256::Hash::from_engine(self.lock().engine.clone()).to_byte_array()
    }

    /// The last lines, the oldest first.
    pub fn last(&self, count: usize) -> Vec<String> {
        let inner = self.lock();
        let skipped = inner.lines.len().saturating_sub(count);
        inner.lines.iter().skip(skipped).cloned().collect()
    }

    /// What programs told of as errors since this was last asked.
    pub fn alarms(&self) -> Vec<Alarm> {
        std::mem::take(&mut self.lock().alarms)
    }

    /// Which events met which phases, and how often.
    pub fn pairs(&self) -> BTreeMap<Pair, u64> {
        self.lock().pairs.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn keep(&mut self, line: String) {
        if self.loud {
            println!("{line}");
        }
        if self.lines.len() == LINES_KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }
}

/// Takes the traces of the thread.
struct Listener(Chronicle);

impl Listener {
    fn channel_event(&self, event: &Event<'_>) {
        let mut fields = ChannelEvent::default();
        event.record(&mut fields);
        let pair = (known(&channel::channel::Channel::PHASES, &fields.phase), known(&EVENTS, &fields.event));
        if let (Some(phase), Some(name)) = pair {
            *self.0.lock().pairs.entry((phase, name)).or_default() += 1;
        }
        self.0.note(format_args!("channel {} {} <- {}", fields.owner, fields.phase, fields.event));
    }
}

const EVENTS: [&str; channel::event::Event::NAMES.len()] = channel::event::Event::NAMES;

fn known(names: &[&'static str], name: &str) -> Option<&'static str> {
    names.iter().copied().find(|known| *known == name)
}

#[derive(Default)]
struct ChannelEvent {
    owner: u64,
    phase: String,
    event: String,
}

impl Visit for ChannelEvent {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "owner" {
            self.owner = value;
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "phase" => value.clone_into(&mut self.phase),
            "event" => value.clone_into(&mut self.event),
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

/// A trace as one line.
#[derive(Default)]
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing into a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?} "),
            name => write!(self.0, "{name}={value:?} "),
        };
    }
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // What a channel is asked is told as a trace; of the rest, what an operator would read.
        metadata.target() == shard::EVENTS_TARGET || *metadata.level() <= Level::INFO
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        if event.metadata().target() == shard::EVENTS_TARGET {
            return self.channel_event(event);
        }
        let mut line = Line::default();
        event.record(&mut line);
        // Told for readers, and not part of the hash: it may hold what no seed decides, such as how long something took.
        let mut inner = self.0.lock();
        if *event.metadata().level() == Level::ERROR {
            let alarm = Alarm { who: inner.who.clone(), what: line.0.clone() };
            inner.alarms.push(alarm);
        }
        let line = format!("{:>10} {:<8} . {}", inner.time_ms, inner.who, line.0);
        inner.keep(line);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_an_alarm_of_whoever_had_its_turn() {
        let chronicle = Chronicle::default();
        let _listening = chronicle.listen();
        chronicle.turn_of("hub", 0);
        tracing::warn!("no alarm");
        tracing::error!(owner = 3, "an alarm");
        let alarms = chronicle.alarms();
        assert_eq!(alarms, [Alarm { who: "hub".to_owned(), what: "an alarm owner=3 ".to_owned() }]);
        assert!(chronicle.alarms().is_empty());
    }

    #[test]
    fn what_a_shard_traces_is_counted_and_hashed_and_the_rest_is_only_kept() {
        let chronicle = Chronicle::default();
        let listening = chronicle.listen();
        let empty = chronicle.hash();
        tracing::info!(took = 3, "something");
        assert_eq!(chronicle.hash(), empty);
        tracing::trace!(target: shard::EVENTS_TARGET, owner = 7u64, phase = "open", event = "Offer");
        assert_ne!(chronicle.hash(), empty);
        drop(listening);
        tracing::info!("nobody listens");
        assert_eq!(chronicle.pairs().into_iter().collect::<Vec<_>>(), [(("open", "Offer"), 1)]);
        let lines = chronicle.last(10);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].contains("something") && lines[1].contains("open <- Offer"), "{lines:?}");
    }
}

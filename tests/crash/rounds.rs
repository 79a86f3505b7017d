//! Rounds of load, kill, restart and comparison over one store.

use super::loads::{LOADS, Load};
use super::world::{World, narrow};
use super::writer::Writer;
use crate::support::rng::Rng;
use crate::support::target::Stage;
use crate::support::tree::look;
use crate::support::wait::pause;
use std::io::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A store under load, with one writer for each kind of work.
pub struct Rounds {
    pub stage: Stage,
    pub writers: Vec<(&'static str, Load, Writer)>,
    rng: Rng,
}

impl Rounds {
    /// Makes a directory for each kind of work.
    pub fn new(stage: Stage, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut writers = Vec::new();
        for (name, load) in LOADS {
            let root = stage.root().join(name);
            std::fs::create_dir(&root).expect("a directory for a writer");
            writers.push((name, load, Writer::new(root, rng.next())));
        }
        Self { stage, writers, rng }
    }

    /// Loads the program for a while, kills it in the middle, starts it again (at times killing it while it starts) and
    /// compares all that was acknowledged. Answers how many calls were acknowledged.
    pub fn round(&mut self, number: u64) -> u64 {
        let time = Duration::from_millis(150 + self.rng.below(900));
        let before = self.acknowledged();
        self.load(time);
        if !self.stage.is_plain() {
            self.stage.detach();
            if self.rng.chance(25) {
                self.stage.start_and_kill(Duration::from_millis(self.rng.below(400)));
            }
            self.stage.start();
        }
        self.compare(number);
        self.acknowledged() - before
    }

    fn acknowledged(&self) -> u64 {
        self.writers.iter().map(|(_, _, writer)| writer.calls).sum()
    }

    /// All writers at once, until the program is dead.
    fn load(&mut self, time: Duration) {
        let over = AtomicBool::new(false);
        let over = &over;
        let stage = &self.stage;
        std::thread::scope(|scope| {
            let busy = self
                .writers
                .iter_mut()
                .map(|(name, load, writer)| scope.spawn(move || (*name, run(*load, writer, over))));
            let busy: Vec<_> = busy.collect();
            pause(time);
            over.store(true, Ordering::SeqCst);
            stage.kill_program();
            for writer in busy {
                let (name, failed) = writer.join().expect("a writer");
                assert!(failed.is_none(), "{name}: failed before the kill: {failed:?}");
            }
        });
    }

    /// What is there must be one of the two worlds of each writer; the writers go on from what is there.
    pub fn compare(&mut self, round: u64) {
        for (name, _, writer) in &mut self.writers {
            let found =
                look(&writer.root).unwrap_or_else(|error| panic!("round {round}, {name}: {error}"));
            let worlds: [Option<World>; 2] =
                [Some(std::mem::take(&mut writer.now)), writer.next.take()];
            let narrowed = worlds.iter().flatten().map(|world| narrow(world, &found));
            let narrowed: Vec<_> = narrowed.collect();
            match narrowed.iter().find_map(|world| world.as_ref().ok()) {
                Some(world) => writer.now = world.clone(),
                None => panic!("round {round}, writer `{name}`: neither state fits: {narrowed:#?}"),
            }
        }
    }
}

/// Works until an error or the end; an error before the end is the program's fault and is answered.
fn run(load: Load, writer: &mut Writer, over: &AtomicBool) -> Option<Error> {
    while !over.load(Ordering::SeqCst) {
        if let Err(error) = load(writer) {
            return (!over.load(Ordering::SeqCst)).then_some(error);
        }
    }
    None
}

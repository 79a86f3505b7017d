//! Runs operations on a stage and the model side by side, and shrinks a log that fails.

use super::choose::Chooser;
use super::op::{Answer, Op};
use super::real::Real;
use super::state::{Model, UMASK};
use crate::support::rng::Rng;
use crate::support::target::Stage;
use crate::support::wait;
use std::time::Duration;

/// How long a failing log is shrunk at most.
const SHRINK_LIMIT: Duration = Duration::from_secs(60);

/// What went wrong, and with which operation of the log.
struct Failure {
    at: usize,
    what: String,
}

/// A stage with a fresh directory for every log.
pub struct Runner {
    stage: Stage,
    runs: u32,
}

impl Runner {
    /// Works on `stage`.
    pub fn new(stage: Stage) -> Self {
        unsafe { libc::umask(UMASK) };
        Self { stage, runs: 0 }
    }

    /// Does `count` operations chosen by `seed`, with a restart after every `restart` of them; panics with the shortest
    /// log it finds when the model and the directory part.
    pub fn run(&mut self, seed: u64, count: usize, restart: usize) {
        let mut rng = Rng::new(seed);
        let mut model = Model::new();
        let mut real = self.fresh();
        let mut log = Vec::with_capacity(count + 2);
        while log.len() < count {
            let op = match log.len() {
                last if last + 1 == count => Op::Compare,
                n if n % restart == restart - 1 => Op::Restart,
                n if n % restart == 0 && n > 0 => Op::Compare,
                _ => Chooser::new(&mut rng, &model).next(),
            };
            log.push(op);
            if let Err(what) = self.step(&mut model, &mut real, &log[log.len() - 1]) {
                drop(real);
                self.fail(seed, log, what);
            }
        }
    }

    fn fresh(&mut self) -> Real {
        self.runs += 1;
        let root = self.stage.root().join(format!("run-{}", self.runs));
        std::fs::create_dir(&root).expect("a fresh directory for the run");
        Real::new(root)
    }

    fn step(&mut self, model: &mut Model, real: &mut Real, op: &Op) -> Result<(), String> {
        let answer = match op {
            Op::Restart => {
                real.close_all().map_err(|error| format!("closing before the restart: {error}"))?;
                self.stage.restart();
                Answer::Done
            }
            _ => real.ask(op),
        };
        model.step(op, &answer)
    }

    fn replay(&mut self, log: &[Op]) -> Option<Failure> {
        let (mut model, mut real) = (Model::new(), self.fresh());
        let steps = log.iter().enumerate();
        let mut outcome = steps.map(|(at, op)| (at, self.step(&mut model, &mut real, op)));
        outcome.find_map(|(at, step)| step.err().map(|what| Failure { at, what }))
    }

    fn fail(&mut self, seed: u64, log: Vec<Op>, what: String) -> ! {
        let steps = log.len();
        let (log, last) = self.shrink(log);
        let what_now =
            last.as_ref().map_or("(does not fail again when replayed)", |last| &last.what);
        let lines = log.iter().map(|op| format!("  {op:?}")).collect::<Vec<_>>().join("\n");
        panic!(
            "seed {seed}, operation {steps}: {what}\nshortest log found ({}):\n{lines}\n  → {what_now}",
            log.len()
        );
    }

    /// Leaves out parts of the log, large ones first, as long as what is left still fails.
    fn shrink(&mut self, mut log: Vec<Op>) -> (Vec<Op>, Option<Failure>) {
        let end = wait::now() + SHRINK_LIMIT;
        let mut last = self.replay(&log);
        let mut part = log.len() / 2;
        while part > 0 && last.is_some() {
            let before = log.len();
            let mut start = 0;
            while start < log.len() && wait::now() < end {
                let mut shorter = log.clone();
                shorter.drain(start..(start + part).min(log.len()));
                match self.replay(&shorter) {
                    Some(failure) => {
                        shorter.truncate(failure.at + 1);
                        (log, last) = (shorter, Some(failure));
                    }
                    None => start += part,
                }
            }
            let again = part == 1 && log.len() < before;
            part = if again { 1 } else { part / 2 };
        }
        (log, last)
    }
}

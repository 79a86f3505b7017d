//! What goes wrong, by chance.

use std::path::Path;
use std::time::Duration;

use bucketfs::env::{Clock, Disk, SimThreads};
use bucketfs::types::Timestamp;

use super::world::{FLIPS, World};

/// How long disks are slow before the power goes.
const BUSY: u64 = 300;
/// When the one that led comes back; the others have chosen another by then.
const LAST: u64 = 4_000;

impl World {
    /// Something fails, or gets better.
    pub fn strike(&mut self) {
        if self.has_changes && self.chance.chance(30) {
            return self.change_members();
        }
        let place = self.chance.below(self.nodes.len() as u64) as usize;
        match self.chance.below(100) {
            0..14 => self.kill(place),
            14..25 => self.cut_power(place),
            25..32 => self.black_out(),
            32..52 => self.cut_links(place),
            52..60 => self.slow_links(place),
            60..78 => {
                self.tell("all links are good".into());
                self.net.heal();
            }
            78..84 => self.fail_disk(place),
            84..88 => self.fill_disk(place),
            88..91 => self.jump_clock(place),
            91..97 => self.flip_bit(),
            _ => {}
        }
    }

    fn later(&mut self) -> u64 {
        self.tick + 100 + self.chance.below(4_000)
    }

    fn kill(&mut self, place: usize) {
        if self.nodes[place].is_up() {
            self.tell(format!("node {} is killed", self.nodes[place].id));
            self.nodes[place].kill();
            self.goes_down(place);
        }
    }

    fn goes_down(&mut self, place: usize) {
        if self.chance.chance(50) {
            self.net.comes_late(self.nodes[place].id);
        }
        let at = self.later();
        self.due.insert(place, at);
    }

    fn cut_power(&mut self, place: usize) {
        if self.nodes[place].is_up() {
            self.tell(format!("node {} loses its power", self.nodes[place].id));
            let seed = self.chance.draw();
            self.nodes[place].cut_power(seed);
            self.goes_down(place);
        }
    }

    /// All lose their power at once, mostly while their disks have much to do. The one that led comes back last, mostly:
    /// what only it had on disk is not there for the others.
    fn black_out(&mut self) {
        if self.chance.chance(60) {
            self.tell("all disks are slow".into());
            SimThreads::set_busy(true);
            self.pass(BUSY);
        }
        let leads = |place: &usize| self.nodes[*place].parts().is_some_and(|it| it.replica.leads());
        let leader = (0..self.nodes.len()).find(leads);
        for place in 0..self.nodes.len() {
            self.cut_power(place);
        }
        SimThreads::set_busy(false);
        if self.chance.chance(70) {
            for (place, at) in &mut self.due {
                let is_last = Some(*place) == leader;
                *at = self.tick + if is_last { LAST } else { 100 + self.chance.below(300) };
            }
        }
    }

    /// Both ways, or one; to all, or to one other.
    fn cut_links(&mut self, place: usize) {
        let (hears, speaks) = (self.chance.chance(30), self.chance.chance(30));
        let all = self.chance.chance(70);
        let id = self.nodes[place].id;
        let others: Vec<_> = self.nodes.iter().map(|node| node.id).filter(|it| *it != id).collect();
        let count = if all { others.len() } else { 1 };
        for other in others.into_iter().take(count) {
            self.tell(format!("{id} and {other} are cut off (hears {hears}, speaks {speaks})"));
            if !speaks || hears {
                self.net.cut(id, other);
            }
            if !hears {
                self.net.cut(other, id);
            }
        }
    }

    fn slow_links(&mut self, place: usize) {
        let id = self.nodes[place].id;
        self.tell(format!("the links of node {id} are slow"));
        for other in self.nodes.iter().map(|node| node.id) {
            self.net.slow(id, other);
            self.net.slow(other, id);
        }
    }

    /// One call or sync fails soon; the node is to notice, and to write nothing more.
    fn fail_disk(&mut self, place: usize) {
        self.has_bad_copies = true;
        let soon = 1 + self.chance.below(40);
        let node = &mut self.nodes[place];
        if node.is_up() {
            node.is_ailing = true;
            if self.chance.chance(50) {
                node.disk.fail_sync(soon)
            } else {
                node.disk.fail_call(soon)
            }
            let id = node.id;
            self.tell(format!("the disk of node {id} fails soon"));
        }
    }

    /// There is room again when all is healed, or the next time.
    fn fill_disk(&mut self, place: usize) {
        let is_full = self.chance.chance(60);
        let node = &mut self.nodes[place];
        let space = node.disk.space(Path::new("/")).unwrap_or_default();
        let left = if is_full { self.chance.below(300 << 20) } else { 1 << 40 };
        node.disk.set_capacity(space.total - space.available + left);
        let id = node.id;
        self.tell({
            format!("the disk of node {id} is {}", if is_full { "almost full" } else { "free" })
        });
    }

    /// In a chunk file of the one node that this happens to: its copies are bad, the others' are good.
    fn flip_bit(&mut self) {
        self.has_bad_copies = true;
        let files = self.nodes[FLIPS].chunk_files();
        let Some((path, len)) =
            files.get(self.chance.below(files.len() as u64) as usize).filter(|(_, len)| *len > 0)
        else {
            return;
        };
        let bit = self.chance.below(len * 8) as usize;
        let flipped = self.nodes[FLIPS].disk.flip_bit(path, bit);
        let id = self.nodes[FLIPS].id;
        self.tell(format!("bit {bit} of {} on node {id} flips: {flipped:?}", path.display()));
    }

    fn jump_clock(&mut self, place: usize) {
        let by = self.chance.below(7_200_000);
        let node = &self.nodes[place];
        let now = node.clock.now();
        let seconds = now.seconds - 3_600 + Duration::from_millis(by).as_secs() as i64;
        node.clock.set_wall(Timestamp { seconds, nanos: now.nanos });
        self.tell(format!("the clock of node {} jumps", self.nodes[place].id));
    }
}

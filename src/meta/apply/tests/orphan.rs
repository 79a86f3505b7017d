//! Files without a name, while other nodes may have them open: they stay as long as one session
//! holds them, not longer, and whatever ends a session lets go for it.

use super::{Bench, Speaker, file_name, removed};
use crate::meta::keys;
use crate::meta::mutation::{Change, Mutation, Outcome, Refusal};
use crate::meta::record::Orphan;
use crate::types::limits::RELEASED_MAX;
use crate::types::{FileKind, Ino, SessionId};

fn unlink(bench: &mut Bench, parent: Ino, name: &str, held: bool) {
    let at = bench.now();
    removed(bench.propose(Mutation::Unlink { parent, name: file_name(name), held, at }));
}

/// What a session proposes in between.
fn by(bench: &mut Bench, session: &mut Speaker, mutation: Mutation) -> Outcome {
    std::mem::swap(&mut bench.who, session);
    let outcome = bench.propose(mutation);
    std::mem::swap(&mut bench.who, session);
    bench.check();
    outcome
}

fn holders(bench: &Bench, ino: Ino) -> Option<u32> {
    bench.read::<Orphan>(&keys::orphan(ino)).map(|orphan| orphan.holders)
}

#[test]
fn the_last_of_all_sessions_takes_the_file_along() {
    let (mut bench, bucket) = Bench::new();
    let mut second = Speaker::new(bench.open_session(2));
    let mut third = Speaker::new(bench.open_session(3));
    let ino = bench.create(bucket, "f");
    unlink(&mut bench, bucket, "f", true);
    assert!(bench.changes.contains(&Change::Orphaned(ino)), "everybody is told");
    assert_eq!(holders(&bench, ino), Some(3));
    let release = Mutation::ReleaseOrphans { inos: vec![ino, ino, bucket, Ino(999)] };
    for (who, left) in [(&mut second, 2), (&mut third, 1)] {
        assert_eq!(by(&mut bench, who, release.clone()), Outcome::Done);
        assert_eq!(by(&mut bench, who, release.clone()), Outcome::Done, "once is enough");
        assert_eq!(holders(&bench, ino), Some(left));
    }
    bench.propose(release);
    assert_eq!((bench.inode(ino), holders(&bench, ino)), (None, None));
    assert_eq!(bench.changes, [Change::Gone(ino)]);
    bench.check();
}

/// The proposer looked at what the name stood for then; by now it may be a file that it has opened
/// since. With others about, who could have put it there, it lets go as they do.
#[test]
fn with_others_about_the_proposer_is_asked_too() {
    let (mut bench, bucket) = Bench::new();
    let mut second = Speaker::new(bench.open_session(2));
    let ino = bench.create(bucket, "f");
    unlink(&mut bench, bucket, "f", false);
    assert_eq!(holders(&bench, ino), Some(2));
    let release = Mutation::ReleaseOrphans { inos: vec![ino] };
    by(&mut bench, &mut second, release.clone());
    assert_eq!(holders(&bench, ino), Some(1));
    bench.propose(release);
    assert!(bench.inode(ino).is_none());
    bench.check();
}

/// Who opens a session later has never seen the name.
#[test]
fn a_later_session_holds_nothing() {
    let (mut bench, bucket) = Bench::new();
    let mut second = Speaker::new(bench.open_session(2));
    let ino = bench.create(bucket, "f");
    unlink(&mut bench, bucket, "f", false);
    let later = bench.open_session(3);
    assert!(!bench.has(&keys::hold(later, ino)));
    let release = Mutation::ReleaseOrphans { inos: vec![ino] };
    by(&mut bench, &mut second, release.clone());
    bench.propose(release);
    assert!(bench.inode(ino).is_none());
}

/// Directories, links and devices are opened by kernels, never here.
#[test]
fn only_files_are_kept_for_others() {
    let (mut bench, bucket) = Bench::new();
    bench.open_session(2);
    let dir = bench.mkdir(bucket, "d");
    let at = bench.now();
    let rmdir = Mutation::Rmdir { parent: bucket, name: file_name("d"), held: false, at };
    removed(bench.propose(rmdir));
    let fifo = bench.new_node(bucket, "p", FileKind::Fifo);
    let fifo = bench.make(fifo);
    unlink(&mut bench, bucket, "p", false);
    assert_eq!((bench.inode(dir), bench.inode(fifo)), (None, None));
    assert!(bench.table.keys(keys::HOLD).is_empty());
    bench.check();
}

/// A session that was ended while it lives lets go of nothing twice: its late word is fenced.
#[test]
fn an_end_lets_go_of_everything_in_bounded_steps() {
    let (mut bench, bucket) = Bench::new();
    let mut second = Speaker::new(bench.open_session(2));
    let mut inos = Vec::new();
    for number in 0..2 * RELEASED_MAX + 1 {
        let name = format!("f{number}");
        inos.push(bench.create(bucket, &name));
        unlink(&mut bench, bucket, &name, false);
        bench.who.settled = bench.who.sequence;
    }
    for some in inos.chunks(RELEASED_MAX) {
        bench.propose(Mutation::ReleaseOrphans { inos: some.to_vec() });
    }
    let count = |bench: &Bench| bench.table.keys(keys::ORPHAN).len();
    assert_eq!(count(&bench), inos.len());
    let end = Mutation::EndSession { session: second.session };
    for left in [RELEASED_MAX + 1, 1] {
        assert_eq!(bench.propose(end.clone()), Outcome::More(true));
        assert_eq!(count(&bench), left);
        bench.check();
        let late = Mutation::ReleaseOrphans { inos: vec![inos[0]] };
        assert_eq!(by(&mut bench, &mut second, late), Outcome::Refused(Refusal::Fenced));
    }
    assert_eq!(bench.propose(end), Outcome::More(false));
    assert_eq!((count(&bench), bench.table.keys(keys::HOLD).len()), (0, 0));
    assert_eq!(bench.superblock().inodes, 2);
    let too_many = vec![Ino(1); RELEASED_MAX + 1];
    bench.refused(Mutation::ReleaseOrphans { inos: too_many }, Refusal::Malformed);
    assert_eq!(bench.read::<SessionId>(&keys::session_nonce(2)), None);
}

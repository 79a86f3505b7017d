//! The directories of the simulated disk: the names that are there, and the names that are durable.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Component, Path};
use std::sync::Arc;

use parking_lot::Mutex;

use super::seeded::Seeded;
use super::sim_file::SimFile;

/// A file, shared by its names and handles.
pub type SharedFile = Arc<Mutex<SimFile>>;
type SharedDir = Arc<Mutex<SimDir>>;
type Names = BTreeMap<String, Node>;

#[derive(Clone)]
pub enum Node {
    File(SharedFile),
    Dir(SharedDir),
}

/// A directory with its past since the last sync.
#[derive(Default)]
pub struct SimDir {
    live: Names,
    durable: Names,
    pending: Vec<Change>,
}

/// One change of names, which a power cut leaves whole or not at all.
pub struct Change {
    removed: Option<String>,
    added: Option<(String, Node)>,
}

impl Change {
    fn apply(&self, names: &mut Names) {
        if let Some(name) = &self.removed {
            names.remove(name);
        }
        if let Some((name, node)) = &self.added {
            names.insert(name.clone(), node.clone());
        }
    }
}

impl SimDir {
    fn change(&mut self, removed: Option<String>, added: Option<(String, Node)>) {
        let change = Change { removed, added };
        change.apply(&mut self.live);
        self.pending.push(change);
    }
}

/// The tree, from `/`.
#[derive(Clone, Default)]
pub struct SimTree {
    root: SharedDir,
}

impl SimTree {
    pub fn file(&self, path: &Path) -> io::Result<SharedFile> {
        match self.node(path)? {
            Node::File(file) => Ok(file),
            Node::Dir(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    /// Adds an empty file under a new name.
    pub fn create(&self, path: &Path) -> io::Result<SharedFile> {
        let (dir, name) = self.parent(path)?;
        let mut dir = dir.lock();
        if dir.live.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = SharedFile::default();
        dir.change(None, Some((name, Node::File(file.clone()))));
        Ok(file)
    }

    pub fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut dir = self.root.clone();
        for name in components(path)? {
            let mut names = dir.lock();
            let next = match names.live.get(&name) {
                Some(Node::Dir(next)) => next.clone(),
                Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                None => {
                    let next = SharedDir::default();
                    names.change(None, Some((name, Node::Dir(next.clone()))));
                    next
                }
            };
            drop(names);
            dir = next;
        }
        Ok(())
    }

    /// Moves a file over another or to a new name. Within one directory that is one change.
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let node = self.node(from)?;
        let (from_dir, from_name) = self.parent(from)?;
        let (to_dir, to_name) = self.parent(to)?;
        match (to_dir.lock().live.get(&to_name), &node) {
            (Some(Node::Dir(_)), Node::File(_)) => return Err(io::ErrorKind::IsADirectory.into()),
            (Some(_), Node::Dir(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
            _ => {}
        }
        if Arc::ptr_eq(&from_dir, &to_dir) {
            if from_name != to_name {
                from_dir.lock().change(Some(from_name), Some((to_name, node)));
            }
        } else {
            to_dir.lock().change(None, Some((to_name, node)));
            from_dir.lock().change(Some(from_name), None);
        }
        Ok(())
    }

    /// Removes a file's name and returns the file.
    pub fn remove(&self, path: &Path) -> io::Result<SharedFile> {
        let file = self.file(path)?;
        let (dir, name) = self.parent(path)?;
        dir.lock().change(Some(name), None);
        Ok(file)
    }

    pub fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let target = self.dir(path)?;
        let (dir, name) = self.parent(path)?;
        if !target.lock().live.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        dir.lock().change(Some(name), None);
        Ok(())
    }

    /// Removes a directory and, one by one, all below it.
    pub fn remove_all(&self, path: &Path) -> io::Result<()> {
        let target = self.dir(path)?;
        let (dir, name) = self.parent(path)?;
        empty(&target);
        dir.lock().change(Some(name), None);
        Ok(())
    }

    /// The names in a directory with what they are.
    pub fn list(&self, path: &Path) -> io::Result<Vec<(String, Node)>> {
        let dir = self.dir(path)?;
        let dir = dir.lock();
        Ok(dir.live.iter().map(|(name, node)| (name.clone(), node.clone())).collect())
    }

    pub fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let dir = self.dir(path)?;
        let mut dir = dir.lock();
        let SimDir { durable, pending, .. } = &mut *dir;
        pending.drain(..).for_each(|change| change.apply(durable));
        Ok(())
    }

    /// What a failed sync leaves: names that are there, and never get on the disk.
    pub fn lose_names(&self, path: &Path) {
        if let Ok(dir) = self.dir(path) {
            dir.lock().pending.clear();
        }
    }

    /// The tree after a power cut: of each directory the synced names and any later change.
    pub fn after_power_cut(&self, seeded: &mut Seeded) -> SimTree {
        let root = dir_after_power_cut(&self.root, seeded, &mut HashMap::new());
        SimTree { root }
    }

    /// Bytes of space all files take.
    pub fn allocated(&self) -> u64 {
        allocated(&self.root)
    }

    fn node(&self, path: &Path) -> io::Result<Node> {
        let mut node = Node::Dir(self.root.clone());
        for name in components(path)? {
            let Node::Dir(dir) = node else { return Err(io::ErrorKind::NotADirectory.into()) };
            let next = dir.lock().live.get(&name).cloned();
            node = next.ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(node)
    }

    fn dir(&self, path: &Path) -> io::Result<SharedDir> {
        match self.node(path)? {
            Node::Dir(dir) => Ok(dir),
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn parent(&self, path: &Path) -> io::Result<(SharedDir, String)> {
        let name = components(path)?.pop().ok_or(io::ErrorKind::InvalidInput)?;
        Ok((self.dir(path.parent().unwrap_or(Path::new("")))?, name))
    }
}

fn components(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => names.push(name.to_string_lossy().into_owned()),
            Component::ParentDir | Component::Prefix(_) => {
                return Err(io::ErrorKind::InvalidInput.into());
            }
        }
    }
    Ok(names)
}

fn empty(dir: &SharedDir) {
    let names: Vec<_> = dir.lock().live.iter().map(|(n, node)| (n.clone(), node.clone())).collect();
    for (name, node) in names {
        if let Node::Dir(below) = node {
            empty(&below);
        }
        dir.lock().change(Some(name), None);
    }
}

fn allocated(dir: &SharedDir) -> u64 {
    let of_node = |node: &Node| match node {
        Node::File(file) => file.lock().allocated(),
        Node::Dir(dir) => allocated(dir),
    };
    dir.lock().live.values().map(of_node).sum()
}

/// `done` holds the files met so far, by address: one file may have two names after a cut in the
/// middle of a rename between directories.
fn dir_after_power_cut(
    dir: &SharedDir,
    seeded: &mut Seeded,
    done: &mut HashMap<usize, SharedFile>,
) -> SharedDir {
    let dir = dir.lock();
    let percent = [0, 50, 100][seeded.below(3) as usize];
    let mut names = dir.durable.clone();
    for change in &dir.pending {
        if seeded.chance(percent) {
            change.apply(&mut names);
        }
    }
    for node in names.values_mut() {
        *node = match node {
            Node::Dir(below) => Node::Dir(dir_after_power_cut(below, seeded, done)),
            Node::File(file) => {
                let cut = done
                    .entry(Arc::as_ptr(file).addr())
                    .or_insert_with(|| Arc::new(Mutex::new(file.lock().after_power_cut(seeded))));
                Node::File(cut.clone())
            }
        };
    }
    Arc::new(Mutex::new(SimDir { live: names.clone(), durable: names, pending: Vec::new() }))
}

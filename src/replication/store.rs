//! The data directory: what is where, and the small files that say whose it is and how it stopped.
//!
//! | name | what |
//! |---|---|
//! | `LOCK` | held by the process that has the store open |
//! | `node.json` | [`NodeFile`]: last step of `init`, never changed |
//! | `making` | `init` began and did not end: what is there may be thrown away |
//! | `clean.json` | [`CleanStop`]: the last stop was in order; gone while the store is open |
//! | `running.json` | [`Running`]: the boot in which the store was opened last |
//! | `opening.json` | [`Opening`]: the table is being opened, or that ended the process |
//! | `peers/` | the cluster's certificate authority; invitations given; whom a new node asks |
//! | `log/`, `snapshots/`, `meta/ENGINE/`, `chunks/` | |
//! | `meta/ENGINE.replaced/` | the table that is being made again; until that is done |
//! | `meta/ENGINE.aside/` | the table that was made again last, for whoever wants to know why |

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::files;
use super::options::Options;
use crate::env::{Disk, Entry, RealDisk};
use crate::error::{Error, Result};
use crate::types::NodeId;

const REPLACED: &str = ".replaced";
const ASIDE: &str = ".aside";

/// Format of the data directory as a whole.
pub const FORMAT: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFile {
    pub format: u32,
    pub node: NodeId,
    /// 32 hexadecimal digits.
    pub cluster: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CleanStop {
    /// The last record of the log.
    pub record: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    pub boot_id: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    pub engine: String,
    /// How often it ended the process before.
    pub deaths: u32,
}

/// How the store was left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LastStop {
    Clean(CleanStop),
    /// The process ended without a word, the machine ran on.
    Process,
    /// The machine ended: what was not synced may be gone.
    Machine,
}

/// The cluster of the store in a data directory of the real disk; `None` when it holds none.
///
/// # Errors
/// [`Error::Damaged`] when it cannot be read.
pub fn joined_node(data_dir: &Path) -> Result<Option<String>> {
    let file: Option<NodeFile> = files::read(&RealDisk::new(), &data_dir.join("node.json"))?;
    Ok(file.map(|file| file.cluster))
}

/// The paths of one data directory on its disk.
#[derive(Clone)]
pub struct StoreDir {
    pub disk: Arc<dyn Disk>,
    pub root: PathBuf,
}

impl StoreDir {
    pub fn new(disk: Arc<dyn Disk>, options: &Options) -> Self {
        Self { disk, root: options.data_dir.clone() }
    }

    pub fn log(&self) -> PathBuf {
        self.root.join("log")
    }

    pub fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    pub fn meta(&self) -> PathBuf {
        self.root.join("meta")
    }

    fn making(&self) -> PathBuf {
        self.root.join("making")
    }

    fn node(&self) -> PathBuf {
        self.root.join("node.json")
    }

    fn clean(&self) -> PathBuf {
        self.root.join("clean.json")
    }

    fn running(&self) -> PathBuf {
        self.root.join("running.json")
    }

    fn opening(&self) -> PathBuf {
        self.root.join("opening.json")
    }

    /// Makes the directories of a new store.
    ///
    /// # Errors
    /// [`Error::Store`] when there is one, or anything else, already.
    pub fn begin(&self) -> Result<()> {
        let failed = |error| Error::io(format!("making {}", self.root.display()), error);
        let disk = &self.disk;
        disk.create_dir_all(&self.root).map_err(failed)?;
        if let Some(parent) = self.root.parent() {
            disk.sync_dir(parent).map_err(failed)?;
        }
        let left = self.left_of_making()?;
        files::replace(&**disk, &self.making(), &FORMAT)?;
        for entry in left {
            let path = self.root.join(&entry.name);
            if entry.is_dir { disk.remove_all(&path) } else { disk.remove(&path) }
                .map_err(failed)?;
        }
        for dir in [
            self.log(),
            self.snapshots(),
            self.meta(),
            self.root.join("chunks"),
            self.root.join("peers"),
        ] {
            disk.create_dir_all(&dir).map_err(failed)?;
        }
        disk.sync_dir(&self.root).map_err(failed)
    }

    /// What a making that was cut short has left here. Reads only.
    ///
    /// # Errors
    /// [`Error::Store`] when the directory holds a store, or something else of somebody's.
    pub fn left_of_making(&self) -> Result<Vec<Entry>> {
        let failed = |error| Error::io(format!("listing {}", self.root.display()), error);
        let mut found = self.disk.list(&self.root).map_err(failed)?;
        let has = |name: &str| found.iter().any(|entry| entry.name == name);
        if has("node.json") {
            return Err(Error::Store(format!("{} holds a store already", self.root.display())));
        }
        let is_making = has("making");
        found.retain(|entry| {
            !matches!(entry.name.as_str(), "LOCK" | "lost+found" | "making" | "making.new")
        });
        match found.first() {
            Some(entry) if !is_making => Err(Error::Store(format!(
                "{} is not empty (it holds \"{}\"): take an empty or new directory",
                self.root.display(),
                entry.name
            ))),
            _ => Ok(found),
        }
    }

    /// What a node that has joined must not lose before it is a member.
    pub fn contacts(&self) -> PathBuf {
        self.root.join("peers").join("contacts.json")
    }

    pub fn invitations(&self) -> PathBuf {
        self.root.join("peers").join("invitations.json")
    }

    /// The store is complete.
    pub fn finish(&self, node: &NodeFile) -> Result<()> {
        files::replace(&*self.disk, &self.node(), node)?;
        files::remove_durably(&*self.disk, &self.making())
    }

    /// Whose store this is.
    ///
    /// # Errors
    /// [`Error::Store`] when there is none, or one of a newer format.
    pub fn identify(&self) -> Result<NodeFile> {
        let root = self.root.display();
        let file: Option<NodeFile> = files::read(&*self.disk, &self.node())?;
        let Some(file) = file else {
            return Err(Error::Store(format!("{root} holds no store: run `bucketfs init` first")));
        };
        if file.format > FORMAT {
            return Err(Error::Store(format!(
                "the store in {root} has format {} and this program knows {FORMAT}: run a newer \
                 version",
                file.format
            )));
        }
        Ok(file)
    }

    pub fn last_stop(&self, boot_id: &str) -> Result<LastStop> {
        if let Some(clean) = files::read(&*self.disk, &self.clean())? {
            return Ok(LastStop::Clean(clean));
        }
        let running: Option<Running> = files::read(&*self.disk, &self.running())?;
        let same_boot = running.is_some_and(|running| running.boot_id == boot_id);
        Ok(if same_boot { LastStop::Process } else { LastStop::Machine })
    }

    /// From here on a stop is not clean. Durable before anything else is written.
    pub fn mark_running(&self, boot_id: &str) -> Result<()> {
        let running = Running { boot_id: boot_id.to_owned() };
        files::replace(&*self.disk, &self.running(), &running)?;
        files::remove_durably(&*self.disk, &self.clean())
    }

    /// Everything is on disk and nothing is written any more.
    pub fn mark_clean(&self, clean: &CleanStop) -> Result<()> {
        files::replace(&*self.disk, &self.clean(), clean)
    }

    /// The table is opened now, which may end the process. Returns how often it did, one time after
    /// the other.
    pub fn mark_opening(&self, engine: &str) -> Result<u32> {
        // A mark that cannot be read was being written when the process ended.
        let before: Option<Opening> = files::read(&*self.disk, &self.opening()).unwrap_or_default();
        let before = before.filter(|before| before.engine == engine);
        let deaths = before.map_or(0, |before| before.deaths + 1);
        files::replace(&*self.disk, &self.opening(), &Opening { engine: engine.into(), deaths })?;
        Ok(deaths)
    }

    pub fn mark_opened(&self) -> Result<()> {
        files::remove_durably(&*self.disk, &self.opening())
    }

    /// Moves the directory of a table out of the way until [`Self::settle_aside`]; `None` when there
    /// is no such directory. What a start made that did not come to that is thrown away: what it
    /// wanted to replace may be the last table there is.
    pub fn set_aside(&self, dir: &Path) -> Result<Option<PathBuf>> {
        let replaced = sibling(dir, REPLACED);
        if !self.exists(dir)? {
            return Ok(None);
        }
        if self.exists(&replaced)? {
            self.remove_dir(dir)?;
        } else {
            self.rename_dir(dir, &replaced)?;
        }
        Ok(Some(replaced))
    }

    /// The table in `dir` is whole: what was set aside for it takes the place of what was before.
    pub fn settle_aside(&self, dir: &Path) -> Result<()> {
        let (replaced, aside) = (sibling(dir, REPLACED), sibling(dir, ASIDE));
        if self.exists(&replaced)? {
            self.remove_dir(&aside)?;
            self.rename_dir(&replaced, &aside)?;
        }
        Ok(())
    }

    fn rename_dir(&self, from: &Path, to: &Path) -> Result<()> {
        let failed = |error| Error::io(format!("setting {} aside", from.display()), error);
        self.disk.rename(from, to).map_err(failed)?;
        match to.parent() {
            Some(parent) => self.disk.sync_dir(parent).map_err(failed),
            None => Ok(()),
        }
    }

    /// Removes a directory with all that is in it, if it is there.
    pub fn remove_dir(&self, dir: &Path) -> Result<()> {
        if self.exists(dir)? {
            let failed = |error| Error::io(format!("removing {}", dir.display()), error);
            self.disk.remove_all(dir).map_err(failed)?;
        }
        Ok(())
    }

    fn exists(&self, dir: &Path) -> Result<bool> {
        match self.disk.list(dir) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io(format!("listing {}", dir.display()), error)),
        }
    }
}

fn sibling(dir: &Path, ending: &str) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_os_string();
    name.push(ending);
    dir.with_file_name(name)
}

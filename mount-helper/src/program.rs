//! Finds the program `bucketfs`: mount(8) starts its helpers without PATH.

use std::env;
use std::path::{Path, PathBuf};

use crate::Failure;

const NAME: &str = "bucketfs";
const DIRECTORIES: [&str; 4] = ["/usr/local/bin", "/usr/bin", "/sbin", "/usr/sbin"];
/// What the daemon gets when there is none: it looks for fusermount3 there.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Beside this program (where a link to it points too), else where programs are installed.
///
/// # Errors
/// [`Failure::System`] naming the places.
pub fn find() -> Result<PathBuf, Failure> {
    let own = env::current_exe().ok();
    let beside = own.iter().filter_map(|own| own.parent());
    let places: Vec<&Path> = beside.chain(DIRECTORIES.iter().map(Path::new)).collect();
    first_with(&places, NAME).ok_or_else(|| {
        let places: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
        Failure::System(format!("the program {NAME} is not in {}", places.join(", ")))
    })
}

fn first_with(places: &[&Path], name: &str) -> Option<PathBuf> {
    places.iter().map(|place| place.join(name)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_place_wins() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let places = [one.path(), two.path()];
        assert_eq!(first_with(&places, NAME), None);
        std::fs::write(two.path().join(NAME), "").unwrap();
        assert_eq!(first_with(&places, NAME), Some(two.path().join(NAME)));
        std::fs::create_dir(one.path().join(NAME)).unwrap();
        assert_eq!(first_with(&places, NAME), Some(two.path().join(NAME)));
        std::fs::write(one.path().join("other"), "").unwrap();
        assert_eq!(first_with(&places, "other"), Some(one.path().join("other")));
    }
}

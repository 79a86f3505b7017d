//! Puts a configuration together from its sources and says which source each value came from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::{Config, SETTINGS, Setting};
use crate::error::{Error, Result};

/// Names the file; no setting.
const FILE_VARIABLE: &str = "BUCKETFS_CONFIG";
/// What the names of variables that are settings begin with.
pub const PREFIX: &str = "BUCKETFS_";

/// Everything a configuration can be made from, weakest last.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Setting keys with the text given on the command line.
    pub flags: Vec<(&'static str, String)>,
    /// The process environment, or what a test puts in its place.
    pub environment: Vec<(String, String)>,
    /// The file named on the command line; else `BUCKETFS_CONFIG` names it; else there is none.
    pub file: Option<PathBuf>,
}

/// Where the value of a setting comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Default,
    File(PathBuf),
    /// The variable's name.
    Environment(String),
    /// The flag's name without dashes.
    Flag(String),
}

/// A valid configuration with the origin of each setting.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    origins: BTreeMap<&'static str, Origin>,
    /// `BUCKETFS_…` variables that are no settings. Not refused as in a file: Kubernetes makes such
    /// variables (`BUCKETFS_PORT`) for a service of that name.
    pub unknown_variables: Vec<String>,
}

impl Loaded {
    pub fn origin(&self, setting: &Setting) -> &Origin {
        self.origins.get(setting.key).unwrap_or(&Origin::Default)
    }

    fn take(&mut self, setting: &'static Setting, text: &str, origin: Origin) -> Result<()> {
        (setting.set)(&mut self.config, text).ok_or_else(|| {
            let (key, allowed) = (setting.key, setting.allowed);
            Error::Config(format!("`{key}` from {origin}: `{text}` is not allowed, use {allowed}"))
        })?;
        self.origins.insert(setting.key, origin);
        Ok(())
    }
}

/// # Errors
/// [`Error::Config`] with the name of the first setting that is unknown or not allowed, and what
/// is; also when the file cannot be read.
pub fn load(sources: &Sources) -> Result<Loaded> {
    let (config, origins) = (Config::default(), BTreeMap::new());
    let mut loaded = Loaded { config, origins, unknown_variables: Vec::new() };
    let named = sources.environment.iter().find(|(name, _)| name == FILE_VARIABLE);
    let file = sources.file.clone().or_else(|| named.map(|(_, path)| PathBuf::from(path)));
    if let Some(path) = file {
        for (key, text) in read_file(&path)? {
            let origin = Origin::File(path.clone());
            loaded.take(known(&key, &origin)?, &text, origin)?;
        }
    }
    let ours = |name: &str| name.starts_with(PREFIX) && name != FILE_VARIABLE;
    for (name, text) in sources.environment.iter().filter(|(name, _)| ours(name)) {
        match SETTINGS.iter().find(|setting| setting.variable() == *name) {
            Some(setting) => loaded.take(setting, text, Origin::Environment(name.clone()))?,
            None => loaded.unknown_variables.push(name.clone()),
        }
    }
    for (key, text) in &sources.flags {
        let origin = Origin::Flag(key.replace(['.', '_'], "-"));
        loaded.take(known(key, &origin)?, text, origin)?;
    }
    loaded.config.check_together()?;
    if loaded.origins.contains_key("chunk_size") {
        loaded.config.check_buffer()?;
    }
    Ok(loaded)
}

fn known(key: &str, origin: &Origin) -> Result<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key).ok_or_else(|| {
        let keys = SETTINGS.iter().map(|setting| setting.key).collect::<Vec<_>>().join(", ");
        Error::Config(format!("unknown setting `{key}` in {origin}; there are: {keys}"))
    })
}

/// The settings of a TOML file as dotted keys with their text, in no particular order.
fn read_file(path: &Path) -> Result<Vec<(String, String)>> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Error::Config(format!("the configuration file {} cannot be read: {error}", path.display()))
    })?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let before = error.span().map_or("", |span| &text[..span.start]);
        let line = before.matches('\n').count() + 1;
        let (path, message) = (path.display(), error.message());
        Error::Config(format!("the configuration file {path} is no TOML in line {line}: {message}"))
    })?;
    let mut found = Vec::new();
    flatten("", table, &mut found).map_err(|key| {
        let path = path.display();
        Error::Config(format!("`{key}` from {path}: use a text, a number, true or false"))
    })?;
    Ok(found)
}

/// The error is the key of a value that is no scalar.
fn flatten(
    section: &str,
    table: toml::Table,
    found: &mut Vec<(String, String)>,
) -> Result<(), String> {
    for (name, value) in table {
        let key = if section.is_empty() { name } else { format!("{section}.{name}") };
        match value {
            toml::Value::Table(inner) => flatten(&key, inner, found)?,
            toml::Value::String(text) => found.push((key, text)),
            toml::Value::Integer(number) => found.push((key, number.to_string())),
            toml::Value::Boolean(value) => found.push((key, value.to_string())),
            toml::Value::Float(_) | toml::Value::Datetime(_) | toml::Value::Array(_) => {
                return Err(key);
            }
        }
    }
    Ok(())
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("the default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => write!(f, "the environment ({name})"),
            Self::Flag(name) => write!(f, "the command line (--{name})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ByteSize, Engine, Period};
    use super::*;

    struct Case {
        sources: Sources,
        _dir: tempfile::TempDir,
    }

    fn file(text: &str) -> Case {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.toml");
        std::fs::write(&path, text).unwrap();
        Case { sources: Sources { file: Some(path), ..Sources::default() }, _dir: dir }
    }

    fn variable(name: &str, text: &str) -> Sources {
        let environment = vec![(name.to_string(), text.to_string())];
        Sources { environment, ..Sources::default() }
    }

    fn refusal(sources: &Sources) -> String {
        match load(sources) {
            Err(Error::Config(text)) => text,
            other => panic!("not refused: {other:?}"),
        }
    }

    #[test]
    fn nothing_given_means_defaults() {
        let loaded = load(&Sources::default()).unwrap();
        assert_eq!(loaded.config, Config::default());
        assert!(SETTINGS.iter().all(|setting| *loaded.origin(setting) == Origin::Default));
        let text = loaded.config.data_dir().unwrap_err().to_string();
        assert!(text.contains("--data-dir"), "{text}");
    }

    #[test]
    fn every_setting_can_stand_in_the_file() {
        let case = file(
            r#"
            data_dir = "/srv/bucketfs"
            chunk_size = "1MiB"
            max_object_size = "1TiB"
            replication_factor = 1
            quorum_required = false
            replication_timeout = "2s"
            write_buffer = 33554432
            read_cache = "32MiB"
            [meta]
            engine = "redb"
            cache = "64MiB"
            [s3]
            listen = "127.0.0.1:9000"
            region = "eu-central-1"
            domain = "s3.example.com"
            signature_v2 = true
            [peers]
            listen = "127.0.0.1:7000"
            address = "node.example.com:7000"
            zone = "rack-1"
            [rest]
            listen = "127.0.0.1:9001"
            [tls]
            certificate = "/etc/bucketfs/chain.pem"
            key = "/etc/bucketfs/key.pem"
            [log]
            level = "debug"
            "#,
        );
        let loaded = load(&case.sources).unwrap();
        assert_eq!(loaded.config.meta_engine, Some(Engine::Redb));
        assert_eq!(loaded.config.write_buffer, ByteSize::mib(32));
        assert_eq!(loaded.config.replication_timeout, Period::seconds(2));
        let default = Config::default();
        for setting in &SETTINGS {
            assert!(matches!(loaded.origin(setting), Origin::File(_)), "{}", setting.key);
            assert_ne!((setting.get)(&loaded.config), (setting.get)(&default), "{}", setting.key);
        }
    }

    #[test]
    fn flag_beats_environment_beats_file() {
        let mut case = file("write_buffer = '16MiB'\nmeta.cache = '16MiB'\nchunk_size = '1MiB'");
        case.sources.environment = vec![
            ("BUCKETFS_WRITE_BUFFER".into(), "32MiB".into()),
            ("BUCKETFS_META_CACHE".into(), "32MiB".into()),
            ("PATH".into(), "/bin".into()),
            ("BUCKETFS_PORT".into(), "tcp://10.0.0.1:80".into()),
        ];
        case.sources.flags = vec![("write_buffer", "48MiB".into())];
        let loaded = load(&case.sources).unwrap();
        assert_eq!(loaded.config.write_buffer, ByteSize::mib(48));
        assert_eq!(loaded.config.meta_cache, ByteSize::mib(32));
        assert_eq!(loaded.config.chunk_size, ByteSize::mib(1));
        assert_eq!(loaded.unknown_variables, ["BUCKETFS_PORT"]);
        let buffer = SETTINGS.iter().find(|setting| setting.key == "write_buffer").unwrap();
        assert_eq!(loaded.origin(buffer).to_string(), "the command line (--write-buffer)");
    }

    #[test]
    fn refusals_name_the_field_and_what_is_allowed() {
        let text = refusal(&file("chunk_size = '3MiB'").sources);
        assert!(text.contains("`chunk_size`") && text.contains("power of two"), "{text}");
        let text = refusal(&file("[meta]\nengin = 'sled'").sources);
        assert!(text.contains("`meta.engin`") && text.contains("meta.engine"), "{text}");
        let text = refusal(&file("listen.s3 = '127.0.0.1:9000'").sources);
        assert!(text.contains("unknown setting `listen.s3`"), "{text}");
        let text = refusal(&file("write_buffer = 1.5").sources);
        assert!(text.contains("`write_buffer`"), "{text}");
        let text = refusal(&variable("BUCKETFS_META_ENGINE", "bolt"));
        assert!(text.contains("`meta.engine`") && text.contains("sled or redb"), "{text}");
    }

    #[test]
    fn a_broken_file_is_named_with_the_line() {
        let case = file("chunk_size = '1MiB'\n= 3\n");
        let text = refusal(&case.sources);
        assert!(text.contains("node.toml") && text.contains("line 2"), "{text}");
        let missing = variable("BUCKETFS_CONFIG", "/nonexistent/node.toml");
        assert!(refusal(&missing).contains("/nonexistent/node.toml"));
    }

    #[test]
    fn a_certificate_needs_its_key() {
        for name in ["BUCKETFS_TLS_CERTIFICATE", "BUCKETFS_TLS_KEY"] {
            let text = refusal(&variable(name, "/x.pem"));
            assert!(text.contains("`tls.certificate`") && text.contains("`tls.key`"), "{text}");
        }
    }

    #[test]
    fn the_buffer_must_hold_two_chunks() {
        let text = refusal(&variable("BUCKETFS_CHUNK_SIZE", "64MiB"));
        assert!(text.contains("`write_buffer`") && text.contains("128MiB"), "{text}");
    }
}

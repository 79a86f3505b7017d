//! The table of settings: name, what it is for, what it allows, how it is read and shown.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use super::{ByteSize, Config, Engine, LogLevel, Period};
use crate::types::limits::{CHUNK_SIZE_MAX, CHUNK_SIZE_MIN, FILE_SIZE_MAX};

/// One setting. Its name in the file is `key`, a dot meaning a section; the environment has it as
/// `BUCKETFS_` and the command line as `--`, see [`Setting::variable`] and [`Setting::flag`].
#[derive(Debug)]
pub struct Setting {
    pub key: &'static str,
    /// One clause for `--help`.
    pub help: &'static str,
    /// Unit and range, to end the sentence "allowed: …".
    pub allowed: &'static str,
    /// Takes the text over into the configuration; `None` when it is not allowed.
    pub(super) set: fn(&mut Config, &str) -> Option<()>,
    /// The text that `set` would read back to the same value; `None` when unset.
    pub get: fn(&Config) -> Option<String>,
}

impl Setting {
    /// `BUCKETFS_META_ENGINE` for `meta.engine`.
    pub fn variable(&self) -> String {
        format!("BUCKETFS_{}", self.key.replace('.', "_").to_uppercase())
    }

    /// `meta-engine` for `meta.engine`.
    pub fn flag(&self) -> String {
        self.key.replace(['.', '_'], "-")
    }
}

/// Every setting there is, in the order they are shown.
pub static SETTINGS: [Setting; 21] = [
    Setting {
        key: "data_dir",
        help: "directory that holds the store",
        allowed: "a path",
        set: |config, text| path(text).map(|path| config.data_dir = Some(path)),
        get: |config| config.data_dir.as_ref().map(|dir| dir.display().to_string()),
    },
    Setting {
        key: "chunk_size",
        help: "bytes of file data in one chunk; taken at init, fixed afterwards",
        allowed: "a power of two from 64KiB to 64MiB",
        set: |config, text| {
            let size = within(text, ByteSize(CHUNK_SIZE_MIN)..=ByteSize(CHUNK_SIZE_MAX))?;
            size.0.is_power_of_two().then(|| config.chunk_size = size)
        },
        get: |config| Some(config.chunk_size.to_string()),
    },
    Setting {
        key: "max_object_size",
        help: "largest file or object",
        allowed: "a size from 1MiB to just below 8EiB, such as 5TiB",
        set: |config, text| {
            let range = ByteSize::mib(1)..=ByteSize(FILE_SIZE_MAX);
            within(text, range).map(|size| config.max_object_size = size)
        },
        get: |config| Some(config.max_object_size.to_string()),
    },
    Setting {
        key: "replication_factor",
        help: "copies wanted of each chunk, as far as there are nodes; set, the whole cluster's from \
               this start on; unset, what the cluster has, 3 at first",
        allowed: "a number from 1 to 9",
        set: |config, text| within(text, 1..=9).map(|n| config.replication_factor = Some(n)),
        get: |config| config.replication_factor.map(|count| count.to_string()),
    },
    Setting {
        key: "quorum_required",
        help: "whether a write to a new bucket waits for a majority of the copies",
        allowed: "true or false",
        set: |config, text| text.parse().ok().map(|value| config.quorum_required = value),
        get: |config| Some(config.quorum_required.to_string()),
    },
    Setting {
        key: "replication_timeout",
        help: "how long a write waits for its quorum before it fails",
        allowed: "a time from 100ms to 10m, such as 10s",
        set: |config, text| {
            let range = Period::millis(100)..=Period::seconds(600);
            within(text, range).map(|time| config.replication_timeout = time)
        },
        get: |config| Some(config.replication_timeout.to_string()),
    },
    Setting {
        key: "meta.engine",
        help: "key-value engine of the metadata table; unset, the one the store has, sled at init",
        allowed: "sled or redb",
        set: |config, text| {
            let engines = [Engine::Sled, Engine::Redb];
            one_of(text, &engines, Engine::as_str).map(|engine| config.meta_engine = Some(engine))
        },
        get: |config| config.meta_engine.map(|engine| engine.as_str().into()),
    },
    Setting {
        key: "meta.cache",
        help: "memory for the metadata table's cache",
        allowed: "a size from 8MiB to 1TiB, such as 128MiB",
        set: |config, text| {
            let range = ByteSize::mib(8)..=ByteSize::tib(1);
            within(text, range).map(|size| config.meta_cache = size)
        },
        get: |config| Some(config.meta_cache.to_string()),
    },
    Setting {
        key: "write_buffer",
        help: "memory for bytes written and not yet in chunks; writers wait when it is full",
        allowed: "a size from 1MiB to 1TiB that holds two chunks, such as 64MiB",
        set: |config, text| {
            let range = ByteSize::mib(1)..=ByteSize::tib(1);
            within(text, range).map(|size| config.write_buffer = size)
        },
        get: |config| Some(config.write_buffer.to_string()),
    },
    Setting {
        key: "read_cache",
        help: "memory for data that S3 and REST sent and may send again; mounts have the kernel's",
        allowed: "a size up to 1TiB, such as 128MiB; 0 keeps nothing",
        set: |config, text| {
            within(text, ByteSize(0)..=ByteSize::tib(1)).map(|size| config.read_cache = size)
        },
        get: |config| Some(config.read_cache.to_string()),
    },
    Setting {
        key: "s3.listen",
        help: "where S3 is served",
        allowed: "an address and a port, such as 127.0.0.1:9000",
        set: |config, text| text.parse().ok().map(|address| config.s3_listen = Some(address)),
        get: |config| config.s3_listen.map(|address| address.to_string()),
    },
    Setting {
        key: "s3.region",
        help: "region that S3 signatures are made for",
        allowed: "lower-case letters, digits and dashes, such as us-east-1",
        set: |config, text| is_region(text).then(|| config.s3_region = text.into()),
        get: |config| Some(config.s3_region.clone()),
    },
    Setting {
        key: "s3.domain",
        help: "domain below which each bucket has a name of its own",
        allowed: "a domain name, such as s3.example.com",
        set: |config, text| is_domain(text).then(|| config.s3_domain = Some(text.into())),
        get: |config| config.s3_domain.clone(),
    },
    Setting {
        key: "s3.signature_v2",
        help: "whether requests signed the old way, with Signature Version 2, are taken too",
        allowed: "true or false",
        set: |config, text| text.parse().ok().map(|value| config.s3_signature_v2 = value),
        get: |config| Some(config.s3_signature_v2.to_string()),
    },
    Setting {
        key: "peers.listen",
        help: "where the other nodes of the cluster reach this one",
        allowed: "an address and a port, such as 10.0.0.1:9100",
        set: |config, text| text.parse().ok().map(|address| config.peers_listen = Some(address)),
        get: |config| config.peers_listen.map(|address| address.to_string()),
    },
    Setting {
        key: "peers.address",
        help: "the address the other nodes are told; unset, where this one listens for them",
        allowed: "a host and a port, such as node1.example.com:9100",
        set: |config, text| is_place(text).then(|| config.peers_address = Some(text.into())),
        get: |config| config.peers_address.clone(),
    },
    Setting {
        key: "peers.zone",
        help: "what fails together with this node, as a rack; copies go to several",
        allowed: "up to 64 visible characters, or nothing",
        set: |config, text| is_zone(text).then(|| config.peers_zone = Some(text.into())),
        get: |config| config.peers_zone.clone(),
    },
    Setting {
        key: "rest.listen",
        help: "where the REST API, health and metrics are served",
        allowed: "an address and a port, such as 127.0.0.1:9001",
        set: |config, text| text.parse().ok().map(|address| config.rest_listen = Some(address)),
        get: |config| config.rest_listen.map(|address| address.to_string()),
    },
    Setting {
        key: "tls.certificate",
        help: "PEM file with the certificate chain of S3 and REST; read again when it changes",
        allowed: "a path",
        set: |config, text| path(text).map(|path| config.tls_certificate = Some(path)),
        get: |config| config.tls_certificate.as_ref().map(|path| path.display().to_string()),
    },
    Setting {
        key: "tls.key",
        help: "PEM file with the key of tls.certificate",
        allowed: "a path",
        set: |config, text| path(text).map(|path| config.tls_key = Some(path)),
        get: |config| config.tls_key.as_ref().map(|path| path.display().to_string()),
    },
    Setting {
        key: "log.level",
        help: "what goes to the log on standard error",
        allowed: "error, warn, info, debug or trace",
        set: |config, text| {
            use LogLevel::{Debug, Error, Info, Trace, Warn};
            let levels = [Error, Warn, Info, Debug, Trace];
            one_of(text, &levels, LogLevel::as_str).map(|level| config.log_level = level)
        },
        get: |config| Some(config.log_level.as_str().into()),
    },
];

fn path(text: &str) -> Option<PathBuf> {
    (!text.is_empty()).then(|| PathBuf::from(text))
}

fn is_region(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=64).contains(&text.len()) && text.bytes().all(allowed)
}

fn is_domain(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let is_label = |label: &str| !label.is_empty() && label.bytes().all(allowed);
    text.len() <= 253 && text.split('.').all(is_label)
}

fn is_place(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let is_host = is_domain(host) || host.parse::<std::net::IpAddr>().is_ok();
    is_host && port.parse::<u16>().is_ok_and(|port| port > 0)
}

/// One that a line of `cluster status` shows as one word.
fn is_zone(text: &str) -> bool {
    text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn within<T: FromStr + PartialOrd>(text: &str, range: RangeInclusive<T>) -> Option<T> {
    text.parse().ok().filter(|value| range.contains(value))
}

fn one_of<T: Copy>(text: &str, all: &[T], name: fn(T) -> &'static str) -> Option<T> {
    all.iter().copied().find(|&value| name(value) == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_of_each_default_is_allowed() {
        let mut config = Config::default();
        for setting in &SETTINGS {
            if let Some(text) = (setting.get)(&Config::default()) {
                assert!((setting.set)(&mut config, &text).is_some(), "{} = {text}", setting.key);
            }
        }
        assert_eq!(config, Config::default());
    }

    #[test]
    fn values_out_of_range_are_not_allowed() {
        let cases = [
            ("data_dir", ""),
            ("chunk_size", "3MiB"),
            ("chunk_size", "32KiB"),
            ("chunk_size", "128MiB"),
            ("max_object_size", "1KiB"),
            ("replication_factor", "0"),
            ("replication_factor", "three"),
            ("quorum_required", "yes"),
            ("replication_timeout", "0s"),
            ("replication_timeout", "10"),
            ("meta.engine", "rocksdb"),
            ("meta.engine", "Sled"),
            ("meta.cache", "1MiB"),
            ("write_buffer", "4096"),
            ("s3.listen", "9000"),
            ("s3.region", "US East"),
            ("s3.domain", "http://x"),
            ("s3.signature_v2", "on"),
            ("peers.listen", "node1"),
            ("peers.address", "node1"),
            ("peers.address", "node1:0"),
            ("peers.address", ":9100"),
            ("peers.zone", "rack 1"),
            ("rest.listen", "localhost"),
            ("tls.certificate", ""),
            ("log.level", "verbose"),
        ];
        for (key, text) in cases {
            let setting = SETTINGS.iter().find(|setting| setting.key == key).unwrap();
            let mut config = Config::default();
            assert!((setting.set)(&mut config, text).is_none(), "{key} = {text}");
            assert_eq!(config, Config::default(), "{key} = {text}");
        }
    }

    /// The manual has one row for each setting, in the same words.
    #[test]
    fn the_manual_lists_the_settings_there_are() {
        let manual = include_str!("../../docs/operations.md");
        let rows: Vec<&str> =
            manual.lines().filter(|line| line.contains("` | `BUCKETFS_")).collect();
        for (row, setting) in rows.iter().zip(&SETTINGS) {
            let (key, variable, flag) = (setting.key, setting.variable(), setting.flag());
            let begins = format!("| `{key}` | `{variable}` | `--{flag}` | ");
            assert!(row.starts_with(&begins), "{row}");
        }
        assert_eq!(rows.len(), SETTINGS.len());
    }

    #[test]
    fn names_follow_from_the_key() {
        let engine = SETTINGS.iter().find(|setting| setting.key == "meta.engine").unwrap();
        assert_eq!(engine.variable(), "BUCKETFS_META_ENGINE");
        assert_eq!(engine.flag(), "meta-engine");
    }
}

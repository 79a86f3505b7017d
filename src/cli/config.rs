//! `bucketfs config show|check`: which settings are in force, and whether they are allowed.

use std::fmt;

use clap::Subcommand;
use serde::Serialize;

use super::flags::SettingFlags;
use super::output::{Exit, Output};
use crate::config::{Loaded, SETTINGS, Setting};
use crate::error::Result;

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Every setting with its value and where that comes from
    Show(SettingFlags),
    /// Exit 0 when all settings are allowed; else name the first that is not
    Check(SettingFlags),
}

impl Verb {
    pub fn run(self, output: &Output) -> Result<Exit> {
        match self {
            Self::Show(flags) => output.show(&Shown::from(&flags.load_aloud()?))?,
            Self::Check(flags) => {
                flags.load_aloud()?;
                output.show(&Checked { allowed: true })?;
            }
        }
        Ok(Exit::Done)
    }
}

#[derive(Serialize)]
struct Checked {
    allowed: bool,
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("all settings are allowed")
    }
}

#[derive(Serialize)]
struct Shown {
    settings: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    key: &'static str,
    value: Option<String>,
    from: String,
}

impl From<&Loaded> for Shown {
    fn from(loaded: &Loaded) -> Self {
        let row = |setting: &'static Setting| Row {
            key: setting.key,
            value: (setting.get)(&loaded.config),
            from: loaded.origin(setting).to_string(),
        };
        Self { settings: SETTINGS.iter().map(row).collect() }
    }
}

/// Reads as a TOML file: sections are written as dotted keys.
impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in &self.settings {
            match &row.value {
                Some(value) => {
                    let quoted = toml::Value::String(value.clone()).to_string();
                    writeln!(f, "{} = {quoted}  # {}", row.key, row.from)?;
                }
                None => writeln!(f, "# {} is not set", row.key)?,
            }
        }
        Ok(())
    }
}

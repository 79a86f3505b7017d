//! One command line flag for each setting, made from the table of settings.

use std::path::PathBuf;

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

use crate::config::{self, Loaded, SETTINGS, Sources};
use crate::error::{Error, Result};

/// `--config` and the settings given as flags.
#[derive(Clone, Debug, Default)]
pub struct SettingFlags {
    file: Option<PathBuf>,
    settings: Vec<(&'static str, String)>,
}

impl SettingFlags {
    /// # Errors
    /// [`crate::error::Error::Config`] as [`config::load`] has it.
    pub fn load(self) -> Result<Loaded> {
        let mut environment = Vec::new();
        for (name, text) in std::env::vars_os() {
            let Ok(name) = name.into_string() else { continue };
            match text.into_string() {
                Ok(text) => environment.push((name, text)),
                Err(_) if name.starts_with(config::PREFIX) => {
                    return Err(Error::Config(format!("the variable {name} is no UTF-8 text")));
                }
                Err(_) => {}
            }
        }
        config::load(&Sources { flags: self.settings, environment, file: self.file })
    }
}

impl SettingFlags {
    /// What a flag of this command says, whatever files and environment say.
    ///
    /// # Errors
    /// [`crate::error::Error::Config`] for what it cannot be.
    pub fn given<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>> {
        let Some((_, text)) = self.settings.iter().find(|(name, _)| *name == key) else {
            return Ok(None);
        };
        let wrong = || crate::error::Error::Config(format!("`{key}` cannot be `{text}`"));
        text.parse().map(Some).map_err(|_| wrong())
    }

    /// As [`Self::load`], and names variables that look like settings and are none.
    pub fn load_aloud(self) -> Result<Loaded> {
        let loaded = self.load()?;
        for name in &loaded.unknown_variables {
            eprintln!("bucketfs: {name} in the environment is no setting and has no effect");
        }
        Ok(loaded)
    }
}

impl Args for SettingFlags {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help("TOML file with settings [env: BUCKETFS_CONFIG]")
            .help_heading("Settings");
        let default = config::Config::default();
        SETTINGS.iter().fold(command.arg(file), |command, setting| {
            let default = (setting.get)(&default);
            let default = default.map_or(String::new(), |text| format!(" [default: {text}]"));
            let (help, allowed) = (setting.help, setting.allowed);
            let variable = setting.variable();
            let flag = Arg::new(setting.key)
                .long(setting.flag())
                .value_name("VALUE")
                .help(format!("{help}: {allowed} [env: {variable}]{default}"))
                .help_heading("Settings")
                .hide_short_help(setting.key != "data_dir");
            command.arg(flag)
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.file = matches.get_one::<PathBuf>("config").cloned();
        self.settings = SETTINGS
            .iter()
            .filter_map(|setting| {
                Some((setting.key, matches.get_one::<String>(setting.key)?.clone()))
            })
            .collect();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        flags: SettingFlags,
    }

    #[test]
    fn every_setting_has_a_flag() {
        for setting in &SETTINGS {
            let flag = format!("--{}", setting.flag());
            let program = Program::try_parse_from(["bucketfs", &flag, "value"]).unwrap();
            assert_eq!(program.flags.settings, [(setting.key, "value".to_string())]);
        }
    }

    #[test]
    fn nothing_given_is_nothing_set() {
        let program = Program::try_parse_from(["bucketfs", "--config", "node.toml"]).unwrap();
        assert!(program.flags.settings.is_empty());
        assert_eq!(program.flags.file, Some(PathBuf::from("node.toml")));
    }
}

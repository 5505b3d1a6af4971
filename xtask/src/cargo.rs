//! Running `cargo` and other programs: shown before they start, their failure an error.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// One run of the `cargo` that runs us.
pub struct Cargo {
    command: Command,
    shown: String,
}

impl Cargo {
    /// A run in the folder `root`, without arguments yet.
    pub fn new(root: &Path) -> Self {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.current_dir(root);
        // Meant for this package by the cargo that started us; build scripts must not see it.
        command.env_remove("CARGO_MANIFEST_DIR");
        Self {
            command,
            shown: "cargo".to_owned(),
        }
    }

    /// Adds arguments.
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        for arg in args {
            self.shown = format!("{} {}", self.shown, arg.as_ref().to_string_lossy());
            self.command.arg(arg);
        }
        self
    }

    /// Sets a variable of the environment.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        let value = value.as_ref();
        self.shown = format!("{name}={:?} {}", value.to_string_lossy(), self.shown);
        self.command.env(name, value);
        self
    }

    /// Runs it, its output going where ours goes.
    ///
    /// # Errors
    /// When it cannot be started or ends with another status than 0.
    pub fn run(mut self) -> Result<()> {
        eprintln!("$ {}", self.shown);
        let status = self
            .command
            .status()
            .with_context(|| format!("cannot start {:?}", self.command.get_program()))?;
        if !status.success() {
            bail!("`{}` failed ({status})", self.shown);
        }
        Ok(())
    }

    /// Runs a build and returns the executables that it made or found up to date, in cargo's order.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn executables(self) -> Result<Vec<PathBuf>> {
        let mut this = self.args(["--message-format", "json-render-diagnostics"]);
        eprintln!("$ {}", this.shown);
        let output = this
            .command
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| format!("cannot start {:?}", this.command.get_program()))?;
        if !output.status.success() {
            bail!("`{}` failed ({})", this.shown, output.status);
        }
        let mut found = Vec::new();
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let Ok(message) = serde_json::from_str::<Value>(line) else {
                continue;
            };
            if let Some(path) = message["executable"].as_str() {
                found.push(path.into());
            }
        }
        Ok(found)
    }
}

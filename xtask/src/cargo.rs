//! Runs `cargo` and prints each command line.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A command line of the `cargo` that started this program.
pub struct Cargo {
    command: Command,
    shown: String,
}

impl Cargo {
    /// Creates a command without arguments that runs in the directory `root`.
    pub fn new(root: &Path) -> Self {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.current_dir(root);
        // The outer cargo sets this variable to xtask's directory. Build scripts must not see that
        // value.
        command.env_remove("CARGO_MANIFEST_DIR");
        Self {
            command,
            shown: "cargo".to_owned(),
        }
    }

    /// Appends `args` to the command line.
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        for arg in args {
            self.shown = format!("{} {}", self.shown, arg.as_ref().to_string_lossy());
            self.command.arg(arg);
        }
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        let value = value.as_ref();
        self.shown = format!("{name}={:?} {}", value.to_string_lossy(), self.shown);
        self.command.env(name, value);
        self
    }

    /// Runs the command with inherited output streams.
    ///
    /// # Errors
    ///
    /// Returns an error if the command cannot be started or fails.
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

    /// Runs a build and returns the executables it produced, in cargo's order, including those that
    /// were up to date.
    ///
    /// # Errors
    ///
    /// Returns an error if the command cannot be started or fails.
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
        let mut executables = Vec::new();
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let Ok(message) = serde_json::from_str::<Value>(line) else {
                continue;
            };
            if let Some(path) = message["executable"].as_str() {
                executables.push(path.into());
            }
        }
        Ok(executables)
    }
}
